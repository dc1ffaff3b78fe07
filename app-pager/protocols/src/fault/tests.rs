//! Single faults, effect by effect: what they ask for, and nothing more. Every order of several is for the model.

use super::*;
use std::vec::Vec;

const ME: Me = Me { node: 2, incarnation: 1 };
const FRAME: u64 = 0x7000;

/// The words of a page, and how much memory there is.
#[derive(Default)]
struct Page {
    local: u64,
    master: u64,
    sharers: u64,
    frames: u64,
}

impl Page {
    fn fault(&mut self, scope: Scope, access: Rights) -> (Vec<Effect>, Effect) {
        let mut machine = Fault::new(ME, scope, access, Rights::RW);
        let (mut effects, mut answer) = (Vec::new(), 0);
        loop {
            let effect = machine.step(answer);
            answer = 0;
            match effect {
                Effect::Access(word, access) => {
                    let slot = match word {
                        Word::Local => &mut self.local,
                        Word::Master => &mut self.master,
                        Word::Sharers(_) => &mut self.sharers,
                        Word::Group => unreachable!("a fault has looked at it before"),
                    };
                    answer = *slot;
                    match access {
                        Access::Swap { expected, new } if expected == answer => *slot = new,
                        Access::Set(bits) => *slot |= bits,
                        Access::Clear(bits) => *slot &= !bits,
                        Access::Load | Access::Swap { .. } | Access::Count => {}
                    }
                }
                Effect::Allocate => answer = self.frames,
                Effect::Copy(source) if self.frames == 0 => answer = source,
                Effect::Copy(_) => answer = self.frames,
                Effect::GiveBack(_) | Effect::WakeNode => {}
                end => return (effects, end),
            }
            effects.push(effect);
        }
    }
}

/// Their names.
fn names(effects: &[Effect]) -> Vec<&'static str> {
    let name = |effect: &Effect| match effect {
        Effect::Access(Word::Local, Access::Load) => "look",
        Effect::Access(Word::Local, Access::Swap { .. }) => "swap local",
        Effect::Access(Word::Master, Access::Load) => "look at master",
        Effect::Access(Word::Master, Access::Swap { .. }) => "swap master",
        Effect::Access(Word::Sharers(_), Access::Set(_)) => "join",
        Effect::Access(Word::Sharers(_), Access::Clear(_)) => "leave",
        Effect::Allocate => "allocate",
        Effect::Copy(_) => "copy",
        Effect::GiveBack(_) => "give back",
        _ => "other",
    };
    effects.iter().map(name).collect()
}

fn present(rights: Rights) -> u64 {
    Entry::present(FRAME, rights, 0, 1).0
}

#[test]
fn a_first_touch_takes_three_swaps() {
    let mut page = Page { frames: 0x3000, ..Page::default() };
    let (effects, end) = page.fault(Scope::Global, Rights::W);
    let expected = ["look", "swap local", "look at master", "allocate", "join", "swap master", "swap local"];
    assert_eq!(names(&effects), expected);
    assert_eq!(end, Effect::Map(Local::present(0x3000, Rights::RW)));
    assert_eq!((page.sharers, Entry(page.master).frame(), Entry(page.master).leader()), (4, 0x3000, 2));
    // What the node has needs nothing but a look.
    let (effects, again) = page.fault(Scope::Global, Rights::R);
    assert_eq!((names(&effects), again), (std::vec!["look"], end));
}

#[test]
fn what_another_node_established_takes_two_swaps() {
    let mut page = Page { master: present(Rights::RW), sharers: 1, ..Page::default() };
    let (effects, end) = page.fault(Scope::Global, Rights::R);
    let expected = ["look", "swap local", "look at master", "join", "look at master", "swap local"];
    assert_eq!((names(&effects), page.sharers), (expected.to_vec(), 5));
    assert_eq!(end, Effect::Map(Local::present(FRAME, Rights::RW)));
}

