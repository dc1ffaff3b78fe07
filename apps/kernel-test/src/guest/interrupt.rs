//! A device's interrupt as a notification: the serial port's, which it raises when it has sent a byte.
#![expect(unsafe_code, reason = "device registers")]

use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::boot::BootInfo;
use skerry_abi::info::Counter;
use skerry_abi::{Error, SpaceId, ThreadId, Timeout};
use skerry_rt::{info, ipc, sys};

use super::world::{Outcome, World, call, ensure, failed, report};

/// The port's interrupt on the `virt` machine: SPI 1.
const IRQ: u32 = 33;
const BIT: u64 = 1 << 40;

/// Register offsets of the PL011, and the transmit bit of the last two.
const DATA: u64 = 0x00;
const MASK: u64 = 0x38;
const CLEAR: u64 = 0x44;
const TRANSMIT: u32 = 1 << 5;

fn write(world: &World, register: u64, value: u32) {
    let address = (world.boot.uart.base + register) as usize;
    // SAFETY: the kernel maps the port's page into this space at this address, as a device.
    unsafe { with_exposed_provenance_mut::<u32>(address).write_volatile(value) }
}

/// Sends a byte, so that the port wants to interrupt.
fn provoke(world: &World) {
    write(world, MASK, TRANSMIT);
    write(world, DATA, u32::from(b'\n'));
}

fn calm(world: &World) {
    write(world, CLEAR, TRANSMIT);
}

/// The bits that come within a moment.
fn bits() -> u64 {
    ipc::wait_notification(Timeout(sys::counter_time() + 100_000)).unwrap_or(0)
}

/// Waits for the interrupt and reports it; and again, after the acknowledgement, which it gives itself.
extern "C" fn driver(_: u64) -> ! {
    loop {
        let bits = ipc::wait_notification(Timeout::NEVER).unwrap_or(0);
        report([bits, sys::interrupt_ack(IRQ).map_or_else(Error::code, |()| 0), 0, 0]);
    }
}

/// What two clusters share.
#[repr(C)]
struct Board {
    /// How often the other one is to try.
    wanted: AtomicU64,
    /// How often it has tried.
    tried: AtomicU64,
    /// What came of the last time.
    code: AtomicU64,
}

fn board(world: &World) -> &'static Board {
    // SAFETY: memory that nobody uses, cleared, the same for all clusters, as atomic words.
    unsafe { &*with_exposed_provenance(world.frames.base as usize) }
}

/// The root thread of cluster 1: attaches the interrupt whenever it is asked to.
pub(crate) fn rival(boot: &'static BootInfo) -> ! {
    let Ok(world) = World::new(boot) else { ipc::sleep_forever() };
    let board = board(&world);
    loop {
        let tried = board.tried.load(Ordering::Relaxed);
        if board.wanted.load(Ordering::Acquire) != tried {
            let code = sys::interrupt_attach(IRQ, world.me, BIT).map_or_else(Error::code, |()| 0);
            board.code.store(code, Ordering::Relaxed);
            board.tried.store(tried + 1, Ordering::Release);
        }
        ipc::pause(10_000);
    }
}

/// What comes of it when another cluster attaches the interrupt. Without one it is refused, too.
fn rivals_luck(world: &World) -> Outcome<Result<(), Error>> {
    if world.boot.clusters().len() == 1 {
        return Ok(Err(Error::WrongState));
    }
    let board = board(world);
    let wanted = board.wanted.fetch_add(1, Ordering::AcqRel) + 1;
    for _ in 0..10_000 {
        if board.tried.load(Ordering::Acquire) == wanted {
            let code = board.code.load(Ordering::Relaxed);
            return Ok(if code == 0 { Ok(()) } else { Err(Error::from_code(code)) });
        }
        ipc::pause(10_000);
    }
    failed(format_args!("cluster 1 does not try"))
}

pub(crate) fn run(world: &mut World) -> Outcome {
    let taken = || info::total(Counter::DeviceInterrupts);
    for irq in [0, 27, 31, 1020, u32::MAX] {
        let refused = sys::interrupt_attach(irq, world.me, BIT);
        ensure!(refused == Err(Error::BadArgument), "attaching {irq}: {refused:?}");
    }
    call("attaching", sys::interrupt_attach(IRQ, world.me, BIT))?;
    ensure!(bits() == 0, "an interrupt that nobody asked for");
    provoke(world);
    ensure!(bits() == BIT && taken() == 1, "no interrupt");
    let luck = rivals_luck(world)?;
    ensure!(luck == Err(Error::WrongState), "another cluster attaches it: {luck:?}");
    // The device still wants to interrupt, and is not heard before the acknowledgement.
    ensure!(bits() == 0 && taken() == 1, "the interrupt is not masked");
    call("acknowledging", sys::interrupt_ack(IRQ))?;
    ensure!(bits() == BIT && taken() == 2, "the level was lost");
    calm(world);
    call("acknowledging", sys::interrupt_ack(IRQ))?;
    ensure!(bits() == 0 && taken() == 2, "an interrupt of a calm device");
    call("detaching", sys::interrupt_detach(IRQ))?;
    provoke(world);
    ensure!(bits() == 0 && taken() == 2, "an interrupt of a detached device");

    // An unprivileged driver on another CPU, if there is one; the interrupt is waiting already.
    let cpu = world.other_cpus().next().unwrap_or(world.cpu);
    let local = (0..info::header().cpu_count).find(|&local| info::cpu(local) == cpu).unwrap_or(0);
    let space: SpaceId = world.space()?;
    let thread: ThreadId = world.spawn(space, 0, cpu, 60, driver, 0)?;
    let before = info::of_cpu(local, Counter::DeviceInterrupts);
    call("attaching", sys::interrupt_attach(IRQ, thread, 7))?;
    for _ in 0..3 {
        let [bits, code, ..] = world.report_of(thread)?;
        ensure!(bits == 7 && code == 0, "bits {bits:#x}, acknowledgement: {:?}", Error::from_code(code));
    }
    let there = info::of_cpu(local, Counter::DeviceInterrupts) - before;
    ensure!(there >= 3, "{there} of 3 interrupts on the driver's CPU");
    // With the thread goes the interrupt.
    call("deleting the driver", sys::thread_delete(thread))?;
    let before = (taken(), info::total(Counter::StrayInterrupts));
    provoke(world);
    ensure!(bits() == 0 && before == (taken(), info::total(Counter::StrayInterrupts)), "it still comes");
    calm(world);
    call("attaching again", sys::interrupt_attach(IRQ, world.me, BIT))?;
    provoke(world);
    ensure!(bits() == BIT, "no interrupt after attaching again");
    calm(world);
    call("detaching", sys::interrupt_detach(IRQ))?;
    if rivals_luck(world)?.is_ok() {
        let refused = sys::interrupt_attach(IRQ, world.me, BIT);
        ensure!(refused == Err(Error::WrongState), "attaching what another cluster has: {refused:?}");
    } else {
        ensure!(world.boot.clusters().len() == 1, "another cluster cannot attach it");
    }
    Ok(())
}
