//! The policies that come with Skerry, one file each, and how one is found by its name.

pub mod adaptive;
pub mod af_scan;
pub mod bind;
pub mod fault_ahead;
pub mod first_touch;
pub mod interleave;
pub mod migrate_on_remote;
pub mod next_touch;
pub mod node_local;
pub mod preferred;
pub mod replicate_read_mostly;
pub mod weighted_interleave;

use crate::options::{Spec, SpecError};
use crate::policy::Policy;

/// A policy, for lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Its options.
    pub options: &'static str,
    /// What it does.
    pub what: &'static str,
}

/// All of them.
pub const ALL: &[Entry] = &[
    entry("first-touch", "", "on the node that touches the page first"),
    entry("node-local", "", "the same, and never from another node: the task ends when it is full"),
    entry("interleave", "nodes=SET", "one page after the other on one node after the other"),
    entry("weighted-interleave", "nodes=SET", "the same in proportion to the bandwidth of the nodes"),
    entry("bind", "nodes=SET", "on these nodes only: the task ends when they are full"),
    entry("preferred", "node=N", "on this node, and when it is full on the nearest"),
    entry("next-touch", "", "moves once, to the next node that touches it"),
    entry("migrate-on-remote", "rate=N", "moves to who is seen twice in a row, by hinting faults"),
    entry("af-scan", "rate=N, votes=N", "moves to who uses it most, by access flags"),
    entry("replicate-read-mostly", "rate=N", "copies for all nodes that read it, until somebody writes"),
    entry("adaptive", "", "moves, copies or spreads when that is worth its price"),
];

const fn entry(name: &'static str, options: &'static str, what: &'static str) -> Entry {
    Entry { name, options, what }
}

/// What somebody wants to do with a policy, whichever it is.
pub trait Visitor {
    /// What comes of it.
    type Out;
    /// Gets the policy, from which instances are cloned.
    fn visit<P: Policy + Clone + Send + 'static>(self, policy: P) -> Self::Out;
}

/// Makes the policy that `text` names and gives it to `visitor`.
///
/// # Errors
/// [`SpecError`].
pub fn with<V: Visitor>(text: &str, visitor: V) -> Result<V::Out, SpecError<'_>> {
    let spec = Spec::new(text);
    let ahead = spec.get("ahead");
    let pages = spec.number("ahead", 1)?;
    let visitor = Ahead { visitor, pages, text: ahead.unwrap_or_default() };
    let none = || spec.only(&["ahead"]);
    match spec.name {
        "first-touch" => none().and_then(|()| visitor.take(first_touch::FirstTouch)),
        "node-local" => none().and_then(|()| visitor.take(node_local::NodeLocal)),
        "interleave" => visitor.take(interleave::Interleave::new(&spec)?),
        "weighted-interleave" => visitor.take(weighted_interleave::WeightedInterleave::new(&spec)?),
        "bind" => visitor.take(bind::Bind::new(&spec)?),
        "preferred" => visitor.take(preferred::Preferred::new(&spec)?),
        "next-touch" => none().and_then(|()| visitor.take(next_touch::NextTouch::default())),
        "migrate-on-remote" => visitor.take(migrate_on_remote::MigrateOnRemote::new(&spec)?),
        "af-scan" => visitor.take(af_scan::AfScan::new(&spec)?),
        "replicate-read-mostly" => visitor.take(replicate_read_mostly::ReplicateReadMostly::new(&spec)?),
        "adaptive" => none().and_then(|()| visitor.take(adaptive::Adaptive::default())),
        other => Err(SpecError::Policy(other)),
    }
}

/// Wraps a policy that is to map ahead.
struct Ahead<'a, V> {
    visitor: V,
    pages: u32,
    text: &'a str,
}

impl<'a, V: Visitor> Ahead<'a, V> {
    fn take<P: Policy + Clone + Send + 'static>(self, policy: P) -> Result<V::Out, SpecError<'a>> {
        if self.pages == 1 {
            return Ok(self.visitor.visit(policy));
        }
        let ahead = fault_ahead::FaultAhead::new(policy, self.pages);
        ahead.map(|policy| self.visitor.visit(policy)).ok_or(SpecError::Value("ahead", self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Strict;
    impl Visitor for Strict {
        type Out = bool;
        fn visit<P: Policy + Clone + Send + 'static>(self, policy: P) -> bool {
            policy.is_strict()
        }
    }

    #[test]
    fn all_are_found_by_their_names() {
        for entry in ALL {
            let needs = match entry.name {
                "bind" => ":nodes=0",
                "preferred" => ":node=0",
                _ => "",
            };
            for ahead in ["", ":ahead=16"] {
                let text = std::format!("{}{needs}{ahead}", entry.name);
                let strict = with(&text, Strict).unwrap();
                assert_eq!(strict, ["node-local", "bind"].contains(&entry.name), "{text}");
            }
        }
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |text| with(text, Strict).unwrap_err();
        assert_eq!(wrong("frist-touch"), SpecError::Policy("frist-touch"));
        assert_eq!(wrong("first-touch:nodes=1"), SpecError::Option("nodes"));
        assert_eq!(wrong("bind"), SpecError::Missing("nodes"));
        assert_eq!(wrong("interleave:ahead=3"), SpecError::Value("ahead", "3"));
        assert_eq!(wrong("interleave:ahead=1024"), SpecError::Value("ahead", "1024"));
    }
}
