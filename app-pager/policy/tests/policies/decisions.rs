//! That each policy does what it is called after, and what happens to one that does not.

use crate::naive::{Machine, Pagers};
use skerry_policy::{
    Contained, Costs, Fault, Feedback, Mistake, Node, NodeInfo, Policy, Range, Visitor, World, with,
};

const RANGE: Range = Range { first: 64, pages: 64 };

fn four_nodes() -> Machine {
    let node = |bandwidth| NodeInfo { cpus: 1, frames: 1_000, bandwidth };
    let mut distances = vec![20; 16];
    (0..4).for_each(|node| distances[node * 5] = 10);
    Machine { nodes: vec![node(30_000), node(10_000), node(10_000), node(10_000)], distances }
}

/// The program that a test is.
type Program<'a> = &'a mut dyn FnMut(&mut dyn Pages);

/// The pagers of whichever policy.
trait Pages {
    fn access(&mut self, node: Node, page: u64, write: bool);
    fn tick(&mut self);
    fn home(&self, page: u64) -> Node;
    fn copies(&self, page: u64) -> usize;
    fn advise(&mut self);
}

impl<P: Policy + Clone> Pages for Pagers<P> {
    fn access(&mut self, node: Node, page: u64, write: bool) {
        Pagers::access(self, node, page, write.then_some(1));
    }
    fn tick(&mut self) {
        Pagers::tick(self);
    }
    fn home(&self, page: u64) -> Node {
        self.pages[&page].home
    }
    fn copies(&self, page: u64) -> usize {
        self.pages[&page].copies.len()
    }
    fn advise(&mut self) {
        Pagers::advise(self, skerry_policy::Advice::NextTouch);
    }
}

struct Run<'a>(Program<'a>);
impl Visitor for Run<'_> {
    type Out = ();
    fn visit<P: Policy + Clone + Send + 'static>(self, policy: P) {
        (self.0)(&mut Pagers::new(four_nodes(), RANGE, &policy));
    }
}

fn run(policy: &str, mut program: impl FnMut(&mut dyn Pages)) {
    with(policy, Run(&mut program)).unwrap();
}

/// How many of the pages lie on each node after node 1 has touched all.
fn spread(policy: &str) -> [usize; 4] {
    let mut count = [0; 4];
    run(policy, |pages| {
        (64..128).for_each(|page| pages.access(1, page, true));
        (64..128).for_each(|page| count[usize::from(pages.home(page))] += 1);
    });
    count
}

#[test]
fn fresh_pages_go_where_the_policy_says() {
    assert_eq!(spread("first-touch"), [0, 64, 0, 0]);
    assert_eq!(spread("node-local"), [0, 64, 0, 0]);
    assert_eq!(spread("interleave"), [16; 4]);
    assert_eq!(spread("interleave:nodes=0,2-3"), [21, 0, 22, 21]);
    assert_eq!(spread("bind:nodes=2-3"), [0, 0, 64, 0]);
    assert_eq!(spread("preferred:node=3"), [0, 0, 0, 64]);
    let weighted = spread("weighted-interleave");
    assert!(
        weighted[0].abs_diff(32) <= 1 && weighted[1..].iter().all(|n| n.abs_diff(11) <= 1),
        "{weighted:?}"
    );
}

#[test]
fn the_next_touch_moves_a_page_once() {
    run("next-touch", |pages| {
        pages.access(0, 70, true);
        pages.access(2, 70, false);
        assert_eq!(pages.home(70), 2);
        pages.access(1, 70, true);
        pages.access(0, 70, true);
        assert_eq!(pages.home(70), 2, "it has had its touch");
        pages.advise();
        pages.access(2, 70, true);
        pages.access(3, 70, true);
        assert_eq!(pages.home(70), 2, "the next one to touch it was its own node");
        pages.advise();
        pages.access(3, 70, true);
        assert_eq!(pages.home(70), 3);
    });
}

#[test]
fn a_page_moves_to_who_uses_it() {
    for policy in ["migrate-on-remote:rate=500", "af-scan", "adaptive"] {
        run(policy, |pages| {
            pages.access(0, 70, true);
            for _ in 0..24 {
                pages.access(2, 70, true);
                pages.tick();
            }
            assert_eq!(pages.home(70), 2, "{policy}");
        });
    }
}

#[test]
fn a_page_that_two_nodes_write_stays() {
    for policy in ["migrate-on-remote:rate=500", "af-scan", "replicate-read-mostly", "adaptive"] {
        run(policy, |pages| {
            pages.access(0, 70, true);
            for _ in 0..24 {
                pages.access(2, 70, true);
                pages.access(0, 70, true);
                pages.tick();
            }
            assert_eq!((pages.home(70), pages.copies(70)), (0, 0), "{policy}");
        });
    }
}

#[test]
fn pages_that_are_read_get_copies_until_somebody_writes() {
    for policy in ["replicate-read-mostly", "adaptive"] {
        run(policy, |pages| {
            pages.access(0, 70, true);
            for _ in 0..24 {
                (0..4).for_each(|node| pages.access(node, 70, false));
                pages.tick();
            }
            assert_eq!((pages.home(70), pages.copies(70)), (0, 3), "{policy}");
            pages.access(1, 70, true);
            assert_eq!((pages.home(70), pages.copies(70)), (0, 0), "{policy}");
        });
    }
}

#[test]
fn what_is_impossible_is_said_once_and_first_touch_goes_on() {
    struct Wrong;
    impl Policy for Wrong {
        type Record = ();
        fn place(&mut self, _: &World<'_>, _: &Fault) -> Node {
            77
        }
    }
    let Machine { nodes, distances } = four_nodes();
    let (costs, feedback) = (Costs::default(), Feedback::default());
    let world = World {
        node: 2,
        now: 0,
        period: 1,
        nodes: &nodes,
        distances: &distances,
        free: &[9; 4],
        costs,
        feedback,
        pages: RANGE,
    };
    let (access, reason) = (skerry_policy::Access::Read, skerry_policy::Reason::Untouched);
    let fault = Fault { page: 70, access, reason, node: 2, thread: 0, region: RANGE };
    let mut contained = Contained::new(Wrong);
    assert_eq!(contained.news(), None);
    assert_eq!(contained.place(&world, &fault), Ok(2));
    assert_eq!((contained.news(), contained.news()), (Some(Mistake::Placed(77)), None));
    assert_eq!(contained.place(&world, &fault), Ok(2));
}
