//! `bench`: the benchmarks that judge themselves, and their cases: paths, counted instruction by instruction.
//!
//! What is measured and how much it may take is a table in a crate that the guest's program is built from too. This module boots
//! the program, and puts the bars and others' numbers beside what it found.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use comfy_table::Table;
use serde_json::{Map, Number, Value, json};
use skerry_bench::{Case, SAMPLES, WARM_UP, find};

use crate::error::{Error, Result};
use crate::guest::{APP_PAGER, KERNEL_BENCH, PAGER_BENCH, Program, SYSCALL_SERVER};
use crate::machine::{Machine, Overrides};
use crate::provenance::Provenance;
use crate::qemu::{Boot, Extras, Pace};
use crate::record::{self, Record, Series};
use crate::session::Session;
use crate::size;
use crate::supervisor::{Finished, Observer, supervise};
use crate::{replay, table, trust};

/// A benchmark.
#[derive(Debug)]
pub struct Suite {
    /// Its name, in records and on command lines.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// What it measures.
    pub cases: &'static [Case],
    /// Whose numbers [`Case::others`] are: field of a record, heading.
    pub others: [(&'static str, &'static str); 2],
    /// What these columns mean.
    pub legend: &'static str,
    /// The guest's program.
    pub program: Program,
    /// Programs besides it and the kernel that the paths go through.
    pub servers: &'static [Program],
    /// Where the ledger is committed, below the workspace.
    pub ledger: &'static str,
    /// How its machine differs from the default one.
    machine: Overrides,
    /// What the guest's command line says besides the cases.
    options: &'static [&'static str],
}

/// The benchmarks there are.
pub static SUITES: [Suite; 3] = [
    Suite {
        name: "kernel",
        about: "instructions of the kernel's paths (IPC, fault, unmap, threads) against what they may take",
        cases: &kernel_bench::CASES,
        others: [("sel4", "seL4"), ("sketch", "sketch")],
        legend: "seL4: seL4 16, uniprocessor, fast path, same emulator and method (ipc.roundtrip: with an empty message, 461 with 4 MRs; \
                 fault: with its exception fast path, 1,600 without; cross-cluster: its SMP kernel, between cores; growth: revoke, per copy). sketch: hand-written assembly with the same checks. See \
                 docs/performance-method.md.",
        program: KERNEL_BENCH,
        servers: &[],
        ledger: "docs/kernel-ledger.md",
        machine: Overrides { nodes: None, cpus: None, mem: None },
        options: &["clusters=per-node", "root=kernel-bench"],
    },
    Suite {
        name: "smp",
        about: "instructions of the kernel's paths in a cluster of four CPUs, under its lock",
        cases: &kernel_bench::SHARED_CASES,
        others: [("sel4", "seL4 SMP"), ("sketch", "sketch")],
        legend: "seL4 SMP: seL4 16 with several cores, same emulator and method; unmap on 2 and 4 cores. See docs/performance-method.md.",
        program: KERNEL_BENCH,
        servers: &[],
        ledger: "docs/smp-ledger.md",
        machine: Overrides { nodes: Some(1), cpus: Some(4), mem: None },
        options: &["clusters=per-node", "root=kernel-bench"],
    },
    Suite {
        name: "pager",
        about: "instructions of the pagers' paths (page faults, unmap) against what they may take",
        cases: &pager_bench::CASES,
        others: [("linux", "Linux"), ("userfaultfd", "userfaultfd")],
        legend: "Linux: 6.1, in the same emulator with the same method; userfaultfd: there, a thread of the program handles the fault. \
                 See docs/performance-method.md.",
        program: PAGER_BENCH,
        servers: &[APP_PAGER, SYSCALL_SERVER],
        ledger: "docs/pager-ledger.md",
        machine: Overrides { nodes: Some(8), cpus: Some(8), mem: Some(1 << 30) },
        options: &["clusters=per-node", "space=per-node", "placement=first-touch", "app=pager-bench"],
    },
];

/// The benchmarks that are not of the evaluation.
pub fn names() -> impl Iterator<Item = &'static str> {
    SUITES.iter().map(|suite| suite.name).chain([trust::NAME, replay::POLICIES])
}

/// The guest's time slice. So long that none ends during a measurement.
const TICK_MS: u64 = 10_000;

/// A run of a benchmark.
#[derive(Clone, Debug)]
pub struct Bench {
    /// Which.
    pub suite: &'static Suite,
    machine: Machine,
    cases: Vec<&'static str>,
    silence: Duration,
}

