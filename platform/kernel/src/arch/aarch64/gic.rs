//! The interrupt controller (GICv3), through the `arm-gic` crate: one doorbell SGI, the timer's PPI, and
//! devices' SPIs.
#![expect(unsafe_code, reason = "device registers")]

use super::registers::{read_sysreg, write_sysreg};
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicDistributor, GicRedistributor};
use arm_gic::{IntId, InterruptGroup, UniqueMmioPointer};
use core::mem::offset_of;
use core::ptr::NonNull;
use skerry_abi::Error;
use skerry_abi::boot::BootInfo;
use skerry_abi::layout::PHYSMAP;
use skerry_kernel::interrupt::{END_SHARED, FIRST_SHARED};

/// The software-generated interrupt that means "look at your run queue and your rings".
const DOORBELL: IntId = IntId::sgi(0);
/// The same, and the rings need not be looked at anew: used inside of clusters if looking costs much.
const OWN_DOORBELL: IntId = IntId::sgi(1);
/// Bytes of one redistributor's registers (two 64 KiB frames).
const FRAME: u64 = 0x2_0000;
const PRIORITY: u8 = 0x80;
/// That of doorbells: a CPU whose doorbell rings without end still takes its timer's and devices' interrupts, each before the next doorbell.
const LATER: u8 = 0xa0;
/// An affinity that no CPU has, on machines without Aff3 as well: where interrupts go that no cluster has attached.
const NOBODY: u64 = 0xff_ffff;
/// The affinity in MPIDR_EL1.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// What interrupted.
pub(super) enum Interrupt {
    /// The timer of this CPU.
    Timer,
    /// Another CPU.
    Doorbell,
    /// A CPU of this cluster.
    OwnDoorbell,
    /// A device, by interrupt id. The kernel masks it.
    Device(u32),
    /// Nothing that was asked for, or nothing at all.
    Other,
}

/// Sets up this CPU's part, and on the machine's first CPU the distributor. An SGI sent before that stays pending.
pub(super) fn init(info: &BootInfo, cpu: u16, mpidr: u64) {
    if cpu == 0 {
        let mut distributor = distributor(info);
        distributor.configure_default_settings();
        for irq in FIRST_SHARED..END_SHARED {
            if let Ok(id) = shared(&distributor, irq) {
                _ = distributor.set_routing(id, Some(NOBODY));
            }
        }
    }
    GicCpuInterface::enable_system_register_el1();
    let mut redistributor = redistributor(info, mpidr);
    // An error says that the core is awake already.
    _ = redistributor.mark_core_awake();
    redistributor.configure_default_settings();
    let timer = (IntId::ppi(info.timer_irq - 16), PRIORITY);
    for (interrupt, priority) in [(DOORBELL, LATER), (OWN_DOORBELL, LATER), timer] {
        redistributor
            .set_interrupt_priority(interrupt, priority)
            .and_then(|()| redistributor.enable_interrupt(interrupt, true))
            .expect("SGIs and PPIs belong to the redistributor");
    }
    GicCpuInterface::set_priority_mask(0xff);
    GicCpuInterface::enable_group1(true);
}

/// The distributor, which all kernels share. Only CPU 0 configures it as a whole, before any thread runs; afterwards the registers
/// used are one per interrupt (routing, priority) or act on the bits written (enable), so there is nothing to lock.
fn distributor(info: &BootInfo) -> GicDistributor<'static> {
    let address = (PHYSMAP + info.gic_distributor.base) as *mut Gicd;
    // SAFETY: the boot loader maps the distributor there as device memory. No Rust object lies behind it, and what other CPUs do to
    // it at the same time is told above.
    GicDistributor::new(unsafe { UniqueMmioPointer::new(NonNull::new(address).expect("PHYSMAP is not 0")) })
}

/// The id of a device's interrupt that the machine has.
fn shared(distributor: &GicDistributor<'_>, irq: u32) -> Result<IntId, Error> {
    let number =
        irq.checked_sub(FIRST_SHARED).filter(|&n| irq < END_SHARED && n < distributor.typer().num_spis());
    number.map(IntId::spi).ok_or(Error::BadArgument)
}

/// Makes a device's interrupt go to the CPU with this affinity, if no other cluster has it.
pub(super) fn claim(info: &BootInfo, irq: u32, mpidr: u64) -> Result<(), Error> {
    shared(&distributor(info), irq)?;
    if routing(info, irq) != NOBODY {
        return Err(Error::WrongState);
    }
    route(info, irq, mpidr)?;
    if routing(info, irq) == mpidr & AFFINITY { Ok(()) } else { Err(Error::WrongState) }
}

/// Where an interrupt goes that [`shared`] knows.
fn routing(info: &BootInfo, irq: u32) -> u64 {
    let register = offset_of!(Gicd, irouter) as u64 + u64::from(irq - FIRST_SHARED) * 8;
    let register = (PHYSMAP + info.gic_distributor.base + register) as *const u64;
    // SAFETY: as in `distributor`; reading it has no effect.
    unsafe { register.read_volatile() }
}

