//! `replay` and `bench policies`: placement policies on traces of misses, without QEMU.
//!
//! A trace is a file, or the name of a program whose trace is made on the spot (`list workloads`). The machine's file gives nodes, distances and costs, as it does for the
//! instrument. Every time printed here is modelled.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use skerry_cost_model::CoreModel;
use skerry_policy::shipped;
use skerry_replay::compare::{self, Comparison, Row};
use skerry_replay::synthetic::{self, Shape, Workload};
use skerry_replay::{Settings, Trace, format};

use crate::cli::Format;
use crate::commands::{print_line, print_records};
use crate::error::{Error, Result};
use crate::machine::{Machine, Overrides};
use crate::plugin::{self, Modelling, QUANTUM};
use crate::provenance::Provenance;
use crate::record::Record;
use crate::{session, table};

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A file with a trace of misses, a synthetic program (see `list workloads`), or `all` of these
    pub trace: String,
    /// A policy with options, `NAME[:OPTION=VALUE]…` (see `list policies`); can be given several times [default: adaptive]
    #[arg(long, value_name = "POLICY")]
    pub policy: Vec<String>,
    /// The machine (see `list machines`), or a machine file
    #[arg(long, default_value = "four-node")]
    pub machine: String,
    /// So many nodes, all like the first one of the machine
    #[arg(long)]
    pub nodes: Option<usize>,
    /// So many CPUs in total
    #[arg(long)]
    pub cpus: Option<usize>,
    /// What a core does during a miss [default: both, one after the other]
    #[arg(long, value_enum)]
    pub model: Option<Core>,
    /// Modelled cycles between two ticks of the policies
    #[arg(long, default_value_t = Settings::default().period, value_parser = clap::value_parser!(u64).range(1_000..))]
    pub period: u64,
    /// Synthetic programs: pages per thread
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub pages: u32,
    /// Synthetic programs: how often the data is gone through
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// Synthetic programs: for what is random
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the trace of a synthetic program to this file, too
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// What a core does during a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Core {
    /// It waits for every miss.
    Blocking,
    /// It fetches streams ahead, and independent misses overlap.
    Prefetching,
}

/// Policies that need no option that only the user knows.
fn all_policies() -> Vec<String> {
    let needs = ["bind", "preferred"];
    shipped::ALL
        .iter()
        .map(|entry| entry.name.to_owned())
        .filter(|name| !needs.contains(&name.as_str()))
        .collect()
}

/// The name of [`bench`] on command lines.
pub const POLICIES: &str = "policies";
/// One line about it.
pub const ABOUT: &str =
    "all placement policies on all synthetic programs (`list workloads`), by replay: modelled cycles";

/// A trace, and the machine that it wants.
struct Prepared {
    name: String,
    machine: skerry_replay::Machine,
    trace: Trace,
}

/// `bench policies`: all policies on all synthetic programs.
///
/// # Errors
/// Those of [`run`].
pub fn bench(cases: &[String], format: Format) -> Result<()> {
    let settings = Settings::default();
    let args = |trace: &str| ReplayArgs {
        trace: trace.to_owned(),
        policy: all_policies(),
        machine: "four-node".to_owned(),
        nodes: None,
        cpus: None,
        model: None,
        period: settings.period,
        pages: 256,
        rounds: 40,
        seed: 1,
        save: None,
        format,
    };
    match cases {
        [] => run(&args("all")),
        some => some.iter().try_for_each(|case| run(&args(case))),
    }
}

