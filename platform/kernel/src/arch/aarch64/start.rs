//! From the boot loader to the first thread.
//!
//! The loader enters every CPU of the cluster with the MMU on, interrupts masked, a stack, x0 = boot information and x1 = CPU
//! number. The cluster's first CPU builds the kernel and the root pager's space; the others wait for it.
#![expect(unsafe_code, reason = "the entry point and the boot loader's pointers")]

use super::heap::Heap;
use super::lock::ClusterLock;
use super::machine::Machine;
use super::registers::{isb, read_sysreg, wfi, write_sysreg};
use super::{cache, dispatch, entry, gic, measure, percpu, timer};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use skerry_abi::boot::{BootInfo, MAGIC, RING_SIZE, Range, arena, kernel_switch};
use skerry_abi::info::cycle_clock;
use skerry_abi::layout::{KERNEL_STACK_STRIDE, KERNEL_STACKS, PHYSMAP};
use skerry_kernel::counters::InfoPage;
use skerry_kernel::deadline::Timer;
use skerry_kernel::guests::{Guest, Share};
use skerry_kernel::kernel::{Arenas, Kernel, Peer, Settings, UtcbPage};
use skerry_kernel::queue::{Link, Queue};
use skerry_kernel::remote::{Behind, RingMode};
use skerry_kernel::ring::{Bells, RING_WORDS, Ring, SLOTS};
use skerry_kernel::runqueue::RunQueue;
use skerry_kernel::shootdown::TlbMode;
use skerry_kernel::space::Space;
use skerry_kernel::thread::{Cold, Tcb};
use skerry_kernel::trace::RING_PAGES;
use skerry_mapping_db::{HwTable, MappingDb, Node, SpaceTables};
use skerry_trace::Page;

/// The kernel of this machine.
pub(super) type TheKernel = Kernel<'static, Machine>;

/// The cluster's only global: everything a kernel knows, behind its lock.
pub(super) static KERNEL: ClusterLock<TheKernel> = ClusterLock::new();

static INFO: AtomicPtr<BootInfo> = AtomicPtr::new(core::ptr::null_mut());

/// The boot information, once the first CPU has come up.
pub(super) fn boot_info() -> Option<&'static BootInfo> {
    // SAFETY: null, or the pointer that `_start` checked: written by the boot loader, never changed, never freed.
    unsafe { INFO.load(Ordering::Acquire).as_ref() }
}

/// Entry point of every CPU of the cluster.
#[unsafe(no_mangle)]
extern "C" fn _start(info: *mut BootInfo, cpu: u64) -> ! {
    // SAFETY: the boot loader's promise; the magic number checks that it speaks our version.
    let boot = unsafe { &*info };
    let cpu = cpu as u16;
    percpu::init(cpu, KERNEL_STACKS + (u64::from(cpu) + 1) * KERNEL_STACK_STRIDE);
    set_up_cpu();
    assert_eq!(boot.magic, MAGIC, "the boot loader is of another version");
    let me = boot.cpus()[usize::from(cpu)];
    let cluster = boot.clusters()[usize::from(me.cluster)];
    if cluster.first_cpu == cpu {
        INFO.store(info, Ordering::Release);
        gic::init(boot, cpu, me.mpidr);
        // The paths that only a lone CPU may take record nothing.
        let traced = boot.kernel_switches & kernel_switch::TRACE != 0;
        let measured = boot.kernel_switches & kernel_switch::MEASURE != 0;
        KERNEL.init(cluster.cpu_count.max(if traced { 2 } else { 1 }), measured, build(boot, me.cluster));
        let others =
            boot.cpus().iter().filter(|other| other.cluster == me.cluster && other.mpidr != me.mpidr);
        others.for_each(|other| gic::ring(gic::doorbell(other.mpidr)));
    } else {
        // First the interrupt controller, then the look: a doorbell that rings in between stays pending and ends the sleep.
        gic::init(boot, cpu, me.mpidr);
        while !KERNEL.is_ready() {
            wfi();
            gic::acknowledge(|| boot.timer_irq);
        }
    }
    let first = KERNEL.with(|kernel| {
        kernel.enter(cpu);
        if cluster.first_cpu == cpu
            && let Err(error) = kernel.start_root(boot, info as u64 - PHYSMAP)
        {
            panic!("cannot start the root pager: {error}");
        }
        if !KERNEL.is_shared() {
            percpu::with(|own| own.fast = kernel.fast_path(cpu.into()));
        }
        if boot.kernel_switches & kernel_switch::MEASURE != 0 {
            measure::start(kernel.counters.here);
        }
        // Requests of other clusters may have come before our doorbell was enabled.
        kernel.poll_rings();
        dispatch::resume(kernel)
    });
    let context = first.unwrap_or_else(dispatch::idle);
    // SAFETY: `resume` and `idle` return the context of the thread they loaded.
    unsafe { entry::enter_user(context) }
}

