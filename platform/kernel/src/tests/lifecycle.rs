use super::world::*;
use crate::birth::NewThread;
use crate::kernel::Event;
use crate::thread::State;
use skerry_abi::syscall::{SPACE_CONTROL, SYSTEM_EXIT, THREAD_CONTROL, space_op, thread_op};
use skerry_abi::{Error, Fpage, Rights, SpaceId, ThreadId};
use skerry_mapping_db::Attr;

#[test]
fn creating_and_destroying_returns_every_byte() {
    const PAGES: u64 = 0x4000_0000;
    let mut w = world(1, 1);
    let k = &mut w[0];
    let boss_space = k.create_space(1, true).unwrap();
    let boss = thread(k, boss_space, 0, ThreadId::NIL);
    k.db.map_root(boss_space.slot(), PAGES, PAGES, 21, Rights::RWX, Attr::Normal).unwrap();
    let live = |k: &TestKernel| k.threads.iter().filter(|t| t.state != State::Free).count();
    // What the database keeps for mappings once they were shared, it keeps from the first on.
    let mut before = None;
    let mut last = SpaceId::NIL;
    for _ in 0..100_000 {
        let (space, first) = program(k, 20);
        thread(k, space, 9, first);
        let (db, mut tlb) = k.db_and_tlb();
        for page in [0, 0x5000] {
            let fpage = Fpage::new(PAGES + page, 12, Rights::RW).unwrap();
            db.map(&mut tlb, boss_space.slot(), fpage, space.slot(), PAGES + page, Attr::Normal).unwrap();
        }
        assert_eq!(syscall(k, boss, SPACE_CONTROL, &[space_op::DESTROY, space.0])[0], 0);
        assert_ne!(space, last);
        assert_eq!(k.find(first), None);
        last = space;
        let now = (k.db.stats(), k.guests.used(), live(k));
        assert_eq!(*before.get_or_insert(now), now);
    }
    assert!(
        (0..30).all(|_| k.alloc_utcb_page().is_ok()),
        "all UTCB pages but the two of those who stay are back"
    );
}

#[test]
fn a_deleted_thread_leaves_nobody_waiting() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let (_, server) = program(k, 20);
    let (_, queued) = program(k, 20);
    let (_, caller) = program(k, 20);
    ipc(k, server, Ipc::receive(caller));
    ipc(k, caller, Ipc::call(server, 0, &[]));
    ipc(k, queued, Ipc::call(server, 0, &[]));
    let t = k.find(server).unwrap();
    k.delete_thread(t).unwrap();
    assert_eq!(outcome(k, queued).1.error(), Some(Error::NoSuchThread));
    assert_eq!(outcome(k, caller).1.error(), Some(Error::Cancelled));
    assert!(outcome(k, caller).1.receive_failed());
}

#[test]
fn a_thread_that_runs_elsewhere_is_deleted_there() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    let space = k.create_space(20, false).unwrap();
    k.enter(1);
    let victim = thread(k, space, 0, ThreadId::NIL);
    assert_eq!(k.pick(), k.find(victim));
    k.enter(0);
    assert_eq!(k.destroy_space(space.slot()), Err(Error::WrongState));
    assert_eq!(k.hal.kicks.last(), Some(&1));
    k.enter(1);
    assert_eq!(k.current(), None, "its system calls do not count any more");
    k.handle(Event::Kick);
    assert_eq!(k.pick(), None);
    k.enter(0);
    assert_eq!(k.destroy_space(space.slot()), Ok(()));
}

