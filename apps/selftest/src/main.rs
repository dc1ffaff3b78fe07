//! selftest: a thread misbehaves, the others go on.
//!
//! The victim does what the argument says. Two threads on the victim's CPU and, where there is one, one on another node compute
//! with floating-point registers meanwhile and compare the results with what the first thread computed alone: so this is
//! the test of lazy floating-point switching too.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod compute;
    mod crime;

    use skerry_abi::Error;
    use skerry_abi::syscall::exit;
    use skerry_ipc::Chunk;
    use skerry_ipc::pager::ThreadEnd;
    use skerry_rt::record::{Kind, emit};
    use skerry_rt::{console, start, task};

    use crime::Crime;

    const STACKS: u64 = 0x8_0000_0000;
    const STACK_STRIDE: u64 = 1 << 20;
    const STACK_BYTES: u64 = 64 << 10;

    fn main(_: u64) -> ! {
        console::use_pager();
        let name = start::app().arguments().trim();
        let Some(crime) = Crime::parse(name) else {
            task::end(
                exit::BAD_BOOT,
                format_args!("selftest: no such case: {name:?}; `list apps` names them"),
            )
        };
        match run(crime) {
            Ok(None) => task::exit(exit::PASS),
            Ok(Some(failure)) => task::end(exit::FAIL, format_args!("selftest.{name}: {failure}")),
            Err(error) => task::end(exit::FAIL, format_args!("selftest.{name}: {error}")),
        }
    }

    /// Returns what went wrong.
    fn run(crime: Crime) -> Result<Option<&'static str>, Error> {
        compute::prepare();
        let mut places = start::app().places();
        let victim_cpu = places.next().map_or(0, |(_, cpu)| cpu);
        let bystander_cpu = places.next().map_or(victim_cpu, |(_, cpu)| cpu);
        let spawn = |index: u64, cpu, entry, argument| {
            let stack = task::stack(STACKS + (index + 1) * STACK_STRIDE, STACK_BYTES)?;
            task::spawn(cpu, entry, stack, argument)
        };
        let bystander = spawn(0, bystander_cpu, compute::thread, 0)?;
        let pair = [spawn(1, victim_cpu, compute::thread, 1)?, spawn(2, victim_cpu, compute::thread, 2)?];
        let victim = spawn(3, victim_cpu, crime::thread, crime as u64)?;

        let victim = task::join(victim)?;
        let mut well = task::join(bystander)? == ThreadEnd::Exited(0);
        for number in pair {
            well &= task::join(number)? == ThreadEnd::Exited(0);
        }
        let case = Chunk::format(format_args!("selftest.{}", crime.name()));
        let case = core::str::from_utf8(case.as_bytes()).unwrap_or("");
        emit(("selftest", case, "bystander-finished"), u64::from(well), "threads", Kind::Exact, &[]);
        Ok(match (well, victim) {
            (false, _) => Some("a bystander did not finish, or its registers were changed"),
            (true, ThreadEnd::Exited(_)) if crime != Crime::Ok => Some("the victim got away with it"),
            (true, ThreadEnd::Died) if crime == Crime::Ok => Some("a thread that did nothing died"),
            _ => None,
        })
    }

    skerry_rt::entry!(main, panic = task::panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!(
        "selftest is a guest program; to boot it, type `cargo run` in the root folder of the repository"
    );
    std::process::exit(2);
}
