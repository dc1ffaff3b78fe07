//! `root`: the directory of the app pagers and the end of the run, served by the root pager of cluster 0.

use skerry_abi::ThreadId;
use skerry_abi::syscall::exit;

use crate::{Chunk, level};

interface! {
    "root", id 2, level level::Root;
    /// An app pager is ready: faults of threads on `cpu` go to `pager`, requests of other pagers to `worker`.
    1 = Register register(cpu: u16, pager: ThreadId, worker: ThreadId) -> ();
    /// Answered when every CPU of the machine is registered.
    2 = AwaitPagers await_pagers() -> ();
    /// Pager thread and pager worker of a registered CPU.
    3 = Lookup lookup(cpu: u16) -> (ThreadId, ThreadId);
    /// Prints the verdict and ends the run with an exit code; never answered.
    4 = End end(code: u64, reason: Chunk) -> ();
    /// From an app pager's undertaker, which has done its part in all steps up to `done`: what is next, as [`Step`] in one word, and its
    /// number. Answered when there is something to do.
    5 = AwaitDeath await_death(cluster: u16, done: u64) -> (u64, u64);
    /// From a root pager: the app pager of its cluster is fenced, after its life number `incarnation`. Answered when all others have cleared
    /// up after it, and it may be started again.
    6 = Died died(cluster: u16, incarnation: u16) -> ();
    /// From an app pager's undertaker, in the middle of a step: the first cluster from this one on whose app pager is dead; `u16::MAX` if
    /// there is none. Nobody need wait for it.
    7 = Dead dead(from: u16) -> u16;
}

/// A step of the recovery from the death of an app pager. All living pagers do it, and none begins the next one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Stage {
    /// Nobody asks it for anything any more, or waits for it, or has something in hand that it was asked for.
    Forget = 1,
    /// The tasks are named that end with it.
    Doom = 2,
    /// Also those whose threads it had in hand.
    Settle = 3,
    /// Nobody is in the middle of something for the threads of these tasks.
    Quiet = 4,
    /// They end, and what they had is given back.
    End = 5,
    /// Pages of other tasks that it was changing are put back as they were.
    Mend = 6,
    /// Frames that it had in hand go back to their pools.
    Reclaim = 7,
    /// Its next life has begun.
    Welcome = 8,
}

impl Stage {
    /// All, in their order.
    pub const ALL: [Self; 8] = [
        Self::Forget,
        Self::Doom,
        Self::Settle,
        Self::Quiet,
        Self::End,
        Self::Mend,
        Self::Reclaim,
        Self::Welcome,
    ];
    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forget => "forget",
            Self::Doom => "doom",
            Self::Settle => "settle",
            Self::Quiet => "quiet",
            Self::End => "end",
            Self::Mend => "mend",
            Self::Reclaim => "reclaim",
            Self::Welcome => "welcome",
        }
    }
}

/// What an undertaker has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The cluster whose pager has died.
    pub cluster: u16,
    /// Which life of it that was.
    pub incarnation: u16,
    /// How far it has come.
    pub stage: Stage,
}

impl Step {
    /// In one word.
    pub const fn word(self) -> u64 {
        (self.incarnation as u64) << 32 | (self.cluster as u64) << 16 | self.stage as u64
    }
    /// The inverse of [`Step::word`].
    pub fn from_word(word: u64) -> Option<Self> {
        let stage = Stage::ALL.into_iter().find(|&stage| stage as u64 == word & 0xffff)?;
        Some(Self { cluster: (word >> 16) as u16, incarnation: (word >> 32) as u16, stage })
    }
}

/// The word for an exit code in the verdict line.
pub const fn verdict(code: u64) -> &'static str {
    match code {
        exit::PASS => "pass",
        exit::KERNEL_PANIC => "kernel-panic",
        exit::SERVER_FAULT => "server-fault",
        exit::APP_FAULT => "app-fault",
        exit::OUT_OF_MEMORY => "out-of-memory",
        exit::BAD_BOOT => "bad-boot",
        _ => "fail",
    }
}
