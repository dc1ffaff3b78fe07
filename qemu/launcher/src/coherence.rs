//! What the checker of software coherence found (`run --sanitize`), with names instead of addresses.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Number, Value};

use crate::console::Measurement;
use crate::error::{Error, Result};
use crate::guest::{BOOT, KERNEL, MODULES};
use crate::session::Session;
use crate::symbols::Symbols;

/// Loads that may be old on purpose, by the innermost functions they are in, and why. A load of another function, or one for which the *writer*
/// has not done its part, is not meant.
const TOLERATED: [(&str, &str); 1] = [(
    "reserve < response_slot < ",
    "an old head says that there is less room than there is; only who finds none drops the line and looks again",
)];

/// What is wrong with an access, as the plugin says it.
#[derive(Clone, Debug, Deserialize)]
struct Raw {
    wrong: String,
    missing: String,
    node: u16,
    pc: u64,
    other: u16,
    other_pc: u64,
    physical: u64,
    count: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct RawSite {
    pc: u64,
    node: u16,
    times: u64,
    redundant: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct RawReport {
    findings: Vec<Raw>,
    sites: Vec<RawSite>,
    races: u64,
}

/// Something wrong: an access, by whom, and the store that it has to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, such as `stale-load`.
    pub wrong: String,
    /// What would have made it right, such as `invalidate`.
    pub missing: String,
    /// Where the access is.
    pub node: u16,
    /// In which function; the innermost one first.
    pub at: String,
    /// Whose store it is about.
    pub other: u16,
    /// In which function that is.
    pub store: String,
    /// The physical address, of the first time.
    pub physical: u64,
    /// How often.
    pub count: u64,
    /// It is the kernel's or the boot loader's, which promise to do without coherent memory. Programs may count on it.
    pub promised: bool,
}

impl Fault {
    /// Why it is no fault after all.
    pub fn excuse(&self) -> Option<&'static str> {
        let old = self.wrong == "stale-load" && self.missing == "invalidate";
        let known = TOLERATED.iter().find(|(functions, _)| self.at.contains(functions));
        known.filter(|_| old).map(|(_, why)| *why)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { wrong, missing, node, at, other, store, physical, count, .. } = self;
        let what = match missing.as_str() {
            "clean" => format!("node {other} has not cleaned it"),
            "invalidate" => format!("node {node} has not dropped its old copy after that"),
            "drop-fetched" => {
                format!("node {node} has not dropped its old copy from its instruction caches after that")
            }
            _ => "nothing makes that atomic between nodes".to_owned(),
        };
        write!(
            f,
            "{wrong}: node {node} at {at}; {physical:#x} was stored to by node {other} at {store}, and {what} ({count} times)"
        )
    }
}

/// Maintenance at one instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// In which function.
    pub at: String,
    /// On which node.
    pub node: u16,
    /// How often.
    pub times: u64,
    /// How often there was nothing to do.
    pub redundant: u64,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Where lines are maintained.
    pub sites: Vec<Site>,
    /// Loads that may have been stale, of stores that nothing had ordered before them.
    pub races: u64,
}

impl Report {
    /// Out of the plugin's report. `programs`: names of the modules that ran besides kernel and boot loader.
    ///
    /// # Errors
    /// [`Error::Check`] if it is none.
    pub fn read(session: &Session, programs: &[&str], report: &Value) -> Result<Self> {
        let raw = RawReport::deserialize(&report["coherence"])
            .map_err(|error| Error::Check(format!("the checker of coherence wrote no report: {error}")))?;
        let names = Names::load(session, programs)?;
        let fault = |raw: &Raw| Fault {
            wrong: raw.wrong.clone(),
            missing: raw.missing.clone(),
            node: raw.node,
            at: names.of(raw.pc),
            other: raw.other,
            store: names.of(raw.other_pc),
            physical: raw.physical,
            count: raw.count,
            promised: names.kernel.contains(raw.pc) || names.boot.contains(raw.pc),
        };
        let site = |raw: &RawSite| Site {
            at: names.of(raw.pc),
            node: raw.node,
            times: raw.times,
            redundant: raw.redundant,
        };
        Ok(Self {
            faults: raw.findings.iter().map(fault).collect(),
            sites: raw.sites.iter().map(site).collect(),
            races: raw.races,
        })
    }

