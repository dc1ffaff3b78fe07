//! Who may wait for whom.
//!
//! A thread that serves an interface of level *n* may call interfaces of lower levels only (docs/adr/0006). The levels
//! of the paging protocol are 1 (tasks to pagers) and 0 (pagers among themselves); the services below them, which
//! never call back, have negative numbers. Levels are types so that the rule is a trait bound, checked by the compiler.

/// A level.
pub trait Level {
    /// Its number: calls go to smaller ones.
    const NUMBER: i8;
}

/// Implemented by every level for all levels below it.
#[diagnostic::on_unimplemented(
    message = "code of level `{Self}` must not wait for a server of level `{Lower}`",
    note = "requests go to lower levels only, else two servers could wait for each other"
)]
pub trait Above<Lower: Level>: Level {}

macro_rules! levels {
    () => {};
    ($(#[$doc:meta])* $name:ident = $number:literal $(, $(#[$ldoc:meta])* $lower:ident = $lnumber:literal)*;) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}
        impl Level for $name {
            const NUMBER: i8 = $number;
        }
        $(
            impl Above<$lower> for $name {}
            const _: () = assert!($number > $lnumber);
        )*
        levels!(@rest $($(#[$ldoc])* $lower = $lnumber),*);
    };
    (@rest) => {};
    (@rest $($all:tt)+) => { levels!($($all)+;); };
}

levels! {
    /// Applications.
    App = 2,
    /// Pager threads: requests of tasks.
    Pager = 1,
    /// Pager workers: requests of other pagers.
    Worker = 0,
    /// System-call servers.
    SyscallServer = -1,
    /// Root pagers: directory and end of the run.
    Root = -2,
    /// The console of cluster 0.
    Console = -3;
}
