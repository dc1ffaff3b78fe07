//! Threads come to be the short way as they do the general way, and with nothing of those before them.

use super::world::*;
use crate::kernel::Event;
use crate::syscall::Next;
use crate::thread::Context;
use core::sync::atomic::Ordering::Relaxed;
use proptest::prelude::*;
use skerry_abi::syscall::{SCHEDULE, THREAD_CONTROL, thread_op};
use skerry_abi::{Counter, SpaceId, ThreadId};
use std::format;
use std::string::String;
use std::vec::Vec;

/// A control call that the thread makes that runs on a CPU, maybe after the end of a time slice. Numbers choose among what there is.
#[derive(Clone, Debug)]
struct Step {
    tick: bool,
    cpu: u16,
    call: Call,
}

#[derive(Clone, Debug)]
enum Call {
    Create { space: usize, cpu: u64, pager: usize, slot: u64, priority: u64 },
    Start { thread: usize, pc: u64 },
    Other { operation: u64, thread: usize },
    Schedule { thread: usize, priority: u64, slice: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let priority = || prop_oneof![8 => 98..104_u64, 1 => Just(0), 1 => Just(255), 1 => Just(256)];
    let create = (0..3_usize, 0..3_u64, 0..4_usize, 0..9_u64, priority())
        .prop_map(|(space, cpu, pager, slot, priority)| Call::Create { space, cpu, pager, slot, priority });
    let call = prop_oneof![
        4 => create,
        4 => (0..12_usize, any::<u64>()).prop_map(|(thread, pc)| Call::Start { thread, pc }),
        1 => (2..5_u64, 0..12_usize).prop_map(|(operation, thread)| Call::Other { operation, thread }),
        1 => (0..12_usize, priority(), 0..3_u64)
            .prop_map(|(thread, priority, slice)| Call::Schedule { thread, priority, slice: slice.wrapping_sub(1) }),
    ];
    (any::<bool>(), 0..2_u16, call).prop_map(|(tick, cpu, call)| Step { tick, cpu, call })
}

/// One kernel with two CPUs, two privileged spaces and one that is not, and a thread in each.
struct Side {
    k: TestKernel<'static>,
    spaces: Vec<SpaceId>,
    threads: Vec<ThreadId>,
}

impl Side {
    fn new() -> Self {
        let mut k = world(1, 2).remove(0);
        let spaces: Vec<SpaceId> = [true, true, false].map(|p| k.create_space(20, p).unwrap()).into();
        let threads = spaces.iter().map(|&space| thread(&mut k, space, 0, ThreadId::NIL)).collect();
        Self { k, spaces, threads }
    }

    /// Lets the thread that runs make the call. Returns whether another thread was started and ran at once.
    fn take(&mut self, step: &Step, quick: bool) -> bool {
        let name = |i: usize| self.threads[i % self.threads.len()].0;
        let (number, args) = match step.call {
            Call::Create { space, cpu, pager, slot, priority } => {
                let pager = [0, name(0), name(1), ThreadId::new(1, 3, 1).0][pager];
                let space = self.spaces[space].0;
                (THREAD_CONTROL, [thread_op::CREATE, space, cpu, pager, 0, slot, priority])
            }
            Call::Start { thread, pc } => {
                (THREAD_CONTROL, [thread_op::START, name(thread), pc, !pc, pc ^ 1, 5, 6])
            }
            Call::Other { operation, thread } => (THREAD_CONTROL, [operation, name(thread), 0, 0, 0, 0, 0]),
            Call::Schedule { thread, priority, slice } => {
                (SCHEDULE, [0, name(thread), priority, slice, !0, 0, 0])
            }
        };
        let k = &mut self.k;
        k.enter(step.cpu);
        if step.tick {
            k.handle(Event::Tick);
        }
        let Some(t) = k.pick() else { return false };
        let x = &mut k.thread_mut(t).context.x;
        x[..7].copy_from_slice(&args);
        x[8..19].fill(0);
        let mut at_once = false;
        if quick {
            let before = k.next_timer();
            match k.call(number) {
                Next::Caller(timer) => {
                    assert_eq!(k.next_timer(), timer.min(before), "the timer is set for what comes first");
                    assert_eq!(k.pick(), Some(t), "the caller goes on");
                }
                Next::Switch(_, to) => {
                    at_once = to.may_run();
                    assert!(at_once && k.pick() == k.current());
                }
                Next::Ask => _ = k.pick(),
            }
        } else {
            k.handle(Event::Syscall(number));
            k.pick();
        }
        let made = ThreadId(self.k.thread(t).context.x[1]);
        if matches!(step.call, Call::Create { .. }) && self.k.thread(t).context.x[0] == 0 {
            self.threads.push(made);
        }
        at_once
    }

