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

/// Emits a record; `value` must print as a JSON number, `extra` are further numeric fields.
pub fn emit(
    (bench, case, metric): (&str, &str, &str),
    value: impl Display,
    unit: &str,
    kind: Kind,
    extra: &[(&str, u64)],
) {
    struct Extra<'a>(&'a [(&'a str, u64)]);
    impl Display for Extra<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.iter().try_for_each(|(name, value)| write!(f, ",{}:{value}", Json(name)))
        }
    }
    let kind = match kind {
        Kind::Exact => "exact",
        Kind::Modelled => "modelled",
    };
    print_line(format_args!(
        "{{\"bench\":{},\"case\":{},\"metric\":{},\"value\":{value},\"unit\":{},\"kind\":\"{kind}\"{}}}",
        Json(bench),
        Json(case),
        Json(metric),
        Json(unit),
        Extra(extra),
    ));
}

/// Emits a progress line: `done` of `total` steps of `what`.
pub fn progress(what: &str, done: u64, total: u64) {
    print_line(format_args!(
        "{{\"progress\":{{\"what\":{},\"done\":{done},\"total\":{total}}}}}",
        Json(what)
    ));
}

/// Emits a verdict line.
pub fn verdict(word: &str, reason: &str) {
    print_line(format_args!("{{\"verdict\":{},\"reason\":{}}}", Json(word), Json(reason)));
}
