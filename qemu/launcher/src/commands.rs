//! Carries out what was typed.

use std::time::Duration;

use skerry_evaluation::setup::Setup;
use skerry_policy::shipped::Asks;

use crate::app::{APPS, App};
use crate::app::{ARRAY_WALK, ArrayWalk};
use crate::bench::{self, Bench};
use crate::cli::{BenchArgs, Cli, Command, Format, Listing, MainJobArgs, RunArgs};
use crate::error::{Error, Result};
use crate::evaluation::{self, Evaluation};
use crate::experiment::Experiment;
use crate::install::Installer;
use crate::ledger::Ledger;
use crate::machine::{self, Machine, Overrides};
use crate::progress::Meter;
use crate::qemu::Pace;
use crate::record::{self, Record};
use crate::recording::{self, Recording};
use crate::report;
use crate::session::{self, Session};
use crate::system::SystemName;
use crate::{doctor, main_job, plugin, quanta, replay, size, skeleton, table, trust};

/// Carries it out.
///
/// # Errors
/// Everything that can go wrong, as one line.
pub fn execute(cli: Cli) -> Result<()> {
    let installer = Installer::new(cli.no_install);
    match cli.command {
        None => run_main_job(&cli.main_job, installer),
        Some(Command::Run(args)) => run(&args, installer),
        Some(Command::Bench(args)) => bench(&args, installer),
        Some(Command::Report(args)) => report::write(&args),
        Some(Command::Compare(args)) => report::compare(&args),
        Some(Command::Replay(args)) => replay::run(&args),
        Some(Command::New(new)) => skeleton::make(&new),
        Some(Command::List { what }) => list(what),
        Some(Command::Doctor) => doctor::examine(installer),
        Some(Command::Build) => session::guest(installer)?.build(),
        Some(Command::Clippy) => session::guest(installer)?.clippy(installer),
    }
}

fn run_main_job(args: &MainJobArgs, installer: Installer) -> Result<()> {
    let machine = Machine::load(&session::machines()?, machine::DEFAULT, Overrides::default())?;
    let threads = machine.nodes_with_cpus().count() as u64;
    let bytes = args.size.unwrap_or(ArrayWalk::default().size);
    let experiments = main_job::experiments(&machine, bytes, Duration::from_secs(args.timeout))?;
    let session = Session::prepare(installer)?;
    let caption = format!(
        "array-walk on {} ({}), {} per thread, {} iterations; {}",
        machine.name,
        machine.description,
        size::format(bytes),
        ArrayWalk::default().iterations,
        experiments.first().map_or_else(String::new, Experiment::conditions)
    );
    eprintln!("skerry: {} boots: {caption}", experiments.len());
    let runs = main_job::run_all(&experiments, &session)?;
    let rows = main_job::rows(&experiments, &runs)?;
    let checks = main_job::checks(&rows, threads);
    match args.format {
        Format::Json => {
            for (experiment, run) in experiments.iter().zip(&runs) {
                let series = record::series(std::slice::from_ref(run));
                print_records(&record::records(&experiment.parameters(), &session.provenance, &series))?;
            }
        }
        Format::Table => {
            print_line(&caption)?;
            print_line(&main_job::comparison(&rows).to_string())?;
            for (holds, line) in &checks {
                print_line(&format!("{} {line}", if *holds { "holds: " } else { "BROKEN:" }))?;
            }
            print_line(&format!("\n{}", main_job::meaning(&rows)))?;
        }
    }
    match checks.into_iter().find(|(holds, _)| !holds) {
        Some((_, line)) => Err(Error::Check(format!("does not hold: {line}"))),
        None => Ok(()),
    }
}

fn experiment(args: &RunArgs) -> Result<Experiment> {
    let app = App::find(&args.app)?;
    let system = args.system().check()?;
    let walk = match (app.name, args.array_walk()) {
        (ARRAY_WALK, walk) => Some(walk.unwrap_or_default()),
        (_, None) => None,
        (other, Some(_)) => {
            return Err(Error::Usage(format!(
                "the options under the heading {ARRAY_WALK} belong to {ARRAY_WALK}, not to {other}"
            )));
        }
    };
    let (name, overrides) = args.machine();
    let machine = Machine::load(&session::machines()?, name, overrides)?;
    let silence = Duration::from_secs(args.timeout);
    let mut experiment = Experiment::new(machine, system, app, walk, silence)?;
    experiment.pace = if args.fast { Pace::Fast } else { Pace::Deterministic };
    experiment.tuning = args.tuning().check(&experiment.machine)?;
    experiment.app_args.clone_from(&args.app_args);
    experiment.options.clone_from(&args.boot);
    experiment.modelling = args.modelling();
    let [trace, pages] = args.recordings();
    experiment.recording = Recording { trace: trace.is_some(), pages: pages.is_some() };
    // Refuse a bad line before anything is built.
    experiment.command_line()?;
    Ok(experiment)
}

