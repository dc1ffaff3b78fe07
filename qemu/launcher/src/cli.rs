//! What can be typed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use skerry_cost_model::CoreModel;

use crate::app::ArrayWalk;
use crate::machine::{self, Overrides};
use crate::plugin::{Modelling, QUANTUM};
use crate::replay::ReplayArgs;
use crate::size;
use crate::skeleton::New;
use crate::system::{Kernel, Placement, Space, System, SystemName};
use crate::tuning::{Ahead, Maintenance, Place, Rings, Table, Tlb, Tuning, Unmap};

/// Skerry, a multi-server operating system for NUMA machines: build it, boot it in QEMU, measure it.
///
/// Without a command: boots two NUMA nodes, runs the array-walk overlap benchmark on Skerry and on two baselines, and
/// prints the comparison.
#[derive(Debug, Parser)]
#[command(name = "skerry", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options without a command.
    #[command(flatten)]
    pub main_job: MainJobArgs,
    /// Install nothing; say what to type instead (also: SKERRY_NO_INSTALL=1)
    #[arg(long, global = true)]
    pub no_install: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot one machine and run one application on it
    Run(Box<RunArgs>),
    /// Show what `bench` measured: an HTML file that needs nothing else, figures as SVG, and all numbers as CSV
    Report(ReportArgs),
    /// Compare two files of records, as `bench --format json` prints them: ratio, verdict, and where the cycles went
    Compare(CompareArgs),
    /// Measure: the evaluation, or one of its parts (`list benches`)
    ///
    /// Without a name: all figures and goals of the evaluation, in modelled cycles. An interrupted run goes on where it stopped. `bench
    /// kernel`, `bench smp` and `bench pager` count the instructions of their paths against bars, `bench instrument` checks the cost model, `bench
    /// policies` replays synthetic programs with all placement policies.
    Bench(BenchArgs),
    /// Try placement policies on a trace of misses: on a recorded one or a synthetic program's, with the cost model of a machine, without QEMU
    Replay(Box<ReplayArgs>),
    /// List machines, apps, systems, benchmarks, policies or synthetic programs
    List {
        /// What to list
        what: Listing,
    },
    /// Make something new to work on
    #[command(subcommand)]
    New(New),
    /// Check the tools this needs, and say how to get what is missing
    Doctor,
    /// Build everything that runs in the guest
    Build,
    /// Run clippy on everything that runs in the guest, warnings denied
    Clippy,
}

/// What `list` can list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Listing {
    /// `qemu/machines/*.toml`
    Machines,
    /// Applications
    Apps,
    /// Named systems
    Systems,
    /// Benchmarks, and the cases of those that count instructions
    Benches,
    /// Placement policies
    Policies,
    /// Synthetic programs for `replay`
    Workloads,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people
    #[default]
    Table,
    /// One JSON object per measurement and line
    Json,
}

