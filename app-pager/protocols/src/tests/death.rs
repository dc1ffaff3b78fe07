//! A pager that crashes, and what comes of it.

use super::client::{Client, Phase};
use super::facts::Fact;
use super::scenario::{FRAMES, NODES, PAGES, Scenario};
use super::world::{Event, Worker, World, home};
use crate::effect::{Access, Me};
use crate::entry::Entry;
use crate::fault;
use crate::lead;
use crate::local::Local;
use crate::nodes::Nodes;
use crate::recovery::{self, Reclaim, ReclaimEffect, Recovery};
use crate::rules::{Rule, kept};

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Death {
    /// Everybody lives.
    Alive,
    /// The pager of this node does nothing any more; its kernel still maps what it mapped.
    Crashed(u16),
    /// Its space is gone.
    Fenced(u16),
    /// Its next incarnation has the pool.
    Recovered,
}

/// All pages, for the one batch of the recovery.
const ALL: &[u8] = &[0, 1];

impl World {
    pub(super) fn is_dead(&self, node: u16) -> bool {
        matches!(self.death, Death::Crashed(dead) | Death::Fenced(dead) if dead == node)
    }
    pub(super) fn is_fenced(&self, node: u16) -> bool {
        self.death == Death::Fenced(node)
    }

    /// Whether the access that a thread wants needs no pager.
    pub(super) fn hits(&self, scenario: &Scenario, c: usize) -> bool {
        let client = &self.clients[c];
        if client.phase != Phase::Ready || client.is_finished(scenario.script(c)) {
            return false;
        }
        let Some((page, access)) = client.task(scenario.script(c)).access() else { return false };
        let mapping = self.mapped[usize::from(scenario.node(c))][usize::from(page)];
        mapping.is_present() && mapping.rights().contains(access)
    }

    pub(super) fn events_of_death(&self, scenario: &Scenario, events: &mut Vec<Event>) {
        match (self.death, scenario.crash) {
            (Death::Alive, Some(_)) => events.push(Event::Crash),
            (Death::Crashed(_), _) => events.push(Event::Fence),
            _ => {}
        }
        for n in 0..NODES {
            if self.forgetting >> n & 1 != 0 && self.workers[n].busy.is_none() && self.is_quiet(scenario, n) {
                events.push(Event::Forget(n));
            }
            if self.reclaiming[n].is_some() && self.is_quiet(scenario, n) {
                events.push(Event::Reclaim(n));
            }
        }
    }

    /// Every pager thread of the node waits for something or has nothing to do, so it has no frame in hand.
    fn is_quiet(&self, scenario: &Scenario, n: usize) -> bool {
        let waits = |client: &Client| match client.phase {
            Phase::Ready | Phase::Answered(_) => true,
            Phase::Fault(_, effect) => effect == fault::Effect::Park,
            Phase::Lead(_, effect) => matches!(effect, lead::Effect::Await | lead::Effect::Park),
            Phase::Recover(..) => true,
        };
        let here = |(c, _): &(usize, &Client)| usize::from(scenario.node(*c)) == n;
        !kept(Rule::QuietBeforeReuse)
            || self.clients.iter().enumerate().filter(here).all(|(_, client)| waits(client))
    }

    pub(super) fn crash(&mut self, scenario: &Scenario) {
        let dead = scenario.crash.expect("somebody may die");
        self.death = Death::Crashed(dead);
        self.workers[usize::from(dead)].busy = None;
        self.workers[usize::from(dead)].calls = None;
    }

    pub(super) fn fence(&mut self, scenario: &Scenario) {
        let Death::Crashed(dead) = self.death else { return };
        self.death = Death::Fenced(dead);
        let n = usize::from(dead);
        self.mapped[n] = [Local::EMPTY; PAGES];
        self.workers[n] = Worker::default();
        for c in 0..self.clients.len() {
            if scenario.node(c) == dead {
                let done = scenario.script(c).len() as u8;
                self.clients[c] = Client { done, ..Client::default() };
            }
            self.clients[c].asked &= !(1 << dead);
        }
        (n * FRAMES..(n + 1) * FRAMES).for_each(|f| self.returning[f] = None);
        let c = scenario.threads.len();
        let living = Nodes([(1 << NODES) - 1]).without(dead);
        let gone = Me { node: dead, incarnation: 1 };
        let mut machine = Recovery::new(scenario.me(c), gone, living);
        let effect = machine.step(0);
        self.clients[c].phase = Phase::Recover(machine, effect, false);
    }

