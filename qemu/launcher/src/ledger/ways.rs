//! What is executed on a path: the benchmark once more, with the measuring instrument, which looks at the instructions instead of counting them.

use serde::Deserialize;
use serde_json::Value;
use skerry_bench::{Case, SAMPLES, WARM_UP};
use skerry_cost_model::{Config, CoreModel, Path};

use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::plugin::{self, Files, Modelling, QUANTUM};
use crate::session::Session;
use crate::supervisor::{Finished, Observer, supervise};
use crate::symbols::Symbols;

/// What was executed on one way: CPU, address, how often.
pub type Way = Vec<(u16, u64, usize)>;

/// A run of a case, and the ways, one for each of its samples. The kernel's exceptions come to `vectors`.
///
/// # Errors
/// [`Error::Build`] if the program lacks the marks, [`Error::Check`] if there is not a way for each sample.
pub fn ways(
    session: &Session,
    bench: &Bench,
    case: &Case,
    (program, vectors): (&Symbols, u64),
    observer: &dyn Observer,
) -> Result<(Finished, Vec<Way>)> {
    let mark = |label: &str| {
        program.address(label).ok_or_else(|| Error::Build(format!("the program has no label {label}")))
    };
    let [first, last] = case.marks.ok_or_else(|| Error::Usage(format!("{} has no ledger", case.name)))?;
    let path = Path { first: mark(first)?, last: mark(last)?, vectors };
    let modelling = Modelling { core: CoreModel::Blocking, quantum: QUANTUM, sanitize: false };
    let config = Config { path: Some(path), ..plugin::config(bench.machine(), modelling) };
    let files = Files::new(session, &config)?;
    let command = bench.command_with(session, case, files.paths());
    let finished = supervise(command, bench.silence(), observer)?.passed()?;
    let ways = read(&files.report()?)?;
    // (Before them is what the program counts for the empty measurement, if that has the same marks.)
    let first = ways.len().checked_sub(SAMPLES).filter(|&before| before >= WARM_UP);
    let first = first.ok_or_else(|| {
        Error::Check(format!("{}: {} ways, {} expected", case.name, ways.len(), WARM_UP + SAMPLES))
    })?;
    Ok((finished, ways[first..].to_vec()))
}

fn read(report: &Value) -> Result<Vec<Way>> {
    let malformed =
        |error| Error::Check(format!("the measuring instrument wrote no report that makes sense: {error}"));
    Vec::<Way>::deserialize(&report["ways"]).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ways_are_read() {
        let report = json!({"ways": [[[0, 4096, 2], [1, 4100, 1]], []]});
        assert_eq!(read(&report).unwrap(), [vec![(0, 4096, 2), (1, 4100, 1)], vec![]]);
        assert!(read(&json!({})).is_err());
    }
}
