//! A machine for the tests: kernels with leaked arenas, connected by real rings, on a fake [`Hal`].

use super::arenas::{Memory, Rings, Sizes};
use super::store::Store;
use crate::birth::NewThread;
use crate::hal::Hal;
use crate::kernel::{Event, Kernel};
use crate::lifecycle::Ending;
use crate::shootdown::Invalidation;
use crate::syscall::is_call;
use crate::thread::{FP_WORDS, FpState, State};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use skerry_abi::message::REGISTER_WORDS;
use skerry_abi::syscall::IPC;
use skerry_abi::{CpuId, Domain, Error, Fpage, SpaceId, Tag, ThreadId, Timeout};
use std::boxed::Box;
use std::collections::BTreeMap;
use std::panic::panic_any;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

/// How a fake machine ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended(pub(super) u64);

/// Where each device's interrupt goes, and whether it is masked.
type Routes = BTreeMap<u32, (Option<CpuId>, bool)>;

/// Counts what the kernel asks of the hardware.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) now: u64,
    pub(super) kicks: Vec<CpuId>,
    pub(super) saved_fp: usize,
    /// What the floating-point unit holds, and whose it is.
    pub(super) fp: Vec<u64>,
    pub(super) fp_owner: ThreadId,
    /// Length of a default time slice.
    pub(super) tick: Option<u64>,
    /// The CPU that runs the kernel, for what is done to its own TLB.
    pub(super) cpu: CpuId,
    /// The TLBs of all CPUs: CPU, ASID and page, and the frame.
    pub(super) tlbs: BTreeMap<(CpuId, u16, u64), u64>,
    /// CPUs interrupted for their TLBs.
    pub(super) shot: Vec<CpuId>,
    /// Device interrupts, those of all clusters.
    pub(super) interrupts: Arc<Mutex<Routes>>,
    /// User memory, by ASID and address.
    pub(super) memory: BTreeMap<(u16, u64), u64>,
    /// Ring memory that is not coherent, whose cache this is, and what its lines that come and go depend on.
    pub(super) rings: Option<(Arc<Store>, usize, Option<u64>)>,
}

impl Fake {
    /// Where a device's interrupt goes, and whether it is masked.
    pub(super) fn interrupt(&self, irq: u32) -> (Option<CpuId>, bool) {
        self.interrupts.lock().unwrap().get(&irq).copied().unwrap_or((None, true))
    }
    fn change_interrupt(&self, irq: u32, change: impl FnOnce(&mut (Option<CpuId>, bool))) {
        change(self.interrupts.lock().unwrap().entry(irq).or_insert((None, true)));
    }
    fn maintain(&mut self, what: fn(&Store, usize, &[AtomicU64]) -> u64, words: &[AtomicU64]) -> u64 {
        let (store, cluster, seed) = self.rings.as_mut().expect("rings that are not coherent");
        let mut drift = || seed.iter_mut().for_each(|random| store.drift(*cluster, random));
        drift();
        let lines = what(store, *cluster, words);
        drift();
        lines
    }
}

