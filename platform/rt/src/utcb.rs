//! The running thread's UTCB.
#![expect(unsafe_code, reason = "the UTCB is memory that the kernel gives and writes to")]

use core::arch::asm;
use core::ptr;

use skerry_abi::layout::{UTCB_BASE, UTCB_SIZE};
use skerry_abi::message::{REGISTER_WORDS, Utcb};
use skerry_abi::{CpuId, ThreadId};

fn own() -> *mut Utcb {
    let address: usize;
    // SAFETY: a read of a register that the kernel sets for every thread and that EL0 cannot change.
    unsafe { asm!("mrs {}, tpidrro_el0", out(reg) address, options(nomem, nostack, preserves_flags)) }
    ptr::with_exposed_provenance_mut(address)
}

/// The running thread's id.
pub fn my_id() -> ThreadId {
    // SAFETY: the kernel mapped the UTCB before the thread ran and keeps it mapped as long as it lives.
    ThreadId(unsafe { (&raw const (*own()).my_id).read_volatile() })
}

/// The CPU the running thread was created on.
pub fn cpu() -> CpuId {
    // SAFETY: as for `my_id`.
    (unsafe { (&raw const (*own()).cpu).read_volatile() }) as CpuId
}

/// The running thread's slot in its space's UTCB area.
pub fn slot() -> usize {
    ((own().addr() as u64 - UTCB_BASE) / UTCB_SIZE) as usize
}

/// The running thread's message registers in memory: MR9 on is what the next message has there. What is written to MR1 to MR8 here, the kernel
/// does not look at.
#[derive(Clone, Copy, Debug)]
pub struct Registers(*mut u64);

/// Those.
pub fn registers() -> Registers {
    let mr = own();
    // SAFETY: as for `my_id`: a place in the UTCB.
    Registers(unsafe { (&raw mut (*mr).mr).cast() })
}

impl Registers {
    /// Writes MR`number`.
    #[inline(always)]
    pub fn set(self, number: usize, word: u64) {
        // SAFETY: as for `store`; this value does not leave the thread, for it holds a pointer and is neither `Send` nor `Sync`.
        unsafe { self.0.add(number & 63).write_volatile(word) }
    }
    /// Reads it.
    #[inline(always)]
    pub fn get(self, number: usize) -> u64 {
        // SAFETY: as for `set`.
        unsafe { self.0.add(number & 63).read_volatile() }
    }
}

/// Copies the words of a message that do not travel in registers (MR9 on) into the UTCB.
pub fn store(words: &[u64]) {
    let mr = own();
    for (i, &word) in words.iter().enumerate().skip(REGISTER_WORDS) {
        // SAFETY: as for `my_id`; messages have 63 words at most, so `i + 1` stays inside `mr`, and no other thread uses this
        // UTCB. The kernel reads it only while this thread is in the IPC call.
        unsafe { (&raw mut (*mr).mr).cast::<u64>().add((i + 1) & 63).write_volatile(word) }
    }
}

/// Copies MR9 on out of the UTCB.
pub fn load(words: &mut [u64]) {
    let mr = own();
    for (i, word) in words.iter_mut().enumerate().skip(REGISTER_WORDS) {
        // SAFETY: as for `store`.
        *word = unsafe { (&raw const (*mr).mr).cast::<u64>().add((i + 1) & 63).read_volatile() };
    }
}
