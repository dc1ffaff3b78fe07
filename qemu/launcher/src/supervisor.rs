//! Watches one QEMU process: passes on what the guest says, gives up on silence, and names the ending.
//!
//! The host waits for *progress*, not for time: any line resets the clock, and while QEMU waits for a processor of the host the clock stands
//! still. A run passes only if the guest said so
//! *and* QEMU returned the guest's exit code for it; a machine that just switches off has not passed.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use wait_timeout::ChildExt;

use crate::coherence::Report;
use crate::console::{Line, Measurement, Progress, Verdict};
use crate::ending::Ending;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::recording::Recorded;

/// A line longer than this is cut: a guest that writes garbage must not fill the host's memory.
const LONGEST_LINE: u64 = 64 << 10;
/// How many of the guest's last lines are kept for a failure's report.
const TAIL: usize = 60;

/// Is told what happens while the guest runs.
pub trait Observer: Sync {
    /// The guest made progress.
    fn progress(&self, _progress: &Progress) {}
    /// A plain line of the guest, or of QEMU.
    fn text(&self, _line: &str) {}
}

/// Looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;
impl Observer for Quiet {}

/// A finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// How it ended.
    pub ending: Ending,
    /// Why, in one line.
    pub reason: String,
    /// What was measured.
    pub measurements: Vec<Measurement>,
    /// The last plain lines.
    pub tail: Vec<String>,
    /// What the checker of software coherence found, if it watched.
    pub coherence: Option<Report>,
    /// What was recorded besides.
    pub recorded: Recorded,
}

impl Finished {
    /// This run, or an error if it did not pass.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub fn passed(self) -> Result<Self> {
        match self.ending {
            Ending::Pass => Ok(self),
            ending => Err(Error::Ended { ending, reason: self.reason }),
        }
    }

    /// The sum of a metric over all measurements of a case; `None` if there is none.
    pub fn sum(&self, case: &str, metric: &str) -> Option<f64> {
        let matching = self.measurements.iter().filter(|m| m.case == case && m.metric == metric);
        matching.filter_map(|m| m.value.as_f64()).reduce(|a, b| a + b)
    }
}

enum Event {
    Console(String),
    Diagnostic(String),
    Closed,
    Interrupt,
}

/// Kills the process unless it was waited for.
struct Guard(Child);
impl Drop for Guard {
    fn drop(&mut self) {
        // Errors mean that it is gone already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `command` (a QEMU) to its end.
///
/// # Errors
/// [`Error::Host`] if it cannot be started; everything after that is an [`Ending`].
pub fn supervise(mut command: Command, silence: Duration, observer: &dyn Observer) -> Result<Finished> {
    // A process group of its own: Ctrl-C reaches the launcher alone, which then ends QEMU and says so.
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = Guard(command.spawn().map_err(Error::host("starting QEMU"))?);
    let (sender, events) = channel();
    let interrupted = sender.clone();
    let subscription = interrupt::subscribe(move || {
        // A closed channel means that the run has ended by itself.
        let _ = interrupted.send(Event::Interrupt);
    });
    if let Some(stdout) = child.0.stdout.take() {
        let closed = sender.clone();
        read_lines(stdout, sender.clone(), Event::Console, move || drop(closed.send(Event::Closed)));
    }
    if let Some(stderr) = child.0.stderr.take() {
        read_lines(stderr, sender, Event::Diagnostic, || ());
    }
    let mut watch = Watch::new(observer);
    let process = child.0.id();
    let stopped = watch.until_closed(&events, silence, || waited_for_processor(process));
    let outcome = match stopped {
        Some(ending) => Err(ending),
        None => {
            child.0.wait_timeout(silence).map_err(Error::host("waiting for QEMU"))?.ok_or(Ending::Silence)
        }
    };
    drop((child, subscription));
    // QEMU is gone and nobody else sends: take the rest of its standard error.
    events.iter().for_each(|event| watch.take(event));
    Ok(watch.finish(outcome, silence))
}

fn read_lines(
    source: impl Read + Send + 'static,
    sender: Sender<Event>,
    event: fn(String) -> Event,
    at_end: impl FnOnce() + Send + 'static,
) {
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while let Ok(1..) = source.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            if sender.send(event(String::from_utf8_lossy(&line).trim_end().to_owned())).is_err() {
                break;
            }
            line.clear();
        }
        at_end();
    });
}