/// It is nobody's any more, and masked.
pub(super) fn release(info: &BootInfo, irq: u32) {
    mask(info, irq, true);
    let mut distributor = distributor(info);
    if let Ok(id) = shared(&distributor, irq) {
        _ = distributor.set_routing(id, Some(NOBODY));
    }
}

/// Lets a device's interrupt go to the CPU with this affinity.
pub(super) fn route(info: &BootInfo, irq: u32, mpidr: u64) -> Result<(), Error> {
    let mut distributor = distributor(info);
    let id = shared(&distributor, irq)?;
    let routed = distributor
        .set_interrupt_priority(id, PRIORITY)
        .and_then(|()| distributor.set_routing(id, Some(mpidr & AFFINITY)));
    routed.map_err(|_| Error::BadArgument)
}

/// Keeps a device's interrupt from coming, or lets it come.
pub(super) fn mask(info: &BootInfo, irq: u32, masked: bool) {
    let mut distributor = distributor(info);
    // One that does not exist cannot come.
    if let Ok(id) = shared(&distributor, irq) {
        _ = distributor.enable_interrupt(id, !masked);
        distributor.wait_for_pending_write();
    }
}

/// Finds the redistributor whose affinity is ours: they need not be in the order of the device tree's CPUs.
fn redistributor(info: &BootInfo, mpidr: u64) -> GicRedistributor<'static> {
    let frames = info.gic_redistributors.iter().flat_map(|r| (r.base..r.end()).step_by(FRAME as usize));
    for frame in frames {
        let address = NonNull::new((PHYSMAP + frame) as *mut GicrSgi).expect("PHYSMAP is not 0");
        // SAFETY: the boot loader maps all redistributor regions as device memory; TYPER is read-only, and of
        // the others' frames nothing else is touched.
        let candidate = GicRedistributor::new(unsafe { UniqueMmioPointer::new(address) });
        if candidate.typer().core_mpidr() == mpidr & 0xff_00ff_ffff {
            return candidate;
        }
    }
    panic!("no GIC redistributor for CPU with MPIDR {mpidr:#x}");
}

/// What [`ring`] needs to interrupt the CPU with this affinity: ICC_SGI1R_EL1 with its Aff3, Aff2, Aff1, the interrupt's number, and one
/// bit for Aff0.
pub(super) fn doorbell(mpidr: u64) -> u64 {
    generate(DOORBELL, mpidr)
}

/// The same for [`Interrupt::OwnDoorbell`].
pub(super) fn own_doorbell(mpidr: u64) -> u64 {
    generate(OWN_DOORBELL, mpidr)
}

fn generate(interrupt: IntId, mpidr: u64) -> u64 {
    let affinity = |shift: u32| mpidr >> shift & 0xff;
    let number = u64::from(u32::from(interrupt));
    affinity(32) << 48 | affinity(16) << 32 | number << 24 | affinity(8) << 16 | 1 << (affinity(0) & 0xf)
}

/// Interrupts a CPU. It sees what was written before; and the interrupt is on its way when this CPU goes on.
#[inline(always)]
pub(super) fn ring(doorbell: u64) {
    super::registers::dsb_ishst();
    write_sysreg!("icc_sgi1r_el1", doorbell);
    super::registers::isb();
}

/// Takes the pending interrupt, if there is one.
#[inline(always)]
pub(super) fn acknowledge(timer_irq: impl FnOnce() -> u32) -> Interrupt {
    let id = read_sysreg!("icc_iar1_el1");
    // It is not pending any more before this CPU looks at why it came: if it comes again meanwhile, it is seen again (GIC architecture
    // specification, "Observability of the effects of accesses to the GIC registers").
    super::registers::dsb_sy();
    if id == u64::from(u32::from(DOORBELL)) {
        write_sysreg!("icc_eoir1_el1", id);
        return Interrupt::Doorbell;
    }
    acknowledged(id as u32, timer_irq())
}

/// An interrupt was acknowledged that is not the doorbell.
#[inline(never)]
fn acknowledged(id: u32, timer_irq: u32) -> Interrupt {
    let id = match IntId::try_from(id) {
        Ok(id) if id != IntId::SPECIAL_NONE => id,
        _ => return Interrupt::Other,
    };
    if u32::from(id) == timer_irq {
        // The timer is level-triggered: silence it before the interrupt ends.
        super::timer::disarm();
    }
    GicCpuInterface::end_interrupt(id, InterruptGroup::Group1);
    match id {
        id if u32::from(id) == timer_irq => Interrupt::Timer,
        OWN_DOORBELL => Interrupt::OwnDoorbell,
        id if id.is_spi() => Interrupt::Device(id.into()),
        _ => Interrupt::Other,
    }
}
