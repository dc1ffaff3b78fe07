//! IPC messages: tag, message registers (MRs), typed items, time-outs, and what the kernel itself sends.
//!
//! A message is the tag (MR0) and up to 63 further words: first `untyped` plain words, then `typed` words
//! that form items of two or four words each ([`crate::item`]). MR0..MR8 travel in registers, all of them whatever the tag says (a sender that uses
//! fewer sets the others to what everybody may see); MR9..MR63 travel in the UTCBs.

use crate::{Error, Fpage, Rights};

/// Message registers behind the tag.
pub const MAX_WORDS: usize = 63;
/// Message registers behind the tag that travel in CPU registers.
pub const REGISTER_WORDS: usize = 8;

/// MR0: bits 0..6 untyped words, 6..12 typed words, 12 error flag, 32..64 label.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Tag(pub u64);

impl Tag {
    const ERROR: u64 = 1 << 12;
    /// What a sender decides of a tag; the kernel clears the rest.
    pub const MASK: u64 = 0xffff_ffff_0000_0fff;

    /// A tag; `untyped + typed` must not exceed [`MAX_WORDS`] (the kernel refuses it).
    pub const fn new(label: u32, untyped: usize, typed: usize) -> Self {
        Self((label as u64) << 32 | (typed as u64 & 0x3f) << 6 | (untyped as u64 & 0x3f))
    }
    /// The tag the kernel hands to a thread whose IPC failed. The label holds the error code, bit 13 says that the
    /// *receive* phase failed (else the send phase).
    pub const fn failed(error: Error, in_receive: bool) -> Self {
        Self(error.code() << 32 | Self::ERROR | (in_receive as u64) << 13)
    }
    /// What the message is about: for servers, interface and operation.
    pub const fn label(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// Number of untyped words.
    pub const fn untyped(self) -> usize {
        (self.0 & 0x3f) as usize
    }
    /// Number of words that belong to typed items (two per item).
    pub const fn typed(self) -> usize {
        ((self.0 >> 6) & 0x3f) as usize
    }
    /// All words behind the tag.
    pub const fn words(self) -> usize {
        self.untyped() + self.typed()
    }
    /// The error, if the IPC failed. Senders cannot set the flag: the kernel clears it.
    pub const fn error(self) -> Option<Error> {
        if self.0 & Self::ERROR == 0 { None } else { Some(Error::from_code(self.0 >> 32)) }
    }
    /// Whether the failure was in the receive phase.
    pub const fn receive_failed(self) -> bool {
        self.0 & Self::ERROR != 0 && self.0 & (1 << 13) != 0
    }
    /// The tag as the kernel delivers it: error flags and reserved bits cleared.
    pub const fn sanitized(self) -> Self {
        Self(self.0 & Self::MASK)
    }
}

/// The plain typed item: map `fpage` of the sender into the receiver at `dest` (both in one cluster). The full form with
/// grants, guards and cacheability is [`crate::Item`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapItem {
    /// What the sender maps, with the rights it wants to give.
    pub fpage: Fpage,
    /// Where it appears in the receiver's space; aligned to the fpage's size.
    pub dest: u64,
}

impl MapItem {
    /// The two words of the item.
    pub const fn words(self) -> [u64; 2] {
        [self.fpage.word(), self.dest]
    }
    /// Decodes two words of a message.
    ///
    /// # Errors
    /// [`Error::BadArgument`] if the fpage or the destination is malformed.
    pub const fn decode(words: [u64; 2]) -> Result<Self, Error> {
        match Fpage::decode(words[0]) {
            Some(fpage) if words[1] & (fpage.size() - 1) == 0 && words[1] < crate::layout::USER_END => {
                Ok(Self { fpage, dest: words[1] })
            }
            _ => Err(Error::BadArgument),
        }
    }
}

/// How long a phase of an IPC may wait: an absolute time of the counter `CNTVCT_EL0`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct Timeout(pub u64);

