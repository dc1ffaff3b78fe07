//! A thread of the application together with the pager thread of its CPU.

use super::death::Death;
use super::facts::Fact;
use super::scenario::{Do, PAGES, Scenario};
use super::world::{Request, World, frame, home};
use crate::effect::{Me, Word};
use crate::fault::{self, Fault, Group, Scope};
use crate::lead::{self, Goal, Lead, Outcome};
use crate::local::Local;
use crate::record::Record;
use crate::recovery::{self, Recovery};
use crate::remote::{Answers, MAX_STEPS, Script};
use crate::revoke::Used;
use crate::rules::{Rule, kept};
use skerry_abi::Rights;

/// What it is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Phase {
    /// The thread runs.
    #[default]
    Ready,
    /// Its fault is being handled; the effect comes next.
    Fault(Fault, fault::Effect),
    /// Its request is.
    Lead(Lead<PAGES, 1>, lead::Effect),
    /// It clears up after a dead pager; what is left of it, the effect that comes next, and whether all pages were looked at.
    Recover(Recovery<PAGES, 1>, recovery::Effect, bool),
    /// The pager has answered its fault, the kernel has not mapped yet.
    Answered(Local),
}

/// A fault that takes other pages, too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Company {
    /// The guard of the answer.
    group: Group,
    /// The page that the machine is for.
    page: u8,
    /// What the answer maps.
    words: [Local; PAGES],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Client {
    /// How much of its script is done.
    pub(super) done: u8,
    pub(super) phase: Phase,
    pub(super) company: Option<Company>,
    /// The notification bit of its pager thread.
    pub(super) woken: bool,
    /// How often the thing that it does now was begun anew. It is bounded, so no run of the model is infinite: this
    /// is what turns "nobody is stuck at the end" into "every request completes".
    pub(super) again: u8,
    /// Workers that have been asked and have not answered.
    pub(super) asked: u8,
}

/// Batches of one page.
const PAGE: [&[u8]; PAGES] = [&[0], &[1]];

/// More often than this nobody may have to start over in these scenarios.
const PATIENCE: u8 = 16;

impl Client {
    /// What it does now.
    pub(super) fn task(&self, script: &'static [Do]) -> Do {
        script[usize::from(self.done)]
    }
    pub(super) fn is_finished(&self, script: &[Do]) -> bool {
        usize::from(self.done) == script.len()
    }
    /// Its pager thread is in the middle of something.
    pub(super) fn is_at_work(&self) -> bool {
        matches!(self.phase, Phase::Fault(..) | Phase::Lead(..) | Phase::Recover(..))
    }
    pub(super) fn can_step(&self, script: &[Do]) -> bool {
        match self.phase {
            Phase::Ready => !self.is_finished(script),
            Phase::Fault(_, fault::Effect::Park) | Phase::Lead(_, lead::Effect::Park) => self.woken,
            Phase::Lead(_, lead::Effect::Await) => self.asked == 0,
            Phase::Recover(_, recovery::Effect::Lead(lead::Effect::Park), _) => self.woken,
            Phase::Recover(_, recovery::Effect::Lead(lead::Effect::Await) | recovery::Effect::Await, _) => {
                self.asked == 0
            }
            Phase::Fault(..) | Phase::Lead(..) | Phase::Recover(..) => true,
            Phase::Answered(_) => false,
        }
    }
    /// What comes next is nobody else's business, so it needs no event of its own.
    fn goes_on(&self, script: &'static [Do]) -> bool {
        match self.phase {
            Phase::Ready => !self.is_finished(script) && self.task(script).access().is_none(),
            Phase::Fault(_, effect) => matches!(effect, fault::Effect::Reject),
            Phase::Lead(_, effect) => matches!(effect, lead::Effect::Maintain(..) | lead::Effect::Done),
            Phase::Recover(_, recovery::Effect::Lead(effect), _) => {
                matches!(effect, lead::Effect::Maintain(..) | lead::Effect::Lost(..))
            }
            Phase::Recover(_, effect, _) => {
                matches!(effect, recovery::Effect::Forget(_) | recovery::Effect::Pages)
            }
            Phase::Answered(_) => false,
        }
    }
    pub(super) fn acknowledged(&mut self, worker: usize, used: Used) {
        self.asked &= !(1 << worker);
        match &mut self.phase {
            Phase::Lead(machine, _) => machine.report(used),
            Phase::Recover(machine, ..) => machine.lead().report(used),
            _ => {}
        }
    }
    pub(super) fn finish(&mut self) {
        *self = Self { done: self.done + 1, ..Self::default() };
    }
}

