//! Every named check ([`skerry_checks::Check`]) is removed in turn: a hostile case that is refused as things are succeeds then.
//!
//! A case returns whether the attack worked. A kernel that panics, or ends the run, counts as one that was attacked well.

mod fast;
mod remote;

use super::world::*;
use crate::birth::NewThread;
use crate::shootdown::CpuSet;
use crate::space::Space;
use crate::thread::{Kind, State};
use skerry_abi::item::Guard;
use skerry_abi::message::kernel_label;
use skerry_abi::syscall::{
    NOTIFY, SCHEDULE, SPACE_CONTROL, SYSTEM_EXIT, THREAD_CONTROL, UNMAP, space_op, thread_op,
};
use skerry_abi::{Error, Fpage, Item, MapItem, Rights, SpaceId, Tag, ThreadId, Timeout, layout};
use skerry_checks::{Check, without};
use skerry_mapping_db::{Attr, Pairs};
use std::panic::catch_unwind;
use std::vec;

/// Somewhere in user space.
const HERE: u64 = 0x4000_0000;
const GROUP: u64 = 1 << 16;

#[test]
fn every_check_stops_somebody() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(std::boxed::Box::new(|_| {}));
    let verdicts: vec::Vec<_> = Check::ALL
        .iter()
        .map(|&check| {
            let attack = case(check);
            // Only the attack runs without the check: `Setting` is made with all of them.
            let guarded = catch_unwind(|| attack(&|step| step())).unwrap_or(true);
            let bare = catch_unwind(|| attack(&|step| without(check, step))).unwrap_or(true);
            (check, guarded, bare)
        })
        .collect();
    std::panic::set_hook(quiet);
    for (check, guarded, bare) in verdicts {
        assert!(!guarded, "{check:?} does not stop its hostile case");
        assert!(bare, "{check:?} is not what stops its hostile case");
    }
}

/// Runs the hostile step, with the check or without it.
type Run<'r> = &'r dyn Fn(&mut dyn FnMut() -> bool) -> bool;

/// Two strangers: `(victim, attacker)`, in spaces of different domains.
fn strangers(k: &mut TestKernel) -> (ThreadId, ThreadId) {
    let ((_, victim), (_, attacker)) = (program(k, 20), program(k, 21));
    (victim, attacker)
}

/// A thread that may use the privileged calls.
fn privileged(k: &mut TestKernel) -> ThreadId {
    let space = k.create_space(1, true).expect("room");
    thread(k, space, 0, ThreadId::NIL)
}

fn sends(k: &mut TestKernel, attacker: ThreadId, call: Ipc, run: Run<'_>) -> bool {
    let mut call = Some(call);
    run(&mut || {
        ipc(k, attacker, call.take().expect("once"));
        state(k, attacker) == State::Ready && outcome(k, attacker).1.error().is_none()
    })
}

fn controls(k: &mut TestKernel, attacker: ThreadId, number: u16, args: &[u64], run: Run<'_>) -> bool {
    run(&mut || syscall(k, attacker, number, args)[0] == 0)
}

/// A privileged thread of priority 100 and one of this priority that it has created in its space, on the present CPU.
fn creator(k: &mut TestKernel, priority: u8) -> (ThreadId, ThreadId) {
    let creator = privileged(k);
    let space = k.thread(k.find(creator).expect("lives")).space;
    k.note_run(space);
    let new = NewThread { space, cpu: k.this_cpu, utcb_slot: 1, priority, ..new_thread() };
    (creator, k.create_thread(new).expect("room"))
}

/// Another privileged thread starts one; whether it runs here at once.
fn starts(k: &mut TestKernel, created: ThreadId, run: Run<'_>) -> bool {
    let attacker = privileged(k);
    run(&mut || {
        syscall(k, attacker, THREAD_CONTROL, &[thread_op::START, created.0, 0x1000, 0, 0]);
        k.current() == k.find(created)
    })
}

