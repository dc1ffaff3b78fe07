//! kernel-test: tests of the kernel that need the machine: interrupts, TLBs, floating-point registers, sleeping CPUs, latency.
//!
//! It runs as the root program (`root=kernel-test`) with nothing but the kernel below it; what follows `--` is the name of a case and
//! its arguments. A case ends with a verdict; numbers that it finds go out as records. But for `crowd` and `fuzz`, only cluster 0 takes part.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod attack;
    mod bounded;
    mod crowd;
    mod fp;
    mod fuzz;
    mod idle;
    mod info;
    mod interrupt;
    mod registers;
    mod status;
    mod tlb;
    mod trace;
    mod trouble;
    mod world;

    use core::fmt::{self, Write};
    use core::panic::PanicInfo;

    use skerry_abi::syscall::exit;
    use skerry_rt::uart::Uart;
    use skerry_rt::{record, start, sys};

    use world::{Failed, World};

    /// A case: its name, and what it does.
    type Case = (&'static str, fn(&mut World) -> Result<(), Failed>);

    const CASES: [Case; 10] = [
        ("attack", attack::run),
        ("info", info::run),
        (INTERRUPT, interrupt::run),
        ("fp", fp::run),
        ("registers", registers::run),
        ("idle", idle::run),
        ("status", status::run),
        ("tlb", tlb::run),
        ("trace", trace::run),
        ("bounded", bounded::run),
    ];

    /// Cases in which all clusters take part.
    const FUZZ: &str = "fuzz";
    const CROWD: &str = "crowd";
    /// A case in which cluster 1 takes part.
    const INTERRUPT: &str = "interrupt";

    fn main(cluster: u64) -> ! {
        let boot = start::boot_info();
        let mut words = boot.app_arguments().split_ascii_whitespace();
        let wanted = words.next().unwrap_or("");
        if wanted == FUZZ {
            verdict(FUZZ, fuzz::run(boot, cluster as u16))
        }
        if wanted == CROWD {
            verdict(CROWD, crowd::run(boot, cluster as u16))
        }
        if wanted == INTERRUPT && cluster == 1 {
            interrupt::rival(boot)
        }
        if cluster != 0 {
            skerry_rt::ipc::sleep_forever()
        }
        let Some((name, run)) = CASES.iter().find(|(name, _)| *name == wanted) else {
            end(exit::BAD_BOOT, format_args!("kernel-test: no such case: {wanted:?}"))
        };
        verdict(name, World::new(boot).and_then(|mut world| run(&mut world)))
    }

    fn verdict(name: &str, result: Result<(), Failed>) -> ! {
        match result {
            Ok(()) => end(exit::PASS, format_args!("")),
            Err(Failed) => {
                let why = world::why();
                let why = core::str::from_utf8(why.as_bytes()).unwrap_or("");
                end(exit::FAIL, format_args!("{name}: {why}"))
            }
        }
    }

    /// Says how it went, and ends the run.
    fn end(code: u64, reason: fmt::Arguments<'_>) -> ! {
        let reason = skerry_rt::Chunk::format(reason);
        let reason = core::str::from_utf8(reason.as_bytes()).unwrap_or("");
        let word = skerry_rt::interfaces::root::verdict(code);
        // The port does not fail.
        let _ = writeln!(Uart::new(start::boot_info()), "{}", record::verdict(word, reason));
        sys::exit(code)
    }

    fn panicked(info: &PanicInfo<'_>) -> ! {
        end(exit::SERVER_FAULT, format_args!("kernel-test panicked: {info}"))
    }

    skerry_rt::entry!(main, panic = panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("kernel-test is a guest program; use cargo test -p skerry --test qemu kernel-test");
    std::process::exit(2);
}