#[test]
fn a_page_of_the_node_alone_asks_nobody() {
    let mut page = Page { frames: 0x3000, ..Page::default() };
    let (effects, end) = page.fault(Scope::Local, Rights::W);
    assert_eq!(names(&effects), ["look", "swap local", "allocate", "swap local"]);
    // It is the node's own, so whoever takes it away frees it.
    assert_eq!(end, Effect::Map(Local::copy(0x3000, Rights::RW)));
    assert_eq!((page.master, page.sharers), (0, 0));
    assert_eq!(page.fault(Scope::Local, Rights::X).1, Effect::Reject);
    page.local = Local::EMPTY.busy().0;
    assert_eq!(page.fault(Scope::Local, Rights::R).1, Effect::Park);
    assert!(Local(page.local).is_contended());
}

#[test]
fn who_is_stopped_before_it_has_its_own_page_gives_the_frame_back() {
    let mut machine = Fault::new(ME, Scope::Local, Rights::W, Rights::RW);
    machine.step(0);
    machine.step(Local::EMPTY.0);
    assert_eq!(machine.step(Local::EMPTY.0), Effect::Allocate);
    assert!(matches!(machine.step(0x3000), Effect::Access(Word::Local, Access::Swap { .. })));
    let revoked = Local::EMPTY.busy().revoked();
    assert_eq!(machine.step(revoked.0), Effect::GiveBack(0x3000));
    let settle = Effect::Access(Word::Local, Access::Swap { expected: revoked.0, new: Local::EMPTY.0 });
    assert_eq!(machine.step(0), settle);
    assert_eq!(machine.step(revoked.0), Effect::Access(Word::Local, Access::Load));
}

#[test]
fn who_gets_nothing_leaves_nothing() {
    for (master, access, expected) in [
        (0, Rights::W, Effect::OutOfMemory),
        (present(Rights::R), Rights::W, Effect::Reject),
        (Entry(present(Rights::RW)).busy(1, 1).0, Rights::R, Effect::Park),
        (Entry(present(Rights::RW)).replicated().0, Rights::W, Effect::Collapse),
        (Entry(present(Rights::R)).replicated().0, Rights::W, Effect::Reject),
    ] {
        let mut page = Page { master, ..Page::default() };
        assert_eq!(page.fault(Scope::Global, access).1, expected);
        assert_eq!((page.local, page.sharers), (0, 0), "{expected:?}");
        let mut page = Page::default();
        assert_eq!(page.fault(Scope::Local, Rights::W).1, Effect::OutOfMemory);
        assert_eq!(page.local, 0);
    }
}

#[test]
fn a_replica_is_read_only_and_the_nodes_own() {
    let replicated = Entry(present(Rights::RW)).replicated().0;
    let mut page = Page { master: replicated, frames: 0x3000, ..Page::default() };
    let end = page.fault(Scope::Global, Rights::R).1;
    assert_eq!((end, page.sharers), (Effect::Map(Local::copy(0x3000, Rights::R)), 4));
    // Its write has to wait for the page to be one again; the copy stays until then.
    assert_eq!(page.fault(Scope::Global, Rights::W).1, Effect::Collapse);
    assert_eq!((Local(page.local), page.sharers), (Local::copy(0x3000, Rights::R), 4));
    // Without memory the source serves.
    let mut page = Page { master: replicated, ..Page::default() };
    assert_eq!(page.fault(Scope::Global, Rights::R).1, Effect::Map(Local::present(FRAME, Rights::R)));
}

#[test]
fn rights_that_came_back_reach_the_copy_that_is_there() {
    let replicated = Entry(present(Rights::RWX)).replicated().0;
    let local = Local::copy(0x3000, Rights::R).0;
    let mut page = Page { master: replicated, local, sharers: 4, ..Page::default() };
    let end = page.fault(Scope::Global, Rights::X).1;
    assert_eq!((end, page.sharers), (Effect::Map(Local::copy(0x3000, Rights::RX)), 4));
}
