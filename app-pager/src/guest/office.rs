//! Where the mailboxes of the pagers are, and who their unmap workers are. See [`app_pager::letter`].
//!
//! Two pagers get to know each other when one of them first needs the other: by calls to the other's worker, which never waits.

use core::sync::atomic::{AtomicU64, Ordering};

use app_pager::letter::{LETTERS, Letter, inbox_at, letter_at, office_bytes};
use skerry_abi::boot::{MAX_CLUSTERS, MAX_CPUS};
use skerry_abi::{Error, ThreadId};
use skerry_ipc::relay::{self, Clusters};
use skerry_ipc::{level, peer};
use skerry_rt::ipc::{Kernel, pause};
use skerry_rt::{println, sys};

use super::memory::Physical;
use super::state::{Context, WAKE};

/// By cluster: where its office is, and its unmap worker; 0 as long as it is not known.
static OFFICES: [AtomicU64; MAX_CLUSTERS] = [const { AtomicU64::new(0) }; MAX_CLUSTERS];
static WORKERS: [AtomicU64; MAX_CLUSTERS] = [const { AtomicU64::new(0) }; MAX_CLUSTERS];

/// Bits of a notification to an unmap worker that name pager threads: several share one on large machines.
const SENDERS: u16 = 62;
/// How long who finds no room on the way to another cluster waits before it tries again.
const PAUSE_TICKS: u64 = 1000;

/// The bit that tells an unmap worker of letters of this CPU's pager thread.
const fn sender_bit(cpu: u16) -> u64 {
    1 << (cpu % SENDERS)
}
/// The pager threads that a bit may stand for, on a machine with so many CPUs.
pub(super) fn senders(bit: u16, cpus: u16) -> impl Iterator<Item = u16> {
    (bit..cpus).step_by(SENDERS.into()).take_while(move |_| bit < SENDERS)
}

/// Sets up this cluster's office.
pub(super) fn set_up(context: &Context) -> Result<(), Error> {
    let bytes = office_bytes(context.start.cpus().len(), context.seats().count().into());
    let office = context.cleared(context.node, bytes)?;
    know(context.cluster, office, ThreadId(context.start.unmapper));
    Ok(())
}

/// Keeps what another pager says about itself.
pub(super) fn know(cluster: u16, office: u64, worker: ThreadId) {
    if let (Some(at), Some(known)) = (OFFICES.get(usize::from(cluster)), WORKERS.get(usize::from(cluster))) {
        at.store(office, Ordering::Relaxed);
        known.store(worker.0, Ordering::Release);
    }
}

/// This pager's office and unmap worker, to be told to others.
pub(super) fn own(context: &Context) -> (u64, ThreadId) {
    let cluster = usize::from(context.cluster);
    let worker = WORKERS.get(cluster).map_or(0, |worker| worker.load(Ordering::Acquire));
    (OFFICES.get(cluster).map_or(0, |office| office.load(Ordering::Relaxed)), ThreadId(worker))
}

/// Office and unmap worker of a cluster.
#[inline(always)]
fn of(context: &Context, cluster: u16) -> Result<(u64, ThreadId), Error> {
    let index = usize::from(cluster);
    let known = WORKERS.get(index).ok_or(Error::BadArgument)?;
    let worker = known.load(Ordering::Acquire);
    if worker != 0 {
        return Ok((OFFICES[index].load(Ordering::Relaxed), ThreadId(worker)));
    }
    get_to_know(context, cluster)
}

#[cold]
#[inline(never)]
fn get_to_know(context: &Context, cluster: u16) -> Result<(u64, ThreadId), Error> {
    let index = usize::from(cluster);
    let peer = peer::Client::new(Kernel::<level::Pager>::new(), context.worker_of(cluster)?);
    // Who may send a letter must be one whose letters the other can read, so before the other learns of this office, this
    // pager's unmap worker has to know the other's; and only then may this pager send.
    let (its_office, its_worker) = peer.address()?;
    OFFICES[index].store(its_office, Ordering::SeqCst);
    let (office, worker) = own(context);
    peer.introduce(context.cluster, office, worker)?;
    know(cluster, its_office, its_worker);
    Ok((its_office, its_worker))
}

/// By CPU: where the letters of its pager thread are; 0 as long as nobody has asked.
static LETTERS_OF: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// A letter of a pager thread; `None` if its cluster was never heard of.
#[inline(always)]
pub(super) fn letter(context: &Context, cpu: u16, number: usize) -> Option<Letter<'static>> {
    let known = LETTERS_OF.get(usize::from(cpu))?.load(Ordering::Relaxed);
    let first = if known != 0 { known } else { find_letters(context, cpu)? };
    let words = context.letter_words;
    Some(Letter::new(Physical.words_at(first + (number * words * 8) as u64, words)))
}

