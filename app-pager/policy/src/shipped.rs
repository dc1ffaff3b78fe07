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

use crate::event::Fault;
use crate::guard::{Contained, Mistake, NoFrame};
use crate::nodes::Node;
use crate::options::{Spec, SpecError};
use crate::policy::Policy;
use crate::world::World;

/// From one line for each policy, whether or not it has options: how it is found by its name ([`with`]), and [`Any`].
macro_rules! policies {
    (@make plain $ty:path, $spec:expr) => {
        $spec.only(&[]).map(|()| <$ty>::default())
    };
    (@make options $ty:path, $spec:expr) => {
        <$ty>::new($spec)
    };
    ($($variant:ident $name:literal => $ty:path { $how:ident },)*) => {
        /// Makes the policy that `text` names and gives it to `visitor`.
        ///
        /// # Errors
        /// [`SpecError`].
        pub fn with<V: Visitor>(text: &str, visitor: V) -> Result<V::Out, SpecError<'_>> {
            let spec = Spec::new(text);
            let ahead = spec.get("ahead");
            let pages = spec.number("ahead", 1)?;
            let visitor = Ahead { visitor, pages, text: ahead.unwrap_or_default() };
            match spec.name {
                $($name => visitor.take(policies!(@make $how $ty, &spec)?),)*
                other => Err(SpecError::Policy(other)),
            }
        }

        /// Any of them, contained, for whoever only wants to know where fresh pages go.
        #[derive(Clone, Debug)]
        #[expect(missing_docs, reason = "they are what their types say")]
        pub enum Any {
            $($variant(Contained<$ty>),)*
        }

        impl Any {
            /// The policy that `text` names.
            ///
            /// # Errors
            /// [`SpecError`], also for one that has to be told of [more](Asks::More) than fresh pages.
            pub fn new(text: &str) -> Result<Self, SpecError<'_>> {
                let spec = Spec::new(text);
                if spec.get("ahead").is_some() {
                    return Err(SpecError::Option("ahead"));
                }
                if ALL.iter().any(|entry| entry.name == spec.name && entry.asks == Asks::More) {
                    return Err(SpecError::AsksMore(spec.name));
                }
                match spec.name {
                    $($name => policies!(@make $how $ty, &spec).map(|policy| Self::$variant(Contained::new(policy))),)*
                    other => Err(SpecError::Policy(other)),
                }
            }
            /// See [`Contained::place`].
            ///
            /// # Errors
            /// [`NoFrame`].
            pub fn place(&mut self, world: &World<'_>, fault: &Fault) -> Result<Node, NoFrame> {
                match self {
                    $(Self::$variant(policy) => policy.place(world, fault),)*
                }
            }
            /// See [`Contained::news`].
            pub const fn news(&mut self) -> Option<Mistake> {
                match self {
                    $(Self::$variant(policy) => policy.news(),)*
                }
            }
        }
    };
}

/// A policy, for lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Its options.
    pub options: &'static str,
    /// What it does.
    pub what: &'static str,
    /// What it has to be told of.
    pub asks: Asks,
}

/// What a policy has to be told of to do what it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asks {
    /// Of fresh pages only.
    Fresh,
    /// Of faults, samples, scans or ticks, too: replay does that, pagers do not yet.
    More,
}
use Asks::{Fresh, More};

/// All of them.
pub const ALL: &[Entry] = &[
    entry("first-touch", "", "on the node that touches the page first", Fresh),
    entry("node-local", "", "the same, and never from another node: the task ends when it is full", Fresh),
    entry("interleave", "nodes=SET", "one page after the other on one node after the other", Fresh),
    entry("weighted-interleave", "nodes=SET", "the same in proportion to the bandwidth of the nodes", Fresh),
    entry("bind", "nodes=SET", "on these nodes only: the task ends when they are full", Fresh),
    entry("preferred", "node=N", "on this node, and when it is full on the nearest", Fresh),
    entry("next-touch", "", "moves once, to the next node that touches it", More),
    entry("migrate-on-remote", "rate=N", "moves to who is seen twice in a row, by hinting faults", More),
    entry("af-scan", "rate=N, votes=N", "moves to who uses it most, by access flags", More),
    entry(
        "replicate-read-mostly",
        "rate=N",
        "copies for all nodes that read it, until somebody writes",
        More,
    ),
    entry("adaptive", "", "moves, copies or spreads when that is worth its price", More),
];

const fn entry(name: &'static str, options: &'static str, what: &'static str, asks: Asks) -> Entry {
    Entry { name, options, what, asks }
}

policies! {
    FirstTouch "first-touch" => first_touch::FirstTouch { plain },
    NodeLocal "node-local" => node_local::NodeLocal { plain },
    Interleave "interleave" => interleave::Interleave { options },
    WeightedInterleave "weighted-interleave" => weighted_interleave::WeightedInterleave { options },
    Bind "bind" => bind::Bind { options },
    Preferred "preferred" => preferred::Preferred { options },
    NextTouch "next-touch" => next_touch::NextTouch { plain },
    MigrateOnRemote "migrate-on-remote" => migrate_on_remote::MigrateOnRemote { options },
    AfScan "af-scan" => af_scan::AfScan { options },
    ReplicateReadMostly "replicate-read-mostly" => replicate_read_mostly::ReplicateReadMostly { options },
    Adaptive "adaptive" => adaptive::Adaptive { plain },
}

/// What somebody wants to do with a policy, whichever it is.
pub trait Visitor {
    /// What comes of it.
    type Out;
    /// Gets the policy, from which instances are cloned.
    fn visit<P: Policy + Clone + Send + 'static>(self, policy: P) -> Self::Out;
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
    fn what_only_places_pages_can_be_had_without_its_type() {
        for entry in ALL {
            let text = match entry.name {
                "bind" => "bind:nodes=0",
                "preferred" => "preferred:node=0",
                name => name,
            };
            let any = Any::new(text);
            assert_eq!(any.is_ok(), entry.asks == Asks::Fresh, "{text}");
            assert_eq!(any.err(), (entry.asks == Asks::More).then_some(SpecError::AsksMore(text)));
        }
        assert_eq!(Any::new("interleave:ahead=16").unwrap_err(), SpecError::Option("ahead"));
        assert_eq!(Any::new("frist-touch").unwrap_err(), SpecError::Policy("frist-touch"));
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
