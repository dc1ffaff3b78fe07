//! Names of kernel objects as user programs see them.

use core::fmt;

/// The machine-wide index of a CPU: its position in [`crate::boot::BootInfo::cpus`].
pub type CpuId = u16;

/// An opaque number that a privileged call puts on a space; the spaces of one task share it.
pub type Domain = u32;

/// Domains with a fixed meaning. Tasks get numbers from [`domain::FIRST_TASK`] on.
pub mod domain {
    use super::Domain;
    /// The kernel itself, as the sender of a message.
    pub const KERNEL: Domain = 0;
    /// All root pagers.
    pub const ROOT: Domain = 1;
    /// All app pagers.
    pub const APP_PAGER: Domain = 2;
    /// All system-call servers.
    pub const SYSCALL_SERVER: Domain = 3;
    /// The first domain that a task can get.
    pub const FIRST_TASK: Domain = 16;
}

/// A thread: birth cluster, slot in that cluster's thread table, and generation of the slot.
///
/// Layout: bits 0..16 slot, 16..26 cluster, 26..32 zero, 32..64 generation (at least 1). A slot whose
/// generations are used up is retired, so a stale id never names a newer thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct ThreadId(pub u64);

impl ThreadId {
    /// No thread: "do not send" or "do not receive".
    pub const NIL: Self = Self(0);
    /// Any thread, as the source of an open receive.
    pub const ANY: Self = Self(u64::MAX);

    /// Composes an id.
    pub const fn new(cluster: u16, slot: u16, generation: u32) -> Self {
        Self(slot as u64 | ((cluster as u64 & 0x3ff) << 16) | ((generation as u64) << 32))
    }
    /// The first thread of a cluster's root pager: the kernel creates it in slot 0, and it is never deleted.
    pub const fn root(cluster: u16) -> Self {
        Self::new(cluster, 0, 1)
    }
    /// The cluster the thread was created in.
    pub const fn cluster(self) -> u16 {
        ((self.0 >> 16) & 0x3ff) as u16
    }
    /// The slot in the birth cluster's thread table.
    pub const fn slot(self) -> u16 {
        self.0 as u16
    }
    /// The generation of the slot.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// Whether this is [`ThreadId::NIL`].
    pub const fn is_nil(self) -> bool {
        self.0 == 0
    }
    /// Whether this is [`ThreadId::ANY`].
    pub const fn is_any(self) -> bool {
        self.0 == u64::MAX
    }
}

impl fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NIL => f.write_str("nil"),
            Self::ANY => f.write_str("any"),
            id => write!(f, "t{}.{}.{}", id.cluster(), id.slot(), id.generation()),
        }
    }
}

/// An address space: cluster, slot in that cluster's space table, generation. Same layout as [`ThreadId`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct SpaceId(pub u64);

impl SpaceId {
    /// No space.
    pub const NIL: Self = Self(0);

    /// Composes an id.
    pub const fn new(cluster: u16, slot: u16, generation: u32) -> Self {
        Self(ThreadId::new(cluster, slot, generation).0)
    }
    /// The root pager's space of a cluster: the kernel creates it in slot 0, and it is never destroyed.
    pub const fn root(cluster: u16) -> Self {
        Self::new(cluster, 0, 1)
    }
    /// The cluster the space belongs to, for ever.
    pub const fn cluster(self) -> u16 {
        ThreadId(self.0).cluster()
    }
    /// The slot in the cluster's space table.
    pub const fn slot(self) -> u16 {
        ThreadId(self.0).slot()
    }
    /// The generation of the slot.
    pub const fn generation(self) -> u32 {
        ThreadId(self.0).generation()
    }
}

impl fmt::Debug for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}.{}.{}", self.cluster(), self.slot(), self.generation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_the_packing() {
        let id = ThreadId::new(1023, 0xffff, u32::MAX - 1);
        assert_eq!((id.cluster(), id.slot(), id.generation()), (1023, 0xffff, u32::MAX - 1));
        assert!(!id.is_any() && !id.is_nil());
    }
}
