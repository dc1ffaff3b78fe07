//! Long parts of a leader's work in one go.
//!
//! With many pages most effects are answered at once, and what comes next is mostly the same. Here the machine runs for as long as that is
//! so: the functions that decide are those of [`Book::step`], called in the order in which they mostly come, so nothing has to be found
//! out again between two of them. Where anything else comes these functions end with that effect, and whoever runs the machine goes on with it.

use crate::effect::{Access, Memory, Word};
use crate::entry::Entry;
use crate::lead::{At, Book, Cursor, Effect, after};
use crate::local::Local;
use crate::revoke;

/// Who performs at once what a leader wants with pages that nobody maps any more. What each is to do says the [`Effect`] of that name.
pub trait Hands: Memory {
    /// [`Effect::Maintain`].
    fn maintain(&mut self, page: u8, frame: u64);
    /// [`Effect::Copy`].
    fn copy(&mut self, page: u8, from: u64, to: u64);
    /// [`Effect::Claim`].
    fn claim(&mut self, page: u8, frame: u64);
    /// [`Effect::Free`].
    fn free(&mut self, page: u8, frame: u64);
}

impl<const N: usize, const W: usize> Book<N, W> {
    /// From the first look at an entry: entries that are present become busy, one after the other. Returns what comes then.
    #[inline(always)]
    pub fn hold(&mut self, cursor: &mut Cursor, mut effect: Effect, memory: &mut impl Memory) -> Effect {
        // (A copy, which the compiler keeps nowhere as long as nobody asks for it.)
        let at = &mut { *cursor };
        while let Effect::Access(page, Word::Master, Access::Load) = effect {
            let found = memory.access(page, Word::Master, Access::Load);
            effect = self.meet(at, page, Entry(found));
            let Effect::Access(_, Word::Master, swap @ Access::Swap { expected, .. }) = effect else {
                continue;
            };
            if at.at != At::Mark {
                break;
            }
            let found = memory.access(page, Word::Master, swap);
            if found != expected {
                effect = self.step(at, found);
                break;
            }
            effect = self.mark(at, page, Entry(expected));
            for word in 0..W as u8 {
                let bits = memory.access(page, Word::Sharers(word), Access::Load);
                effect = self.sharers(at, page, word, bits);
            }
        }
        *cursor = *at;
        effect
    }

    /// From the first look at a word of the own node: its words change. Returns what comes then.
    #[inline(always)]
    pub fn change_own(&mut self, at: &mut Cursor, effect: Effect, memory: &mut impl Memory) -> Effect {
        let Effect::Access(page, word @ Word::Local, access @ Access::Load) = effect else { return effect };
        let mut own = at.own;
        let effect = self.own.change(&mut own, revoke::Effect::Access(page, word, access), memory);
        self.of_own(at, own, effect)
    }

    /// The pages that the own node's kernel is still asked for, if nothing else comes in between, and the frames of all.
    #[inline(always)]
    pub fn own_frames(&self, at: &Cursor) -> Option<(u64, &[u64; N])> {
        self.own.frames_from(&at.own)
    }
    /// The kernel has been asked for all of them, and what it said is reported.
    #[inline(always)]
    pub fn own_taken(&mut self, at: &mut Cursor) -> Effect {
        self.of_own(at, revoke::Cursor::BEGIN, revoke::Effect::Done)
    }

    /// From the first page that is to be completed: all of them. Returns what comes then.
    #[inline(always)]
    pub fn complete_all(
        &mut self,
        cursor: &mut Cursor,
        mut effect: Effect,
        hands: &mut impl Hands,
    ) -> Effect {
        let at = &mut { *cursor };
        while let Effect::Maintain(page, frame) = effect {
            hands.maintain(page, frame);
            effect = self.copy(at, page);
            if let Effect::Copy { page, from, to } = effect {
                hands.copy(page, from, to);
                effect = self.claim(at, page);
            }
            if let Effect::Claim(page, frame) = effect {
                hands.claim(page, frame);
                effect = self.leave(at, page, 0);
            }
            while let Effect::Access(_, sharers @ Word::Sharers(word), clear) = effect {
                hands.access(page, sharers, clear);
                effect = self.leave(at, page, word + 1);
            }
            let Effect::Access(_, Word::Master, swap) = effect else { break };
            let found = hands.access(page, Word::Master, swap);
            effect = self.completed(at, page, Entry(found));
            if let Effect::Free(page, frame) = effect {
                hands.free(page, frame);
                effect = self.finish(at, after(self.held, page));
            }
        }
        *cursor = *at;
        effect
    }
}

impl<const N: usize> revoke::Revoked<N> {
    /// From the first look at a word: all words change. Returns what comes then.
    #[inline(always)]
    pub fn change(
        &mut self,
        cursor: &mut revoke::Cursor,
        mut effect: revoke::Effect,
        memory: &mut impl Memory,
    ) -> revoke::Effect {
        let at = &mut { *cursor };
        while let revoke::Effect::Access(page, Word::Local, Access::Load) = effect {
            let found = memory.access(page, Word::Local, Access::Load);
            effect = self.meet(at, page, Local(found));
            let revoke::Effect::Access(_, Word::Local, swap @ Access::Swap { expected, .. }) = effect else {
                continue;
            };
            let found = memory.access(page, Word::Local, swap);
            effect = match found == expected {
                true => self.changed(at, page, Local(expected)),
                false => self.meet(at, page, Local(found)),
            };
        }
        *cursor = *at;
        effect
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Me;
    use crate::lead::{Goal, Lead};
    use skerry_abi::Rights;
    use std::vec::Vec;

    const PAGES: usize = 5;

    /// Answers from a list; notes what was wanted.
    struct Script<'a> {
        answers: &'a [u64],
        wanted: Vec<Effect>,
    }

