//! How long the CPUs of a kernel keep interrupts off, counted by the measuring instrument: each CPU by itself, however many run.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use skerry_cost_model::{Config, CoreModel};

use crate::ending::Ending;
use crate::error::{Error, Result};
use crate::guest::KERNEL;
use crate::machine::Machine;
use crate::plugin::{self, Files, Modelling, QUANTUM};
use crate::qemu::{Boot, Extras, Pace};
use crate::session::Session;
use crate::supervisor::{Finished, Observer, supervise};
use crate::symbols::Symbols;

/// A boot with nothing but the kernel and a root program.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// The guest's command line.
    pub line: &'a str,
    /// The run is given up after so long without output.
    pub silence: Duration,
}

/// The longest stretch of one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Longest {
    /// The CPU.
    pub cpu: u16,
    /// How many stretches it had.
    pub stretches: u64,
    /// Instructions of the longest one.
    pub instructions: u64,
    /// Where it was, about every hundred instructions: functions, the innermost first.
    pub way: Vec<String>,
}

impl std::fmt::Display for Longest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu, stretches, instructions, way } = self;
        write!(f, "CPU {cpu}: {instructions} instructions, the longest of {stretches} stretches; way:")?;
        way.iter().try_for_each(|place| write!(f, "\n  {place}"))
    }
}

#[derive(Deserialize)]
struct RawStretch {
    instructions: u64,
    way: Vec<u64>,
}

#[derive(Deserialize)]
struct Raw {
    cpu: u16,
    stretches: u64,
    longest: RawStretch,
}

impl Run<'_> {
    /// Boots it and measures. Without an end as it should be nothing was measured.
    ///
    /// # Errors
    /// [`Error::Host`], and [`Error::Check`] if the report makes no sense.
    pub fn measure(&self, session: &Session, observer: &dyn Observer) -> Result<(Finished, Vec<Longest>)> {
        let modelling = Modelling { core: CoreModel::Blocking, quantum: QUANTUM, sanitize: false };
        let config = Config { masked: true, ..plugin::config(self.machine, modelling) };
        let files = Files::new(session, &config)?;
        let boot = Boot {
            machine: self.machine,
            pace: Pace::Deterministic,
            kernel: &session.boot_image,
            initrd: &session.modules,
            append: self.line,
        };
        let extras = Extras { plugin: Some(files.paths()), ..Extras::default() };
        let finished = supervise(session.qemu.command_with(&boot, extras), self.silence, observer)?;
        if finished.ending != Ending::Pass {
            return Ok((finished, Vec::new()));
        }
        let kernel = Symbols::load(&session.elf(KERNEL))?;
        Ok((finished, read(&files.report()?, &kernel)?))
    }
}

fn read(report: &Value, kernel: &Symbols) -> Result<Vec<Longest>> {
    let malformed =
        |error| Error::Check(format!("the measuring instrument wrote no report that makes sense: {error}"));
    let all = Vec::<Raw>::deserialize(&report["masked"]).map_err(malformed)?;
    let place = |pc: u64| {
        let frames = kernel.frames(pc);
        let functions: Vec<&str> = frames.iter().map(|frame| frame.function.as_str()).collect();
        if functions.is_empty() {
            kernel.label(pc, |_| false).unwrap_or("?").into()
        } else {
            functions.join(" < ")
        }
    };
    let named = all.into_iter().map(|Raw { cpu, stretches, longest }| Longest {
        cpu,
        stretches,
        instructions: longest.instructions,
        way: longest.way.into_iter().map(place).collect(),
    });
    Ok(named.collect())
}
