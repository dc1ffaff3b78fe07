//! Reads what the guest writes: plain lines for people, JSON lines (beginning with `{`) for the launcher.

use serde::Deserialize;
use serde_json::{Map, Number, Value};

/// A measurement as the guest sends it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Measurement {
    /// The benchmark.
    pub bench: String,
    /// The case, unique over all benchmarks.
    pub case: String,
    /// What was measured.
    pub metric: String,
    /// How much.
    pub value: Number,
    /// In what.
    pub unit: String,
    /// `exact`, `modelled` or `wall`.
    #[serde(default = "exact")]
    pub kind: String,
    /// Further fields: what tells this measurement from others of its metric.
    #[serde(flatten)]
    pub parameters: Map<String, Value>,
}

fn exact() -> String {
    "exact".into()
}

/// How far the guest is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Steps in total.
    pub total: u64,
    /// What the steps are.
    #[serde(default)]
    pub what: String,
}

/// What the guest says about its own ending.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// `pass`, or another word.
    pub verdict: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

#[derive(Deserialize)]
struct ProgressLine {
    progress: Progress,
}

/// A line of the console.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// A result.
    Measurement(Measurement),
    /// A sign of life.
    Progress(Progress),
    /// The end.
    Verdict(Verdict),
    /// Anything else.
    Text(String),
}

impl Line {
    /// Understands one line. JSON that says nothing known is text: the guest may be newer, or two lines got mixed.
    pub fn parse(line: &str) -> Self {
        let line = line.trim_end();
        let text = || Self::Text(line.to_owned());
        if !line.starts_with('{') {
            return text();
        }
        let Ok(value) = serde_json::from_str::<Value>(line) else { return text() };
        let has = |key| value.get(key).is_some();
        let parsed = if has("bench") {
            serde_json::from_value(value).map(Self::Measurement)
        } else if has("progress") {
            serde_json::from_value(value).map(|line: ProgressLine| Self::Progress(line.progress))
        } else if has("verdict") {
            serde_json::from_value(value).map(Self::Verdict)
        } else {
            return text();
        };
        parsed.unwrap_or_else(|_| text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_kinds_of_json_lines_are_understood() {
        let line =
            r#"{"bench":"b","case":"b.faults","metric":"faults","value":7,"unit":"faults","thread":1}"#;
        let Line::Measurement(m) = Line::parse(line) else { panic!() };
        assert_eq!((m.value, m.kind.as_str(), &m.parameters["thread"]), (7.into(), "exact", &Value::from(1)));
        let progress = Progress { done: 1, total: 4, what: "walk".into() };
        assert_eq!(
            Line::parse("{\"progress\":{\"done\":1,\"total\":4,\"what\":\"walk\"}}\r"),
            Line::Progress(progress)
        );
        let verdict = Verdict { verdict: "pass".into(), reason: String::new() };
        assert_eq!(Line::parse(r#"{"verdict":"pass"}"#), Line::Verdict(verdict));
    }

    #[test]
    fn everything_else_is_text() {
        for line in
            ["", "hello", "{", "{}", "{\"bench\":1}", "{\"progress\":{\"done\":-1,\"total\":4}}", "[1]"]
        {
            assert_eq!(Line::parse(line), Line::Text(line.into()));
        }
    }
}