    /// Everything that the two ways may leave different.
    fn seen(&self) -> String {
        let k = &self.k;
        let threads = &k.threads[..k.used_threads as usize];
        let utcbs: Vec<_> = self.threads.iter().filter_map(|&id| k.find(id)).map(|t| k.utcb(t)).collect();
        format!(
            "{threads:?} {:?} {:?} {:?} {utcbs:?} {:?}",
            &k.cold[..threads.len()],
            k.cpus,
            &k.spaces[..5],
            k.counters.total(Counter::Preemptions)
        )
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn quick_and_general_calls_agree(steps in proptest::collection::vec(step(), 1..40)) {
        let (mut quick, mut general) = (Side::new(), Side::new());
        for step in &steps {
            quick.take(step, true);
            general.take(step, false);
            prop_assert_eq!(&quick.threads, &general.threads);
            prop_assert!(quick.seen() == general.seen(), "after {:?}", step);
        }
    }
}

#[test]
fn a_more_urgent_thread_runs_at_once_and_another_does_not() {
    for (priority, at_once) in [(99, false), (100, false), (101, true), (255, true)] {
        let mut side = Side::new();
        let create = Call::Create { space: 0, cpu: 0, pager: 1, slot: 1, priority };
        side.take(&Step { tick: false, cpu: 0, call: create }, true);
        let start = Step { tick: false, cpu: 0, call: Call::Start { thread: 3, pc: 0x4000 } };
        assert_eq!(side.take(&start, true), at_once, "{priority}");
        let new = side.k.thread(side.k.find(side.threads[3]).unwrap());
        assert_eq!((new.context.pc, new.context.sp, new.context.x[0]), (0x4000, !0x4000, 0x4001));
    }
}

#[test]
fn a_thread_finds_nothing_of_the_one_before_it() {
    let k = &mut world(1, 1)[0];
    let space = k.create_space(20, true).unwrap();
    let boss = thread(k, space, 0, ThreadId::NIL);
    let old = thread(k, space, 1, ThreadId::NIL);
    let t = k.find(old).unwrap();
    let tcb = k.thread_mut(t);
    (tcb.context.x, tcb.context.pstate, tcb.tls) = ([0x5ec2e7; 31], 0xf000_0000, 0x5ec2e7);
    (tcb.notified, tcb.fp_used, tcb.granted) = (1, true, boss);
    k.utcb(t).iter().for_each(|word| word.store(0x5ec2e7, Relaxed));
    k.delete_thread(t).unwrap();
    let create = [thread_op::CREATE, space.0, 0, boss.0, 0, 1, 50];
    let new = ThreadId(syscall(k, boss, THREAD_CONTROL, &create)[1]);
    assert_eq!((new.slot(), new.generation()), (old.slot(), old.generation() + 1));
    let tcb = k.thread(k.find(new).unwrap());
    let Context { x, sp, pc, pstate } = tcb.context;
    assert_eq!((x, sp, pc, pstate, tcb.tls), ([0; 31], 0, 0, 0, 0));
    assert_eq!((tcb.notified, tcb.fp_used, tcb.granted), (0, false, ThreadId::NIL));
    let words: Vec<u64> = k.utcb(t).iter().map(|word| word.load(Relaxed)).collect();
    assert_eq!(words[..2], [new.0, 0]);
    assert!(words[2..].iter().all(|&word| word == 0));
}
