//! Time slices.

use super::control::boss;
use super::world::*;
use crate::kernel::Event;
use skerry_abi::syscall::{SCHEDULE, THREAD_CONTROL, thread_op};
use skerry_abi::{ThreadId, Timeout};

const KEEP: u64 = !0;

#[test]
fn time_slices_end_when_they_are_over() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    k.hal.tick = Some(1000);
    let boss = boss(k);
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 20);
    let slice = |k: &mut TestKernel, id: ThreadId, slice| {
        syscall(k, boss, SCHEDULE, &[0, id.0, KEEP, slice, KEEP]);
    };
    slice(k, a, 100);
    slice(k, b, 0);
    syscall(k, boss, THREAD_CONTROL, &[thread_op::SUSPEND, boss.0]);
    let (ta, tb) = (k.find(a).unwrap(), k.find(b).unwrap());
    assert_eq!((k.pick(), k.next_timer()), (Some(ta), 100));
    k.hal.now = 99;
    k.handle(Event::Tick);
    assert_eq!(k.pick(), Some(ta), "a tick that comes for something else ends no slice");
    // Somebody more urgent interrupts it: the rest is kept, and its turn.
    let urgent = {
        let (_, urgent) = program(k, 20);
        let t = k.find(urgent).unwrap();
        k.set_place(t, 200, 0);
        urgent
    };
    k.hal.now = 60;
    assert_eq!((k.pick(), k.next_timer()), (k.find(urgent), 1000));
    ipc_now(k, urgent);
    assert_eq!((k.pick(), k.next_timer()), (Some(ta), 100));
    k.hal.now = 100;
    k.handle(Event::Tick);
    assert_eq!((k.pick(), k.next_timer()), (Some(tb), u64::MAX), "no slice at all");
    k.hal.now = 1_000_000;
    k.handle(Event::Tick);
    assert_eq!(k.pick(), Some(tb));
    // Blocking gives a new slice.
    ipc_now(k, b);
    assert_eq!((k.pick(), k.next_timer()), (Some(ta), 1_000_100));
}

/// Two threads that take the floating-point unit from each other both get to use it.
#[test]
fn who_was_given_the_unit_has_a_slice_to_use_it() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    k.hal.tick = Some(1000);
    let boss = boss(k);
    let (_, a) = program(k, 20);
    let (_, b) = program(k, 20);
    syscall(k, boss, SCHEDULE, &[0, b.0, KEEP, 100, KEEP]);
    syscall(k, boss, THREAD_CONTROL, &[thread_op::SUSPEND, boss.0]);
    let (ta, tb) = (k.find(a).unwrap(), k.find(b).unwrap());
    let tick = |k: &mut TestKernel, unit| {
        k.hal.now = k.next_timer();
        if unit {
            let t = k.pick().unwrap();
            k.note_unit(t);
        }
        k.handle(Event::Tick);
        (k.pick(), k.next_timer() - k.hal.now)
    };
    assert_eq!(k.pick(), Some(ta));
    assert_eq!(tick(k, true), (Some(ta), 1000), "it was given the unit just now");
    assert_eq!(tick(k, false), (Some(tb), 100), "but has one more slice only");
    assert_eq!(tick(k, true), (Some(tb), 100), "one of its own, too");
    assert_eq!(tick(k, false).0, Some(ta));
    // What somebody was given who does not run any more is nobody's.
    k.note_unit(tb);
    assert_eq!(tick(k, false).0, Some(tb));
    assert_eq!(tick(k, false).0, Some(ta));
}

/// The running thread waits for a message.
fn ipc_now(k: &mut TestKernel, id: ThreadId) {
    let t = k.find(id).unwrap();
    let x = &mut k.thread_mut(t).context.x;
    (x[0], x[1], x[12], x[13]) = (0, ThreadId::ANY.0, Timeout::NEVER.0, 0);
    k.handle(Event::Syscall(skerry_abi::syscall::IPC));
}
