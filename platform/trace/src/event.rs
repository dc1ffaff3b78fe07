//! What can be recorded, and how it becomes four words.

use core::fmt;
use skerry_abi::{CpuId, Rights, SpaceId, ThreadId};

/// Words of a record.
pub(crate) const WORDS: usize = 4;

/// Something that happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A message was delivered inside the cluster.
    Ipc {
        /// Sender.
        from: ThreadId,
        /// Receiver.
        to: ThreadId,
        /// The message's label.
        label: u32,
    },
    /// A page fault goes to a pager.
    Fault {
        /// Whose.
        thread: ThreadId,
        /// Where.
        address: u64,
        /// What the access needed.
        access: Rights,
    },
    /// An item was mapped.
    Map {
        /// Into this space.
        space: SpaceId,
        /// There.
        address: u64,
        /// log2 of its size.
        bits: u8,
        /// How many pages came with it.
        pages: u32,
    },
    /// What was mapped on from a region was taken back, or restricted.
    Unmap {
        /// The space it was mapped on from.
        space: SpaceId,
        /// The region there.
        address: u64,
        /// log2 of its size.
        bits: u8,
        /// How many mappings were concerned.
        touched: u32,
    },
    /// The CPU goes on with this thread; NIL: it sleeps.
    Switch {
        /// The thread.
        to: ThreadId,
    },
    /// A thread moved to another CPU.
    Migrate {
        /// The thread.
        thread: ThreadId,
        /// The old CPU.
        from: CpuId,
        /// The new CPU.
        to: CpuId,
    },
    /// Caches were cleaned or invalidated by address.
    CacheMaintenance {
        /// First address.
        address: u64,
        /// Bytes.
        bytes: u64,
        /// Invalidated; else cleaned.
        invalidated: bool,
    },
    /// Notification bits for a thread.
    Notification {
        /// The thread.
        thread: ThreadId,
        /// The bits.
        bits: u64,
    },
    /// A device's interrupt.
    Interrupt {
        /// Its id.
        irq: u32,
    },
    /// A placement policy decided about a page. Pagers record it in rings of their own.
    Policy {
        /// The page.
        page: u64,
        /// What was decided: the policy's number for it.
        decision: u8,
        /// Why: likewise.
        cause: u16,
        /// The node it was on.
        from: u16,
        /// The node it is to be on.
        to: u16,
    },
}

/// An event and when it happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// CNTVCT_EL0.
    pub time: u64,
    /// What.
    pub event: Event,
}

/// The second word: kind in the low byte, a small field above it, a larger one in the upper half.
const fn head(kind: u8, small: u16, large: u32) -> u64 {
    kind as u64 | (small as u64) << 8 | (large as u64) << 32
}

impl Record {
    /// As words.
    pub(crate) fn encode(self) -> [u64; WORDS] {
        let (head, a, b) = match self.event {
            Event::Ipc { from, to, label } => (head(1, 0, label), from.0, to.0),
            Event::Fault { thread, address, access } => (head(2, access.bits() as u16, 0), thread.0, address),
            Event::Map { space, address, bits, pages } => (head(3, bits.into(), pages), space.0, address),
            Event::Unmap { space, address, bits, touched } => {
                (head(4, bits.into(), touched), space.0, address)
            }
            Event::Switch { to } => (head(5, 0, 0), to.0, 0),
            Event::Migrate { thread, from, to } => (head(6, from, to.into()), thread.0, 0),
            Event::CacheMaintenance { address, bytes, invalidated } => {
                (head(7, invalidated.into(), 0), address, bytes)
            }
            Event::Notification { thread, bits } => (head(8, 0, 0), thread.0, bits),
            Event::Interrupt { irq } => (head(9, 0, irq), 0, 0),
            Event::Policy { page, decision, cause, from, to } => {
                (head(10, cause, decision.into()), page, u64::from(from) | u64::from(to) << 16)
            }
        };
        [self.time, head, a, b]
    }

    /// The inverse; `None` for a kind that this version does not know.
    pub(crate) fn decode([time, head, a, b]: [u64; WORDS]) -> Option<Self> {
        let (small, large) = ((head >> 8) as u16, (head >> 32) as u32);
        let event = match head as u8 {
            1 => Event::Ipc { from: ThreadId(a), to: ThreadId(b), label: large },
            2 => Event::Fault { thread: ThreadId(a), address: b, access: Rights::from_bits(small.into()) },
            3 => Event::Map { space: SpaceId(a), address: b, bits: small as u8, pages: large },
            4 => Event::Unmap { space: SpaceId(a), address: b, bits: small as u8, touched: large },
            5 => Event::Switch { to: ThreadId(a) },
            6 => Event::Migrate { thread: ThreadId(a), from: small, to: large as CpuId },
            7 => Event::CacheMaintenance { address: a, bytes: b, invalidated: small != 0 },
            8 => Event::Notification { thread: ThreadId(a), bits: b },
            9 => Event::Interrupt { irq: large },
            10 => Event::Policy {
                page: a,
                decision: large as u8,
                cause: small,
                from: b as u16,
                to: (b >> 16) as u16,
            },
            _ => return None,
        };
        Some(Self { time, event })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:x?}", self.time, self.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_survives_encoding() {
        let (thread, other) = (ThreadId::new(1, 2, 3), ThreadId::new(4, 5, 6));
        let space = SpaceId::new(7, 8, 9);
        let events = [
            Event::Ipc { from: thread, to: other, label: 0xffff_0004 },
            Event::Fault { thread, address: 0x7f_ffff_ffff, access: Rights::W },
            Event::Map { space, address: 0x1000, bits: 21, pages: 512 },
            Event::Unmap { space, address: 0x2000, bits: 39, touched: u32::MAX },
            Event::Switch { to: ThreadId::NIL },
            Event::Migrate { thread, from: 511, to: 3 },
            Event::CacheMaintenance { address: 0x4000_0000, bytes: 640, invalidated: false },
            Event::CacheMaintenance { address: 0x4000_0280, bytes: 64, invalidated: true },
            Event::Notification { thread, bits: u64::MAX },
            Event::Interrupt { irq: 1019 },
            Event::Policy { page: 0x5000, decision: 255, cause: 0xbeef, from: 127, to: 0xffff },
        ];
        for event in events {
            let record = Record { time: u64::MAX - 1, event };
            assert_eq!(Record::decode(record.encode()), Some(record));
        }
        assert_eq!(Record::decode([0; WORDS]), None);
        assert_eq!(Record::decode([1, 0xff, 2, 3]), None);
    }
}