#[test]
fn thread_control_checks_its_arguments() {
    let mut w = world(2, 1);
    let k = &mut w[0];
    let space = k.create_space(1, true).unwrap();
    let root = thread(k, space, 0, ThreadId::NIL);
    let create =
        |space: SpaceId, cpu, pager: ThreadId, slot| [thread_op::CREATE, space.0, cpu, pager.0, 0, slot, 100];
    let bad: [([u64; 7], Error); 7] = [
        (create(SpaceId::new(0, 9, 1), 0, root, 1), Error::NoSuchSpace),
        (create(space, 1, root, 1), Error::BadArgument),
        (create(space, 70_000, root, 1), Error::BadArgument),
        (create(space, 0, root, 0), Error::BadArgument),
        (create(space, 0, root, 5000), Error::BadArgument),
        (create(space, 0, ThreadId::root(1), 1), Error::BadArgument),
        ([9, 0, 0, 0, 0, 0, 0], Error::BadArgument),
    ];
    for (args, error) in bad {
        assert_eq!(syscall(k, root, THREAD_CONTROL, &args)[0], error.code(), "{args:x?}");
    }
    let [0, id, ..] = syscall(k, root, THREAD_CONTROL, &create(space, 0, root, 1)) else { panic!("created") };
    let start = [thread_op::START, id, 1, 2, 3];
    assert_eq!(syscall(k, root, THREAD_CONTROL, &start)[0], 0);
    assert_eq!(syscall(k, root, THREAD_CONTROL, &start)[0], Error::WrongState.code());
    assert_eq!(syscall(k, root, THREAD_CONTROL, &[thread_op::DELETE, id])[0], 0);
    assert_eq!(syscall(k, root, THREAD_CONTROL, &[thread_op::DELETE, id])[0], Error::NoSuchThread.code());
    let refused = syscall(k, root, THREAD_CONTROL, &[thread_op::DELETE, ThreadId::root(0).0]);
    assert_eq!(refused[0], Error::Refused.code());
    let [0, made, ..] = syscall(k, root, SPACE_CONTROL, &[space_op::CREATE, 17, 0]) else {
        panic!("created")
    };
    // (Of another cluster: threads of this one that are not there make room.)
    let mut grant = |slot| {
        let partner = ThreadId::new(1, slot, 1);
        syscall(k, root, SPACE_CONTROL, &[space_op::GRANT_PARTNER, made, partner.0])[0]
    };
    assert!((1..=8).all(|slot| grant(slot) == 0));
    assert_eq!(grant(9), Error::TableFull.code());
    assert_eq!(syscall(k, root, SPACE_CONTROL, &[space_op::DESTROY, made])[0], 0);
    let exit = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| syscall(k, root, SYSTEM_EXIT, &[3])));
    assert_eq!(exit.unwrap_err().downcast_ref(), Some(&Ended(3)));
}

#[test]
fn running_out_is_an_error_and_leaves_no_debris() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let before = k.db.stats();
    let space = k.create_space(20, false).unwrap();
    let new = |utcb_slot| NewThread {
        space: space.slot(),
        cpu: 0,
        pager: ThreadId::NIL,
        handler: ThreadId::NIL,
        utcb_slot,
        priority: 1,
    };
    // Slots of different pages, so that the UTCB pages run out first.
    let made = (0..64).take_while(|i| k.create_thread(new(i * 4)).is_ok()).count();
    assert_eq!(made, 31, "one page is the root pager's");
    assert_eq!(k.create_thread(new(4 * 40)), Err(Error::OutOfKernelMemory));
    assert_eq!(k.create_thread(new(4 * 40)), Err(Error::OutOfKernelMemory), "the slot was given back");
    assert!(k.create_thread(new(1)).is_ok());
    k.destroy_space(space.slot()).unwrap();
    assert_eq!(k.db.stats(), before);
    assert!(k.threads[1..].iter().all(|t| t.state == State::Free));
}

#[test]
fn a_deleted_thread_does_not_survive_a_tick_that_comes_first() {
    let mut w = world(1, 2);
    let k = &mut w[0];
    k.enter(1);
    let (_, victim) = program(k, 20);
    program(k, 21);
    let t = run(k, victim);
    k.enter(0);
    k.delete_thread(t).unwrap();
    k.enter(1);
    for _ in 0..20 {
        k.handle(Event::Tick);
        assert_ne!(k.pick(), Some(t));
    }
    assert_eq!(k.find(victim), None);
}

#[test]
fn a_caller_is_told_when_the_last_thread_that_could_answer_ends() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let space = k.create_space(20, false).unwrap();
    let called = thread(k, space, 0, ThreadId::NIL);
    let colleague = thread(k, space, 1, ThreadId::NIL);
    let (_, client) = program(k, 20);
    ipc(k, called, Ipc::receive(ThreadId::ANY));
    ipc(k, client, Ipc::call(called, 1, &[]));
    k.delete_thread(k.find(called).unwrap()).unwrap();
    assert_eq!(state(k, client), State::Receiving, "the colleague may answer");
    k.delete_thread(k.find(colleague).unwrap()).unwrap();
    assert_eq!(outcome(k, client).1.error(), Some(Error::Cancelled));
}

