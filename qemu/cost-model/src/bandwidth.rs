//! Memory controllers and links: how many bytes they move in a window of modelled time, and what that does to latency.
//!
//! The latency is read from a measured curve of latency over load, with the load of the window before: published curves bend late and
//! steeply, which no simple queueing formula does. A window that is full is full: who comes then waits for the next one.

use crate::params::{Params, bytes_per_window};
use crate::time::{CYCLE, Time, cycles};
use crate::{LINE, Topology};

/// Windows that are remembered. CPUs whose clocks are farther apart than that do not meet; they are apart by about a quantum.
const KEPT: usize = 1024;
/// Nobody waits for more windows than this.
const AHEAD: u64 = 32;

/// A controller or a directed link.
#[derive(Clone, Debug)]
struct Resource {
    windows: Box<[(u64, u64)]>,
    /// The bytes of a window, and the latency after it: most requests come after the same window as the one before.
    known: (u64, u64),
}

impl Resource {
    fn bytes(&self, window: u64) -> u64 {
        let (number, bytes) = self.windows[window as usize % KEPT];
        if number == window { bytes } else { 0 }
    }
    fn add(&mut self, window: u64, bytes: u64) {
        let slot = &mut self.windows[window as usize % KEPT];
        // What is older than all that is remembered counts for nothing.
        if slot.0 < window {
            *slot = (window, 0);
        }
        if slot.0 == window {
            slot.1 += bytes;
        }
    }
}

/// What a request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How long it waits because the window is full.
    pub delay: Time,
    /// Its latency, in percent of the idle one.
    pub percent: u64,
}

/// All controllers and links of the machine.
#[derive(Clone, Debug)]
pub struct Bandwidth {
    nodes: usize,
    controllers: Vec<Resource>,
    links: Vec<Resource>,
    controller_capacity: u64,
    link_capacity: u64,
    /// The time of a line from the own node's memory, and from another's.
    line_times: [Time; 2],
    window: Time,
    /// The window asked for last: clocks of CPUs are close to each other, and a division takes long.
    recent: u64,
    curve: Vec<[u32; 2]>,
}

impl Bandwidth {
    /// All idle.
    pub fn new(params: &Params, topology: &Topology) -> Self {
        let nodes = topology.nodes();
        let curve = &params.load_curve;
        let idle = Resource { windows: vec![(0, 0); KEPT].into(), known: (0, under_load(curve, 0)) };
        let controller_capacity = bytes_per_window(params.memory.controller_mb_s, params).max(LINE);
        let link_capacity = bytes_per_window(params.memory.link_mb_s, params).max(LINE);
        let window = cycles(params.window.into());
        Self {
            nodes,
            controllers: vec![idle.clone(); nodes],
            links: vec![idle; nodes * nodes],
            controller_capacity,
            link_capacity,
            line_times: [
                LINE * window / controller_capacity,
                LINE * window / link_capacity.min(controller_capacity),
            ],
            window,
            recent: 0,
            curve: params.load_curve.clone(),
        }
    }

    /// A line goes from the memory of `home` to `node`.
    pub fn read(&mut self, now: Time, home: u16, node: u16) -> Grant {
        let memory = self.controller(now, home);
        let link = self.transfer(now, home, node);
        Grant { delay: memory.delay.max(link.delay), percent: memory.percent.max(link.percent) }
    }

    /// A line goes from `node` to the memory of `home`. Nobody waits for it, but it takes its room.
    pub fn write(&mut self, now: Time, home: u16, node: u16) {
        self.controller(now, home);
        self.transfer(now, node, home);
    }

    /// A line goes from a cache of one node to another; within a node that takes no link.
    pub fn transfer(&mut self, now: Time, from: u16, to: u16) -> Grant {
        if from == to {
            return Grant { delay: 0, percent: 100 };
        }
        let (capacity, current) = (self.link_capacity, self.current(now));
        let link = &mut self.links[usize::from(from) * self.nodes + usize::from(to)];
        reserve(link, capacity, (current, self.window), &self.curve, now)
    }

