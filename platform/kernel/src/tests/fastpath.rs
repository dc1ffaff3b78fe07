//! The fast path does what the general code does, or nothing.

use super::world::*;
use crate::kernel::Event;
use crate::thread::State;
use proptest::prelude::*;
use skerry_abi::syscall::IPC;
use skerry_abi::{Tag, ThreadId, Timeout};
use std::vec::Vec;

const THREADS: usize = 5;

/// One IPC system call of one of the threads, in small numbers.
#[derive(Clone, Debug)]
struct Step {
    who: usize,
    dest: usize,
    from: usize,
    label: u32,
    words: usize,
    typed: usize,
    patient: bool,
    window: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let labels = prop_oneof![Just(7), Just(0xffff_0001), Just(0xffff_0003), Just(0xfffe_ffff)];
    (
        0..THREADS,
        0..THREADS + 1,
        0..THREADS + 2,
        labels,
        0..64_usize,
        prop_oneof![9 => Just(0_usize), 1 => Just(2)],
        0..16,
        0..16,
    )
        .prop_map(|(who, dest, from, label, words, typed, patience, window)| Step {
            who,
            dest,
            // Mostly calls and open receives.
            from: if from < THREADS && who % 2 == 0 { dest } else { from },
            label,
            words,
            typed,
            patient: patience != 0,
            window: window == 0,
        })
}

/// Two threads in one domain and space, and three in other domains, one of which is the pager of another.
fn people(k: &mut TestKernel) -> Vec<ThreadId> {
    let (space, first) = program(k, 20);
    let second = thread(k, space, 1, ThreadId::NIL);
    let (_, third) = program(k, 20);
    let (_, pager) = program(k, 21);
    let other = k.create_space(22, false).unwrap();
    [first, second, third, pager, thread(k, other, 0, pager)].into()
}

/// Lets a thread execute the step if it can run. Returns whether the fast path took it.
fn take(k: &mut TestKernel, people: &[ThreadId], step: &Step, fast: bool) -> bool {
    let id = people[step.who];
    if state(k, id) != State::Ready {
        return false;
    }
    let t = run(k, id);
    let name = |i: usize| match i {
        i if i < THREADS => people[i],
        i if i == THREADS => ThreadId::ANY,
        _ => ThreadId::NIL,
    };
    let x = &mut k.thread_mut(t).context.x;
    for (i, x) in x.iter_mut().enumerate() {
        *x = (step.who * 100 + i) as u64;
    }
    (x[0], x[1]) = (name(step.dest).0, name(step.from).0);
    x[2] = Tag::new(step.label, step.words, step.typed).0;
    x[11] = Timeout::NEVER.0;
    x[12] = if step.patient { Timeout::NEVER.0 } else { 1000 };
    x[13] = if step.window { 0x4000_0000 | 12 << 4 } else { 0 };
    if fast && k.fast_ipc(k.this_cpu.into()).is_some() {
        return true;
    }
    k.handle(Event::Syscall(IPC));
    k.pick();
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn fast_and_general_agree(steps in proptest::collection::vec(step(), 1..40)) {
        let (mut fast, mut general) = (world(1, 1), world(1, 1));
        let names = people(&mut fast[0]);
        prop_assert_eq!(&names, &people(&mut general[0]));
        for step in &steps {
            take(&mut fast[0], &names, step, true);
            take(&mut general[0], &names, step, false);
            for &id in &names {
                let seen = |k: &TestKernel| {
                    let t = k.thread(k.find(id).unwrap());
                    let utcb: Vec<u64> = k.utcb(k.find(id).unwrap()).iter().map(|w| w.load(std::sync::atomic::Ordering::Relaxed)).collect();
                    (t.state, t.op.dest, t.op.from, t.reply_space, t.open_to, t.deadline, t.context.x, utcb)
                };
                let (a, b) = (seen(&fast[0]), seen(&general[0]));
                let waits = a.0 != State::Ready;
                prop_assert_eq!((a.0, a.3, a.4, a.5), (b.0, b.3, b.4, b.5), "{:?} after {:?}", id, step);
                if waits {
                    prop_assert_eq!((a.1, a.2), (b.1, b.2));
                } else {
                    prop_assert_eq!(&a.6[..19], &b.6[..19], "{:?} after {:?}", id, step);
                }
                prop_assert_eq!(a.7, b.7);
            }
        }
    }
}

#[test]
fn the_common_cases_are_fast() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let names = people(k);
    let step = |who, dest, from| Step {
        who,
        dest,
        from,
        label: 7,
        words: 60,
        typed: 0,
        patient: true,
        window: false,
    };
    // A server waits; a client in its domain calls; the answer; and a thread calls its pager in another domain, which answers.
    assert!(!take(k, &names, &step(2, THREADS + 1, THREADS), true));
    assert!(take(k, &names, &step(0, 2, 2), true));
    assert!(take(k, &names, &step(2, 0, THREADS), true));
    assert!(!take(k, &names, &step(3, THREADS + 1, THREADS), true));
    assert!(take(k, &names, &step(4, 3, 3), true));
    assert!(take(k, &names, &step(3, 4, THREADS), true));
}
