//! Threads of this task on all nodes.

use skerry_abi::fpage::PAGE_SIZE;
use skerry_abi::syscall::exit;
use skerry_ipc::pager::RegionKind;
use skerry_rt::{start, task};

use super::{Trouble, failed};

/// Where regions and stacks lie.
const REGIONS: u64 = 0x10_0000_0000;
const REGION_STRIDE: u64 = 1 << 30;
const STACKS: u64 = 0x8_0000_0000;
const STACK_STRIDE: u64 = 1 << 20;
const STACK_BYTES: u64 = 16 << 10;
/// Pages of a region that each thread touches.
const PAGES: u64 = 4;

/// The regions: one of each kind.
pub(super) const KINDS: [RegionKind; 3] = [RegionKind::Global, RegionKind::Local, RegionKind::ReadOnly];

/// Where the region of a kind begins.
pub(super) fn base(kind: RegionKind) -> u64 {
    REGIONS + kind as u64 * REGION_STRIDE
}

/// Makes the regions.
pub(super) fn regions() -> Result<(), Trouble> {
    for kind in KINDS {
        task::region(base(kind), 512 * PAGE_SIZE, kind, 0).map_err(failed("a region"))?;
    }
    Ok(())
}

/// The word at an address.
#[expect(unsafe_code, reason = "a region of the task is no Rust object")]
pub(super) fn word(address: u64) -> &'static core::sync::atomic::AtomicU64 {
    // SAFETY: only addresses in regions of the task are passed here; nobody makes them anything else, and all uses are atomic.
    unsafe { &*core::ptr::with_exposed_provenance(address as usize) }
}

/// Touches some pages of every region; which ones depends on `salt`.
pub(super) fn touch(salt: u64) {
    for kind in KINDS {
        for page in 0..PAGES {
            let word = word(base(kind) + (salt * 7 + page * 3) % 512 * PAGE_SIZE);
            match kind {
                RegionKind::ReadOnly => _ = word.load(core::sync::atomic::Ordering::Relaxed),
                _ => word.store(salt, core::sync::atomic::Ordering::Relaxed),
            }
        }
    }
}

/// Starts a thread on a CPU; stacks are used again by `index`.
pub(super) fn spawn(index: u64, cpu: u16, entry: task::Entry, argument: u64) -> Result<u32, Trouble> {
    let end = STACKS + (index + 1) * STACK_STRIDE;
    let stack = match task::stack(end, STACK_BYTES) {
        Err(skerry_abi::Error::AlreadyMapped) => end,
        result => result.map_err(failed("a stack"))?,
    };
    task::spawn(cpu, entry, stack, argument).map_err(failed("a thread"))
}

/// A thread that touches memory and exits.
pub(super) extern "C" fn toucher(salt: u64) -> ! {
    touch(salt);
    task::exit(exit::PASS)
}

/// A thread that touches memory and sleeps.
pub(super) extern "C" fn sleeper(salt: u64) -> ! {
    touch(salt);
    skerry_rt::ipc::sleep_forever()
}

/// Runs a thread on every node.
pub(super) fn everywhere(entry: task::Entry) -> Result<[Option<u32>; 16], Trouble> {
    let mut numbers = [None; 16];
    for (slot, (node, cpu)) in numbers.iter_mut().zip(start::app().places()) {
        *slot = Some(spawn(node.into(), cpu, entry, node.into())?);
    }
    Ok(numbers)
}