/// Options of the main job.
#[derive(Debug, Args)]
pub struct MainJobArgs {
    /// Bytes per array (default 50M)
    #[arg(long, value_parser = size::parse)]
    pub size: Option<u64>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Give a boot up after so many seconds without output
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The benchmark (see `list benches`) [default: all of the evaluation]
    pub bench: Option<String>,
    /// Cases of kernel, smp, pager, instrument and policies (default all)
    #[arg(value_name = "CASE")]
    pub cases: Vec<String>,
    /// How results are printed. A bar that is not met shows in the results, not in the exit code
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Print the ledger instead: where the instructions go, part by part and function by function, as the instrument sees them executed
    #[arg(long, requires = "bench", conflicts_with = "format")]
    pub ledger: bool,
    /// The evaluation at reduced size: the same records and goals
    #[arg(long)]
    pub quick: bool,
    /// The evaluation as in the thesis: faults establish one page each, nodes are asked one after the other to unmap
    #[arg(long)]
    pub paper: bool,
    /// Use nothing that is kept from an earlier run of the evaluation
    #[arg(long)]
    pub fresh: bool,
    /// Run everything in the evaluation with quanta of 100, 300, 1,000 and 3,000 cycles, and say in every record of a modelled number by how much
    /// that changes it (`quantum_spread`, `quantum_sensitive`). Takes four times as long
    #[arg(long)]
    pub quanta: bool,
    /// Show everything the guest says
    #[arg(long)]
    pub verbose: bool,
    /// Give up after so many seconds without output of the guest
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Records, one per line [default: those of the last `bench`]
    pub records: Option<PathBuf>,
    /// The folder to write to [default: target/evaluation/report]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Records of the one
    pub first: PathBuf,
    /// Records of the other
    pub second: PathBuf,
    /// How results are printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The application (see `list apps`)
    pub app: String,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    tuning: TuningArgs,
    #[command(flatten)]
    instrument: InstrumentArgs,
    #[command(flatten)]
    walk: WalkArgs,
    /// Any other boot option of kernels, servers or boot loader (docs/architecture.md), such as `measure=on`. Can be given several times
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Inside kernels and pagers")]
    pub boot: Vec<String>,
    /// Multi-threaded emulation: faster, but counts are no longer exact: their records have the kind `wall`
    #[arg(long)]
    pub fast: bool,
    /// Run so many times; records then hold median, minimum and maximum
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// How results are printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Show the QEMU command and everything the guest says
    #[arg(long)]
    pub verbose: bool,
    /// Give up after so many seconds without output of the guest
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Further arguments for the application
    #[arg(last = true)]
    pub app_args: Vec<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
struct MachineArgs {
    /// The machine (see `list machines`), or a machine file
    #[arg(long, default_value = machine::DEFAULT)]
    machine: String,
    /// So many nodes, all like the first one of the machine
    #[arg(long)]
    nodes: Option<usize>,
    /// So many CPUs in total
    #[arg(long)]
    cpus: Option<usize>,
    /// So much memory in total
    #[arg(long, value_parser = size::parse)]
    mem: Option<u64>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "System")]
struct SystemArgs {
    /// A named combination of the three switches below
    #[arg(long, value_enum, default_value = "numa")]
    system: SystemName,
    /// Kernels
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// Address spaces of the task
    #[arg(long, value_enum)]
    space: Option<Space>,
    /// Where pages come from
    #[arg(long, value_enum)]
    placement: Option<Placement>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Inside kernels and pagers")]
struct TuningArgs {
    /// How a kernel reaches the TLBs of its other CPUs [default: broadcast]
    #[arg(long, value_enum)]
    tlb: Option<Tlb>,
    /// Whether the memory that kernels exchange messages through is coherent between nodes, or maintained by cache operations [default:
    /// coherent]
    #[arg(long, value_enum)]
    rings: Option<Rings>,
    /// Put a part of every kernel on another node; PART: image, tcbs, utcbs, page-tables or map-nodes; WHERE: home, next (the
    /// next node with memory) or a node's number. Can be given once per part
    #[arg(long, value_name = "PART=WHERE")]
    kernel_memory: Vec<Place>,
    /// How a pager reaches the nodes that share a page when it is unmapped: all at once, one after the other, or all at once through the root pager
    /// [default: parallel]
    #[arg(long, value_enum)]
    unmap: Option<Unmap>,
    /// How pagers reach the master table of a task: in shared memory, or by messages to the pager that has it [default: shared]
    #[arg(long, value_enum)]
    table: Option<Table>,
    /// How many pages a fault establishes, in regions that do not say so themselves: the one that was touched, the sixteen of the same
    /// 64 KiB, or these in one 64 KiB of frames if the node has one to give [default: 1]
    #[arg(long, value_enum)]
    ahead: Option<Ahead>,
    /// Which node a fresh page comes from, instead of the one that touches it: a policy of `list policies` with its options, as
    /// `interleave:nodes=0,2-3` or `preferred:node=1`. Those that have to be told of more than fresh pages run in `replay` only
    #[arg(long, value_name = "NAME[:OPTION=VALUE]...")]
    policy: Option<String>,
    /// Run the load balancer, which moves threads between CPUs, inside of nodes first
    #[arg(long)]
    balance: bool,
    /// When pagers maintain caches as a frame changes hands: as the memory model wants it, or always, for what it costs
    /// [default: model]
    #[arg(long, value_enum)]
    maintenance: Option<Maintenance>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Measuring instrument")]
struct InstrumentArgs {
    /// Charge every access to a model of caches, coherence, translation and memory, as the machine's file describes them; records of kind
    /// `modelled` then say where the cycles went. CORE is what a core does during a miss: `blocking` waits, `prefetching`
    /// follows streams and overlaps what is independent. A claim about time should hold with both
    #[arg(long, value_name = "CORE", conflicts_with = "fast")]
    model: Option<Core>,
    /// Modelled cycles that a CPU may be ahead of the slowest one [default: 1000]
    #[arg(long, value_name = "CYCLES", requires = "model", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    quantum: Option<u64>,
    /// Run with quanta of 100, 300, 1,000 and 3,000 cycles as well, and say which modelled numbers that changes by more than 2 %: they depend
    /// on the order in which CPUs take turns. Fields `quantum_spread` and `quantum_sensitive` of records; four more runs
    #[arg(long, requires = "model", conflicts_with = "sanitize")]
    quanta: bool,
    /// Instead of charging accesses, check from the first instruction on that software keeps memory coherent between nodes, as if nothing else did:
    /// loads that may be stale, stores onto stale lines, dirty lines that are dropped, code that was not cleaned, atomics on shared lines. What the
    /// machine needs coherent by design is reported, too (docs/performance-method.md)
    #[arg(long, requires = "model")]
    sanitize: bool,
    /// Write the misses of the application's threads to this file, for `replay`: from the first marker to the end of the measured phase
    #[arg(long, value_name = "FILE", requires = "model", conflicts_with_all = ["sanitize", "quanta"])]
    record: Option<PathBuf>,
    /// Write the lines from memory by phase, page and node to this file, as CSV, and print the pages with most remote ones
    #[arg(long, value_name = "FILE", requires = "model", conflicts_with_all = ["sanitize", "quanta"])]
    pages: Option<PathBuf>,
}

/// What a core does during a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Core {
    /// It waits for every miss.
    Blocking,
    /// It fetches streams ahead, and independent misses overlap.
    Prefetching,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "array-walk")]