fn case(check: Check) -> fn(Run<'_>) -> bool {
    match check {
        Check::ThreadGeneration => |run| {
            let k = &mut world(1, 1)[0];
            let (victim, attacker) = (program(k, 20).1, program(k, 20).1);
            ipc(k, victim, Ipc::receive(ThreadId::ANY));
            let stale = ThreadId::new(0, victim.slot(), victim.generation() + 1);
            sends(k, attacker, Ipc::send(stale, 1, &[]), run)
        },
        Check::SpaceGeneration => |run| {
            let k = &mut world(1, 1)[0];
            let (space, _) = program(k, 20);
            let stale = SpaceId::new(0, space.slot(), space.generation() + 1);
            let attacker = privileged(k);
            controls(k, attacker, SPACE_CONTROL, &[space_op::DESTROY, stale.0], run)
        },
        Check::Permission => |run| {
            let k = &mut world(1, 1)[0];
            let (victim, attacker) = strangers(k);
            controls(k, attacker, NOTIFY, &[victim.0, 1], run) || {
                ipc(k, victim, Ipc::receive(ThreadId::ANY));
                sends(k, attacker, Ipc::send(victim, 1, &[]), run)
            }
        },
        Check::ReplyRight => |run| {
            let k = &mut world(1, 1)[0];
            let (victim, attacker) = strangers(k);
            let (_, server) = program(k, 20);
            ipc(k, server, Ipc::receive(ThreadId::ANY));
            ipc(k, victim, Ipc::call(server, 1, &[]));
            sends(k, attacker, Ipc::send(victim, 666, &[]), run)
        },
        Check::ClosedReceive => |run| {
            let k = &mut world(1, 1)[0];
            let (victim, attacker, friend) = (program(k, 20).1, program(k, 20).1, program(k, 20).1);
            ipc(k, victim, Ipc::receive(friend));
            sends(k, attacker, Ipc { wait: false, ..Ipc::send(victim, 1, &[]) }, run)
        },
        Check::ReservedLabel => |run| {
            let k = &mut world(1, 1)[0];
            let (victim, attacker) = (program(k, 20).1, program(k, 20).1);
            ipc(k, victim, Ipc::receive(ThreadId::ANY));
            sends(k, attacker, Ipc::send(victim, kernel_label::PAGE_FAULT, &[1, 2, 3]), run)
        },
        Check::MessageLength => |run| {
            let k = &mut world(1, 1)[0];
            let (victim, attacker) = (program(k, 20).1, program(k, 20).1);
            let space = k.thread(k.find(attacker).expect("lives")).space;
            k.db.map_root(space, HERE, HERE, 12, Rights::RWX, Attr::Normal).expect("room");
            ipc(k, victim, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
            let mut words = vec![0; 62];
            words.extend(MapItem { fpage: Fpage::new(HERE, 12, Rights::RWX).unwrap(), dest: HERE }.words());
            sends(k, attacker, Ipc { tag: Tag::new(1, 62, 2), words, ..Ipc::send(victim, 1, &[]) }, run)
        },
        Check::SendToSelf => |run| {
            let k = &mut world(1, 1)[0];
            let (_, attacker) = program(k, 20);
            run(&mut || {
                ipc(k, attacker, Ipc::call(attacker, 1, &[]));
                state(k, attacker) == State::Sending
            })
        },
        Check::Window => |run| {
            let k = &mut world(1, 1)[0];
            let (victim, attacker) = (program(k, 20).1, program(k, 20).1);
            let space = k.thread(k.find(attacker).expect("lives")).space;
            k.db.map_root(space, HERE, HERE, 12, Rights::RWX, Attr::Normal).expect("room");
            ipc(
                k,
                victim,
                Ipc { window: Fpage::new(0x2000, 12, Rights::RWX).unwrap(), ..Ipc::receive(ThreadId::ANY) },
            );
            let item = MapItem { fpage: Fpage::new(HERE, 12, Rights::RWX).unwrap(), dest: 0x8000 };
            let call =
                Ipc { tag: Tag::new(0, 0, 2), words: item.words().into(), ..Ipc::send(victim, 0, &[]) };
            sends(k, attacker, call, run)
        },
        Check::Guard => |run| {
            let k = &mut world(1, 1)[0];
            let (client, pager) = (program(k, 20).1, program(k, 20).1);
            let spaces = [client, pager].map(|id| k.thread(k.find(id).expect("lives")).space);
            k.db.map_root(spaces[1], HERE, HERE, 12, Rights::RWX, Attr::Normal).expect("room");
            ipc(k, client, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
            k.hal.memory.insert((Space::asid(spaces[1]), HERE), 0x555);
            // A map that comes late: the guard word has changed meanwhile.
            let fpage = Fpage::new(HERE, 12, Rights::RW).unwrap();
            let words = vec![fpage.word(), HERE | 2, HERE, 0x666];
            let call = Ipc { tag: Tag::new(0, 0, 4), words, ..Ipc::send(client, 0, &[]) };
            sends(k, pager, call, run) && k.db.lookup(spaces[0], HERE).is_some()
        },
        Check::Joined => |run| {
            let k = &mut world(1, 1)[0];
            let (client, pager) = (program(k, 20).1, program(k, 20).1);
            let spaces = [client, pager].map(|id| k.thread(k.find(id).expect("lives")).space);
            k.db.map_root(spaces[1], HERE, HERE, 12, Rights::RWX, Attr::Normal).expect("room");
            ipc(k, client, Ipc { window: Fpage::COMPLETE, ..Ipc::receive(ThreadId::ANY) });
            k.hal.memory.insert((Space::asid(spaces[1]), HERE), 0x555);
            let fpage = Fpage::new(HERE, 12, Rights::RW).unwrap();
            let words = vec![fpage.word(), HERE | 2, HERE, 0x666, fpage.word(), (HERE + 0x1000) | 4];
            let call = Ipc { tag: Tag::new(0, 0, 6), words, ..Ipc::send(client, 0, &[]) };
            sends(k, pager, call, run) && k.db.lookup(spaces[0], HERE + 0x1000).is_some()
        },
        Check::RemotePermission => |run| {
            let mut w = world(2, 1);
            let (_, victim) = program(&mut w[1], 20);
            let (_, attacker) = program(&mut w[0], 21);
            ipc(&mut w[1], victim, Ipc::receive(ThreadId::ANY));
            run(&mut || {
                ipc(&mut w[0], attacker, Ipc::send(victim, 1, &[]));
                settle(&mut w);
                outcome(&w[0], attacker).1.error().is_none()
            })
        },
        Check::RemoteReplyRight => |run| {
            let mut w = world(2, 1);
            let (_, victim) = program(&mut w[1], 20);
            let (_, server) = program(&mut w[0], 20);
            let (_, attacker) = program(&mut w[0], 21);
            ipc(&mut w[0], server, Ipc::receive(ThreadId::ANY));
            ipc(&mut w[1], victim, Ipc::call(server, 1, &[]));
            settle(&mut w);
            run(&mut || {
                ipc(&mut w[0], attacker, Ipc::send(victim, 666, &[]));
                settle(&mut w);
                state(&w[1], victim) == State::Ready && outcome(&w[1], victim).1.label() == 666
            })
        },
        Check::FastRemotePlain => remote::items,
        Check::FastRemoteLabel => remote::forged_label,
        Check::FastRemoteChores => remote::calls_although_there_is_work,
        Check::FastRemoteQueue => remote::forgets_a_sender,
        Check::FastRemoteNotified => remote::forgets_a_notification,
        Check::FastRemoteRight => remote::usurps_a_right,
        Check::FastRemoteIdentity => remote::calls_by_a_stale_name,
        Check::FastRemoteStanding => remote::wakes_who_is_suspended,
        Check::FastRemoteReady => remote::breaks_into_a_closed_receive,
        Check::FastRemotePermission => remote::calls_a_stranger,
        Check::FastRemoteCaller => remote::answers_a_stale_name,
        Check::FastRemoteCalls => remote::wakes_a_suspended_caller,
        Check::FastRemoteOperation => remote::answers_an_earlier_call,
        Check::FastRemoteEnding => remote::answers_who_is_to_end,
        Check::FastWaitQueue => remote::waits_although_somebody_does,
        Check::FastWaitNotified => remote::waits_for_what_it_has,
        Check::FastWaitChores => remote::waits_although_there_is_work,
        Check::FastNoteIdentity => remote::notifies_a_stale_name,
        Check::FastNoteStanding => remote::notifies_who_is_suspended,
        Check::FastNoteReady => remote::notifies_in_a_closed_receive,
        Check::FastNotePermission => remote::notifies_a_stranger,
        Check::RemoteItems => |run| {
            let mut w = world(2, 1);
            let (_, victim) = program(&mut w[1], 20);
            let (_, attacker) = program(&mut w[0], 20);
            ipc(&mut w[1], victim, Ipc::receive(ThreadId::ANY));
            run(&mut || {
                ipc(&mut w[0], attacker, Ipc { tag: Tag::new(0, 0, 2), ..Ipc::send(victim, 0, &[1, 2]) });
                settle(&mut w);
                outcome(&w[0], attacker).1.error().is_none()
            })
        },
        Check::FastIdentity => fast::identity,
        Check::FastReady => fast::ready,
        Check::FastStanding => fast::standing,
        Check::FastElsewhere => fast::elsewhere,
        Check::FastElsewhereCalm => fast::sends_after_its_end,
        Check::FastPlain => fast::plain,
        Check::FastLabel => fast::label,
        Check::FastPermission => fast::permission,
        Check::FastQueue => fast::queue,
        Check::FastNotified => fast::notified,
        Check::FastTlb => fast::tlb,
        Check::FastPagerTlb => fast::pager_tlb,
        Check::FastPagerIdentity => fast::pager_identity,
        Check::FastPagerReady => fast::pager_ready,
        Check::FastPagerStanding => fast::pager_standing,
        Check::FastAnswerItem => fast::answer_item,
        Check::FastAnswerGuard => fast::answer_guard,
        Check::FastAnswerLabel => fast::answer_label,
        Check::FastAnswerIdentity => fast::answer_identity,
        Check::FastAnswerRight => fast::answer_right,
        Check::FastAnswerFault => fast::answer_fault,
        Check::FastAnswerStanding => fast::answer_standing,
        Check::FastAnswerTlb => fast::answer_tlb,
        Check::FastAnswerQueue => fast::answer_queue,
        Check::FastAnswerNotified => fast::answer_notified,
        Check::FastUnmapAll => fast::unmap_all,
        Check::Privileged => |run| {
            let k = &mut world(1, 1)[0];
            let (victim, attacker) = strangers(k);
            controls(k, attacker, THREAD_CONTROL, &[thread_op::DELETE, victim.0], run)
                || controls(k, attacker, SPACE_CONTROL, &[space_op::CREATE, 1, 1], run)
                || controls(k, attacker, SYSTEM_EXIT, &[0], run)
        },
        Check::UnmapCount => |run| {
            let k = &mut world(1, 1)[0];
            let (_, attacker) = program(k, 20);
            let mut args = vec![Fpage::COMPLETE.word(); 17];
            args[0] = 15 << 8;
            controls(k, attacker, UNMAP, &args, run)
        },
        Check::OwnCpu => |run| creates(NewThread { cpu: 1, ..new_thread() }, run),
        Check::OwnPager => |run| creates(NewThread { pager: ThreadId::new(1, 0, 1), ..new_thread() }, run),
        Check::NewPager => |run| {
            let k = &mut world(1, 1)[0];
            let (_, victim) = program(k, 20);
            let attacker = privileged(k);
            controls(k, attacker, SCHEDULE, &[0, victim.0, !0, !0, !0, ThreadId::new(1, 0, 1).0], run)
        },
        Check::MoveDomain => |run| {
            let mut w = world(2, 1);
            let (_, victim) = program(&mut w[0], 20);
            let mover = privileged(&mut w[0]);
            let space = w[1].create_space(21, false).expect("room");
            run(&mut || {
                let args = [thread_op::MIGRATE, victim.0, space.0, 1, 0, 0];
                syscall(&mut w[0], mover, THREAD_CONTROL, &args);
                settle(&mut w);
                w[1].find(victim).is_some()
            })
        },
        Check::UtcbFree => |run| creates(NewThread { utcb_slot: 0, ..new_thread() }, run),
        Check::StartOnce => |run| {
            let k = &mut world(1, 1)[0];
            let (_, victim) = program(k, 20);
            let attacker = privileged(k);
            controls(k, attacker, THREAD_CONTROL, &[thread_op::START, victim.0, 0x666, 0, 0], run)
        },
        Check::FastStartIdentity => |run| {
            let k = &mut world(1, 1)[0];
            let (attacker, created) = creator(k, 150);
            let stale = ThreadId::new(0, created.slot(), created.generation() + 1);
            controls(k, attacker, THREAD_CONTROL, &[thread_op::START, stale.0, 0x666, 0, 0], run)
        },
        Check::FastStartOnce => |run| {
            let k = &mut world(1, 1)[0];
            let (attacker, victim) = creator(k, 150);
            k.start_thread(k.find(victim).expect("lives"), 0x1000, 0, 0).unwrap();
            ipc(k, victim, Ipc::receive(ThreadId::ANY));
            controls(k, attacker, THREAD_CONTROL, &[thread_op::START, victim.0, 0x666, 0, 0], run)
        },
        Check::FastStartCpu => |run| {
            let k = &mut world(1, 2)[0];
            k.enter(1);
            let (_, created) = creator(k, 150);
            k.enter(0);
            k.note_run(k.thread(k.find(created).expect("lives")).space);
            starts(k, created, run)
        },
        Check::FastStartFloor => |run| {
            let k = &mut world(1, 1)[0];
            let ((_, urgent), (_, created)) = (creator(k, 200), creator(k, 150));
            k.start_thread(k.find(urgent).expect("lives"), 0x1000, 0, 0).unwrap();
            starts(k, created, run)
        },
        Check::FastStartTlb => |run| {
            let k = &mut world(1, 1)[0];
            let (_, created) = creator(k, 150);
            fast::forget_runs(k, created);
            starts(k, created, run)
        },
        Check::RootThread => |run| {
            let k = &mut world(1, 1)[0];
            let attacker = privileged(k);
            controls(k, attacker, THREAD_CONTROL, &[thread_op::DELETE, ThreadId::root(0).0], run)
        },
        Check::MapRights => |run| {
            maps(Rights::R, HERE, Attr::NonCacheable, run, |k, space| k.db.check(space, HERE, Rights::W))
        },
        Check::FastMapRights => {
            |run| maps(Rights::R, HERE, Attr::Normal, run, |k, space| k.db.check(space, HERE, Rights::W))
        }
        Check::FastMapPinned => |run| {
            // The second page of UTCBs, whose table is there already.
            maps(Rights::RW, layout::UTCB_BASE + 4096, Attr::Normal, run, |_, _| true)
        },
        Check::FastMapOccupied => |run| occupies(Attr::Normal, run),
        Check::MapOccupied => |run| occupies(Attr::NonCacheable, run),
        Check::MapGroupOccupied => |run| maps_group(Rights::RW, HERE, Attr::NonCacheable, run, |_, _| true),
        Check::FastPagesOccupied => |run| maps_pages(Rights::RW, HERE + 0x5000, run, |_, _| true),
        Check::FastPagesPinned => |run| maps_pages(Rights::RW, layout::UTCB_BASE + 0x2000, run, |_, _| true),
        Check::FastPagesRights => |run| {
            let writes = |k: &mut TestKernel, space| k.db.check(space, HERE + 0x8000, Rights::W);
            maps_pages(Rights::R, HERE + 0x8000, run, writes)
        },
        Check::FastGroupOccupied => |run| maps_group(Rights::RW, HERE, Attr::Normal, run, |_, _| true),
        Check::FastGroupPinned => {
            |run| maps_group(Rights::RW, layout::UTCB_BASE + GROUP, Attr::Normal, run, |_, _| true)
        }
        Check::FastGroupRights => |run| {
            let writes = |k: &mut TestKernel, space| k.db.check(space, HERE + GROUP, Rights::W);
            maps_group(Rights::R, HERE + GROUP, Attr::Normal, run, writes)
        },
        Check::MapPinned => {
            |run| maps(Rights::RW, layout::UTCB_BASE + 4096, Attr::NonCacheable, run, |_, _| true)
        }
    }
}

/// Slot 1 of the first space that [`creates`] makes.
fn new_thread() -> NewThread {
    NewThread { space: 1, cpu: 0, pager: ThreadId::NIL, handler: ThreadId::NIL, utcb_slot: 1, priority: 1 }
}

fn creates(new: NewThread, run: Run<'_>) -> bool {
    let k = &mut world(2, 1)[0];
    assert_eq!(program(k, 20).0.slot(), new.space);
    let mut new = Some(new);
    run(&mut || k.create_thread(new.take().expect("once")).is_ok())
}

/// Maps a page that the source has with `rights` to `dest` with all rights, in a region where a table is there already.
fn maps(
    rights: Rights,
    dest: u64,
    attr: Attr,
    run: Run<'_>,
    worked: fn(&mut TestKernel, u16) -> bool,
) -> bool {
    let k = &mut world(1, 1)[0];
    let (from, to) = (program(k, 20).0.slot(), program(k, 20).0.slot());
    k.db.map_root(from, HERE, HERE, 12, rights, Attr::Normal).expect("room");
    k.db.map_root(to, HERE + 4096, HERE, 12, rights, Attr::Normal).expect("room");
    run(&mut || {
        let (db, mut tlb) = k.db_and_tlb();
        let fpage = Fpage::new(HERE, 12, Rights::RW).unwrap();
        db.map(&mut tlb, from, fpage, to, dest, attr).is_ok() && worked(k, to)
    })
}

/// Maps 64 KiB of a block that the source has with `rights` to `dest` with all rights. In the midst of what is at [`HERE`] there is a page
/// already, so there are tables.
fn maps_group(
    rights: Rights,
    dest: u64,
    attr: Attr,
    run: Run<'_>,
    worked: fn(&mut TestKernel, u16) -> bool,
) -> bool {
    let k = &mut world(1, 1)[0];
    let (from, to) = (program(k, 20).0.slot(), program(k, 20).0.slot());
    k.db.map_root(from, HERE, HERE, 21, rights, Attr::Normal).expect("room");
    let (db, mut tlb) = k.db_and_tlb();
    let page = Fpage::new(HERE + (1 << 20), 12, Rights::RW).unwrap();
    db.map(&mut tlb, from, page, to, HERE + 0x5000, Attr::Normal).expect("room");
    run(&mut || {
        let (db, mut tlb) = k.db_and_tlb();
        let fpage = Fpage::new(HERE, 16, Rights::RW).unwrap();
        db.map(&mut tlb, from, fpage, to, dest, attr).is_ok() && worked(k, to)
    })
}

/// Maps two pages of a block that the source has with `rights`, the second one to `dest`. At `HERE` + 0x5000 there is a page already.
fn maps_pages(rights: Rights, dest: u64, run: Run<'_>, worked: fn(&mut TestKernel, u16) -> bool) -> bool {
    let k = &mut world(1, 1)[0];
    let (from, to) = (program(k, 20).0.slot(), program(k, 20).0.slot());
    k.db.map_root(from, HERE, HERE, 21, rights, Attr::Normal).expect("room");
    let (db, mut tlb) = k.db_and_tlb();
    let page = |number: u64| Fpage::new(HERE + (number << 12), 12, Rights::RW).unwrap();
    db.map(&mut tlb, from, page(5), to, HERE + 0x5000, Attr::Normal).expect("room");
    run(&mut || {
        let (db, mut tlb) = k.db_and_tlb();
        let (first, joined) = ([page(1).word(), dest - 4096], &[page(2).word(), dest]);
        let pairs = Pairs { first, joined, more: &[], flags: 0 };
        db.map_pages(&mut tlb, from, to, &pairs).is_some() && worked(k, to)
    })
}

/// Maps a page where another one is.
fn occupies(attr: Attr, run: Run<'_>) -> bool {
    let k = &mut world(1, 1)[0];
    let (from, to) = (k.create_space(20, false).unwrap(), k.create_space(20, false).unwrap());
    for page in [HERE, HERE + 4096] {
        k.db.map_root(from.slot(), page, page, 12, Rights::RW, Attr::Normal).expect("room");
    }
    let mut map = |page: u64| {
        let (db, mut tlb) = k.db_and_tlb();
        let fpage = Fpage::new(page, 12, Rights::RW).unwrap();
        db.map(&mut tlb, from.slot(), fpage, to.slot(), HERE, attr)
    };
    map(HERE).expect("free");
    run(&mut || map(HERE + 4096) != Err(Error::AlreadyMapped))
}