/// System registers that differ from what the boot loader left.
fn set_up_cpu() {
    write_sysreg!("vbar_el1", entry::vectors());
    // EL0 may read CTR_EL0 (15), use DC ZVA (14) and cache maintenance to the PoC and PoU (26), WFI (16) and WFE (18); stack
    // alignment is checked (3, 4); writable memory is never executable (19); PAN is set on every exception (23 = 0).
    const SET: u64 = 1 << 3 | 1 << 4 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 19 | 1 << 26;
    const SPAN: u64 = 1 << 23;
    write_sysreg!("sctlr_el1", (read_sysreg!("sctlr_el1") | SET) & !SPAN);
    // EL0 reads the virtual counter (1); an event stream wakes WFE now and then (2, period in 4..8).
    write_sysreg!("cntkctl_el1", 1 << 1 | 1 << 2 | 10 << 4);
    start_cycle_counter();
    super::fp::allow(false);
    isb();
    // ID_AA64MMFR1_EL1.PAN
    if read_sysreg!("id_aa64mmfr1_el1") >> 20 & 0xf != 0 {
        set_pan();
    }
}

/// The cycle counter runs, 64 bits wide, and EL0 may read it. It starts at the system counter's time in nanoseconds: in
/// deterministic emulation a cycle *is* a nanosecond and one instruction, so the counters of all CPUs agree.
fn start_cycle_counter() {
    write_sysreg!("pmuserenr_el0", 1 << 2); // CR: read the cycle counter, nothing else
    write_sysreg!("pmccfiltr_el0", 0);
    write_sysreg!("pmcr_el0", read_sysreg!("pmcr_el0") | 1 | 1 << 6);
    write_sysreg!("pmcntenset_el0", 1 << 31);
    let ns = 1_000_000_000 / read_sysreg!("cntfrq_el0").max(1);
    // The system counter moves on in steps of many instructions. What the two differ by is least right after such a step, and a loop of
    // seven instructions comes there in one of 16 rounds if a step is 16 of them. So the counters agree to the instruction.
    // SAFETY: reads two counters and writes one that is read by programs only.
    unsafe {
        core::arch::asm!(
            "2: mrs {time}, cntvct_el0",
            "mrs    {cycles}, pmccntr_el0",
            "msub   {cycles}, {time}, {ns}, {cycles}",
            "cmp    {cycles}, {least}",
            "csel   {least}, {cycles}, {least}, lo",
            "subs   {rounds}, {rounds}, #1",
            "b.ne   2b",
            "mrs    {cycles}, pmccntr_el0",
            "sub    {cycles}, {cycles}, {least}",
            "msr    pmccntr_el0, {cycles}",
            ns = in(reg) ns, least = inout(reg) u64::MAX => _, rounds = inout(reg) 64u64 => _,
            time = out(reg) _, cycles = out(reg) _,
            options(nomem, nostack)
        );
    }
}

fn set_pan() {
    // SAFETY: the kernel never accesses user addresses, so forbidding it changes nothing. (`msr pan, #1`, encoded for
    // assemblers that know ARMv8.0 only.)
    unsafe { core::arch::asm!(".inst 0xd500419f", options(nomem, nostack, preserves_flags)) };
}

