use super::world::*;
use crate::interrupt::{MAX_ATTACHED, MAX_PER_THREAD};
use crate::kernel::Event;
use crate::thread::State;
use skerry_abi::message::kernel_label;
use skerry_abi::syscall::{INTERRUPT_CONTROL, interrupt_op};
use skerry_abi::{Counter, Error, ThreadId};
use std::vec::Vec;

const IRQ: u64 = 33;

/// A privileged thread and an ordinary one.
fn people(k: &mut TestKernel) -> (ThreadId, ThreadId) {
    let space = k.create_space(2, true).unwrap();
    (thread(k, space, 0, ThreadId::NIL), program(k, 20).1)
}

fn control(k: &mut TestKernel, who: ThreadId, args: &[u64]) -> Result<(), Error> {
    match syscall(k, who, INTERRUPT_CONTROL, args)[0] {
        0 => Ok(()),
        code => Err(Error::from_code(code)),
    }
}

fn attach(k: &mut TestKernel, who: ThreadId, irq: u64, to: ThreadId) -> Result<(), Error> {
    control(k, who, &[interrupt_op::ATTACH, irq, to.0, 0b100])
}

#[test]
fn an_interrupt_is_a_notification_and_comes_once_per_acknowledgement() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (root, driver) = people(k);
    attach(k, root, IRQ, driver).unwrap();
    assert_eq!(k.hal.interrupt(33), (Some(0), false));
    ipc(k, driver, Ipc::receive(driver));
    assert_eq!(state(k, driver), State::Receiving);
    k.handle(Event::Interrupt(33));
    let (from, tag, words) = outcome(k, driver);
    assert_eq!((from, tag.label(), words), (ThreadId::NIL, kernel_label::NOTIFICATION, [0b100].into()));
    assert_eq!(k.hal.interrupt(33), (Some(0), true), "masked until it is acknowledged");
    // The thread that it is attached to may do that itself, once.
    assert_eq!(control(k, driver, &[interrupt_op::ACK, IRQ]), Ok(()));
    assert_eq!(k.hal.interrupt(33), (Some(0), false));
    assert_eq!(control(k, driver, &[interrupt_op::ACK, IRQ]), Err(Error::WrongState));
    assert_eq!(k.counters.total(Counter::DeviceInterrupts), 1);
    // One that comes while the thread is busy waits for it.
    k.handle(Event::Interrupt(33));
    ipc(k, driver, Ipc::receive(driver));
    assert_eq!(outcome(k, driver).2, [0b100]);
}

#[test]
fn only_devices_interrupts_of_this_machine_go_to_threads_of_this_cluster() {
    let mut w = world(2, 1);
    let (root, driver) = people(&mut w[0]);
    let elsewhere = program(&mut w[1], 20).1;
    let k = &mut w[0];
    assert_eq!(attach(k, driver, IRQ, driver), Err(Error::NotPrivileged));
    // The timer, doorbells, what is not there, what cannot be.
    for irq in [0, 1, 27, 31, 300, 1020, 1 << 32 | IRQ, u64::MAX] {
        assert_eq!(attach(k, root, irq, driver), Err(Error::BadArgument), "{irq}");
        assert!(control(k, root, &[interrupt_op::ACK, irq]).is_err());
        assert!(control(k, root, &[interrupt_op::DETACH, irq]).is_err());
    }
    assert_eq!(attach(k, root, IRQ, elsewhere), Err(Error::NoSuchThread));
    assert_eq!(control(k, root, &[interrupt_op::ATTACH, IRQ, driver.0, 0]), Err(Error::BadArgument));
    assert_eq!(control(k, root, &[3, IRQ, driver.0, 1]), Err(Error::BadArgument));
    assert_eq!(control(k, root, &[interrupt_op::ACK, IRQ]), Err(Error::WrongState));
    assert_eq!(attach(k, root, IRQ, driver), Ok(()));
    assert_eq!(attach(k, root, IRQ, root), Err(Error::WrongState));
    // Another's attachment cannot be acknowledged without privilege.
    k.handle(Event::Interrupt(33));
    let stranger = program(k, 20).1;
    assert_eq!(control(k, stranger, &[interrupt_op::ACK, IRQ]), Err(Error::NotPrivileged));
    assert_eq!(control(k, root, &[interrupt_op::DETACH, IRQ]), Ok(()));
    assert_eq!(k.hal.interrupt(33), (None, true));
}

