//! Requests that have waited for room go out some at a time, whatever those who waited ask for next.

use super::invariants::check;
use super::world::*;
use crate::guests::Stay;
use crate::kernel::Event;
use crate::ring::{Lane, SLOTS};
use crate::thread::State;
use skerry_abi::ThreadId;
use std::vec::Vec;

/// Packets that a kernel entry sends at most.
const AT_ONCE: u64 = 6;
const SERVERS: usize = 14;

/// Every server of cluster 1 has a client of cluster 0 that it owes an answer, and one of cluster `second` in its queue.
struct Servers {
    w: Vec<TestKernel<'static>>,
    servers: Vec<ThreadId>,
    clients: Vec<[(usize, ThreadId); 2]>,
}

fn servers(second: usize) -> Servers {
    let mut w = world(3, 1);
    let spaces: Vec<_> = w.iter_mut().map(|k| k.create_space(20, false).unwrap()).collect();
    let (mut servers, mut clients) = (Vec::new(), Vec::new());
    for slot in 0..SERVERS as u16 {
        let server = thread(&mut w[1], spaces[1], slot, ThreadId::NIL);
        ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
        clients.push([(0, 2 * slot), (second, 2 * slot + 1)].map(|(at, utcb)| {
            let client = thread(&mut w[at], spaces[at], utcb, ThreadId::NIL);
            ipc(&mut w[at], client, Ipc::call(server, utcb.into(), &[1]));
            settle(&mut w);
            (at, client)
        }));
        servers.push(server);
    }
    let queued = w[1].guests.iter().filter(|guest| matches!(guest.stay, Stay::Queued(_)));
    assert_eq!(queued.count(), SERVERS);
    Servers { w, servers, clients }
}

impl Servers {
    /// The packets that cluster 1 has ever sent.
    fn sent(&self) -> u64 {
        let count = |to: usize, lane| self.w[1].peers[to].outbound.unwrap().end(lane);
        [0, 2].iter().map(|&to| count(to, Lane::Requests) + count(to, Lane::Responses)).sum()
    }
}

/// Each answer that goes out lets its server ask for the next message, of the same cluster or of another one.
#[test]
fn answers_that_let_others_ask_go_out_a_few_at_a_time() {
    for second in [0, 2] {
        let mut s = servers(second);
        // The rings are full of what nobody looks at.
        s.w[1].peers[0].limit = 0;
        for (&server, clients) in s.servers.iter().zip(&s.clients) {
            ipc(&mut s.w[1], server, Ipc::reply_wait(clients[0].1, 9, &[]));
            assert_eq!(state(&s.w[1], server), State::AwaitingCredit);
        }
        s.w[1].peers[0].limit = SLOTS;
        let (mut entries, mut most) = (0, 0);
        // As if something had come.
        _ = s.w[1].bells.ring(0);
        let before = s.sent();
        while s.sent() - before < 2 * SERVERS as u64 {
            let already = s.sent();
            s.w[1].hal.kicks.clear();
            s.w[1].handle(Event::Kick);
            check(&s.w[1]).unwrap();
            most = most.max(s.sent() - already);
            if s.w[1].hal.kicks.contains(&1) {
                entries += 1;
                assert!(s.sent() > already, "an entry in which nothing is sent");
            } else {
                // What is left waits for room.
                [0, 2].iter().for_each(|&other| s.w[other].handle(Event::Kick));
            }
            assert!(entries < 20);
        }
        assert!((4..=AT_ONCE).contains(&most), "{most} packets in one entry");
        settle(&mut s.w);
        for (&server, clients) in s.servers.iter().zip(&s.clients) {
            let [answered, next] = *clients;
            assert_eq!(outcome(&s.w[0], answered.1).1.label(), 9);
            assert_eq!(outcome(&s.w[1], server).0, next.1);
        }
        s.w.iter().for_each(|k| check(k).unwrap());
    }
}

/// Who waits for one cluster, and is let go on while the queue of another one is looked at, is sent soon.
#[test]
fn who_joins_another_queue_meanwhile_is_not_forgotten() {
    let mut s = servers(2);
    s.w[1].peers[0].limit = 0;
    ipc(&mut s.w[1], s.servers[0], Ipc::reply_wait(s.clients[0][0].1, 9, &[]));
    s.w[1].peers[0].limit = SLOTS;
    s.w[1].hal.kicks.clear();
    s.w[1].pump(0);
    assert_eq!(state(&s.w[1], s.servers[0]), State::AwaitingCredit);
    assert!(s.w[1].hal.kicks.contains(&1) && s.w[1].bells.rings(2));
    s.w[1].handle(Event::Kick);
    assert_eq!(state(&s.w[1], s.servers[0]), State::Pulling);
    settle(&mut s.w);
    assert_eq!(outcome(&s.w[1], s.servers[0]).0, s.clients[0][1].1);
}
