//! Words of a node's local table.
//!
//! One word per page and space of a node: what the node's kernel may have mapped there. It is three things in one. It is the
//! *guard* of the map items that the node's pager sends: the kernel drops an item whose word has changed since, so whoever
//! changes the word and then unmaps has seen the last of that mapping. It is a lock among the pager threads
//! of the node while one of them asks the master (busy). And it is how a worker stops such a thread without waiting for
//! it: the worker sets *revoked* in the busy word, and the thread, which can only install by replacing the
//! word it knows, finds out.
//!
//! A page that came together with others has an answer that several pages have in common, which one word cannot guard: see
//! [`crate::fault::Group`]. Its local word says so.
//!
//! Of a page that is the node's own business it also says which rights threads have, if those are not the region's (*limited*), whether there is
//! a frame or not.
//!
//! Bits 0..2 state, 2..5 rights, 5 contended, 6 revoked, 7 own copy, 8 in company, 9 limited, 28..64 frame number; the rest zero.

use core::fmt;

use skerry_abi::Rights;
use skerry_abi::fpage::PAGE_BITS;

const BUSY: u64 = 1;
const PRESENT: u64 = 2;
const CONTENDED: u64 = 1 << 5;
const REVOKED: u64 = 1 << 6;
const OWN: u64 = 1 << 7;
const IN_COMPANY: u64 = 1 << 8;
const LIMITED: u64 = 1 << 9;

/// A word.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Local(pub u64);

impl Local {
    /// The node does not map the page.
    pub const EMPTY: Self = Self(0);

    /// The node may map this frame, at most with these rights.
    pub const fn present(frame: u64, rights: Rights) -> Self {
        Self(frame >> PAGE_BITS << 28 | rights.bits() << 2 | PRESENT)
    }
    /// The node may map this copy of its own: whoever takes it away frees it.
    pub const fn copy(frame: u64, rights: Rights) -> Self {
        Self(Self::present(frame, rights).0 | OWN)
    }
    /// The same; an answer that maps it may be guarded by the word of its group.
    #[must_use]
    pub const fn in_company(self) -> Self {
        Self(self.0 | IN_COMPANY)
    }
    /// The same, while a pager thread is about to change it. What is mapped stays.
    #[must_use]
    pub const fn busy(self) -> Self {
        Self(self.0 & !(3 | CONTENDED | REVOKED) | BUSY)
    }
    /// Another thread waits for the change.
    #[must_use]
    pub const fn contended(self) -> Self {
        Self(self.0 | CONTENDED)
    }
    /// The page was taken away, or rights to it, since the word became busy.
    #[must_use]
    pub const fn revoked(self) -> Self {
        Self(self.0 | REVOKED)
    }
    /// With these rights at most; without any frame if `rights` is `None`.
    #[must_use]
    pub const fn limited(self, rights: Option<Rights>) -> Self {
        match rights {
            None => Self(self.0 & (3 | CONTENDED | REVOKED)),
            Some(rights) => Self(self.0 & !(7 << 2) | (self.0 >> 2 & rights.bits()) << 2),
        }
    }
    /// With these rights, whatever the region's are: what is taken from or given to the threads of this node.
    #[must_use]
    pub const fn ruled(self, rights: Rights) -> Self {
        Self(self.allowing(rights).0 | LIMITED)
    }
    /// The rights that threads have if nobody has said anything else than `usual`.
    pub const fn rights_or(self, usual: Rights) -> Rights {
        if self.0 & LIMITED == 0 { usual } else { self.rights() }
    }
    /// The same frame and state, with what `other` says about rights.
    #[must_use]
    pub const fn ruled_as(self, other: Self) -> Self {
        if other.0 & LIMITED == 0 { self } else { self.ruled(other.rights()) }
    }
    /// With these rights.
    #[must_use]
    pub const fn allowing(self, rights: Rights) -> Self {
        Self(self.0 & !(7 << 2) | rights.bits() << 2)
    }
    /// Nothing is mapped and nobody is about to.
    pub const fn is_empty(self) -> bool {
        self.0 & 3 == 0
    }
    /// A thread is about to change it.
    pub const fn is_busy(self) -> bool {
        self.0 & 3 == BUSY
    }
    /// Its frame may be mapped with its rights.
    pub const fn is_present(self) -> bool {
        self.0 & 3 == PRESENT
    }
    /// Another thread waits.
    pub const fn is_contended(self) -> bool {
        self.0 & CONTENDED != 0
    }
    /// See [`Local::revoked`].
    pub const fn is_revoked(self) -> bool {
        self.0 & REVOKED != 0
    }
    /// See [`Local::copy`].
    pub const fn is_copy(self) -> bool {
        self.0 & OWN != 0
    }
    /// See [`Local::in_company`].
    pub const fn is_in_company(self) -> bool {
        self.0 & IN_COMPANY != 0
    }
    /// What it was before it became busy, or what is left of that.
    #[must_use]
    pub const fn settled(self) -> Self {
        match (self.frame(), self.0 & LIMITED) {
            (0, 0) => Self::EMPTY,
            (0, _) => Self(self.0 & (LIMITED | 7 << 2)),
            _ => Self(self.0 & !(3 | CONTENDED | REVOKED) | PRESENT),
        }
    }
    /// The frame that may be mapped; 0 if there is none.
    pub const fn frame(self) -> u64 {
        self.0 >> 28 << PAGE_BITS
    }
    /// The most it is mapped with.
    pub const fn rights(self) -> Rights {
        Rights::from_bits(self.0 >> 2)
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = ["empty", "busy", "present", "?"][(self.0 & 3) as usize];
        write!(f, "{state} {:#x}:{:?}", self.frame(), self.rights())?;
        f.write_str(if self.is_contended() { " contended" } else { "" })?;
        f.write_str(if self.is_revoked() { " revoked" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_remembers_what_is_mapped() {
        let word = Local::present(0xf_ffff_ffff << 12, Rights::RW);
        let busy = word.busy().contended().revoked();
        assert!(busy.is_busy() && busy.is_contended() && busy.is_revoked() && !busy.is_present());
        assert_eq!((busy.frame(), busy.rights()), (word.frame(), Rights::RW));
        assert_eq!(busy.limited(Some(Rights::RX)).rights(), Rights::R);
        let without = busy.limited(None);
        assert_eq!((without.frame(), without.is_revoked(), without.is_contended()), (0, true, true));
        assert_eq!((busy.busy(), busy.settled(), without.settled()), (word.busy(), word, Local::EMPTY));
        let copy = Local::copy(0x1000, Rights::R);
        assert!(
            copy.busy().is_copy() && copy.busy().settled() == copy && !copy.busy().limited(None).is_copy()
        );
        let together = word.in_company();
        assert!(together.busy().settled().is_in_company() && !together.limited(None).is_in_company());
        let ruled = Local::EMPTY.ruled(Rights::R);
        assert!(ruled.is_empty() && ruled.busy().is_busy() && ruled.busy().settled() == ruled);
        assert_eq!(
            (ruled.rights_or(Rights::RW), Local::EMPTY.rights_or(Rights::RW)),
            (Rights::R, Rights::RW)
        );
        assert_eq!(copy.ruled_as(ruled.busy()), copy.ruled(Rights::R));
        assert!(Local::EMPTY.is_empty() && Local::EMPTY.busy().is_busy() && Local::EMPTY.busy().frame() == 0);
    }
}