impl Timeout {
    /// Do not wait.
    pub const ZERO: Self = Self(0);
    /// Do not wait, and say [`Error::NotWaiting`] whatever the reason: the send time-out of a reply. A server does not care
    /// whether its client was deleted, migrated, cancelled or ran out of patience.
    pub const REPLY: Self = Self(1);
    /// Wait for ever.
    pub const NEVER: Self = Self(u64::MAX);

    /// Whether it is [`Timeout::ZERO`] or [`Timeout::REPLY`].
    pub const fn is_poll(self) -> bool {
        self.0 <= Self::REPLY.0
    }
}

/// Labels of messages that the kernel sends in a thread's name, and of the answers to them.
pub mod kernel_label {
    /// To the pager: MR1 address, MR2 access ([`super::Rights`] bits), MR3 instruction pointer.
    /// The answer carries map items (the receive window is the whole space) and resumes the thread.
    pub const PAGE_FAULT: u32 = 0xffff_0001;
    /// To the exception handler: MR1 ESR, MR2 FAR, MR3 PC, MR4 SP, MR5 PSTATE, MR6..=MR36 x0..x30.
    /// An answer resumes the thread: where it was, or with [`RESUME_WITH`] elsewhere.
    pub const EXCEPTION: u32 = 0xffff_0002;
    /// An answer to [`PAGE_FAULT`]: no mapping will come; raise the fault as an exception instead.
    pub const REJECT_FAULT: u32 = 0xffff_0003;
    /// A notification: sender NIL, domain [`crate::id::domain::KERNEL`], MR1 the bits that were notified since the last one.
    pub const NOTIFICATION: u32 = 0xffff_0004;
    /// An answer to [`EXCEPTION`] with [`super::EXCEPTION_WORDS`] untyped words as in the exception's message: the thread
    /// resumes with these registers. Of PSTATE only the condition flags count; ESR and FAR do not matter.
    pub const RESUME_WITH: u32 = 0xffff_0005;

    /// Whether only the kernel may send it.
    pub const fn is_reserved(label: u32) -> bool {
        matches!(label, PAGE_FAULT | EXCEPTION | NOTIFICATION)
    }
}

/// Words of an [`kernel_label::EXCEPTION`] message.
pub const EXCEPTION_WORDS: usize = 36;

/// A decoded [`kernel_label::PAGE_FAULT`] message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageFault {
    /// The address that was accessed.
    pub address: u64,
    /// What was tried.
    pub access: Rights,
    /// Where the program was.
    pub ip: u64,
}

/// A thread control block's user part. The kernel fills the first words; the rest carries MR9..MR63.
#[repr(C, align(1024))]
#[derive(Clone, Copy)]
pub struct Utcb {
    /// The thread's own id.
    pub my_id: u64,
    /// The CPU it was created on.
    pub cpu: u64,
    /// Reserved, zero.
    pub reserved: [u64; 6],
    /// Message registers: `mr[0]` is unused, `mr[1..=8]` travel in CPU registers, `mr[9..64]` here.
    pub mr: [u64; 64],
    /// For the program: the kernel neither reads nor writes it.
    pub user: [u64; 56],
}

const _: () = assert!(size_of::<Utcb>() as u64 == crate::layout::UTCB_SIZE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_cannot_forge_an_error() {
        let forged = Tag::failed(Error::NodeDown, true);
        assert_eq!(forged.error(), Some(Error::NodeDown));
        assert_eq!(forged.sanitized().error(), None);
    }

    #[test]
    fn items_must_be_aligned_at_both_ends() {
        let fpage = Fpage::new(0x4000_0000, 21, Rights::RW).unwrap();
        let ok = MapItem { fpage, dest: 0x20_0000 };
        assert_eq!(MapItem::decode(ok.words()), Ok(ok));
        assert!(MapItem::decode([fpage.word(), 0x1000]).is_err());
        assert!(MapItem::decode([fpage.word(), 1 << 40]).is_err());
    }
}
