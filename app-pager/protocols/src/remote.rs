//! A master table that is reached by messages: what a machine wants of it in a row goes in one.
//!
//! The machines are the same as with shared memory, and so are the accesses and their order; the worker of the pager that has the table
//! performs them. A machine wants one access at a time, and what it wants next depends on what was found. But mostly that can be foreseen:
//! a node that looks at an entry and finds the page present joins and looks again. So a message is a [`Script`]: accesses, and for each
//! what has to be found for the next one to be performed, too. To foresee, a copy of the machine is told what would be
//! found. A script goes on only where the next access is the same whatever else is found, so it never does what the machine would
//! not have asked for.
//!
//! Between the accesses of a script its pager does nothing else, and others may do what they want between any two of them: every order of events
//! that comes of it is one that the model check has tried with shared memory. (`tests` also explores the scenarios with scripts.)

use crate::effect::{Access, Word};
use crate::entry::Entry;
use crate::fault::{self, Fault};
use crate::lead::{self, Lead};
use skerry_abi::Rights;

/// Accesses of a script at most: few, for what a machine wants next can be asked for, too.
pub const MAX_STEPS: usize = 4;
/// Words of a script in a message at most.
pub const MAX_WORDS: usize = 5 * MAX_STEPS;
/// Leaders larger than this are not copied to foresee what they want.
const SMALL: usize = 640;

/// When the next access is performed, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GoOn {
    /// Not at all: this is the last one.
    Stop,
    /// Whatever was found.
    Always,
    /// The swap took place.
    Swapped,
    /// What was found has this value in these bits.
    Like {
        /// The bits.
        mask: u64,
        /// Their value.
        value: u64,
    },
}

impl GoOn {
    fn goes_on(self, access: Access, found: u64) -> bool {
        match (self, access) {
            (Self::Stop, _) => false,
            (Self::Always, _) => true,
            (Self::Swapped, Access::Swap { expected, .. }) => found == expected,
            (Self::Swapped, _) => false,
            (Self::Like { mask, value }, _) => found & mask == value,
        }
    }
    /// Two answers after which it goes on, as different as can be.
    fn examples(self, access: Access) -> Option<[u64; 2]> {
        match (self, access) {
            (Self::Always, _) => Some([0, u64::MAX]),
            (Self::Swapped, Access::Swap { expected, .. }) => Some([expected; 2]),
            (Self::Like { mask, value }, _) => Some([value, value | !mask]),
            (Self::Stop | Self::Swapped, _) => None,
        }
    }
}

/// An access to a page's words in the master table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// [`Word::Master`] or [`Word::Sharers`].
    pub word: Word,
    /// What is done to it.
    pub access: Access,
    /// Whether the next one follows.
    pub go_on: GoOn,
}

/// A machine that can be asked what it would want.
pub trait Machine: Copy {
    /// Takes an answer, and says which access to the master's words of the same page it wants next, if that is what it wants.
    fn tell(&mut self, answer: u64) -> Option<(Word, Access)>;
    /// What is mostly found by an access.
    fn usual(&self, word: Word, access: Access) -> GoOn;
}

/// Whatever is found in loads, and that swaps take place.
const fn usual(word: Word, access: Access) -> GoOn {
    match (word, access) {
        (Word::Master, Access::Load) => GoOn::Stop,
        (_, Access::Swap { .. }) => GoOn::Swapped,
        _ => GoOn::Always,
    }
}

const fn of_master(word: Word, access: Access) -> Option<(Word, Access)> {
    match word {
        Word::Master | Word::Sharers(_) => Some((word, access)),
        Word::Local | Word::Group => None,
    }
}

impl Machine for Fault {
    fn tell(&mut self, answer: u64) -> Option<(Word, Access)> {
        match self.step(answer) {
            fault::Effect::Access(word, access) => of_master(word, access),
            _ => None,
        }
    }
    /// An entry is looked at for a page that another node has.
    fn usual(&self, word: Word, access: Access) -> GoOn {
        if (word, access) != (Word::Master, Access::Load) {
            return usual(word, access);
        }
        let bits = |rights: Rights| Entry::present(0, rights, 0, 0).0;
        GoOn::Like { mask: bits(self.wanted()) | 3, value: bits(self.wanted()) }
    }
}

