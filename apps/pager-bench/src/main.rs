//! pager-bench: counts the instructions of the pagers' paths.
//!
//! It is an application like any other. A thread on the node of the path touches one page after the other and looks at the
//! cycle counter before and after; in deterministic emulation the difference is exactly the instructions of all CPUs together, kernels and
//! servers included. Whoever takes no part sleeps in WFI.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod cases;
    mod moving;
    mod touch;
    mod unmap;

    use pager_bench::CASES;
    use skerry_abi::syscall::exit;
    use skerry_rt::record::{self, Kind};
    use skerry_rt::{console, start, task};

    use cases::{Bench, Trouble};

    fn main(_: u64) -> ! {
        console::use_pager();
        let wanted = start::app().arguments();
        if let Some(unknown) = wanted.split_ascii_whitespace().find(|name| pager_bench::find(name).is_none())
        {
            task::end(exit::BAD_BOOT, format_args!("pager-bench: no such case: {unknown:?}"))
        }
        match run_all(wanted) {
            Ok(()) => task::exit(exit::PASS),
            Err((case, trouble)) => task::end(exit::FAIL, format_args!("pager-bench: {case}: {trouble}")),
        }
    }

    /// Runs the cases that `wanted` names, or all.
    fn run_all(wanted: &str) -> Result<(), (&'static str, Trouble)> {
        let bench = Bench::new().map_err(|trouble| ("start", trouble))?;
        let mut empty = bench.empty().map_err(|trouble| ("empty", trouble))?;
        empty.sort_unstable();
        let overhead = empty[empty.len() / 2];
        let is_wanted = |name| wanted.is_empty() || wanted.split_ascii_whitespace().any(|word| word == name);
        for case in CASES.iter().filter(|case| is_wanted(case.name)) {
            for sample in bench.run(case.name).map_err(|trouble| (case.name, trouble))? {
                let names = ("pager", case.name, "instructions");
                let count = sample.saturating_sub(overhead).div_ceil(case.per);
                record::emit(names, count, "instructions", Kind::Exact, &[("overhead", overhead)]);
            }
        }
        Ok(())
    }

    skerry_rt::entry!(main, panic = task::panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!(
        "pager-bench is a guest program; type `cargo run -- bench pager` in the root folder of the repository"
    );
    std::process::exit(2);
}
