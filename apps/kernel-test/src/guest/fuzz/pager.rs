//! How the boss answers faults and exceptions of its hostile threads.

use fastrand::Rng;
use skerry_abi::boot::Range;
use skerry_abi::fpage::{PAGE_BITS, PAGE_SIZE};
use skerry_abi::layout::{PROGRAM_BASE, UTCB_BASE};
use skerry_abi::message::{EXCEPTION_WORDS, kernel_label};
use skerry_abi::{Error, Fpage, MapItem, Rights, Tag, ThreadId, Timeout};
use skerry_rt::{Message, ipc};

use super::areas::Areas;
use crate::guest::world::{Outcome, failed};

/// Exception classes (ESR_EL1.EC): an instruction fetch that faulted, and a misaligned instruction pointer.
const FETCHES: [u64; 2] = [0x20, 0x22];
const SVC: u64 = 0x15;

/// Memory of a thread: its own, and that for playing.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    pub(super) own: Range,
    pub(super) play: Range,
    /// What it may do to the board.
    pub(super) board: Rights,
}

/// Whether the thread still makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// Something else is mapped where its memory should be, or its space may have no more: its space has to go.
    Spoilt,
}

/// The sizes in which memory to play with is mapped.
const SIZES: [u32; 6] = [PAGE_BITS, PAGE_BITS, PAGE_BITS, PAGE_BITS, 16, 21];

/// Answers a page fault.
pub(super) fn answer_fault(
    from: ThreadId,
    message: &mut Message,
    memory: Memory,
    areas: &Areas,
    rng: &mut Rng,
) -> Outcome<Health> {
    let (address, access) = (message.buffer()[0], Rights::from_bits(message.buffer()[1]));
    let program = Range { base: PROGRAM_BASE, size: UTCB_BASE - PROGRAM_BASE };
    let item = if program.contains(address) && access != Rights::W {
        page(address, PAGE_BITS, Rights::RX)
    } else if areas.board_range().contains(address) && memory.board.contains(access) {
        page(address, PAGE_BITS, memory.board)
    } else if memory.own.contains(address) {
        page(address, PAGE_BITS, Rights::RW)
    } else if memory.play.contains(address) {
        let size = SIZES[rng.usize(0..SIZES.len())];
        page(address, size, if access == Rights::X { Rights::RX } else { Rights::RWX })
    } else {
        None
    };
    let Some(item) = item else {
        message.set_empty(kernel_label::REJECT_FAULT);
        return settle(from, message);
    };
    message.set_item(0, item);
    match ipc::send(from, message, Timeout::REPLY) {
        // Smaller pages are there already: this one can still be missing.
        Err(Error::AlreadyMapped) if item.fpage.bits() > PAGE_BITS => {
            match page(address, PAGE_BITS, item.fpage.rights()) {
                Some(item) => message.set_item(0, item),
                None => message.set_empty(kernel_label::REJECT_FAULT),
            }
            settle(from, message)
        }
        // Between the program and the UTCBs there is nothing.
        Err(Error::NothingMapped) if program.contains(address) => {
            message.set_empty(kernel_label::REJECT_FAULT);
            settle(from, message)
        }
        result => health(result),
    }
}

/// Where a thread begins: instruction pointer, stack pointer, argument.
pub(super) type Beginning = [u64; 3];

/// Answers an exception: the thread goes on behind the instruction or, if that was none of the program's, where it once began.
pub(super) fn answer_exception(
    from: ThreadId,
    message: &mut Message,
    anew: impl FnOnce(&mut Rng) -> Option<Beginning>,
    rng: &mut Rng,
) -> Outcome<Health> {
    if message.tag.untyped() != EXCEPTION_WORDS {
        return failed(format_args!("an exception with {} words", message.tag.untyped()));
    }
    let program = PROGRAM_BASE..UTCB_BASE;
    let words = message.buffer_mut();
    if !program.contains(&words[2])
        && let Some([pc, sp, argument]) = anew(rng)
    {
        (words[2], words[3], words[5]) = (pc, sp, argument);
        message.tag = Tag::new(kernel_label::RESUME_WITH, EXCEPTION_WORDS, 0);
        return settle(from, message);
    }
    let class = words[0] >> 26;
    let x30 = words[5 + 30];
    if class == SVC && rng.bool() {
        message.set_empty(0);
        return settle(from, message);
    }
    if class != SVC {
        let behind = program.contains(&words[2]) && !FETCHES.contains(&class);
        words[2] = if behind { words[2] + 4 } else { x30 };
    }
    // A program may not choose more than the flags of it.
    words[4] = rng.u64(..);
    message.tag = Tag::new(kernel_label::RESUME_WITH, EXCEPTION_WORDS, 0);
    settle(from, message)
}

fn page(address: u64, bits: u32, rights: Rights) -> Option<MapItem> {
    let base = address & !((1u64 << bits) - 1) & !(PAGE_SIZE - 1);
    Fpage::new(base, bits, rights).map(|fpage| MapItem { fpage, dest: base })
}

fn settle(to: ThreadId, message: &mut Message) -> Outcome<Health> {
    health(ipc::send(to, message, Timeout::REPLY))
}

fn health(result: Result<(), Error>) -> Outcome<Health> {
    match result {
        // Its controller or another CPU may have ended it meanwhile, or moved it.
        Ok(()) | Err(Error::NotWaiting | Error::ItemAcrossClusters) => Ok(Health::Good),
        Err(Error::AlreadyMapped | Error::OutOfKernelMemory) => Ok(Health::Spoilt),
        Err(error) => failed(format_args!("answering a fault: {error}")),
    }
}
