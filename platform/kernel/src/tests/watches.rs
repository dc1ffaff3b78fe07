//! Receives from one thread of another cluster: when its cluster forgets them, and when it must not.

use super::cancel::{crowd, delete, pair, time_is, until};
use super::remote::assert_quiet;
use super::world::*;
use crate::guests::Stay;
use crate::kernel::Event;
use crate::remote::Ending;
use crate::ring::SLOTS;
use crate::thread::State;
use skerry_abi::{Error, ThreadId, Timeout};

/// Whoever receives from one thread only has found its message waiting; the sender gives up before it is asked for it.
#[test]
fn a_watch_ends_with_the_request_for_a_message_that_is_gone() {
    let (mut w, client, server) = pair();
    ipc(&mut w[1], server, Ipc::receive(client));
    ipc(&mut w[0], client, until(50, Timeout::NEVER, Ipc::call(server, 1, &[7])));
    for k in [1, 0, 1] {
        w[k].handle(Event::Kick);
    }
    assert_eq!(state(&w[1], server), State::Pulling);
    time_is(&mut w, 50);
    assert_eq!(outcome(&w[0], client).1.error(), Some(Error::Timeout));
    // It watches again, and once.
    assert_eq!((state(&w[1], server), w[0].guests.used()), (State::AwaitingResponse, 1));
    ipc(&mut w[0], client, Ipc::send(server, 1, &[8]));
    settle(&mut w);
    assert_eq!(outcome(&w[1], server).2, [8]);
    assert_quiet(&w);
}

/// The word that a call was delivered, which its caller had wanted to end, is not about what the server does since then.
#[test]
fn a_late_cancel_does_not_end_the_watch_of_whoever_took_the_call() {
    let (mut w, client, server) = pair();
    ipc(&mut w[1], server, Ipc::receive(ThreadId::ANY));
    ipc(&mut w[0], client, until(50, Timeout(90), Ipc::call(server, 1, &[7])));
    w[1].handle(Event::Kick);
    w[0].hal.now = 50;
    w[0].handle(Event::Tick);
    // Instead of an answer.
    ipc(&mut w[1], server, Ipc::receive(client));
    settle(&mut w);
    assert_eq!(
        (state(&w[0], client), state(&w[1], server)),
        (State::AwaitingResponse, State::AwaitingResponse)
    );
    delete(&mut w[0], client);
    settle(&mut w);
    assert_eq!(outcome(&w[1], server).1.error(), Some(Error::Cancelled));
    assert_quiet(&w);
}

/// Whoever receives from one thread only has found its message, and ends before there was room to ask for it.
#[test]
fn a_watch_does_not_outlive_a_request_that_was_not_sent() {
    for deleted in [false, true] {
        let (mut w, client, server) = pair();
        ipc(&mut w[0], client, Ipc::receive(server));
        ipc(&mut w[1], server, Ipc::send(client, 1, &[7]));
        w[0].handle(Event::Kick);
        // Others have the ring to themselves, and more of them wait.
        crowd(&mut w, 2 * SLOTS as u16, |_| Ipc::send(ThreadId::root(1), 1, &[]));
        while w[0].thread(w[0].find(client).unwrap()).state == State::AwaitingResponse {
            w[1].handle(Event::Kick);
            w[0].handle(Event::Kick);
        }
        assert_eq!(state(&w[0], client), State::AwaitingCredit);
        match deleted {
            true => delete(&mut w[0], client),
            false => {
                let t = w[0].find(client).unwrap();
                w[0].cancel_remote(t, Ending::Cancel);
            }
        }
        settle(&mut w);
        let watches = |guest: &&crate::guests::Guest| matches!(guest.stay, Stay::Watches(_));
        assert_eq!(w[1].guests.iter().filter(watches).count(), 0, "deleted {deleted}");
    }
}
