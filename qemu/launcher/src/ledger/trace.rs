//! Single-stepping a path.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use skerry_bench::{Case, SAMPLES, WARM_UP};

use crate::bench::{Bench, Suite};
use crate::error::{Error, Result};
use crate::gdb::{Gdb, WFI};
use crate::interrupt;
use crate::qemu::Pace;
use crate::session::Session;
use crate::symbols::Symbols;

/// QEMU answers within this time, or it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// A path of more instructions than this has lost its way.
const LONGEST: usize = 200_000;

/// The instructions of one path in the order of their execution: CPU and address.
pub type Trace = Vec<(u32, u64)>;

/// Kills QEMU when it is not needed any more.
struct Guard(Child);
impl Drop for Guard {
    fn drop(&mut self) {
        // Errors mean that it is gone already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Single-steps one path, after the warm-up and `skip` further times.
///
/// # Errors
/// [`Error::Host`] if QEMU does not do what it is told, [`Error::Build`] if the program lacks the marks.
pub fn trace(session: &Session, suite: &Suite, case: &Case, program: &Symbols, skip: usize) -> Result<Trace> {
    let mark = |label: &str| {
        program.address(label).ok_or_else(|| Error::Build(format!("the program has no label {label}")))
    };
    let [first, last] = case.marks.ok_or_else(|| Error::Usage(format!("{} has no ledger", case.name)))?;
    let (first, last) = (mark(first)?, mark(last)?);

    let folder = tempfile::tempdir().map_err(Error::host("making a folder for a socket"))?;
    let socket = folder.path().join("gdb");
    let bench = Bench::new(suite.name, &[case.name.to_owned()], PATIENCE)?;
    let mut command = bench.command(session, Pace::Stepped);
    command
        .arg("-S")
        .arg("-chardev")
        .arg(format!("socket,id=gdb,path={},server=on,wait=off", socket.display()));
    command.args(["-gdb", "chardev:gdb"]).stdout(Stdio::null()).stderr(Stdio::null());
    let _qemu = Guard(command.spawn().map_err(Error::host("starting QEMU"))?);
    let mut gdb = Gdb::connect(&socket, PATIENCE)?;

    for hit in 0..WARM_UP + SAMPLES {
        let stop = gdb.run_to(first)?;
        // Without the count of instructions a CPU may still be on its way to sleep from the time before.
        if hit >= WARM_UP + skip && gdb.others_sleep(stop.cpu, bench.cpus())? {
            return Stepper::new(&mut gdb, bench.cpus(), stop.cpu)?.until(last);
        }
        gdb.step_alone(stop.cpu)?;
    }
    Err(Error::Check(format!("{}: the other CPUs never sleep", case.name)))
}

/// Executes like the emulator does when it counts: a CPU runs until it goes to sleep, then another one does. (If all went on at the
/// same time, the doorbell of one would interrupt another that is about to look for messages anyway.)
struct Stepper<'a> {
    gdb: &'a mut Gdb<UnixStream>,
    first: u32,
    /// Where each CPU is.
    next: Vec<u64>,
    /// What lies at addresses that were executed.
    instructions: HashMap<u64, u32>,
    trace: Trace,
}

impl<'a> Stepper<'a> {
    fn new(gdb: &'a mut Gdb<UnixStream>, cpus: u32, first: u32) -> Result<Self> {
        let next = (0..cpus).map(|cpu| gdb.pc(cpu)).collect::<Result<_>>()?;
        Ok(Self { gdb, first, next, instructions: HashMap::new(), trace: Trace::new() })
    }

    /// Goes on until a CPU is at `last`, and gives what was executed.
    fn until(mut self, last: u64) -> Result<Trace> {
        let mut cpu = self.first;
        while !self.next.contains(&last) {
            if self.instruction(cpu)? == WFI {
                // Who is awake moves, and goes on.
                self.gdb.step()?;
                let moved = self.look()?;
                cpu = moved.into_iter().find(|&other| other != cpu).unwrap_or(cpu);
            } else {
                self.gdb.step_alone(cpu)?;
                self.look()?;
            }
            if self.trace.len() > LONGEST {
                return Err(Error::Check(format!("no end after {LONGEST} instructions")));
            }
            if interrupt::requested() {
                return Err(Error::interrupted());
            }
        }
        // The first look at the counter was executed, too; it is no part of the path.
        self.trace.remove(0);
        Ok(self.trace)
    }

    /// What a CPU executes next.
    fn instruction(&mut self, cpu: u32) -> Result<u32> {
        let address = self.next[cpu as usize];
        if let Some(&known) = self.instructions.get(&address) {
            return Ok(known);
        }
        let word = self.gdb.instruction(cpu, address)?;
        self.instructions.insert(address, word);
        Ok(word)
    }

    /// Books what was executed; gives the CPUs that moved.
    fn look(&mut self) -> Result<Vec<u32>> {
        let mut moved = Vec::new();
        for (cpu, next) in (0..).zip(&mut self.next) {
            let executed = std::mem::replace(next, self.gdb.pc(cpu)?);
            if executed != *next {
                self.trace.push((cpu, executed));
                moved.push(cpu);
            }
        }
        Ok(moved)
    }
}
