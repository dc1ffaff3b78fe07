//! Spaces and threads for the loops, made with the raw system calls, and the pager of them all: the main thread.

use core::fmt;

use skerry_abi::boot::{BootInfo, Range};
use skerry_abi::fpage::PAGE_BITS;
use skerry_abi::id::domain;
use skerry_abi::layout::{PROGRAM_BASE, UTCB_BASE};
use skerry_abi::message::kernel_label;
use skerry_abi::{CpuId, Error, Fpage, MapItem, Rights, SpaceId, ThreadId, Timeout};
use skerry_rt::{Message, ipc, start, sys, utcb};

use super::loops::{DONE, Loop};
use super::shared::{self, Params};

/// log2 of a block.
pub(crate) const BLOCK_BITS: u32 = 21;
/// Blocks of [`Frames::groups`]: 128 times 64 KiB.
pub(crate) const GROUP_BLOCKS: u64 = 4;
/// Where regions begin.
const FIRST_REGION: u64 = 0x10_0000_0000;
/// Priority of the measured threads. The main thread is more urgent: it sleeps while they run.
const PRIORITY: u8 = 100;
/// Priority of servers and pagers: they wait already when the first message comes.
const SERVER_PRIORITY: u8 = 110;

/// Why the program cannot go on.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A system call failed.
    Call(&'static str, Error),
    /// A loop got answers that are not what they have to be.
    Wrong(&'static str, u64),
    /// A thread did something that it must not.
    Message(ThreadId, u32, [u64; 4]),
    /// The cluster's pool is too small.
    NoRoom,
    /// There is only one cluster.
    Alone,
    /// The cluster has too few CPUs.
    FewCpus,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(what, error) => write!(f, "{what}: {error}"),
            Self::Wrong(what, count) => write!(f, "{what}: {count} answers were wrong"),
            Self::Message(from, label, words) => {
                write!(f, "unexpected message {label:#x} of {from:?}: {words:x?}")
            }
            Self::NoRoom => f.write_str("no 16 MiB of contiguous free memory on the cluster's node"),
            Self::FewCpus => f.write_str("the case needs a cluster of several CPUs: see bench smp"),
            Self::Alone => f.write_str("the case needs two clusters: boot a machine with two nodes"),
        }
    }
}

/// Names the call that failed.
pub(crate) fn failed(what: &'static str) -> impl Fn(Error) -> Trouble {
    move |error| Trouble::Call(what, error)
}

/// A space, and how many of its UTCB slots are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    pub(crate) id: SpaceId,
    pub(crate) slots: u16,
}

/// Frames that belong to no kernel and no program, mapped here at their own address: some to be handed on page by page, and some
/// as blocks, of which some for what is mapped on as 64 KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    pub(crate) pages: Range,
    pub(crate) blocks: Range,
    pub(crate) groups: Range,
}

impl Frames {
    fn find(boot: &BootInfo, cluster: u16) -> Option<Self> {
        let block = 1 << BLOCK_BITS;
        let base = boot.pools().iter().filter(|pool| pool.cluster == cluster).find_map(|pool| {
            let base = pool.range.base.next_multiple_of(block);
            (base + 8 * block <= pool.range.end()).then_some(base)
        })?;
        let blocks = Range { base: base + 2 * block, size: 2 * block };
        let groups = Range { base: base + 4 * block, size: GROUP_BLOCKS * block };
        Some(Self { pages: Range { base, size: 2 * block }, blocks, groups })
    }
}

/// Everything the cases work with.
pub(crate) struct World {
    pub(crate) me: ThreadId,
    pub(crate) cpu: CpuId,
    pub(crate) frames: Frames,
    pub(crate) clusters: u32,
    /// The first CPU of cluster 1, if there is one.
    pub(crate) first_cpu_of_next: CpuId,
    next_domain: u32,
    next_block: usize,
    next_region: u64,
}

impl World {
    /// For the main thread of a cluster.
    pub(crate) fn new(boot: &BootInfo, cluster: u16) -> Result<Self, Trouble> {
        Ok(Self {
            me: utcb::my_id(),
            cpu: utcb::cpu(),
            frames: Frames::find(boot, cluster).ok_or(Trouble::NoRoom)?,
            clusters: boot.cluster_count,
            first_cpu_of_next: boot.clusters().get(1).map_or(0, |cluster| cluster.first_cpu),
            next_domain: domain::FIRST_TASK,
            next_block: 0,
            next_region: FIRST_REGION,
        })
    }

