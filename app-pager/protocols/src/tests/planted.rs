//! Every rule is broken in turn: the model must find what goes wrong, and it must be what the rule is there for.

use super::explore::outcome;
use super::scenario::Scenario;
use super::scenarios::*;
use crate::rules::Rule;

#[test]
fn every_broken_rule_is_found() {
    for &rule in Rule::ALL {
        let Some((scenario, expected)) = case(rule) else { continue };
        let (outcome, _) = outcome("planted", scenario, Some(rule));
        assert_eq!(outcome.map_err(|(why, _)| why), Err(expected), "{rule:?}");
    }
}

const STUCK: &str = "a request does not complete";
const FREE: &str = "a free frame is mapped";
const STRANGER: &str = "a node maps a page without being a sharer";

/// A scenario in which it matters, and what comes of it.
fn case(rule: Rule) -> Option<(Scenario, &'static str)> {
    let found = match rule {
        Rule::GuardsCount => (UNMAP, FREE),
        Rule::ShareUntilUnmapped => (UNMAP, STRANGER),
        Rule::WorkersNeverCall => (EACH_OTHER, STUCK),
        Rule::FreeLast => (UNMAP, "a frame of the table is free"),
        Rule::LookAgain => (UNMAP, FREE),
        Rule::LookBeforeJoin => (UNMAP, STRANGER),
        Rule::ClearOwnBit => (WIDEN, STRANGER),
        Rule::HeedRevoked => (ONE_NODE, STRANGER),
        Rule::MarkLocalContended | Rule::WakeNode => (ONE_NODE, STUCK),
        Rule::MarkMasterContended | Rule::WakeAll => (UNMAP, STUCK),
        Rule::WordBeforeUnmap => (UNMAP, FREE),
        Rule::AwaitAll | Rule::AskSharers => (UNMAP, FREE),
        Rule::WaitWithNothing => (CROSSED, STUCK),
        Rule::CopyLast => (MOVE, "a write was lost"),
        Rule::ClaimFirst => (DEATH, "a frame is lost"),
        Rule::ForgetFirst => (DEATH, STRANGER),
        Rule::WakeAfterDeath => (DEATH, STUCK),
        Rule::QuietBeforeReuse => (LOST_POOL, FREE),
        Rule::FreeCopies => (REPLICAS, "a frame is lost"),
        Rule::CountInGroup | Rule::GroupFirst => (TOGETHER, FREE),
        Rule::MaintainBeforeReuse => (UNMAP, "a frame was freed without cache maintenance"),
        // Of threads, not pages: `super::task`.
        Rule::LookAfterArrival | Rule::LookAfterHandOver => return None,
    };
    Some(found)
}
