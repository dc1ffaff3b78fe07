//! A leader with everybody else standing still.

use super::*;
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
    for (page, sharers) in [0b110, 0b010, 0b100].into_iter().enumerate() {
        lead.pages[page].outcome = Outcome::Held;
        lead.pages[page].sharers = Nodes([sharers]);
    }
    lead.pages[1].outcome = Outcome::Gone;
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
