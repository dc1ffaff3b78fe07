//! Modelled time.

/// A point or a span of modelled time, in 1/256 of a cycle: a core that starts several instructions per cycle needs
/// fractions, and integers make equal runs equal.
pub type Time = u64;

/// One cycle.
pub const CYCLE: Time = 256;

/// Whole cycles as a span of time.
pub const fn cycles(count: u64) -> Time {
    count * CYCLE
}

/// A span in cycles, rounded.
pub const fn to_cycles(time: Time) -> u64 {
    (time + CYCLE / 2) / CYCLE
}
