//! What the cases share: regions, threads on all CPUs, words of pages, failures.
#![expect(unsafe_code, reason = "regions of the task become slices")]

use core::fmt;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::Error;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{Changed, RegionKind, Revoked, ThreadEnd};
use skerry_rt::{start, task};

/// Where the pages of the cases lie.
pub(super) const PAGES: u64 = 0x10_0000_0000;
const STACKS: u64 = 0x8_0000_0000;
const STACK_STRIDE: u64 = 1 << 20;
const STACK_BYTES: u64 = 16 << 10;
/// Words of a page.
pub(super) const PAGE_WORDS: usize = PAGE_SIZE as usize / 8;

/// Why a case failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failure {
    /// The pager refused something.
    Pager(Error),
    /// It said something else than expected.
    Told(&'static str, Revoked),
    /// Likewise.
    Changed(&'static str, Changed),
    /// A thread saw what must not be, or ended in a wrong way.
    Thread(u32, ThreadEnd),
    /// Anything else.
    Seen(&'static str),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Pager(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pager(error) => error.fmt(f),
            Self::Told(what, told) => write!(f, "{what}: {told:x?}"),
            Self::Changed(what, told) => write!(f, "{what}: {told:x?}"),
            Self::Thread(number, end) => write!(f, "thread {number} ended with {end:?}"),
            Self::Seen(what) => f.write_str(what),
        }
    }
}

/// Fails unless `holds`.
pub(super) fn ensure(holds: bool, what: &'static str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::Seen(what)) }
}
/// Fails unless the pager said just that.
pub(super) fn told(what: &'static str, told: Revoked, expected: Revoked) -> Result<(), Failure> {
    if told == expected { Ok(()) } else { Err(Failure::Told(what, told)) }
}
/// The same for changes.
pub(super) fn changed(what: &'static str, told: Changed, expected: Changed) -> Result<(), Failure> {
    if told == expected { Ok(()) } else { Err(Failure::Changed(what, told)) }
}

/// A region of so many pages.
pub(super) fn region(base: u64, pages: u64, kind: RegionKind) -> Result<(), Failure> {
    Ok(task::region(base, pages * PAGE_SIZE, kind, 0)?)
}
/// The words of a page.
pub(super) fn page(base: u64, index: usize) -> &'static [AtomicU64] {
    let address = base + index as u64 * PAGE_SIZE;
    // SAFETY: a page of a region of this program, used as atomics only; the pager may replace its frame by a cleared one at any time,
    // which for atomics is a store by somebody else.
    unsafe { slice::from_raw_parts(core::ptr::with_exposed_provenance(address as usize), PAGE_WORDS) }
}

/// CPUs of the machine.
pub(super) fn cpus() -> u64 {
    start::app().cpu_count
}

/// The nodes that have CPUs, in turn.
pub(super) fn node(turn: u64) -> u16 {
    let count = start::app().places().count().max(1) as u64;
    start::app().places().nth((turn % count) as usize).map_or(0, |(node, _)| node)
}

/// Threads that ran.
static THREADS: AtomicU64 = AtomicU64::new(0);

/// Starts a thread.
pub(super) fn spawn(cpu: u64, entry: task::Entry, argument: u64) -> Result<u32, Failure> {
    let index = THREADS.fetch_add(1, Ordering::Relaxed) + 1;
    let stack = task::stack(STACKS + index * STACK_STRIDE, STACK_BYTES)?;
    Ok(task::spawn(cpu as u16, entry, stack, argument)?)
}
/// Waits for the end of a thread, which has to be a good one.
pub(super) fn join(number: u32) -> Result<(), Failure> {
    match task::join(number)? {
        ThreadEnd::Exited(exit::PASS) => Ok(()),
        end => Err(Failure::Thread(number, end)),
    }
}
/// A thread on every CPU, `each` times; returns when all have ended. They get numbers from 0 on.
pub(super) fn everywhere(each: u64, entry: task::Entry) -> Result<(), Failure> {
    let mut threads = [0; 64];
    let count = (cpus() * each).min(threads.len() as u64);
    for (index, number) in (0..count).zip(&mut threads) {
        *number = spawn(index % cpus(), entry, index)?;
    }
    threads[..count as usize].iter().try_for_each(|&number| join(number))
}

/// Pseudo-random numbers (xorshift).
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }
}
