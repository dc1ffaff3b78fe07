//! A thread that comes to a CPU with nothing to do: the short way in.

use super::invariants::check;
use super::remote::assert_quiet;
use super::scene::{Scene, scene};
use super::world::*;
use crate::kernel::Event;
use crate::thread::State;
use core::sync::atomic::Ordering::Relaxed;
use skerry_abi::ThreadId;
use skerry_abi::syscall::{SCHEDULE, thread_op};
use std::format;
use std::vec;
use std::vec::Vec;

/// A thread that only wants to run, and a CPU that has nothing to do: the short way does what the general one does.
#[test]
pub(super) fn a_thread_that_comes_to_a_sleeping_cpu_runs_at_once() {
    for (with_fp, unit_is_free) in [(false, true), (true, true), (true, false)] {
        let mut scenes = [(); 2].map(|()| {
            let mut s = scene(2);
            let boss = s.bosses[1];
            ipc(&mut s.w[1], boss, Ipc::receive(ThreadId::ANY));
            let id = thread(&mut s.w[0], s.spaces[0], 5, ThreadId::NIL);
            let t = s.w[0].find(id).unwrap();
            let thread = s.w[0].thread_mut(t);
            thread.context.x = core::array::from_fn(|i| 1000 + i as u64);
            (thread.tls, thread.notified, thread.fp_used) = (4, 0b101, with_fp);
            thread.fp.q = core::array::from_fn(|i| [i as u64, 7]);
            (thread.fp.fpcr, thread.fp.fpsr) = (8, 9);
            s.w[0].utcb(t)[8..].iter().zip(500..).for_each(|(word, n)| word.store(n, Relaxed));
            s.w[1].hal.fp_owner = if unit_is_free { ThreadId::NIL } else { boss };
            s.ask(0, id, 1);
            (s, id)
        });
        let [(short, id), (long, _)] = &mut scenes;
        let came = short.w[1].fast_doorbell(1).map(|(id, _)| id);
        assert_eq!(came, Some(*id));
        long.w[1].handle(Event::Kick);
        let threads = [&mut *short, long].map(|s| {
            let t = s.w[1].pick().unwrap();
            check(&s.w[1]).unwrap();
            if s.w[1].hal.fp_owner == *id {
                // They are in the unit, which the general way does not load.
                let loaded = s.w[1].hal.fp.clone();
                let thread = s.w[1].thread_mut(t);
                assert!(with_fp && unit_is_free && core::mem::take(&mut thread.fp_live));
                thread.fp.q.as_flattened_mut().copy_from_slice(&loaded[..64]);
                (thread.fp.fpcr, thread.fp.fpsr) = (loaded[64], loaded[65]);
            }
            let utcb: Vec<u64> = s.w[1].utcb(t).iter().map(|word| word.load(Relaxed)).collect();
            let cold = &s.w[1].cold[t as usize];
            format!("{:?} {cold:?} {utcb:?}", s.w[1].thread(t))
        });
        assert_eq!(threads[0], threads[1]);
        for s in [short, long] {
            s.settle();
            assert_eq!((s.answer(0), s.state(*id)), (0, vec![(1, State::Ready)]));
            assert_quiet(&s.w);
        }
    }
}

/// What is not as simple as that is left to the general way, and nothing has happened before.
#[test]
pub(super) fn the_short_way_in_leaves_what_is_not_simple() {
    type Prepare = fn(&mut Scene, ThreadId);
    let receives: Prepare = |s, id| ipc(&mut s.w[0], id, Ipc::receive(ThreadId::ANY));
    let suspended: Prepare = |s, id| _ = s.control(0, &[thread_op::SUSPEND, id.0]);
    let sliced: Prepare = |s, id| {
        syscall(&mut s.w[0], s.bosses[0], SCHEDULE, &[0, id.0, !0, 12_345, !0]);
    };
    let refused: Prepare = |s, _| _ = thread(&mut s.w[1], s.spaces[1], 0, ThreadId::NIL);
    let busy: Prepare = |s, _| _ = thread(&mut s.w[1], s.spaces[1], 1, ThreadId::NIL);
    for (prepare, becomes) in [
        (receives, Some(State::Receiving)),
        (suspended, Some(State::Stopped)),
        (sliced, Some(State::Ready)),
        (busy, Some(State::Ready)),
        (refused, None),
    ] {
        let mut s = scene(2);
        let boss = s.bosses[1];
        ipc(&mut s.w[1], boss, Ipc::receive(ThreadId::ANY));
        let id = thread(&mut s.w[0], s.spaces[0], 0, ThreadId::NIL);
        prepare(&mut s, id);
        s.ask(0, id, 1);
        let before = s.w[1].used_threads;
        assert!(s.w[1].fast_doorbell(1).is_none());
        assert_eq!((s.w[1].find(id), s.w[1].used_threads), (None, before));
        s.settle();
        assert_eq!(s.state(id), [becomes.map_or((0, State::Ready), |state| (1, state))]);
    }
}