    pub(super) fn recover(
        &mut self,
        scenario: &Scenario,
        c: usize,
        mut machine: Recovery<PAGES, 1>,
        effect: recovery::Effect,
        last: bool,
        seen: &mut u64,
    ) {
        let Death::Fenced(dead) = self.death else { return };
        let (mut answer, mut looked) = (0, last);
        match effect {
            recovery::Effect::Forget(node) => {
                self.forgetting |= 1 << node;
                self.clients[c].asked |= 1 << node;
            }
            recovery::Effect::Reclaim(node) => {
                self.clients[c].asked |= 1 << node;
                self.start_reclaim(usize::from(node), usize::from(node) * FRAMES);
            }
            recovery::Effect::Await => {}
            recovery::Effect::Pages => {
                answer = if last { 0 } else { ALL.len() as u64 };
                looked = true;
            }
            recovery::Effect::Wake => self.wake(scenario, None, c),
            recovery::Effect::Lead(effect) => {
                let lead = *machine.lead();
                answer = self.lead_effect(scenario, c, ALL, &lead, effect, seen);
            }
            recovery::Effect::Done => return self.restart(c, dead, seen),
        }
        let next = machine.step(answer);
        self.clients[c].phase = Phase::Recover(machine, next, looked);
    }

    /// The dead pager's next incarnation gets the pool: nobody else may have anything of it.
    fn restart(&mut self, c: usize, dead: u16, seen: &mut u64) {
        Fact::Recovered.note(seen);
        let used = |entry: &u64| {
            Entry(*entry).frame() != 0 && home(super::world::frame(Entry(*entry).frame())) == dead
        };
        if self.master.iter().any(used) {
            self.wrong = Some("a frame of a lost pool is in the table");
        }
        self.death = Death::Recovered;
        self.local[usize::from(dead)] = [0; PAGES];
        for f in usize::from(dead) * FRAMES..usize::from(dead + 1) * FRAMES {
            self.free[f] = true;
            (self.record[f], self.contents[f], self.cached[f]) = (0, 0, false);
        }
        self.clients[c] = Client::default();
    }

    /// The worker drops what the dead pager asked for; what it was doing for it, it has done.
    pub(super) fn forget(&mut self, scenario: &Scenario, n: usize, seen: &mut u64) {
        let Death::Fenced(dead) = self.death else { return };
        for c in 0..scenario.threads.len() {
            if scenario.node(c) == dead && self.workers[n].inbox[c].take().is_some() {
                Fact::RequestForgotten.note(seen);
            }
        }
        for f in n * FRAMES..(n + 1) * FRAMES {
            if self.returning[f] == Some(dead) {
                self.returning[f] = None;
            }
        }
        self.forgetting &= !(1 << n);
        self.clients[scenario.threads.len()].asked &= !(1 << n);
    }

    /// Begins with frame `f` of node `n`; frames that the dead pager never had in hand need no events of their own.
    fn start_reclaim(&mut self, n: usize, first: usize) {
        let Death::Fenced(dead) = self.death else { return };
        let gone = Me { node: dead, incarnation: 1 };
        for f in first..(n + 1) * FRAMES {
            let mut machine = Reclaim::new(gone, (f as u64 + 1) << 12);
            let effect = machine.step(0);
            if { machine }.step(self.record[f]) != ReclaimEffect::Leave {
                self.reclaiming[n] = Some((f, machine, effect));
                return;
            }
        }
        // One more event, for the acknowledgement.
        let last = (n + 1) * FRAMES - 1;
        self.reclaiming[n] = Some((last, Reclaim::new(gone, 0), ReclaimEffect::Leave));
    }

    pub(super) fn reclaim(&mut self, scenario: &Scenario, n: usize, seen: &mut u64) {
        let Some((f, mut machine, effect)) = self.reclaiming[n] else { return };
        let answer = match effect {
            ReclaimEffect::Record(access) => {
                let found = self.record[f];
                if let Access::Swap { expected, new } = access
                    && expected == found
                {
                    self.record[f] = new;
                }
                found
            }
            ReclaimEffect::Look(page) => self.master[page as usize],
            ReclaimEffect::Free | ReclaimEffect::Leave => {
                if effect == ReclaimEffect::Free {
                    Fact::Reclaimed.note(seen);
                    self.cached[f] = false;
                    self.put(f);
                }
                if effect == ReclaimEffect::Free || f + 1 < (n + 1) * FRAMES {
                    return self.start_reclaim(n, f + 1);
                }
                self.reclaiming[n] = None;
                self.clients[scenario.threads.len()].asked &= !(1 << n);
                return;
            }
        };
        let next = machine.step(answer);
        self.reclaiming[n] = Some((f, machine, next));
    }
}
