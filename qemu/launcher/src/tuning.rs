//! Options of kernels and pagers that a user may try: how TLBs are reached, on which node a kernel's parts lie, how pages are
//! unmapped.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use skerry_policy::shipped::Any;
use skerry_policy::{NodeSet, Spec};

use crate::error::{Error, Result};
use crate::machine::Machine;

/// How a kernel reaches the TLBs of its other CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tlb {
    /// By the architecture's broadcast to all CPUs.
    Broadcast,
    /// By an interrupt to those that can hold an entry.
    Interrupt,
}

/// What the memory of the rings between clusters is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rings {
    /// Coherent between the nodes.
    Coherent,
    /// Not coherent: the kernels clean and invalidate it.
    Maintained,
}

/// How a pager reaches the nodes that share a page when it is unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Unmap {
    /// All are asked, then all are awaited.
    Parallel,
    /// One after the other.
    Sequential,
    /// The root pager tells all of them.
    Root,
}

/// How pagers reach the master table of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Table {
    /// In shared memory.
    Shared,
    /// By messages to the pager that has it.
    Ipc,
}

/// When pagers maintain caches as a frame changes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Maintenance {
    /// When the memory model wants it.
    Model,
    /// Always, for what it costs.
    Always,
}

/// How many pages a fault establishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ahead {
    /// The one that was touched.
    #[value(name = "1")]
    One,
    /// The sixteen of the same 64 KiB.
    #[value(name = "16")]
    Sixteen,
    /// The same, in adjacent frames if there are such.
    #[value(name = "64k")]
    Block,
}

/// A part of a kernel that can be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Code and data.
    Image,
    /// Thread control blocks.
    Tcbs,
    /// User thread control blocks, with the message registers.
    Utcbs,
    /// Page tables of address spaces.
    PageTables,
    /// Nodes of mapping trees.
    MapNodes,
}

/// Where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// With the rest of its kernel.
    Home,
    /// On the next node with memory.
    Next,
    /// On this node.
    Node(usize),
}

/// `PART=WHERE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    part: Part,
    at: Where,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (part, at) = text.split_once('=').ok_or("use PART=WHERE, for example tcbs=next")?;
        let part = Part::from_str(part, false).map_err(|_| {
            let known: Vec<String> = Part::value_variants().iter().map(ToString::to_string).collect();
            format!("unknown part `{part}`: use {}", known.join(", "))
        })?;
        let digits = at.bytes().all(|byte| byte.is_ascii_digit());
        let at = match at {
            "home" => Where::Home,
            "next" => Where::Next,
            _ => match at.parse() {
                Ok(node) if digits => Where::Node(node),
                _ => return Err(format!("unknown place `{at}`: use home, next or the number of a node")),
            },
        };
        Ok(Self { part, at })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Where::Home => write!(f, "{}=home", self.part),
            Where::Next => write!(f, "{}=next", self.part),
            Where::Node(node) => write!(f, "{}={node}", self.part),
        }
    }
}

/// What differs from the kernels' defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// How TLBs are reached.
    pub tlb: Option<Tlb>,
    /// What the rings' memory is.
    pub rings: Option<Rings>,
    /// What lies where.
    pub places: Vec<Place>,
    /// How pagers unmap pages that nodes share.
    pub unmap: Option<Unmap>,
    /// How they reach the master table.
    pub table: Option<Table>,
    /// How many pages a fault establishes.
    pub ahead: Option<Ahead>,
    /// Whether the load balancer runs.
    pub balance: bool,
    /// Where fresh pages go, instead of by the system's placement.
    pub policy: Option<String>,
    /// When they maintain caches.
    pub maintenance: Option<Maintenance>,
}

impl Tuning {
    /// Refuses what this machine cannot give.
    ///
    /// # Errors
    /// [`Error::Usage`] for a node without memory, and for two places of one part.
    pub fn check(self, machine: &Machine) -> Result<Self> {
        for (index, place) in self.places.iter().enumerate() {
            if self.places[..index].iter().any(|earlier| earlier.part == place.part) {
                return Err(Error::Usage(format!(
                    "--kernel-memory {}: this part has a place already",
                    place
                )));
            }
            if let Where::Node(node) = place.at {
                let wrong = match machine.nodes.get(node) {
                    Some(node) if node.mem > 0 => continue,
                    Some(_) => "has no memory".to_owned(),
                    None => format!("does not exist: there are nodes 0 to {}", machine.nodes.len() - 1),
                };
                return Err(Error::Usage(format!("--kernel-memory {place}: node {node} {wrong}")));
            }
        }
        if let Some(policy) = &self.policy {
            check_policy(policy, machine)
                .map_err(|wrong| Error::Usage(format!("--policy {policy}: {wrong}")))?;
            if self.ahead.is_some_and(|ahead| ahead != Ahead::One) {
                return Err(Error::Usage(format!(
                    "--policy {policy} places each page by itself: without --ahead"
                )));
            }
        }
        Ok(self)
    }