impl World {
    /// The next thing that client `c` does.
    pub(super) fn step(&mut self, scenario: &Scenario, c: usize, seen: &mut u64) {
        loop {
            match self.clients[c].phase {
                Phase::Ready => self.act(scenario, c),
                Phase::Fault(machine, effect) => self.fault(scenario, c, machine, effect, seen),
                Phase::Lead(machine, effect) => self.lead(scenario, c, machine, effect, seen),
                Phase::Recover(machine, effect, last) => {
                    self.recover(scenario, c, machine, effect, last, seen)
                }
                Phase::Answered(_) => {}
            }
            if !self.clients[c].goes_on(scenario.script(c)) {
                return;
            }
        }
    }

    /// The thread runs.
    fn act(&mut self, scenario: &Scenario, c: usize) {
        let thread = &scenario.threads[c];
        let me = scenario.me(c);
        let task = self.clients[c].task(thread.script);
        self.clients[c].phase = match task {
            Do::Read(_) | Do::Write(_) | Do::WriteAhead(_) => {
                let Some((page, access)) = task.access() else { return };
                let mapping = self.mapped[usize::from(thread.node)][usize::from(page)];
                if mapping.is_present() && mapping.rights().contains(access) {
                    self.touch(thread.node, usize::from(page), mapping, access == Rights::W);
                    return self.clients[c].finish();
                }
                let scope = if scenario.copied { Scope::Copied } else { Scope::Global };
                let mut machine = Fault::new(me, scope, access, Rights::RW);
                self.clients[c].company = None;
                if let Do::WriteAhead(_) = task {
                    let group = Group(self.group[usize::from(thread.node)]);
                    machine = Fault::in_company(me, Scope::Global, access, Rights::RW, group);
                    self.clients[c].company = Some(Company { group, page, words: [Local::EMPTY; PAGES] });
                }
                let effect = machine.step(0);
                Phase::Fault(machine, effect)
            }
            Do::Unmap(pages) => lead(me, Goal::Unmap, pages),
            Do::Allow(pages) => lead(me, Goal::Allow(Rights::RW), pages),
            Do::Protect(pages) => lead(me, Goal::Restrict(Rights::R), pages),
            Do::Replicate(pages) => lead(me, Goal::Replicate, pages),
            Do::Part(pages) => lead(me, Goal::Part(Rights::RW), pages),
            Do::Join(pages) => lead(me, Goal::Join, pages),
            Do::Move(pages, node) => lead(me, Goal::Migrate(node), pages),
        };
    }

    /// An access that the mapping allows: nobody else's write may be missing.
    fn touch(&mut self, node: u16, page: usize, mapping: Local, write: bool) {
        let frame = frame(mapping.frame());
        if self.contents[frame] != self.written[usize::from(node)][page] {
            self.wrong = Some("a write was lost");
        }
        if write {
            self.contents[frame] += 1;
            self.cached[frame] = true;
            // What a node has for itself nobody else sees.
            let own = |other: usize| !mapping.is_copy() || other == usize::from(node);
            let seen = self.written.iter_mut().enumerate().filter(|(other, _)| own(*other));
            seen.for_each(|(_, written)| written[page] += 1);
        }
    }

    fn again(&mut self, c: usize) {
        self.clients[c].again += 1;
        if self.clients[c].again > PATIENCE {
            self.wrong = Some("somebody starts over for ever");
        }
    }