/// A leader, as far as this page is concerned.
#[derive(Clone, Copy)]
struct Led<const N: usize, const W: usize>(Lead<N, W>, u8);

impl<const N: usize, const W: usize> Machine for Led<N, W> {
    fn tell(&mut self, answer: u64) -> Option<(Word, Access)> {
        match self.0.step(answer) {
            lead::Effect::Access(page, word, access) if page == self.1 => of_master(word, access),
            _ => None,
        }
    }
    fn usual(&self, word: Word, access: Access) -> GoOn {
        usual(word, access)
    }
}

/// Accesses to the master's words of one page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Script {
    steps: [Step; MAX_STEPS],
    count: usize,
}

impl Script {
    const LAST: Step = Step { word: Word::Master, access: Access::Load, go_on: GoOn::Stop };
    /// No accesses.
    pub const EMPTY: Self = Self { steps: [Self::LAST; MAX_STEPS], count: 0 };

    /// What `machine` wants, and what it is likely to want next.
    pub fn new<M: Machine>(machine: &M, word: Word, access: Access) -> Self {
        let mut script = Self::one(word, access);
        script.foresee(machine);
        script
    }
    /// The same of a leader, which wants to access this page. Of large batches each access goes by itself.
    pub fn of_lead<const N: usize, const W: usize>(
        lead: &Lead<N, W>,
        (page, word, access): (u8, Word, Access),
    ) -> Self {
        if size_of::<Lead<N, W>>() > SMALL {
            return Self::one(word, access);
        }
        Self::new(&Led(*lead, page), word, access)
    }
    fn one(word: Word, access: Access) -> Self {
        let mut script = Self::EMPTY;
        script.add(Step { word, access, go_on: GoOn::Stop });
        script
    }
    fn foresee<M: Machine>(&mut self, machine: &M) {
        let [mut one, mut other] = [*machine; 2];
        while self.count < MAX_STEPS {
            let last = &mut self.steps[self.count - 1];
            let go_on = machine.usual(last.word, last.access);
            let Some([low, high]) = go_on.examples(last.access) else { return };
            let (next, same) = (one.tell(low), other.tell(high));
            let Some((word, access)) = next.filter(|_| next == same) else { return };
            last.go_on = go_on;
            self.add(Step { word, access, go_on: GoOn::Stop });
        }
    }
    fn add(&mut self, step: Step) {
        if let Some(place) = self.steps.get_mut(self.count) {
            *place = step;
            self.count += 1;
        }
    }
    /// The accesses.
    pub fn steps(&self) -> &[Step] {
        &self.steps[..self.count]
    }

    /// Performs it as far as it goes. Returns how many answers there are.
    pub fn perform(
        &self,
        mut perform: impl FnMut(Word, Access) -> u64,
        answers: &mut [u64; MAX_STEPS],
    ) -> usize {
        for (count, (step, answer)) in self.steps().iter().zip(answers.iter_mut()).enumerate() {
            *answer = perform(step.word, step.access);
            if !step.go_on.goes_on(step.access, *answer) {
                return count + 1;
            }
        }
        self.count
    }

