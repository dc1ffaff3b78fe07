use super::world::*;
use crate::remote::Place;
use crate::ring::Lane;
use crate::thread::State;
use skerry_abi::{Error, Fpage, MapItem, Rights, Tag, ThreadId};
use std::vec;
use std::vec::Vec;

#[test]
pub(super) fn a_call_to_another_cluster_looks_like_any_other() {
    let mut w = world(3, 1);
    let (_, client) = program(&mut w[0], 20);
    let (_, server) = program(&mut w[2], 20);
    ipc(&mut w[2], server, Ipc::receive(ThreadId::ANY));
    let words: Vec<u64> = (1..=63).collect();
    ipc(&mut w[0], client, Ipc::call(server, 7, &words));
    settle(&mut w);
    assert_eq!(outcome(&w[2], server), (client, Tag::new(7, 63, 0), words.clone()));
    ipc(&mut w[2], server, Ipc::reply_wait(client, 8, &words[..9]));
    settle(&mut w);
    assert_eq!(outcome(&w[0], client), (server, Tag::new(8, 9, 0), words[..9].to_vec()));
    assert_eq!(state(&w[2], server), State::Receiving);
}

#[test]
pub(super) fn a_busy_receiver_pulls_later_and_nothing_is_lost() {
    let mut w = world(2, 1);
    let (_, server) = program(&mut w[1], 20);
    // More callers than credit, so that some wait at the source.
    let clients: Vec<_> = (0..14).map(|_| program(&mut w[0], 20).1).collect();
    let space = w[0].thread(w[0].find(clients[0]).unwrap()).space;
    let id = w[0].spaces[usize::from(space)].id;
    let more: Vec<_> = (1..30).map(|slot| thread(&mut w[0], id, slot, ThreadId::NIL)).collect();
    let all: Vec<_> = clients.into_iter().chain(more).collect();
    for (i, client) in all.iter().enumerate() {
        ipc(&mut w[0], *client, Ipc::call(server, 1, &[i as u64]));
    }
    settle(&mut w);
    assert!(all.iter().all(|&c| state(&w[0], c) == State::AwaitingResponse));
    let mut seen = Vec::new();
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    for _ in &all {
        settle(&mut w);
        let (client, _, words) = outcome(&w[1], server);
        seen.push(words[0]);
        ipc(&mut w[1], server, Ipc::reply_wait(client, 2, &[words[0] + 1000]));
    }
    settle(&mut w);
    assert_eq!(seen, (0..all.len() as u64).collect::<Vec<_>>());
    for (i, client) in all.iter().enumerate() {
        assert_eq!(outcome(&w[0], *client), (server, Tag::new(2, 1, 0), vec![i as u64 + 1000]));
    }
    assert_quiet(&w);
}

#[test]
pub(super) fn items_strangers_and_dead_partners_are_refused() {
    let mut w = world(2, 1);
    let (_, client) = program(&mut w[0], 20);
    let (_, server) = program(&mut w[1], 21);
    let error = |w: &mut [TestKernel], call| {
        ipc(&mut w[0], client, call);
        settle(w);
        outcome(&w[0], client).1.error()
    };
    let item = MapItem { fpage: Fpage::new(0x4000_0000, 12, Rights::R).unwrap(), dest: 0x4000_0000 };
    let with_item = Ipc { tag: Tag::new(0, 0, 2), words: item.words().into(), ..Ipc::send(server, 0, &[]) };
    assert_eq!(error(&mut w, with_item), Some(Error::ItemAcrossClusters));
    assert_eq!(error(&mut w, Ipc::send(server, 0, &[])), Some(Error::NotPermitted));
    let stale = ThreadId::new(1, server.slot(), 77);
    assert_eq!(error(&mut w, Ipc::send(stale, 0, &[])), Some(Error::NoSuchThread));
    let space = w[0].thread(w[0].find(client).unwrap()).space;
    w[0].spaces[usize::from(space)].grant_partner(server).unwrap();
    assert_eq!(error(&mut w, Ipc { wait: false, ..Ipc::send(server, 0, &[]) }), Some(Error::Timeout));
}

