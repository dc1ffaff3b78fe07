//! `bench`: the benchmarks that judge themselves. So far one: the kernel's paths, counted instruction by instruction.
//!
//! What is measured and how much it may take is the table of the `kernel-bench` crate, which the guest's program is built from
//! too. This module boots it, and puts the bars and other kernels' numbers beside what it found.

use std::process::Command;
use std::time::Duration;

use comfy_table::Table;
use kernel_bench::{CASES, Case, SAMPLES, WARM_UP};
use serde_json::{Map, Number, Value, json};

use crate::error::{Error, Result};
use crate::machine::{Machine, Overrides};
use crate::provenance::Provenance;
use crate::qemu::{Boot, Pace};
use crate::record::{self, Record, Series};
use crate::session::Session;
use crate::supervisor::{Finished, Observer, supervise};
use crate::table;

/// The benchmarks there are, each with one line about it.
pub const BENCHES: [(&str, &str); 1] = [(
    "kernel",
    "instructions of the kernel's paths (IPC, fault, unmap, threads) against what they may take",
)];

/// The guest's time slice. So long that none ends during a measurement.
const TICK_MS: u64 = 10_000;

/// A run of the kernel's benchmark.
#[derive(Clone, Debug)]
pub struct KernelBench {
    machine: Machine,
    cases: Vec<&'static str>,
    silence: Duration,
}

impl KernelBench {
    /// With the named cases, or with all if none is named. The machine is the default one: two nodes of one CPU.
    ///
    /// # Errors
    /// [`Error::Usage`] for a case that does not exist.
    pub fn new(cases: &[String], silence: Duration) -> Result<Self> {
        let find = |name: &String| {
            let case = kernel_bench::find(name).map(|case| case.name);
            case.ok_or_else(|| {
                let known: Vec<_> = CASES.iter().map(|case| case.name).collect();
                Error::Usage(format!("unknown case `{name}` of bench kernel; there are {}", known.join(", ")))
            })
        };
        let machine =
            Machine::load(&crate::session::machines()?, crate::machine::DEFAULT, Overrides::default())?;
        Ok(Self { machine, cases: cases.iter().map(find).collect::<Result<_>>()?, silence })
    }

    /// The guest's command line.
    pub fn command_line(&self) -> String {
        let words = ["clusters=per-node".into(), "root=kernel-bench".into(), format!("tick={TICK_MS}ms")];
        let cases = self.cases.iter().map(|&case| case.to_owned());
        words.into_iter().chain(["--".into()]).chain(cases).collect::<Vec<_>>().join(" ")
    }

    /// Boots and measures.
    ///
    /// # Errors
    /// [`Error::Host`] if QEMU cannot be started. How the run *ended* is in the result.
    pub fn run(&self, session: &Session, observer: &dyn Observer) -> Result<Finished> {
        supervise(self.command(session, Pace::Deterministic), self.silence, observer)
    }

    /// The command that boots the machine.
    pub fn command(&self, session: &Session, pace: Pace) -> Command {
        let append = self.command_line();
        let boot = Boot {
            machine: &self.machine,
            pace,
            kernel: &session.boot_image,
            initrd: &session.modules,
            append: &append,
        };
        session.qemu.command(&boot)
    }

    /// How many CPUs the machine has.
    pub fn cpus(&self) -> u32 {
        self.machine.cpus() as u32
    }

