//! Machines: nodes with CPUs and memory, and the distances between them. They are data (`qemu/machines/*.toml`);
//! options of the command line override them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use skerry_abi::boot::{MAX_CPUS, MAX_NODES};
use skerry_cost_model::Params;

use crate::error::{Error, Result};
use crate::size::{self, MIB};

/// The machine that is used when none is named.
pub const DEFAULT: &str = "two-node";

/// Distance of a node to itself, as in ACPI's SLIT.
pub const LOCAL_DISTANCE: u8 = 10;
const DEFAULT_REMOTE_DISTANCE: u8 = 20;

/// A machine file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    description: String,
    nodes: Vec<FileNode>,
    /// What memory costs, where it differs from the defaults.
    #[serde(default)]
    model: Params,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileNode {
    cpus: usize,
    mem: String,
    distances: Option<Vec<u8>>,
}

/// A NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// CPUs; 0 is allowed.
    pub cpus: usize,
    /// Bytes of memory; 0 is allowed.
    pub mem: u64,
}

/// A machine, checked: QEMU can give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Name of its file, with a `+` if options changed it.
    pub name: String,
    /// One line for `list machines`.
    pub description: String,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// `distances[from][to]`, 10 = local.
    pub distances: Vec<Vec<u8>>,
    /// SHA-256 of the file's text, first 16 digits.
    pub hash: String,
    /// What memory costs there.
    pub model: Params,
}

/// What options change in a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// So many nodes, all like the first one of the file.
    pub nodes: Option<usize>,
    /// So many CPUs in total, spread evenly over the nodes that have CPUs.
    pub cpus: Option<usize>,
    /// So much memory in total, spread evenly over the nodes that have memory.
    pub mem: Option<u64>,
}

impl Machine {
    /// Reads and checks the machine called `name` in `folder`, or the file `name` if that looks like a path.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown, malformed or impossible machine.
    pub fn load(folder: &Path, name: &str, overrides: Overrides) -> Result<Self> {
        let path =
            if name.ends_with(".toml") { PathBuf::from(name) } else { folder.join(format!("{name}.toml")) };
        let Ok(text) = std::fs::read_to_string(&path) else {
            let known: Vec<_> = Self::names(folder)?;
            return Err(Error::Usage(format!(
                "unknown machine `{name}`; there are {}, or give the path of a .toml file",
                known.join(", ")
            )));
        };
        let machine = Self::parse(&text).map_err(|error| match error {
            Error::Usage(what) => Error::Usage(format!("{}: {what}", path.display())),
            other => other,
        })?;
        machine.with(overrides)?.check()
    }

