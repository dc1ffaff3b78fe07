//! Traces in files.
//!
//! ```text
//! file    = "SKRYMISS" version:u16 pages threads { thread } checksum:u64
//! thread  = cpu events length:u64 { event }            length: bytes of the events
//! event   = tag [ argument ]
//! miss    = tag page gap [ lines ]                     page: difference to the thread's last one, zigzag; lines unless it is 1
//! tag     = u8: bits 0-2 kind, 3 written, 4-5 overlap, 6 one line
//! ```
//!
//! Numbers without a type are LEB128, the others little-endian. Kinds: 0 miss, 1 compute, 2 barrier, 3 lock, 4 unlock, 5 move, 6 advise. The checksum is
//! FNV-1a of all bytes before it. A reader refuses versions that it does not know; a new kind of event is a new version.

use std::io::{self, Read, Write};

use skerry_cost_model::latency::Overlap;
use skerry_policy::Advice;

use crate::trace::{Item, Miss, Thread, Trace};

const MAGIC: &[u8; 8] = b"SKRYMISS";
/// The version that is written and read.
pub const VERSION: u16 = 1;
const ONE_LINE: u8 = 1 << 6;

/// Writes a trace.
///
/// # Errors
/// Those of the writer.
pub fn write(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    number(&mut bytes, trace.pages.into());
    number(&mut bytes, trace.threads.len() as u64);
    for thread in &trace.threads {
        let mut events = Vec::with_capacity(thread.events.len() * 4);
        let mut last = 0;
        thread.events.iter().for_each(|event| encode(&mut events, event.item(), &mut last));
        number(&mut bytes, thread.cpu.into());
        number(&mut bytes, thread.events.len() as u64);
        bytes.extend_from_slice(&(events.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&events);
    }
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    out.write_all(&bytes)
}

fn encode(out: &mut Vec<u8>, item: Item, last: &mut u32) {
    let mut with = |kind: u8, argument: u32| {
        out.push(kind);
        number(out, argument.into());
    };
    match item {
        Item::Miss(Miss { page, lines, gap, write, overlap }) => {
            let overlap = overlap_number(overlap);
            let one = if lines == 1 { ONE_LINE } else { 0 };
            out.push(u8::from(write) << 3 | overlap << 4 | one);
            number(out, zigzag(i64::from(page) - i64::from(*last)));
            number(out, gap.into());
            if lines != 1 {
                out.push(lines);
            }
            *last = page;
        }
        Item::Compute(cycles) => with(1, cycles),
        Item::Barrier => out.push(2),
        Item::Lock(lock) => with(3, lock),
        Item::Unlock(lock) => with(4, lock),
        Item::Move(cpu) => with(5, cpu),
        Item::Advise(advice) => with(6, advice_number(advice)),
    }
}

/// Reads a trace.
///
/// # Errors
/// What is wrong with it, in a line.
pub fn read(input: &mut impl Read) -> Result<Trace, String> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    decode(&bytes).ok_or_else(|| "it ends early or says something impossible".to_owned()).flatten()
}

fn decode(bytes: &[u8]) -> Option<Result<Trace, String>> {
    if bytes.get(..8)? != MAGIC {
        return Some(Err("it is no trace of misses".into()));
    }
    let version = u16::from_le_bytes(bytes.get(8..10)?.try_into().ok()?);
    if version != VERSION {
        return Some(Err(format!("it has version {version}; known is {VERSION}")));
    }
    let end = bytes.len().checked_sub(8)?;
    let sum = u64::from_le_bytes(bytes.get(end..)?.try_into().ok()?);
    if checksum(bytes.get(..end)?) != sum {
        return Some(Err("it is damaged: the checksum is wrong".into()));
    }
    let mut input = Input { bytes: bytes.get(10..end)? };
    let mut trace = Trace { pages: input.small()?, threads: Vec::new() };
    for _ in 0..input.small()? {
        let (cpu, events) = (input.small()?, input.number()?);
        let length = u64::from_le_bytes(input.take(8)?.try_into().ok()?);
        let mut inside = Input { bytes: input.take(usize::try_from(length).ok()?)? };
        // An event has a byte at least: nobody can make a reader allocate much with few bytes.
        let mut thread =
            Thread { cpu, events: Vec::with_capacity(usize::try_from(events.min(length)).ok()?) };
        let mut last = 0;
        for _ in 0..events {
            thread.push(inside.event(&mut last)?);
        }
        if !inside.bytes.is_empty() {
            return None;
        }
        trace.threads.push(thread);
    }
    if !input.bytes.is_empty() {
        return None;
    }
    Some(trace.check().map(|()| trace))
}

struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }
    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }
    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    fn small(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }
    fn event(&mut self, last: &mut u32) -> Option<Item> {
        let tag = self.byte()?;
        Some(match tag & 7 {
            0 => {
                let page = u32::try_from(i64::from(*last).checked_add(unzigzag(self.number()?))?).ok()?;
                *last = page;
                let gap = self.number()?.try_into().ok()?;
                let lines = if tag & ONE_LINE != 0 { 1 } else { self.byte()? };
                let overlap = match tag >> 4 & 3 {
                    0 => Overlap::None,
                    1 => Overlap::Independent,
                    2 => Overlap::Stream,
                    _ => return None,
                };
                Item::Miss(Miss { page, lines, gap, write: tag >> 3 & 1 != 0, overlap })
            }
            1 => Item::Compute(self.small()?),
            2 => Item::Barrier,
            3 => Item::Lock(self.small()?),
            4 => Item::Unlock(self.small()?),
            5 => Item::Move(self.small()?),
            6 => Item::Advise(match self.small()? {
                0 => Advice::Normal,
                1 => Advice::NextTouch,
                2 => Advice::ReadMostly,
                _ => return None,
            }),
            _ => return None,
        })
    }
}

const fn overlap_number(overlap: Overlap) -> u8 {
    match overlap {
        Overlap::None => 0,
        Overlap::Independent => 1,
        Overlap::Stream => 2,
    }
}

const fn advice_number(advice: Advice) -> u32 {
    match advice {
        Advice::Normal => 0,
        Advice::NextTouch => 1,
        Advice::ReadMostly => 2,
    }
}

const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Event;
    use proptest::prelude::*;

    fn item() -> impl Strategy<Value = Item> {
        let overlap = prop_oneof![Just(Overlap::None), Just(Overlap::Independent), Just(Overlap::Stream)];
        prop_oneof![
            (0u32..5000, any::<u8>(), any::<u16>(), any::<bool>(), overlap).prop_map(
                |(page, lines, gap, write, overlap)| Item::Miss(Miss { page, lines, gap, write, overlap })
            ),
            any::<u32>().prop_map(Item::Compute),
            Just(Item::Barrier),
            any::<u32>().prop_map(Item::Lock),
            any::<u32>().prop_map(Item::Unlock),
            any::<u32>().prop_map(Item::Move),
            Just(Item::Advise(Advice::NextTouch)),
        ]
    }
    fn trace() -> impl Strategy<Value = Trace> {
        let thread = (any::<u32>(), prop::collection::vec(item().prop_map(Event::new), 0..50));
        let threads = prop::collection::vec(thread.prop_map(|(cpu, events)| Thread { cpu, events }), 1..4);
        threads.prop_map(|threads| Trace { pages: 5000, threads })
    }
    fn bytes(trace: &Trace) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(trace, &mut bytes).unwrap();
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in trace()) {
            prop_assert_eq!(read(&mut bytes(&trace).as_slice()), Ok(trace));
        }

        #[test]
        fn damage_is_noticed(trace in trace(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = bytes(&trace);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(read(&mut bytes.as_slice()).is_err());
        }

        #[test]
        fn nothing_makes_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut file = [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat();
            file.append(&mut bytes);
            let sum = checksum(&file);
            file.extend_from_slice(&sum.to_le_bytes());
            let _ = read(&mut file.as_slice());
        }
    }

    #[test]
    fn mistakes_are_named() {
        let said = |bytes: &[u8]| read(&mut &*bytes).unwrap_err();
        assert!(said(b"not a trace at all").contains("no trace"));
        assert!(said(b"SKRYMISS\x02\x00        ").contains("version 2"));
        assert!(said(b"SKRY").contains("early"));
    }
}
