//! QEMU: where it is, and the command line that makes a [`Machine`] of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::install::Installer;
use crate::machine::Machine;
use crate::process;

/// The emulator's program.
pub const PROGRAM: &str = "qemu-system-aarch64";
/// The Debian package that has it.
const PACKAGE: &str = "qemu-system-arm";

/// An emulator that is there.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// Words before the arguments of a boot; empty for the real one.
    pub prefix: Vec<String>,
    /// Its version, such as `7.2.22`.
    pub version: String,
}

/// How instructions are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// One instruction per nanosecond of virtual time, one vCPU at a time: same input, same counts.
    Deterministic,
    /// A host thread per vCPU: faster, not reproducible.
    Fast,
}

impl Pace {
    /// The guest's timer period in microseconds. Deterministic runs switch vCPUs only where one waits or a timer
    /// fires, so the tick is what interleaves them.
    pub fn tick_us(self) -> u64 {
        match self {
            Self::Deterministic => 100,
            Self::Fast => 10_000,
        }
    }

    /// The guest option `tick=`.
    pub fn tick_option(self) -> String {
        let us = self.tick_us();
        if us.is_multiple_of(1000) { format!("{}ms", us / 1000) } else { format!("{us}us") }
    }
}

/// One boot.
#[derive(Clone, Debug)]
pub struct Boot<'a> {
    /// The machine.
    pub machine: &'a Machine,
    /// How fast.
    pub pace: Pace,
    /// The flat boot image.
    pub kernel: &'a Path,
    /// The archive of modules.
    pub initrd: &'a Path,
    /// The guest's command line.
    pub append: &'a str,
}

/// What most boots do without.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// The measuring instrument: its library, what it is told, and where it puts its report.
    pub plugin: Option<[&'a Path; 3]>,
    /// Creates the memory of the nodes in reverse order: nothing may depend on it. For tests.
    pub reverse_memory: bool,
}

impl Qemu {
    /// Finds the emulator, or installs it.
    ///
    /// # Errors
    /// [`Error::Missing`] with what to type.
    pub fn find(installer: Installer) -> Result<Self> {
        if which::which(PROGRAM).is_err() {
            installer.packages(PROGRAM, &[PACKAGE])?;
        }
        let missing =
            || Error::Missing(format!("{PROGRAM} does not start; type `sudo apt-get install {PACKAGE}`"));
        let program = which::which(PROGRAM).map_err(|_| missing())?;
        let text = process::output(process::command(&program).arg("--version")).ok_or_else(missing)?;
        Ok(Self { program, prefix: Vec::new(), version: version(&text).to_owned() })
    }

    /// The command for one boot.
    pub fn command(&self, boot: &Boot<'_>) -> Command {
        self.command_with(boot, Extras::default())
    }

    /// The command for one boot with extras.
    pub fn command_with(&self, boot: &Boot<'_>, extras: Extras<'_>) -> Command {
        let mut command = process::command(&self.program);
        command.args(&self.prefix).args(boot.arguments_with(extras));
        command
    }
}

/// `7.2.22` of `QEMU emulator version 7.2.22 (Debian …)`.
fn version(text: &str) -> &str {
    text.split_whitespace().skip_while(|word| *word != "version").nth(1).unwrap_or("unknown")
}

impl Boot<'_> {
    /// All arguments.
    pub fn arguments(&self) -> Vec<OsString> {
        self.arguments_with(Extras::default())
    }

    /// All arguments, with extras.
    pub fn arguments_with(&self, extras: Extras<'_>) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |line: &str| words.extend(line.split(' ').map(OsString::from));
        add("-M virt,gic-version=3,dtb-randomness=off -cpu cortex-a76");
        // Without a list of what is not there, QEMU wants a network card's ROM from a package that is only recommended.
        add("-nic none -display none -serial stdio -monitor none");
        add("-semihosting-config enable=on,target=native");
        match self.pace {
            Pace::Deterministic => add("-accel tcg,thread=single -icount shift=0,sleep=off"),
            Pace::Fast => add("-accel tcg,thread=multi"),
        }
        let cpus = self.machine.cpus();
        // A socket per CPU, so that no socket spans nodes whatever their CPU counts are.
        add(&format!("-smp {cpus},sockets={cpus},cores=1,threads=1 -m {}M", self.machine.mem() >> 20));
        let (mut memory, others): (Vec<_>, Vec<_>) =
            numa(self.machine).into_iter().partition(|argument| argument.starts_with("-object"));
        if extras.reverse_memory {
            memory.reverse();
        }
        for argument in memory.iter().chain(&others) {
            add(argument);
        }
        words.extend(["-kernel".into(), self.kernel.into(), "-initrd".into(), self.initrd.into()]);
        words.extend(["-append".into(), self.append.into()]);
        if let Some([library, config, out]) = extras.plugin {
            let [library, config, out] = [library, config, out].map(Path::display);
            words.extend(["-plugin".into(), format!("file={library},config={config},out={out}").into()]);
        }
        words
    }
}

