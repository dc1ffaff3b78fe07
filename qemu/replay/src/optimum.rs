//! The offline optimum: how fast a trace could be if somebody had known it before.
//!
//! Three steps, repeated:
//! 1. [`log`]: what every page is used for, in which order, as it was replayed with first touch.
//! 2. [`plan`]: per page, by dynamic programming over nodes and time, where its frame is best at each moment, when moving it is worth its price, and
//!    for which stretches of reads copies are.
//! 3. [`timing`]: how long each thread then takes between barriers, with the load that all of them put on controllers and links.
//!
//! Pages are planned one by one, so a plan does not know of the load that others' plans make; the next round plans with the latencies that the last timing
//! found. The fastest of all rounds, of first touch and of interleaving, timed the same way, is the optimum.
//!
//! It is a bound that nobody has to reach, not a proof that nothing is faster: it knows the future, moves pages at no delay, and
//! samples nothing; but pages are planned apart, and locks are not waited for.

pub mod log;
pub mod plan;
pub mod timing;

use skerry_policy::shipped::first_touch::FirstTouch;

use crate::engine::{Settings, replay};
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::trace::Trace;

use log::Log;
use plan::{Assignment, Planner, Prices};
use timing::Timing;

/// How often plans are made with the load of the last ones.
const ROUNDS: usize = 3;

/// The optimum of a trace, and what first touch made of it.
#[derive(Clone, Debug)]
pub struct Optimum {
    /// Modelled cycles.
    pub time: u64,
    /// First touch, replayed.
    pub first_touch: Outcome,
    /// First touch, timed as the plans are: how far this timing is from a replay.
    pub first_touch_timed: u64,
}

impl Optimum {
    /// Finds it.
    pub fn of(machine: &Machine, trace: &Trace, settings: Settings) -> Self {
        let mut log = Log::new(trace);
        let first_touch = replay(machine, trace, &FirstTouch, settings, &mut log);
        let log = log.by_page();
        let timing = Timing::new(machine, &log);
        let mut planner = Planner::new(machine, &log);
        let touched =
            timing.time(&planner.fixed(&log, &Prices::idle(machine, log.intervals), plan::first_touch));
        let spread =
            timing.time(&planner.fixed(&log, &Prices::idle(machine, log.intervals), plan::interleave));
        let mut best = touched.total.min(spread.total);
        let mut prices = Prices::idle(machine, log.intervals);
        for _ in 0..ROUNDS {
            let assignment: Assignment = planner.plan(&log, &prices);
            let timed = timing.time(&assignment);
            best = best.min(timed.total);
            prices = Prices::loaded(machine, &timed.loads);
        }
        Self { time: best.min(first_touch.time), first_touch, first_touch_timed: touched.total }
    }
}