/// Divides the heap among the kinds of object.
fn build(boot: &'static BootInfo, cluster: u16) -> TheKernel {
    let me = &boot.clusters()[usize::from(cluster)];
    // SAFETY: the boot loader left this range to this kernel, and this is the only call.
    let mut heap = unsafe { Heap::new(me.heap) };
    // SAFETY: the same of each of these ranges; they lie apart.
    let mut elsewhere = me.arenas.map(|arena| (arena.size != 0).then(|| unsafe { Heap::new(arena) }));
    let threads = (heap.left() / (16 << 10)).clamp(64, 4096) as usize;
    let spaces = (threads / 4).clamp(32, 1024);
    let utcb_pages = threads / 2;
    let cpus = boot.cpu_count as usize;

    let tcbs = elsewhere[arena::TCBS].as_mut().unwrap_or(&mut heap).slice(threads, || Tcb::FREE).0;
    let cold = heap.slice(threads, || Cold::FREE).0;
    let timers = heap.slice(threads, || Timer::IDLE).0;
    let members = heap.slice(threads, || Link::UNLINKED).0;
    let space_slots = heap.slice(spaces, || Space::FREE).0;
    let guests = heap.slice(threads, || Guest::UNUSED).0;
    let shares = heap.slice(threads / 2, || Share::UNUSED).0;
    let links = heap.slice(2 * threads, || Link::UNLINKED).0;
    let zero = || UtcbPage([const { [const { AtomicU64::new(0) }; 128] }; 4]);
    let (utcbs, utcbs_pa) = elsewhere[arena::UTCBS].as_mut().unwrap_or(&mut heap).slice(utcb_pages, zero);
    let utcb_links = heap.slice(utcb_pages, || Link::UNLINKED).0;
    let mut number = 0..;
    let run_queues = heap.slice(cpus, || RunQueue::new(number.next().unwrap_or(u16::MAX))).0;
    let doorbells = heap.slice(cpus, || 0).0;
    let maintained = boot.kernel_switches & kernel_switch::RINGS_MAINTAINED != 0;
    for (bell, cpu) in doorbells.iter_mut().zip(boot.cpus()) {
        let own = maintained && cpu.cluster == cluster;
        *bell = if own { gic::own_doorbell(cpu.mpidr) } else { gic::doorbell(cpu.mpidr) };
    }
    let mut index = 0;
    let peers = heap.slice(boot.cluster_count as usize, || {
        let other = index;
        index += 1;
        peer(boot, cluster, other)
    });
    let (info, info_pa) = heap.slice(InfoPage::count(me.cpu_count.into()), || InfoPage::ZERO);
    let traced = boot.kernel_switches & kernel_switch::TRACE != 0;
    let trace_pages = if traced { usize::from(me.cpu_count) * RING_PAGES } else { 0 };
    let (trace, trace_pa) = heap.slice(trace_pages, || Page::ZERO);
    let space_tables = heap.slice(spaces, SpaceTables::default).0;

    // A table covers 512 pages that need up to 512 nodes; sparse address spaces use more tables, shared ones more
    // nodes. One third for tables serves both.
    let table_bytes = size_of::<HwTable>() + size_of::<[u32; 512]>();
    let tables = heap.left() as usize / 3 / table_bytes;
    let table_heap = elsewhere[arena::PAGE_TABLES].as_mut().unwrap_or(&mut heap);
    let (hw, hw_pa) = table_heap.slice(tables, HwTable::default);
    let shadow = table_heap.slice(tables, || [0u32; 512]).0;
    let node_heap = elsewhere[arena::MAP_NODES].as_mut().unwrap_or(&mut heap);
    let nodes = (node_heap.left() as usize - align_of::<Node>()) / size_of::<Node>();
    let nodes = node_heap.slice(nodes, Node::default).0;
    let db = MappingDb::new(hw, hw_pa, shadow, nodes, space_tables);

    let arenas = Arenas {
        db,
        threads: tcbs,
        cold,
        timers,
        members,
        spaces: space_slots,
        guests,
        shares,
        links,
        utcbs,
        utcbs_pa,
        utcb_links,
        cpus: run_queues,
        peers: peers.0,
        bells: bells_of(boot, usize::from(cluster)),
        info,
        info_pa,
        trace,
        trace_pa,
    };
    let switch = |bit| boot.kernel_switches & bit != 0;
    let line = cache::line(maintained);
    let machine = Machine { info: boot, doorbells, tick_steps: timer::steps(boot.tick_ns), line };
    let rings = if maintained { RingMode::Maintained } else { RingMode::Coherent };
    let tlb = if switch(kernel_switch::TLB_INTERRUPT) { TlbMode::Interrupt } else { TlbMode::Broadcast };
    let cycle_clock = if switch(kernel_switch::MEASURE) { cycle_clock::PMCCNTR } else { cycle_clock::OFF };
    let counter_frequency = read_sysreg!("cntfrq_el0");
    let omitted =
        (boot.kernel_switches >> kernel_switch::MUTATE_SHIFT & kernel_switch::MUTATE_MASK).checked_sub(1);
    let omitted = omitted.map(|place| place as usize);
    let settings = Settings { counter_frequency, cycle_clock, tlb, rings, omitted };
    let mut kernel = Kernel::new(cluster, machine, settings, arenas);
    (0u16..).zip(boot.cpus()).filter(|(_, c)| c.cluster == cluster).for_each(|(cpu, _)| kernel.add_cpu(cpu));
    kernel
}

/// The rings between `cluster` and `other`.
fn peer(boot: &BootInfo, cluster: u16, other: usize) -> Peer<'static> {
    let theirs = &boot.clusters()[other];
    let mine = &boot.clusters()[usize::from(cluster)];
    let is_self = other == usize::from(cluster);
    let ring = |rings: Range, from: u64| (!is_self).then(|| Ring::new(ring_memory(rings, from))).flatten();
    Peer {
        inbound: ring(mine.rings, other as u64),
        outbound: ring(theirs.rings, u64::from(cluster)),
        bells: (!is_self).then(|| bells_of(boot, other)),
        waiting: Queue::EMPTY,
        limit: SLOTS,
        wants: false,
        down: false,
        told: 0,
        behind: Behind::NOTHING,
        doorbell: theirs.first_cpu,
    }
}

/// A cluster's bells lie where a ring from itself would be.
fn bells_of(boot: &BootInfo, cluster: usize) -> Bells<'static> {
    let memory = ring_memory(boot.clusters()[cluster].rings, cluster as u64);
    Bells::new(memory).expect("the bells are shorter than a ring")
}

fn ring_memory(rings: Range, from: u64) -> &'static [AtomicU64] {
    let base = rings.base + from * RING_SIZE;
    assert!(base + RING_SIZE <= rings.end(), "the boot loader reserved too little memory for the rings");
    let words = (PHYSMAP + base) as *const AtomicU64;
    // SAFETY: PHYSMAP maps all clusters' rings in every kernel, zeroed by the boot loader, for ever; both sides access
    // them as atomics only.
    unsafe { core::slice::from_raw_parts(words, RING_WORDS) }
}
