//! What came of a replay.

use skerry_policy::{Mistake, Node};

/// Counts and modelled times of a replay.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Modelled cycles until the last thread was done.
    pub time: u64,
    /// Lines read from the own node's memory.
    pub local: u64,
    /// Lines read from other nodes' memory.
    pub remote: u64,
    /// Page faults.
    pub faults: u64,
    /// Pages moved.
    pub migrations: u64,
    /// Copies made.
    pub copies: u64,
    /// Replicated pages that were made one again.
    pub collapses: u64,
    /// Messages between pagers because of the policy.
    pub messages: u64,
    /// Cycles of mechanism: faults, moves, copies, scans, messages.
    pub mechanism: u64,
    /// Of these, what finding out about the use of pages took: scans, traps and reports.
    pub sampling: u64,
    /// Cycles of the policy's own code.
    pub policy: u64,
    /// Instances that were contained, and why.
    pub fallen: Vec<(Node, Mistake)>,
    /// The node that had no frame for a strict policy, if the task ended so.
    pub out_of_memory: Option<Node>,
}

impl Outcome {
    /// Lines from the own node's memory, in 1/1000.
    pub fn local_share(&self) -> f64 {
        self.local as f64 / (self.local + self.remote).max(1) as f64
    }
}

/// How much of the gap between first touch and the optimum a time closes. `None`: the gap is less than 1/50, too little to speak of shares.
pub fn gap_closed(first_touch: u64, optimum: u64, time: u64) -> Option<f64> {
    let gap = first_touch as f64 - optimum as f64;
    (gap * 50.0 >= first_touch as f64).then(|| (first_touch as f64 - time as f64) / gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_gap() {
        assert_eq!(gap_closed(200, 100, 125), Some(0.75));
        assert_eq!(gap_closed(200, 100, 220), Some(-0.2));
        assert_eq!(gap_closed(200, 198, 198), None);
    }
}
