//! A task whom the others have no right to touch: it talks to itself and to the witness of the next cluster, keeps numbers in all
//! its registers while others run, and looks whether its memory is as it left it.
#![expect(unsafe_code, reason = "the thread's argument is an address")]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use skerry_abi::{ThreadId, Timeout};
use skerry_rt::{Message, ipc, sys};

use super::board::Board;
use super::hostile::{Block, Wrong};
use super::{areas::OWN, domains};
use crate::guest::fp;

/// Words of a question to the own cluster's witness, and to the next one's.
const NEAR: usize = 63;
const FAR: usize = 20;
/// Notification that ends the server.
pub(super) const LABEL: u32 = 0x317;

/// Words behind the block, below the stack, that must not change.
fn canvas(block: &Block) -> &[AtomicU64] {
    let start = block.address() as usize + 4096;
    // SAFETY: the second page of what the thread has for itself; the stack is behind it, and too large to come here.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(start), 512) }
}

const _: () = assert!(size_of::<Block>() <= 4096 && OWN == 4 * 4096);

fn board(block: &Block) -> &'static Board {
    // SAFETY: where the board is.
    unsafe { &*core::ptr::with_exposed_provenance(block.board.load(Relaxed) as usize) }
}

fn pattern(i: usize, round: u64) -> u64 {
    (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round
}

/// Answers with the same words, each plus one.
pub(super) extern "C" fn server(block: u64) -> ! {
    // SAFETY: the boss's argument.
    let block = unsafe { &*core::ptr::with_exposed_provenance::<Block>(block as usize) };
    let mut message = Message::new();
    let mut to = ThreadId::NIL;
    loop {
        match ipc::reply_wait(to, &mut message) {
            Ok(from) if from.domain == domains::WITNESS && message.tag.label() == LABEL => {
                message.buffer_mut().iter_mut().for_each(|word| *word = word.wrapping_add(1));
                to = from.thread;
            }
            Ok(from) => {
                block.accuse(Wrong::Disturbed, [from.thread.0, from.domain.into(), message.tag.0]);
                to = ThreadId::NIL;
            }
            Err(failure) => {
                block.accuse(Wrong::Disturbed, [to.0, failure.error.code(), failure.in_receive.into()]);
                to = ThreadId::NIL;
            }
        }
    }
}

/// Asks, computes, and looks, until the board says stop.
pub(super) extern "C" fn client(argument: u64) -> ! {
    // SAFETY: the boss's argument.
    let block = unsafe { &*core::ptr::with_exposed_provenance::<Block>(argument as usize) };
    let board = board(block);
    let (cluster, clusters) = (block.cluster.load(Relaxed) as u16, block.clusters.load(Relaxed) as u16);
    let mut round = 0;
    while board.stop.get() == 0 {
        canvas(block).iter().enumerate().for_each(|(i, word)| word.store(pattern(i, round), Relaxed));
        // SAFETY: Rust code of this program uses no floating-point register (soft-float target).
        unsafe { fp::fp_test_fill(round) };
        ask(block, ThreadId(board.cluster(cluster).witness[1].get()), NEAR, round);
        let next = (cluster + 1) % clusters;
        ask(block, ThreadId(board.cluster(next).witness[1].get()), FAR, round);
        // Others get the CPU now.
        pause(block);
        // SAFETY: as above.
        if unsafe { fp::fp_test_differs(round) } != 0 {
            block.accuse(Wrong::Disturbed, [1, round, 0]);
        }
        if canvas(block).iter().enumerate().any(|(i, word)| word.load(Relaxed) != pattern(i, round)) {
            block.accuse(Wrong::Disturbed, [2, round, 0]);
        }
        round += 1;
        block.calls.store(round, Relaxed);
    }
    block.calls.store(u64::MAX, Relaxed);
    ipc::sleep_forever()
}

fn ask(block: &Block, whom: ThreadId, words: usize, round: u64) {
    if whom.is_nil() {
        return;
    }
    let mut message = Message::new();
    message.tag = skerry_abi::Tag::new(LABEL, words, 0);
    message.buffer_mut()[..words].iter_mut().enumerate().for_each(|(i, word)| *word = pattern(i, round));
    match ipc::call(whom, &mut message) {
        Ok(from) if from.thread == whom && from.domain == domains::WITNESS => {
            let right = message.words().len() == words
                && message.words().iter().enumerate().all(|(i, &w)| w == pattern(i, round).wrapping_add(1));
            if !right {
                block.accuse(Wrong::Disturbed, [3, whom.0, message.tag.0]);
            }
        }
        Ok(from) => block.accuse(Wrong::Disturbed, [4, from.thread.0, from.domain.into()]),
        Err(error) => block.accuse(Wrong::Disturbed, [5, whom.0, error.code()]),
    }
}

/// Sleeps a little; a notification would be a disturbance.
fn pause(block: &Block) {
    match ipc::wait_notification(Timeout(sys::counter_time() + 20_000)) {
        Ok(bits) => block.accuse(Wrong::Disturbed, [6, bits, 0]),
        Err(skerry_abi::Error::Timeout) => {}
        Err(error) => block.accuse(Wrong::Disturbed, [7, error.code(), 0]),
    }
}