    fn fault(
        &mut self,
        scenario: &Scenario,
        c: usize,
        machine: Fault,
        effect: fault::Effect,
        seen: &mut u64,
    ) {
        let (thread, mut machine) = (&scenario.threads[c], machine);
        let Some((page, _)) = self.clients[c].task(thread.script).access() else { return };
        let page = usize::from(self.clients[c].company.map_or(page, |company| company.page));
        let answer = match effect {
            fault::Effect::Access(word, access) => self.access(thread.node, page, word, access, seen),
            fault::Effect::Allocate => {
                let frame = self.take(scenario.home[page].unwrap_or(thread.node), page, scenario.me(c));
                if frame == 0 {
                    Fact::NoFrame.note(seen);
                }
                frame
            }
            fault::Effect::GiveBack(frame) => {
                Fact::RaceLost.note(seen);
                self.give_back(thread.node, frame);
                0
            }
            fault::Effect::Copy(source) => {
                Fact::Copied.note(seen);
                self.copy_of(scenario.me(c), page, source)
            }
            fault::Effect::Duplicate(source) => {
                Fact::Parted.note(seen);
                self.duplicate_of(scenario.me(c), page, source)
            }
            fault::Effect::Collapse => {
                Fact::Collapsed.note(seen);
                self.clients[c].phase = lead(scenario.me(c), Goal::Collapse, PAGE[page]);
                return;
            }
            fault::Effect::WakeNode => {
                self.wake(scenario, Some(thread.node), c);
                Fact::NodeWoken.note(seen);
                0
            }
            fault::Effect::Park => {
                self.clients[c].woken = false;
                self.again(c);
                Fact::FaultParked.note(seen);
                0
            }
            fault::Effect::Map(word) => {
                self.clients[c].woken = false;
                return self.decided(scenario, c, word);
            }
            fault::Effect::Pass => {
                Fact::Passed.note(seen);
                return self.decided(scenario, c, Local::EMPTY);
            }
            fault::Effect::Reject => {
                Fact::Rejected.note(seen);
                return self.clients[c].finish();
            }
            fault::Effect::OutOfMemory => return self.clients[c].finish(),
        };
        let next = match effect {
            fault::Effect::Access(word @ (Word::Master | Word::Sharers(_)), access) if scenario.remote => {
                // Its answer is the script's first.
                let script = Script::new(&machine, word, access);
                let mut answers = self.by_message(thread.node, page, (script, answer), seen);
                let mut next = effect;
                while let fault::Effect::Access(word, access) = next
                    && let Some(answer) = answers.next(word, access)
                {
                    next = machine.step(answer);
                }
                next
            }
            _ => machine.step(answer),
        };
        self.clients[c].phase = Phase::Fault(machine, next);
    }

    /// What is to be mapped for a page: goes on to the next one, or answers.
    fn decided(&mut self, scenario: &Scenario, c: usize, word: Local) {
        let Some((asked, _)) = self.clients[c].task(scenario.script(c)).access() else { return };
        let client = &mut self.clients[c];
        let Some(company) = &mut client.company else { return client.phase = Phase::Answered(word) };
        company.words[usize::from(company.page)] = word;
        if company.page == asked && word.is_in_company() {
            company.page = 1 - asked;
            let mut machine = Fault::ahead(scenario.me(c), Scope::Global, Rights::RW, company.group);
            let effect = machine.step(0);
            client.phase = Phase::Fault(machine, effect);
            return;
        }
        if !kept(Rule::GroupFirst) {
            company.group = Group(self.group[usize::from(scenario.node(c))]);
        }
        client.phase = Phase::Answered(company.words[usize::from(asked)]);
        if company.page == asked {
            client.company = None;
        }
    }

    /// A copy of a frame in the node's own pool.
    fn copy_of(&mut self, me: Me, page: usize, source: u64) -> u64 {
        if home(frame(source)) == me.node {
            return source;
        }
        match self.duplicate_of(me, page, source) {
            0 => source,
            copy => copy,
        }
    }
    /// Another frame with the same contents, if there is room.
    fn duplicate_of(&mut self, me: Me, page: usize, source: u64) -> u64 {
        let copy = self.take(me.node, page, me);
        if copy != 0 {
            self.contents[frame(copy)] = self.contents[frame(source)];
        }
        copy
    }

    /// The kernel of client `c` gets round to the map item: mapped if the guard word is still as expected.
    pub(super) fn apply(&mut self, scenario: &Scenario, c: usize, seen: &mut u64) {
        let (thread, client) = (&scenario.threads[c], self.clients[c]);
        let Phase::Answered(word) = client.phase else { return };
        let Some((page, access)) = client.task(thread.script).access() else { return };
        let (node, page) = (usize::from(thread.node), usize::from(page));
        self.clients[c].phase = Phase::Ready;
        if let Some(company) = client.company {
            if self.group[node] == company.group.0 || !kept(Rule::GuardsCount) {
                for (mapping, word) in self.mapped[node].iter_mut().zip(company.words) {
                    if word.is_present() {
                        *mapping = word;
                    }
                }
                Fact::MappedTogether.note(seen);
            } else {
                Fact::GroupDropped.note(seen);
            }
        } else if self.local[node][page] == word.0 || !kept(Rule::GuardsCount) {
            let before = self.mapped[node][page];
            if before.is_present() && !before.rights().contains(access) {
                Fact::Widened.note(seen);
            }
            self.mapped[node][page] = word;
        } else {
            Fact::GuardDropped.note(seen);
        }
        self.again(c);
    }

