//! Measurement records: one JSON object per line, which the launcher collects.

use core::fmt::{self, Display, Write};

use crate::console::print_line;

/// Whether a number is the same in every deterministic run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Counted, repeatable.
    Exact,
    /// From the cost model.
    Modelled,
}

/// Text as a JSON string.
struct Json<'a>(&'a str);

impl Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// A record as a line of JSON; `value` must print as a JSON number, `extra` are further numeric fields.
pub fn measurement<'a>(
    (bench, case, metric): (&'a str, &'a str, &'a str),
    value: impl Display + 'a,
    unit: &'a str,
    kind: Kind,
    extra: &'a [(&'a str, u64)],
) -> impl Display + 'a {
    let kind = match kind {
        Kind::Exact => "exact",
        Kind::Modelled => "modelled",
    };
    fmt::from_fn(move |f| {
        let (bench, case, metric, unit) = (Json(bench), Json(case), Json(metric), Json(unit));
        write!(
            f,
            "{{\"bench\":{bench},\"case\":{case},\"metric\":{metric},\"value\":{value},\"unit\":{unit}"
        )?;
        write!(f, ",\"kind\":\"{kind}\"")?;
        extra.iter().try_for_each(|(name, value)| write!(f, ",{}:{value}", Json(name)))?;
        f.write_char('}')
    })
}

/// Emits a record: see [`measurement`].
pub fn emit(names: (&str, &str, &str), value: impl Display, unit: &str, kind: Kind, extra: &[(&str, u64)]) {
    print_line(format_args!("{}", measurement(names, value, unit, kind, extra)));
}

/// Emits a progress line: `done` of `total` steps of `what`.
pub fn progress(what: &str, done: u64, total: u64) {
    print_line(format_args!("{}", progress_line(what, done, total)));
}

/// The progress line itself.
pub fn progress_line(what: &str, done: u64, total: u64) -> impl Display + '_ {
    fmt::from_fn(move |f| {
        write!(f, "{{\"progress\":{{\"what\":{},\"done\":{done},\"total\":{total}}}}}", Json(what))
    })
}

/// A verdict as a line of JSON.
pub fn verdict<'a>(word: &'a str, reason: &'a str) -> impl Display + 'a {
    fmt::from_fn(move |f| write!(f, "{{\"verdict\":{},\"reason\":{}}}", Json(word), Json(reason)))
}