#[test]
pub(super) fn the_end_of_a_receiver_bounces_queued_remote_senders() {
    let mut w = world(2, 1);
    let (_, server) = program(&mut w[1], 20);
    let clients: Vec<_> = (0..3).map(|_| program(&mut w[0], 20).1).collect();
    for client in &clients {
        ipc(&mut w[0], *client, Ipc::call(server, 1, &[]));
    }
    settle(&mut w);
    let t = w[1].find(server).unwrap();
    w[1].delete_thread(t).unwrap();
    settle(&mut w);
    for client in clients {
        assert_eq!(outcome(&w[0], client).1.error(), Some(Error::NoSuchThread));
    }
    assert_quiet(&w);
}

#[test]
pub(super) fn a_sender_that_dies_while_queued_is_not_received_from() {
    let mut w = world(2, 1);
    let (_, server) = program(&mut w[1], 20);
    let (_, doomed) = program(&mut w[0], 20);
    let (_, other) = program(&mut w[0], 20);
    ipc(&mut w[0], doomed, Ipc::send(server, 1, &[]));
    ipc(&mut w[0], other, Ipc::send(server, 2, &[]));
    settle(&mut w);
    let t = w[0].find(doomed).unwrap();
    w[0].delete_thread(t).unwrap();
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    settle(&mut w);
    assert_eq!(outcome(&w[1], server).1.label(), 2);
    assert_eq!(state(&w[0], doomed), State::Free);
}

/// Nothing is left behind: no entry of a remote thread, nobody who waits for another cluster, no packet.
pub(super) fn assert_quiet(w: &[TestKernel]) {
    for k in w {
        assert_eq!(k.guests.used(), 0);
        assert!(k.peers.iter().all(|p| p.waiting.is_empty()));
        for ring in k.peers.iter().filter_map(|p| p.inbound) {
            assert_eq!(ring.unconsumed(Lane::Requests) + ring.unconsumed(Lane::Responses), 0);
        }
        assert!(k.threads.iter().all(|t| t.remote.place == Place::Nowhere));
    }
}

/// A server of cluster 1 and as many threads of cluster 0 that have called it, and wait for its answer.
fn owed(w: &mut [TestKernel], callers: usize) -> (ThreadId, Vec<ThreadId>) {
    let (_, server) = program(&mut w[1], 20);
    let callers: Vec<_> = (0..callers)
        .map(|i| match i % 4 {
            0 => program(&mut w[0], 20).1,
            slot => {
                let space = w[0].spaces.iter().rfind(|space| space.live).unwrap().id;
                thread(&mut w[0], space, slot as u16, ThreadId::NIL)
            }
        })
        .collect();
    for &caller in &callers {
        ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
        ipc(&mut w[0], caller, Ipc::call(server, 1, &[]));
        settle(w);
        assert_eq!(outcome(&w[1], server).0, caller);
    }
    (server, callers)
}

#[test]
pub(super) fn the_end_of_a_servers_space_is_told_to_any_number_of_remote_callers() {
    let mut w = world(2, 1);
    let (server, callers) = owed(&mut w, 40);
    let t = w[1].find(server).unwrap();
    let space = w[1].thread(t).space_id;
    let other = thread(&mut w[1], space, 1, ThreadId::NIL);
    w[1].delete_thread(t).unwrap();
    settle(&mut w);
    assert!(callers.iter().all(|&c| state(&w[0], c) == State::AwaitingResponse), "the other may answer");
    ipc(&mut w[1], other, Ipc { from: ThreadId::NIL, ..Ipc::reply_wait(callers[0], 2, &[]) });
    settle(&mut w);
    assert_eq!(outcome(&w[0], callers[0]).0, other);
    let t = w[1].find(other).unwrap();
    w[1].delete_thread(t).unwrap();
    while w[1].chores.is_pending() {
        // The CPU interrupts itself.
        w[1].handle(crate::kernel::Event::Kick);
        w[1].pick();
    }
    settle(&mut w);
    for &caller in &callers[1..] {
        assert_eq!(outcome(&w[0], caller).1.error(), Some(Error::Cancelled));
    }
    assert_quiet(&w);
}

#[test]
pub(super) fn any_number_of_callers_is_told_that_a_cluster_is_down() {
    let mut w = world(2, 1);
    let (_, callers) = owed(&mut w, 40);
    w[1].park();
    settle(&mut w);
    for &caller in &callers {
        assert_eq!(outcome(&w[0], caller).1.error(), Some(Error::NodeDown));
    }
    assert!(w[0].threads.iter().all(|t| t.remote.place == Place::Nowhere));
}
