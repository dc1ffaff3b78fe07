//! tasks: the life of tasks and of their threads, from an application's side.
//!
//! The argument names a case. Cases start this program again, as a child, with `child` and what the child is to do.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod child;
    mod ends;
    mod hostile;
    mod mourning;
    mod moves;
    mod spread;
    mod steps;
    mod storm;
    mod team;

    use core::fmt;

    use skerry_abi::Error;
    use skerry_abi::syscall::exit;
    use skerry_rt::{console, start, task};

    /// Why a case failed.
    pub(crate) enum Trouble {
        /// A request failed.
        Failed(&'static str, Error),
        /// Something is not as it has to be.
        Wrong(&'static str, u64, u64),
        /// There is no such case.
        Unknown,
    }

    impl fmt::Display for Trouble {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Failed(what, error) => write!(f, "{what}: {error}"),
                Self::Wrong(what, found, expected) => {
                    write!(f, "{what}: {found:#x} instead of {expected:#x}")
                }
                Self::Unknown => f.write_str("no such case; `list apps` names them"),
            }
        }
    }

    /// Names the request that failed.
    pub(crate) fn failed(what: &'static str) -> impl Fn(Error) -> Trouble {
        move |error| Trouble::Failed(what, error)
    }

    /// Insists on a number.
    pub(crate) fn expect(what: &'static str, found: u64, expected: u64) -> Result<(), Trouble> {
        if found == expected { Ok(()) } else { Err(Trouble::Wrong(what, found, expected)) }
    }

    fn main(_: u64) -> ! {
        console::use_pager();
        let arguments = start::app().arguments();
        let mut words = arguments.split_ascii_whitespace();
        let result = match words.next() {
            Some("child") => child::run(words),
            Some("storm") => storm::run(words),
            Some("ends") => ends::run(),
            Some("hostile") => hostile::run(),
            Some("moves") => moves::run(words),
            Some("spread") => spread::run(words),
            Some("mourning") => mourning::run(words),
            Some("steps") => steps::run(words),
            _ => Err(Trouble::Unknown),
        };
        match result {
            Ok(()) => task::exit(exit::PASS),
            Err(trouble) => task::end(exit::FAIL, format_args!("tasks {arguments}: {trouble}")),
        }
    }

    skerry_rt::entry!(main, panic = task::panicked);
}

#[cfg(not(target_os = "none"))]
fn main() {
    println!("tasks is a guest program; to boot it, type `cargo run` in the root folder of the repository");
    std::process::exit(2);
}