    /// The names of the machines in `folder`, sorted.
    ///
    /// # Errors
    /// [`Error::Host`] if the folder cannot be read.
    pub fn names(folder: &Path) -> Result<Vec<String>> {
        let entries =
            std::fs::read_dir(folder).map_err(Error::host(format!("reading {}", folder.display())))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "toml"))
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Parses the text of a machine file, without checking whether the machine is possible.
    ///
    /// # Errors
    /// [`Error::Usage`] with the place in the file.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = 1 + error.span().map_or(0, |span| text[..span.start].matches('\n').count());
            Error::Usage(format!("machine file, line {line}: {}", error.message()))
        })?;
        let count = file.nodes.len();
        let mut machine = Self {
            name: file.name,
            description: file.description,
            nodes: Vec::with_capacity(count),
            distances: Vec::with_capacity(count),
            hash: Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
            model: file.model,
        };
        for (index, node) in file.nodes.into_iter().enumerate() {
            let mem = size::parse(&node.mem)
                .map_err(|e| Error::Usage(format!("machine file, node {index}: {e}")))?;
            machine.nodes.push(Node { cpus: node.cpus, mem });
            machine
                .distances
                .push(node.distances.unwrap_or_else(|| row(count, index, DEFAULT_REMOTE_DISTANCE)));
        }
        Ok(machine)
    }

    fn with(mut self, overrides: Overrides) -> Result<Self> {
        if overrides != Overrides::default() {
            self.name.push('+');
        }
        if let Some(count) = overrides.nodes {
            if count > MAX_NODES {
                return Err(too_many_nodes(count));
            }
            if let Some(&first) = self.nodes.first() {
                let remote =
                    self.distances.first().and_then(|d| d.get(1)).copied().unwrap_or(DEFAULT_REMOTE_DISTANCE);
                self.nodes = vec![first; count];
                self.distances = (0..count).map(|from| row(count, from, remote)).collect();
            }
        }
        if let Some(total) = overrides.cpus {
            let with_cpus: Vec<usize> = (0..self.nodes.len()).filter(|&n| self.nodes[n].cpus > 0).collect();
            for (index, &node) in with_cpus.iter().enumerate() {
                self.nodes[node].cpus = share(total as u64, with_cpus.len(), index) as usize;
            }
        }
        if let Some(total) = overrides.mem {
            if !total.is_multiple_of(MIB) {
                return Err(Error::Usage(format!("--mem {} is not a multiple of 1M", size::format(total))));
            }
            let with_mem: Vec<usize> = (0..self.nodes.len()).filter(|&n| self.nodes[n].mem > 0).collect();
            for (index, &node) in with_mem.iter().enumerate() {
                self.nodes[node].mem = share(total / MIB, with_mem.len(), index) * MIB;
            }
        }
        Ok(self)
    }

    /// Refuses what QEMU or the boot protocol cannot represent.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check(self) -> Result<Self> {
        let impossible = |why: String| Err(Error::Usage(format!("impossible machine: {why}")));
        let count = self.nodes.len();
        match (count, self.cpus()) {
            (0, _) => return impossible("0 nodes; it needs at least 1".into()),
            (n, _) if n > MAX_NODES => return Err(too_many_nodes(n)),
            (_, 0) => return impossible("0 CPUs; it needs at least 1".into()),
            (_, c) if c > MAX_CPUS => {
                return impossible(format!("{c} CPUs are more than the {MAX_CPUS} that QEMU can give"));
            }
            _ => {}
        }
        if let Err(why) = self.model.check() {
            return impossible(why);
        }
        if let Some(node) = self.nodes.iter().position(|n| n.mem % MIB != 0) {
            return impossible(format!("the memory of node {node} is not a multiple of 1M"));
        }
        if self.mem() == 0 {
            return impossible("no node has memory".into());
        }
        for (from, row) in self.distances.iter().enumerate() {
            if row.len() != count {
                return impossible(format!("node {from} has {} distances for {count} nodes", row.len()));
            }
            for (to, &distance) in row.iter().enumerate() {
                let ok = if from == to {
                    distance == LOCAL_DISTANCE
                } else {
                    distance > LOCAL_DISTANCE && distance < u8::MAX
                };
                if !ok {
                    return impossible(format!(
                        "distance {distance} from node {from} to {to} (a node to itself is 10, others 11 to 254)"
                    ));
                }
            }
        }
        Ok(self)
    }

    /// All CPUs.
    pub fn cpus(&self) -> usize {
        self.nodes.iter().map(|node| node.cpus).fold(0, usize::saturating_add)
    }

    /// All memory.
    pub fn mem(&self) -> u64 {
        self.nodes.iter().map(|node| node.mem).fold(0, u64::saturating_add)
    }

    /// The nodes that have CPUs: those on which threads, kernels and pagers can run.
    pub fn nodes_with_cpus(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].cpus > 0)
    }

    /// The node nearest to `from` (itself, if it qualifies) for which `qualifies` holds; the lowest one of equals.
    pub fn nearest(&self, from: usize, qualifies: impl Fn(&Node) -> bool) -> Option<usize> {
        (0..self.nodes.len())
            .filter(|&to| qualifies(&self.nodes[to]))
            .min_by_key(|&to| self.distances[from][to])
    }
}