    /// The parameters, as fields of a record.
    fn parameters(&self) -> Map<String, Value> {
        let fields = json!({
            "warm_up": WARM_UP,
            "nodes": self.machine.nodes.len(),
            "cpus": self.machine.cpus(),
            "mem": self.machine.mem(),
            "kernel": "per-node",
            "machine": self.machine.name,
            "machine_hash": self.machine.hash,
            "tick_us": TICK_MS * 1000,
            "icount": true,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    /// How it was run: what a reader of the counts has to know.
    pub fn conditions(&self, session: &Session, series: &[Series]) -> String {
        let Provenance { revision, dirty, qemu, guest_compiler, .. } = &session.provenance;
        let overhead = series.iter().find_map(|s| s.measurement.parameters.get("overhead")?.as_u64());
        format!(
            "instructions, exact: {SAMPLES} samples after {WARM_UP} of warm-up, {} of the empty measurement subtracted; \
             deterministic (-icount shift=0,sleep=off, PMCCNTR_EL0), {} ({}), a cluster per node, no time slice ends meanwhile; \
             QEMU {qemu}, {guest_compiler}, revision {}{}",
            overhead.unwrap_or(0),
            self.machine.name,
            self.machine.description,
            revision.get(..12).unwrap_or(revision),
            if *dirty { "+" } else { "" },
        )
    }

    /// The records of a run: as all others, and with `bar` and `met` where there is a bar.
    pub fn records(&self, provenance: &Provenance, series: &[Series]) -> Vec<Record> {
        let mut records = record::records(&self.parameters(), provenance, series);
        for (record, series) in records.iter_mut().zip(series) {
            let Some(case) = kernel_bench::find(&series.measurement.case) else { continue };
            let numbers = [("bar", case.bar), ("sel4", case.sel4), ("sketch", case.sketch)];
            record.extend(numbers.into_iter().filter_map(|(key, n)| Some((key.to_owned(), json!(n?)))));
            if let Some(met) = met(case, series) {
                record.insert("met".into(), json!(met));
            }
        }
        records
    }
}

/// Whether every sample stays below the bar; `None` if there is no bar.
pub fn met(case: &Case, series: &Series) -> Option<bool> {
    Some(series.max().as_f64().is_some_and(|max| max <= case.bar.unwrap_or(0) as f64))
        .filter(|_| case.bar.is_some())
}

/// The table for people.
pub fn comparison(series: &[Series]) -> Table {
    let mut table = table::new(["case", "n", "min", "median", "max", "at most", "met", "seL4", "sketch"]);
    let show = |number: &Number| number.as_u64().map_or_else(|| number.to_string(), table::grouped);
    let other = |number: Option<u64>| number.map_or_else(String::new, table::grouped);
    for series in series {
        let case = kernel_bench::find(&series.measurement.case);
        let verdict = case.and_then(|case| met(case, series));
        table.add_row([
            series.measurement.case.clone(),
            series.sorted.len().to_string(),
            show(series.min()),
            show(&series.median()),
            show(series.max()),
            other(case.and_then(|case| case.bar)),
            verdict.map_or("", |met| if met { "yes" } else { "NO" }).to_owned(),
            other(case.and_then(|case| case.sel4)),
            other(case.and_then(|case| case.sketch)),
        ]);
    }
    table::align_numbers(&mut table, 1);
    table
}

/// What the columns of other kernels mean.
pub const LEGEND: &str = "seL4: seL4 16, uniprocessor, fast path, same emulator and method (cross-cluster: its SMP kernel, between \
     cores; fault: 984 with its exception fast path; growth: revoke, per copy). sketch: hand-written assembly with the same \
     checks. See docs/performance-method.md.";

/// The list of benchmarks, and of the cases of each.
pub fn list() -> [Table; 2] {
    let mut benches = table::new(["bench", "what it measures"]);
    for (name, what) in BENCHES {
        benches.add_row([name, what]);
    }
    let mut cases = table::new(["case of kernel", "at most", "what is counted"]);
    for case in &CASES {
        cases.add_row([case.name, &case.bar.map_or_else(String::new, table::grouped), case.what]);
    }
    [benches, cases]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Line;

    fn series(case: &str, values: &[f64]) -> Series {
        let line = format!(r#"{{"bench":"kernel","case":"{case}","metric":"m","value":0,"unit":"u"}}"#);
        let Line::Measurement(measurement) = Line::parse(&line) else { panic!("{line}") };
        Series { measurement, sorted: values.iter().filter_map(|&v| Number::from_f64(v)).collect() }
    }

    #[test]
    fn a_bar_holds_for_every_sample() {
        let case = kernel_bench::find("unmap.page.growth").unwrap();
        let bar = case.bar.unwrap() as f64;
        assert_eq!(met(case, &series(case.name, &[1.0, bar])), Some(true));
        assert_eq!(met(case, &series(case.name, &[1.0, bar, bar + 0.5])), Some(false));
        let free = kernel_bench::find("unmap.page.17").unwrap();
        assert_eq!(met(free, &series(free.name, &[1e9])), None);
    }

    #[test]
    fn records_carry_the_bar_and_whether_it_is_met() {
        let bench = KernelBench::new(&["ipc.roundtrip".into()], Duration::from_secs(1)).unwrap();
        let provenance = Provenance::collect(std::path::Path::new("."), "7", "c");
        let records =
            bench.records(&provenance, &[series("ipc.roundtrip", &[9e3]), series("unmap.page.17", &[1.0])]);
        assert_eq!((&records[0]["bar"], &records[0]["met"]), (&json!(250), &json!(false)));
        assert_eq!((&records[0]["bench"], &records[0]["n"]), (&json!("kernel"), &json!(1)));
        assert!(records[1].get("bar").is_none() && records[1].get("met").is_none());
        assert!(records[0].contains_key("revision") && records[0].contains_key("machine_hash"));
    }

    #[test]
    fn the_guest_is_told_which_cases() {
        let bench =
            KernelBench::new(&["unmap.page".into(), "page.copy".into()], Duration::from_secs(1)).unwrap();
        let expected = "clusters=per-node root=kernel-bench tick=10000ms -- unmap.page page.copy";
        assert_eq!(bench.command_line(), expected);
        let unknown = KernelBench::new(&["ipc".into()], Duration::from_secs(1)).unwrap_err().to_string();
        assert!(unknown.contains("`ipc`") && unknown.contains("ipc.roundtrip,") && !unknown.contains('\n'));
    }
}
