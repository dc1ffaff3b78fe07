//! Single-stepping a path.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use skerry_bench::{Case, SAMPLES, WARM_UP};

use crate::bench::{Bench, Suite};
use crate::error::{Error, Result};
use crate::gdb::{Gdb, WFI, YIELD};
use crate::interrupt;
use crate::qemu::Pace;
use crate::session::Session;
use crate::symbols::Symbols;

/// QEMU answers within this time, or it is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// A path of more instructions than this has lost its way.
const LONGEST: usize = 200_000;
/// Size of a table of exception vectors, and of each of its entries.
const VECTORS: u64 = 0x800;
const VECTOR: u64 = 0x80;

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

/// Single-steps one path, after the warm-up and `skip` further times. The kernel's exceptions come to `vectors`.
///
/// # Errors
/// [`Error::Host`] if QEMU does not do what it is told, [`Error::Build`] if the program lacks the marks.
pub fn trace(
    session: &Session,
    suite: &Suite,
    case: &Case,
    (program, vectors): (&Symbols, u64),
    skip: usize,
) -> Result<Trace> {
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
            return Stepper::new(&mut gdb, bench.cpus(), stop.cpu, vectors)?.until(last);
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
    /// The kernel's table of exception vectors.
    vectors: u64,
    /// Where each CPU is.
    next: Vec<u64>,
    /// What lies at addresses that were executed.
    instructions: HashMap<u64, u32>,
    trace: Trace,
}

impl<'a> Stepper<'a> {
    fn new(gdb: &'a mut Gdb<UnixStream>, cpus: u32, first: u32, vectors: u64) -> Result<Self> {
        let next = (0..cpus).map(|cpu| gdb.pc(cpu)).collect::<Result<_>>()?;
        Ok(Self { gdb, first, vectors, next, instructions: HashMap::new(), trace: Trace::new() })
    }

    /// Goes on until a CPU is at `last`, and gives what was executed.
    fn until(mut self, last: u64) -> Result<Trace> {
        let mut cpu = self.first;
        while !self.next.contains(&last) {
            if self.instruction(cpu)? == WFI {
                // Who is awake moves, and goes on.
                for other in 0..self.next.len() as u32 {
                    self.instruction(other)?;
                }
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
                let word = self.instructions.get(&executed).copied().unwrap_or(0);
                let all = executed_by_a_step(executed, word, *next, self.vectors);
                self.trace.extend(all.map(|address| (cpu, address)));
                moved.push(cpu);
            }
        }
        Ok(moved)
    }
}

/// The instructions that count in a step from one address, where `word` is, to `next`.
///
/// - An instruction that gives way to an interrupt, or whose access faults, is executed later, if at all: only then does it count.
/// - After a YIELD QEMU stops one instruction late.
fn executed_by_a_step(address: u64, word: u32, next: u64, vectors: u64) -> impl Iterator<Item = u64> {
    let is_vector = (vectors..vectors + VECTORS).contains(&next) && next.is_multiple_of(VECTOR);
    // Each mode has four vectors: synchronous, interrupt, fast interrupt, system error.
    let interrupted = is_vector && !(next / VECTOR).is_multiple_of(4);
    let faulted = is_vector && accesses_memory(word);
    let first = (!interrupted && !faulted).then_some(address);
    first.into_iter().chain((word == YIELD).then_some(address + 4))
}

/// Loads, stores and maintenance of caches by address, of general registers: those of others trap before they access anything, if they
/// are not allowed, and count.
fn accesses_memory(word: u32) -> bool {
    let load_or_store = word >> 25 & 0b101 == 0b100 && word >> 26 & 1 == 0;
    // SYS with CRn = 7, to which all of them belong.
    let maintenance = word & 0xfff8_f000 == 0xd508_7000;
    load_or_store || maintenance
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: u64 = 0xffff_0000_0000_b000;
    const STR: u32 = 0xf900_0020;
    const SVC: u32 = 0xd400_0001;
    const FMOV: u32 = 0x1e60_4020;
    const DC_CVAC: u32 = 0xd50b_7a20;
    const NONE: [u64; 0] = [];

    fn counted(word: u32, next: u64) -> Vec<u64> {
        executed_by_a_step(0x1000, word, next, TABLE).collect()
    }

    #[test]
    fn what_faults_or_is_interrupted_counts_when_it_is_executed() {
        assert_eq!(counted(STR, 0x1004), [0x1000]);
        assert_eq!(counted(STR, TABLE + 0x400), NONE);
        assert_eq!(counted(DC_CVAC, TABLE + 0x400), NONE);
        assert_eq!(counted(SVC, TABLE + 0x480), NONE, "an interrupt came first");
    }

    #[test]
    fn what_traps_counts() {
        assert_eq!(counted(SVC, TABLE + 0x400), [0x1000]);
        assert_eq!(counted(FMOV, TABLE + 0x400), [0x1000]);
    }

    #[test]
    fn the_vectors_own_code_counts() {
        assert_eq!(counted(STR, TABLE + 0x404), [0x1000]);
        assert_eq!(counted(STR, TABLE + 0x800), [0x1000]);
    }

    #[test]
    fn a_yield_takes_the_next_one_along() {
        assert_eq!(counted(YIELD, 0x1008), [0x1000, 0x1004]);
    }
}
