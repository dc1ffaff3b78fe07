//! The workers: page faults and exceptions of the servers, and what app pagers have them tell others.

use root_pager::resolve::View;
use skerry_abi::id::domain;
use skerry_abi::message::kernel_label;
use skerry_abi::syscall::exit;
use skerry_abi::{Error, Rights};
use skerry_ipc::{Chunk, Message, Sender, encode_reply, relay};
use skerry_rt::ipc::{Handler, serve};
use skerry_rt::{info, start};

use super::launch::SERVERS;
use super::{fence, relay as relays, strike};

/// Address of the program's entry, where a worker starts too.
pub(crate) fn entry() -> u64 {
    skerry_rt::entry::address()
}

/// A worker's loop; the cluster's first worker has number 0.
pub(crate) fn run(number: u64) -> ! {
    if number == 0 {
        strike::serve_until_struck(info::header().cluster as u16);
    }
    serve(&mut Worker)
}

struct Worker;

fn name(domain: u32) -> &'static str {
    match domain {
        domain::ROOT => "root pager",
        domain::APP_PAGER => "app pager",
        domain::SYSCALL_SERVER => "system-call server",
        _ => "unknown program",
    }
}

/// Answers a fault or an exception of a server's thread; returns whether `message` holds the answer.
pub(crate) fn answer(from: Sender, message: &mut Message) -> bool {
    match (message.tag.label(), message.words()) {
        (kernel_label::NOTIFICATION, &[bits, ..]) if from.domain == domain::KERNEL => {
            relays::pass_on(bits);
            return false;
        }
        (kernel_label::PAGE_FAULT, &[address, access, ip, ..]) => {
            page_fault(from, address, access, ip, message)
        }
        (kernel_label::EXCEPTION, words) if from.domain == domain::APP_PAGER => {
            fence::app_pager(from, words);
            return false;
        }
        (kernel_label::EXCEPTION, &[esr, far, pc, sp, ..]) => {
            let (who, cluster) = (name(from.domain), from.thread.cluster());
            let reason = format_args!(
                "{who} of cluster {cluster}, thread {:?}: exception esr={esr:#x} far={far:#x} pc={pc:#x} sp={sp:#x}",
                from.thread
            );
            super::end_elsewhere(exit::SERVER_FAULT, Chunk::format(reason))
        }
        (label, _) if (label >> 16) as u16 == relay::ID => {
            return relays::answer(from, message);
        }
        _ => encode_reply::<()>(message, Err(Error::BadRequest)),
    }
    true
}

fn page_fault(from: Sender, address: u64, access: u64, ip: u64, message: &mut Message) {
    let servers = SERVERS.lock();
    let item = servers.as_ref().and_then(|s| {
        let (image, frames, stacks, pools) = match from.domain {
            domain::APP_PAGER => (&s.pager, s.layout.pager, s.layout.pager_stacks(), true),
            domain::SYSCALL_SERVER => (&s.syscall, s.layout.syscall, s.layout.syscall_stacks(), false),
            _ => return None,
        };
        let view = View { image, frames, stacks, start: s.layout.start, pools, taken: &s.taken };
        view.resolve(start::boot_info(), address, Rights::from_bits(access))
    });
    drop(servers);
    match item {
        Some(item) => message.set_item(0, item),
        // Then it comes as an exception, with all registers.
        None if from.domain == domain::APP_PAGER => message.set_empty(kernel_label::REJECT_FAULT),
        None => {
            let reason = format_args!(
                "{} of cluster {}, thread {:?}: {:?} access to {address:#x} at ip={ip:#x}",
                name(from.domain),
                from.thread.cluster(),
                from.thread,
                Rights::from_bits(access),
            );
            super::end_elsewhere(exit::SERVER_FAULT, Chunk::format(reason))
        }
    }
}

impl Handler for Worker {
    fn handle(&mut self, from: Sender, message: &mut Message) -> bool {
        answer(from, message)
    }
    fn reply_failed(&mut self, to: Sender, error: Error) {
        if matches!(error, Error::NoSuchThread | Error::NotWaiting | Error::NotPermitted | Error::Cancelled) {
            return;
        }
        let code = if error == Error::OutOfKernelMemory { exit::OUT_OF_MEMORY } else { exit::SERVER_FAULT };
        let (who, cluster) = (name(to.domain), to.thread.cluster());
        let reason = format_args!("{who} of cluster {cluster}: its memory cannot be mapped: {error}");
        super::end_elsewhere(code, Chunk::format(reason))
    }
}