impl Bench {
    /// The benchmark of this name, with the named cases, or with all if none is named. The machine is the default one, two nodes of
    /// one CPU, unless the benchmark is about another.
    ///
    /// # Errors
    /// [`Error::Usage`] for a benchmark or a case that does not exist.
    pub fn new(name: &str, cases: &[String], silence: Duration) -> Result<Self> {
        let suite = SUITES.iter().find(|suite| suite.name == name).ok_or_else(|| {
            let known: Vec<_> = names().collect();
            Error::Usage(format!("unknown bench `{name}`; there are {}", known.join(", ")))
        })?;
        let case = |wanted: &String| {
            find(suite.cases, wanted).map(|case| case.name).ok_or_else(|| {
                let known: Vec<_> = suite.cases.iter().map(|case| case.name).collect();
                Error::Usage(format!(
                    "unknown case `{wanted}` of bench {name}; there are {}",
                    known.join(", ")
                ))
            })
        };
        let machine = Machine::load(&crate::session::machines()?, crate::machine::DEFAULT, suite.machine)?;
        let mut cases: Vec<_> = cases.iter().map(case).collect::<Result<_>>()?;
        if cases.is_empty() {
            // Not each is measured in the same boot, and not each that a program has is one of this benchmark.
            cases.extend(suite.cases.iter().map(|case| case.name));
        }
        Ok(Self { suite, machine, cases, silence })
    }

    /// The boots: what each adds to the suite's options, and its cases. Those with the same options share one. No case: all that the
    /// program has.
    fn boots(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut boots: Vec<(&str, Vec<&str>)> = Vec::new();
        for case in self.suite.cases.iter().filter(|case| self.cases.contains(&case.name)) {
            match boots.iter_mut().find(|(options, _)| *options == case.options) {
                Some((_, names)) => names.push(case.name),
                None => boots.push((case.options, [case.name].into())),
            }
        }
        if boots.is_empty() {
            boots.push(("", Vec::new()));
        }
        boots
    }

    /// The guest's command line in one of the boots.
    fn command_line(&self, options: &str, cases: &[&str]) -> String {
        let tick = format!("tick={TICK_MS}ms");
        let options = Some(options).filter(|options| !options.is_empty());
        let words = self.suite.options.iter().copied().chain([tick.as_str()]).chain(options).chain(["--"]);
        words.chain(cases.iter().copied()).collect::<Vec<_>>().join(" ")
    }

    /// Boots, as often as the cases need it, and measures.
    ///
    /// # Errors
    /// [`Error::Host`] if QEMU cannot be started, [`Error::Ended`] if the guest does not come to its end.
    pub fn run(&self, session: &Session, observer: &dyn Observer) -> Result<Vec<Finished>> {
        let boot = |(options, cases): (&'static str, Vec<&'static str>)| {
            let command = self.boot(session, &self.command_line(options, &cases), Extras::default());
            supervise(command, self.silence, observer)?.passed()
        };
        self.boots().into_iter().map(boot).collect()
    }

    /// The command that measures one case, with the instrument whose files these are.
    pub(crate) fn command_with(&self, session: &Session, case: &Case, files: [&Path; 3]) -> Command {
        let line = self.command_line(case.options, &[case.name]);
        self.boot(session, &line, Extras { plugin: Some(files), ..Extras::default() })
    }

    fn boot(&self, session: &Session, append: &str, extras: Extras<'_>) -> Command {
        let boot = Boot {
            machine: &self.machine,
            pace: Pace::Deterministic,
            kernel: &session.boot_image,
            initrd: &session.modules,
            append,
        };
        session.qemu.command_with(&boot, extras)
    }