    /// The time a line takes on the narrowest part of its way from the memory of `home` to `node`.
    pub fn line_time(&self, home: u16, node: u16) -> Time {
        self.line_times[usize::from(home != node)]
    }

    /// The number of the window that a time is in.
    #[inline]
    fn current(&mut self, now: Time) -> u64 {
        if now.wrapping_sub(self.recent * self.window) >= self.window {
            self.recent = now / self.window;
        }
        self.recent
    }

    fn controller(&mut self, now: Time, node: u16) -> Grant {
        let (capacity, current) = (self.controller_capacity, self.current(now));
        reserve(&mut self.controllers[usize::from(node)], capacity, (current, self.window), &self.curve, now)
    }
}

fn reserve(
    resource: &mut Resource,
    capacity: u64,
    (current, length): (u64, Time),
    curve: &[[u32; 2]],
    now: Time,
) -> Grant {
    let last = current + AHEAD;
    let window = (current..last).find(|&w| resource.bytes(w) + LINE <= capacity).unwrap_or(last);
    resource.add(window, LINE);
    let before = current.checked_sub(1).map_or(0, |w| resource.bytes(w));
    if resource.known.0 != before {
        resource.known = (before, under_load(curve, before * CYCLE * 100 / capacity));
    }
    Grant { delay: if window == current { 0 } else { window * length - now }, percent: resource.known.1 }
}

/// The curve at a load, which is in 1/256 of a percent: latency in percent of the idle one.
pub fn under_load(curve: &[[u32; 2]], load: u64) -> u64 {
    let point = |[load, latency]: [u32; 2]| (u64::from(load) * CYCLE, u64::from(latency));
    for pair in curve.windows(2) {
        let ((x0, y0), (x1, y1)) = (point(pair[0]), point(pair[1]));
        if load < x1 {
            return y0 + (y1 - y0) * load.saturating_sub(x0) / (x1 - x0);
        }
    }
    curve.last().map_or(100, |&last| point(last).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Range;

    fn machine(params: &Params) -> Bandwidth {
        let topology = Topology {
            cpus: vec![0, 1],
            memory: vec![Range { base: 0, size: 4096 }, Range { base: 4096, size: 4096 }],
            distances: vec![vec![10, 20], vec![20, 10]],
        };
        Bandwidth::new(params, &topology)
    }

    #[test]
    fn the_curve_bends_late() {
        let curve = Params::default().load_curve;
        let at = |percent: u64| under_load(&curve, percent * CYCLE);
        assert_eq!([0, 25, 50, 84, 97, 100, 500].map(at), [100, 104, 109, 132, 171, 331, 331]);
    }

    #[test]
    fn the_window_before_decides_the_latency() {
        let params = Params::default();
        let mut bandwidth = machine(&params);
        let window = cycles(params.window.into());
        let lines = bytes_per_window(params.memory.controller_mb_s, &params) / LINE;
        for _ in 0..lines / 2 {
            assert_eq!(bandwidth.read(0, 0, 0), Grant { delay: 0, percent: 100 });
        }
        assert_eq!(bandwidth.read(window, 0, 0).percent, 108);
        assert_eq!(bandwidth.read(3 * window, 0, 0).percent, 100, "idle again");
    }

    #[test]
    fn a_full_window_is_full() {
        let params = Params::default();
        let mut bandwidth = machine(&params);
        let lines = bytes_per_window(params.memory.link_mb_s, &params) / LINE;
        for _ in 0..lines {
            assert_eq!(bandwidth.transfer(5, 0, 1).delay, 0);
        }
        assert_eq!(bandwidth.transfer(5, 0, 1).delay, cycles(params.window.into()) - 5);
        assert_eq!(bandwidth.transfer(5, 1, 0).delay, 0, "the other direction is free");
        assert_eq!(bandwidth.transfer(5, 1, 1).delay, 0);
    }

    #[test]
    fn writes_take_room() {
        let params = Params::default();
        let mut bandwidth = machine(&params);
        let lines = bytes_per_window(params.memory.controller_mb_s, &params) / LINE;
        (0..lines).for_each(|_| bandwidth.write(0, 1, 1));
        assert!(bandwidth.read(0, 1, 1).delay > 0);
    }
}