/// The nodes, their memory and CPUs, and the distance matrix.
fn numa(machine: &Machine) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut first_cpu = 0;
    for (id, node) in machine.nodes.iter().enumerate() {
        let mut numa = format!("-numa node,nodeid={id}");
        if node.mem > 0 {
            arguments.push(format!("-object memory-backend-ram,id=m{id},size={}M", node.mem >> 20));
            numa += &format!(",memdev=m{id}");
        }
        if node.cpus > 0 {
            numa += &format!(",cpus={first_cpu}-{}", first_cpu + node.cpus - 1);
            first_cpu += node.cpus;
        }
        arguments.push(numa);
    }
    for (from, row) in machine.distances.iter().enumerate() {
        for (to, distance) in row.iter().enumerate().filter(|(to, _)| *to != from) {
            arguments.push(format!("-numa dist,src={from},dst={to},val={distance}"));
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Overrides;

    fn load(name: &str) -> Machine {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../machines");
        Machine::load(&folder, name, Overrides::default()).unwrap()
    }

    #[test]
    fn nodes_get_consecutive_cpus_and_their_memory() {
        assert_eq!(
            numa(&load("memless"))[..5],
            [
                "-object memory-backend-ram,id=m0,size=256M",
                "-numa node,nodeid=0,memdev=m0,cpus=0-0",
                "-numa node,nodeid=1,cpus=1-1",
                "-object memory-backend-ram,id=m2,size=256M",
                "-numa node,nodeid=2,memdev=m2,cpus=2-2",
            ]
        );
        assert!(numa(&load("opteron")).contains(&"-numa dist,src=0,dst=1,val=14".into()));
    }

    #[test]
    fn the_guest_line_is_one_argument() {
        let machine = load("two-node");
        let boot = Boot {
            machine: &machine,
            pace: Pace::Deterministic,
            kernel: Path::new("/a b/boot.bin"),
            initrd: Path::new("i"),
            append: "x=1 -- --y",
        };
        let words = boot.arguments();
        assert_eq!(words.last().unwrap(), "x=1 -- --y");
        assert!(words.contains(&"/a b/boot.bin".into()) && words.contains(&"512M".into()));
        assert_eq!(Pace::Deterministic.tick_option(), "100us");
        assert_eq!(Pace::Fast.tick_option(), "10ms");
    }

    #[test]
    fn extras_change_the_order_of_memory_and_add_the_plugin() {
        let machine = load("uneven");
        let boot = Boot {
            machine: &machine,
            pace: Pace::Deterministic,
            kernel: Path::new("k"),
            initrd: Path::new("i"),
            append: "",
        };
        let paths = ["l", "c", "o"].map(Path::new);
        let words = boot.arguments_with(Extras { plugin: Some(paths), reverse_memory: true });
        let objects: Vec<_> =
            words.iter().filter(|word| word.to_string_lossy().starts_with("memory-")).collect();
        assert!(
            objects[0].to_string_lossy().contains("id=m2") && objects[2].to_string_lossy().contains("id=m0")
        );
        assert_eq!(words.last().unwrap(), "file=l,config=c,out=o");
        assert_eq!(words.len(), boot.arguments().len() + 2);
    }

    #[test]
    fn the_version_is_found_in_qemu_s_words() {
        assert_eq!(version("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright"), "7.2.22");
        assert_eq!(version("something else"), "unknown");
    }
}