    /// What the guest is told on its command line.
    pub fn words(&self) -> Vec<String> {
        let tlb = self.tlb.map(|tlb| format!("tlb={tlb}"));
        let rings = self.rings.map(|rings| format!("rings={rings}"));
        let unmap = self.unmap.map(|unmap| format!("unmap={unmap}"));
        let table = self.table.map(|table| format!("table={table}"));
        let ahead = self.ahead.map(|ahead| format!("ahead={ahead}"));
        let policy = self.policy.as_ref().map(|policy| format!("policy={policy}"));
        let maintenance = self.maintenance.map(|when| format!("maintenance={when}"));
        let balance = self.balance.then(|| "balance=on".to_owned());
        let places = self.places.iter().map(ToString::to_string);
        tlb.into_iter()
            .chain(rings)
            .chain(places)
            .chain(unmap)
            .chain(table)
            .chain(ahead)
            .chain(policy)
            .chain(balance)
            .chain(maintenance)
            .collect()
    }
}

/// Refuses what is no policy that pagers can run, and nodes from which they get no frames.
fn check_policy(text: &str, machine: &Machine) -> std::result::Result<(), String> {
    Any::new(text).map_err(|error| error.to_string())?;
    let spec = Spec::new(text);
    let one = spec.get("node").and_then(|node| node.parse().ok());
    let set = spec.get("nodes").filter(|&nodes| nodes != "all").and_then(|_| spec.nodes("nodes").ok()?);
    for node in set.into_iter().flat_map(NodeSet::iter).chain(one) {
        match machine.nodes.get(usize::from(node)) {
            Some(node) if node.mem > 0 && node.cpus > 0 => {}
            Some(found) if found.mem == 0 => return Err(format!("node {node} has no memory")),
            Some(_) => {
                return Err(format!("node {node} has no CPU, so no pager hands out its memory by name"));
            }
            None => {
                return Err(format!(
                    "node {node} does not exist: there are nodes 0 to {}",
                    machine.nodes.len() - 1
                ));
            }
        }
    }
    Ok(())
}

crate::system::display_as_typed!(Tlb, Rings, Part, Unmap, Table, Ahead, Maintenance);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Overrides;
    use std::path::Path;

    #[test]
    fn places_are_words_of_the_guest() {
        for text in ["tcbs=next", "page-tables=home", "map-nodes=12", "image=0", "utcbs=1"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["tcbs", "tcbs=", "nodes=next", "tcbs=-1", "tcbs=+1", "tcbs=far", "=next"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn places_that_do_not_exist_are_refused() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../machines");
        let machine = Machine::load(&folder, crate::machine::DEFAULT, Overrides::default()).unwrap();
        let tuning = |places: &[&str]| Tuning {
            tlb: Some(Tlb::Interrupt),
            rings: Some(Rings::Maintained),
            places: places.iter().map(|place| place.parse().unwrap()).collect(),
            unmap: Some(Unmap::Sequential),
            table: Some(Table::Ipc),
            ahead: Some(Ahead::Block),
            balance: true,
            policy: None,
            maintenance: Some(Maintenance::Always),
        };
        let good = tuning(&["tcbs=1", "image=next"]).check(&machine).unwrap();
        let words = [
            "tlb=interrupt",
            "rings=maintained",
            "tcbs=1",
            "image=next",
            "unmap=sequential",
            "table=ipc",
            "ahead=64k",
            "balance=on",
            "maintenance=always",
        ];
        assert_eq!(good.words(), words);
        assert!(tuning(&["tcbs=2"]).check(&machine).is_err());
        assert!(tuning(&["tcbs=1", "tcbs=home"]).check(&machine).is_err());
    }

    #[test]
    fn policies_name_nodes_that_there_are() {
        let machine =
            Machine::load(&crate::session::machines().unwrap(), "two-node", Overrides::default()).unwrap();
        let checked = |policy: &str, ahead| {
            let policy = Some(policy.to_owned());
            Tuning { policy, ahead, ..Tuning::default() }.check(&machine).map(|tuning| tuning.words())
        };
        assert_eq!(checked("bind:nodes=0-1", None).unwrap(), ["policy=bind:nodes=0-1"]);
        assert!(checked("interleave:nodes=all", None).is_ok());
        for (policy, ahead, why) in [
            ("bind:nodes=2", None, "node 2 does not exist: there are nodes 0 to 1"),
            ("preferred:node=7", None, "node 7 does not exist"),
            ("bind", None, "needs nodes="),
            ("adaptive", None, "replay --policy adaptive"),
            ("frist-touch", None, "there is no policy frist-touch"),
            ("interleave", Some(Ahead::Sixteen), "without --ahead"),
        ] {
            let error = checked(policy, ahead).unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(why), "{error}");
        }
    }
}
