//! What happened before what, between nodes: vector clocks.
//!
//! A node's time advances when it gives something away (an interrupt, a cleaned line) and when it learns something, so within one of its times
//! nothing changes of what it knows of others. A store is stamped with its node's time; who knows that time of that node comes after the
//! store. (Stores of a time that are later than the one that was seen count as seen, too.) All CPUs of a node are one.

/// The clocks.
#[derive(Debug)]
pub(super) struct Order {
    nodes: Vec<Node>,
    /// What was sent to each CPU and has not been taken.
    mail: Vec<Option<Vec<u32>>>,
}

#[derive(Debug)]
struct Node {
    time: u32,
    /// What it knows of each node; of itself nothing is looked up here.
    known: Vec<u32>,
    /// What it knew from some time on, oldest first.
    history: Vec<(u32, Vec<u32>)>,
}

impl Order {
    pub(super) fn new(nodes: usize, cpus: usize) -> Self {
        let node = || Node { time: 1, known: vec![0; nodes], history: vec![(0, vec![0; nodes])] };
        Self { nodes: (0..nodes).map(|_| node()).collect(), mail: vec![None; cpus] }
    }

    /// A node's time.
    pub(super) fn now(&self, node: u16) -> u32 {
        self.nodes[usize::from(node)].time
    }

    /// Whether what `writer` did at its `time` came before what `node` does now.
    pub(super) fn is_before(&self, writer: u16, time: u32, node: u16) -> bool {
        writer == node || self.nodes[usize::from(node)].known[usize::from(writer)] >= time
    }

    /// The node gives something away: what it stored so far was before that.
    pub(super) fn release(&mut self, node: u16) -> Vec<u32> {
        let own = &mut self.nodes[usize::from(node)];
        let mut given = own.known.clone();
        given[usize::from(node)] = own.time;
        own.time += 1;
        given
    }

    fn learn(&mut self, node: u16, news: &[u32]) {
        let own = &mut self.nodes[usize::from(node)];
        let mut changed = false;
        for (index, (known, &new)) in own.known.iter_mut().zip(news).enumerate() {
            if index != usize::from(node) && new > *known {
                *known = new;
                changed = true;
            }
        }
        if changed {
            own.time += 1;
            own.history.push((own.time, own.known.clone()));
        }
    }

    /// The node has read what `writer` stored at its `time`.
    pub(super) fn saw(&mut self, node: u16, writer: u16, time: u32) {
        if self.is_before(writer, time, node) {
            return;
        }
        let history = &self.nodes[usize::from(writer)].history;
        let last = history.partition_point(|(from, _)| *from <= time) - 1;
        let mut news = history[last].1.clone();
        news[usize::from(writer)] = time;
        self.learn(node, &news);
    }

    /// An interrupt is sent…
    pub(super) fn send(&mut self, node: u16, target: usize) {
        let given = self.release(node);
        match &mut self.mail[target] {
            Some(mail) => mail.iter_mut().zip(given).for_each(|(old, new)| *old = new.max(*old)),
            empty => *empty = Some(given),
        }
    }

    /// …and taken.
    pub(super) fn take(&mut self, node: u16, cpu: usize) {
        if let Some(mail) = self.mail[cpu].take() {
            self.learn(node, &mail);
        }
    }

    /// Everything so far comes before what the node does now.
    pub(super) fn join_all(&mut self, node: u16) {
        for other in 0..self.nodes.len() as u16 {
            let given = self.release(other);
            self.learn(node, &given);
        }
    }
}
