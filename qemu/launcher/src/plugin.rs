//! The measuring instrument, from the launcher's side: builds the plugin, tells it the machine, and turns what it found into
//! measurements of kind `modelled`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use skerry_abi::layout::{IDENTITY_BASE, USER_BITS};
use skerry_abi::marker;
use skerry_cost_model::topology::Range;
use skerry_cost_model::{Config, CoreModel, Topology};

use crate::console::Measurement;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::session::Session;
use crate::{guest, process};

/// Cycles that a CPU may be ahead of the slowest one, if nothing else is said.
pub const QUANTUM: u64 = 1_000;
/// The layout of the report that this launcher understands.
const VERSION: u64 = 1;
/// What a table shows of all that a report has.
const SUMMARY: [&str; 8] = [
    "elapsed",
    "cycles",
    "instructions",
    "l1_misses",
    "dram_local",
    "dram_remote",
    "transfers_remote",
    "tlb_misses",
];

/// How a run is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modelling {
    /// What a core can do while it waits.
    pub core: CoreModel,
    /// Cycles that a CPU may be ahead of the slowest one.
    pub quantum: u64,
    /// Not modelled, but checked: whether software keeps memory coherent between nodes.
    pub sanitize: bool,
}

/// Builds the plugin, optimised, in a target directory of its own (as the guest is). Gives the library.
///
/// # Errors
/// [`Error::Build`]; the compiler's own words have been shown.
pub fn build(root: &Path) -> Result<PathBuf> {
    let target = guest::usual_target(root).join("plugin");
    let mut command = process::command("cargo");
    command.args(["build", "--profile", "plugin", "--package", "skerry-plugin", "--target-dir"]).arg(&target);
    guest::show(command.current_dir(root), "building the measuring instrument")?;
    Ok(target.join("plugin/libskerry_plugin.so"))
}

/// What the plugin is told.
pub fn config(machine: &Machine, modelling: Modelling) -> Config {
    let cpus = machine.nodes.iter().zip(0..).flat_map(|(node, number)| vec![number; node.cpus]);
    // QEMU lays the memory of the nodes out one behind the other.
    let mut next = IDENTITY_BASE;
    let memory = machine.nodes.iter().map(|node| {
        let base = next;
        next += node.mem;
        Range { base, size: node.mem }
    });
    Config {
        topology: Topology {
            cpus: cpus.collect(),
            memory: memory.collect(),
            distances: machine.distances.clone(),
        },
        params: machine.model.clone(),
        core: modelling.core,
        quantum: modelling.quantum,
        virtual_bits: USER_BITS,
        sanitize: modelling.sanitize,
        masked: false,
        trace: false,
        pages: false,
        path: None,
    }
}

/// The files of one run of the measuring instrument; gone with it.
#[derive(Debug)]
pub(crate) struct Files {
    library: PathBuf,
    config: PathBuf,
    out: PathBuf,
    _folder: tempfile::TempDir,
}

impl Files {
    /// Tells it what to do.
    ///
    /// # Errors
    /// [`Error::Host`], and [`Error::Build`] if it cannot be built.
    pub(crate) fn new(session: &Session, config: &Config) -> Result<Self> {
        let folder =
            tempfile::tempdir().map_err(Error::host("making a folder for the measuring instrument"))?;
        let (path, out) = (folder.path().join("config.json"), folder.path().join("report.json"));
        let text = serde_json::to_vec(config).map_err(Error::host("writing the cost model"))?;
        std::fs::write(&path, text).map_err(Error::host("writing the cost model"))?;
        Ok(Self { library: session.plugin()?.to_owned(), config: path, out, _folder: folder })
    }

    /// The library, what it is told, and where its report will be.
    pub(crate) fn paths(&self) -> [&Path; 3] {
        [&self.library, &self.config, &self.out]
    }

    /// A file beside its report.
    ///
    /// # Errors
    /// [`Error::Host`] if there is none.
    pub(crate) fn beside(&self, ending: &str) -> Result<Vec<u8>> {
        let mut path = self.out.clone().into_os_string();
        path.push(ending);
        std::fs::read(path).map_err(Error::host("reading what the measuring instrument recorded"))
    }

    /// What it found.
    ///
    /// # Errors
    /// [`Error::Host`] if it has written nothing that can be read.
    pub(crate) fn report(&self) -> Result<Value> {
        let text =
            std::fs::read(&self.out).map_err(Error::host("reading the measuring instrument's report"))?;
        serde_json::from_slice(&text).map_err(Error::host("reading the measuring instrument's report"))
    }
}

