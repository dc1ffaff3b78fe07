//! How tasks may end, and what is refused.

use skerry_abi::Error;
use skerry_ipc::pager::{ANY_CPU, Birth, MAY_START, TaskEnd};
use skerry_rt::task;

use super::{Trouble, expect, failed};

fn child(command: &str, flags: u16, quota: u64) -> Result<u32, Error> {
    task::start(Birth { parent: 0, cpu: ANY_CPU, flags }, quota, format_args!("tasks child {command}"))
}

fn ends(what: &'static str, command: &str, flags: u16, quota: u64, end: TaskEnd) -> Result<(), Trouble> {
    let child = child(command, flags, quota).map_err(failed(what))?;
    expect(what, task::wait(child).map_err(failed(what))?.to_word(), end.to_word())
}

pub(super) fn run() -> Result<(), Trouble> {
    ends("an exit code", "exit 77", 0, 0, TaskEnd::Exited(77))?;
    ends("a task within its quota", "eat 100", 0, 400, TaskEnd::Exited(0))?;
    ends("a task over its quota", "eat 400", 0, 400, TaskEnd::OverQuota)?;
    ends("a task that eats everything", "eat 1000000", 0, 0, TaskEnd::OutOfMemory)?;
    ends("a task after that", "work 5", 0, 0, TaskEnd::Exited(5))?;
    ends("a task that may not start others", "start", 0, 0, TaskEnd::Exited(Error::Refused.code()))?;
    let told = 100 + TaskEnd::Exited(5).to_word() % 100;
    ends("a task that may", "start", MAY_START, 0, TaskEnd::Exited(told))?;

    let refused = |what, error: Option<Error>, expected: Error| {
        expect(what, error.map_or(0, Error::code), expected.code())
    };
    let none = task::start(Birth { parent: 0, cpu: ANY_CPU, flags: 0 }, 0, format_args!("nothing"));
    refused("a program that is not there", none.err(), Error::BadArgument)?;
    let nowhere = task::start(Birth { parent: 0, cpu: 999, flags: 0 }, 0, format_args!("tasks child exit"));
    refused("a CPU that is not there", nowhere.err(), Error::BadArgument)?;
    let starved = child("exit 0", 0, 3);
    refused("a quota that is not enough to begin with", starved.err(), Error::OverQuota)?;

    // As many as there can be at a time, on one node; then there is room again.
    let mut children = [0; 64];
    let mut count = 0;
    let full = loop {
        match child("sleep", 0, 0) {
            Ok(child) => children[count] = child,
            Err(error) => break error,
        }
        count += 1;
    };
    refused("too many tasks", Some(full), Error::TableFull)?;
    expect("many tasks", u64::from(count > 20), 1)?;
    for &child in &children[..count] {
        task::kill(child).map_err(failed("a kill"))?;
    }
    for &child in &children[..count] {
        expect("killed", task::wait(child).map_err(failed("waiting"))?.to_word(), TaskEnd::Killed.to_word())?;
    }
    ends("a task after many", "work 8", 0, 0, TaskEnd::Exited(8))
}
