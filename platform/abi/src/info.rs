//! The kernel information page: what a cluster's kernel tells every program, read-only, without a system call.
//!
//! It begins at [`crate::layout::INFO_PAGE_BASE`] in every space with an [`InfoHeader`]; then comes one block of
//! [`BLOCK_SIZE`] bytes per CPU of the cluster: word [`CPU_WORD`] names the CPU, word [`Counter`] is that counter. More CPUs
//! take more pages. Only the CPU itself writes its block (and the measuring instrument its part of it, [`crate::modelled`]), with plain 64-bit stores, so a reader sees each counter as it was
//! at some moment, but not all of them at the same one.

/// [`InfoHeader::version`]: counts up when a field or a counter changes its meaning; new ones at the end do not count.
pub const VERSION: u64 = 1;

/// Bytes from one CPU's block to the next, and of the header: no two CPUs write to one cache line.
pub const BLOCK_SIZE: usize = 512;
/// The same in words.
pub const BLOCK_WORDS: usize = BLOCK_SIZE / 8;
/// Word of a block that holds the CPU's machine-wide number ([`crate::CpuId`]).
pub const CPU_WORD: usize = BLOCK_WORDS - 1;

/// The beginning of the information page. All fields are words, constant but for the free memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InfoHeader {
    /// [`VERSION`].
    pub version: u64,
    /// The cluster.
    pub cluster: u64,
    /// CPUs of the cluster, so blocks.
    pub cpu_count: u64,
    /// Steps of `CNTVCT_EL0` per second.
    pub counter_frequency: u64,
    /// Bytes from the start of the page to the first CPU's block.
    pub first_block: u64,
    /// Bytes from one block to the next.
    pub block_size: u64,
    /// How many counters a block has.
    pub counters: u64,
    /// The clock of the counters that measure [`Unit::Cycles`]: [`cycle_clock`].
    pub cycle_clock: u64,
    /// Free frames for page tables when a CPU last left the kernel by the general path.
    pub free_tables: u64,
    /// Free map nodes, likewise.
    pub free_nodes: u64,
    /// Bytes of one CPU's trace ring, and of all that `MAP_TRACE` maps the `cpu_count`-th part; 0 = not traced.
    pub trace_ring: u64,
    /// Bytes from the start of the page to the block of the CPU that asked the measuring instrument last ([`crate::modelled`]); 0 = there is no
    /// instrument. The instrument writes it.
    pub modelled_block: u64,
}

/// Values of [`InfoHeader::cycle_clock`].
pub mod cycle_clock {
    /// Nothing is measured (boot option `measure=off`): all counters of cycles are 0.
    pub const OFF: u64 = 0;
    /// `PMCCNTR_EL0`. In deterministic emulation these are instructions *of all CPUs that run*: meaningful as instructions
    /// while one CPU runs and the others sleep. In other emulation they are the host's nanoseconds.
    pub const PMCCNTR: u64 = 1;
}

/// What a counter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Events: add the CPUs up.
    Events,
    /// Cycles in total: add the CPUs up. See [`InfoHeader::cycle_clock`].
    Cycles,
    /// The longest stretch so far, in cycles: take the maximum of the CPUs.
    Longest,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $index:literal, $unit:ident, $text:literal;)*) => {
        /// The counters of a CPU; the value is the word in its block.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Counter {
            $($(#[$doc])* $name = $index,)*
        }
        impl Counter {
            /// All of them, in the order of the words.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
            /// Its name for people and records.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
            /// How to read it.
            pub const fn unit(self) -> Unit {
                match self { $(Self::$name => Unit::$unit,)* }
            }
        }
    };
}

counters! {
    /// Page faults sent to a pager.
    Faults = 0, Events, "faults";
    /// Page faults that were gone when the kernel looked again.
    SpuriousFaults = 1, Events, "spurious-faults";
    /// Messages delivered inside the cluster.
    Ipcs = 2, Events, "ipcs";
    /// Messages sent to other clusters.
    RemoteIpcs = 3, Events, "remote-ipcs";
    /// Pages mapped by items.
    Maps = 4, Events, "maps";
    /// Mappings that UNMAP removed, restricted, or whose status it reset.
    Unmaps = 5, Events, "unmaps";
    /// Timer interrupts.
    Ticks = 6, Events, "ticks";
    /// TLB invalidations of this CPU's TLB alone, for itself.
    TlbLocal = 7, Events, "tlb-local";
    /// TLB invalidations broadcast to all CPUs of the machine.
    TlbBroadcast = 8, Events, "tlb-broadcast";
    /// TLB invalidations asked of other CPUs of the cluster by interrupt: one per CPU asked.
    TlbInterrupt = 9, Events, "tlb-interrupt";
    /// Cache maintenance operations by address range (rings that are not coherent).
    CacheMaintenance = 10, Events, "cache-maintenance";
    /// The CPU went on with another thread than before.
    Switches = 11, Events, "switches";
    /// Interrupts taken: timer, doorbells and devices.
    Interrupts = 12, Events, "interrupts";
    /// Threads that left this CPU for another one, of this cluster or not.
    Migrations = 13, Events, "migrations";
    /// A thread that could have gone on lost the CPU: end of its time slice, or a more urgent thread.
    Preemptions = 14, Events, "preemptions";
    /// The floating-point registers changed hands.
    FpSwitches = 15, Events, "fp-switches";
    /// Device interrupts delivered to the thread attached to them.
    DeviceInterrupts = 16, Events, "device-interrupts";
    /// Device interrupts that no thread is attached to: masked.
    StrayInterrupts = 17, Events, "stray-interrupts";
    /// Exceptions sent to an exception handler.
    Exceptions = 18, Events, "exceptions";
    /// Notifications given to threads of the cluster.
    Notifications = 19, Events, "notifications";
    /// Times that the CPU went to sleep.
    Sleeps = 20, Events, "sleeps";
    /// Long operations that stopped at a preemption point because an interrupt was pending.
    PreemptionPoints = 21, Events, "preemption-points";
    /// Entries by the general path while measuring: what the counters of cycles are about.
    Measured = 22, Events, "measured-entries";
    /// Longest stretch with interrupts off, from an entry to the return to user mode or sleep, without the few dozen
    /// instructions that save and restore registers. The fast paths do not count: they are bounded by their length.
    LongestMasked = 23, Longest, "longest-masked";
    /// Longest time the cluster lock was held.
    LongestHold = 24, Longest, "longest-lock-hold";
    /// Time the cluster lock was held.
    Hold = 25, Cycles, "lock-hold";
    /// Longest wait for the cluster lock.
    LongestWait = 26, Longest, "longest-lock-wait";
    /// Time spent waiting for the cluster lock.
    Wait = 27, Cycles, "lock-wait";
    /// TLB invalidations that another CPU does when it runs the space again, instead of being asked by interrupt.
    TlbDeferred = 28, Events, "tlb-deferred";
    /// Cache lines cleaned to the point of coherency by that maintenance.
    CacheCleans = 29, Events, "cache-cleans";
    /// Cache lines invalidated by it.
    CacheInvalidates = 30, Events, "cache-invalidates";
}

const _: () = assert!(size_of::<InfoHeader>() <= BLOCK_SIZE && Counter::ALL.len() < CPU_WORD);
const _: () = assert!(4096 % BLOCK_SIZE == 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_numbered_in_order_and_named_apart() {
        for (i, &counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(counter as usize, i);
            assert!(Counter::ALL[..i].iter().all(|other| other.name() != counter.name()));
        }
    }
}
