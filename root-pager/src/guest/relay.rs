//! Passing on what app pagers have told: see [`skerry_ipc::relay`].

use skerry_abi::id::domain;
use skerry_abi::{Error, ThreadId};
use skerry_ipc::relay::{self, Clusters};
use skerry_ipc::{Answer, Message, Outcome, Sender};
use skerry_rt::info;
use skerry_rt::ipc::pause;
use skerry_rt::sys;

use super::launch;

static COUNTERS: relay::Counters = relay::Counters::new();
/// How long who finds no room on the way to another cluster waits before it tries again: 16 microseconds.
const PAUSE_TICKS: u64 = 1000;

struct Relay;

/// Answers a request. Returns whether `message` holds the answer.
pub(super) fn answer(from: Sender, message: &mut Message) -> bool {
    relay::dispatch(&mut Relay, from, message, &COUNTERS) == Outcome::Reply
}

/// Tells this cluster's unmap worker.
pub(super) fn pass_on(bits: u64) {
    notify(launch::threads().unmapper, bits);
}

/// Who is gone need not be told.
fn notify(thread: ThreadId, bits: u64) {
    while sys::notify(thread, bits) == Err(Error::Timeout) {
        pause(PAUSE_TICKS);
    }
}

impl relay::Server for Relay {
    fn tell(&mut self, from: Sender, bits: u64, clusters: Clusters) -> Answer<()> {
        if from.domain != domain::APP_PAGER {
            return Err(Error::Refused.into());
        }
        let own = info::header().cluster as u16;
        for cluster in relay::members(&clusters) {
            match cluster == own {
                true => pass_on(bits),
                false => notify(ThreadId::root(cluster), bits),
            }
        }
        Ok(())
    }
}
