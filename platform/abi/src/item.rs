//! Typed items of a message: what the sender maps or grants, with everything that can be said about it.
//!
//! | word | |
//! |---|---|
//! | 0 | the [`Fpage`] |
//! | 1 | where it appears, aligned to its size; bit 0 grant, bit 1 guarded, bit 2 joined, bits 4..6 [`Cacheability`], other low bits zero |
//! | 2 | guarded items only: address of an aligned word in the sender's space |
//! | 3 | guarded items only: the value it must have |
//!
//! All items of a message are looked at before the first takes effect, and either all of them do or none: none can build on
//! another, so they must not touch each other. The exception is what guards are for: an item whose guard word has another
//! value at the moment of mapping (under the cluster's lock) is dropped, silently, and the rest of the message arrives. A
//! faulting thread is resumed then, and faults again. A *joined* item is dropped if the one before it is: so one word can guard many.

use crate::{Error, Fpage, MapItem, layout::USER_END};

const GRANT: u64 = 1;
const GUARDED: u64 = 2;
const JOINED: u64 = 4;
const CACHEABILITY_SHIFT: u32 = 4;
const FLAGS: u64 = GRANT | GUARDED | JOINED | 3 << CACHEABILITY_SHIFT;

/// How memory is cached through a mapping. It can only get stricter from sender to receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cacheability {
    /// As the sender has it.
    #[default]
    Inherit,
    /// Normal memory, not cached.
    NonCacheable,
    /// Device-nGnRE; never executable.
    Device,
}

/// A word that decides whether an item takes effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guard {
    /// An aligned word of normal memory in the sender's space.
    pub address: u64,
    /// The item takes effect if the word has this value.
    pub expected: u64,
}

impl Guard {
    /// Whether its address can be one.
    pub const fn is_sound(&self) -> bool {
        self.address.is_multiple_of(8) && self.address < USER_END
    }
}

/// An item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// What the sender maps, with the rights it wants to give.
    pub fpage: Fpage,
    /// Where it appears in the receiver's space; aligned to the fpage's size.
    pub dest: u64,
    /// The mapping *moves*: the sender does not have it any more, and what was mapped on from it goes with it. Only whole
    /// mappings that were themselves received can be granted.
    pub grant: bool,
    /// How it is cached.
    pub cacheability: Cacheability,
    /// When it takes effect; `None`: always.
    pub guard: Option<Guard>,
    /// It takes effect if the item before it does. Then it has no guard of its own.
    pub joined: bool,
}

impl From<MapItem> for Item {
    fn from(MapItem { fpage, dest }: MapItem) -> Self {
        Self { fpage, dest, grant: false, cacheability: Cacheability::Inherit, guard: None, joined: false }
    }
}

impl Item {
    /// In the second word: two more follow.
    pub const GUARDED: u64 = GUARDED;
    /// In the second word: it is joined to the item before it.
    pub const JOINED: u64 = JOINED;

    /// Its words, and how many count.
    pub const fn words(&self) -> ([u64; 4], usize) {
        let joined = if self.joined { JOINED } else { 0 };
        let flags = self.grant as u64 | joined | (self.cacheability as u64) << CACHEABILITY_SHIFT;
        match self.guard {
            None => ([self.fpage.word(), self.dest | flags, 0, 0], 2),
            Some(Guard { address, expected }) => {
                ([self.fpage.word(), self.dest | flags | GUARDED, address, expected], 4)
            }
        }
    }

    /// Decodes the first item of some typed words; also returns how many words it took.
    ///
    /// # Errors
    /// [`Error::BadArgument`] if fpage, destination, flags or guard address are malformed, or words are missing.
    pub fn decode(words: &[u64]) -> Result<(Self, usize), Error> {
        let &[fpage, second, ref rest @ ..] = words else { return Err(Error::BadArgument) };
        let dest = second & !FLAGS;
        let fpage = Fpage::decode(fpage).ok_or(Error::BadArgument)?;
        if dest & (fpage.size() - 1) != 0 || dest >= USER_END {
            return Err(Error::BadArgument);
        }
        let cacheability = match second >> CACHEABILITY_SHIFT & 3 {
            0 => Cacheability::Inherit,
            1 => Cacheability::NonCacheable,
            2 => Cacheability::Device,
            _ => return Err(Error::BadArgument),
        };
        if second & (GUARDED | JOINED) == GUARDED | JOINED {
            return Err(Error::BadArgument);
        }
        let (guard, used) = match (second & GUARDED != 0, rest) {
            (false, _) => (None, 2),
            (true, &[address, expected, ..]) if (Guard { address, expected }).is_sound() => {
                (Some(Guard { address, expected }), 4)
            }
            _ => return Err(Error::BadArgument),
        };
        let (grant, joined) = (second & GRANT != 0, second & JOINED != 0);
        Ok((Self { fpage, dest, grant, cacheability, guard, joined }, used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rights;

    #[test]
    fn what_is_encoded_is_decoded() {
        let fpage = Fpage::new(0x4000_0000, 16, Rights::RW).unwrap();
        let guard = Some(Guard { address: 0x1008, expected: u64::MAX });
        for (grant, guard) in [(false, None), (true, None), (false, guard), (true, guard)] {
            let joined = grant && guard.is_none();
            for cacheability in [Cacheability::Inherit, Cacheability::NonCacheable, Cacheability::Device] {
                let item = Item { fpage, dest: 0x1_0000, grant, cacheability, guard, joined };
                let (words, count) = item.words();
                assert_eq!(Item::decode(&words[..count]), Ok((item, count)));
                assert_eq!(Item::decode(&words[..count - 1]), Err(Error::BadArgument));
            }
        }
    }

    #[test]
    fn malformed_items_are_refused() {
        let fpage = Fpage::new(0x4000_0000, 12, Rights::RW).unwrap().word();
        for second in [0x1006, 0x1008, 0x1030, 0x1040, 0x1800, USER_END, !0xfff] {
            assert_eq!(Item::decode(&[fpage, second]), Err(Error::BadArgument), "{second:#x}");
        }
        for address in [4, USER_END, !7] {
            assert_eq!(Item::decode(&[fpage, 0x1002, address, 0]), Err(Error::BadArgument));
        }
    }
}
