//! The cases: which node touches what.

use core::cell::Cell;
use core::fmt;

use pager_bench::SAMPLES;
use skerry_abi::Error;
use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::{Ahead, RegionKind, ThreadEnd};
use skerry_rt::{start, task};

use super::moving;
use super::touch::{self, GROUPS_PAGES, RUN};
use super::unmap::{self, BATCH};

/// Where the regions lie: each has a page table of its own.
const REGIONS: u64 = 0x10_0000_0000;
const STRIDE: u64 = 2 << 20;
/// Stacks, one per thread that ever runs.
const STACKS: u64 = 0x8_0000_0000;
const STACK_STRIDE: u64 = 1 << 20;
const STACK_BYTES: u64 = 16 << 10;

/// Nodes besides the first that the cases use.
const OTHERS: usize = 7;

/// Why a case could not be measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// The pager refused something.
    Pager(Error),
    /// A thread did not end well.
    Thread(ThreadEnd),
    /// There is no other node.
    OneNode,
    /// There is no such case.
    Unknown,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Pager(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pager(error) => error.fmt(f),
            Self::Thread(end) => write!(f, "a thread ended with {end:?}"),
            Self::OneNode => f.write_str("needs a second node with a CPU"),
            Self::Unknown => f.write_str("is in the table, but nobody measures it"),
        }
    }
}

/// The machine, and how much of the address space is used.
pub(super) struct Bench {
    /// CPUs of the master's node, where the task was started, and of the others.
    here: u16,
    others: [Option<u16>; OTHERS],
    regions: Cell<u64>,
    threads: Cell<u64>,
}

impl Bench {
    pub(super) fn new() -> Result<Self, Trouble> {
        let mut places = start::app().places();
        let (_, here) = places.next().ok_or(Trouble::OneNode)?;
        let others = core::array::from_fn(|_| places.next().map(|(_, cpu)| cpu));
        Ok(Self { here, others, regions: Cell::new(0), threads: Cell::new(0) })
    }

    /// What two looks at the counter cost by themselves.
    pub(super) fn empty(&self) -> Result<[u64; SAMPLES], Trouble> {
        self.thread(self.here, touch::nothing, 0)?;
        Ok(touch::samples())
    }

    pub(super) fn run(&self, case: &str) -> Result<[u64; SAMPLES], Trouble> {
        let there = || self.others[0].ok_or(Trouble::OneNode);
        match case {
            "fault.first-touch" => {
                self.thread(self.here, touch::measure, self.region(RegionKind::Global)?)?;
            }
            "fault.first-touch.ahead16" => self.ahead(Ahead::Sixteen)?,
            "fault.first-touch.ahead16.block" => self.ahead(Ahead::Block)?,
            "fault.first-touch.remote-master" | "fault.first-touch.remote-master.ipc" => {
                self.thread(there()?, touch::measure, self.region(RegionKind::Global)?)?;
            }
            "fault.install" => {
                let base = self.region(RegionKind::Global)?;
                self.thread(there()?, touch::prepare, base)?;
                self.thread(self.here, touch::measure, base)?;
            }
            "fault.install.remote-master" | "fault.install.ipc" => {
                let base = self.region(RegionKind::Global)?;
                self.thread(self.here, touch::prepare, base)?;
                self.thread(there()?, touch::measure, base)?;
            }
            "unmap.global.n2.ipc" => {
                let base = self.region(RegionKind::Global)?;
                let companion = self.spawn(there()?, touch::stay, 0)?;
                self.thread(self.here, touch::prepare, base)?;
                self.thread(there()?, unmap::measure, base)?;
                self.end(companion)?;
            }
            "fault.local" => {
                self.thread(self.here, touch::measure, self.region(RegionKind::Local)?)?;
            }
            "thread.migrate.active" => {
                let companion = self.spawn(there()?, touch::stay, 0)?;
                self.migrate(there()?)?;
                task::delete(companion)?;
                task::join(companion)?;
            }
            "thread.migrate.new" => self.migrate(there()?)?,
            "unmap.global.n1" => return self.unmap(1),
            "unmap.global.n2" | "unmap.global.n2.sequential" | "unmap.global.n2.root" => {
                return self.unmap(2);
            }
            "unmap.global.n4" => return self.unmap(4),
            "unmap.global.n8" | "unmap.global.n8.sequential" | "unmap.global.n8.root" => {
                return self.unmap(8);
            }
            "unmap.global.growth" => return self.growth(),
            "unmap.global.batch63" => {
                let base = self.region_of(RegionKind::Global, RUN as u64 * BATCH, 0)?;
                let companion = self.spawn(there()?, touch::stay, 0)?;
                self.thread(there()?, unmap::prepare_batches, base)?;
                self.thread(self.here, unmap::measure_batches, base)?;
                self.end(companion)?;
            }
            "page.migrate" => self.move_pages(1, moving::measure_one)?,
            "page.migrate.batch64" => self.move_pages(moving::BATCH, moving::measure_batch)?,
            _ => return Err(Trouble::Unknown),
        }
        Ok(touch::samples())
    }

