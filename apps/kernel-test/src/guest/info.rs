//! The information page says the truth, to everybody, and only the kernel writes it.
#![expect(unsafe_code, reason = "a store that must fault")]

use core::ptr::with_exposed_provenance_mut;

use skerry_abi::Rights;
use skerry_abi::info::{Counter, VERSION};
use skerry_abi::layout::INFO_PAGE_BASE;
use skerry_abi::message::kernel_label;
use skerry_rt::{info, sys};

use super::world::{Heard, Outcome, World, call, ensure, failed, report};

extern "C" fn writer(_: u64) -> ! {
    report([info::header().version, info::total(Counter::Notifications), 0, 0]);
    let page = with_exposed_provenance_mut::<u64>(INFO_PAGE_BASE as usize);
    // SAFETY: nothing happens but a page fault, which ends the test.
    unsafe { page.write_volatile(0) };
    report([0; 4]);
    loop {
        sys::wait();
    }
}

pub(crate) fn run(world: &mut World) -> Outcome {
    let header = info::header();
    ensure!(header.version == VERSION && header.cluster == 0, "{header:?}");
    let cpus = 1 + world.other_cpus().count() as u64;
    ensure!(header.cpu_count == cpus && header.counter_frequency != 0, "{header:?}");
    let mut seen = (0..cpus).map(info::cpu);
    ensure!(seen.all(|cpu| world.boot.cpus()[usize::from(cpu)].cluster == 0), "a CPU of another cluster");

    let before = info::total(Counter::Notifications);
    for _ in 0..10 {
        call("notifying", sys::notify(world.me, 1))?;
    }
    let counted = info::total(Counter::Notifications) - before;
    ensure!(counted == 10, "10 notifications counted as {counted}");
    let _ = skerry_rt::ipc::wait_notification(skerry_abi::Timeout::ZERO);

    let free = (header.free_tables, header.free_nodes);
    let space = world.space()?;
    let child = world.spawn(space, 0, world.cpu, 50, writer, 0)?;
    let [version, notifications, ..] = world.report_of(child)?;
    ensure!(version == VERSION && notifications == before + 10, "the child sees something else");
    let now = info::header();
    ensure!(now.free_tables < free.0 && now.free_nodes < free.1, "a new space took no memory");
    match world.hear()? {
        Heard::Other(from, kernel_label::PAGE_FAULT, INFO_PAGE_BASE, access) if from == child => {
            ensure!(access == Rights::W.bits(), "access {access:#x}");
        }
        other => return failed(format_args!("writing the information page: {other:x?}")),
    }
    call("destroying the space", sys::space_destroy(space))?;
    let now = info::header();
    ensure!((now.free_tables, now.free_nodes) == free, "{free:?} free before, {now:?} after");
    Ok(())
}
