//! The short way through IPC and page faults, for the cases that nearly every kernel entry is.
//!
//! A call to a server that waits, a reply to a caller that waits, a page fault to a pager that waits: sender and receiver on the
//! same CPU, nothing queued, no items, no finite timeouts. Then nothing has to be queued, the scheduler has nothing to decide,
//! and the message stays in the registers. A receiver on another CPU of the cluster gets its message the same way, and both CPUs'
//! schedulers do the rest. Each function here first checks everything and changes nothing; if a case is not the
//! simple one it returns `None`, and the general code ([`crate::ipc`]) starts from the beginning. What they do is what the general
//! code does, which the tests check by running both side by side on the same machine.
//!
//! The idea is as old as L4 (Liedtke, "Improving IPC by kernel design", SOSP 1993); the account of the instructions is in
//! `docs/kernel-ledger.md`, which books instructions on the parts that comments `// part:` name.

use crate::counters::Block;
use crate::hal::Hal;
use crate::kernel::{Kernel, UTCB_MR0};
use crate::runqueue::RunQueue;
use crate::shootdown::CpuSet;
use crate::space::Space;
use crate::syscall::status_word;
use crate::thread::{Kind, Operation, State, Tcb};
use core::ptr::null_mut;
use skerry_abi::fpage::PAGE_BITS;
use skerry_abi::item::Guard;
use skerry_abi::message::{MAX_WORDS, REGISTER_WORDS};
use skerry_abi::{Counter, Fpage, Item, Rights, SpaceId, Tag, ThreadId, Timeout};
use skerry_checks::{Check, passes};
use skerry_mapping_db::{Pairs, Tlb, pages};

/// Where the fast path in assembly finds what it needs. Rust code never follows these pointers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FastPath {
    /// The thread slots.
    pub threads: *mut Tcb,
    /// How many; 0 turns the assembly off.
    pub thread_count: usize,
    /// The CPU's run queue.
    pub queue: *mut RunQueue,
    /// The CPU's counters.
    pub counters: *mut u64,
}

impl FastPath {
    /// No fast path in assembly.
    pub const OFF: Self =
        Self { threads: null_mut(), thread_count: 0, queue: null_mut(), counters: null_mut() };
}

/// Labels from here on are the kernel's own, or special in answers to it.
const FIRST_SPECIAL_LABEL: u64 = 0xffff_0000;

