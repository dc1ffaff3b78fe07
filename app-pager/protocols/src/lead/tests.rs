//! A leader with everybody else standing still.

use super::*;
use crate::entry::State;
use std::vec::Vec;

/// Runs a leader on node 3 with everybody else standing still, and notes whom it asks.
fn run<const N: usize>(
    goal: Goal,
    master: &mut [u64; N],
    masks: &mut [[u64; 2]; N],
    used: Used,
) -> (Lead<N, 2>, Vec<u16>) {
    let mut lead = Lead::<N, 2>::new(Me { node: 3, incarnation: 1 }, goal, N);
    let (mut asked, mut answered, mut answer) = (Vec::new(), false, 0);
    loop {
        let effect = lead.step(answer);
        answer = 0;
        match effect {
            Effect::Access(page, Word::Master, Access::Load) => answer = master[usize::from(page)],
            Effect::Access(page, Word::Master, Access::Swap { expected, new }) => {
                assert_eq!(master[usize::from(page)], expected);
                answer = core::mem::replace(&mut master[usize::from(page)], new);
            }
            Effect::Access(page, Word::Sharers(word), access) => {
                let slot = &mut masks[usize::from(page)][usize::from(word)];
                answer = *slot;
                if let Access::Clear(bits) = access {
                    assert!(answered, "left the sharers too early");
                    *slot &= !bits;
                }
            }
            Effect::Access(_, Word::Local, Access::Load) => {}
            Effect::Ask(node) => {
                assert!(!answered, "all are asked before any is awaited");
                asked.push(node);
            }
            Effect::Await => {
                lead.report(used);
                answered = true;
            }
            Effect::Done => return (lead, asked),
            _ => {}
        }
    }
}

fn present(frame: u64, rights: Rights) -> u64 {
    Entry::present(frame, rights, 0, 1).0
}

#[test]
fn exactly_the_sharers_are_asked_for_exactly_their_pages() {
    let mut master = [present(0x1000, Rights::RW), 0, present(0x2000, Rights::RW)];
    let mut masks = [[1 << 3 | 1 << 9, 1 << 2], [0; 2], [1 << 9, 0]];
    let used = Used { accessed: 5, dirty: 4 };
    let (lead, asked) = run(Goal::Unmap, &mut master, &mut masks, used);
    assert_eq!(asked, [9, 66]);
    assert_eq!((master, masks), ([0; 3], [[0; 2]; 3]));
    assert_eq!([0, 1, 2].map(|page| lead.outcome(page)), [Outcome::Done, Outcome::Gone, Outcome::Done]);
    assert_eq!(lead.used(), used);
}

#[test]
fn orders_name_pages_by_their_place_in_the_batch() {
    let mut lead = Lead::<3, 1>::new(Me { node: 0, incarnation: 1 }, Goal::Restrict(Rights::R), 3);
    let sharers = [0b110, 0, 0b100];
    let mut answer = 0;
    loop {
        answer = match lead.step(answer) {
            Effect::Access(1, Word::Master, _) => 0,
            Effect::Access(page, Word::Master, _) => present(0x1000 << page, Rights::RW),
            Effect::Access(page, Word::Sharers(_), _) => sharers[usize::from(page)],
            effect => {
                assert_eq!(effect, Effect::Ask(1));
                break;
            }
        }
    }
    assert_eq!(lead.order(1), Order { pages: 0b001, keep: Some(Rights::R) });
    assert_eq!(lead.order(2), Order { pages: 0b101, keep: Some(Rights::R) });
    assert_eq!(lead.order(0).pages, 0);
}

#[test]
fn restriction_keeps_frame_and_sharers() {
    let (mut master, mut masks) = ([present(0x1000, Rights::RW)], [[1 << 3 | 1 << 5, 0]]);
    let (lead, asked) = run(Goal::Restrict(Rights::R), &mut master, &mut masks, Used::default());
    assert_eq!((asked, masks), (std::vec![5], [[1 << 3 | 1 << 5, 0]]));
    let entry = Entry(master[0]);
    assert_eq!((entry.frame(), entry.rights(), entry.state()), (0x1000, Rights::R, State::Present));
    assert_eq!(lead.outcome(0), Outcome::Done);
    // Nothing to take away: nobody is asked.
    assert!(run(Goal::Restrict(Rights::RX), &mut master, &mut masks, Used::default()).1.is_empty());
    run(Goal::Allow(Rights::W), &mut master, &mut masks, Used::default());
    assert_eq!(Entry(master[0]).rights(), Rights::RW);
}

