//! pager-test: pages are taken away from threads that use them, and restricted, and given back, on all nodes at a time.
//!
//! The argument names the case. Threads check what they see against what they know must be there, so a stale mapping on any node,
//! or a frame that two pages have, is noticed.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod code;
    mod copies;
    mod cross;
    mod crowd;
    mod hammer;
    mod moving;
    mod partial;
    mod past;
    mod placed;
    mod protect;
    mod refuse;
    mod stress;
    mod together;

    use skerry_abi::syscall::exit;
    use skerry_ipc::pager::{Maintained, OPERATIONS, SITES};
    use skerry_rt::record::{Kind, emit};
    use skerry_rt::{console, start, task};

    use crowd::Failure;

    /// A case: its name, and what it does with the word behind it.
    type Case = (&'static str, fn(u64) -> Result<(), Failure>);

    const CASES: [Case; 15] = [
        ("hammer", hammer::run),
        ("partial", partial::run),
        ("placed", placed::run),
        ("cross", cross::run),
        ("protect", protect::run),
        ("protect-write", protect::write),
        ("refuse", refuse::run),
        ("moving", moving::run),
        ("replicas", copies::replicas),
        ("apart", copies::apart),
        ("untouched", copies::untouched),
        ("code", code::run),
        ("stress", stress::run),
        ("together", together::run),
        ("past", past::run),
    ];

    fn main(_: u64) -> ! {
        console::use_pager();
        let mut words = start::app().arguments().split_ascii_whitespace();
        let wanted = words.next().unwrap_or("");
        let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
        let Some((name, run)) = CASES.iter().find(|(name, _)| *name == wanted) else {
            task::end(
                exit::BAD_BOOT,
                format_args!("pager-test: no such case: {wanted:?}; `list apps` names them"),
            )
        };
        match run(number) {
            Ok(()) => {
                maintenance();
                task::exit(exit::PASS)
            }
            Err(failure) => task::end(exit::FAIL, format_args!("pager-test.{name}: {failure}")),
        }
    }

    /// Says which cache maintenance the pagers have done, if there was any.
    fn maintenance() {
        let nodes = start::app().places().filter_map(|(node, _)| task::pager().maintenance(node).ok());
        let mut sum = Maintained::default();
        for counts in nodes {
            sum.0.iter_mut().flatten().zip(counts.0.iter().flatten()).for_each(|(sum, count)| *sum += count);
        }
        for (operation, counts) in OPERATIONS.iter().zip(sum.0) {
            for (site, count) in SITES.iter().zip(counts).filter(|(_, count)| *count != 0) {
                emit((operation, "maintenance", site), count, "lines", Kind::Exact, &[]);
            }
        }
    }

    skerry_rt::entry!(main, panic = task::panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("pager-test is a guest program; use cargo test -p skerry --test qemu pager-test");
    std::process::exit(2);
}
