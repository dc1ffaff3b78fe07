//! The applications that can be run, and the parameters the launcher knows of them.

use crate::error::{Error, Result};
use crate::size::{self, MIB};

/// An application of the guest.
#[derive(Debug, PartialEq, Eq)]
pub struct App {
    /// Its name: the module's and the package's.
    pub name: &'static str,
    /// One line for `list apps`.
    pub description: &'static str,
}

/// Name of the array-walk benchmark.
pub const ARRAY_WALK: &str = "array-walk";

/// Name of the walk of linked lists.
pub const LATENCY: &str = "latency";

/// All applications.
pub const APPS: [App; 6] = [
    App {
        name: ARRAY_WALK,
        description: "a thread per node walks its array; the arrays overlap by a chosen part (--overlap)",
    },
    App {
        name: LATENCY,
        description: "a thread walks linked lists in every node's memory; `-- --sizes=BYTES,… --stride=BYTES`; needs --model",
    },
    App {
        name: "pager-test",
        description: "pages are taken away from threads that use them; one case after `--`: hammer, partial, cross, protect, \
                      protect-write, refuse, moving, replicas, apart, untouched, code, together, stress [seed], placed PAGES",
    },
    App {
        name: "selftest",
        description: "one hostile or correct program after `--`: ok, fault-outside, privileged, jump-kernel, \
                      stack-overflow, unknown-syscall, read-kernel, write-code, exec-data; a hostile one ends \
                      with app-fault, as it should, and the others must not notice",
    },
    App {
        name: "tasks",
        description: "tasks that start and end each other; a case after `--`: storm COUNT, ends, hostile, moves, mourning COUNT",
    },
    App {
        name: "unmap",
        description: "takes pages away that several nodes map; `-- --sharers=N --batch --polling`; modelled cycles with --model",
    },
];

impl App {
    /// The application called `name`.
    ///
    /// # Errors
    /// [`Error::Usage`] with the names there are.
    pub fn find(name: &str) -> Result<&'static Self> {
        APPS.iter().find(|app| app.name == name).ok_or_else(|| {
            let known: Vec<_> = APPS.iter().map(|app| app.name).collect();
            Error::Usage(format!("unknown app `{name}`; there are {}", known.join(", ")))
        })
    }
}

/// Parameters of array-walk.
#[derive(Clone, Debug, PartialEq)]
pub struct ArrayWalk {
    /// The part of its array that a thread shares with the next one, 0 to 1.
    pub overlap: f64,
    /// How often every thread walks its array; the direction changes every time.
    pub iterations: u32,
    /// Bytes per array.
    pub size: u64,
    /// Whether the walk writes.
    pub write: bool,
    /// Whether the arrays lie in memory of each node's own.
    pub local: bool,
    /// Whether the pages are there before the walk.
    pub touched: bool,
    /// Whether there is a thread on every CPU, not only on every node.
    pub per_cpu: bool,
}

impl Default for ArrayWalk {
    fn default() -> Self {
        Self {
            overlap: 0.0,
            iterations: 2,
            size: 50 * MIB,
            write: false,
            local: false,
            touched: false,
            per_cpu: false,
        }
    }
}

impl ArrayWalk {
    /// Refuses parameters that make no sense on any machine.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check(self) -> Result<Self> {
        let Self { overlap, iterations, size, .. } = self;
        if !(0.0..=1.0).contains(&overlap) {
            return Err(Error::Usage(format!("--overlap {overlap} is not between 0 and 1")));
        }
        if self.local && overlap > 0.0 {
            return Err(Error::Usage(
                "--local: memory of a node's own cannot overlap; use --overlap 0".into(),
            ));
        }
        if iterations == 0 {
            return Err(Error::Usage("--iterations 0: the arrays have to be walked at least once".into()));
        }
        if size == 0 || !size.is_multiple_of(4096) || size > 1 << 36 {
            let size = size::format(size);
            return Err(Error::Usage(format!("--size {size} is not a multiple of 4K between 4K and 64G")));
        }
        Ok(self)
    }

    /// The words on the application's command line.
    pub fn arguments(&self) -> Vec<String> {
        let mut words = vec![
            format!("--overlap={}", self.overlap),
            format!("--iterations={}", self.iterations),
            format!("--size={}", self.size),
        ];
        let flags = [
            (self.write, "--write"),
            (self.local, "--local"),
            (self.touched, "--touched"),
            (self.per_cpu, "--per-cpu"),
        ];
        words.extend(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word.to_owned()));
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_parameters_are_refused() {
        let good = ArrayWalk::default();
        assert!(good.clone().check().is_ok());
        for overlap in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(ArrayWalk { overlap, ..good.clone() }.check().is_err());
        }
        assert!(ArrayWalk { iterations: 0, ..good.clone() }.check().is_err());
        assert!(ArrayWalk { size: 0, ..good.clone() }.check().is_err());
        assert!(ArrayWalk { size: 4097, ..good.clone() }.check().is_err());
        assert!(ArrayWalk { size: !4095, ..good }.check().is_err());
    }

    #[test]
    fn unknown_apps_are_refused_with_the_known_ones() {
        assert!(
            App::find("array-wal")
                .unwrap_err()
                .to_string()
                .contains("array-walk, latency, pager-test, selftest")
        );
    }
}
