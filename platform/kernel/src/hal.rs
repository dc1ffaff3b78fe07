//! What the kernel's logic needs from the machine. The real one is in `arch/aarch64`, a fake one in the tests.

use crate::shootdown::Invalidation;
use crate::thread::{FP_WORDS, FpState};
use core::fmt;
use core::sync::atomic::AtomicU64;
use skerry_abi::message::REGISTER_WORDS;
use skerry_abi::{CpuId, Error, ThreadId};

/// The machine as the kernel's logic sees it.
pub trait Hal {
    /// The time: `CNTVCT_EL0`.
    fn now(&self) -> u64;
    /// When a default time slice that begins now ends on this CPU.
    fn tick_end(&self) -> u64;
    /// Sets kernel memory that user programs may see to zero; whole cache lines.
    fn zero_words(&mut self, words: &[AtomicU64]);
    /// Saves the floating-point registers, which belong to a thread that leaves this CPU. Nobody owns the unit then.
    fn save_fp(&mut self, state: &mut FpState);
    /// The same, and copies them into a packet.
    fn send_fp(&mut self, state: &mut FpState, packet: &[AtomicU64; FP_WORDS]);
    /// Whose registers are in the unit of this CPU; NIL = nobody's.
    fn fp_owner(&self) -> ThreadId;
    /// Whoever's registers are in the unit of this CPU is gone.
    fn forget_fp(&mut self);
    /// Loads the unit of this CPU from a packet, for a thread that runs next: it owns the unit then. What was there is lost.
    fn take_fp(&mut self, owner: ThreadId, packet: &[AtomicU64; FP_WORDS]);
    /// Interrupts a CPU of any cluster: it shall look at its run queue and its cluster's rings.
    fn kick(&mut self, cpu: CpuId);
    /// Makes a device's interrupt, which this cluster does not have, go to one of its CPUs.
    ///
    /// # Errors
    /// [`Error::BadArgument`]: the machine has no such interrupt; [`Error::WrongState`]: another cluster has it.
    fn claim_interrupt(&mut self, irq: u32, cpu: CpuId) -> Result<(), Error>;
    /// It is nobody's any more, and masked.
    fn release_interrupt(&mut self, irq: u32);
    /// One of this cluster goes to another one of its CPUs.
    fn route_interrupt(&mut self, irq: u32, cpu: CpuId) -> Result<(), Error>;
    /// Keeps a device's interrupt from coming, or lets it come.
    fn mask_interrupt(&mut self, irq: u32, masked: bool);
    /// Copies words between two UTCBs. User programs may write both at any time: each word is copied whole, that is all.
    fn copy_words(&mut self, from: &[AtomicU64], to: &[AtomicU64]);
    /// Copies words of the kernel's own into a packet, or into a UTCB.
    fn copy_out(&mut self, from: &[u64], to: &[AtomicU64]);
    /// Copies words of a packet, or of a UTCB, into the kernel's own.
    fn copy_in(&mut self, from: &[AtomicU64], to: &mut [u64]);
    /// Puts the first words of a message, which travel in registers, into a packet.
    fn put_registers(&mut self, from: &[u64; REGISTER_WORDS], to: &[AtomicU64; REGISTER_WORDS]);
    /// Takes them out of it.
    fn take_registers(&mut self, from: &[AtomicU64; REGISTER_WORDS], to: &mut [u64; REGISTER_WORDS]);
    /// Writes the cache lines of these words back to the point of coherency, after all stores before, and waits until they are there. Returns
    /// how many lines these are.
    fn clean(&mut self, words: &[AtomicU64]) -> u64;
    /// Drops the cache lines of these words, after all loads before, and waits for that: what is read then comes from the point of coherency.
    /// Nothing of them may have been written here. Returns how many lines these are.
    fn invalidate(&mut self, words: &[AtomicU64]) -> u64;
    /// Reads an aligned word of normal memory as a user program would that runs with `ttbr0`. The caller has seen in the tables that
    /// it may, under the lock that changes to them take.
    fn read_user(&mut self, ttbr0: u64, address: u64) -> u64;
    /// Makes page-table entries that were invalid and now are valid visible to table walks.
    fn publish(&mut self);
    /// Invalidates one page of an address space in this CPU's TLB, or in all TLBs of the machine.
    fn invalidate_page(&mut self, asid: u16, va: u64, broadcast: bool);
    /// Invalidates all of an address space in this CPU's TLB, or in all TLBs of the machine.
    fn invalidate_asid(&mut self, asid: u16, broadcast: bool);
    /// Has other CPUs of the cluster do these invalidations in their own TLBs, and returns when they have.
    fn shoot(&mut self, cpus: impl Iterator<Item = CpuId> + Clone, list: &[Invalidation]);
    /// Waits until the invalidations so far are complete, on this CPU or everywhere.
    fn sync(&mut self, broadcast: bool);
    /// The kernel cannot go on (its root pager is gone, say): report it and end the run with this exit code.
    fn fatal(&mut self, code: u64, what: fmt::Arguments<'_>) -> !;
    /// Ends the run with an exit code of [`skerry_abi::syscall::exit`].
    fn exit(&mut self, code: u64) -> !;
}
