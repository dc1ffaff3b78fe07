//! One experiment: a machine, a system, an application with its parameters. It can be checked without running
//! anything, and run any number of times.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};
use skerry_cost_model::Config;

use crate::app::{App, ArrayWalk};
use crate::coherence;
use crate::console::Measurement;
use crate::ending::Ending;
use crate::error::{Error, Result};
use crate::fit;
use crate::machine::Machine;
use crate::plugin::{self, Files, Modelling};
use crate::qemu::{Boot, Extras, Pace};
use crate::recording::{Recorded, Recording};
use crate::session::Session;
use crate::size;
use crate::supervisor::{Finished, Observer, supervise};
use crate::system::System;
use crate::tuning::Tuning;

/// Room for the guest's command line in its `BootInfo`, with the final zero.
const COMMAND_LINE_SIZE: usize = 1024;

/// What to run.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// The machine.
    pub machine: Machine,
    /// Kernels, spaces and placement.
    pub system: System,
    /// The application.
    pub app: &'static App,
    /// The parameters of array-walk, if it is that.
    pub walk: Option<ArrayWalk>,
    /// Further words for the application.
    pub app_args: Vec<String>,
    /// How fast.
    pub pace: Pace,
    /// How long without output is too long.
    pub silence: Duration,
    /// What differs from the kernels' defaults.
    pub tuning: Tuning,
    /// Boot options, `KEY=VALUE`, that come before all others, so that they win.
    pub options: Vec<String>,
    /// Another archive than the session's: for tests of bad archives.
    pub modules: Option<PathBuf>,
    /// Measured with the cost model, if it is.
    pub modelling: Option<Modelling>,
    /// What is recorded besides; needs the cost model.
    pub recording: Recording,
    /// Creates the memory of the nodes in reverse order: for tests.
    pub reverse_memory: bool,
}

impl Experiment {
    /// An array-walk in deterministic mode.
    ///
    /// # Errors
    /// As for [`Experiment::new`].
    pub fn array_walk(machine: Machine, system: System, walk: ArrayWalk, silence: Duration) -> Result<Self> {
        let app = App::find(crate::app::ARRAY_WALK)?;
        Self::new(machine, system, app, Some(walk), silence)
    }

    /// An application in deterministic mode.
    ///
    /// # Errors
    /// [`Error::Usage`] if it cannot work on this machine and system.
    pub fn new(
        machine: Machine,
        system: System,
        app: &'static App,
        walk: Option<ArrayWalk>,
        silence: Duration,
    ) -> Result<Self> {
        let system = system.check()?;
        let walk = walk.map(ArrayWalk::check).transpose()?;
        match &walk {
            Some(walk) => fit::array_walk(&machine, system, walk)?,
            None => drop(fit::pools(&machine, system)?),
        }
        Ok(Self {
            machine,
            system,
            app,
            walk,
            app_args: Vec::new(),
            pace: Pace::Deterministic,
            silence,
            tuning: Tuning::default(),
            options: Vec::new(),
            modules: None,
            modelling: None,
            recording: Recording::default(),
            reverse_memory: false,
        })
    }

    /// The guest's command line.
    ///
    /// # Errors
    /// [`Error::Usage`] if an argument has a blank in it or the line is too long.
    pub fn command_line(&self) -> Result<String> {
        for option in &self.options {
            let blank = option.contains(|c: char| c.is_whitespace() || !c.is_ascii());
            if blank || !option.contains('=') || option.starts_with(['-', '=']) {
                return Err(Error::Usage(format!(
                    "`{option}`: a boot option is KEY=VALUE, ASCII without blanks"
                )));
            }
        }
        let mut words = self.options.clone();
        words.extend(self.system.options().map(|(key, value)| format!("{key}={value}")));
        words.extend(self.tuning.words());
        words.push(format!("tick={}", self.pace.tick_option()));
        words.push(format!("app={}", self.app.name));
        words.push("--".into());
        words.extend(self.walk.iter().flat_map(ArrayWalk::arguments));
        for word in &self.app_args {
            if word.is_empty() || word.contains(|c: char| c.is_whitespace() || !c.is_ascii()) {
                return Err(Error::Usage(format!(
                    "`{word}`: arguments for the app are ASCII words without blanks"
                )));
            }
            words.push(word.clone());
        }
        let line = words.join(" ");
        if line.len() >= COMMAND_LINE_SIZE {
            return Err(Error::Usage(format!(
                "the app's arguments are too long ({} bytes in all)",
                line.len()
            )));
        }
        Ok(line)
    }