/// How long the thread of a process that had to wait longest for a processor of the host has waited so far; nothing where the host does
/// not tell.
fn waited_for_processor(process: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    // Documentation/scheduler/sched-stats.rst of Linux: time on a processor, time in a run queue, slices.
    let waited = |stat: String| stat.split_whitespace().nth(1)?.parse().ok();
    stats.filter_map(waited).max().map_or(Duration::ZERO, Duration::from_nanos)
}

struct Watch<'a> {
    observer: &'a dyn Observer,
    measurements: Vec<Measurement>,
    verdict: Option<Verdict>,
    tail: Vec<String>,
    complaint: Option<String>,
}

impl<'a> Watch<'a> {
    const fn new(observer: &'a dyn Observer) -> Self {
        Self { observer, measurements: Vec::new(), verdict: None, tail: Vec::new(), complaint: None }
    }

    /// Returns when the console closes, or with the reason to end QEMU. `waited` tells how long QEMU had no processor in all: such time
    /// is no silence.
    fn until_closed(
        &mut self,
        events: &Receiver<Event>,
        silence: Duration,
        waited: impl Fn() -> Duration,
    ) -> Option<Ending> {
        let (mut left, mut starved) = (silence, waited());
        loop {
            match events.recv_timeout(left) {
                Ok(Event::Closed) => return None,
                Ok(Event::Interrupt) => return Some(Ending::Interrupted),
                Ok(event) => {
                    self.take(event);
                    (left, starved) = (silence, waited());
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = waited();
                    left = now.saturating_sub(starved);
                    starved = now;
                    if left < silence / 100 {
                        return Some(Ending::Silence);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Console(line) => match Line::parse(&line) {
                Line::Measurement(measurement) => self.measurements.push(measurement),
                Line::Progress(progress) => self.observer.progress(&progress),
                Line::Verdict(verdict) => drop(self.verdict.get_or_insert(verdict)),
                Line::Text(text) => self.text(text),
            },
            Event::Diagnostic(line) => {
                self.complaint = Some(line.clone());
                self.text(line);
            }
            Event::Closed | Event::Interrupt => {}
        }
    }

    fn text(&mut self, line: String) {
        self.observer.text(&line);
        if self.tail.len() == TAIL {
            self.tail.remove(0);
        }
        self.tail.push(line);
    }

    fn finish(self, outcome: std::result::Result<ExitStatus, Ending>, silence: Duration) -> Finished {
        let Self { measurements, verdict, tail, complaint, .. } = self;
        let said_pass = verdict.as_ref().map(|v| v.verdict == "pass");
        let said = verdict.map(|v| v.reason).filter(|reason| !reason.is_empty());
        let or_meaning = |ending: Ending| said.clone().unwrap_or_else(|| ending.meaning().into());
        let (ending, reason) = match outcome {
            Err(Ending::Silence) => {
                (Ending::Silence, format!("no output for {} s; the guest was stopped", silence.as_secs_f32()))
            }
            Err(ending) => (ending, ending.meaning().into()),
            Ok(status) => match (status.code().and_then(|code| Ending::from_guest(code as u64)), said_pass) {
                (Some(Ending::Pass), Some(true)) => (Ending::Pass, or_meaning(Ending::Pass)),
                (Some(Ending::Pass), Some(false)) => (Ending::Fail, or_meaning(Ending::Fail)),
                (Some(Ending::Pass), None) => {
                    (Ending::QemuError, "the guest switched off without a verdict".into())
                }
                // QEMU itself also ends with 1 when it does not like its arguments.
                (Some(Ending::Fail), None) => {
                    (Ending::QemuError, complaint.unwrap_or_else(|| "QEMU ended with code 1".into()))
                }
                (Some(ending), _) => (ending, or_meaning(ending)),
                (None, _) => (Ending::QemuError, complaint.unwrap_or_else(|| describe(status))),
            },
        };
        Finished { ending, reason, measurements, tail, coherence: None, recorded: Recorded::default() }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("QEMU ended with the unknown code {code}"),
        (None, Some(signal)) => format!("QEMU was ended by signal {signal}"),
        (None, None) => "QEMU ended for an unknown reason".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    /// A QEMU that is a shell script.
    fn fake(script: &str) -> Finished {
        let mut command = crate::process::command("/bin/sh");
        command.args(["-c", script]);
        supervise(command, Duration::from_secs(20), &Quiet).unwrap()
    }

    #[test]
    fn a_pass_needs_the_verdict_and_the_exit_code() {
        assert_eq!(fake(r#"echo '{"verdict":"pass"}'"#).ending, Ending::Pass);
        assert_eq!(fake("echo bye").ending, Ending::QemuError);
        assert_eq!(fake(r#"echo '{"verdict":"fail","reason":"checksum"}'"#).ending, Ending::Fail);
        let panic = fake(r#"echo '{"verdict":"pass"}'; exit 100"#);
        assert_eq!(panic.ending, Ending::KernelPanic);
    }

    #[test]
    fn the_guest_s_reason_and_last_lines_are_kept() {
        let run = fake(r#"echo one; echo '{"verdict":"app-fault","reason":"pc 0x0"}'; echo two; exit 102"#);
        assert_eq!((run.ending, run.reason.as_str()), (Ending::AppFault, "pc 0x0"));
        assert_eq!(run.tail, ["one", "two"]);
    }

    #[test]
    fn qemu_s_own_complaint_is_the_reason() {
        let run = fake("echo 'qemu: no such machine' >&2; exit 1");
        assert_eq!((run.ending, run.reason.as_str()), (Ending::QemuError, "qemu: no such machine"));
        assert_eq!(fake("kill -9 $$").reason, "QEMU was ended by signal 9");
        assert_eq!(fake("exit 77").ending, Ending::QemuError);
    }

    #[test]
    fn silence_is_given_up() {
        let start = Instant::now();
        let mut command = crate::process::command("/bin/sh");
        command.args(["-c", "echo alive; exec sleep 600"]);
        let run = supervise(command, Duration::from_millis(300), &Quiet).unwrap();
        assert_eq!((run.ending, run.tail), (Ending::Silence, vec!["alive".to_owned()]));
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn waiting_for_a_processor_is_no_silence() {
        let silence = Duration::from_millis(50);
        // A host that gives QEMU nothing at all, four times as long as it may be silent.
        let asked = Cell::new(0);
        let waited = || {
            asked.set(asked.get() + 1);
            silence * asked.get().min(5)
        };
        let (_sender, events) = channel();
        let start = Instant::now();
        assert_eq!(Watch::new(&Quiet).until_closed(&events, silence, waited), Some(Ending::Silence));
        assert!(start.elapsed() >= silence * 5, "{:?}", start.elapsed());
        assert_eq!(asked.get(), 6);
    }

    #[test]
    fn a_host_tells_how_long_a_process_waited() {
        let me = std::process::id();
        let before = waited_for_processor(me);
        let seen = AtomicBool::new(!std::path::Path::new("/proc/self/schedstat").exists());
        std::thread::scope(|scope| {
            let threads = std::thread::available_parallelism().map_or(2, usize::from) * 4;
            for _ in 0..threads {
                scope.spawn(|| {
                    while !seen.load(Ordering::Relaxed) {
                        seen.fetch_or(waited_for_processor(me) > before, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(waited_for_processor(u32::MAX), Duration::ZERO);
    }

    #[test]
    fn output_keeps_a_run_alive_and_long_lines_are_cut() {
        let run = fake(r#"head -c 100000 /dev/zero | tr '\0' x; echo; echo '{"verdict":"pass"}'"#);
        assert_eq!(run.ending, Ending::Pass);
        assert_eq!(run.tail.iter().map(String::len).sum::<usize>(), 100_000);
    }

    #[test]
    fn measurements_are_summed_by_case_and_metric() {
        let line = r#"{"bench":"b","case":"c","metric":"m","unit":"u","value":"#;
        let run = fake(&format!("echo '{line}2}}'; echo '{line}3}}'; echo '{{\"verdict\":\"pass\"}}'"));
        assert_eq!(run.sum("c", "m"), Some(5.0));
        assert_eq!(run.sum("c", "other"), None);
    }
}