    /// A block of parameters.
    pub(crate) fn params(&mut self, params: Params) -> u64 {
        self.next_block += 1;
        shared::set(self.next_block, params, self.me)
    }

    /// 2 MiB of addresses at which no space has anything.
    pub(crate) fn region(&mut self) -> u64 {
        self.regions(1)
    }

    fn regions(&mut self, blocks: u64) -> u64 {
        let region = self.next_region;
        self.next_region += blocks << BLOCK_BITS;
        region
    }

    /// Addresses for [`Frames::groups`], at which a space has nothing but the tables for it.
    pub(crate) fn region_for_groups(&mut self, space: &mut Space) -> Result<u64, Trouble> {
        let region = self.regions(GROUP_BLOCKS);
        self.touch(space, region, GROUP_BLOCKS as usize, 1 << BLOCK_BITS)?;
        let spare = Fpage::new(self.frames.pages.base, PAGE_BITS, Rights::RWX);
        sys::unmap(&mut [spare.unwrap_or(Fpage::NIL)], false).map_err(failed("unmapping a page"))?;
        Ok(region)
    }

    /// A new space of a domain of its own, without privileges, that has code and shared memory mapped.
    pub(crate) fn space(&mut self) -> Result<Space, Trouble> {
        self.next_domain += 1;
        self.space_of(self.next_domain)
    }

    /// The same, of the domain of threads that move: they stay in it.
    pub(crate) fn space_for_movers(&mut self) -> Result<Space, Trouble> {
        self.space_of(domain::FIRST_TASK)
    }

    fn space_of(&mut self, domain: u32) -> Result<Space, Trouble> {
        let id = sys::space_create(domain, false).map_err(failed("creating a space"))?;
        let mut space = Space { id, slots: 0 };
        let (base, pages) = shared::pages();
        self.touch(&mut space, base, pages as usize, 1 << PAGE_BITS)?;
        Ok(space)
    }

    /// Lets a space have `count` places, `step` bytes apart.
    pub(crate) fn touch(
        &mut self,
        space: &mut Space,
        base: u64,
        count: usize,
        step: u64,
    ) -> Result<(), Trouble> {
        let params = Params { address: base, count, step, ..Params::default() };
        self.run("touching memory", space, Loop::Touch, params)
    }

    fn create(&mut self, space: &mut Space, pager: ThreadId, priority: u8) -> Result<ThreadId, Trouble> {
        self.create_on(self.cpu, space, pager, priority)
    }

    fn create_on(
        &mut self,
        cpu: CpuId,
        space: &mut Space,
        pager: ThreadId,
        priority: u8,
    ) -> Result<ThreadId, Trouble> {
        let slot = space.slots;
        space.slots += 1;
        sys::thread_create(space.id, cpu, pager, self.me, slot, priority).map_err(failed("creating a thread"))
    }

    fn start(&mut self, thread: ThreadId, what: Loop, params: Params) -> Result<(), Trouble> {
        let block = self.params(params);
        sys::thread_start(thread, what.entry(), 0, block).map_err(failed("starting a thread"))
    }

    /// Runs a loop in a thread of its own to its end.
    pub(crate) fn run(
        &mut self,
        case: &'static str,
        space: &mut Space,
        what: Loop,
        params: Params,
    ) -> Result<(), Trouble> {
        let thread = self.create(space, self.me, PRIORITY)?;
        self.start(thread, what, params)?;
        self.pager_until_done(case, thread)
    }

    /// Runs a loop whose page faults another thread answers. Its space must have the loops and the shared memory.
    pub(crate) fn run_paged(
        &mut self,
        case: &'static str,
        space: &mut Space,
        pager: ThreadId,
        what: Loop,
        params: Params,
    ) -> Result<(), Trouble> {
        let thread = self.create(space, pager, PRIORITY)?;
        sys::grant_partner(space.id, self.me).map_err(failed("granting a partner"))?;
        self.start(thread, what, params)?;
        self.pager_until_done(case, thread)
    }

    /// Starts a loop and does not wait for it.
    pub(crate) fn start_alone(
        &mut self,
        space: &mut Space,
        what: Loop,
        params: Params,
    ) -> Result<ThreadId, Trouble> {
        let thread = self.create(space, self.me, PRIORITY)?;
        self.start(thread, what, params)?;
        Ok(thread)
    }