struct WalkArgs {
    /// Part of its array that a thread shares with the next one, 0 to 1
    #[arg(long, allow_negative_numbers = true)]
    overlap: Option<f64>,
    /// How often the arrays are walked
    #[arg(long)]
    iterations: Option<u32>,
    /// Bytes per array
    #[arg(long, value_parser = size::parse)]
    size: Option<u64>,
    /// Write, too
    #[arg(long)]
    write: bool,
    /// Have the arrays in memory of each node's own; needs overlap 0
    #[arg(long)]
    local: bool,
    /// Have the pages there before the walk: no faults are measured
    #[arg(long)]
    touched: bool,
    /// A thread on every CPU instead of every node
    #[arg(long)]
    per_cpu: bool,
}

impl BenchArgs {
    /// Whether there is an option that only the evaluation has.
    pub fn is_evaluation(&self) -> bool {
        self.quick || self.paper || self.fresh || self.quanta
    }
}

impl RunArgs {
    /// The machine's name and what the options change in it.
    pub fn machine(&self) -> (&str, Overrides) {
        let MachineArgs { machine, nodes, cpus, mem } = &self.machine;
        (machine, Overrides { nodes: *nodes, cpus: *cpus, mem: *mem })
    }

    /// The system: the named one, changed by the single switches.
    pub fn system(&self) -> System {
        let named = self.system.system.system();
        System {
            kernel: self.system.kernel.unwrap_or(named.kernel),
            space: self.system.space.unwrap_or(named.space),
            placement: self.system.placement.unwrap_or(named.placement),
        }
    }

    /// What differs from the kernels' defaults.
    pub fn tuning(&self) -> Tuning {
        let TuningArgs { tlb, rings, kernel_memory, unmap, table, ahead, policy, balance, maintenance } =
            &self.tuning;
        Tuning {
            tlb: *tlb,
            rings: *rings,
            places: kernel_memory.clone(),
            unmap: *unmap,
            table: *table,
            ahead: *ahead,
            policy: policy.clone(),
            balance: *balance,
            maintenance: *maintenance,
        }
    }

    /// Whether modelled numbers are compared over several quanta.
    pub fn compares_quanta(&self) -> bool {
        self.instrument.quanta
    }

    /// The files that recordings go to: misses, and lines by page.
    pub fn recordings(&self) -> [Option<&Path>; 2] {
        [self.instrument.record.as_deref(), self.instrument.pages.as_deref()]
    }

    /// How the run is modelled, if it is.
    pub fn modelling(&self) -> Option<Modelling> {
        let InstrumentArgs { model, quantum, sanitize, .. } = self.instrument;
        let core = match model? {
            Core::Blocking => CoreModel::Blocking,
            Core::Prefetching => CoreModel::Prefetching,
        };
        Some(Modelling { core, quantum: quantum.unwrap_or(QUANTUM), sanitize })
    }

