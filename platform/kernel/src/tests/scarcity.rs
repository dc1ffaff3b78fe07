//! Every allocation fails once.
//!
//! Each operation is tried with room for none, one, two … more objects of each kind, or with a quota of so many, until it succeeds: so
//! each of its allocations is in turn the one that fails. After a failure everything is as it was, the caller has been told, and
//! nobody else notices; when there is room again, the same operation succeeds; and in the end nothing has leaked.

mod operations;
mod scene;

use super::invariants::check;
use operations::OPERATIONS;
use scene::{Scene, Sites};
use skerry_abi::Error;
use std::string::String;
use std::vec::Vec;

/// What there is too little of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Tables,
    Nodes,
    Spaces,
    Threads,
    UtcbPages,
    Guests,
    /// Page tables that the quota of the operation's space allows.
    TableQuota,
    /// Map nodes, likewise.
    NodeQuota,
}

const KINDS: [Kind; 8] = [
    Kind::Tables,
    Kind::Nodes,
    Kind::Spaces,
    Kind::Threads,
    Kind::UtcbPages,
    Kind::Guests,
    Kind::TableQuota,
    Kind::NodeQuota,
];

/// Something that takes kernel memory, or must not.
struct Operation {
    name: &'static str,
    /// The cluster whose memory it takes.
    cluster: usize,
    /// What comes before it.
    prepare: fn(&mut Scene<'_>),
    /// Tries it, and looks whether it did what it says.
    attempt: fn(&mut Scene<'_>) -> Result<(), Error>,
    /// The space whose quota counts; `None`: it is about none, or one that begins without.
    payer: Option<fn(&Scene<'_>) -> u16>,
    /// What it needs some of.
    needs: &'static [Kind],
}

/// Tries an operation with room for `spare` objects of a kind. Returns whether it succeeded at once.
fn try_with(operation: &Operation, kind: Kind, spare: usize) -> Result<bool, String> {
    let sites = Sites::new(operation, kind, spare);
    sites.run(|scene| {
        (operation.prepare)(scene);
        let empty = scene.empty;
        if let (Kind::TableQuota | Kind::NodeQuota, Some(payer)) = (kind, operation.payer) {
            scene.limit(operation.cluster, payer(scene), kind, spare);
        }
        let before = scene.view();
        let result = (operation.attempt)(scene);
        scene.w.iter().try_for_each(check)?;
        match result {
            Ok(()) => {}
            Err(Error::OutOfKernelMemory) => {
                if scene.view() != before {
                    return Err(std::format!("changed {before:?} to {:?}", scene.view()));
                }
                scene.make_room(operation, kind);
                (operation.attempt)(scene).map_err(|error| std::format!("with room again: {error}"))?;
                scene.w.iter().try_for_each(check)?;
            }
            Err(error) => return Err(std::format!("failed with: {error}")),
        }
        scene.others_go_on()?;
        scene.tear_down();
        scene.w.iter().try_for_each(check)?;
        let after = scene.free();
        if after != empty {
            Err(std::format!("{empty:?} before, {after:?} after"))
        } else {
            Ok(result.is_ok())
        }
    })
}

#[test]
fn every_allocation_fails_once_and_nothing_is_lost() {
    for operation in OPERATIONS {
        let mut failed = Vec::new();
        for kind in KINDS {
            let quota = matches!(kind, Kind::TableQuota | Kind::NodeQuota);
            if quota && operation.payer.is_none() {
                continue;
            }
            let mut spare = 0;
            let context = |spare| std::format!("{} with {spare} {kind:?}", operation.name);
            while !try_with(operation, kind, spare).unwrap_or_else(|why| panic!("{}: {why}", context(spare)))
            {
                spare += 1;
                assert!(spare < 64, "{} never succeeds", context(spare));
            }
            if spare > 0 {
                failed.push(kind);
            }
        }
        assert_eq!(failed, operation.needs, "{}: what it takes", operation.name);
    }
}