#[test]
fn without_a_frame_to_move_to_a_page_stays() {
    let (mut master, mut masks) = ([present(0x1000, Rights::RW)], [[1 << 5, 0]]);
    let (lead, asked) = run(Goal::Migrate(7), &mut master, &mut masks, Used::default());
    assert_eq!((asked, masks), (std::vec![5], [[0, 0]]));
    assert_eq!((lead.outcome(0), Entry(master[0]).frame()), (Outcome::NoFrame, 0x1000));
}

/// Lets a leader run to its end, or for a while, on answers that somebody made up.
fn on_answers(lead: &mut Lead<3, 1>, answers: &[u64]) -> Vec<Effect> {
    let mut effects = std::vec![lead.step(0)];
    for &answer in answers {
        let last = effects[effects.len() - 1];
        let answer = match (last, answer % 4) {
            (Effect::Done, _) => break,
            // Mostly nobody has changed the word.
            (Effect::Access(_, _, Access::Swap { expected, .. }), 1..) => expected,
            (Effect::Access(_, Word::Master | Word::Local, Access::Load), _) => answer & !(0xff << 12),
            (Effect::Access(..) | Effect::Unmap { .. }, _) => answer % 16,
            (Effect::Allocate(..), _) => (answer % 8) << 12,
            _ => 0,
        };
        effects.push(lead.step(answer));
    }
    effects
}

proptest::proptest! {
    #[test]
    fn what_a_leader_did_before_does_not_matter(
        before in proptest::collection::vec(proptest::num::u64::ANY, 0..60),
        answers in proptest::collection::vec(proptest::num::u64::ANY, 0..90),
        [first, then] in proptest::array::uniform2(0usize..5),
        pages in 0u64..8,
    ) {
        let goals =
            [Goal::Unmap, Goal::Restrict(Rights::R), Goal::Migrate(1), Goal::Replicate, Goal::Collapse];
        let me = Me { node: 2, incarnation: 1 };
        let (mut new, mut used) = (Lead::of(me, goals[then], pages), Lead::of(me, goals[first], 7));
        on_answers(&mut used, &before);
        used.renew(goals[then], pages);
        assert_eq!(on_answers(&mut used, &answers), on_answers(&mut new, &answers));
        assert_eq!((used.used(), used.book.done(), used.book.no_frame()), (new.used(), new.book.done(), new.book.no_frame()));
        assert!(used.book.in_hand().eq(new.book.in_hand()));
    }
}

#[test]
fn frames_whose_last_access_nobody_tells_of_are_in_doubt() {
    for (goal, fresh) in [(Goal::Unmap, [0; 2]), (Goal::Migrate(1), [0x8000, 0x9000])] {
        let mut master = [0x1000, 0x2000].map(|frame| present(frame, Rights::RW));
        let mut lead = Lead::<2, 1>::new(Me { node: 3, incarnation: 1 }, goal, 2);
        let (mut answer, mut completed) = (0, 0);
        loop {
            let effect = lead.step(answer);
            answer = match effect {
                Effect::Access(page, Word::Master, Access::Load) => master[usize::from(page)],
                Effect::Access(page, Word::Master, Access::Swap { new, .. }) => {
                    let page = usize::from(page);
                    let doubts: Vec<_> =
                        lead.book.in_doubt().filter(|doubt| usize::from(doubt.0) == page).collect();
                    if Entry(new).state() != State::Busy {
                        completed += 1;
                        let frames = [0x1000 * (page as u64 + 1), fresh[page]];
                        assert!(
                            frames.iter().all(|&frame| frame == 0 || doubts.contains(&(page as u8, frame))),
                            "{doubts:x?}"
                        );
                    } else {
                        assert_eq!(doubts, [], "in the table either way");
                    }
                    core::mem::replace(&mut master[page], new)
                }
                Effect::Allocate(page, _) => fresh[usize::from(page)],
                Effect::Done => break,
                _ => 0,
            };
        }
        assert_eq!(completed, 2, "{goal:?}");
    }
}