    /// Waits for a message of `thread`, and gives its first two words.
    pub(crate) fn expect(&mut self, thread: ThreadId, label: u32) -> Result<[u64; 2], Trouble> {
        let mut message = Message::new();
        let from =
            ipc::receive(thread, &mut message, Timeout::NEVER).map_err(failed("waiting for a thread"))?;
        let mut words = [0; 4];
        words.iter_mut().zip(message.words()).for_each(|(to, from)| *to = *from);
        match message.tag.label() {
            found if found == label => Ok([words[0], words[1]]),
            other => Err(Trouble::Message(from.thread, other, words)),
        }
    }

    /// The other CPUs of this cluster.
    pub(crate) fn other_cpus(&self) -> impl Iterator<Item = CpuId> + use<> {
        let me = self.cpu;
        let boot = start::boot_info();
        let cluster = boot.cpus().get(usize::from(me)).map(|cpu| cpu.cluster);
        let of_cluster = (0..).zip(boot.cpus()).filter(move |(_, cpu)| Some(cpu.cluster) == cluster);
        of_cluster.map(|(cpu, _)| cpu).filter(move |&cpu| cpu != me)
    }

    /// Starts a loop that waits for messages.
    pub(crate) fn serve(
        &mut self,
        space: &mut Space,
        what: Loop,
        params: Params,
    ) -> Result<ThreadId, Trouble> {
        self.serve_on(self.cpu, space, what, params)
    }

    /// The same on another CPU.
    pub(crate) fn serve_on(
        &mut self,
        cpu: CpuId,
        space: &mut Space,
        what: Loop,
        params: Params,
    ) -> Result<ThreadId, Trouble> {
        let thread = self.create_on(cpu, space, self.me, SERVER_PRIORITY)?;
        self.start(thread, what, params)?;
        Ok(thread)
    }

    /// Answers page faults until `thread` says that it is done.
    fn pager_until_done(&mut self, case: &'static str, thread: ThreadId) -> Result<(), Trouble> {
        let mut message = Message::new();
        let mut to = ThreadId::NIL;
        loop {
            let from = ipc::reply_wait(to, &mut message).map_err(|f| Trouble::Call("answering", f.error))?;
            let item = match (message.tag.label(), message.words()) {
                (DONE, &[0, ..]) if from.thread == thread => return Ok(()),
                (DONE, &[wrong, ..]) => return Err(Trouble::Wrong(case, wrong)),
                (kernel_label::PAGE_FAULT, &[address, ..]) => self.item(address),
                _ => None,
            };
            let Some(item) = item else {
                let mut words = [0; 4];
                words.iter_mut().zip(message.words()).for_each(|(to, from)| *to = *from);
                return Err(Trouble::Message(from.thread, message.tag.label(), words));
            };
            message.set_item(0, item);
            to = from.thread;
        }
    }

    /// What a space that touched `address` gets: the same address of this space; in a region, a page that is taken back soon.
    pub(crate) fn item(&self, address: u64) -> Option<MapItem> {
        let program = Range { base: PROGRAM_BASE, size: UTCB_BASE - PROGRAM_BASE };
        let region = Range { base: FIRST_REGION, size: self.next_region - FIRST_REGION };
        let bits = match address {
            a if region.contains(a) => {
                let fpage = Fpage::new(self.frames.pages.base, PAGE_BITS, Rights::RW)?;
                return Some(MapItem { fpage, dest: a & !((1 << PAGE_BITS) - 1) });
            }
            a if program.contains(a) || self.frames.pages.contains(a) => PAGE_BITS,
            a if self.frames.blocks.contains(a) || self.frames.groups.contains(a) => BLOCK_BITS,
            _ => return None,
        };
        let base = address & !((1 << bits) - 1);
        Some(MapItem { fpage: Fpage::new(base, bits, Rights::RWX)?, dest: base })
    }
}

/// Lets the threads that are ready run until all of them wait.
pub(crate) fn settle() {
    let mut message = Message::new();
    // Nobody sends: the time-out ends it, and by then they have waited for long.
    let until = Timeout(sys::counter_time() + 10_000);
    let _ = ipc::receive(utcb::my_id(), &mut message, until);
}
