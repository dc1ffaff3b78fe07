//! The root pager: one instance per cluster, the first program that each kernel runs.
//!
//! Its first thread starts the servers and then, on cluster 0, serves the console and the directory for all clusters. One
//! worker per CPU answers the servers' page faults; after start-up there are none.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    pub(crate) mod fence;
    pub(crate) mod launch;
    pub(crate) mod memory;
    pub(crate) mod relay;
    pub(crate) mod serve;
    pub(crate) mod strike;
    pub(crate) mod worker;

    use core::fmt::Write;
    use core::panic::PanicInfo;

    use root_pager::strike::parse as strike_parse;
    use skerry_abi::ThreadId;
    use skerry_abi::syscall::exit;
    use skerry_ipc::{Chunk, level, root};
    use skerry_rt::ipc::{Kernel, sleep_forever};
    use skerry_rt::{start, sys, uart, utcb};

    fn main(argument: u64) -> ! {
        // The kernel starts the first thread with the cluster; workers are started by `launch` with a bit on top.
        if argument & launch::WORKER != 0 {
            worker::run(argument & !launch::WORKER)
        }
        let cluster = argument as u16;
        if strike_parse(start::boot_info().option("crash")).is_none() {
            end(cluster, exit::BAD_BOOT, Chunk::format(format_args!("crash= is malformed")))
        }
        let outcome = launch::servers(start::boot_info(), cluster);
        match outcome {
            Ok(()) if cluster == 0 => serve::run(start::boot_info()),
            Ok(()) => worker::run(u64::MAX),
            Err(failure) => end(cluster, exit::BAD_BOOT, Chunk::format(format_args!("{failure}"))),
        }
    }

    /// Ends the run from a root pager thread that is not the one that serves.
    pub(crate) fn end_elsewhere(code: u64, reason: Chunk) -> ! {
        let _ = root::Client::new(Kernel::<level::SyscallServer>::new(), ThreadId::root(0)).end(code, reason);
        // The server itself cannot be reached: at least end.
        sys::exit(code)
    }

    fn end(cluster: u16, code: u64, reason: Chunk) -> ! {
        if cluster != 0 {
            end_elsewhere(code, reason)
        }
        serve::finish(&mut uart::Uart::new(start::boot_info()), code, &reason)
    }

    fn panicked(info: &PanicInfo<'_>) -> ! {
        let reason = Chunk::format(format_args!("root pager panicked: {info}"));
        if utcb::my_id() == ThreadId::root(0) {
            let mut uart = uart::Uart::new(start::boot_info());
            let _ = writeln!(uart, "root pager panicked: {info}");
            serve::finish(&mut uart, exit::SERVER_FAULT, &reason)
        }
        let _ = root::Client::new(Kernel::<level::SyscallServer>::new(), ThreadId::root(0))
            .end(exit::SERVER_FAULT, reason);
        sleep_forever()
    }

    skerry_rt::entry!(main, panic = panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!(
        "root-pager is a guest program; to boot it, type `cargo run` in the root folder of the repository"
    );
    std::process::exit(2);
}