#[test]
fn a_slot_whose_generations_are_used_up_is_retired() {
    let mut w = world(1, 1);
    let k = &mut w[0];
    let space = k.create_space(20, false).unwrap();
    let first = thread(k, space, 0, ThreadId::NIL);
    let t = k.find(first).unwrap();
    k.delete_thread(t).unwrap();
    k.cold[t as usize].generation = u32::MAX - 1;
    let last = thread(k, space, 0, ThreadId::NIL);
    assert_eq!((last.slot(), last.generation()), (t as u16, u32::MAX));
    k.delete_thread(t).unwrap();
    let next = thread(k, space, 0, ThreadId::NIL);
    assert_ne!(next.slot(), t as u16, "the slot is out of use");
    super::invariants::check(k).unwrap();
    for stale in [first, last] {
        assert_eq!(k.find(stale), None);
    }
    k.destroy_space(space.slot()).unwrap();
    // And the same for spaces.
    k.spaces[usize::from(space.slot())].id = SpaceId::new(0, space.slot(), u32::MAX - 1);
    let last = k.create_space(20, false).unwrap();
    assert_eq!((last.slot(), last.generation()), (space.slot(), u32::MAX));
    k.destroy_space(last.slot()).unwrap();
    let next = k.create_space(20, false).unwrap();
    assert_ne!(next.slot(), space.slot());
    assert_eq!((k.find_space(space), k.find_space(last)), (None, None));
}

#[test]
fn a_thread_can_be_deleted_whatever_it_does() {
    let mut w = world(2, 1);
    let (_, far) = program(&mut w[1], 20);
    let (_, partner) = program(&mut w[0], 20);
    let space = w[0].create_space(20, false).unwrap();
    let before = w[0].db.stats();
    for what in 0..9 {
        let new = NewThread {
            space: space.slot(),
            cpu: 0,
            pager: ThreadId::NIL,
            handler: ThreadId::NIL,
            utcb_slot: 0,
            priority: 100,
        };
        let id = w[0].create_thread(new).unwrap();
        let t = w[0].find(id).unwrap();
        if what != 0 {
            w[0].start_thread(t, 0x1000, 0x2000, 0).unwrap();
        }
        let timed = skerry_abi::Timeout(1 << 40);
        let expected = match what {
            0 => State::Created,
            1 => State::Ready,
            2 => {
                ipc(&mut w[0], id, Ipc { wait: false, send_timeout: timed, ..Ipc::send(partner, 0, &[]) });
                State::Sending
            }
            3 => {
                ipc(&mut w[0], id, Ipc { receive_timeout: timed, ..Ipc::receive(ThreadId::ANY) });
                State::Receiving
            }
            4 => {
                ipc(&mut w[0], id, Ipc::receive(partner));
                State::Receiving
            }
            5 => {
                w[0].peers[1].limit = 0;
                ipc(&mut w[0], id, Ipc::send(far, 0, &[]));
                w[0].peers[1].limit = crate::ring::SLOTS;
                State::AwaitingCredit
            }
            6 => {
                ipc(&mut w[0], id, Ipc::call(far, 0, &[]));
                settle(&mut w);
                State::AwaitingResponse
            }
            7 => {
                ipc(&mut w[1], far, Ipc::send(id, 0, &[]));
                settle(&mut w);
                ipc(&mut w[0], id, Ipc::receive(ThreadId::ANY));
                State::Pulling
            }
            _ => {
                run(&mut w[0], id);
                w[0].handle(Event::PageFault { address: 0, access: skerry_abi::Rights::R, esr: 0 });
                w[0].pick();
                State::Halted
            }
        };
        assert_eq!(state(&w[0], id), expected, "{what}");
        w[0].delete_thread(t).unwrap();
        settle(&mut w);
        super::invariants::check(&w[0]).unwrap();
        assert_eq!((w[0].find(id), w[0].deadline(), w[0].db.stats()), (None, u64::MAX, before), "{what}");
        assert_eq!(w[0].threads[t as usize].state, State::Free, "{what}");
        assert_eq!(w[1].guests.used(), 0, "{what}");
    }
}
