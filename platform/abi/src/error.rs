//! Error codes. One list for system calls and IPC; an unknown code decodes to a named variant.

use core::fmt;

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a system call or an IPC failed.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum Error {
            $($(#[$doc])* $name,)*
            /// A code this version does not know.
            Unknown(u32),
        }
        impl Error {
            /// The code that travels in a register; never 0.
            pub const fn code(self) -> u64 {
                match self { $(Self::$name => $code,)* Self::Unknown(code) => code as u64 }
            }
            /// The inverse of [`Error::code`].
            pub const fn from_code(code: u64) -> Self {
                match code { $($code => Self::$name,)* other => Self::Unknown(other as u32) }
            }
        }
        impl fmt::Display for Error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name => f.write_str($text),)*
                    Self::Unknown(code) => write!(f, "unknown error {code}"),
                }
            }
        }
    };
}

errors! {
    /// The caller's space is not privileged.
    NotPrivileged = 2, "not privileged";
    /// The caller may not send to this thread.
    NotPermitted = 3, "no permission to send to this thread";
    /// The thread does not exist (any more).
    NoSuchThread = 4, "no such thread";
    /// The space does not exist (any more).
    NoSuchSpace = 5, "no such space";
    /// An argument is out of its range.
    BadArgument = 6, "bad argument";
    /// The partner was not ready before the time-out.
    Timeout = 7, "timed out";
    /// Somebody cancelled the operation, or the partner was deleted.
    Cancelled = 8, "cancelled";
    /// The thread waits for no reply from this space.
    NotWaiting = 9, "partner waits for no reply from here";
    /// Kernel memory of the cluster, or the space's quota, is used up.
    OutOfKernelMemory = 10, "out of kernel memory";
    /// The pool holds no free frame.
    OutOfMemory = 11, "out of memory";
    /// The receiver accepts no items, or not there.
    WindowTooSmall = 12, "receive window too small";
    /// The sender has no such page to map.
    NothingMapped = 13, "nothing mapped there";
    /// Something else is mapped at the destination.
    AlreadyMapped = 14, "something else is mapped there";
    /// Map and grant items end at the cluster's border.
    ItemAcrossClusters = 15, "map item across clusters";
    /// The partner's cluster does not run.
    NodeDown = 16, "node down";
    /// The request is unknown or malformed.
    BadRequest = 17, "unknown or malformed request";
    /// The caller may not ask for this.
    Refused = 18, "refused";
    /// Not allowed in the present state of the object.
    WrongState = 19, "wrong state";
    /// A fixed table is full, or the caller's domain has its share of it.
    TableFull = 20, "table full";
    /// The task may not use more memory.
    OverQuota = 22, "over the task's memory quota";
    /// The thread is in another cluster now.
    Moved = 21, "the thread is in another cluster";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_inverse_and_unknown_ones_are_named() {
        for code in 1..=64 {
            assert_eq!(Error::from_code(code).code(), code);
        }
        assert_eq!(Error::from_code(999), Error::Unknown(999));
    }
}
