//! What tells two states of the machine apart.
//!
//! Everything that a kernel's later behaviour depends on must be in the hash; what is in it without need (registers with old
//! contents, say) costs states, but hides nothing. Left out: the order of run queues, since the model lets any thread that is
//! ready run, and ring positions, since they are only compared with each other.

use super::machine::Machine;
use crate::queue::{Link, Queue};
use crate::remote::{KIND, TAG, kind};
use crate::ring::{HEADER, Lane, Slot};
use core::hash::{Hash, Hasher};
use core::sync::atomic::Ordering;
use skerry_abi::Tag;

pub(super) fn of(machine: &Machine<'_>, sound: bool) -> u64 {
    let mut hasher = Fast(0);
    sound.hash(&mut hasher);
    machine.ghost.hash(&mut hasher);
    for (me, k) in machine.kernels.iter().enumerate() {
        for thread in k.threads.iter() {
            thread.hash(&mut hasher);
            queue(k.links, &thread.senders, &mut hasher);
        }
        k.guests.iter().for_each(|guest| guest.hash(&mut hasher));
        for (other, peer) in k.peers.iter().enumerate() {
            queue(k.links, &peer.waiting, &mut hasher);
            (peer.down, peer.told).hash(&mut hasher);
            if other == me {
                continue;
            }
            let ring = machine.rings.between(other, me);
            (k.bells.rings(other), ring.is_wanted()).hash(&mut hasher);
            for lane in [Lane::Requests, Lane::Responses] {
                ring.waiting(lane).for_each(|slot| packet(slot, &mut hasher));
                u32::MAX.hash(&mut hasher);
            }
        }
        for cpu in k.cpus.iter() {
            cpu.current().hash(&mut hasher);
        }
        for cold in k.cold.iter() {
            queue(k.links, &cold.expecting, &mut hasher);
            if machine.moves() || machine.cancels() {
                cold.hash(&mut hasher);
            }
        }
        if machine.moves() {
            machine.ids.iter().for_each(|&id| k.hints.get(id).hash(&mut hasher));
        }
        k.chores.hash(&mut hasher);
        for space in k.spaces.iter() {
            (space.id, space.live, space.threads).hash(&mut hasher);
        }
        k.hal.now.hash(&mut hasher);
    }
    hasher.finish()
}

fn packet(slot: Slot<'_>, hasher: &mut Fast) {
    let word = |i: usize| slot[i].load(Ordering::Relaxed);
    (0..TAG).for_each(|i| word(i).hash(hasher));
    let words = match word(KIND) & 0xffff_ffff {
        kind::SEND | kind::REPLY | kind::DATA => Tag(word(TAG)).words(),
        kind::NOTIFY | kind::MISSED_NOTES => 0,
        _ => return,
    };
    word(TAG).hash(hasher);
    (HEADER..HEADER + words).for_each(|i| word(i).hash(hasher));
}

fn queue(links: &[Link], queue: &Queue, hasher: &mut Fast) {
    let mut next = queue.head();
    while let Some(index) = next {
        index.hash(hasher);
        next = Queue::next(links, index);
    }
    u32::MAX.hash(hasher);
}

/// A quick hash of words: multiply and fold, as in wyhash.
struct Fast(u64);

impl Fast {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = (product as u64 ^ (product >> 64) as u64).rotate_left(23).wrapping_add(word);
    }
}

impl Hasher for Fast {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }
    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }
    fn write_u32(&mut self, word: u32) {
        self.mix(word.into());
    }
    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }
}
