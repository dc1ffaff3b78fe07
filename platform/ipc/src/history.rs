//! What pagers tell of the past of a page ([`crate::pager::Op::PageHistory`]).

use skerry_abi::ThreadId;

use crate::{Reader, Wire, Writer};

/// What was decided about a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum What {
    /// A fault: a fresh frame.
    Fresh = 1,
    /// A fault: the frame that others have already.
    Installed = 2,
    /// A fault: a copy of the node's own.
    Copied = 3,
    /// A fault: it has to wait for somebody who changes the page.
    Waited = 4,
    /// A fault: the access is not allowed.
    Refused = 5,
    /// A fault: there is no frame.
    NoFrame = 6,
    /// A fault: it wants to write where there are copies, which therefore go.
    Unshared = 7,
    /// A letter of another pager: the node has unmapped it, or taken rights to it away.
    Told = 8,
    /// A request: unmapped everywhere.
    Unmapped = 9,
    /// A request: rights to it are taken away everywhere.
    Restricted = 10,
    /// A request: threads may have more rights to it.
    Allowed = 11,
    /// A request: it lies on this node.
    Moved = 12,
    /// A request: every node that reads it gets a copy.
    Replicated = 13,
    /// It has one frame again.
    Collapsed = 14,
    /// A request: every node has it for itself.
    Parted = 15,
    /// A request: all nodes share it again.
    Joined = 16,
    /// A pager died: as if that one had not led.
    Recovered = 17,
}

impl What {
    /// All.
    pub const ALL: [Self; 17] = [
        Self::Fresh,
        Self::Installed,
        Self::Copied,
        Self::Waited,
        Self::Refused,
        Self::NoFrame,
        Self::Unshared,
        Self::Told,
        Self::Unmapped,
        Self::Restricted,
        Self::Allowed,
        Self::Moved,
        Self::Replicated,
        Self::Collapsed,
        Self::Parted,
        Self::Joined,
        Self::Recovered,
    ];
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fault: fresh frame",
            Self::Installed => "fault: frame of others",
            Self::Copied => "fault: own copy",
            Self::Waited => "fault: waits",
            Self::Refused => "fault: refused",
            Self::NoFrame => "fault: no frame",
            Self::Unshared => "fault: write to copies",
            Self::Told => "letter: taken away",
            Self::Unmapped => "request: unmapped",
            Self::Restricted => "request: restricted",
            Self::Allowed => "request: allowed",
            Self::Moved => "request: moved",
            Self::Replicated => "request: replicated",
            Self::Collapsed => "copies gone",
            Self::Parted => "request: made local",
            Self::Joined => "request: made global",
            Self::Recovered => "recovered",
        }
    }
}

/// Something that became of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// When: the counter.
    pub time: u64,
    /// The cause: the thread that faulted or asked; if a letter was the cause, the pager thread that wrote it.
    pub who: ThreadId,
    /// The decision.
    pub what: What,
    /// The node whose pager decided or was told.
    pub node: u16,
    /// The frame, if the pager that noted it knew it; else 0.
    pub frame: u64,
}

impl Event {
    /// As words.
    pub const fn words(self) -> [u64; 3] {
        let frame = self.frame >> 12 << 24;
        [self.time, self.who.0, frame | (self.node as u64 & 0xffff) << 8 | self.what as u64]
    }
    /// The inverse of [`Event::words`].
    pub fn from_words([time, who, rest]: [u64; 3]) -> Option<Self> {
        let what = What::ALL.into_iter().find(|&what| what as u64 == rest & 0xff)?;
        Some(Self { time, who: ThreadId(who), what, node: (rest >> 8) as u16, frame: rest >> 24 << 12 })
    }
}

impl Wire for Option<Event> {
    const WORDS: usize = 3;
    fn put(&self, out: &mut Writer<'_>) {
        self.map_or([0; 3], Event::words).iter().for_each(|&word| out.put(word));
    }
    fn take(input: &mut Reader<'_>) -> Option<Self> {
        Some(Event::from_words([input.take()?, input.take()?, input.take()?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_words() {
        for what in What::ALL {
            let event = Event { time: 5, who: ThreadId::new(3, 4, 5), what, node: 127, frame: 0x9_8765_4000 };
            assert_eq!(Event::from_words(event.words()), Some(event));
        }
        assert_eq!(Event::from_words([1, 2, 0]), None);
    }
}
