//! What a finished cell is kept under, so that an interrupted evaluation goes on where it stopped.
//!
//! A cell's records may be used again only if running it again would give the same: the same programs, instrument, machine file, emulator and
//! parameters, from the same revision.

use sha2::{Digest, Sha256};

use crate::cell::Cell;

/// A hash that stands for everything that the records of all cells depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis(String);

impl Basis {
    /// Of these pieces: revision, emulator's version, contents of images and of the instrument.
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for piece in pieces {
            hasher.update((piece.len() as u64).to_le_bytes());
            hasher.update(piece);
        }
        Self(hex(&hasher.finalize()))
    }

    /// The hash, as records say in `basis`.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The name of a cell's file, given its machine file's hash.
    pub fn key(&self, cell: &Cell, machine_hash: &str) -> String {
        let Self(basis) = self;
        let text = serde_json::to_string(cell).unwrap_or_default();
        hex(&Sha256::digest(format!("{basis} {machine_hash} {text}")))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Core, NUMA, SPACES};
    use crate::setup::Setup;

    #[test]
    fn a_key_changes_with_everything_that_counts() {
        let setup = Setup { quick: true, paper: false };
        let basis = Basis::of([&b"revision"[..], b"image"]);
        let cell = setup.walk(NUMA, Core::Blocking, 3, 1);
        let key = basis.key(&cell, "m");
        assert_eq!(key, basis.clone().key(&cell.clone(), "m"));
        let others = [
            Basis::of([&b"revisioni"[..], b"mage"]).key(&cell, "m"),
            basis.key(&cell, "n"),
            basis.key(&setup.walk(SPACES, Core::Blocking, 3, 1), "m"),
            basis.key(&setup.walk(NUMA, Core::Prefetching, 3, 1), "m"),
            basis.key(&setup.walk(NUMA, Core::Blocking, 4, 1), "m"),
            basis.key(&Setup { paper: true, ..setup }.walk(NUMA, Core::Blocking, 3, 1), "m"),
        ];
        for (index, other) in others.iter().enumerate() {
            assert_ne!(*other, key, "{index}");
        }
    }
}