    /// Boots the machine and watches it to its end.
    ///
    /// # Errors
    /// [`Error::Host`] if QEMU cannot be started. How the run *ended* is in the result.
    pub fn run(&self, session: &Session, observer: &dyn Observer) -> Result<Finished> {
        let append = self.command_line()?;
        let instrument = self.modelling.map(|modelling| Config {
            trace: self.recording.trace,
            pages: self.recording.pages,
            ..plugin::config(&self.machine, modelling)
        });
        let instrument = instrument.map(|config| Files::new(session, &config)).transpose()?;
        let boot = Boot {
            machine: &self.machine,
            pace: self.pace,
            kernel: &session.boot_image,
            initrd: self.modules.as_deref().unwrap_or(&session.modules),
            append: &append,
        };
        let plugin = instrument.as_ref().map(Files::paths);
        let extras = Extras { plugin, reverse_memory: self.reverse_memory };
        let command = session.qemu.command_with(&boot, extras);
        observer.text(&shell_line(&command));
        let mut finished = supervise(command, self.silence, observer)?;
        if self.pace == Pace::Fast {
            finished.measurements.iter_mut().for_each(not_instructions);
        }
        if let Some(files) = instrument
            && finished.ending == Ending::Pass
        {
            let report = files.report()?;
            finished.recorded = Recorded::read(self.recording, &files, &report)?;
            let measurements = plugin::measurements(self.app.name, &report)?;
            if self.modelling.is_some_and(|modelling| modelling.sanitize) {
                let root = self.options.iter().find_map(|option| option.strip_prefix("root="));
                let programs = root.map_or_else(
                    || vec!["root-pager", "syscall-server", "app-pager", self.app.name],
                    |root| vec![root],
                );
                let found = coherence::Report::read(session, &programs, &report)?;
                finished.measurements.extend(found.measurements(self.app.name));
                finished.coherence = Some(found);
            } else {
                finished.measurements.extend(measurements);
            }
        }
        Ok(finished)
    }

    /// The parameters, as fields of a record.
    pub fn parameters(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut put = |key: &str, value: Value| drop(fields.insert(key.into(), value));
        put("nodes", json!(self.machine.nodes.len()));
        put("cpus", json!(self.machine.cpus()));
        put("mem", json!(self.machine.mem()));
        put("system", json!(self.system.name()));
        put("kernel", json!(self.system.kernel.to_string()));
        put("space", json!(self.system.space.to_string()));
        put("placement", json!(self.system.placement.to_string()));
        if let Some(modelling) = self.modelling {
            put("model", json!(modelling.core));
            put("quantum", json!(modelling.quantum));
            if modelling.sanitize {
                put("sanitize", json!(true));
            }
        }
        if self.tuning != Tuning::default() {
            put("tuning", json!(self.tuning.words().join(" ")));
        }
        if let Some(walk) = &self.walk {
            put("overlap", json!(walk.overlap));
            put("iterations", json!(walk.iterations));
            put("size", json!(walk.size));
            put("write", json!(walk.write));
            let flags = [("local", walk.local), ("touched", walk.touched), ("per_cpu", walk.per_cpu)];
            flags.into_iter().filter(|(_, is_set)| *is_set).for_each(|(name, _)| put(name, json!(true)));
        }
        if !self.app_args.is_empty() {
            put("app_args", json!(self.app_args.join(" ")));
        }
        put("machine", json!(self.machine.name));
        put("machine_hash", json!(self.machine.hash));
        put("tick_us", json!(self.pace.tick_us()));
        put("icount", json!(self.pace == Pace::Deterministic));
        fields
    }