    /// As the words of a message. Returns how many.
    pub fn encode(&self, words: &mut [u64; MAX_WORDS]) -> usize {
        let mut count = 0;
        let mut put = |word: u64| {
            words[count] = word;
            count += 1;
        };
        for &Step { word, access, go_on } in self.steps() {
            let which = if let Word::Sharers(index) = word { u64::from(index) + 1 } else { 0 };
            let (does, [first, second], operands) = match access {
                Access::Load => (0, [0; 2], 0),
                Access::Swap { expected, new } => (1, [expected, new], 2),
                Access::Set(bits) => (2, [bits, 0], 1),
                Access::Clear(bits) => (3, [bits, 0], 1),
                Access::Count => (4, [0; 2], 0),
            };
            let (goes, like) = match go_on {
                GoOn::Stop => (0, None),
                GoOn::Always => (1, None),
                GoOn::Swapped => (2, None),
                GoOn::Like { mask, value } => (3, Some([mask, value])),
            };
            put(which | does << 16 | goes << 24);
            [first, second].into_iter().take(operands).chain(like.into_iter().flatten()).for_each(&mut put);
        }
        count
    }
    /// The inverse of [`Script::encode`]; `None` for words that are no script.
    pub fn decode(words: &[u64]) -> Option<Self> {
        let (mut script, mut words) = (Self::EMPTY, words.iter().copied());
        while let Some(head) = words.next() {
            let word = match head & 0xffff {
                0 => Word::Master,
                index => Word::Sharers(u8::try_from(index - 1).ok()?),
            };
            let access = match head >> 16 & 0xff {
                0 => Access::Load,
                1 => Access::Swap { expected: words.next()?, new: words.next()? },
                2 => Access::Set(words.next()?),
                3 => Access::Clear(words.next()?),
                4 => Access::Count,
                _ => return None,
            };
            let go_on = match head >> 24 {
                0 => GoOn::Stop,
                1 => GoOn::Always,
                2 => GoOn::Swapped,
                3 => GoOn::Like { mask: words.next()?, value: words.next()? },
                _ => return None,
            };
            if script.count == MAX_STEPS {
                return None;
            }
            script.add(Step { word, access, go_on });
        }
        (script.count != 0).then_some(script)
    }
}

/// A script that was performed, on its way back into the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answers {
    script: Script,
    answers: [u64; MAX_STEPS],
    found: usize,
    told: usize,
}

impl Answers {
    /// None.
    pub const NONE: Self = Self { script: Script::EMPTY, answers: [0; MAX_STEPS], found: 0, told: 0 };

