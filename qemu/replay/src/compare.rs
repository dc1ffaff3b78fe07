//! Policies × workloads: what `bench policies` and `replay` report.

use skerry_policy::{Policy, SpecError, Visitor, with};

use crate::engine::{Settings, replay};
use crate::machine::Machine;
use crate::optimum::Optimum;
use crate::outcome::{Outcome, gap_closed};
use crate::synthetic::{Shape, Workload};
use crate::trace::Trace;

/// A policy on a trace.
#[derive(Clone, Debug)]
pub struct Row {
    /// The policy, as it was written.
    pub policy: String,
    /// What came of it.
    pub outcome: Outcome,
    /// How much of the gap it closes, if there is one.
    pub gap_closed: Option<f64>,
    /// Time in percent of first touch's, less 100: what it is slower.
    pub slower: f64,
}

/// All policies on a trace.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The optimum and first touch.
    pub optimum: Optimum,
    /// The policies.
    pub rows: Vec<Row>,
}

struct Replay<'a>(&'a Machine, &'a Trace, Settings);
impl Visitor for Replay<'_> {
    type Out = Outcome;
    fn visit<P: Policy + Clone + Send + 'static>(self, policy: P) -> Outcome {
        replay(self.0, self.1, &policy, self.2, &mut ())
    }
}

/// Replays a trace with the policy that `text` names.
///
/// # Errors
/// [`SpecError`].
pub fn by_name<'a>(
    machine: &Machine,
    trace: &Trace,
    text: &'a str,
    settings: Settings,
) -> Result<Outcome, SpecError<'a>> {
    with(text, Replay(machine, trace, settings))
}

/// Compares policies on a trace.
///
/// # Errors
/// [`SpecError`].
pub fn policies<'a>(
    machine: &Machine,
    trace: &Trace,
    names: &[&'a str],
    settings: Settings,
) -> Result<Comparison, SpecError<'a>> {
    let optimum = Optimum::of(machine, trace, settings);
    let row = |&name: &&'a str| {
        let outcome = by_name(machine, trace, name, settings)?;
        let first_touch = optimum.first_touch.time;
        Ok(Row {
            policy: name.to_owned(),
            gap_closed: gap_closed(first_touch, optimum.time, outcome.time),
            slower: outcome.time as f64 * 100.0 / first_touch.max(1) as f64 - 100.0,
            outcome,
        })
    };
    let rows = names.iter().map(row).collect::<Result<_, _>>()?;
    Ok(Comparison { optimum, rows })
}

/// The machine as a workload wants it, and its trace.
pub fn prepare(machine: &Machine, workload: &Workload, shape: &Shape) -> (Machine, Trace) {
    let trace = (workload.make)(shape);
    let mut machine = machine.clone();
    if let (Some(room), Some(node)) = (workload.room, machine.nodes.get_mut(1)) {
        node.frames = node.frames.min((u64::from(trace.pages) * room / 1000).max(1));
    }
    (machine, trace)
}

/// The middle of several numbers.
pub fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let upper = *numbers.get(numbers.len() / 2)?;
    let lower = *numbers.get((numbers.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}