    /// One line that says what is run.
    pub fn describe(&self) -> String {
        let Self { machine, system, app, .. } = self;
        let mut line = format!(
            "{} on {} ({} nodes, {} CPUs, {}), system {}",
            app.name,
            machine.name,
            machine.nodes.len(),
            machine.cpus(),
            size::format(machine.mem()),
            system.name()
        );
        for word in self.tuning.words() {
            line += &format!(", {word}");
        }
        if let Some(walk) = &self.walk {
            let size = size::format(walk.size);
            let write = if walk.write { ", writing" } else { "" };
            let flags = [(walk.local, "local"), (walk.touched, "touched"), (walk.per_cpu, "on every CPU")];
            let flags: String =
                flags.iter().filter(|(is_set, _)| *is_set).map(|(_, word)| format!(", {word}")).collect();
            line += &format!(
                ", overlap {}, {} iteration{}, {size} per array{write}{flags}",
                walk.overlap,
                walk.iterations,
                if walk.iterations == 1 { "" } else { "s" }
            );
        }
        line
    }

    /// How the emulator runs it: what a reader of counts has to know.
    pub fn conditions(&self) -> String {
        if let Some(Modelling { core, quantum, sanitize }) = self.modelling {
            if sanitize {
                return format!(
                    "checked for software coherence; turns pass where a CPU is {quantum} instructions ahead"
                );
            }
            return format!(
                "modelled: {core:?} cores, turns pass where a CPU is {quantum} modelled cycles ahead and where CPUs meet; cycles say which of two \
                 cases is faster, not how long either takes"
            );
        }
        match self.pace {
            Pace::Deterministic => format!(
                "deterministic: one CPU at a time, turns pass at page faults and every {} us of the tick",
                self.pace.tick_us()
            ),
            Pace::Fast => "fast: CPUs in parallel, instruction counts are not exact".into(),
        }
    }
}

/// A command as one could type it.
fn shell_line(command: &std::process::Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_=,./:+".contains(c));
        if plain && !word.is_empty() {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// In multi-threaded emulation the cycle counter tells the host's nanoseconds, so what the guest takes for instructions is not.
fn not_instructions(measurement: &mut Measurement) {
    if measurement.unit == "instructions" {
        measurement.case = measurement.case.replace("instructions", "elapsed");
        (measurement.metric, measurement.unit, measurement.kind) =
            ("elapsed".into(), "ns".into(), "wall".into());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    use crate::machine::{DEFAULT, Overrides};
    use crate::system::SystemName;

    fn experiment() -> Experiment {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../machines");
        let machine = Machine::load(&folder, DEFAULT, Overrides::default()).unwrap();
        let walk = ArrayWalk { overlap: 0.5, ..ArrayWalk::default() };
        Experiment::array_walk(machine, SystemName::Numa.system(), walk, Duration::from_secs(1)).unwrap()
    }

    #[test]
    fn the_guest_gets_options_app_and_arguments() {
        assert_eq!(
            experiment().command_line().unwrap(),
            "clusters=per-node space=per-node placement=first-touch tick=100us app=array-walk -- \
             --overlap=0.5 --iterations=2 --size=52428800"
        );
    }

    #[test]
    fn boot_options_are_passed_on_or_refused() {
        let mut experiment = experiment();
        experiment.options = vec!["measure=on".into(), "tick=1ms".into()];
        assert!(experiment.command_line().unwrap().starts_with("measure=on tick=1ms clusters="));
        for wrong in ["measure", "a=b c=d", "=on", "--app=x", "ä=1", ""] {
            experiment.options = vec![wrong.into()];
            assert!(experiment.command_line().is_err(), "{wrong}");
        }
    }

    #[test]
    fn arguments_that_the_guest_would_split_are_refused() {
        let mut experiment = experiment();
        experiment.app_args = vec!["a b".into()];
        assert!(experiment.command_line().is_err());
        experiment.app_args = vec!["x".repeat(1000)];
        assert!(experiment.command_line().is_err());
    }

    #[test]
    fn printed_commands_can_be_typed() {
        let mut command = std::process::Command::new("qemu");
        command.args(["-append", "a -- it's"]);
        assert_eq!(shell_line(&command), r"qemu -append 'a -- it'\''s'");
    }
}
