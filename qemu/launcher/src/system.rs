//! What is compared: the kernel's, the task space's and the placement's structure, as independent switches.

use clap::ValueEnum;

use crate::error::{Error, Result};

/// How many kernels there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Kernel {
    /// One kernel instance (and one app pager) per node.
    PerNode,
    /// One classic SMP kernel for the whole machine.
    One,
}

/// How many kernel address spaces a task has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Space {
    /// One on every node on which the task has threads.
    PerNode,
    /// One for all its threads.
    One,
}

/// Where a page comes from when it is touched for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Placement {
    /// All frames from node 0.
    #[value(name = "node0")]
    Node0,
    /// From the node of the thread that touched it.
    FirstTouch,
}

/// The combinations that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum SystemName {
    /// Skerry: a kernel and a space per node, first touch.
    Numa,
    /// The classic baseline: one kernel, one space, memory from node 0 only.
    NonNuma,
    /// One kernel and one space, first touch: what Linux does by default, as long as it migrates nothing.
    SingleSpace,
}

impl SystemName {
    /// All named systems.
    pub const ALL: [Self; 3] = [Self::Numa, Self::NonNuma, Self::SingleSpace];

    /// What it stands for.
    pub fn system(self) -> System {
        let (kernel, space, placement) = match self {
            Self::Numa => (Kernel::PerNode, Space::PerNode, Placement::FirstTouch),
            Self::NonNuma => (Kernel::One, Space::One, Placement::Node0),
            Self::SingleSpace => (Kernel::One, Space::One, Placement::FirstTouch),
        };
        System { kernel, space, placement }
    }
}

/// One cell of the factorial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct System {
    /// Kernels.
    pub kernel: Kernel,
    /// Spaces of the task.
    pub space: Space,
    /// Placement of its pages.
    pub placement: Placement,
}

impl System {
    /// Refuses the illegal cells by name.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check(self) -> Result<Self> {
        match (self.kernel, self.space, self.placement) {
            (Kernel::PerNode, Space::One, _) => Err(Error::Usage(
                "illegal system: --kernel per-node with --space one (an address space belongs to exactly one kernel)"
                    .into(),
            )),
            (Kernel::PerNode, _, Placement::Node0) => Err(Error::Usage(
                "illegal system: --kernel per-node with --placement node0 (a pager allocates only from its own pool)"
                    .into(),
            )),
            _ => Ok(self),
        }
    }

    /// Its name; unnamed cells of the factorial are `custom`.
    pub fn name(self) -> String {
        SystemName::ALL.into_iter().find(|n| n.system() == self).map_or("custom".into(), |n| n.to_string())
    }

    /// What the guest is told on its command line.
    pub fn options(self) -> [(&'static str, String); 3] {
        [
            ("clusters", self.kernel.to_string()),
            ("space", self.space.to_string()),
            ("placement", self.placement.to_string()),
        ]
    }
}

macro_rules! display_as_typed {
    ($($type:ty),*) => {$(
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
            }
        }
    )*};
}
pub(crate) use display_as_typed;
display_as_typed!(Kernel, Space, Placement, SystemName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_five_cells_of_the_factorial_are_legal() {
        let mut legal = Vec::new();
        for &kernel in Kernel::value_variants() {
            for &space in Space::value_variants() {
                for &placement in Placement::value_variants() {
                    legal.extend(System { kernel, space, placement }.check());
                }
            }
        }
        assert_eq!(legal.len(), 5);
        assert_eq!(legal.iter().filter(|s| s.name() != "custom").count(), 3);
    }

    #[test]
    fn options_are_the_words_of_the_guest() {
        let words = SystemName::SingleSpace.system().options().map(|(key, value)| format!("{key}={value}"));
        assert_eq!(words, ["clusters=one", "space=one", "placement=first-touch"]);
        assert_eq!(Placement::Node0.to_string(), "node0");
        assert_eq!(SystemName::NonNuma.to_string(), "non-numa");
    }
}
