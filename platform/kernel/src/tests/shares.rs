//! No domain uses up what a cluster remembers of threads of others, whatever its threads wait for.

use super::remote::assert_quiet;
use super::world::*;
use crate::thread::State;
use skerry_abi::{Error, SpaceId, Tag, ThreadId};
use std::vec;
use std::vec::Vec;

const VICTIM: u32 = 20;
const GREEDY: u32 = 21;
/// Threads that one domain lets wait.
const CROWD: u16 = 30;

/// Threads of one space in cluster 0 that all do the same.
fn crowd(w: &mut [TestKernel], domain: u32, call: impl Fn() -> Ipc) -> (SpaceId, Vec<ThreadId>) {
    let space = w[0].create_space(domain, false).unwrap();
    let all: Vec<_> = (0..CROWD).map(|slot| thread(&mut w[0], space, slot, ThreadId::NIL)).collect();
    for &id in &all {
        ipc(&mut w[0], id, call());
        settle(w);
    }
    (space, all)
}

/// Those that were refused, each with the code for that.
fn refused(w: &[TestKernel], all: &[ThreadId]) -> usize {
    let refused = all.iter().filter(|&&id| state(&w[0], id) == State::Ready);
    refused.map(|&id| assert_eq!(outcome(&w[0], id).1.error(), Some(Error::TableFull))).count()
}

/// A client of the victim's domain calls its server, and waits for word of its end; long and short messages, polite and hurried.
fn the_others_go_on(w: &mut [TestKernel]) {
    let ((_, client), (_, friend)) = (program(&mut w[0], VICTIM), program(&mut w[0], VICTIM));
    let (_, server) = program(&mut w[1], VICTIM);
    for words in [vec![1, 2, 3], (0..20).collect::<Vec<_>>()] {
        for late in [false, true] {
            if !late {
                ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
            }
            ipc(&mut w[0], client, Ipc::call(server, 5, &words));
            settle(w);
            if late {
                ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
                settle(w);
            }
            assert_eq!(outcome(&w[1], server).2, words);
            ipc(&mut w[1], server, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(client, 6, &[4]) });
            settle(w);
            assert_eq!(outcome(&w[0], client), (server, Tag::new(6, 1, 0), vec![4]));
        }
    }
    ipc(&mut w[0], friend, Ipc::receive(server));
    settle(w);
    assert_eq!(state(&w[0], friend), State::AwaitingResponse);
    let t = w[1].find(server).unwrap();
    w[1].delete_thread(t).unwrap();
    settle(w);
    assert_eq!(outcome(&w[0], friend).1.error(), Some(Error::Cancelled));
    for id in [client, friend] {
        let t = w[0].find(id).unwrap();
        w[0].delete_thread(t).unwrap();
    }
    settle(w);
}

/// Anybody may ask to be told when any thread ends.
#[test]
pub(super) fn closed_receives_of_one_domain_leave_others_their_entries() {
    let mut w = world(2, 1);
    let (_, watched) = program(&mut w[1], VICTIM);
    let (space, watchers) = crowd(&mut w, GREEDY, || Ipc::receive(watched));
    let table = w[1].guests.iter().count() as u32;
    // Half of the half that is not for calls.
    assert_eq!(
        (w[1].guests.used(), refused(&w, &watchers)),
        (table / 4, usize::from(CROWD) - table as usize / 4)
    );
    let refusal = watchers.iter().find(|&&id| state(&w[0], id) == State::Ready).copied().unwrap();
    assert!(outcome(&w[0], refusal).1.receive_failed());
    the_others_go_on(&mut w);
    // What is given back can be had again.
    let first = w[0].find(watchers[0]).unwrap();
    w[0].delete_thread(first).unwrap();
    settle(&mut w);
    ipc(&mut w[0], refusal, Ipc::receive(watched));
    settle(&mut w);
    assert_eq!(state(&w[0], refusal), State::AwaitingResponse);
    let t = w[1].find(watched).unwrap();
    w[1].delete_thread(t).unwrap();
    settle(&mut w);
    for &id in &watchers[1..table as usize / 4] {
        assert_eq!(outcome(&w[0], id).1.error(), Some(Error::Cancelled));
    }
    assert_eq!(w[0].spaces[usize::from(space.slot())].threads, u32::from(CROWD) - 1);
    assert_quiet(&w);
}

/// A domain can call its own threads as often as it likes, and never answer.
#[test]
pub(super) fn calls_and_messages_of_one_domain_leave_others_their_entries() {
    let mut w = world(2, 1);
    let (_, sink) = program(&mut w[1], GREEDY);
    let (_, hoarder) = program(&mut w[1], GREEDY);
    // Half of them are received, and owed answers for ever.
    let mut callers = Vec::new();
    let space = w[0].create_space(GREEDY, false).unwrap();
    for slot in 0..CROWD {
        ipc(&mut w[1], hoarder, Ipc::receive(ThreadId::ANY));
        callers.push(thread(&mut w[0], space, slot, ThreadId::NIL));
        ipc(&mut w[0], callers[usize::from(slot)], Ipc::call(hoarder, 1, &[]));
        settle(&mut w);
    }
    assert_eq!(refused(&w, &callers), 0);
    let (_, senders) = crowd(&mut w, GREEDY, || Ipc::send(sink, 1, &[]));
    let table = w[1].guests.iter().count() as u32;
    // Those who come first have half of the table, and this domain half of the rest.
    assert_eq!(w[1].guests.used(), table * 3 / 4);
    assert_eq!(refused(&w, &senders), 2 * usize::from(CROWD) - table as usize * 3 / 4);
    the_others_go_on(&mut w);
    for id in [sink, hoarder] {
        let t = w[1].find(id).unwrap();
        w[1].delete_thread(t).unwrap();
    }
    settle(&mut w);
    assert!(callers.iter().chain(&senders).all(|&id| state(&w[0], id) == State::Ready));
    assert_quiet(&w);
}