    /// The parameters of array-walk; `None` if no option of it was given.
    pub fn array_walk(&self) -> Option<ArrayWalk> {
        let WalkArgs { overlap, iterations, size, write, local, touched, per_cpu } = self.walk;
        let numbers = overlap.is_some() || iterations.is_some() || size.is_some();
        let given = numbers || write || local || touched || per_cpu;
        let default = ArrayWalk::default();
        given.then(|| ArrayWalk {
            overlap: overlap.unwrap_or(default.overlap),
            iterations: iterations.unwrap_or(default.iterations),
            size: size.unwrap_or(default.size),
            write,
            local,
            touched,
            per_cpu,
        })
    }
}

/// Why there is nothing to carry out.
#[derive(Debug)]
pub enum Mistake {
    /// Nothing is wrong: help or version was asked for.
    Help(clap::Error),
    /// What is wrong, in one line.
    Usage(String),
}

impl Cli {
    /// Reads a command line.
    ///
    /// # Errors
    /// [`Mistake`].
    pub fn parse_line(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, Mistake> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let option_first = words.get(1).is_some_and(|word| word.as_encoded_bytes().starts_with(b"-"));
        Self::try_parse_from(words).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Mistake::Help(error),
            ErrorKind::UnknownArgument if option_first => Mistake::Usage(format!(
                "{}; options of a run follow its name: `run array-walk --nodes 4`",
                one_line(&error.to_string())
            )),
            _ => Mistake::Usage(one_line(&error.to_string())),
        })
    }
}

/// The first paragraph of clap's message; tips and usage are what `--help` is for.
fn one_line(message: &str) -> String {
    let paragraph = message.trim_start_matches("error: ").lines().take_while(|line| !line.trim().is_empty());
    let words: Vec<&str> = paragraph.flat_map(str::split_whitespace).collect();
    format!("{} (see --help)", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_one_line() {
        for line in [
            "skerry --nosuch",
            "skerry --nodes 3",
            "skerry bench --ledger",
            "skerry bench kernel --ledger --format json",
            "skerry run",
            "skerry run x --nodes -1",
            "skerry run x --quantum 100",
            "skerry run x --model blocking --fast",
            "skerry list",
            "skerry list nothing",
        ] {
            match Cli::parse_line(line.split(' ')) {
                Err(Mistake::Usage(message)) => {
                    assert!(!message.contains('\n') && message.len() > 20, "{message}")
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(matches!(Cli::parse_line(["skerry", "run", "--help"]), Err(Mistake::Help(_))));
    }
    use clap::CommandFactory;

    fn run(line: &str) -> RunArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Some(Command::Run(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_readme_command_parses() {
        let line = "skerry run array-walk --nodes 4 --cpus 8 --mem 2G --overlap 0.5 --iterations 4 -- --x 1";
        let args = run(line);
        assert_eq!(args.machine().1, Overrides { nodes: Some(4), cpus: Some(8), mem: Some(2 << 30) });
        let walk = args.array_walk().unwrap();
        assert_eq!((walk.overlap, walk.iterations), (0.5, 4));
        assert_eq!(args.app_args, ["--x", "1"]);
    }

    #[test]
    fn switches_override_the_named_system() {
        let args = run("skerry run array-walk --system non-numa --placement first-touch");
        assert_eq!(args.system(), SystemName::SingleSpace.system());
    }

    #[test]
    fn a_model_has_a_quantum() {
        assert_eq!(run("skerry run x").modelling(), None);
        let given = run("skerry run x --model prefetching --quantum 300").modelling();
        assert_eq!(given, Some(Modelling { core: CoreModel::Prefetching, quantum: 300, sanitize: false }));
        assert_eq!(run("skerry run x --model blocking").modelling().map(|m| m.quantum), Some(QUANTUM));
    }

    #[test]
    fn no_command_is_the_main_job() {
        assert!(Cli::try_parse_from(["skerry"]).unwrap().command.is_none());
        assert!(Cli::try_parse_from(["skerry", "run"]).is_err());
        assert!(Cli::try_parse_from(["skerry", "run", "x", "--timeout", "0"]).is_err());
    }
}
