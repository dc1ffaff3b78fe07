//! IPC between clusters: the same phases, as requests and responses over the rings.
//!
//! | request | answer | meaning |
//! |---|---|---|
//! | `Send` (with the message) | `Delivered`, `Failed` or `Queued` | `Queued`: the receiver is busy; only the sender's *name* is kept, as a proxy in the receiver's queue; the message stays with the sender |
//! | `Pull` | `Ack` or `Gone` | the receiver is ready for a queued sender: `Ack` announces a `Send` to come |
//! | `Bounce` | `Ack` | the receiver of a queued sender is gone |
//!
//! A request needs credit ([`crate::ring::CREDIT`]); without it the *thread* (or proxy) on whose behalf it goes out waits in
//! [`crate::kernel::Peer::waiting`], never the kernel. Every request is answered at once, so credit always comes back.

use crate::hal::Hal;
use crate::ipc::Message;
use crate::kernel::{Kernel, Proxy};
use crate::ring::Packet;
use crate::thread::State;
use skerry_abi::message::MAX_WORDS;
use skerry_abi::{Counter, Error, SpaceId, Tag, ThreadId};

pub(crate) const SEND: u64 = 1;
pub(crate) const PULL: u64 = 2;
pub(crate) const BOUNCE: u64 = 3;
pub(crate) const DELIVERED: u64 = 16;
pub(crate) const FAILED: u64 = 17;
pub(crate) const QUEUED: u64 = 18;
pub(crate) const ACK: u64 = 19;
pub(crate) const GONE: u64 = 20;

/// Header words of a packet.
const KIND: usize = 0;
const SENDER: usize = 1;
const RECEIVER: usize = 2;
/// `Send`: the sender's space. `Delivered`: the receiver's space. `Failed`: the error code.
const SPACE: usize = 3;
/// `Send`: domain of the sender in the low half, flags in the high half.
const DOMAIN: usize = 4;
const TAG: usize = 5;

const GRANTED: u64 = 1 << 32;
const NO_WAIT: u64 = 1 << 33;

