//! The trace rings: what happens is recorded, can be read from user level, and what nobody reads in time is counted.

use core::fmt::Write;

use skerry_abi::{Error, Timeout};
use skerry_rt::trace::{Event, Reader, rings};
use skerry_rt::uart::Uart;
use skerry_rt::{info, ipc, start, sys};

use super::world::{Outcome, World, call, emit, ensure, failed, report};

const RINGS: u64 = 0x20_0000_0000;
const BITS: u64 = 0x5ce2;

extern "C" fn child(_: u64) -> ! {
    report([1; 4]);
    ipc::sleep_forever()
}

pub(crate) fn run(world: &mut World) -> Outcome {
    let mine = skerry_abi::SpaceId::root(0);
    if info::header().trace_ring == 0 {
        let refused = sys::map_trace(mine, RINGS);
        ensure!(refused == Err(Error::WrongState), "mapping rings that are not there: {refused:?}");
        return if world.argument == "off" { Ok(()) } else { failed(format_args!("boot with trace=on")) };
    }
    for va in [RINGS + 1, 1 << 39, (1 << 39) - 0x1000, !0xfff] {
        let refused = sys::map_trace(mine, va);
        ensure!(refused == Err(Error::BadArgument), "mapping rings at {va:#x}: {refused:?}");
    }
    let free = info::header().free_tables;
    let refused = sys::map_trace(mine, world.frames.base);
    ensure!(refused == Err(Error::AlreadyMapped), "mapping rings over memory: {refused:?}");
    ensure!(info::header().free_tables == free, "a refused call keeps memory");
    call("mapping the rings", sys::map_trace(mine, RINGS))?;

    // A child faults, reports, and is notified.
    let space = world.space()?;
    let thread = world.spawn(space, 0, world.cpu, 50, child, 0)?;
    world.report_of(thread)?;
    call("notifying", sys::notify(world.me, BITS))?;
    call("destroying the space", sys::space_destroy(space))?;
    // SAFETY: they were just mapped.
    #[expect(unsafe_code, reason = "the address of the rings")]
    let mut readers = unsafe { rings(RINGS) };
    let Some(mut reader) = readers.next() else { return failed(format_args!("no ring")) };
    show(&mut reader.clone());
    let (mut last, mut seen) = (0, [false; 5]);
    for record in reader.by_ref() {
        ensure!(record.time >= last, "time goes back at {record}");
        last = record.time;
        match record.event {
            Event::Fault { thread: t, .. } if t == thread => seen[0] = true,
            Event::Map { space: s, .. } if s == space => seen[1] = true,
            Event::Ipc { from, to, .. } if from == thread && to == world.me => seen[2] = true,
            Event::Switch { to } if to == thread => seen[3] = true,
            Event::Notification { thread: t, bits: BITS } if t == world.me => seen[4] = true,
            _ => {}
        }
    }
    ensure!(seen == [true; 5], "fault, map, message, switch, notification: {seen:?}");

    // More than the ring holds.
    let lost = reader.lost();
    const MANY: u64 = 5_000;
    for _ in 0..MANY {
        call("notifying", sys::notify(world.me, 1))?;
    }
    let read = reader.by_ref().count() as u64;
    let lost = reader.lost() - lost;
    ensure!(lost > 0 && read + lost >= MANY, "{read} read and {lost} lost of {MANY}");
    emit("trace", "read", read, "records");
    emit("trace", "lost", lost, "records");
    let _ = ipc::wait_notification(Timeout::ZERO);
    Ok(())
}

/// Prints the records of a ring.
fn show(reader: &mut Reader<'_>) {
    let mut uart = Uart::new(start::boot_info());
    for record in reader {
        // The port does not fail.
        let _ = writeln!(uart, "{record}");
    }
}