fn too_many_nodes(count: usize) -> Error {
    Error::Usage(format!(
        "impossible machine: {count} nodes are more than the {MAX_NODES} that QEMU can give"
    ))
}

fn row(count: usize, from: usize, remote: u8) -> Vec<u8> {
    (0..count).map(|to| if to == from { LOCAL_DISTANCE } else { remote }).collect()
}

/// Part `index` of `total` in `parts` parts; the first ones take what does not divide.
fn share(total: u64, parts: usize, index: usize) -> u64 {
    total / parts as u64 + u64::from((index as u64) < total % parts as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../machines")
    }
    fn load(overrides: Overrides) -> Result<Machine> {
        Machine::load(&folder(), DEFAULT, overrides)
    }

    #[test]
    fn every_shipped_machine_is_possible_and_named_like_its_file() {
        let names = Machine::names(&folder()).unwrap();
        assert!(names.iter().any(|name| name == DEFAULT));
        for name in names {
            let machine = Machine::load(&folder(), &name, Overrides::default()).unwrap();
            assert_eq!(machine.name, name);
        }
    }

    #[test]
    fn totals_are_spread_and_nothing_is_lost() {
        let machine = load(Overrides { nodes: Some(3), cpus: Some(8), mem: Some(1 << 30) }).unwrap();
        assert_eq!(machine.nodes.iter().map(|n| n.cpus).collect::<Vec<_>>(), [3, 3, 2]);
        assert_eq!((machine.cpus(), machine.mem()), (8, 1 << 30));
        assert_eq!(machine.distances[1], [20, 10, 20]);
    }

    #[test]
    fn impossible_machines_are_refused() {
        let none = Overrides::default();
        for (overrides, word) in [
            (Overrides { nodes: Some(0), ..none }, "0 nodes"),
            (Overrides { nodes: Some(129), ..none }, "129 nodes"),
            (Overrides { nodes: Some(usize::MAX), ..none }, "nodes are more"),
            (Overrides { cpus: Some(0), ..none }, "0 CPUs"),
            (Overrides { cpus: Some(513), ..none }, "513 CPUs"),
            (Overrides { mem: Some(0), ..none }, "no node has memory"),
            (Overrides { mem: Some(4097), ..none }, "multiple of 1M"),
        ] {
            let error = load(overrides).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn bad_files_are_refused_with_their_line() {
        let error = Machine::parse("name = \"x\"\ndescription = \"\"\nnodes = []\ncolour = 1\n").unwrap_err();
        assert!(error.to_string().contains("line 4"), "{error}");
        let bad_distance = "name=\"x\"\ndescription=\"\"\n[[nodes]]\ncpus=1\nmem=\"64M\"\ndistances=[11]\n";
        assert!(Machine::parse(bad_distance).unwrap().check().is_err());
    }

    #[test]
    fn costs_are_part_of_the_file() {
        let text = |model: &str| {
            format!("name=\"x\"\ndescription=\"\"\n[model]\n{model}\n[[nodes]]\ncpus=1\nmem=\"64M\"\n")
        };
        let machine = Machine::parse(&text("l2 = { kib = 1024, ways = 16, latency = 14 }")).unwrap();
        assert_eq!((machine.model.l2.kib, machine.model.llc), (1024, Params::default().llc));
        assert!(machine.check().is_ok());
        let wrong = Machine::parse(&text("l2 = { kib = 1000, ways = 16, latency = 14 }")).unwrap();
        assert!(wrong.check().unwrap_err().to_string().contains("model.l2"));
        assert!(Machine::parse(&text("l4 = 1")).unwrap_err().to_string().contains("line 4"));
        assert_eq!(load(Overrides::default()).unwrap().model, Params::default());
    }

    #[test]
    fn the_nearest_node_is_found_by_distance() {
        let machine = Machine::load(&folder(), "cpuless", Overrides::default()).unwrap();
        assert_eq!(machine.nearest(2, |node| node.cpus > 0), Some(1));
        assert_eq!(machine.nearest(0, |node| node.cpus > 0), Some(0));
    }
}
