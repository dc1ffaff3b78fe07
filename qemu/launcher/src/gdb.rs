//! A client for QEMU's gdb stub: break, continue, and execute one instruction at a time.
//!
//! As much of gdb's remote serial protocol as single-stepping takes ("Debugging with gdb", appendix E): packets
//! `$text#checksum`, acknowledged with `+`. Interrupts stay on and clocks stand while stepping (`qemu.sstep`), and all CPUs that do
//! not sleep take part, since paths between clusters need both.

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The number of the program counter among the registers of 64-bit ARM.
const PC: u32 = 32;
/// `qemu.sstep`: step (1), do not mask interrupts (2), stop the clocks (4).
const STEP_WITH_INTERRUPTS: &str = "Qqemu.sstep=5";

/// The instruction that waits for an interrupt.
pub const WFI: u32 = 0xd503_207f;
/// The hint that passes the turn on to another CPU.
pub const YIELD: u32 = 0xd503_203f;

/// Where a CPU has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// The CPU, counted from 0.
    pub cpu: u32,
    /// Address of the instruction that it executes next.
    pub pc: u64,
}

/// A connection to a stopped QEMU.
#[derive(Debug)]
pub struct Gdb<S> {
    stream: BufReader<S>,
}

impl Gdb<UnixStream> {
    /// Connects to the socket of a QEMU that is starting.
    ///
    /// # Errors
    /// [`Error::Host`] if nobody listens there for `patience`, or it is no gdb stub.
    pub fn connect(socket: &Path, patience: Duration) -> Result<Self> {
        let start = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if start.elapsed() > patience => {
                    return Err(Error::host("connecting to QEMU's gdb stub")(error));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        stream.set_read_timeout(Some(patience)).map_err(Error::host("talking to QEMU's gdb stub"))?;
        Self::new(stream)
    }
}

impl<S: Read + Write> Gdb<S> {
    /// Begins to talk.
    ///
    /// # Errors
    /// [`Error::Host`].
    pub fn new(stream: S) -> Result<Self> {
        let mut gdb = Self { stream: BufReader::new(stream) };
        gdb.ask("qSupported:multiprocess+;swbreak+;vContSupported+")?;
        // QEMU gives single registers only to those who have asked for their description.
        gdb.ask("qXfer:features:read:target.xml:0,ffb")?;
        gdb.ask(STEP_WITH_INTERRUPTS)?;
        Ok(gdb)
    }

    /// Runs until the instruction at the address is the next of some CPU. Not after [`Gdb::step`]: QEMU would go on
    /// stepping a CPU that slept then.
    ///
    /// # Errors
    /// [`Error::Host`], also if the guest ends before.
    pub fn run_to(&mut self, address: u64) -> Result<Stop> {
        self.expect_ok(&format!("Z0,{address:x},4"))?;
        let stop = self.resume("vCont;c")?;
        self.expect_ok(&format!("z0,{address:x},4"))?;
        if stop.pc == address {
            Ok(stop)
        } else {
            Err(unexpected("running to a mark", &format!("{stop:x?}")))
        }
    }

    /// Executes one instruction on each CPU that does not sleep.
    ///
    /// # Errors
    /// [`Error::Host`], also if the guest ends.
    pub fn step(&mut self) -> Result<()> {
        self.resume("vCont;s").map(drop)
    }

    /// Executes one instruction of a CPU that does not sleep, while the others stand still.
    ///
    /// # Errors
    /// [`Error::Host`], also if the guest ends.
    pub fn step_alone(&mut self, cpu: u32) -> Result<()> {
        self.resume(&format!("vCont;s:p1.{:x}", cpu + 1)).map(drop)
    }