impl Hal for Fake {
    fn now(&self) -> u64 {
        self.now
    }
    fn tick_end(&self) -> u64 {
        // If not told otherwise, every tick ends a slice.
        self.tick.map_or(self.now, |tick| (self.now / tick + 1) * tick)
    }
    fn zero_words(&mut self, words: &[AtomicU64]) {
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
    fn save_fp(&mut self, state: &mut FpState) {
        state.fpcr = 0xf0;
        self.saved_fp += 1;
    }
    fn send_fp(&mut self, state: &mut FpState, packet: &[AtomicU64; FP_WORDS]) {
        self.save_fp(state);
        self.copy_out(state.q.as_flattened(), packet);
        packet[64].store(state.fpcr, Ordering::Relaxed);
        packet[65].store(state.fpsr, Ordering::Relaxed);
    }
    fn fp_owner(&self) -> ThreadId {
        self.fp_owner
    }
    fn forget_fp(&mut self) {
        self.fp_owner = ThreadId::NIL;
    }
    fn take_fp(&mut self, owner: ThreadId, packet: &[AtomicU64; FP_WORDS]) {
        self.fp_owner = owner;
        self.fp = packet.iter().map(|word| word.load(Ordering::Relaxed)).collect();
    }
    fn kick(&mut self, cpu: CpuId) {
        self.kicks.push(cpu);
    }
    fn copy_words(&mut self, from: &[AtomicU64], to: &[AtomicU64]) {
        from.iter().zip(to).for_each(|(from, to)| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed));
    }
    fn copy_out(&mut self, from: &[u64], to: &[AtomicU64]) {
        from.iter().zip(to).for_each(|(from, to)| to.store(*from, Ordering::Relaxed));
    }
    fn copy_in(&mut self, from: &[AtomicU64], to: &mut [u64]) {
        from.iter().zip(to).for_each(|(from, to)| *to = from.load(Ordering::Relaxed));
    }
    fn put_registers(&mut self, from: &[u64; REGISTER_WORDS], to: &[AtomicU64; REGISTER_WORDS]) {
        from.iter().zip(to).for_each(|(from, to)| to.store(*from, Ordering::Relaxed));
    }
    fn take_registers(&mut self, from: &[AtomicU64; REGISTER_WORDS], to: &mut [u64; REGISTER_WORDS]) {
        from.iter().zip(to).for_each(|(from, to)| *to = from.load(Ordering::Relaxed));
    }
    fn clean(&mut self, words: &[AtomicU64]) -> u64 {
        self.maintain(Store::clean, words)
    }
    fn invalidate(&mut self, words: &[AtomicU64]) -> u64 {
        self.maintain(Store::invalidate, words)
    }
    fn read_user(&mut self, ttbr0: u64, address: u64) -> u64 {
        self.memory[&((ttbr0 >> 48) as u16, address)]
    }
    fn publish(&mut self) {}
    fn invalidate_page(&mut self, asid: u16, va: u64, broadcast: bool) {
        let cpu = self.cpu;
        self.tlbs.retain(|&(c, a, page), _| !((broadcast || c == cpu) && a == asid && page == va >> 12));
    }
    fn invalidate_asid(&mut self, asid: u16, broadcast: bool) {
        let cpu = self.cpu;
        self.tlbs.retain(|&(c, a, _), _| !((broadcast || c == cpu) && a == asid));
    }
    fn claim_interrupt(&mut self, irq: u32, cpu: CpuId) -> Result<(), Error> {
        match self.interrupt(irq).0 {
            Some(_) => Err(Error::WrongState),
            None => self.route_interrupt(irq, cpu),
        }
    }
    fn release_interrupt(&mut self, irq: u32) {
        self.change_interrupt(irq, |it| *it = (None, true));
    }
    fn route_interrupt(&mut self, irq: u32, cpu: CpuId) -> Result<(), Error> {
        if irq >= 256 {
            return Err(Error::BadArgument);
        }
        self.change_interrupt(irq, |it| it.0 = Some(cpu));
        Ok(())
    }
    fn mask_interrupt(&mut self, irq: u32, masked: bool) {
        self.change_interrupt(irq, |it| it.1 = masked);
    }
    fn shoot(&mut self, cpus: impl Iterator<Item = CpuId> + Clone, list: &[Invalidation]) {
        for cpu in cpus {
            self.shot.push(cpu);
            let gone = |a: u16, page: u64| {
                list.iter().any(|item| item.asid == a && item.va.is_none_or(|va| va >> 12 == page))
            };
            self.tlbs.retain(|&(c, a, page), _| !(c == cpu && gone(a, page)));
        }
    }
    fn sync(&mut self, _: bool) {}
    fn fatal(&mut self, code: u64, _: fmt::Arguments<'_>) -> ! {
        panic_any(Ended(code))
    }
    fn exit(&mut self, code: u64) -> ! {
        panic_any(Ended(code))
    }
}

pub(super) type TestKernel<'a> = Kernel<'a, Fake>;

/// `clusters` kernels of `cpus` CPUs each, with a root pager that waits for messages.
pub(super) fn world(clusters: usize, cpus: usize) -> Vec<TestKernel<'static>> {
    let rings = Box::leak(Box::new(Rings::new(clusters)));
    let memory = Box::leak(Box::new(Memory::new(rings, cpus, Sizes::LARGE)));
    let mut kernels = memory.kernels();
    kernels.iter_mut().for_each(start_root);
    kernels
}

