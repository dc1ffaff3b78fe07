//! The evaluation, without a machine: which figures there are, which runs (cells) they need, what they show, which goals are met, and
//! the report. The launcher runs the cells; everything here is computed from their records, so it can be tested without them.
#![forbid(unsafe_code)]

pub mod benches;
pub mod breakdown;
pub mod cell;
pub mod compare;
pub mod crossover;
pub mod csv;
pub mod figure;
pub mod goals;
pub mod metric;
pub mod report;
pub mod results;
pub mod resume;
pub mod setup;

#[cfg(any(test, feature = "invented"))]
pub mod invented;
