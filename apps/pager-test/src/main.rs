//! pager-test: pages are taken away from threads that use them, and restricted, and given back, on all nodes at a time.
//!
//! The argument names the case. Threads check what they see against what they know must be there, so a stale mapping on any node,
//! or a frame that two pages have, is noticed.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod cross;
    mod crowd;
    mod hammer;
    mod moving;
    mod partial;
    mod protect;
    mod refuse;
    mod stress;
    mod together;

    use skerry_abi::syscall::exit;
    use skerry_rt::{console, start, task};

    use crowd::Failure;

    /// A case: its name, and what it does with the word behind it.
    type Case = (&'static str, fn(u64) -> Result<(), Failure>);

    const CASES: [Case; 9] = [
        ("hammer", hammer::run),
        ("partial", partial::run),
        ("cross", cross::run),
        ("protect", protect::run),
        ("protect-write", protect::write),
        ("refuse", refuse::run),
        ("moving", moving::run),
        ("stress", stress::run),
        ("together", together::run),
    ];

    fn main(_: u64) -> ! {
        console::use_pager();
        let mut words = start::app().arguments().split_ascii_whitespace();
        let wanted = words.next().unwrap_or("");
        let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
        let Some((name, run)) = CASES.iter().find(|(name, _)| *name == wanted) else {
            task::end(exit::BAD_BOOT, format_args!("pager-test: no such case: {wanted:?}"))
        };
        match run(number) {
            Ok(()) => task::exit(exit::PASS),
            Err(failure) => task::end(exit::FAIL, format_args!("pager-test.{name}: {failure}")),
        }
    }

    skerry_rt::entry!(main, panic = task::panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("pager-test is a guest program; use cargo test -p skerry --test qemu pager-test");
    std::process::exit(2);
}
