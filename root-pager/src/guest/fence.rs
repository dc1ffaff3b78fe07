//! An app pager of this cluster has crashed: the report, its end, and its next life.
//!
//! Whichever root worker gets the first exception of one of its threads does it all. Its space is destroyed: that ends all its threads and
//! takes away everything that was mapped through it in this kernel. The tasks' threads here have nobody to answer
//! their faults from then on, so their spaces go, too. Then the root pager of cluster 0 has the other pagers clear up
//! ([`root_pager::recovery`]); when they have, the app pager is started again, with the same pool.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use skerry_abi::message::{EXCEPTION_WORDS, kernel_label};
use skerry_abi::syscall::exit;
use skerry_abi::{Error, ThreadId};
use skerry_ipc::{Chunk, Message, Sender, decode_reply, level, root, syscall};
use skerry_rt::ipc::{Kernel, call};
use skerry_rt::{info, println, start, sys};

use super::{end_elsewhere, launch, worker};

/// The life of the app pager that somebody has fenced last.
static FENCED: AtomicU64 = AtomicU64::new(0);
/// Its present life.
static INCARNATION: AtomicU64 = AtomicU64::new(1);

/// Four registers in a row.
struct Row<'a>(usize, &'a [u64]);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut registers = (self.0 * 4..).zip(self.1);
        registers.try_for_each(|(number, value)| write!(f, "  x{number:<2} {value:016x}"))
    }
}

/// A thread of the app pager has had an exception.
pub(super) fn app_pager(from: Sender, words: &[u64]) {
    let cluster = info::header().cluster as u16;
    let incarnation = INCARNATION.load(Ordering::Relaxed);
    if FENCED.swap(incarnation, Ordering::Relaxed) == incarnation {
        // Another thread of it was first; this one ends with it.
        return;
    }
    report(cluster, incarnation, from, words);
    let kernel = |error| {
        end_elsewhere(
            exit::SERVER_FAULT,
            Chunk::format(format_args!("fencing the app pager of cluster {cluster}: {error}")),
        )
    };
    sys::space_destroy(launch::pager_space()).unwrap_or_else(kernel);
    for server in launch::syscall_servers() {
        // Each, so that none of them is in the middle of something for the pager when the last one is through.
        reset(server).unwrap_or_else(kernel);
    }
    let root = root::Client::new(Kernel::<level::SyscallServer>::new(), ThreadId::root(0));
    if let Err(error) = root.died(cluster, incarnation as u16) {
        let reason = match cluster {
            0 => Chunk::format(format_args!(
                "the app pager of cluster 0 crashed; the first task is at home there, so the run ends"
            )),
            _ => Chunk::format(format_args!(
                "the app pager of cluster {cluster} crashed, and the others cannot go on: {error}"
            )),
        };
        end_elsewhere(exit::SERVER_FAULT, reason)
    }
    INCARNATION.store(incarnation + 1, Ordering::Relaxed);
    match launch::app_pager(start::boot_info(), cluster, incarnation as u16 + 1) {
        Ok(()) => println!("app pager of cluster {cluster} is started again"),
        Err(failure) => end_elsewhere(exit::SERVER_FAULT, Chunk::format(format_args!("{failure}"))),
    }
}

/// Has the system-call server end the spaces of tasks. Its thread may touch a page for the first time meanwhile: then what comes is its page
/// fault, and this thread is its pager.
fn reset(server: ThreadId) -> Result<(), Error> {
    let mut message = Message::new();
    message.set_empty(syscall::Op::Reset.label());
    let mut from = call(server, &mut message)?;
    while message.tag.label() == kernel_label::PAGE_FAULT {
        worker::answer(from, &mut message);
        from = call(server, &mut message)?;
    }
    decode_reply(&message)
}

fn report(cluster: u16, incarnation: u64, from: Sender, words: &[u64]) {
    let mut known = [0; EXCEPTION_WORDS];
    known.iter_mut().zip(words).for_each(|(to, &word)| *to = word);
    let [esr, far, pc, sp, pstate, x @ ..] = &known;
    println!("app pager of cluster {cluster} crashed (life {incarnation}, thread {:?})", from.thread);
    println!("  address {far:#x}  ip {pc:#x}  sp {sp:#x}  esr {esr:#x}  pstate {pstate:#x}");
    for (row, values) in x.chunks(4).enumerate() {
        println!("{}", Row(row, values));
    }
}