    /// Of a script of which so many accesses were performed.
    pub fn new(script: Script, answers: [u64; MAX_STEPS], found: usize) -> Self {
        Self { script, answers, found: found.min(script.count), told: 0 }
    }
    /// The answer to the access that the machine wants, if it was performed already.
    pub fn next(&mut self, word: Word, access: Access) -> Option<u64> {
        if self.told == self.found {
            return None;
        }
        let step = self.script.steps[self.told];
        debug_assert_eq!((step.word, step.access), (word, access), "a script does what its machine wants");
        self.told += 1;
        Some(self.answers[self.told - 1])
    }
    /// Whether the machine has heard of everything.
    pub const fn is_told(&self) -> bool {
        self.told == self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Me;
    use crate::fault::Scope;
    use crate::lead::Goal;

    const ME: Me = Me { node: 5, incarnation: 1 };

    /// A fault that is about to look at the master entry.
    fn looking() -> Fault {
        let mut machine = Fault::new(ME, Scope::Global, Rights::W, Rights::RW);
        machine.step(0);
        machine.step(0);
        assert_eq!(machine.tell(0), Some((Word::Master, Access::Load)));
        machine
    }
    fn shape(script: &Script) -> Vec<(Word, &'static str)> {
        let name = |access| match access {
            Access::Load => "load",
            Access::Swap { .. } => "swap",
            Access::Set(_) => "set",
            Access::Clear(_) => "clear",
            Access::Count => "count",
        };
        script.steps().iter().map(|step| (step.word, name(step.access))).collect()
    }

    #[test]
    fn a_page_of_another_node_takes_one_message() {
        let script = Script::new(&looking(), Word::Master, Access::Load);
        let expected = [(Word::Master, "load"), (Word::Sharers(0), "set"), (Word::Master, "load")];
        assert_eq!(shape(&script), expected);
        let mut words = [0; MAX_WORDS];
        // With the page's address in registers.
        assert!(script.encode(&mut words) < 8);
        // Nobody has it: nothing else is done.
        let (mut done, mut answers) = (0, [0; MAX_STEPS]);
        let mut perform = |found| {
            done = 0;
            script.perform(
                |_, _| {
                    done += 1;
                    found
                },
                &mut answers,
            )
        };
        let present = |rights| Entry::present(0x7000, rights, 3, 9);
        assert_eq!(perform(0), 1);
        assert_eq!(perform(present(Rights::R).0), 1);
        assert_eq!(perform(present(Rights::RW).busy(1, 1).0), 1);
        assert_eq!(perform(present(Rights::RW).replicated().0), 1);
        assert_eq!(perform(present(Rights::RW).0), 3);
    }

    #[test]
    fn a_fresh_page_takes_two() {
        let mut machine = looking();
        assert_eq!(machine.step(0), fault::Effect::Allocate);
        let Some((word, access)) = machine.tell(0x3000) else { panic!() };
        let script = Script::new(&machine, word, access);
        assert_eq!(shape(&script), [(Word::Sharers(0), "set"), (Word::Master, "swap")]);
    }

    #[test]
    fn an_unmap_takes_three() {
        let mut lead = Lead::<1, 2>::new(ME, Goal::Unmap, 1);
        let lead::Effect::Access(0, word, access) = lead.step(0) else { panic!() };
        assert_eq!(Script::of_lead(&lead, (0, word, access)).steps().len(), 1);
        let entry = Entry::present(0x7000, Rights::RW, 3, 9);
        let lead::Effect::Access(0, word, access) = lead.step(entry.0) else { panic!() };
        let script = Script::of_lead(&lead, (0, word, access));
        assert_eq!(
            shape(&script),
            [(Word::Master, "swap"), (Word::Sharers(0), "load"), (Word::Sharers(1), "load")]
        );
        // Of many pages each is a message of its own.
        let mut many = Lead::<64, 1>::new(ME, Goal::Unmap, 2);
        many.step(0);
        let lead::Effect::Access(0, word, access) = many.step(entry.0) else { panic!() };
        assert_eq!(Script::of_lead(&many, (0, word, access)).steps().len(), 1);
    }

    #[test]
    fn answers_are_told_once() {
        let script = Script::new(&looking(), Word::Master, Access::Load);
        let mut answers = [0; MAX_STEPS];
        let found = script.perform(|_, _| Entry::present(0x7000, Rights::RW, 3, 9).0, &mut answers);
        let mut answers = Answers::new(script, answers, found);
        for step in script.steps() {
            assert!(!answers.is_told() && answers.next(step.word, step.access).is_some());
        }
        assert!(answers.is_told() && answers.next(Word::Master, Access::Load).is_none());
    }

    proptest::proptest! {
        #[test]
        fn words_are_read_as_they_were_written(
            raw in proptest::collection::vec((0u8..9, 0u8..5, 0u8..4, proptest::num::u64::ANY, proptest::num::u64::ANY), 1..=MAX_STEPS),
        ) {
            let mut script = Script::EMPTY;
            for (word, access, go_on, a, b) in raw {
                let word = if word == 0 { Word::Master } else { Word::Sharers(word - 1) };
                let access = match access {
                    0 => Access::Load,
                    1 => Access::Swap { expected: a, new: b },
                    2 => Access::Set(a),
                    3 => Access::Clear(b),
                    _ => Access::Count,
                };
                let go_on = match go_on {
                    0 => GoOn::Stop,
                    1 => GoOn::Always,
                    2 => GoOn::Swapped,
                    _ => GoOn::Like { mask: a, value: b },
                };
                script.add(Step { word, access, go_on });
            }
            let mut words = [0; MAX_WORDS];
            let count = script.encode(&mut words);
            proptest::prop_assert_eq!(Script::decode(&words[..count]), Some(script));
        }
        #[test]
        fn any_words_can_be_read(words in proptest::collection::vec(proptest::num::u64::ANY, 0..80)) {
            let _ = Script::decode(&words);
        }
    }
}