/// Whether a table shows it: a report has hundreds of numbers, many of them zero, and records hold all.
pub fn in_table(measurement: &Measurement) -> bool {
    measurement.kind != "modelled"
        || measurement.case.ends_with(".modelled")
        || SUMMARY.contains(&measurement.metric.as_str()) && measurement.value.as_u64() != Some(0)
}

/// The measurements in a report.
///
/// # Errors
/// [`Error::Check`] if something that has to be zero is not, or the report is not one.
pub fn measurements(app: &str, report: &Value) -> Result<Vec<Measurement>> {
    let malformed = || Error::Check("the measuring instrument wrote no report that makes sense".into());
    if report["version"].as_u64() != Some(VERSION) {
        return Err(malformed());
    }
    for (what, count) in report["health"]["errors"].as_object().ok_or_else(malformed)? {
        if count.as_u64() != Some(0) {
            return Err(Error::Check(format!(
                "the measuring instrument counted {count} {what}: its numbers are wrong"
            )));
        }
    }
    let mut all = Vec::new();
    for phase in report["phases"].as_array().ok_or_else(malformed)? {
        let id = phase["phase"].as_u64().ok_or_else(malformed)?;
        let name =
            if id == u64::from(marker::MEASURED) { "measured".to_owned() } else { format!("phase{id}") };
        let mut add = |metric: &str, value: &Value, parameters: Map<String, Value>| {
            let Value::Number(value) = value else { return };
            all.push(Measurement {
                bench: app.to_owned(),
                case: format!("{app}.{name}"),
                metric: metric.to_owned(),
                value: value.clone(),
                unit: unit(metric).to_owned(),
                kind: "modelled".to_owned(),
                parameters,
            });
        };
        add("elapsed", &phase["elapsed"], Map::new());
        for cpu in phase["cpus"].as_array().ok_or_else(malformed)? {
            let fields = cpu.as_object().ok_or_else(malformed)?;
            let is_name = |key: &&str| *key == "cpu" || *key == "node";
            let names: Map<_, _> = fields
                .iter()
                .filter(|(key, _)| is_name(&key.as_str()))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            for (metric, value) in fields.iter().filter(|(key, _)| !is_name(&key.as_str())) {
                add(metric, value, names.clone());
            }
        }
    }
    Ok(all)
}

fn unit(metric: &str) -> &'static str {
    match metric {
        "elapsed" | "cycles" | "idle" => "cycles",
        _ if metric.starts_with("wait_") => "cycles",
        "instructions" => "instructions",
        _ => "events",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Overrides;
    use serde_json::json;

    fn load(name: &str) -> Machine {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../machines");
        Machine::load(&folder, name, Overrides::default()).unwrap()
    }

    #[test]
    fn the_plugin_is_told_where_memory_lies() {
        let config =
            config(&load("memless"), Modelling { core: CoreModel::Blocking, quantum: 7, sanitize: false });
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.topology.cpus, [0, 1, 2]);
        let home = |address| config.topology.home(address);
        assert_eq!(
            [0x3fff_ffff, 0x4000_0000, 0x4fff_ffff, 0x5000_0000].map(home),
            [None, Some(0), Some(0), Some(2)]
        );
        for name in ["uneven", "cpuless", "eight-node", "opteron", "four-node"] {
            let machine = load(name);
            let config = super::config(
                &machine,
                Modelling { core: CoreModel::Prefetching, quantum: QUANTUM, sanitize: false },
            );
            assert_eq!(config.check(), Ok(()), "{name}");
            assert_eq!(config.topology.cpus.len(), machine.cpus());
        }
    }

    fn report(failures: u64) -> Value {
        json!({
            "version": 1,
            "health": {"errors": {"translation_failures": failures}, "device_accesses": 9},
            "phases": [{"phase": 1, "times": 1, "elapsed": 50, "cpus": [
                {"cpu": 0, "node": 0, "cycles": 40, "wait_llc": 3, "dram_local": 2},
                {"cpu": 1, "node": 1, "cycles": 50, "wait_llc": 0, "dram_local": 1}]}],
        })
    }

    #[test]
    fn a_report_becomes_measurements() {
        let all = measurements("walk", &report(0)).unwrap();
        assert_eq!(all.len(), 7);
        assert!(all.iter().all(|m| m.kind == "modelled" && m.case == "walk.measured"));
        let last = &all[6];
        assert_eq!(
            (last.metric.as_str(), last.unit.as_str(), &last.parameters["cpu"]),
            ("dram_local", "events", &json!(1))
        );
        assert_eq!(all.iter().filter(|m| in_table(m)).count(), 5);
    }

    #[test]
    fn a_sick_report_is_an_error() {
        assert!(measurements("walk", &report(3)).unwrap_err().to_string().contains("3 translation_failures"));
        assert!(measurements("walk", &json!({})).is_err());
    }
}