#[test]
fn nobodys_interrupt_is_counted_and_left_to_whoever_has_it_by_now() {
    let mut w = world(2, 1);
    let people: Vec<_> = w.iter_mut().map(people).collect();
    w[0].handle(Event::Interrupt(40));
    assert_eq!(w[0].counters.total(Counter::StrayInterrupts), 1);
    // It was taken before its owner let go of it, and is looked at when another cluster has it.
    attach(&mut w[0], people[0].0, IRQ, people[0].1).unwrap();
    assert_eq!(control(&mut w[0], people[0].0, &[interrupt_op::DETACH, IRQ]), Ok(()));
    attach(&mut w[1], people[1].0, IRQ, people[1].1).unwrap();
    w[0].handle(Event::Interrupt(33));
    assert_eq!(w[1].hal.interrupt(33), (Some(1), false));
    assert_eq!(w[0].counters.total(Counter::StrayInterrupts), 2);
}

#[test]
fn a_cluster_that_stops_lets_go_of_its_devices() {
    let mut w = world(2, 1);
    let people: Vec<_> = w.iter_mut().map(people).collect();
    attach(&mut w[0], people[0].0, IRQ, people[0].1).unwrap();
    w[0].park();
    assert_eq!(attach(&mut w[1], people[1].0, IRQ, people[1].1), Ok(()));
}

#[test]
fn interrupts_follow_their_thread_and_end_with_it() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let (root, driver) = people(k);
    let t = k.find(driver).unwrap();
    for irq in [33, 34] {
        attach(k, root, irq, driver).unwrap();
    }
    attach(k, root, 35, root).unwrap();
    ipc(k, driver, Ipc::receive(driver));
    k.set_place(t, 100, 1);
    assert_eq!([33, 34, 35].map(|irq| k.hal.interrupt(irq).0), [Some(1), Some(1), Some(0)]);
    k.delete_thread(t).unwrap();
    assert_eq!([33, 34, 35].map(|irq| k.hal.interrupt(irq).1), [true, true, false]);
    k.handle(Event::Interrupt(33));
    assert_eq!(k.counters.total(Counter::StrayInterrupts), 1);
    // Their places are free again, and the list has an end: for each thread, and for all.
    let mut attached = 1;
    while attached < MAX_ATTACHED {
        let driver = program(k, 20).1;
        for n in 0..MAX_PER_THREAD + 1 {
            match attach(k, root, 40 + attached as u64, driver) {
                Ok(()) => attached += 1,
                Err(error) => {
                    assert_eq!(error, Error::TableFull);
                    assert!(n == MAX_PER_THREAD || attached == MAX_ATTACHED);
                }
            }
        }
    }
    assert_eq!(attached, MAX_ATTACHED);
}

/// The interrupt controller is one for all clusters.
#[test]
fn what_another_cluster_has_attached_is_refused() {
    let mut w = world(2, 1);
    let people: Vec<_> = w.iter_mut().map(people).collect();
    let attach = |w: &mut [TestKernel], c: usize| attach(&mut w[c], people[c].0, IRQ, people[c].1);
    assert_eq!(attach(&mut w, 0), Ok(()));
    assert_eq!(attach(&mut w, 1), Err(Error::WrongState));
    assert_eq!(w[0].hal.interrupt(33), (Some(0), false), "nothing has changed");
    for op in [interrupt_op::ACK, interrupt_op::DETACH] {
        assert_eq!(control(&mut w[1], people[1].0, &[op, IRQ]), Err(Error::WrongState));
    }
    // It comes to the one who has it, is his while he looks after it, and can be had when he lets it go.
    w[0].handle(Event::Interrupt(33));
    assert_eq!(attach(&mut w, 1), Err(Error::WrongState));
    assert_eq!(control(&mut w[0], people[0].0, &[interrupt_op::DETACH, IRQ]), Ok(()));
    assert_eq!(attach(&mut w, 1), Ok(()));
    assert_eq!((w[1].hal.interrupt(33), attach(&mut w, 0)), ((Some(1), false), Err(Error::WrongState)));
    let t = w[1].find(people[1].1).unwrap();
    w[1].delete_thread(t).unwrap();
    assert_eq!(attach(&mut w, 0), Ok(()));
}