    /// Whether all CPUs but one are asleep, which is where they have executed a WFI and nothing since.
    ///
    /// # Errors
    /// [`Error::Host`].
    pub fn others_sleep(&mut self, cpu: u32, cpus: u32) -> Result<bool> {
        for other in (0..cpus).filter(|&other| other != cpu) {
            let before = self.pc(other)?.wrapping_sub(4);
            if self.instruction(other, before)? != WFI {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The instruction at an address, as a CPU sees it.
    ///
    /// # Errors
    /// [`Error::Host`] if nothing is mapped there.
    pub fn instruction(&mut self, cpu: u32, address: u64) -> Result<u32> {
        self.look_at(cpu)?;
        let request = format!("m{address:x},4");
        let answer = self.ask(&request)?;
        let word = u32::from_str_radix(&answer, 16).ok().filter(|_| answer.len() == 8);
        word.map(u32::swap_bytes).ok_or_else(|| unexpected(&request, &answer))
    }

    /// Where a CPU is, whoever stopped last.
    ///
    /// # Errors
    /// [`Error::Host`].
    pub fn pc(&mut self, cpu: u32) -> Result<u64> {
        self.look_at(cpu)?;
        self.read_pc()
    }

    fn look_at(&mut self, cpu: u32) -> Result<()> {
        self.expect_ok(&format!("Hgp1.{:x}", cpu + 1))
    }

    fn read_pc(&mut self) -> Result<u64> {
        let answer = self.ask(&format!("p{PC:x}"))?;
        register(&answer).ok_or_else(|| unexpected("reading the program counter", &answer))
    }

    fn resume(&mut self, how: &str) -> Result<Stop> {
        let answer = self.ask(how)?;
        let cpu = stopped_cpu(&answer).ok_or_else(|| unexpected(how, &answer))?;
        // QEMU has chosen the CPU that stopped.
        Ok(Stop { cpu, pc: self.read_pc()? })
    }

    fn expect_ok(&mut self, request: &str) -> Result<()> {
        match self.ask(request)?.as_str() {
            "OK" => Ok(()),
            answer => Err(unexpected(request, answer)),
        }
    }

    fn ask(&mut self, request: &str) -> Result<String> {
        let talking = "talking to QEMU's gdb stub";
        let stream = self.stream.get_mut();
        write!(stream, "${request}#{:02x}", checksum(request.as_bytes())).map_err(Error::host(talking))?;
        loop {
            let answer = self.packet().map_err(Error::host(talking))?;
            // "O" packets are output of the guest; nobody asked for them.
            if answer.starts_with('O') && answer != "OK" {
                continue;
            }
            return Ok(answer);
        }
    }

    fn packet(&mut self) -> std::io::Result<String> {
        while self.byte()? != b'$' {}
        let mut text = Vec::new();
        loop {
            match self.byte()? {
                b'#' => break,
                byte => text.push(byte),
            }
        }
        // A local socket does not damage packets: the checksum is not looked at.
        self.byte()?;
        self.byte()?;
        self.stream.get_mut().write_all(b"+")?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn byte(&mut self) -> std::io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }
}

fn checksum(text: &[u8]) -> u8 {
    text.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

fn unexpected(request: &str, answer: &str) -> Error {
    Error::Host(format!("QEMU's gdb stub, {request}"), format!("unexpected answer `{answer}`"))
}

/// The CPU in `T05thread:p01.02;`, whose threads are counted from 1.
fn stopped_cpu(answer: &str) -> Option<u32> {
    let thread = answer.strip_prefix("T")?.split_once("thread:")?.1.split(';').next()?;
    let number = thread.rsplit('.').next()?;
    u32::from_str_radix(number, 16).ok()?.checked_sub(1)
}

/// A register's bytes, lowest first.
fn register(answer: &str) -> Option<u64> {
    if answer.len() != 16 {
        return None;
    }
    u64::from_str_radix(answer, 16).ok().map(u64::swap_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A stub that gives fixed answers and remembers what it was asked.
    struct Fake {
        answers: VecDeque<u8>,
        asked: String,
    }

    impl Fake {
        fn new(answers: &[&str]) -> Self {
            let packets = answers.iter().map(|a| format!("+${a}#{:02x}", checksum(a.as_bytes())));
            Self { answers: packets.collect::<String>().into_bytes().into(), asked: String::new() }
        }
    }
    impl Read for Fake {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.answers.read(buffer)
        }
    }
    impl Write for Fake {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.asked += &String::from_utf8_lossy(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_step_can_be_looked_at() {
        let fake = Fake::new(&[
            "PacketSize=1000",
            "l<target>",
            "OK",
            "T05thread:p01.02;",
            "3412000000800000",
            "OK",
            "3412000000800000",
        ]);
        let mut gdb = Gdb::new(fake).unwrap();
        gdb.step().unwrap();
        assert_eq!(gdb.pc(1).unwrap(), 0x8000_0000_1234);
        let asked = &gdb.stream.get_ref().asked;
        assert!(
            asked.contains("$vCont;s#b8") && asked.contains("$Hgp1.2#") && asked.ends_with("$p20#d2+"),
            "{asked}"
        );
    }

    #[test]
    fn break_points_are_taken_away_again() {
        let fake = Fake::new(&["", "l", "OK", "OK", "T05thread:01;", "0010000000000000", "OK"]);
        let mut gdb = Gdb::new(fake).unwrap();
        assert_eq!(gdb.run_to(0x1000).unwrap(), Stop { cpu: 0, pc: 0x1000 });
        assert!(gdb.stream.get_ref().asked.contains("$z0,1000,4#"));
    }

    #[test]
    fn the_end_of_the_guest_is_an_error() {
        let mut gdb = Gdb::new(Fake::new(&["", "l", "OK", "W00"])).unwrap();
        assert!(gdb.step().unwrap_err().to_string().contains("`W00`"));
        let mut gdb = Gdb::new(Fake::new(&["", "l", "OK"])).unwrap();
        assert!(gdb.step().is_err());
    }
}
