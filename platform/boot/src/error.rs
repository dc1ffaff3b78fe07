//! Why the machine cannot be booted, and how that is said.

use core::fmt::{self, Write};

use skerry_abi::boot::{MAX_MODULES, UPKEEP};
use tar_no_std::CorruptDataError;

use crate::options::Name;

/// Everything that ends a boot. The text is one line that tells its reader what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The machine.
    Topology(skerry_topology::Error),
    /// There is no archive.
    NoArchive,
    /// The archive is no tar archive.
    Archive(CorruptDataError),
    /// The name of a file in the archive is too long or not UTF-8.
    ModuleName,
    /// Too many files in the archive.
    TooManyModules,
    /// A file that must be in the archive is not.
    NoModule(Name),
    /// A program is not what it has to be.
    BadProgram {
        /// The module.
        name: Name,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// `clusters=` has an unknown value.
    Clusters,
    /// `tick=` has a malformed value.
    Tick,
    /// `root=` is no name of a module.
    Root,
    /// A switch of the kernel has an unknown value.
    Switch {
        /// The option.
        option: &'static str,
        /// The values it can have.
        values: [&'static str; 2],
    },
    /// `mutate=` names no operation.
    Mutate,
    /// An option that places something has a malformed value.
    Where(&'static str),
    /// An option names a node without memory.
    NoMemory {
        /// The option.
        option: &'static str,
        /// The node.
        node: usize,
    },
    /// RAM or a device lies where the kernels cannot reach it.
    OutOfReach {
        /// Its end.
        end: u64,
        /// The first address that cannot be reached.
        limit: u64,
    },
    /// The archive or the device tree lies in the loader's own memory.
    Overlap(&'static str),
    /// Two things would be mapped at the same kernel address.
    MappedTwice(u64),
    /// Kernel memory is too small for what the loader must put there.
    KernelMemory {
        /// The cluster.
        cluster: usize,
    },
    /// The CPU that runs the loader is not in the device tree.
    UnknownBootCpu(u64),
    /// The CPU lacks something.
    Cpu(&'static str),
    /// PSCI refused to start a CPU.
    CpuOn {
        /// The CPU.
        cpu: usize,
        /// PSCI's error code.
        code: i64,
    },
}

impl From<skerry_topology::Error> for Error {
    fn from(error: skerry_topology::Error) -> Self {
        Self::Topology(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topology(error) => error.fmt(f),
            Self::NoArchive => f.write_str("there is no archive of modules: pass one with -initrd"),
            Self::Archive(error) => write!(f, "the archive of modules is damaged: {error}"),
            Self::ModuleName => f.write_str(
                "a file name in the archive is longer than 47 bytes, or not UTF-8: rename the file",
            ),
            Self::TooManyModules => {
                write!(f, "the archive holds too many modules: use at most {MAX_MODULES}")
            }
            Self::NoModule(name) => write!(f, "no module named `{name}` in the archive"),
            Self::BadProgram { name, problem } => write!(f, "module `{name}` cannot be loaded: {problem}"),
            Self::Clusters => f.write_str("unknown value of clusters=: use per-node, one or per-cpu"),
            Self::Tick => {
                f.write_str("malformed value of tick=: use a whole number with us or ms, from 1us to 10000ms")
            }
            Self::Root => {
                f.write_str("malformed value of root=: use the name of a module, 1 to 47 bytes long")
            }
            Self::Switch { option, values: [off, on] } => {
                write!(f, "unknown value of {option}=: use {off} or {on}")
            }
            Self::Mutate => {
                f.write_str("unknown value of mutate=: use ")?;
                let mut separator = "";
                UPKEEP
                    .iter()
                    .try_for_each(|name| write!(f, "{}{name}", core::mem::replace(&mut separator, ", ")))
            }
            Self::Where(option) => {
                write!(f, "unknown value of {option}=: use home, next or the number of a node")
            }
            Self::NoMemory { option, node } => {
                write!(f, "{option}={node}: node {node} has no memory, or does not exist")
            }
            Self::OutOfReach { end, limit } => write!(
                f,
                "the machine has RAM or devices up to {end:#x}, kernels reach {limit:#x}: use less memory or fewer CPUs"
            ),
            Self::Overlap(what) => {
                write!(f, "{what} overlaps the boot loader: give the machine more memory")
            }
            Self::MappedTwice(address) => {
                write!(f, "two things lie at kernel address {address:#x}: the device tree lists one twice")
            }
            Self::KernelMemory { cluster } => {
                write!(f, "the kernel memory of cluster {cluster} is too small for its page tables")
            }
            Self::UnknownBootCpu(mpidr) => {
                write!(f, "the CPU that boots (affinity {mpidr:#x}) is not in the device tree")
            }
            Self::Cpu(what) => f.write_str(what),
            Self::CpuOn { cpu, code } => write!(f, "CPU {cpu} cannot be started: PSCI error {code}"),
        }
    }
}

impl core::error::Error for Error {}

/// Writes the end of a boot as people and as the launcher read it: one line of text, one line of JSON.
///
/// # Errors
/// Those of `out`.
pub fn report(out: &mut dyn Write, reason: &dyn fmt::Display) -> fmt::Result {
    // A reason is one line by convention; a panic message need not be.
    write!(OneLine(out), "skerry-boot: error: {reason}")?;
    out.write_str("\n{\"verdict\":\"bad-boot\",\"reason\":\"")?;
    write!(Json(out), "{reason}")?;
    out.write_str("\"}\n")
}

/// Turns control characters into spaces.
struct OneLine<'a>(&'a mut dyn Write);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.0.write_char(if c.is_control() { ' ' } else { c }))
    }
}

/// Escapes text for the inside of a JSON string.
struct Json<'a>(&'a mut dyn Write);

impl Write for Json<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            '"' | '\\' => write!(self.0, "\\{c}"),
            c if c.is_control() => self.0.write_char(' '),
            c => self.0.write_char(c),
        })
    }
}
