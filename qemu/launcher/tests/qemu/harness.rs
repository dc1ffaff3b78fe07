//! What the trials share: the session (built once), making experiments, and readable failures.

use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Failed, Trial};
use skerry::app::{App, ArrayWalk};
use skerry::ending::Ending;
use skerry::error::Error;
use skerry::experiment::Experiment;
use skerry::install::Installer;
use skerry::machine::{Machine, Overrides};
use skerry::session::{self, Session};
use skerry::size::MIB;
use skerry::supervisor::{Finished, Quiet};
use skerry::system::{System, SystemName};

/// Give up after so long without output. Generous: a loaded CI machine is slow, a dead guest is the exception.
pub(crate) const SILENCE: Duration = Duration::from_secs(120);

/// What a trial returns.
pub(crate) type Outcome = Result<(), Failed>;

/// A trial whose failure tells how to repeat it.
pub(crate) fn trial(name: impl Into<String>, body: impl FnOnce() -> Outcome + Send + 'static) -> Trial {
    let name = name.into();
    let slice = std::env::var("SKERRY_FUZZ")
        .map_or_else(|_| String::new(), |slice| format!("SKERRY_FUZZ={slice:?} "));
    let rerun = format!("rerun: {slice}cargo test -p skerry --test qemu -- --exact {name}");
    Trial::test(name.clone(), move || {
        let begin = Instant::now();
        let outcome = body();
        TIMES.lock().unwrap_or_else(PoisonError::into_inner).push((begin.elapsed(), name));
        outcome.map_err(|failed| format!("{}\n{rerun}", failed.message().unwrap_or("failed")).into())
    })
}

/// How long each trial took.
static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// Says which trials took longest, if there were many.
pub(crate) fn print_longest() {
    const MANY: usize = 30;
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    if times.len() < MANY {
        return;
    }
    times.sort_by(|a, b| b.cmp(a));
    let total: Duration = times.iter().map(|(time, _)| *time).sum();
    println!("longest of {} trials, which took {:.0} s together:", times.len(), total.as_secs_f64());
    for (time, name) in &times[..MANY / 2] {
        println!("{:7.1} s  {name}", time.as_secs_f64());
    }
}

/// The tools and the built guest, made by the first trial that needs them.
pub(crate) fn session() -> Result<&'static Session, Failed> {
    static SESSION: OnceLock<Result<Session, Error>> = OnceLock::new();
    let session = SESSION.get_or_init(|| Session::prepare(Installer::new(false)));
    session.as_ref().map_err(|error| error.to_string().into())
}

/// A shipped machine.
pub(crate) fn machine(name: &str) -> Result<Machine, Failed> {
    Ok(Machine::load(&session::machines()?, name, Overrides::default())?)
}

/// The default machine with other numbers of nodes and CPUs.
pub(crate) fn nodes(nodes: usize, cpus: usize, mem: u64) -> Result<Machine, Failed> {
    let overrides = Overrides { nodes: Some(nodes), cpus: Some(cpus), mem: Some(mem) };
    Ok(Machine::load(&session::machines()?, skerry::machine::DEFAULT, overrides)?)
}

/// An array-walk with arrays that are small enough for many boots.
pub(crate) fn walk(machine: Machine, system: System, overlap: f64) -> Result<Experiment, Failed> {
    let walk = ArrayWalk { overlap, size: 4 * MIB, ..ArrayWalk::default() };
    Ok(Experiment::array_walk(machine, system, walk, SILENCE)?)
}

/// One of the selftest's programs on the default machine, in the NUMA system.
pub(crate) fn selftest(machine: Machine, program: &str) -> Result<Experiment, Failed> {
    let app = App::find("selftest")?;
    let mut experiment = Experiment::new(machine, SystemName::Numa.system(), app, None, SILENCE)?;
    experiment.app_args = vec![program.to_owned()];
    Ok(experiment)
}

/// Runs it and insists on how it ends; else the failure shows the guest's last lines.
pub(crate) fn expect(experiment: &Experiment, ending: Ending) -> Result<Finished, Failed> {
    let run = experiment.run(session()?, &Quiet)?;
    if run.ending == ending {
        return Ok(run);
    }
    Err(format!(
        "{}\nended with {} ({}) instead of {ending}; the last lines were:\n{}",
        experiment.describe(),
        run.ending,
        run.reason,
        run.tail.join("\n")
    )
    .into())
}

/// Fails with `message` unless `holds`.
pub(crate) fn ensure(holds: bool, message: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(message().into()) }
}

/// The value of a measurement that has to be there.
pub(crate) fn value(run: &Finished, case: &str, metric: &str) -> Result<f64, Failed> {
    run.sum(case, metric).ok_or_else(|| format!("the guest sent no `{metric}` of `{case}`").into())
}

/// Writes an archive without the module `missing` where the trial's machine can load it from.
pub(crate) fn archive_without(missing: &str, folder: &Path) -> Result<std::path::PathBuf, Failed> {
    let path = folder.join("modules.tar");
    std::fs::write(&path, session()?.archive(|name| name != missing)?)?;
    Ok(path)
}