/// Starts a root pager. It has nothing to do in the tests, and never goes away.
pub(super) fn start_root(kernel: &mut TestKernel) {
    let root = kernel.create_space(1, true).unwrap();
    let root = thread(kernel, root, 0, ThreadId::NIL);
    assert_eq!(root, ThreadId::root(kernel.cluster));
    ipc(kernel, root, Ipc::receive(ThreadId::ANY));
}

/// A started thread on the kernel's present CPU, with priority 100, UTCB slot `utcb_slot` and this pager.
pub(super) fn thread(k: &mut TestKernel, space: SpaceId, utcb_slot: u16, pager: ThreadId) -> ThreadId {
    let cpu = k.this_cpu;
    let new = NewThread { space: space.slot(), cpu, pager, handler: pager, utcb_slot, priority: 100 };
    let id = k.create_thread(new).unwrap();
    k.start_thread(k.find(id).unwrap(), 0x1000, 0x2000, 0).unwrap();
    id
}

/// A space of this domain with one thread in it.
pub(super) fn program(k: &mut TestKernel, domain: Domain) -> (SpaceId, ThreadId) {
    let space = k.create_space(domain, false).unwrap();
    let t = thread(k, space, 0, ThreadId::NIL);
    (space, t)
}

impl TestKernel<'_> {
    /// Ends a space at once, for tests that are not about how it ends.
    ///
    /// # Errors
    /// [`Error::WrongState`] as long as a thread of it runs on another CPU or another cluster has its message. All others
    /// are gone then: try again.
    pub(super) fn destroy_space(&mut self, slot: u16) -> Result<(), Error> {
        loop {
            self.budget = skerry_mapping_db::Budget::UNLIMITED;
            match self.end_threads(slot)? {
                Ending::Over => break,
                Ending::More => {}
                Ending::Held => return Err(Error::WrongState),
                Ending::RunsOn(_) => {
                    let head = self.spaces[usize::from(slot)].members.head().ok_or(Error::WrongState)?;
                    if self.threads[head as usize].doomed {
                        return Err(Error::WrongState);
                    }
                    self.delete_thread(head)?;
                }
            }
        }
        self.help();
        let (db, mut tlb) = self.db_and_tlb();
        db.space_destroy(slot, &mut tlb);
        self.retire_space(slot);
        Ok(())
    }
}

/// Makes `id` the thread that runs on the present CPU.
pub(super) fn run(k: &mut TestKernel, id: ThreadId) -> u32 {
    let t = k.find(id).expect("the thread lives");
    assert_eq!(k.thread(t).state, State::Ready, "{id:?} can run");
    k.tick();
    k.make_unready(t);
    k.cpus[usize::from(k.this_cpu)].set_current(Some(t));
    k.note_run(k.thread(t).space);
    t
}

/// One IPC system call.
pub(super) struct Ipc {
    pub(super) dest: ThreadId,
    pub(super) from: ThreadId,
    pub(super) tag: Tag,
    pub(super) words: Vec<u64>,
    /// The send phase waits for ever; else until `send_timeout`.
    pub(super) wait: bool,
    pub(super) send_timeout: Timeout,
    pub(super) receive_timeout: Timeout,
    pub(super) window: Fpage,
}

impl Default for Ipc {
    fn default() -> Self {
        let (dest, from) = (ThreadId::NIL, ThreadId::NIL);
        let (tag, words) = (Tag::default(), Vec::new());
        let (send_timeout, receive_timeout) = (Timeout::ZERO, Timeout::NEVER);
        Self { dest, from, tag, words, wait: true, send_timeout, receive_timeout, window: Fpage::NIL }
    }
}

impl Ipc {
    pub(super) fn call(to: ThreadId, label: u32, words: &[u64]) -> Self {
        let tag = Tag::new(label, words.len(), 0);
        Self { dest: to, from: to, tag, words: words.into(), ..Self::default() }
    }
    pub(super) fn send(to: ThreadId, label: u32, words: &[u64]) -> Self {
        Self { from: ThreadId::NIL, ..Self::call(to, label, words) }
    }
    pub(super) fn receive(from: ThreadId) -> Self {
        Self { from, ..Self::default() }
    }
    pub(super) fn reply_wait(to: ThreadId, label: u32, words: &[u64]) -> Self {
        Self {
            from: ThreadId::ANY,
            wait: false,
            send_timeout: Timeout::REPLY,
            ..Self::call(to, label, words)
        }
    }
}