    fn lead(
        &mut self,
        scenario: &Scenario,
        c: usize,
        mut machine: Lead<PAGES, 1>,
        effect: lead::Effect,
        seen: &mut u64,
    ) {
        let task = self.clients[c].task(scenario.script(c));
        // A fault may need a leader, too.
        let pages = task.access().map_or(task.pages(), |(page, _)| PAGE[usize::from(page)]);
        if effect == lead::Effect::Done {
            for index in 0..pages.len() {
                match machine.outcome(index) {
                    Outcome::Gone if self.clients[c].again > 0 => Fact::GoneAfterWait.note(seen),
                    Outcome::Open | Outcome::Held => self.wrong = Some("a leader left a page"),
                    _ => {}
                }
            }
            if task.access().is_some() {
                self.clients[c].phase = Phase::Ready;
                return self.again(c);
            }
            return self.clients[c].finish();
        }
        let answer = self.lead_effect(scenario, c, pages, &machine, effect, seen);
        let next = match effect {
            lead::Effect::Access(page, word @ (Word::Master | Word::Sharers(_)), access)
                if scenario.remote =>
            {
                let script = Script::of_lead(&machine, (page, word, access));
                let index = usize::from(pages[usize::from(page)]);
                let mut answers = self.by_message(scenario.node(c), index, (script, answer), seen);
                let mut next = effect;
                while let lead::Effect::Access(of, word, access) = next
                    && of == page
                    && let Some(answer) = answers.next(word, access)
                {
                    next = machine.step(answer);
                }
                next
            }
            _ => machine.step(answer),
        };
        self.clients[c].phase = Phase::Lead(machine, next);
    }

    /// Does what a leader wants.
    pub(super) fn lead_effect(
        &mut self,
        scenario: &Scenario,
        c: usize,
        pages: &'static [u8],
        machine: &Lead<PAGES, 1>,
        effect: lead::Effect,
        seen: &mut u64,
    ) -> u64 {
        let (node, page) = (scenario.node(c), |index: u8| usize::from(pages[usize::from(index)]));
        match effect {
            lead::Effect::Access(index, word, access) => {
                return self.access(node, page(index), word, access, seen);
            }
            lead::Effect::Unmap { frame, keep, .. } => return self.unmap(usize::from(node), frame, keep),
            lead::Effect::Allocate(index, node) => return self.take(node, page(index), scenario.me(c)),
            lead::Effect::Lost(_, address) => return u64::from(self.is_dead(home(frame(address)))),
            lead::Effect::Ask(node) => self.ask(c, node, (machine.order(node), pages), seen),
            lead::Effect::Maintain(_, address) => self.cached[frame(address)] = false,
            lead::Effect::Claim(index, address) => {
                self.record[frame(address)] = Record::taken(page(index) as u64, scenario.me(c)).0;
            }
            lead::Effect::Copy { from, to, .. } => {
                self.contents[frame(to)] = self.contents[frame(from)];
                self.cached[frame(to)] = true;
            }
            lead::Effect::FreeCopy(_, address) => self.free_copy(address),
            lead::Effect::Free(_, frame) => self.give_back(node, frame),
            lead::Effect::Wake => {
                self.wake(scenario, None, c);
                Fact::AllWoken.note(seen);
            }
            lead::Effect::Park => {
                self.clients[c].woken = false;
                self.again(c);
                Fact::LeaderParked.note(seen);
            }
            lead::Effect::Await | lead::Effect::Done => {}
        }
        0
    }

    /// Performs a script of which the first access has been performed.
    fn by_message(
        &mut self,
        node: u16,
        page: usize,
        (script, first): (Script, u64),
        seen: &mut u64,
    ) -> Answers {
        let (mut answers, mut first) = ([0; MAX_STEPS], Some(first));
        let found = script.perform(
            |word, access| first.take().unwrap_or_else(|| self.access(node, page, word, access, seen)),
            &mut answers,
        );
        if found > 1 {
            Fact::WentOn.note(seen);
        }
        Answers::new(script, answers, found)
    }

    /// Puts a request into a worker's mailbox. Who is fenced is not waited for.
    fn ask(&mut self, c: usize, node: u16, request: Request, seen: &mut u64) {
        if self.death != Death::Alive && self.is_fenced(node) {
            return;
        }
        self.workers[usize::from(node)].inbox[c] = Some(request);
        self.clients[c].asked |= 1 << node;
        if self.clients[c].asked.count_ones() == 2 {
            Fact::TwoAsked.note(seen);
        }
    }
}

fn lead(me: Me, goal: Goal, pages: &[u8]) -> Phase {
    let mut machine = Lead::new(me, goal, pages.len());
    let effect = machine.step(0);
    Phase::Lead(machine, effect)
}
