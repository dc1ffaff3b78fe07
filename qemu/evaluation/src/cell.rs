//! A cell: one run, as data. Figures and goals share cells, so a cell is run once however many of them need it.

use serde::Serialize;

/// What a core does during a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Core {
    /// It waits.
    Blocking,
    /// It follows streams and overlaps independent misses.
    Prefetching,
}

impl Core {
    /// Both: a claim about time needs both.
    pub const ALL: [Self; 2] = [Self::Blocking, Self::Prefetching];

    /// As on command lines and in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Prefetching => "prefetching",
        }
    }
}

/// Kernels, spaces of a task, and placement, in the words of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct System {
    /// Its name in records.
    pub name: &'static str,
    /// `per-node` or `one`.
    pub kernel: &'static str,
    /// `per-node` or `one`.
    pub space: &'static str,
    /// `first-touch` or `node0`.
    pub placement: &'static str,
}

/// Skerry.
pub const NUMA: System =
    System { name: "numa", kernel: "per-node", space: "per-node", placement: "first-touch" };
/// The thesis' baseline.
pub const NON_NUMA: System = System { name: "non-numa", kernel: "one", space: "one", placement: "node0" };
/// One space with first touch: what Linux does as long as it migrates nothing.
pub const SINGLE_SPACE: System =
    System { name: "single-space", kernel: "one", space: "one", placement: "first-touch" };
/// One kernel, a space per node: differs from [`SINGLE_SPACE`] in the spaces alone.
pub const SPACES: System =
    System { name: "spaces", kernel: "one", space: "per-node", placement: "first-touch" };

/// The machine, by its file and what is changed in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Machine {
    /// The file's name.
    pub name: &'static str,
    /// So many nodes, and so many CPUs on each, with [`Machine::NODE_MEMORY`].
    pub nodes: Option<(usize, usize)>,
    /// Distance between two nodes, in tenths of the local one.
    pub distance: Option<u8>,
    /// Without the caches (but for a first level of 1 KiB, which the model cannot do without).
    pub uncached: bool,
}

impl Machine {
    /// Bytes of a node where [`Machine::nodes`] says how many there are.
    pub const NODE_MEMORY: u64 = 256 << 20;

    /// As its file says.
    pub const fn named(name: &'static str) -> Self {
        Self { name, nodes: None, distance: None, uncached: false }
    }
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Threads walk arrays that overlap.
    ArrayWalk {
        /// Tenths of an array that the next one covers.
        overlap: u8,
        /// How often.
        iterations: u32,
        /// Bytes of an array.
        bytes: u64,
        /// Which walk.
        variant: Variant,
    },
    /// Lists of these sizes are walked in every node's memory.
    Latency {
        /// Bytes.
        sizes: Vec<u64>,
    },
    /// Two threads of one CPU in two spaces call each other.
    PingPong,
    /// A page that so many nodes map is taken away.
    Unmap {
        /// The caller's node included.
        sharers: usize,
        /// 63 pages per call.
        batch: bool,
        /// The others work meanwhile; otherwise they sleep.
        polling: bool,
    },
}

/// Which array-walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// A thread per node, a global region.
    Plain,
    /// The region is each node's own.
    Local,
    /// The pages are there already.
    Touched,
    /// A thread per CPU.
    PerCpu,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The machine.
    pub machine: Machine,
    /// The system.
    pub system: System,
    /// The program.
    pub work: Work,
    /// The core model.
    pub core: Core,
    /// Options of kernels and pagers.
    pub options: Vec<&'static str>,
}

impl Cell {
    /// Its name in records: says everything that tells it from others.
    pub fn name(&self) -> String {
        let mut words = Vec::new();
        match &self.work {
            Work::ArrayWalk { overlap, iterations, bytes, variant } => {
                words.push("array-walk".to_owned());
                words.push(format!("overlap-{}", tenths(*overlap)));
                words.push(format!("iterations-{iterations}"));
                words.push(size(*bytes));
                match variant {
                    Variant::Plain => {}
                    Variant::Local => words.push("local".into()),
                    Variant::Touched => words.push("touched".into()),
                    Variant::PerCpu => words.push("per-cpu".into()),
                }
            }
            Work::Latency { .. } => words.push("latency".into()),
            Work::PingPong => words.push("ping-pong".into()),
            Work::Unmap { sharers, batch, polling } => {
                words.push("unmap".into());
                words.push(format!("sharers-{sharers}"));
                words.push(if *polling { "polling" } else { "sleeping" }.into());
                words.extend(batch.then(|| "batch".to_owned()));
            }
        }
        words.push(self.system.name.into());
        words.push(self.machine.name.into());
        words.extend(self.machine.nodes.map(|(nodes, cpus)| format!("{nodes}x{cpus}")));
        words.extend(self.machine.distance.map(|distance| format!("distance-{distance}")));
        words.extend(self.machine.uncached.then(|| "uncached".to_owned()));
        words.extend(self.options.iter().map(|option| option.replace('=', "-")));
        words.push(self.core.name().into());
        words.join("/")
    }

    /// About how long a run takes on the host, in units of a boot: for estimates.
    pub fn cost(&self) -> f64 {
        let nodes = self.machine.nodes.map_or(2, |(nodes, cpus)| nodes * cpus);
        let work = match &self.work {
            Work::ArrayWalk { iterations, bytes, variant, .. } => {
                let threads = match (variant, self.machine.nodes) {
                    (Variant::PerCpu, _) => nodes,
                    (_, Some((nodes, _))) => nodes,
                    _ => 2,
                };
                threads as f64 * *bytes as f64 * f64::from(*iterations) / 40e6
            }
            Work::Latency { sizes } => sizes.iter().sum::<u64>() as f64 / 4e6,
            Work::PingPong | Work::Unmap { .. } => 0.5,
        };
        1.0 + nodes as f64 / 8.0 + work
    }
}

/// Tenths as a number with one digit.
pub fn tenths(tenths: u8) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{}M", bytes >> 20) } else { format!("{}K", bytes >> 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_everything() {
        let work = Work::ArrayWalk { overlap: 3, iterations: 4, bytes: 8 << 20, variant: Variant::Local };
        let cell = Cell {
            machine: Machine { nodes: Some((4, 2)), ..Machine::named("opteron") },
            system: NUMA,
            work,
            core: Core::Blocking,
            options: vec!["ahead=1"],
        };
        assert_eq!(
            cell.name(),
            "array-walk/overlap-0.3/iterations-4/8M/local/numa/opteron/4x2/ahead-1/blocking"
        );
        assert_eq!((tenths(0), tenths(10)), ("0.0".into(), "1.0".into()));
    }
}