/// Carries out `replay`.
///
/// # Errors
/// [`Error::Usage`] for unknown policies, machines and traces, [`Error::Host`] for files.
pub fn run(args: &ReplayArgs) -> Result<()> {
    let policies = if args.policy.is_empty() { vec!["adaptive".to_owned()] } else { args.policy.clone() };
    for policy in &policies {
        shipped::with(policy, Known).map_err(|error| Error::Usage(format!("--policy {policy}: {error}")))?;
    }
    let overrides = Overrides { nodes: args.nodes, cpus: args.cpus, mem: None };
    let machine = Machine::load(&session::machines()?, &args.machine, overrides)?;
    let workloads = workloads(args)?;
    let provenance = Provenance::collect(&session::workspace()?, "none", "none");
    let mut printed = Vec::new();
    let mut shown = table::new([
        "workload",
        "core",
        "policy",
        "cycles (modelled)",
        "gap closed",
        "against first touch",
        "local",
        "migrations",
        "copies",
        "messages",
    ]);
    let (start, mut misses) = (Instant::now(), 0);
    for core in [Core::Blocking, Core::Prefetching] {
        if args.model.is_some_and(|only| only != core) {
            continue;
        }
        for workload in &workloads {
            let prepared = prepare(args, &machine, core, workload)?;
            let compared = compare(args, &prepared, &policies)?;
            misses += prepared.trace.misses() * (1 + compared.rows.len() as u64);
            for row in &compared.rows {
                warn(row);
                match args.format {
                    Format::Table => drop(shown.add_row(cells(&prepared.name, core, row))),
                    Format::Json => {
                        let parameters = parameters(args, &machine, core, &prepared.name, row);
                        printed.extend(records(&parameters, &provenance, row, &compared));
                    }
                }
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("skerry: {misses} misses in {seconds:.1} s of the host, optima included");
    match args.format {
        Format::Table => {
            table::align_numbers(&mut shown, 3);
            print_line(&shown.to_string())?;
            print_line(
                "gap closed: share of the way from first touch to the offline optimum; -: there is less than 2 % to win",
            )
        }
        Format::Json => print_records(&printed),
    }
}

/// Whether there is such a policy.
struct Known;
impl skerry_policy::Visitor for Known {
    type Out = ();
    fn visit<P: skerry_policy::Policy + Clone + Send + 'static>(self, _: P) {}
}

/// The synthetic programs that are meant; one `None` for a file.
fn workloads(args: &ReplayArgs) -> Result<Vec<Option<&'static Workload>>> {
    if args.trace == "all" {
        if args.save.is_some() {
            return Err(Error::Usage("--save is for a single program".into()));
        }
        return Ok(synthetic::ALL.iter().map(Some).collect());
    }
    let found = synthetic::ALL.iter().find(|workload| workload.name == args.trace);
    if found.is_none() && !Path::new(&args.trace).is_file() {
        return Err(Error::Usage(format!("{} is neither a file nor one of `list workloads`", args.trace)));
    }
    if found.is_none() && args.save.is_some() {
        return Err(Error::Usage("--save is for synthetic programs".into()));
    }
    Ok(vec![found])
}

fn prepare(
    args: &ReplayArgs,
    machine: &Machine,
    core: Core,
    workload: &Option<&Workload>,
) -> Result<Prepared> {
    let core = match core {
        Core::Blocking => CoreModel::Blocking,
        Core::Prefetching => CoreModel::Prefetching,
    };
    let config = plugin::config(machine, Modelling { core, quantum: QUANTUM, sanitize: false });
    let machine =
        skerry_replay::Machine::new(config.topology, config.params, config.core).map_err(Error::Usage)?;
    let Some(workload) = workload else {
        let file = File::open(&args.trace).map_err(Error::host(format!("opening {}", args.trace)))?;
        let trace = format::read(&mut BufReader::new(file))
            .map_err(|why| Error::Usage(format!("{}: {why}", args.trace)))?;
        let name =
            Path::new(&args.trace).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
        return Ok(Prepared { name, machine, trace });
    };
    let mut shape = Shape::of(&machine, args.pages, args.rounds, args.seed);
    shape.period = u32::try_from(args.period).unwrap_or(u32::MAX);
    let (machine, trace) = compare::prepare(&machine, workload, &shape);
    if let Some(path) = &args.save {
        let host = || Error::host(format!("writing {}", path.display()));
        let mut file = BufWriter::new(File::create(path).map_err(host())?);
        format::write(&trace, &mut file).and_then(|()| file.flush()).map_err(host())?;
    }
    Ok(Prepared { name: workload.name.to_owned(), machine, trace })
}

fn compare(args: &ReplayArgs, prepared: &Prepared, policies: &[String]) -> Result<Comparison> {
    let names: Vec<&str> = policies.iter().map(String::as_str).collect();
    let settings = Settings { period: args.period, ..Settings::default() };
    compare::policies(&prepared.machine, &prepared.trace, &names, settings)
        .map_err(|error| Error::Usage(error.to_string()))
}

/// What a policy did wrong, once per policy and program.
fn warn(row: &Row) {
    if let Some((node, mistake)) = row.outcome.fallen.first() {
        eprintln!("skerry: policy {} on node {node} {mistake}; first touch from then on", row.policy);
    }
    if let Some(node) = row.outcome.out_of_memory {
        eprintln!("skerry: policy {}: no frame on node {node}, the task ended there", row.policy);
    }
}

fn cells(workload: &str, core: Core, row: &Row) -> [String; 10] {
    let Row { policy, outcome, gap_closed, slower } = row;
    let ended = outcome.out_of_memory.is_some();
    let count = |number: u64| table::grouped(number);
    [
        workload.to_owned(),
        name(core).to_owned(),
        policy.clone(),
        if ended { "out of memory".into() } else { count(outcome.time) },
        gap_closed.filter(|_| !ended).map_or_else(|| "-".into(), |share| format!("{:.0} %", share * 100.0)),
        if ended { "-".into() } else { format!("{slower:+.1} %") },
        format!("{:.0} %", outcome.local_share() * 100.0),
        count(outcome.migrations),
        count(outcome.copies),
        count(outcome.messages),
    ]
}

const fn name(core: Core) -> &'static str {
    match core {
        Core::Blocking => "blocking",
        Core::Prefetching => "prefetching",
    }
}

fn parameters(args: &ReplayArgs, machine: &Machine, core: Core, workload: &str, row: &Row) -> Record {
    let value = json!({
        "policy": row.policy, "workload": workload, "nodes": machine.nodes.len(), "cpus": machine.cpus(),
        "machine": machine.name, "machine_hash": machine.hash, "model": name(core), "period": args.period,
        "pages": args.pages, "rounds": args.rounds, "seed": args.seed,
    });
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// One record per metric. A task that ended for want of memory has no time.
fn records(parameters: &Record, provenance: &Provenance, row: &Row, compared: &Comparison) -> Vec<Record> {
    let Row { outcome, gap_closed, .. } = row;
    let ended = outcome.out_of_memory.is_some();
    let workload = parameters["workload"].as_str().unwrap_or_default();
    let metrics = [
        ("time", (!ended).then(|| json!(outcome.time)), "cycles"),
        ("gap_closed", gap_closed.filter(|_| !ended).map(|share| json!(share)), "share"),
        ("local_share", Some(json!(outcome.local_share())), "share"),
        ("migrations", Some(json!(outcome.migrations)), "pages"),
        ("copies", Some(json!(outcome.copies)), "pages"),
        ("messages", Some(json!(outcome.messages)), "messages"),
        ("faults", Some(json!(outcome.faults)), "faults"),
        ("sampling", Some(json!(outcome.sampling)), "cycles"),
        ("mechanism", Some(json!(outcome.mechanism)), "cycles"),
        ("policy_time", Some(json!(outcome.policy)), "cycles"),
        ("optimum", Some(json!(compared.optimum.time)), "cycles"),
        ("first_touch", Some(json!(compared.optimum.first_touch.time)), "cycles"),
    ];
    let given = metrics.into_iter().filter_map(|(metric, value, unit)| Some((metric, value?, unit)));
    given
        .map(|(metric, value, unit)| {
            let mut record = Record::new();
            let fields = [
                ("bench", json!("policies")),
                ("case", json!(format!("policies.replay.{workload}"))),
                ("metric", json!(metric)),
                ("value", value),
                ("unit", json!(unit)),
                ("kind", json!("modelled")),
            ];
            record.extend(fields.map(|(key, value)| (key.to_owned(), value)));
            for (key, value) in parameters.clone().into_iter().chain(provenance.fields()) {
                record.entry(key).or_insert(value);
            }
            record
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn args(line: &str) -> ReplayArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Some(Command::Replay(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn mistakes_are_said_before_anything_is_replayed() {
        for (line, word) in [
            ("skerry replay serial-init --policy frist-touch", "frist-touch"),
            ("skerry replay serial-init --policy bind", "nodes="),
            ("skerry replay serial-init --policy interleave:nodes=x", "nodes=x"),
            ("skerry replay no-such-trace", "no-such-trace"),
            ("skerry replay serial-init --machine no-such", "no-such"),
            ("skerry replay all --save x", "--save"),
        ] {
            let error = run(&args(line)).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(word) && !error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_saved_trace_replays_like_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ring.misses");
        let line = format!("skerry replay producer-consumer --pages 8 --rounds 4 --save {}", path.display());
        let args = args(&line);
        let machine =
            Machine::load(&session::machines().unwrap(), "four-node", Overrides::default()).unwrap();
        let workload = synthetic::ALL.iter().find(|workload| workload.name == "producer-consumer");
        let made = prepare(&args, &machine, Core::Blocking, &workload).unwrap();
        let again = ReplayArgs { trace: path.display().to_string(), save: None, ..args };
        let read = prepare(&again, &machine, Core::Blocking, &None).unwrap();
        assert_eq!((made.trace, read.name.as_str()), (read.trace, "ring"));
    }

    #[test]
    fn records_say_what_they_are() {
        let line = "skerry replay serial-init --pages 8 --rounds 4 --policy next-touch";
        let args = args(line);
        let machine =
            Machine::load(&session::machines().unwrap(), "four-node", Overrides::default()).unwrap();
        let workload = synthetic::ALL.iter().find(|workload| workload.name == "serial-init");
        let prepared = prepare(&args, &machine, Core::Blocking, &workload).unwrap();
        let compared = compare(&args, &prepared, &args.policy).unwrap();
        let row = &compared.rows[0];
        let parameters = parameters(&args, &machine, Core::Blocking, &prepared.name, row);
        let all = records(&parameters, &Provenance::collect(Path::new("."), "none", "none"), row, &compared);
        let metric = |name: &str| all.iter().find(|record| record["metric"] == name).unwrap();
        for name in ["time", "gap_closed", "local_share", "migrations", "copies", "messages"] {
            let record = metric(name);
            assert_eq!((&record["kind"], &record["policy"]), (&json!("modelled"), &json!("next-touch")));
            assert_eq!(
                (&record["case"], &record["nodes"]),
                (&json!("policies.replay.serial-init"), &json!(4))
            );
        }
        assert!(metric("migrations")["value"].as_u64().unwrap() > 0);
    }
}
