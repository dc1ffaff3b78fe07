//! Before anything is counted: maps a page of every block to somebody once.
//!
//! A root mapping gets a table of its own when a part of it is first mapped on, and keeps that as long as it lives. The root
//! spaces live for ever, so these tables are no leak, and are made before the count.
#![expect(unsafe_code, reason = "addresses of frames")]

use core::ptr::with_exposed_provenance;

use skerry_abi::message::kernel_label;
use skerry_abi::{Fpage, MapItem, Rights, Tag, ThreadId, Timeout};
use skerry_rt::{Message, ipc, sys, utcb};

use super::areas::{Areas, OWN, Owner};
use super::controller::{Setup, setup_of};
use super::domains;
use super::hostile::Block;
use crate::guest::world::{Outcome, call};

const DONE: u32 = 0xd0e;

/// Reads a word of every block, and says so.
extern "C" fn toucher(argument: u64) -> ! {
    // SAFETY: the argument of the thread below: what was written there before it was started.
    let block = unsafe { &*with_exposed_provenance::<Block>(argument as usize) };
    // SAFETY: as above.
    let Setup { areas, boss, .. } = unsafe { setup_of(block).read() };
    for address in areas.blocks() {
        // SAFETY: frames of the pools, which nobody holds a Rust object in; the pager maps them.
        unsafe { with_exposed_provenance::<u64>(address as usize).read_volatile() };
    }
    let mut message = Message::new();
    message.tag = Tag::new(DONE, 0, 0);
    let _ = ipc::send(boss, &mut message, Timeout::NEVER);
    ipc::sleep_forever()
}

/// Lets a thread touch everything.
pub(super) fn everything(areas: &Areas, cluster: u16) -> Outcome {
    let me = utcb::my_id();
    let (block, own) = (areas.block(cluster, Owner::Controller), areas.own(cluster, Owner::Controller));
    let setup = Setup { areas: *areas, cpus: [utcb::cpu(); 2], boss: me };
    // SAFETY: behind the block, in a page that nobody uses yet.
    unsafe { setup_of(block).write(setup) };
    let space = call("creating a space", sys::space_create(domains::CONTROLLER, false))?;
    let thread = call("creating a thread", sys::thread_create(space, utcb::cpu(), me, me, 0, 10))?;
    let pc = (toucher as extern "C" fn(u64) -> ! as *const ()).addr() as u64;
    call("starting a thread", sys::thread_start(thread, pc, own.base + OWN, own.base))?;
    let mut message = Message::new();
    let mut to = ThreadId::NIL;
    loop {
        let from = ipc::reply_wait(to, &mut message).map_err(|failure| failure.error);
        to = call("answering", from)?.thread;
        if message.tag.label() != kernel_label::PAGE_FAULT {
            break;
        }
        let base = message.buffer()[0] & !0xfff;
        match Fpage::new(base, 12, Rights::RWX) {
            Some(fpage) => message.set_item(0, MapItem { fpage, dest: base }),
            None => message.set_empty(kernel_label::REJECT_FAULT),
        }
    }
    call("destroying a space", sys::space_destroy(space))
}
