//! The cost model against published measurements (`qemu/validation/*.toml`): each file is a machine, parameters that were fitted, and points that
//! others measured. A point is measured in the model alone, without a guest.

use std::path::Path;

use serde::Deserialize;
use skerry_cost_model::core::Core;
use skerry_cost_model::params::Params;
use skerry_cost_model::topology::Range;
use skerry_cost_model::walk::Walk;
use skerry_cost_model::{Access, CYCLE, CoreModel, LINE, Machine, Topology};

use crate::error::{Error, Result};

/// Memory of a node.
const MEMORY: u64 = 512 << 20;
const PAGE: u64 = 4096;

/// A file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// Who measured.
    pub source: String,
    /// How far the model may be off, in percent.
    pub tolerance: f64,
    machine: Shape,
    model: Params,
    /// What was measured.
    pub points: Vec<Point>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    nodes: u16,
    /// Per node.
    cpus: u16,
    /// From every node to every other.
    distance: u8,
}

/// A published number.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// What of.
    pub what: What,
    /// While other CPUs load the same way with this.
    pub gb_s: Option<f64>,
    /// The number.
    pub published: f64,
    /// In what.
    pub unit: Unit,
    /// Whether parameters come from it.
    pub role: Role,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Latency of the last-level cache.
    LastLevel,
    /// Latency of a line that a cache of another node has dirty.
    RemoteCache,
    /// Latency of the node's own memory.
    LocalMemory,
    /// Latency of another node's memory.
    RemoteMemory,
    /// What all CPUs of the first node read from its memory together.
    ReadBandwidth,
    /// How many times as long a program takes whose page tables are on the other node.
    RemoteTables,
}

/// In what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub enum Unit {
    /// Cycles of the machine's clock.
    #[serde(rename = "cycles")]
    Cycles,
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// 10^9 bytes per second.
    #[serde(rename = "GB/s")]
    Bandwidth,
    /// A ratio.
    #[serde(rename = "times")]
    Times,
}

/// Whether parameters come from a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// They do, so it shows only that the model does with them what it should.
    Fitted,
    /// They do not.
    Checked,
    /// Only whether the number is above 1 is looked at.
    Direction,
}