impl<H: Hal> Kernel<'_, H> {
    /// Begins the send phase of `t` to a thread of another cluster; the thread waits in any case.
    pub(crate) fn send_remote(&mut self, t: u32) -> Result<(), Error> {
        let thread = &self.threads[t as usize];
        if thread.tag().typed() != 0 {
            return Err(Error::ItemAcrossClusters);
        }
        let cluster = usize::from(thread.op.dest.cluster());
        if self.peers.get(cluster).is_none_or(|p| p.outbound.is_none()) {
            return Err(Error::NoSuchThread);
        }
        self.counters.count(Counter::RemoteIpcs);
        self.threads[t as usize].announced = false;
        self.await_credit(cluster, t);
        Ok(())
    }

    /// `t` is ready to receive from a proxy: asks for the message.
    pub(crate) fn pull(&mut self, t: u32, index: u32) {
        let proxy = &mut self.proxies[index as usize - self.threads.len()];
        let sender = core::mem::replace(&mut proxy.sender, ThreadId::NIL);
        self.threads[t as usize].pull = sender;
        self.await_credit(usize::from(sender.cluster()), t);
    }

    /// The receiver of a queued remote sender is gone: tell the sender.
    pub(crate) fn bounce(&mut self, index: u32) {
        let proxy = &self.proxies[index as usize - self.threads.len()];
        let cluster = usize::from(proxy.sender.cluster());
        let Self { peers, links, .. } = self;
        peers[cluster].waiting.push_back(links, index);
        self.pump(cluster);
    }

    /// Ends the wait of a thread whose partner is in another cluster, as far as that cluster knows nothing of it.
    ///
    /// # Errors
    /// [`Error::WrongState`]: it does.
    pub(crate) fn cancel_remote(&mut self, t: u32) -> Result<(), Error> {
        let thread = &self.threads[t as usize];
        if thread.state != State::AwaitingCredit || thread.announced || !thread.pull.is_nil() {
            return Err(Error::WrongState);
        }
        let cluster = usize::from(thread.op.dest.cluster());
        let Self { peers, links, .. } = self;
        peers[cluster].waiting.remove(links, t);
        self.fail(t, Error::Cancelled, false);
        Ok(())
    }

    fn await_credit(&mut self, cluster: usize, t: u32) {
        let Self { peers, links, threads, .. } = self;
        threads[t as usize].state = State::AwaitingCredit;
        peers[cluster].waiting.push_back(links, t);
        self.pump(cluster);
    }

    /// Sends requests while there is credit.
    pub(crate) fn pump(&mut self, cluster: usize) {
        while self.peers[cluster].credit > 0 {
            let Self { peers, links, .. } = self;
            let Some(index) = peers[cluster].waiting.pop_front(links) else { return };
            let packet = match (index as usize).checked_sub(self.threads.len()) {
                Some(proxy) => {
                    let Proxy { sender, receiver } =
                        core::mem::replace(&mut self.proxies[proxy], Proxy::UNUSED);
                    header(BOUNCE, sender, receiver)
                }
                None => self.request_of(index),
            };
            self.peers[cluster].credit -= 1;
            self.push(cluster, &packet);
        }
    }

    /// The request that thread `t` has waited to send.
    fn request_of(&mut self, t: u32) -> Packet {
        let thread = &mut self.threads[t as usize];
        if !thread.pull.is_nil() {
            thread.state = State::Pulling;
            return header(PULL, thread.pull, thread.id);
        }
        thread.state = State::AwaitingResponse;
        let message = self.read_message(t);
        let thread = &self.threads[t as usize];
        let mut packet = header(SEND, thread.id, thread.op.dest);
        packet.header[SPACE] = self.spaces[usize::from(thread.space)].id.0;
        packet.header[DOMAIN] = u64::from(message.domain)
            | if self.is_granted(t, thread.op.dest) { GRANTED } else { 0 }
            | if thread.op.send_timeout.is_poll() { NO_WAIT } else { 0 };
        packet.header[TAG] = message.tag.0;
        packet.used = message.tag.words();
        packet.words[..packet.used].copy_from_slice(&message.words[..packet.used]);
        packet
    }

    fn push(&mut self, cluster: usize, packet: &Packet) {
        let peer = &self.peers[cluster];
        let pushed = peer.outbound.is_some_and(|ring| ring.push(packet));
        if !pushed {
            let code = skerry_abi::syscall::exit::KERNEL_PANIC;
            self.hal
                .fatal(code, format_args!("ring to cluster {cluster} overflows: the credit rule is broken"));
        }
        self.hal.kick(peer.doorbell);
    }

    /// Handles everything that has arrived from other clusters.
    pub fn poll_rings(&mut self) {
        for cluster in 0..self.peers.len() {
            while self.poll_one(cluster) {}
        }
    }

    /// Handles the oldest packet from a cluster; `false` if there is none.
    pub(crate) fn poll_one(&mut self, cluster: usize) -> bool {
        let packet = self.peers[cluster].inbound.and_then(|ring| ring.pop());
        if let Some(packet) = &packet {
            self.receive_packet(cluster, packet);
        }
        packet.is_some()
    }

    fn receive_packet(&mut self, cluster: usize, packet: &Packet) {
        let (sender, receiver) = (ThreadId(packet.header[SENDER]), ThreadId(packet.header[RECEIVER]));
        match packet.header[KIND] {
            SEND => {
                let answer = match self.accept(packet) {
                    Ok(answer) => answer,
                    Err(error) => {
                        let mut answer = header(FAILED, sender, receiver);
                        answer.header[SPACE] = error.code();
                        answer
                    }
                };
                self.push(cluster, &answer);
            }
            PULL => match self.find(sender) {
                Some(t) if self.is_queued_at(t, receiver) => {
                    self.push(cluster, &header(ACK, sender, receiver));
                    self.threads[t as usize].announced = true;
                    self.await_credit(cluster, t);
                }
                found => {
                    self.push(cluster, &header(GONE, sender, receiver));
                    self.reap_doomed(found);
                }
            },
            BOUNCE => {
                self.push(cluster, &header(ACK, sender, receiver));
                match self.find(sender) {
                    Some(t) if self.is_queued_at(t, receiver) => self.fail_send(t, Error::NoSuchThread),
                    found => self.reap_doomed(found),
                }
            }
            answer => {
                self.peers[cluster].credit += 1;
                self.receive_answer(answer, packet, sender, receiver);
                self.pump(cluster);
            }
        }
    }

    fn receive_answer(&mut self, answer: u64, packet: &Packet, sender: ThreadId, receiver: ThreadId) {
        match (answer, self.find(sender), self.find(receiver)) {
            (DELIVERED | FAILED, Some(t), _) if self.threads[t as usize].doomed => self.reap(t),
            (DELIVERED, Some(t), _) => {
                let thread = &mut self.threads[t as usize];
                let call = thread.op.is_call();
                thread.reply_space = if call { SpaceId(packet.header[SPACE]) } else { SpaceId::NIL };
                self.receive_phase(t);
            }
            (FAILED, Some(t), _) => self.fail_send(t, Error::from_code(packet.header[SPACE])),
            (GONE, _, Some(t)) if self.threads[t as usize].doomed => self.reap(t),
            (GONE, _, Some(t)) if self.threads[t as usize].state == State::Pulling => {
                self.threads[t as usize].pull = ThreadId::NIL;
                self.receive_phase(t);
            }
            _ => {}
        }
    }

    fn is_queued_at(&self, t: u32, receiver: ThreadId) -> bool {
        let thread = &self.threads[t as usize];
        thread.state == State::AwaitingResponse && thread.op.dest == receiver && !thread.doomed
    }

    fn reap_doomed(&mut self, found: Option<u32>) {
        if let Some(t) = found.filter(|&t| self.threads[t as usize].doomed) {
            self.reap(t);
        }
    }

    /// A message from another cluster: takes it, or remembers its sender. Returns the answer.
    fn accept(&mut self, packet: &Packet) -> Result<Packet, Error> {
        let (sender, receiver) = (ThreadId(packet.header[SENDER]), ThreadId(packet.header[RECEIVER]));
        let (from_space, flags) = (SpaceId(packet.header[SPACE]), packet.header[DOMAIN]);
        let t = self.find(receiver).ok_or(Error::NoSuchThread)?;
        let thread = &self.threads[t as usize];
        let space = &self.spaces[usize::from(thread.space)];
        let domain = flags as u32;
        if domain != space.domain && flags & GRANTED == 0 && !thread.awaits_reply_of(from_space) {
            return Err(Error::NotPermitted);
        }
        let space = space.id;
        let pulling = thread.state == State::Pulling && thread.pull == sender;
        if pulling && thread.doomed {
            self.reap(t);
            return Err(Error::NoSuchThread);
        }
        if pulling || thread.accepts(sender, from_space) {
            let mut words = [0; MAX_WORDS];
            words[..packet.used].copy_from_slice(&packet.words[..packet.used]);
            self.deliver(t, &Message { sender, domain, tag: Tag(packet.header[TAG]), words });
            let mut answer = header(DELIVERED, sender, receiver);
            answer.header[SPACE] = space.0;
            return Ok(answer);
        }
        if flags & NO_WAIT != 0 {
            return Err(Error::Timeout);
        }
        let proxy = self.proxies.iter().position(|p| p.sender.is_nil()).ok_or(Error::OutOfKernelMemory)?;
        self.proxies[proxy] = Proxy { sender, receiver };
        let Self { threads, links, .. } = self;
        let index = (threads.len() + proxy) as u32;
        threads[t as usize].senders.push_back(links, index);
        Ok(header(QUEUED, sender, receiver))
    }
}

fn header(kind: u64, sender: ThreadId, receiver: ThreadId) -> Packet {
    let mut packet = Packet::EMPTY;
    packet.header[KIND] = kind;
    packet.header[SENDER] = sender.0;
    packet.header[RECEIVER] = receiver.0;
    packet
}

impl Proxy {
    /// A proxy for nobody.
    pub const UNUSED: Self = Self { sender: ThreadId::NIL, receiver: ThreadId::NIL };
}
