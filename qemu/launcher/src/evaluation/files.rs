//! Where finished cells and records are kept: `target/evaluation`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use skerry_evaluation::cell::Cell;
use skerry_evaluation::resume::Basis;
use skerry_evaluation::setup::Setup;

use crate::error::{Error, Result};
use crate::guest::usual_target;
use crate::record::Record;
use crate::session;

/// The folder.
///
/// # Errors
/// [`Error::Host`] outside of the repository.
pub fn folder() -> Result<PathBuf> {
    Ok(usual_target(&session::workspace()?).join("evaluation"))
}

/// The file with the last records of a setup.
///
/// # Errors
/// As for [`folder`].
pub fn records_file(setup: Setup) -> Result<PathBuf> {
    Ok(folder()?.join(format!("{}.jsonl", setup.name())))
}

/// Finished cells.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    basis: Basis,
}

impl Store {
    /// The store, of which cells with this basis are used.
    ///
    /// # Errors
    /// [`Error::Host`] if the folder cannot be made.
    pub fn open(basis: Basis) -> Result<Self> {
        Self::at(folder()?.join("cells"), basis)
    }

    fn at(folder: PathBuf, basis: Basis) -> Result<Self> {
        std::fs::create_dir_all(&folder).map_err(Error::host(format!("making {}", folder.display())))?;
        Ok(Self { folder, basis })
    }

    fn path(&self, cell: &Cell) -> Result<PathBuf> {
        let machine = super::cells::machine(&cell.machine)?;
        Ok(self.folder.join(self.basis.key(cell, &machine.hash)))
    }

    /// The records of a cell that is finished. What cannot be read is not.
    ///
    /// # Errors
    /// If the cell's machine does not exist.
    pub fn load(&self, cell: &Cell) -> Result<Option<Vec<Record>>> {
        let Ok(text) = std::fs::read_to_string(self.path(cell)?) else { return Ok(None) };
        Ok(parse(&text).ok().filter(|records| !records.is_empty()))
    }

    /// Keeps a finished cell. A run that is killed meanwhile leaves nothing that looks like one.
    ///
    /// # Errors
    /// [`Error::Host`].
    pub fn save(&self, cell: &Cell, records: &[Record]) -> Result<()> {
        write(&self.path(cell)?, records)
    }
}

/// Writes records, one per line, in one go.
///
/// # Errors
/// [`Error::Host`].
pub fn write(path: &Path, records: &[Record]) -> Result<()> {
    let failed = || format!("writing {}", path.display());
    let mut text = String::new();
    for record in records {
        text += &serde_json::to_string(record).map_err(Error::host(failed()))?;
        text.push('\n');
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::host(failed()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::host(failed()))?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(Error::host(failed()))?;
    file.persist(path).map_err(Error::host(failed()))?;
    Ok(())
}

/// Reads records; lines that are none are an error, with their number.
///
/// # Errors
/// [`Error::Usage`].
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
    parse(&text)
        .map_err(|line| Error::Usage(format!("{}, line {line}: this is not a record", path.display())))
}

/// The records, or the number of the first line that is none.
fn parse(text: &str) -> std::result::Result<Vec<Record>, usize> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let record = |(index, line): (usize, &str)| match serde_json::from_str(line) {
        Ok(Value::Object(record)) => Ok(record),
        _ => Err(index + 1),
    };
    lines.map(record).collect()
}

/// Puts the records of some benchmarks into the file of their setup, in place of those of the same benchmarks. What another revision left there
/// goes: records are not mixed.
///
/// # Errors
/// [`Error::Host`].
pub fn merge(setup: Setup, records: &[Record]) -> Result<PathBuf> {
    let path = records_file(setup)?;
    let kept = if path.is_file() { keep(read(&path).unwrap_or_default(), records) } else { Vec::new() };
    let all: Vec<Record> = kept.into_iter().chain(records.iter().cloned()).collect();
    write(&path, &all)?;
    Ok(path)
}

/// Those of `old` that stay beside the new ones.
fn keep(old: Vec<Record>, new: &[Record]) -> Vec<Record> {
    const SAME: [&str; 4] = ["revision", "dirty", "qemu", "guest_compiler"];
    let Some(first) = new.first() else { return old };
    let stays = |record: &Record| {
        SAME.iter().all(|key| record.get(*key) == first.get(*key))
            && new.iter().all(|other| other.get("bench") != record.get("bench"))
    };
    // With uncommitted changes nobody knows whether two runs are of the same sources.
    let is_dirty = first.get("dirty") == Some(&Value::Bool(true));
    let old = if is_dirty { same_run(old, first) } else { old };
    old.into_iter().filter(stays).collect()
}

/// Records of uncommitted changes stay only until the programs change, which `basis` says.
fn same_run(old: Vec<Record>, first: &Record) -> Vec<Record> {
    old.into_iter().filter(|record| record.get("basis") == first.get("basis")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use skerry_evaluation::cell::{Core, NUMA};

    fn record(bench: &str, revision: &str) -> Record {
        match json!({"bench": bench, "case": "c", "revision": revision, "dirty": false}) {
            Value::Object(fields) => fields,
            _ => Record::new(),
        }
    }

    #[test]
    fn a_finished_cell_is_found_again_and_only_that() {
        let folder = tempfile::tempdir().unwrap();
        let store = |basis: &str| Store::at(folder.path().to_owned(), Basis::of([basis.as_bytes()])).unwrap();
        let setup = Setup { quick: true, paper: false };
        let (cell, other) = (setup.walk(NUMA, Core::Blocking, 0, 1), setup.walk(NUMA, Core::Blocking, 1, 1));
        assert_eq!(store("a").load(&cell).unwrap(), None);
        store("a").save(&cell, &[record("b", "r")]).unwrap();
        assert_eq!(store("a").load(&cell).unwrap(), Some(vec![record("b", "r")]));
        assert_eq!(store("a").load(&other).unwrap(), None);
        assert_eq!(store("b").load(&cell).unwrap(), None, "other programs");
        std::fs::write(store("a").path(&cell).unwrap(), "{\"bench\":").unwrap();
        assert_eq!(store("a").load(&cell).unwrap(), None, "torn");
    }

    #[test]
    fn another_revision_replaces_what_is_there() {
        let old = vec![record("ipc", "1"), record("overlap", "1")];
        assert_eq!(keep(old.clone(), &[record("overlap", "1")]), [record("ipc", "1")]);
        assert_eq!(keep(old, &[record("overlap", "2")]), [] as [Record; 0]);
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"a\":1}\n\nnonsense\n").unwrap();
        assert!(read(file.path()).unwrap_err().to_string().contains("line 3"));
    }
}
