//! kernel-bench: counts the instructions of the kernel's paths.
//!
//! It runs as the root program (`root=kernel-bench`), on every cluster, with nothing but the kernel below it. On cluster 0 it makes
//! spaces and threads, lets them measure, and sends every sample as a record; on the others it lends a hand. The count is the
//! cycle counter's, which in deterministic emulation is exactly the instructions of all CPUs together; whoever takes no
//! part sleeps in WFI.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod cases;
    mod loops;
    mod service;
    mod shared;
    mod world;

    use core::fmt::{self, Write};
    use core::panic::PanicInfo;

    use kernel_bench::{CASES, Case, SHARED_CASES};
    use skerry_abi::syscall::exit;
    use skerry_rt::record::{self, Kind};
    use skerry_rt::uart::Uart;
    use skerry_rt::{start, sys};

    use cases::Samples;
    use world::{Trouble, World};

    /// Spaces that `unmap.page.growth` has in addition.
    const FURTHER: f64 = 16.0;

    fn main(cluster: u64) -> ! {
        if cluster != 0 {
            service::run(cluster as u16)
        }
        let mut uart = Uart::new(start::boot_info());
        let wanted = start::boot_info().app_arguments();
        if let Some(unknown) = wanted.split_ascii_whitespace().find(|name| kernel_bench::find(name).is_none())
        {
            end(&mut uart, exit::BAD_BOOT, format_args!("kernel-bench: no such case: {unknown:?}"))
        }
        match run_all(&mut uart, wanted) {
            Ok(()) => end(&mut uart, exit::PASS, format_args!("")),
            Err((case, trouble)) => end(&mut uart, exit::FAIL, format_args!("{case}: {trouble}")),
        }
    }

    /// Runs the cases that `wanted` names, or all for clusters of one CPU.
    fn run_all(uart: &mut Uart, wanted: &str) -> Result<(), (&'static str, Trouble)> {
        let mut world = World::new(start::boot_info(), 0).map_err(|trouble| ("start", trouble))?;
        let empty = cases::empty(&mut world).map_err(|trouble| ("empty", trouble))?;
        let overhead = middle(&empty);
        // Those of the other benchmark, and those that need another boot, have to be named.
        let is_named = |name| wanted.split_ascii_whitespace().any(|word| word == name);
        let is_wanted = |case: &&Case| match wanted {
            "" => case.options.is_empty(),
            _ => is_named(case.name),
        };
        let cases = CASES.iter().filter(is_wanted);
        for case in cases.chain(SHARED_CASES.iter().filter(|case| is_named(case.name))) {
            let samples = |world: &mut World, name| {
                let samples = cases::run(world, name).unwrap_or(Ok([0; _]));
                samples
                    .map(|samples| samples.map(|sample| sample.saturating_sub(overhead)))
                    .map_err(|t| (case.name, t))
            };
            if case.name == "unmap.page.growth" {
                let one = middle(&samples(&mut world, "unmap.page")?) as f64;
                for sample in samples(&mut world, "unmap.page.17")? {
                    emit(uart, case.name, (sample as f64 - one) / FURTHER, overhead);
                }
            } else {
                samples(&mut world, case.name)?.into_iter().for_each(|n| emit(uart, case.name, n, overhead));
            }
        }
        Ok(())
    }

    fn emit(uart: &mut Uart, case: &str, value: impl fmt::Display, overhead: u64) {
        let (names, extra) = (("kernel", case, "instructions"), [("overhead", overhead)]);
        let line = record::measurement(names, value, "instructions", Kind::Exact, &extra);
        // The port does not fail.
        let _ = writeln!(uart, "{line}");
    }

    fn middle(samples: &Samples) -> u64 {
        let mut sorted = *samples;
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    }

    /// Says how it went, and ends the run.
    fn end(uart: &mut Uart, code: u64, reason: fmt::Arguments<'_>) -> ! {
        let reason = skerry_rt::Chunk::format(reason);
        let reason = core::str::from_utf8(reason.as_bytes()).unwrap_or("");
        let word = skerry_rt::interfaces::root::verdict(code);
        // The port does not fail.
        let _ = writeln!(uart, "{}", record::verdict(word, reason));
        sys::exit(code)
    }

    fn panicked(info: &PanicInfo<'_>) -> ! {
        let mut uart = Uart::new(start::boot_info());
        end(&mut uart, exit::SERVER_FAULT, format_args!("kernel-bench panicked: {info}"))
    }

    skerry_rt::entry!(main, panic = panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!(
        "kernel-bench is a guest program; type `cargo run -- bench kernel` in the root folder of the repository"
    );
    std::process::exit(2);
}