impl<H: Hal> Kernel<'_, H> {
    /// What the assembly needs to do this for `cpu`, the only one of its cluster.
    pub fn fast_path(&mut self, cpu: usize) -> FastPath {
        FastPath {
            threads: self.threads.as_mut_ptr(),
            thread_count: self.threads.len(),
            queue: &raw mut self.cpus[cpu],
            counters: self.counters.block(self.cpus[cpu].local).address(),
        }
    }

    /// A call, or a reply followed by an open receive, of the thread that runs on `cpu`, this one.
    ///
    /// On success the message is delivered, the CPU's current thread is the receiver, and both are returned: sender, receiver.
    pub fn fast_ipc(&mut self, cpu: usize) -> Option<(&mut Tcb, &mut Tcb)> {
        self.pass_message::<true>(cpu)
    }

    /// The same if the receiver is on another CPU. On success it is ready there, and its CPU knows; the sender waits, and the scheduler has
    /// to name who runs here.
    #[inline(never)]
    pub fn fast_elsewhere(&mut self, cpu: usize) -> bool {
        // What the scheduler does next is as short as this, then: no chores, no visitors.
        let calm = self.cpus.get(cpu).is_some_and(|queue| queue.is_calm() && self.is_quiet(queue));
        if !passes(Check::FastElsewhereCalm, calm) {
            return false;
        }
        let Some((_, to)) = self.pass_message::<false>(cpu) else { return false };
        let partner = to.id.slot();
        self.make_ready(partner.into());
        true
    }

    #[inline(always)]
    fn pass_message<const HERE: bool>(&mut self, cpu: usize) -> Option<(&mut Tcb, &mut Tcb)> {
        let queue = self.cpus.get_mut(cpu)?;
        let current = queue.current()?;
        let x = &self.threads.get(current as usize)?.context.x;
        let (dest, from, tag) = (ThreadId(x[0]), ThreadId(x[1]), Tag(x[2]));
        let (receive_timeout, window) = (Timeout(x[12]), x[13]);
        let partner = u32::from(dest.slot());
        let [me, to] = self.threads.get_disjoint_mut([current as usize, partner as usize]).ok()?;
        let words = tag.0 & 0xfff;
        // The partner is the thread that is meant and waits for this sender: here, and nobody else is to run next, or on another CPU.
        let waits = passes(Check::FastIdentity, to.id == dest)
            && passes(Check::FastReady, to.open_to.is_any() || to.open_to == me.id);
        let urgent = match HERE {
            true => passes(Check::FastStanding, to.standing().wrapping_sub(queue.floor) < 256),
            false => to.cpu != me.cpu && passes(Check::FastElsewhere, to.is_just_receiving()),
        };
        // Plain words only, and a label that is not the kernel's affair.
        let plain = passes(Check::FastPlain, words <= MAX_WORDS as u64)
            && passes(Check::FastLabel, u64::from(tag.label()) < FIRST_SPECIAL_LABEL);
        // This CPU's TLB may hold nothing outdated of the space that is to run on it.
        let fresh = !HERE || self.spaces[usize::from(to.space)].ran_on.contains(CpuSet::of(queue.local));
        if !(waits && urgent && plain && passes(Check::FastTlb, fresh)) {
            return None;
        }
        // Own receive phase: closed to the partner, which does not send now, or open, with nobody waiting.
        let is_call = from == dest;
        let is_server = from.is_any()
            && passes(Check::FastQueue, me.senders.is_empty())
            && passes(Check::FastNotified, me.notified == 0);
        let unhurried = receive_timeout == Timeout::NEVER && window == 0;
        if !((is_call || is_server) && unhurried) {
            return None;
        }
        let known = to.id == me.pager || to.id == me.granted;
        let permitted = to.domain == me.domain || to.reply_space == me.space_id || known;
        if !passes(Check::FastPermission, permitted) {
            return None;
        }
        if words > REGISTER_WORDS as u64 {
            let more = UTCB_MR0 + 1 + REGISTER_WORDS..UTCB_MR0 + 1 + words as usize;
            let sent = me.utcb(self.utcbs).get(more.clone())?;
            self.hal.copy_words(sent, to.utcb(self.utcbs).get(more)?);
        }
        (to.context.x[0], to.context.x[1], to.context.x[2]) = (me.id.0, me.domain, tag.sanitized().0);
        // One by one: a slice would be a call of `memcpy`, which takes three times as long.
        let [_, _, _, a, b, c, d, e, f, g, h, ..] = me.context.x;
        let x = &mut to.context.x;
        (x[3], x[4], x[5], x[6], x[7], x[8], x[9], x[10]) = (a, b, c, d, e, f, g, h);
        to.context.x[11..19].fill(0);
        self.counters.count(Counter::Ipcs);
        (me.op.kind, me.op.dest, me.op.from) = (Kind::Ipc, dest, from);
        (me.op.receive_timeout, me.op.window) = (Timeout::NEVER, Fpage::NIL);
        me.reply_space = if is_call { to.space_id } else { SpaceId::NIL };
        (me.state, me.open_to, me.deadline) = (State::Receiving, from, u64::MAX);
        (to.state, to.open_to, to.reply_space) = (State::Ready, ThreadId::NIL, SpaceId::NIL);
        if HERE {
            queue.switch_to(partner);
        }
        Some((me, to))
    }

    /// A page fault of the thread that runs on `cpu`, this one, to its pager. On success the CPU's current thread is the pager, and both
    /// are returned: sender, receiver.
    pub fn fast_fault(
        &mut self,
        cpu: usize,
        address: u64,
        access: Rights,
        esr: u64,
    ) -> Option<(&mut Tcb, &mut Tcb)> {
        // part: lookup
        let queue = self.cpus.get_mut(cpu)?;
        let current = queue.current()?;
        let me = self.threads.get(current as usize)?;
        let partner = u32::from(me.pager.slot());
        // part: walk
        // Mapped meanwhile, or not with these rights: the general code looks into it.
        if self.db.is_mapped(me.space, address) {
            return None;
        }
        // part: lookup
        let [me, to] = self.threads.get_disjoint_mut([current as usize, partner as usize]).ok()?;
        // part: partner waits
        let waits = passes(Check::FastPagerIdentity, to.id == me.pager)
            && passes(Check::FastPagerReady, to.open_to.is_any() || to.open_to == me.id);
        // part: priority
        let urgent = passes(Check::FastPagerStanding, to.standing().wrapping_sub(queue.floor) < 256);
        let fresh = self.spaces[usize::from(to.space)].ran_on.contains(CpuSet::of(queue.local));
        if !(waits && urgent && passes(Check::FastPagerTlb, fresh)) {
            return None;
        }
        // part: count
        self.counters.count(Counter::Faults);
        self.counters.count(Counter::Ipcs);
        // part: bookkeeping
        me.op = Operation::kernel_call(Kind::Fault { address, access, esr }, to.id);
        (me.state, me.open_to, me.deadline) = (State::Receiving, ThreadId::NIL, u64::MAX);
        me.reply_space = to.space_id;
        // part: message
        (to.context.x[0], to.context.x[1], to.context.x[2]) = (me.id.0, me.domain, me.tag().0);
        (to.context.x[3], to.context.x[4], to.context.x[5]) = (address, access.bits(), me.context.pc);
        to.context.x[6..19].fill(0);
        // part: bookkeeping
        (to.state, to.open_to, to.reply_space) = (State::Ready, ThreadId::NIL, SpaceId::NIL);
        queue.switch_to(partner);
        Some((me, to))
    }

    /// The answer of the thread that runs on `cpu`, this one, to a page fault: one page (or 64 KiB) to map, guarded or not, and an open receive.
    /// Returns the same as [`Kernel::fast_fault`].
    pub fn fast_answer(&mut self, cpu: usize) -> Option<(&mut Tcb, &mut Tcb)> {
        let queue = self.cpus.get_mut(cpu)?;
        let current = queue.current()?;
        let x = &self.threads.get(current as usize)?.context.x;
        let (dest, tag) = (ThreadId(x[0]), Tag(x[2]));
        let (page, at, guard) = (x[3], x[4], Guard { address: x[5], expected: x[6] });
        let partner = u32::from(dest.slot());
        let guarded = tag.0 & 0xfff == Tag::new(0, 0, 4).0;
        let one_item = passes(Check::FastAnswerItem, guarded || tag.0 & 0xfff == Tag::new(0, 0, 2).0)
            && passes(Check::FastAnswerLabel, u64::from(tag.label()) < FIRST_SPECIAL_LABEL);
        let waits = ThreadId(x[1]).is_any() && Timeout(x[12]) == Timeout::NEVER && x[13] == 0;
        if !(one_item && waits) {
            return None;
        }
        // (An item without the flag gets it here, and a destination that is no page is refused.)
        let at = if guarded { at ^ Item::GUARDED } else { at };
        // part: lookup
        let [me, to] = self.threads.get_disjoint_mut([current as usize, partner as usize]).ok()?;
        let owed = passes(Check::FastAnswerIdentity, to.id == dest)
            && passes(Check::FastAnswerRight, to.reply_space == me.space_id)
            && passes(Check::FastAnswerFault, matches!(to.op.kind, Kind::Fault { .. }));
        let urgent = passes(Check::FastAnswerStanding, to.standing().wrapping_sub(queue.floor) < 256);
        let fresh = self.spaces[usize::from(to.space)].ran_on.contains(CpuSet::of(queue.local));
        let fresh = passes(Check::FastAnswerTlb, fresh);
        let alone = passes(Check::FastAnswerQueue, me.senders.is_empty())
            && passes(Check::FastAnswerNotified, me.notified == 0);
        if !(owed && urgent && fresh && alone) {
            return None;
        }
        let (from, into) = (me.space, to.space);
        // Last, since reading the word leaves a trace.
        if guarded && !passes(Check::FastAnswerGuard, self.guard_holds(current, guard)) {
            return None;
        }
        let pages = match Fpage::decode_page(page) {
            Some(page) => self.db.map_page(from, page, into, at).map(|()| 1)?,
            None => self.db.map_group(from, Fpage::decode(page)?, into, at)?,
        };
        self.hal.publish();
        // part: count
        self.counters.add(Counter::Maps, pages.into());
        self.counters.count(Counter::Ipcs);
        // part: bookkeeping
        let queue = self.cpus.get_mut(cpu)?;
        let [me, to] = self.threads.get_disjoint_mut([current as usize, partner as usize]).ok()?;
        (me.op.kind, me.op.dest, me.op.from) = (Kind::Ipc, to.id, ThreadId::ANY);
        (me.op.receive_timeout, me.op.window) = (Timeout::NEVER, Fpage::NIL);
        (me.state, me.open_to, me.deadline) = (State::Receiving, ThreadId::ANY, u64::MAX);
        me.reply_space = SpaceId::NIL;
        (to.state, to.reply_space) = (State::Ready, SpaceId::NIL);
        queue.switch_to(partner);
        Some((me, to))
    }

    /// The mapping of an answer to a page fault, in a cluster of one CPU. `false`: not the simple case, and nothing was done.
    #[inline(always)]
    pub fn map_one(&mut self, from: u16, item: u64, to: u16, dest: u64) -> bool {
        let mapped = Fpage::decode_page(item).and_then(|page| self.db.map_page(from, page, to, dest));
        if mapped.is_some() {
            self.hal.publish();
            self.counters.count(Counter::Maps);
            self.counters.count(Counter::Ipcs);
        }
        mapped.is_some()
    }

    /// The same for several pages, of which the first one's guard has been compared, and to which the others are joined. The thread that
    /// runs sends them.
    pub fn map_several(&mut self, from: u16, to: u16) -> bool {
        let Some(current) = self.cpus[usize::from(self.this_cpu)].current() else { return false };
        let me = &self.threads[current as usize];
        let tag = Tag(me.context.x[2]);
        let (x, typed) = (&me.context.x, tag.typed());
        let more = UTCB_MR0 + 1 + REGISTER_WORDS..UTCB_MR0 + 1 + typed.max(REGISTER_WORDS);
        let several = tag.untyped() == 0 && typed > 4 && typed % 2 == 0;
        let (true, Some(sent)) = (several, me.utcb(self.utcbs).get(more)) else { return false };
        let joined = &x[7..3 + typed.min(REGISTER_WORDS)];
        let first = [x[3], x[4] ^ Item::GUARDED];
        let pairs = Pairs { first, joined, more: sent, flags: Item::JOINED };
        let counters = self.counters.here;
        let mut tlb = OnlyTlb { hal: &mut self.hal, counters };
        let mapped = self.db.map_pages(&mut tlb, from, to, &pairs);
        if let Some(pages) = mapped {
            self.hal.publish();
            self.counters.add(Counter::Maps, pages.into());
            self.counters.count(Counter::Ipcs);
        }
        mapped.is_some()
    }

    /// `UNMAP` of everything that was mapped on from one page of a space, in a cluster of one CPU: no other TLB can hold anything.
    /// Returns x1.
    #[inline(always)]
    pub fn fast_unmap(&mut self, space: u16, fpage: u64) -> Option<u64> {
        let whole = |page: &Fpage| passes(Check::FastUnmapAll, page.rights().contains(Rights::R));
        let page = Fpage::decode_page(fpage).filter(whole)?;
        let counters = self.counters.here;
        let (done, status) =
            self.db.unmap_page(&mut OnlyTlb { hal: &mut self.hal, counters }, space, page.base())?;
        counters.add(Counter::Unmaps, status.touched.into());
        done.then(|| status_word(page, status))
    }

    /// The same as [`Kernel::map_one`] for 64 KiB.
    pub fn map_group(&mut self, from: u16, item: u64, to: u16, dest: u64) -> bool {
        let mapped = Fpage::decode(item).and_then(|group| self.db.map_group(from, group, to, dest));
        if let Some(pages) = mapped {
            self.hal.publish();
            self.counters.add(Counter::Maps, pages.into());
            self.counters.count(Counter::Ipcs);
        }
        mapped.is_some()
    }

    /// The same as [`Kernel::fast_unmap`] for 64 KiB.
    pub fn unmap_group(&mut self, space: u16, fpage: u64) -> Option<u64> {
        let whole = |group: &Fpage| {
            group.bits() == 16 && passes(Check::FastUnmapAll, group.rights().contains(Rights::R))
        };
        let group = Fpage::decode(fpage).filter(whole)?;
        let counters = self.counters.here;
        let mut tlb = OnlyTlb { hal: &mut self.hal, counters };
        let status = self.db.unmap_group(&mut tlb, space, group.base())?;
        counters.add(Counter::Unmaps, status.touched.into());
        Some(status_word(group, status))
    }
}

/// The TLB of the only CPU of a cluster.
struct OnlyTlb<'k, H: Hal> {
    hal: &'k mut H,
    counters: &'k Block,
}

impl<H: Hal> Tlb for OnlyTlb<'_, H> {
    fn publish(&mut self) {
        self.hal.publish();
    }
    #[inline(always)]
    fn invalidate(&mut self, space: u16, va: u64, bits: u32) {
        let pages = u64::from(pages(bits));
        self.counters.add(Counter::TlbLocal, pages);
        for page in 0..pages {
            self.hal.invalidate_page(Space::asid(space), va + (page << PAGE_BITS), false);
        }
    }
    fn invalidate_space(&mut self, space: u16) {
        self.counters.add(Counter::TlbLocal, 1);
        self.hal.invalidate_asid(Space::asid(space), false);
    }
    #[inline(always)]
    fn sync(&mut self) {
        self.hal.sync(false);
    }
}