/// Lets `id` execute the call, and the scheduler what is left of it.
pub(super) fn ipc(k: &mut TestKernel, id: ThreadId, call: Ipc) {
    ipc_step(k, id, call);
    while k.has_items() {
        k.handle(Event::Kick);
        k.pick();
    }
}

/// Lets `id` execute the call, in one kernel entry.
pub(super) fn ipc_step(k: &mut TestKernel, id: ThreadId, call: Ipc) {
    let t = run(k, id);
    let utcb = k.utcb(t);
    for (mr, word) in utcb[crate::kernel::UTCB_MR0 + 1..].iter().zip(&call.words) {
        mr.store(*word, core::sync::atomic::Ordering::Relaxed);
    }
    let x = &mut k.thread_mut(t).context.x;
    (x[0], x[1], x[2]) = (call.dest.0, call.from.0, call.tag.0);
    x[3..11].fill(0);
    x[3..].iter_mut().zip(&call.words).take(8).for_each(|(x, w)| *x = *w);
    x[11] = if call.wait { Timeout::NEVER.0 } else { call.send_timeout.0 };
    x[12] = call.receive_timeout.0;
    x[13] = call.window.word();
    k.handle(Event::Syscall(IPC));
    k.pick();
}

/// Any other system call; returns x0..x8.
pub(super) fn syscall(k: &mut TestKernel, id: ThreadId, number: u16, args: &[u64]) -> [u64; 9] {
    let t = k.find(id).expect("the thread lives");
    let pc = k.thread(t).context.pc;
    let mut x = syscall_step(k, id, number, args);
    // Long calls end in the middle, to be executed again, with the registers as they are then.
    while k.thread(t).context.pc != pc {
        k.thread_mut(t).context.pc = pc;
        x = syscall_step(k, id, number, &[]);
    }
    x
}

/// Enters the kernel once for a system call, which may want to be executed again: then the program counter is on the `svc` again.
pub(super) fn syscall_step(k: &mut TestKernel, id: ThreadId, number: u16, args: &[u64]) -> [u64; 9] {
    let t = run(k, id);
    let x = &mut k.thread_mut(t).context.x;
    x[..args.len()].copy_from_slice(args);
    if is_call(number) {
        // As the exception entry does.
        x[8..19].fill(0);
        k.call(number);
    } else {
        k.handle(Event::Syscall(number));
    }
    core::array::from_fn(|i| k.thread(t).context.x[i])
}

/// What the last IPC of `id` gave: sender, tag, and the first words.
pub(super) fn outcome(k: &TestKernel, id: ThreadId) -> (ThreadId, Tag, Vec<u64>) {
    let t = k.find(id).expect("the thread lives");
    let thread = k.thread(t);
    assert_eq!(thread.state, State::Ready, "{id:?} is through with its IPC");
    let tag = Tag(thread.context.x[2]);
    let mut words: Vec<u64> = thread.context.x[3..11].into();
    words.extend(
        k.utcb(t)[crate::kernel::UTCB_MR0 + 9..][..55]
            .iter()
            .map(|w| w.load(core::sync::atomic::Ordering::Relaxed)),
    );
    words.truncate(tag.words());
    (ThreadId(thread.context.x[0]), tag, words)
}

/// What a thread does now.
pub(super) fn state(k: &TestKernel, id: ThreadId) -> State {
    k.find(id).map_or(State::Free, |t| k.thread(t).state)
}

/// Lets the clusters exchange packets until nothing moves.
pub(super) fn settle(kernels: &mut [TestKernel]) {
    loop {
        let before: usize = kernels.iter().map(|k| k.hal.kicks.len()).sum();
        for k in kernels.iter_mut() {
            k.handle(Event::Kick);
            // As on every way out of the kernel.
            if k.chores.is_pending() {
                k.work();
            }
        }
        if before == kernels.iter().map(|k| k.hal.kicks.len()).sum::<usize>() {
            return;
        }
    }
}