fn run(args: &RunArgs, installer: Installer) -> Result<()> {
    let experiment = experiment(args)?;
    let files = recording::create(args.recordings())?;
    let session = Session::prepare(installer)?;
    eprintln!("skerry: {}", experiment.describe());
    let repeat = args.repeat as usize;
    let compared = if args.compares_quanta() { quanta::QUANTA.len() } else { 0 };
    let meter = Meter::new(repeat + compared, args.verbose);
    let mut runs = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        let run = experiment.run(&session, &meter)?;
        if !args.verbose && run.ending != crate::ending::Ending::Pass {
            run.tail.iter().for_each(|line| meter.line(line));
        }
        runs.push(run.passed()?);
        meter.done("run");
    }
    let compared = match compared {
        0 => Vec::new(),
        _ => quanta::run(&experiment, &session, &meter)?,
    };
    meter.finish();
    let coherence: Vec<_> = runs.iter().filter_map(|run| run.coherence.clone()).collect();
    coherence.iter().take(1).flat_map(|report| report.lines()).for_each(|line| eprintln!("{line}"));
    let series = record::series(&runs);
    match args.format {
        Format::Json => {
            let mut records = record::records(&experiment.parameters(), &session.provenance, &series);
            quanta::note(&mut records, "case", &compared);
            print_records(&records)?
        }
        Format::Table => {
            print_line(&format!("{}; {}", experiment.describe(), experiment.conditions()))?;
            let shown: Vec<_> = series.iter().filter(|s| plugin::in_table(&s.measurement)).cloned().collect();
            print_line(&table::measurements(&shown).to_string())?;
            for (what, spread) in quanta::sensitive(&compared) {
                print_line(&format!("{what}: {spread:.1} % between quanta"))?;
            }
        }
    }
    if let Some(run) = runs.last() {
        let shown = run.recorded.keep(files, &experiment)?;
        if args.format == Format::Table {
            shown.iter().try_for_each(|table| print_line(table))?;
        }
    }
    coherence.iter().try_for_each(|report| report.clean())?;
    let unsteady = series.iter().find(|series| !series.is_reproducible(repeat));
    match unsteady {
        Some(series) if experiment.pace == Pace::Deterministic => Err(Error::Check(format!(
            "{} {} differs between deterministic runs: {} to {}",
            series.measurement.case,
            series.measurement.metric,
            series.min(),
            series.max()
        ))),
        _ => Ok(()),
    }
}

fn bench(args: &BenchArgs, installer: Installer) -> Result<()> {
    if args.bench.as_deref() == Some(replay::POLICIES) {
        if args.ledger || args.is_evaluation() {
            return Err(Error::Usage("bench policies has no such option; `replay` has more".into()));
        }
        return replay::bench(&args.cases, args.format);
    }
    let is_counted = |name: &str| bench::SUITES.iter().any(|suite| suite.name == name);
    let Some(name) = args.bench.as_deref().filter(|name| *name == trust::NAME || is_counted(name)) else {
        return bench_evaluation(args, installer);
    };
    if args.is_evaluation() {
        return Err(Error::Usage(format!(
            "--quick, --paper, --fresh and --quanta belong to the evaluation, not to bench {name}"
        )));
    }
    if name == trust::NAME {
        return bench_instrument(args, installer);
    }
    let bench = Bench::new(name, &args.cases, Duration::from_secs(args.timeout))?;
    let session = Session::prepare(installer)?;
    let meter = Meter::new(1, args.verbose);
    if args.ledger {
        let ledger = Ledger::make(&session, &bench, &meter)?;
        meter.finish();
        return print_line(ledger.render().trim_end());
    }
    let runs = bench.run(&session, &meter)?;
    meter.finish();
    let series = record::series(&runs);
    match args.format {
        Format::Json => print_records(&bench.records(&session.provenance, &series)),
        Format::Table => {
            print_line(&bench.conditions(&session, &series))?;
            print_line(&bench::comparison(bench.suite, &series).to_string())?;
            print_line(bench.suite.legend)
        }
    }
}