    /// Faults of those who promise to need no coherent memory.
    pub fn broken(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.promised && fault.excuse().is_none())
    }

    /// For people: what is broken, and how much else there is.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.broken().map(Fault::to_string).collect();
        let excused: Vec<&Fault> =
            self.faults.iter().filter(|fault| fault.promised && fault.excuse().is_some()).collect();
        if let Some(why) = excused.first().and_then(|fault| fault.excuse()) {
            let count: u64 = excused.iter().map(|fault| fault.count).sum();
            lines.push(format!("{count} loads of the kernel may be old on purpose: {why}"));
        }
        let programs: Vec<&Fault> = self.faults.iter().filter(|fault| !fault.promised).collect();
        if let Some(first) = programs.first() {
            lines.push(format!(
                "programs need coherent memory in {} ways, for example: {first}",
                programs.len()
            ));
        }
        lines
    }

    /// As measurements: how much was found, and maintenance by site.
    pub fn measurements(&self, app: &str) -> Vec<Measurement> {
        let measurement = |case: &str, metric: &str, value: u64, parameters| Measurement {
            bench: app.to_owned(),
            case: format!("{app}.{case}"),
            metric: metric.to_owned(),
            value: Number::from(value),
            unit: "events".to_owned(),
            kind: "exact".to_owned(),
            parameters,
        };
        let programs = self.faults.iter().filter(|fault| !fault.promised);
        let mut all = vec![
            measurement("coherence", "faults", self.broken().map(|fault| fault.count).sum(), Map::new()),
            measurement("coherence", "programs", programs.map(|fault| fault.count).sum(), Map::new()),
            measurement("coherence", "races", self.races, Map::new()),
        ];
        for site in &self.sites {
            let parameters: Map<_, _> =
                [("at".to_owned(), Value::from(site.at.as_str())), ("node".to_owned(), site.node.into())]
                    .into_iter()
                    .collect();
            all.push(measurement("maintenance", "times", site.times, parameters.clone()));
            all.push(measurement("maintenance", "redundant", site.redundant, parameters));
        }
        all
    }

    /// Fails if anything is broken.
    ///
    /// # Errors
    /// [`Error::Check`], with the first fault.
    pub fn clean(&self) -> Result<()> {
        match self.broken().count() {
            0 => Ok(()),
            ways => Err(Error::Check(format!("memory is not kept coherent in {ways} ways"))),
        }
    }
}

/// The names of all programs of a run.
struct Names {
    kernel: Symbols,
    boot: Symbols,
    programs: Vec<(String, Symbols)>,
}

impl Names {
    fn load(session: &Session, programs: &[&str]) -> Result<Self> {
        let load = |path: PathBuf| Symbols::load(&path);
        let known = MODULES.into_iter().filter(|program| programs.contains(&program.binary));
        Ok(Self {
            kernel: load(session.elf(KERNEL))?,
            boot: load(session.elf(BOOT))?,
            programs: known
                .map(|program| Ok((program.binary.to_owned(), load(session.elf(program))?)))
                .collect::<Result<_>>()?,
        })
    }

    /// Functions, the innermost first, with the file and line of that one. Programs lie at the same addresses: all that it may be are named.
    fn of(&self, pc: u64) -> String {
        let owners: Vec<(&str, &Symbols)> = if self.kernel.contains(pc) {
            vec![("kernel", &self.kernel)]
        } else if self.boot.contains(pc) {
            vec![("boot loader", &self.boot)]
        } else {
            let all = self.programs.iter().filter(|(_, symbols)| symbols.contains(pc));
            all.map(|(name, symbols)| (name.as_str(), symbols)).collect()
        };
        let named = owners.iter().map(|(owner, symbols)| {
            let frames = symbols.frames(pc);
            let functions: Vec<&str> = frames.iter().map(|frame| frame.function.as_str()).collect();
            match frames.first() {
                Some(inner) => {
                    let file = inner.file.rsplit('/').next().unwrap_or("");
                    format!("{owner}: {} ({file}:{})", functions.join(" < "), inner.line)
                }
                None => format!("{owner}: {}", symbols.label(pc, |_| false).unwrap_or("?")),
            }
        });
        let named: Vec<String> = named.collect();
        if named.is_empty() { format!("{pc:#x}") } else { named.join(", or ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_is_missing() {
        let fault = |missing: &str| Fault {
            wrong: "stale-load".into(),
            missing: missing.into(),
            node: 1,
            at: "kernel: Ring::front (ring.rs:9)".into(),
            other: 0,
            store: "kernel: Ring::publish (ring.rs:7)".into(),
            physical: 0x4000_0040,
            count: 3,
            promised: true,
        };
        let text = fault("clean").to_string();
        assert!(
            text.contains("Ring::front")
                && text.contains("0x40000040")
                && text.contains("node 0 has not cleaned")
        );
        assert!(fault("invalidate").to_string().contains("node 1 has not dropped"));
        let report = Report { faults: vec![fault("clean")], ..Report::default() };
        assert!(report.clean().unwrap_err().to_string().contains("in 1 ways"));
        assert!(Report::default().clean().is_ok());
        assert_eq!(report.measurements("x")[0].value, 3.into());
        let programs =
            Report { faults: vec![Fault { promised: false, ..fault("clean") }], ..Report::default() };
        assert!(programs.clean().is_ok() && programs.lines()[0].starts_with("programs need"));
    }

    #[test]
    fn only_the_load_that_is_meant_is_excused() {
        let fault = |at: &str, missing: &str| Fault {
            wrong: "stale-load".into(),
            missing: missing.into(),
            node: 1,
            at: format!("kernel: load < {at} < give_back (ring.rs:9)"),
            other: 0,
            store: String::new(),
            physical: 0,
            count: 1,
            promised: true,
        };
        assert!(fault("reserve < response_slot", "invalidate").excuse().is_some());
        assert!(fault("reserve < response_slot", "clean").excuse().is_none());
        assert!(fault("reserve < response_slot_maintained", "invalidate").excuse().is_none());
        let report =
            Report { faults: vec![fault("reserve < response_slot", "invalidate")], ..Report::default() };
        assert!(report.clean().is_ok() && report.lines()[0].contains("on purpose"));
    }
}
