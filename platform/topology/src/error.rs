//! Why a machine cannot be used. Each text is one line that tells its reader what to change.

use core::fmt;

use dtoolkit::error::FdtParseError;

/// What is wrong with a device tree, or with the machine it describes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// There is no device tree where one should be.
    NoTree,
    /// The blob is not a well-formed flattened device tree.
    Tree(FdtParseError),
    /// A property has not the shape its binding prescribes.
    Property {
        /// The kind of node.
        node: &'static str,
        /// The property.
        property: &'static str,
    },
    /// Something the kernel cannot do without is not described.
    Missing {
        /// What.
        what: &'static str,
        /// How one gets it.
        hint: &'static str,
    },
    /// There is more of something than the boot information holds.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// `bootargs` are too long.
    CommandLine,
    /// A node id is too large.
    NodeId(u32),
    /// A distance is below 10 or above 255, or a node's distance to itself is not 10.
    Distance {
        /// Row.
        from: u32,
        /// Column.
        to: u32,
        /// The value.
        distance: u32,
    },
    /// Two CPUs have the same affinity.
    DuplicateCpu(u64),
    /// Two ranges of RAM overlap at this address.
    OverlappingRam(u64),
    /// A kernel or a root pager does not fit.
    NodeTooSmall {
        /// The node.
        node: usize,
        /// Bytes of the largest piece that is left of it.
        left: u64,
        /// What does not fit.
        what: &'static str,
        /// Bytes that it needs.
        needed: u64,
    },
    /// A cluster would get no pool.
    NoPool {
        /// The cluster.
        cluster: usize,
        /// The node that should feed it.
        node: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTree => f.write_str(
                "there is no device tree: pass its address in x0, as QEMU does for a flat -kernel image",
            ),
            Self::Tree(error) => write!(f, "the device tree is damaged: {error}"),
            Self::Property { node, property } => {
                write!(f, "the device tree is damaged: `{property}` of a {node} node is malformed")
            }
            Self::Missing { what, hint } => write!(f, "the device tree describes no {what}: {hint}"),
            Self::TooMany { what, limit } => {
                write!(f, "the machine has too many {what}: use at most {limit}")
            }
            Self::CommandLine => {
                write!(f, "the command line is longer than {} bytes: shorten it", crate::MAX_COMMAND_LINE)
            }
            Self::NodeId(id) => write!(
                f,
                "node id {id} is too large: number the nodes from 0 to {}",
                skerry_abi::boot::MAX_NODES - 1
            ),
            Self::Distance { from, to, distance } => write!(
                f,
                "the distance from node {from} to node {to} is {distance}: use 10 for a node to itself and 10 to 255 \
                 otherwise"
            ),
            Self::DuplicateCpu(mpidr) => {
                write!(f, "the device tree is damaged: two CPUs have the affinity {mpidr:#x}")
            }
            Self::OverlappingRam(address) => {
                write!(f, "the device tree is damaged: RAM at {address:#x} is described twice")
            }
            Self::NodeTooSmall { node, left, what, needed } => write!(
                f,
                "node {node} has {} of contiguous RAM left, {what} needs {}: give the node more memory",
                Size(*left),
                Size(*needed)
            ),
            Self::NoPool { cluster, node } => write!(
                f,
                "node {node} has no RAM left for the pool of cluster {cluster}: give the node more memory"
            ),
        }
    }
}

impl core::error::Error for Error {}

/// A number of bytes in the largest unit that shows it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}
