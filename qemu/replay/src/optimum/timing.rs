//! How long threads take between barriers, with the load that they all make.

use skerry_cost_model::bandwidth::under_load;
use skerry_cost_model::params::bytes_per_window;
use skerry_cost_model::time::to_cycles;
use skerry_cost_model::{CYCLE, LINE, Time};
use skerry_policy::Node;

use super::log::Log;
use super::plan::Assignment;
use crate::machine::{CLASSES, Machine, OVERLAPS};

/// Rounds until load and time agree.
const ROUNDS: usize = 6;

/// The timing of one log.
#[derive(Debug)]
pub struct Timing<'a> {
    machine: &'a Machine,
    log: &'a Log,
    /// Where in the log each interval's uses are.
    by_interval: Vec<u32>,
    starts: Vec<usize>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Timed {
    /// Cycles.
    pub total: u64,
    /// Latencies in percent of idle ones: per interval, and pair of node and home.
    pub loads: Vec<Vec<u64>>,
}

impl<'a> Timing<'a> {
    /// For a log.
    pub fn new(machine: &'a Machine, log: &'a Log) -> Self {
        let mut by_interval: Vec<u32> = (0..log.uses.len() as u32).collect();
        by_interval.sort_by_key(|&at| log.uses[at as usize].interval);
        let start = |interval| {
            by_interval.partition_point(|&at| (log.uses[at as usize].interval as usize) < interval)
        };
        let starts = (0..=log.intervals).map(start).collect();
        Self { machine, log, by_interval, starts }
    }

    /// Times an assignment.
    pub fn time(&self, made: &Assignment) -> Timed {
        let mut timed = Timed { total: 0, loads: Vec::with_capacity(self.log.intervals) };
        for interval in 0..self.log.intervals {
            let (time, load) = self.interval(interval, made);
            timed.total += to_cycles(time) + 500;
            timed.loads.push(load);
        }
        timed
    }

    fn interval(&self, interval: usize, made: &Assignment) -> (Time, Vec<u64>) {
        let (nodes, threads) = (self.machine.count(), self.log.threads);
        // Lines per thread, home and class; lines read and written per node and home.
        let mut lines = vec![[0u64; CLASSES]; threads * nodes];
        let mut node_of = vec![0usize; threads];
        let (mut reads, mut writes) = (vec![0u64; nodes * nodes], vec![0u64; nodes * nodes]);
        for &at in &self.by_interval[self.starts[interval]..self.starts[interval + 1]] {
            let (one, home) = (&self.log.uses[at as usize], usize::from(made.homes[at as usize]));
            let (thread, count) = (usize::from(one.thread), u64::from(one.lines));
            lines[thread * nodes + home][usize::from(one.class)] += count;
            node_of[thread] = one.node.into();
            reads[usize::from(one.node) * nodes + home] += count;
            if one.write {
                writes[usize::from(one.node) * nodes + home] += count;
            }
        }
        let memory = &self.machine.params.memory;
        let window = u64::from(self.machine.params.window) * CYCLE;
        let controller = bytes_per_window(memory.controller_mb_s, &self.machine.params).max(LINE);
        let link = bytes_per_window(memory.link_mb_s, &self.machine.params).max(LINE);
        let (mut time, mut load) = (0, vec![100; nodes * nodes]);
        for _ in 0..ROUNDS {
            time = 0;
            for thread in 0..threads {
                let place = interval * threads + thread;
                let mut clock = self.log.work[place] + made.moves[place];
                let node = node_of[thread];
                for home in 0..nodes {
                    let latency =
                        self.machine.latency(node as Node, home as Node) * load[node * nodes + home] / 100;
                    for (class, count) in
                        lines[thread * nodes + home].iter().enumerate().filter(|(_, count)| **count > 0)
                    {
                        let line =
                            LINE * window / if node == home { controller } else { link.min(controller) };
                        clock += self.machine.wait(OVERLAPS[class], latency, line) * count;
                    }
                }
                time = time.max(clock);
            }
            let mut least = time;
            for home in 0..nodes {
                let all: u64 =
                    (0..nodes).map(|node| reads[node * nodes + home] + writes[node * nodes + home]).sum();
                least = least.max(all * LINE * window / controller);
                let busy = percent(self.machine, all, controller, time, window);
                for node in 0..nodes {
                    let pair = node * nodes + home;
                    let mut worst = busy;
                    if node != home {
                        worst = worst.max(percent(self.machine, reads[pair], link, time, window));
                        least = least.max(reads[pair] * LINE * window / link);
                        least = least.max(writes[pair] * LINE * window / link);
                    }
                    // Half way: load makes time longer, which makes load smaller.
                    load[pair] = u64::midpoint(load[pair], worst);
                }
            }
            time = least;
        }
        (time, load)
    }
}

fn percent(machine: &Machine, lines: u64, capacity: u64, time: Time, window: Time) -> u64 {
    let bytes_per_window = u128::from(lines * LINE) * u128::from(window) / u128::from(time.max(1));
    let load = bytes_per_window * u128::from(CYCLE) * 100 / u128::from(capacity);
    under_load(&machine.params.load_curve, u64::try_from(load).unwrap_or(u64::MAX).min(100 * CYCLE))
}