    /// Faults that establish the pages of a group together.
    fn ahead(&self, ahead: Ahead) -> Result<(), Trouble> {
        let base = self.region_of(RegionKind::Global, GROUPS_PAGES, ahead as u64)?;
        self.thread(self.here, touch::measure_groups, base)
    }

    /// Pages that so many nodes have written to, taken away one by one.
    fn unmap(&self, sharers: usize) -> Result<[u64; SAMPLES], Trouble> {
        let base = self.region(RegionKind::Global)?;
        let mut companions = [0; OTHERS];
        for (other, companion) in self.others[..sharers - 1].iter().zip(&mut companions) {
            let cpu = other.ok_or(Trouble::OneNode)?;
            // As long as a thread is there the node keeps what it maps.
            *companion = self.spawn(cpu, touch::stay, 0)?;
            self.thread(cpu, touch::prepare, base)?;
        }
        self.thread(self.here, unmap::measure, base)?;
        let samples = touch::samples();
        companions[..sharers - 1].iter().try_for_each(|&companion| self.end(companion))?;
        Ok(samples)
    }

    /// Pages of this node that another one has read, moved there, so many for a sample.
    fn move_pages(&self, pages: u64, measure: task::Entry) -> Result<(), Trouble> {
        let cpu = self.others[0].ok_or(Trouble::OneNode)?;
        let node = start::app().places().find(|&(_, first)| first == cpu).map_or(0, |(node, _)| node);
        let base = self.region_of(RegionKind::Global, RUN as u64 * pages, 0)?;
        // As long as a thread is there the node keeps what it maps.
        let companion = self.spawn(cpu, touch::stay, 0)?;
        self.thread(self.here, moving::prepare, base | pages)?;
        self.thread(cpu, moving::prepare, base | pages)?;
        self.thread(self.here, measure, base | u64::from(node))?;
        self.end(companion)
    }

    fn end(&self, thread: u32) -> Result<(), Trouble> {
        task::delete(thread)?;
        task::join(thread)?;
        Ok(())
    }

    /// What every sharer after the second takes, of four and of eight in turn.
    fn growth(&self) -> Result<[u64; SAMPLES], Trouble> {
        let mut two = self.unmap(2)?;
        two.sort_unstable();
        let two = two[SAMPLES / 2];
        let (four, eight) = (self.unmap(4)?, self.unmap(8)?);
        let more = |count: u64, sharers: u64| count.saturating_sub(two).div_ceil(sharers);
        Ok(core::array::from_fn(|i| if i % 2 == 0 { more(four[i], 2) } else { more(eight[i], 6) }))
    }

    /// A region for the touches of one case, that nobody has touched.
    fn region(&self, kind: RegionKind) -> Result<u64, Trouble> {
        self.region_of(kind, RUN as u64, 0)
    }
    fn region_of(&self, kind: RegionKind, pages: u64, flags: u64) -> Result<u64, Trouble> {
        let base = REGIONS + self.regions.get() * STRIDE;
        self.regions.set(self.regions.get() + (pages * PAGE_SIZE).div_ceil(STRIDE));
        task::region(base, pages * PAGE_SIZE, kind, flags)?;
        Ok(base)
    }

    /// Has a thread moved to a CPU and back.
    fn migrate(&self, there: u16) -> Result<(), Trouble> {
        let moved = self.spawn(self.here, touch::stay, 0)?;
        self.thread(self.here, touch::mover, u64::from(there) << 32 | u64::from(moved))?;
        task::delete(moved)?;
        task::join(moved).map(drop)?;
        Ok(())
    }

    fn spawn(&self, cpu: u16, entry: task::Entry, argument: u64) -> Result<u32, Trouble> {
        self.threads.set(self.threads.get() + 1);
        let stack = task::stack(STACKS + self.threads.get() * STACK_STRIDE, STACK_BYTES)?;
        Ok(task::spawn(cpu, entry, stack, argument)?)
    }

    /// Runs a thread to its end.
    fn thread(&self, cpu: u16, entry: task::Entry, argument: u64) -> Result<(), Trouble> {
        match task::join(self.spawn(cpu, entry, argument)?)? {
            ThreadEnd::Exited(exit::PASS) => Ok(()),
            end => Err(Trouble::Thread(end)),
        }
    }
}