impl Validation {
    /// All files of a folder, by name.
    ///
    /// # Errors
    /// [`Error::Usage`] for a malformed one.
    pub fn load_all(folder: &Path) -> Result<Vec<Self>> {
        let reading = || format!("reading {}", folder.display());
        let mut all = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(Error::host(reading()))? {
            let path = entry.map_err(Error::host(reading()))?.path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(Error::host(reading()))?;
            let mut file: Self = toml::from_str(&text)
                .map_err(|error| Error::Usage(format!("{}: {}", path.display(), error.message())))?;
            file.name = path.file_stem().map_or(String::new(), |name| name.to_string_lossy().into_owned());
            all.push(file);
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// What the model says of a point.
    ///
    /// # Errors
    /// [`Error::Usage`] if the machine cannot be modelled, or the point not on it.
    pub fn measure(&self, point: &Point) -> Result<f64> {
        let needs_two = !matches!(point.what, What::LastLevel | What::LocalMemory | What::ReadBandwidth);
        if needs_two && self.machine.nodes < 2 {
            return Err(Error::Usage(format!("{}: a point needs two nodes", self.name)));
        }
        let caches = self.model.l2.kib.max(self.model.llc.kib) * 1024;
        let cycles = match point.what {
            What::LastLevel => self.chase(0, self.model.llc.kib * 1024 / 2)?,
            What::LocalMemory => self.chase(0, 4 * caches)?,
            What::RemoteMemory => match point.gb_s {
                // The CPU that measures is part of the load.
                Some(load) if load > 0.0 => self.chase_under_load(load - LINE as f64 / point.published)?,
                _ => self.chase(1, 4 * caches)?,
            },
            What::RemoteCache => self.chase_dirty()?,
            What::ReadBandwidth => return self.bandwidth(),
            What::RemoteTables => return Ok(self.random_pages(1)? / self.random_pages(0)?),
        };
        Ok(match point.unit {
            Unit::Nanoseconds => cycles * 1000.0 / f64::from(self.model.clock_mhz),
            _ => cycles,
        })
    }

    /// Whether a measured value is as published.
    pub fn is_met(&self, point: &Point, measured: f64) -> bool {
        match point.role {
            Role::Direction => measured > 1.0,
            Role::Fitted | Role::Checked => {
                (measured / point.published - 1.0).abs() * 100.0 <= self.tolerance
            }
        }
    }

    fn build(&self, core: CoreModel) -> Result<(Machine, Vec<Core>)> {
        let Shape { nodes, cpus, distance } = self.machine;
        let memory = |node: u16| Range { base: u64::from(node) * MEMORY, size: MEMORY };
        let row = |from: u16| (0..nodes).map(|to| if to == from { 10 } else { distance }).collect();
        let topology = Topology {
            cpus: (0..nodes).flat_map(|node| vec![node; usize::from(cpus)]).collect(),
            memory: (0..nodes).map(memory).collect(),
            distances: (0..nodes).map(row).collect(),
        };
        let machine = Machine::new(topology, self.model.clone(), core);
        machine.map_err(|why| Error::Usage(format!("{}: {why}", self.name)))
    }

    /// Cycles of a load in a chain through memory of a node, the second time.
    fn chase(&self, home: u64, bytes: u64) -> Result<f64> {
        let (mut machine, mut cores) = self.build(CoreModel::Blocking)?;
        let mut start = 0;
        for round in 0..2 {
            if round == 1 {
                start = cores[0].clock();
            }
            for line in 0..bytes / LINE {
                load(&mut machine, &mut cores[0], home * MEMORY + line * LINE, true);
            }
        }
        Ok((cores[0].clock() - start) as f64 / CYCLE as f64 / (bytes / LINE) as f64)
    }

    /// Cycles of a load of a line that a CPU of the other node has just written.
    fn chase_dirty(&self) -> Result<f64> {
        let (mut machine, mut cores) = self.build(CoreModel::Blocking)?;
        let lines = self.model.l1.kib * 1024 / LINE / 2;
        let other = usize::from(self.machine.cpus);
        for line in 0..lines {
            let store = Access { store: true, dependent: false };
            machine.access(&mut cores[other], MEMORY + line * LINE, MEMORY + line * LINE, store);
        }
        let after = cores[other].clock();
        cores[0].execute(after / CYCLE + 1, 0);
        let start = cores[0].clock();
        (0..lines).for_each(|line| load(&mut machine, &mut cores[0], MEMORY + line * LINE, true));
        Ok((cores[0].clock() - start) as f64 / CYCLE as f64 / lines as f64)
    }

    /// Cycles of a load from the other node's memory, while the other CPUs of the first node read from there at `gb_s` together.
    fn chase_under_load(&self, gb_s: f64) -> Result<f64> {
        let (mut machine, mut cores) = self.build(CoreModel::Blocking)?;
        let others = usize::from(self.machine.cpus) - 1;
        let per_second = gb_s * 1e9 / LINE as f64 / others as f64;
        // From one line to the next of one CPU, in cycles.
        let pace = (f64::from(self.model.clock_mhz) * 1e6 / per_second) as u64;
        let loads = 20_000;
        let (mut done, mut waited) = (0, 0);
        let mut next = vec![0u64; cores.len()];
        while done < loads {
            let Some(cpu) = (0..=others).min_by_key(|&cpu| cores[cpu].clock()) else { break };
            let core = &mut cores[cpu];
            // Everybody has memory of its own, more than any cache holds.
            let own = MEMORY / 256;
            let address = MEMORY + cpu as u64 * own + next[cpu] * LINE % own;
            next[cpu] += 1;
            let start = core.clock();
            load(&mut machine, core, address, true);
            let took = core.clock() - start;
            if cpu > 0 {
                // The first time at different moments, as their clocks are alike.
                let late = if next[cpu] == 1 { cpu as u64 * pace / others as u64 } else { 0 };
                core.execute(late, 0);
                core.execute(pace.saturating_sub(took / CYCLE), 0);
            } else {
                done += 1;
                // Not before the load of the window before is known.
                waited += if done > loads / 2 { took } else { 0 };
            }
        }
        Ok(waited as f64 / CYCLE as f64 / (loads - loads / 2) as f64)
    }

    /// GB/s that all CPUs of the first node read from its memory.
    fn bandwidth(&self) -> Result<f64> {
        let (mut machine, mut cores) = self.build(CoreModel::Prefetching)?;
        let cpus = u64::from(self.machine.cpus);
        let lines = 20_000;
        let mut next = vec![0; cores.len()];
        while let Some(cpu) =
            (0..cpus as usize).filter(|&cpu| next[cpu] < lines).min_by_key(|&cpu| cores[cpu].clock())
        {
            // An odd number of lines apart, so that they do not all use the same sets.
            let address = cpu as u64 * (lines + 1) * LINE + next[cpu] * LINE;
            load(&mut machine, &mut cores[cpu], address, false);
            next[cpu] += 1;
        }
        let cycles = cores.iter().map(Core::clock).max().unwrap_or(1) as f64 / CYCLE as f64;
        Ok((cpus * lines * LINE) as f64 / cycles * f64::from(self.model.clock_mhz) / 1e3)
    }

    /// Time to touch pages of the own node's memory at random, with page tables in the memory of `tables`.
    fn random_pages(&self, tables: u64) -> Result<f64> {
        let (mut machine, mut cores) = self.build(CoreModel::Blocking)?;
        let core = &mut cores[0];
        let pages = MEMORY / 2 / PAGE;
        // A root, one table below it, and the leaves; what they say of an address is its own physical address.
        let root = tables * MEMORY + MEMORY / 2;
        let (middle, leaves) = (root + PAGE, root + 2 * PAGE);
        let read = |place: u64| {
            let entry = match place {
                _ if place < middle => middle | 3,
                _ if place < leaves => (leaves + (place - middle) / 8 * PAGE) | 3,
                _ => ((place - leaves) / 8 * PAGE) | 3,
            };
            Some(entry)
        };
        let mut random = 1u64;
        for _ in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let address = (random >> 33) % pages * PAGE + (random >> 20) % (PAGE / LINE) * LINE;
            if core.translate(1, address).is_none()
                && let Some(walk) = Walk::new(address, root, 39, read)
            {
                machine.walk(core, 1, address, &walk);
            }
            load(&mut machine, core, address, true);
        }
        Ok(core.clock() as f64)
    }
}

/// A load; addresses are their own physical addresses.
fn load(machine: &mut Machine, core: &mut Core, address: u64, dependent: bool) {
    if !core.hits(address, false) {
        machine.access(core, address, address, Access { store: false, dependent });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_agrees_with_what_others_measured() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../validation");
        let files = Validation::load_all(&folder).unwrap();
        assert_eq!(files.len(), 5);
        let mut wrong = Vec::new();
        for file in &files {
            for point in &file.points {
                let measured = file.measure(point).unwrap();
                if !file.is_met(point, measured) {
                    wrong.push(format!(
                        "{} {:?}: {measured:.1} for {}",
                        file.name, point.what, point.published
                    ));
                }
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
        let checked = files.iter().flat_map(|file| &file.points).filter(|point| point.role != Role::Fitted);
        assert!(checked.count() >= 4, "fitted numbers show nothing");
    }

    #[test]
    fn what_is_too_far_off_is_not_met() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../validation");
        let files = Validation::load_all(&folder).unwrap();
        let file = |name: &str| files.iter().find(|file| file.name == name).unwrap();
        let (latency, tables) = (file("majo-gross"), file("mitosis"));
        assert!(latency.is_met(&latency.points[3], 301.0) && !latency.is_met(&latency.points[3], 300.0));
        assert!(tables.is_met(&tables.points[0], 1.01) && !tables.is_met(&tables.points[0], 1.0));
    }
}
