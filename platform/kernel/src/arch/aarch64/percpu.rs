//! What belongs to one CPU: reached through TPIDR_EL1, touched by that CPU only.
#![expect(unsafe_code, reason = "TPIDR_EL1 is a pointer")]

use super::registers::{read_sysreg, write_sysreg};
use core::cell::UnsafeCell;
use skerry_abi::boot::MAX_CPUS;
use skerry_abi::{CpuId, ThreadId};
use skerry_kernel::counters::Block;
use skerry_kernel::fastpath::FastPath;

/// Bytes of the stack that a fault inside the kernel is reported on.
const EMERGENCY: usize = 2048;

/// One CPU's own data, in an order that is known to the exception entry.
#[repr(C, align(64))]
pub(super) struct PerCpu {
    /// Top of the kernel stack.
    pub(super) stack: u64,
    /// Top of the emergency stack.
    pub(super) emergency: u64,
    /// The kernel's threads, run queue and message counter, for the fast path in assembly.
    pub(super) fast: FastPath,
    /// The thread whose registers TPIDR_EL0, TPIDRRO_EL0 and TTBR0 belong to; NIL = none.
    pub(super) loaded: ThreadId,
    /// The table and ASID in TTBR0.
    pub(super) ttbr0: u64,
    /// The thread whose registers are in the floating-point unit.
    pub(super) fp_owner: ThreadId,
    /// Machine-wide number.
    pub(super) cpu: CpuId,
    /// When the timer will interrupt; `u64::MAX` = it will not.
    pub(super) timer_at: u64,
    /// Its counters, if [`super::measure`] is on.
    pub(super) counters: Option<&'static Block>,
    /// When it entered the kernel, likewise.
    pub(super) entered: u64,
    emergency_stack: [u8; EMERGENCY],
}

struct Slots(UnsafeCell<[PerCpu; MAX_CPUS]>);

// SAFETY: slot *i* is used by CPU *i* alone (`init` hands it out once, `get` goes through TPIDR_EL1).
unsafe impl Sync for Slots {}

const EMPTY: PerCpu = PerCpu {
    stack: 0,
    emergency: 0,
    fast: FastPath::OFF,
    loaded: ThreadId::NIL,
    ttbr0: 0,
    fp_owner: ThreadId::NIL,
    cpu: 0,
    timer_at: u64::MAX,
    counters: None,
    entered: 0,
    emergency_stack: [0; EMERGENCY],
};
static SLOTS: Slots = Slots(UnsafeCell::new([EMPTY; MAX_CPUS]));

/// Claims the slot of this CPU.
pub(super) fn init(cpu: CpuId, stack: u64) {
    let slots = SLOTS.0.get().cast::<PerCpu>();
    assert!(usize::from(cpu) < MAX_CPUS);
    // SAFETY: in bounds, and only CPU `cpu` runs this with its own number, once.
    let slot = unsafe { &mut *slots.add(usize::from(cpu)) };
    (slot.stack, slot.cpu) = (stack, cpu);
    slot.emergency = &raw const slot.emergency_stack as u64 + EMERGENCY as u64;
    write_sysreg!("tpidr_el1", &raw const *slot as u64);
}

/// Runs `f` on this CPU's data.
pub(super) fn with<R>(f: impl FnOnce(&mut PerCpu) -> R) -> R {
    let slot = read_sysreg!("tpidr_el1") as *mut PerCpu;
    // SAFETY: `init` has set the pointer; interrupts are masked in the kernel and no `f` calls `with` again, so this is the
    // only reference.
    f(unsafe { &mut *slot })
}