    /// The cases: all, if none was named.
    pub fn cases(&self) -> impl Iterator<Item = &'static Case> {
        let all = self.cases.is_empty();
        self.suite.cases.iter().filter(move |case| all || self.cases.contains(&case.name))
    }
    /// The machine.
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }
    /// The run is given up after so long without output.
    pub const fn silence(&self) -> Duration {
        self.silence
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
             deterministic (-icount shift=0,sleep=off, PMCCNTR_EL0), {} (nodes: {}, CPUs: {}, {}), a cluster per node, no time slice ends meanwhile; \
             QEMU {qemu}, {guest_compiler}, revision {}{}",
            overhead.unwrap_or(0),
            self.machine.name,
            self.machine.nodes.len(),
            self.machine.cpus(),
            size::format(self.machine.mem()),
            revision.get(..12).unwrap_or(revision),
            if *dirty { "+" } else { "" },
        )
    }

    /// The records of a run: as all others, and with `bar` and `met` where there is a bar.
    pub fn records(&self, provenance: &Provenance, series: &[Series]) -> Vec<Record> {
        let mut records = record::records(&self.parameters(), provenance, series);
        for (record, series) in records.iter_mut().zip(series) {
            let Some(case) = find(self.suite.cases, &series.measurement.case) else { continue };
            let [(first, _), (second, _)] = self.suite.others;
            let numbers = [("bar", case.bar), (first, case.others[0]), (second, case.others[1])];
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
pub fn comparison(suite: &Suite, series: &[Series]) -> Table {
    let [(_, first), (_, second)] = suite.others;
    let mut table = table::new(["case", "n", "min", "median", "max", "at most", "met", first, second]);
    let show = |number: &Number| number.as_u64().map_or_else(|| number.to_string(), table::grouped);
    let other = |number: Option<u64>| number.map_or_else(String::new, table::grouped);
    for series in series {
        let case = find(suite.cases, &series.measurement.case);
        let verdict = case.and_then(|case| met(case, series));
        let [first, second] = case.map_or([None; 2], |case| case.others);
        table.add_row([
            series.measurement.case.clone(),
            series.sorted.len().to_string(),
            show(series.min()),
            show(&series.median()),
            show(series.max()),
            other(case.and_then(|case| case.bar)),
            verdict.map_or("", |met| if met { "yes" } else { "NO" }).to_owned(),
            other(first),
            other(second),
        ]);
    }
    table::align_numbers(&mut table, 1);
    table
}

/// The list of benchmarks, and of the cases of each.
pub fn list() -> Vec<Table> {
    let mut benches = table::new(["bench", "what it measures"]);
    for suite in &SUITES {
        benches.add_row([suite.name, suite.about]);
    }
    benches.add_row([trust::NAME, trust::ABOUT]);
    benches.add_row([replay::POLICIES, replay::ABOUT]);
    for bench in &skerry_evaluation::benches::BENCHES {
        benches.add_row([bench.name, bench.about]);
    }
    let cases = SUITES.iter().map(|suite| {
        let heading = format!("case of {}", suite.name);
        let mut cases = table::new([heading.as_str(), "at most", "what is counted"]);
        for case in suite.cases {
            cases.add_row([case.name, &case.bar.map_or_else(String::new, table::grouped), case.what]);
        }
        cases
    });
    std::iter::once(benches).chain(cases.collect::<Vec<_>>()).collect()
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
        let case = find(&kernel_bench::CASES, "unmap.page.growth").unwrap();
        let bar = case.bar.unwrap() as f64;
        assert_eq!(met(case, &series(case.name, &[1.0, bar])), Some(true));
        assert_eq!(met(case, &series(case.name, &[1.0, bar, bar + 0.5])), Some(false));
        let free = find(&kernel_bench::CASES, "unmap.page.17").unwrap();
        assert_eq!(met(free, &series(free.name, &[1e9])), None);
    }

    #[test]
    fn records_carry_the_bar_and_whether_it_is_met() {
        let bench = Bench::new("kernel", &["ipc.roundtrip".into()], Duration::from_secs(1)).unwrap();
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
            Bench::new("kernel", &["unmap.page".into(), "page.copy".into()], Duration::from_secs(1)).unwrap();
        let expected = "clusters=per-node root=kernel-bench tick=10000ms -- unmap.page page.copy";
        let lines = |bench: &Bench| {
            let boots = bench.boots();
            boots.iter().map(|(options, cases)| bench.command_line(options, cases)).collect::<Vec<_>>()
        };
        assert_eq!(lines(&bench), [expected]);
        let pager = lines(&Bench::new("pager", &[], Duration::from_secs(1)).unwrap());
        assert!(pager.iter().all(|line| line.contains(" app=pager-bench ")), "{pager:?}");
        assert!(pager[0].contains(" tick=10000ms -- fault.first-touch "), "{pager:?}");
        assert!(pager.iter().any(|line| line.contains(" unmap=root -- unmap.global.n2.root ")), "{pager:?}");
        let [all, other] = &lines(&Bench::new("kernel", &[], Duration::from_secs(1)).unwrap())[..] else {
            panic!()
        };
        assert!(all.contains(" tick=10000ms -- syscall.null ") && !all.contains("maintained"), "{all}");
        let case = "ipc.roundtrip.cross-cluster.maintained";
        assert!(other.ends_with(&format!(" rings=maintained -- {case}")), "{other}");
        let alone = Bench::new("kernel", &[case.into()], Duration::from_secs(1)).unwrap();
        assert_eq!(lines(&alone), [other.as_str()]);
        assert!(Bench::new("kernels", &[], Duration::from_secs(1)).is_err());
        let unknown = Bench::new("kernel", &["ipc".into()], Duration::from_secs(1)).unwrap_err().to_string();
        assert!(unknown.contains("`ipc`") && unknown.contains("ipc.roundtrip,") && !unknown.contains('\n'));
    }
}
