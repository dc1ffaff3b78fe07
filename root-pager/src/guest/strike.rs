//! Carrying out [`root_pager::strike`]: a root worker that serves as the others do, but not only.

use root_pager::strike::{Strike, Victim, parse};
use skerry_abi::{ThreadId, Timeout};
use skerry_ipc::{Message, Sender};
use skerry_rt::ipc::{receive, reply};
use skerry_rt::{println, start, sys};

use super::launch::{self, Threads};
use super::worker::answer;

/// Steps of the counter in a microsecond, about.
const TICKS: u64 = 62;
/// An address where no program has anything.
const NOWHERE: u64 = 0x7f_dead_0000;

/// Serves for ever if there is nothing to strike here, else until it has been done.
pub(super) fn serve_until_struck(cluster: u16) {
    let Some(strikes) = parse(start::boot_info().option("crash")) else { return };
    for Strike { microseconds, victim, .. } in strikes.filter(|strike| strike.cluster == cluster) {
        let until = Timeout(sys::counter_time() + microseconds * TICKS);
        let mut message = Message::new();
        while let Ok(from) = receive(ThreadId::ANY, &mut message, until) {
            one(from, &mut message);
        }
        strike(cluster, victim);
    }
}

fn one(from: Sender, message: &mut Message) {
    if answer(from, message) {
        // Who is gone needs no answer.
        let _ = reply(from.thread, message);
    }
}

fn strike(cluster: u16, victim: Victim) {
    let Threads { pager, worker, unmapper } = launch::threads();
    let thread = match victim {
        Victim::Pager => pager,
        Victim::Worker => worker,
        Victim::Unmapper => unmapper,
    };
    let new = sys::Exchange { ip: Some(NOWHERE), cancel: true, ..Default::default() };
    match sys::thread_exchange(thread, new) {
        Ok(was) => {
            println!("crash: the {victim:?} of cluster {cluster} was at {:#x}, state {}", was.ip, was.state)
        }
        Err(error) => println!("crash: the {victim:?} of cluster {cluster}: {error}"),
    }
}
