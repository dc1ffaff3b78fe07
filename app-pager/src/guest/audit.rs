//! The life of frames, watched (boot option `audit=on`).
//!
//! Whoever gives a frame back says that nobody has it any more. With this option that is not believed: every kernel is asked who maps the
//! frame, the page that it was taken for must not name it in the master table, and the frame must not be free already. It is poisoned
//! then, and when it is taken again the poison must be intact. What is wrong ends the run, with all that is known about it.
//!
//! A pager's workers ask their own kernel only, for they must not wait for other pagers; what they give back are copies that no other
//! node has. Without the option, giving back costs one test, and taking costs nothing.

use core::fmt;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU64};

use app_pager::Memory;
use app_pager::options::Plant;
use app_pager::poison::{disturbed, poison};
use app_pager::protocols::entry::Entry;
use app_pager::protocols::record::Record;
use skerry_abi::Error;
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_abi::layout::USER_BITS;
use skerry_abi::syscall::exit;
use skerry_ipc::syscall::Holder;

use super::end_run;
use super::memory::Physical;
use super::place::entry_of;
use super::state::Context;

/// The pools are poisoned, and what is taken is looked at.
static ON: AtomicBool = AtomicBool::new(false);
/// Frames that were taken one by one.
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// The frame that the planted error is about.
static VICTIM: AtomicU64 = AtomicU64::new(0);
/// After so many frames it happens.
const PLANT_AT: u64 = 24;

/// Begins, if it is asked for: before anybody takes a frame.
pub(super) fn begin(context: &Context) {
    if context.options.audit
        && let Some(pools) = context.pools()
    {
        pools.each_free(&Physical, |frame| poison(&Physical, frame));
        ON.store(true, Relaxed);
    }
}

fn wrong(frame: u64, what: fmt::Arguments<'_>) -> ! {
    end_run(exit::SERVER_FAULT, format_args!("audit: frame {frame:#x} {what}"))
}

/// These frames have been taken from a pool; nobody has changed them yet.
pub(super) fn taken(base: u64, frames: u64) {
    if !ON.load(Relaxed) {
        return;
    }
    for frame in (0..frames).map(|number| base + number * PAGE_SIZE) {
        if let Some((address, found)) = disturbed(&Physical, frame) {
            wrong(frame, format_args!("was free, and somebody wrote {found:#x} to {address:#x}"));
        }
    }
}

/// A single frame for a task has been taken.
pub(super) fn taken_one(context: &Context, frame: u64) {
    taken(frame, 1);
    let Some(plant) = context.options.plant else { return };
    let number = TAKEN.fetch_add(1, Relaxed);
    if number == PLANT_AT {
        VICTIM.store(frame, Relaxed);
    }
    let victim = VICTIM.load(Relaxed);
    // Some faults later the task has it.
    if number == PLANT_AT + 8 {
        match plant {
            Plant::FreeMapped => context.give_back(victim, PAGE_SIZE),
            Plant::FreeTwice | Plant::WriteFreed => {
                let Some(other) = context.allocate(context.node, 1) else { return };
                context.give_back(other, PAGE_SIZE);
                match plant {
                    Plant::FreeTwice => context.give_back(other, PAGE_SIZE),
                    _ => Physical.words(other, 512)[100].store(7, Relaxed),
                }
            }
        }
    }
}

/// Gives a frame back of which the caller says that nobody has it.
#[cold]
pub(super) fn give_back(context: &Context, frame: u64) {
    if let Some((cluster, holder)) = mapped(context, frame) {
        let Holder { space, leaf, domain } = holder;
        let (at, rights) = (leaf.base(), leaf.rights());
        wrong(
            frame,
            format_args!(
                "is given back, but task {domain} has it in cluster {cluster}: {space:?} at {at:#x} {rights:?}"
            ),
        );
    }
    let Some(pools) = context.pools() else { return };
    let record = pools.record(&Physical, frame).map_or(Record::FREE, |record| Record(record.load(SeqCst)));
    if let Some((task, address)) = named(context, frame, record) {
        wrong(frame, format_args!("is given back, but page {address:#x} of task {task} has it"));
    }
    if !pools.is_taken(&Physical, frame) || disturbed(&Physical, frame).is_none() {
        wrong(frame, format_args!("is given back, but was not taken"));
    }
    poison(&Physical, frame);
    if !pools.free(&Physical, frame) {
        wrong(frame, format_args!("is given back, but was not taken"));
    }
}

/// A task that has the frame in a kernel that this thread may ask.
fn mapped(context: &Context, frame: u64) -> Option<(u16, Holder)> {
    let others = if context.worker { 0..0 } else { 0..context.boot.cluster_count as u16 };
    let own = (context.cluster, context.syscalls().audit(frame));
    let asked = others
        .filter(|&cluster| cluster != context.cluster)
        .map(|cluster| (cluster, context.peer(cluster).and_then(|peer| peer.audit(frame))));
    core::iter::once(own).chain(asked).find_map(|(cluster, answer)| match answer {
        Ok(found) => found.map(|found| (cluster, found)),
        // It has stopped, so nobody maps anything there.
        Err(Error::NodeDown) => None,
        Err(error) => wrong(frame, format_args!("cannot be audited in cluster {cluster}: {error}")),
    })
}

/// The page that the record names, if its entry still names the frame.
fn named(context: &Context, frame: u64, record: Record) -> Option<(u32, u64)> {
    if record == Record::FREE {
        return None;
    }
    let page = record.page();
    let (task, address) = (
        (page >> (USER_BITS - PAGE_BITS)) as u32,
        (page & ((1 << (USER_BITS - PAGE_BITS)) - 1)) << PAGE_BITS,
    );
    let entry = Entry(entry_of(context, task, address)?.load(SeqCst));
    (entry.frame() == frame).then_some((task, address))
}