#[cold]
#[inline(never)]
fn find_letters(context: &Context, cpu: u16) -> Option<u64> {
    let cluster = context.boot.cpus().get(usize::from(cpu))?.cluster;
    let office = OFFICES.get(usize::from(cluster))?.load(Ordering::Relaxed);
    let thread =
        context.boot.cpus()[..usize::from(cpu)].iter().filter(|other| other.cluster == cluster).count();
    let first = letter_at(office, context.seats().count().into(), thread, 0);
    (office != 0).then(|| {
        LETTERS_OF[usize::from(cpu)].store(first, Ordering::Relaxed);
        first
    })
}

/// The letters of a pager thread that are in the inbox of this cluster's unmap worker.
pub(super) fn received(context: &Context, cpu: u16) -> u64 {
    let (office, _) = own(context);
    Physical.words_at(inbox_at(office, cpu), 1)[0].swap(0, Ordering::SeqCst)
}

/// Puts a letter of this thread into the inbox of a cluster's unmap worker, and tells it.
pub(super) fn send(context: &Context, cluster: u16, number: usize) -> Result<(), Error> {
    let (office, worker) = of(context, cluster)?;
    Physical.words_at(inbox_at(office, context.cpu), 1)[0].fetch_or(1 << number, Ordering::SeqCst);
    notify(worker, sender_bit(context.cpu));
    Ok(())
}

/// Puts a letter of this thread into the inbox of a cluster's unmap worker, who is to be told.
#[cold]
fn put(context: &Context, cluster: u16, number: usize) -> Result<(), Error> {
    let (office, _) = of(context, cluster)?;
    Physical.words_at(inbox_at(office, context.cpu), 1)[0].fetch_or(1 << number, Ordering::SeqCst);
    Ok(())
}

/// Sends a letter of this thread to all that it has something for, through the root pager.
#[cold]
pub(super) fn send_by_root(context: &Context, number: usize, letter: &Letter<'_>) {
    let seats = context.seats();
    let mut clusters = [0; MAX_CLUSTERS.div_ceil(64)];
    for seat in (0..seats.count()).filter(|&seat| letter.is_ordered(seat)) {
        let cluster = seats.cluster(seat);
        match put(context, cluster, number) {
            Ok(()) => clusters[usize::from(cluster / 64)] |= 1 << (cluster % 64),
            Err(_) => {
                // There is no such pager, so its kernel maps nothing.
                letter.done(seat);
            }
        }
    }
    let root = relay::Client::new(Kernel::<level::Pager>::new(), context.root);
    if let Err(error) = root.tell(sender_bit(context.cpu), Clusters::of(&clusters)) {
        println!("the root pager does not pass letters on: {error}");
    }
}

/// The pager of a cluster is dead: it answers no letters, and its own are void.
pub(super) fn close(context: &Context, cluster: u16) {
    if let (Some(at), Some(known)) = (OFFICES.get(usize::from(cluster)), WORKERS.get(usize::from(cluster))) {
        known.store(0, Ordering::SeqCst);
        at.store(0, Ordering::SeqCst);
    }
    let cpus = || (0u16..).zip(context.boot.cpus());
    for (cpu, _) in cpus().filter(|(_, cpu)| cpu.cluster == cluster) {
        received(context, cpu);
        LETTERS_OF[usize::from(cpu)].store(0, Ordering::SeqCst);
    }
    for (cpu, _) in cpus().filter(|(_, cpu)| cpu.cluster == context.cluster) {
        for letter in (0..LETTERS).filter_map(|number| letter(context, cpu, number)) {
            letter.take_order(cluster);
            let (leader, bits) = letter.leader();
            if !letter.is_answered() && letter.done(cluster) {
                notify(leader, bits);
            }
        }
    }
}

/// Notifies a pager's thread. If there is no room on the way, that is for a moment.
#[inline(always)]
pub(super) fn notify(thread: ThreadId, bits: u64) {
    if sys::notify(thread, bits) == Err(Error::Timeout) {
        notify_later(thread, bits);
    }
}

#[cold]
#[inline(never)]
fn notify_later(thread: ThreadId, bits: u64) {
    loop {
        pause(PAUSE_TICKS);
        if sys::notify(thread, bits) != Err(Error::Timeout) {
            return;
        }
    }
}

/// Has all pagers where the task is active look again at what they parked.
pub(super) fn wake_all(context: &Context, is_active: impl Fn(u16) -> bool) {
    context.wake_node();
    let others = (0..context.boot.cluster_count as u16).filter(|&cluster| cluster != context.cluster);
    for cluster in others.filter(|&cluster| is_active(cluster)) {
        if let Ok((_, worker)) = of(context, cluster) {
            notify(worker, WAKE);
        }
    }
}