    impl Script<'_> {
        fn answer(&mut self, effect: Effect) -> u64 {
            let made_up = self.answers.get(self.wanted.len()).copied().unwrap_or(0);
            self.wanted.push(effect);
            match (effect, made_up % 8) {
                // Mostly nobody has changed the word.
                (Effect::Access(_, _, Access::Swap { expected, .. }), 1..) => expected,
                (Effect::Access(_, Word::Master, Access::Load), 2..) => {
                    Entry::present(made_up & 0xff_f000, Rights::RW, 1, 1).0
                }
                (Effect::Access(_, Word::Local, Access::Load), 2..) => {
                    Local::present(made_up & 0xff_f000, Rights::RW).0
                }
                (Effect::Access(_, Word::Master | Word::Local, Access::Load), _) => made_up & !(0xff << 12),
                (Effect::Access(..) | Effect::Unmap { .. }, _) => made_up % 16,
                (Effect::Allocate(..), _) => (made_up % 8) << 12,
                _ => 0,
            }
        }
    }
    impl Memory for Script<'_> {
        fn access(&mut self, page: u8, word: Word, access: Access) -> u64 {
            self.answer(Effect::Access(page, word, access))
        }
    }
    impl Hands for Script<'_> {
        fn maintain(&mut self, page: u8, frame: u64) {
            self.answer(Effect::Maintain(page, frame));
        }
        fn copy(&mut self, page: u8, from: u64, to: u64) {
            self.answer(Effect::Copy { page, from, to });
        }
        fn claim(&mut self, page: u8, frame: u64) {
            self.answer(Effect::Claim(page, frame));
        }
        fn free(&mut self, page: u8, frame: u64) {
            self.answer(Effect::Free(page, frame));
        }
    }

    /// Runs a leader on made-up answers, step by step or straight.
    fn run(goal: Goal, answers: &[u64], straight: bool) -> (Lead<PAGES, 2>, Vec<Effect>) {
        let mut lead = Lead::<PAGES, 2>::new(Me { node: 0, incarnation: 1 }, goal, PAGES);
        let mut script = Script { answers, wanted: Vec::new() };
        let mut effect = lead.step(0);
        while effect != Effect::Done && script.wanted.len() < answers.len() {
            let Lead { book, at } = &mut lead;
            effect = match effect {
                Effect::Access(_, Word::Master, Access::Load) if straight => {
                    book.hold(at, effect, &mut script)
                }
                Effect::Access(_, Word::Local, Access::Load) if straight => {
                    book.change_own(at, effect, &mut script)
                }
                Effect::Maintain(..) if straight => book.complete_all(at, effect, &mut script),
                Effect::Unmap { keep, .. } if straight && book.own_frames(at).is_some() => {
                    let (mut pages, frames) =
                        book.own_frames(at).map(|(pages, frames)| (pages, *frames)).unwrap();
                    let mut used = revoke::Used::default();
                    while pages != 0 {
                        let page = pages.trailing_zeros() as u8;
                        pages &= pages - 1;
                        let seen =
                            script.answer(Effect::Unmap { page, frame: frames[usize::from(page)], keep });
                        used.accessed |= (seen & 1) << page;
                        used.dirty |= (seen >> 1 & 1) << page;
                    }
                    book.report(used);
                    book.own_taken(at)
                }
                effect => {
                    let answer = script.answer(effect);
                    lead.step(answer)
                }
            };
        }
        (lead, script.wanted)
    }

    proptest::proptest! {
        #[test]
        fn straight_ways_do_what_the_steps_do(
            answers in proptest::collection::vec(proptest::num::u64::ANY, 0..150),
            goal in 0usize..8,
        ) {
            let goal = [
                Goal::Unmap, Goal::Restrict(Rights::R), Goal::Allow(Rights::W), Goal::Migrate(1), Goal::Replicate,
                Goal::Collapse, Goal::Part(Rights::RW), Goal::Join,
            ][goal];
            let (steps, wanted) = run(goal, &answers, false);
            let (straight, straight_wanted) = run(goal, &answers, true);
            let both = wanted.len().min(straight_wanted.len());
            proptest::prop_assert_eq!(&wanted[..both], &straight_wanted[..both]);
            // Nobody looks at the answers that did not suffice.
            if wanted.len() < answers.len() {
                proptest::prop_assert_eq!(wanted.len(), straight_wanted.len());
                proptest::prop_assert_eq!(steps.book.used(), straight.book.used());
                for page in 0..PAGES {
                    proptest::prop_assert_eq!(steps.outcome(page), straight.outcome(page));
                }
            }
        }
    }
}
