//! A policy as it is written: `NAME[:OPTION=VALUE]…`, with `numactl`'s words where it has them (`interleave:nodes=0,2-3`).

use core::fmt;

use crate::nodes::{MAX_NODES, Node, NodeSet};

/// A name with options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spec<'a> {
    /// The policy's name.
    pub name: &'a str,
    options: &'a str,
}

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpecError<'a> {
    /// There is no such policy.
    Policy(&'a str),
    /// The policy has no such option.
    Option(&'a str),
    /// An option's value makes no sense.
    Value(&'static str, &'a str),
    /// An option that the policy needs.
    Missing(&'static str),
    /// Pagers do not tell policies all that this one has to be told.
    AsksMore(&'a str),
}

impl fmt::Display for SpecError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(name) => write!(f, "there is no policy {name}"),
            Self::Option(option) => write!(f, "the policy has no option {option}"),
            Self::Value(key, value) => write!(f, "{key}={value} makes no sense"),
            Self::Missing(key) => write!(f, "the policy needs {key}="),
            Self::AsksMore(name) => write!(
                f,
                "{name} has to be told of more than fresh pages, which pagers do not do yet: try it with `replay --policy {name}`"
            ),
        }
    }
}

impl<'a> Spec<'a> {
    /// Takes it apart.
    pub fn new(text: &'a str) -> Self {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        Self { name, options }
    }
    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let words = self.options.split(':').filter(|word| !word.is_empty());
        words.map(|word| word.split_once('=').unwrap_or((word, "")))
    }
    /// The same with another name.
    #[must_use]
    pub const fn named(self, name: &'a str) -> Self {
        Self { name, ..self }
    }
    /// Refuses options that are not in `known`, but `ahead`, which all policies have.
    ///
    /// # Errors
    /// [`SpecError::Option`].
    pub fn only(&self, known: &[&str]) -> Result<(), SpecError<'a>> {
        let unknown = self.pairs().find(|(key, _)| *key != "ahead" && !known.contains(key));
        unknown.map_or(Ok(()), |(key, _)| Err(SpecError::Option(key)))
    }
    /// An option's value; the last one wins.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.pairs().filter(|(name, _)| *name == key).last().map(|(_, value)| value)
    }
    /// A number, `default` if it is not given.
    ///
    /// # Errors
    /// [`SpecError::Value`].
    pub fn number(&self, key: &'static str, default: u32) -> Result<u32, SpecError<'a>> {
        let Some(text) = self.get(key) else { return Ok(default) };
        text.parse().map_err(|_| SpecError::Value(key, text))
    }
    /// A set of nodes, as numactl writes it: `all`, or numbers and spans (`0,2-3`).
    ///
    /// # Errors
    /// [`SpecError::Value`], also for an empty set.
    pub fn nodes(&self, key: &'static str) -> Result<Option<NodeSet>, SpecError<'a>> {
        let Some(text) = self.get(key) else { return Ok(None) };
        if text == "all" {
            return Ok(Some(NodeSet(u128::MAX)));
        }
        set(text).map(Some).ok_or(SpecError::Value(key, text))
    }
}

fn set(text: &str) -> Option<NodeSet> {
    let mut nodes = NodeSet::EMPTY;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (Node, Node) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || usize::from(last) >= MAX_NODES {
            return None;
        }
        nodes = (first..=last).fold(nodes, NodeSet::with);
    }
    Some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_for_numactl() {
        let nodes = |text| Spec::new(text).nodes("nodes");
        assert_eq!(nodes("x:nodes=0,2-3"), Ok(Some(NodeSet(0b1101))));
        assert_eq!((nodes("x:nodes=all"), nodes("x")), (Ok(Some(NodeSet(u128::MAX))), Ok(None)));
        for wrong in ["x:nodes=", "x:nodes=3-2", "x:nodes=128", "x:nodes=1,,2", "x:nodes=a"] {
            assert!(nodes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let spec = Spec::new("af-scan:rate=20:votes=3:rate=30");
        assert_eq!((spec.name, spec.number("rate", 1), spec.number("other", 7)), ("af-scan", Ok(30), Ok(7)));
        assert_eq!(spec.only(&["rate"]), Err(SpecError::Option("votes")));
        assert_eq!(spec.only(&["rate", "votes"]), Ok(()));
        assert_eq!(Spec::new("x:rate=fast").number("rate", 1), Err(SpecError::Value("rate", "fast")));
    }
}
