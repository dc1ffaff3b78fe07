//! Cache maintenance by address, to the point of coherency: for ring memory that is not coherent between the clusters.
#![expect(unsafe_code, reason = "cache maintenance instructions")]

use super::registers::{dsb_sy, read_sysreg};
use core::arch::asm;
use core::sync::atomic::AtomicU64;
use skerry_kernel::ring::MAX_LINE;

/// Bytes of the shortest cache line: the step from one maintenance instruction to the next.
///
/// # Panics
/// If caches may write back more at once than the layout of the rings is made for: then a line has two writers.
pub(super) fn line(maintained: bool) -> u64 {
    // CTR_EL0 (ARM ARM D24.2.34): log2 of words of 4 bytes; DminLine, and CWG, where 0 means that nobody knows.
    let ctr = read_sysreg!("ctr_el0");
    let granule = 4usize << (ctr >> 24 & 0xf);
    let known = granule > 4 && granule <= MAX_LINE;
    assert!(
        !maintained || known,
        "rings=maintained: caches write back {granule} bytes at once, not {MAX_LINE} at most"
    );
    4 << (ctr >> 16 & 0xf)
}

/// One instruction per line that these words touch. Returns how many lines these are.
macro_rules! each_line {
    ($instruction:literal, $words:expr, $line:expr) => {{
        let (words, line): (&[AtomicU64], u64) = ($words, $line);
        let start = words.as_ptr().addr() as u64;
        let (first, end) = (start & !(line - 1), start + size_of_val(words) as u64);
        for address in (first..end).step_by(line as usize) {
            // SAFETY: cleaning changes no memory that anybody reads coherently. Invalidating drops only what was not written here: the
            // caller has seen to it that these lines have another writer (`Hal::invalidate`), and the words are atomics, which may
            // change under a shared reference.
            unsafe { asm!(concat!("dc ", $instruction, ", {}"), in(reg) address, options(nostack, preserves_flags)) };
        }
        end.saturating_sub(first).div_ceil(line)
    }};
}

/// Maintenance by address is ordered with accesses to the same line, and with all others by barriers only (ARM ARM D7.5.9): what was stored
/// in these lines before is written back, and it is there when this returns.
pub(super) fn clean(words: &[AtomicU64], line: u64) -> u64 {
    let lines = each_line!("cvac", words, line);
    dsb_sy();
    lines
}

/// What is loaded afterwards was not in the cache before what was loaded earlier.
pub(super) fn invalidate(words: &[AtomicU64], line: u64) -> u64 {
    dsb_sy();
    let lines = each_line!("ivac", words, line);
    dsb_sy();
    lines
}
