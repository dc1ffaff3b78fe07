//! Lines from memory by page: who reads what, and where it lies.
//!
//! Every line that a CPU reads from memory is booked once for each phase that is open on that CPU. Lines that an application's threads read by themselves are
//! booked on their virtual page; all others (kernels, servers, walks) together. So for every phase the sums over all rows are the report's
//! `dram_local` and `dram_remote`, node by node.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Rows that are kept; what more pages have goes to the rows `more`.
const MOST: usize = 1 << 18;

/// What lines are booked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A virtual page of an application.
    Page(u64),
    /// Pages of applications that there was no room for.
    More,
    /// Kernels, servers, walks.
    System,
}

/// Where lines come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// A node.
    Node(u16),
    /// The reader's own node.
    Own,
    /// Another node than the reader's.
    Other,
}

/// The table.
#[derive(Debug)]
pub struct Places {
    nodes: usize,
    most: usize,
    rows: BTreeMap<(u16, What, Home), Vec<u64>>,
}

impl Places {
    /// For so many nodes.
    pub fn new(nodes: usize) -> Self {
        Self { nodes, most: MOST, rows: BTreeMap::new() }
    }

    /// Lines come to a CPU of `node` in a phase.
    pub fn add(&mut self, phase: u16, what: What, home: Home, node: u16, lines: u64) {
        if lines == 0 {
            return;
        }
        let own = |home| match home {
            Home::Node(home) if home == node => Home::Own,
            Home::Node(_) => Home::Other,
            same => same,
        };
        let mut key = (phase, what, home);
        if self.rows.len() >= self.most && !self.rows.contains_key(&key) {
            key = (phase, What::More, own(home));
        }
        let row = self.rows.entry(key).or_insert_with(|| vec![0; self.nodes]);
        row[usize::from(node)] += lines;
    }

    /// As CSV: phase, page, home, and the lines of every node.
    pub fn csv(&self) -> String {
        let mut text = String::from("phase,page,home");
        (0..self.nodes).for_each(|node| write!(text, ",node{node}").unwrap_or_default());
        text.push('\n');
        for ((phase, what, home), lines) in &self.rows {
            let _ = match what {
                What::Page(page) => write!(text, "{phase},{:#x},", page << 12),
                What::More => write!(text, "{phase},more,"),
                What::System => write!(text, "{phase},system,"),
            };
            let _ = match home {
                Home::Node(node) => write!(text, "{node}"),
                Home::Own => write!(text, "own"),
                Home::Other => write!(text, "other"),
            };
            lines.iter().for_each(|lines| write!(text, ",{lines}").unwrap_or_default());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_still_counts() {
        let mut places = Places { most: 2, ..Places::new(2) };
        for page in 0..4 {
            places.add(1, What::Page(page), Home::Node(0), 0, 1);
            places.add(1, What::Page(page), Home::Node(0), 1, 2);
        }
        places.add(1, What::System, Home::Other, 1, 5);
        let expected =
            "phase,page,home,node0,node1\n1,0x0,0,1,2\n1,0x1000,0,1,2\n1,more,own,2,0\n1,more,other,0,9\n";
        assert_eq!(places.csv(), expected);
    }
}
