//! The machine. One architecture so far.

mod aarch64;
