//! TLB invalidation by interrupt (boot option `tlb=interrupt`).
//!
//! The initiator holds the cluster lock, writes the list of invalidations, raises a number in the mailbox of each target,
//! interrupts it, and waits until every target has written the number back. A target answers ([`serve`]) *without* the lock,
//! wherever it is:
//! - in user mode or asleep: the interrupt brings it here before it takes the lock ([`super::dispatch`]);
//! - waiting for the lock with interrupts masked: the loop in which it waits looks into the mailbox ([`super::lock`]);
//! - on its way into or out of the kernel: it gets to one of these two next, without waiting for anything else.
//!
//! It cannot hold the lock, and no CPU waits for it with anything else held. So the wait ends, and there is one initiator
//! at a time. A target that dies (kernel panic) ends the whole run.
//!
//! Order: the initiator's stores to page tables are complete (DSB ISH) before a mailbox shows the new number; the target reads
//! the number (acquire) before it invalidates, so walks after its TLBI see the new tables; it writes the number back (release)
//! after DSB NSH, when its TLB holds nothing old.
#![expect(unsafe_code, reason = "TLBI")]

use super::registers::{dsb_ish, dsb_nsh, isb, tlbi, yield_cpu};
use super::{gic, percpu};
use core::sync::atomic::{AtomicU64, Ordering};
use skerry_abi::CpuId;
use skerry_abi::boot::MAX_CPUS;
use skerry_kernel::shootdown::{BATCH, Invalidation};

/// What a CPU is asked and has done. Two cache lines' worth apart, as prefetchers take pairs.
#[repr(align(128))]
struct Mailbox {
    wanted: AtomicU64,
    done: AtomicU64,
}

static MAILBOXES: [Mailbox; MAX_CPUS] =
    [const { Mailbox { wanted: AtomicU64::new(0), done: AtomicU64::new(0) } }; MAX_CPUS];

/// The present list, as TLBI operands; written by the holder of the cluster lock.
static LIST: [AtomicU64; BATCH] = [const { AtomicU64::new(0) }; BATCH];
static LENGTH: AtomicU64 = AtomicU64::new(0);
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// In a list entry: all of the ASID. A bit that TLBI operands by address do not use (TTL, 0 without FEAT_TTL).
const WHOLE: u64 = 1 << 44;

/// The operand of a TLBI by address (ARM ARM C5.5): ASID in 63:48, VA\[55:12\] in 43:0.
pub(super) fn operand(asid: u16, va: u64) -> u64 {
    (va >> 12) & 0xfff_ffff_ffff | u64::from(asid) << 48
}

/// Has other CPUs of the cluster do these invalidations, and returns when they have. The caller holds the cluster lock.
pub(super) fn shoot(doorbells: &[u64], targets: impl Iterator<Item = CpuId> + Clone, list: &[Invalidation]) {
    for (slot, item) in LIST.iter().zip(list) {
        let word = item.va.map_or(WHOLE | operand(item.asid, 0), |va| operand(item.asid, va));
        slot.store(word, Ordering::Relaxed);
    }
    LENGTH.store(list.len().min(BATCH) as u64, Ordering::Relaxed);
    let number = NUMBER.load(Ordering::Relaxed) + 1;
    NUMBER.store(number, Ordering::Relaxed);
    dsb_ish();
    for cpu in targets.clone() {
        MAILBOXES[usize::from(cpu)].wanted.store(number, Ordering::Release);
        gic::ring(doorbells[usize::from(cpu)]);
    }
    for cpu in targets {
        while MAILBOXES[usize::from(cpu)].done.load(Ordering::Acquire) != number {
            yield_cpu();
        }
    }
}

/// Does what is asked of this CPU, if anything is. Called without the cluster lock.
#[inline]
pub(super) fn serve() {
    let mailbox = &MAILBOXES[usize::from(percpu::with(|cpu| cpu.cpu))];
    let wanted = mailbox.wanted.load(Ordering::Acquire);
    if wanted != mailbox.done.load(Ordering::Relaxed) {
        // The initiator waits for us, so the list stays as it is.
        for word in LIST.iter().take(LENGTH.load(Ordering::Relaxed) as usize) {
            let word = word.load(Ordering::Relaxed);
            if word & WHOLE == 0 {
                tlbi!("vae1", word);
            } else {
                tlbi!("aside1", word & !WHOLE);
            }
        }
        dsb_nsh();
        isb();
        mailbox.done.store(wanted, Ordering::Release);
    }
}