fn bench_evaluation(args: &BenchArgs, installer: Installer) -> Result<()> {
    let benches = Evaluation::benches(args.bench.as_deref())?;
    if args.ledger || !args.cases.is_empty() {
        return Err(Error::Usage("the benchmarks of the evaluation have neither cases nor ledgers".into()));
    }
    let setup = Setup { quick: args.quick, paper: args.paper };
    let silence = Duration::from_secs(args.timeout);
    let evaluation =
        Evaluation { benches: benches.clone(), setup, fresh: args.fresh, quanta: args.quanta, silence };
    let session = Session::prepare(installer)?;
    let outcomes = evaluation.run(&session, args.verbose)?;
    match args.format {
        Format::Json => print_records(&outcomes.records)?,
        Format::Table => {
            let lines = evaluation::conclusions(&benches, setup, &outcomes.records);
            lines.iter().try_for_each(|line| print_line(line))?;
            if !outcomes.goals.is_empty() {
                print_line(&evaluation::goals_table(&outcomes.goals).to_string())?;
            }
            if args.quanta {
                let (all, sensitive) = quanta::count(&outcomes.records);
                print_line(&format!(
                    "{sensitive} of {all} modelled numbers depend on the quantum by more than {} %",
                    quanta::LIMIT
                ))?;
            }
            let met = outcomes.goals.iter().filter(|outcome| outcome.met).count();
            print_line(&format!(
                "{met} of {} goals met; records: {}",
                outcomes.goals.len(),
                outcomes.file.display()
            ))?;
        }
    }
    match outcomes.failed.first() {
        Some((cell, reason)) => Err(Error::Check(format!(
            "{} of the runs did not pass, the first one {cell}: {reason}",
            outcomes.failed.len()
        ))),
        None => Ok(()),
    }
}

fn bench_instrument(args: &BenchArgs, installer: Installer) -> Result<()> {
    if args.ledger {
        return Err(Error::Usage("bench instrument has no ledger".into()));
    }
    let session = Session::prepare(installer)?;
    let meter = Meter::new(1, args.verbose);
    let findings = trust::run(&session, &args.cases, Duration::from_secs(args.timeout), &meter)?;
    meter.finish();
    match args.format {
        Format::Json => print_records(&trust::records(&session, &findings)),
        Format::Table => print_line(&trust::comparison(&findings).to_string()),
    }
}

fn list(what: Listing) -> Result<()> {
    let mut table = match what {
        Listing::Machines => table::new(["machine", "nodes", "CPUs", "memory", "what it is"]),
        Listing::Apps => table::new(["app", "what it does"]),
        Listing::Systems => table::new(["system", "--kernel", "--space", "--placement"]),
        Listing::Policies => table::new(["policy", "options", "runs in", "where pages go"]),
        Listing::Workloads => table::new(["workload", "what it does"]),
        Listing::Benches => {
            return bench::list().iter().try_for_each(|table| print_line(&table.to_string()));
        }
    };
    match what {
        Listing::Machines => {
            let folder = session::machines()?;
            for name in Machine::names(&folder)? {
                let machine = Machine::load(&folder, &name, Overrides::default())?;
                let (nodes, cpus) = (machine.nodes.len().to_string(), machine.cpus().to_string());
                table.add_row([name, nodes, cpus, size::format(machine.mem()), machine.description]);
            }
        }
        Listing::Apps => {
            for app in &APPS {
                table.add_row([app.name, app.description]);
            }
        }
        Listing::Systems => {
            for name in SystemName::ALL {
                let system = name.system();
                let [kernel, space, placement] = system.options().map(|(_, value)| value);
                table.add_row([name.to_string(), kernel, space, placement]);
            }
        }
        Listing::Policies => {
            for entry in skerry_policy::shipped::ALL {
                let options = [entry.options, "ahead=N"].into_iter().filter(|text| !text.is_empty());
                let runs = match entry.asks {
                    Asks::Fresh => "pagers, replay",
                    Asks::More => "replay",
                };
                table.add_row([entry.name, &options.collect::<Vec<_>>().join(", "), runs, entry.what]);
            }
        }
        Listing::Workloads => {
            for workload in &skerry_replay::synthetic::ALL {
                table.add_row([workload.name, workload.what]);
            }
        }
        Listing::Benches => {}
    }
    print_line(&table.to_string())
}

pub(crate) fn print_records(records: &[Record]) -> Result<()> {
    for record in records {
        print_line(&serde_json::to_string(record).map_err(Error::host("writing a record"))?)?;
    }
    Ok(())
}

/// Prints a line of results; a reader that has gone away (`| head`) is no reason to panic.
pub(crate) fn print_line(line: &str) -> Result<()> {
    use std::io::{ErrorKind, Write};
    writeln!(std::io::stdout().lock(), "{line}").map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Error::OutputClosed,
        _ => Error::host("writing to standard output")(error),
    })
}
