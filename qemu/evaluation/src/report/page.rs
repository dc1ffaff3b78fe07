//! The page: a template, and what stands in its places.

use serde_json::Value;

use super::{Report, data, svg};
use crate::figure::Figure;
use crate::goals::Outcome;
use crate::setup::MACHINE;

const TEMPLATE: &str = include_str!("../../assets/report.html");
const CSS: &str = include_str!("../../assets/report.css");
const JS: &str = include_str!("../../assets/report.js");
const LIBRARY: &str = include_str!("../../assets/echarts.min.js");

pub(super) fn render(report: &Report) -> String {
    let fill = |name: &str| match name {
        "css" => CSS.to_owned(),
        "js" => JS.to_owned(),
        "library" => LIBRARY.to_owned(),
        "set" => escape(report.setup.name()),
        "machine" => MACHINE.to_owned(),
        "summary" => summary(report),
        "provenance" => provenance(report),
        "warnings" => {
            report.warnings.iter().map(|line| format!("<p class=\"warning\">{}</p>", escape(line))).collect()
        }
        "nav" => nav(report),
        "goals" => goals(&report.goals),
        "figures" => report.figures.iter().map(|figure| of_figure(report, figure)).collect(),
        "data" => data::render(report),
        "sensitivity" => sensitivity(report),
        "footer" => {
            "Made by <code>cargo run -- report</code>. Plots: Apache ECharts, inlined (Apache License 2.0)."
                .to_owned()
        }
        other => panic!("the template has a place `{other}` that nobody fills"),
    };
    let mut html = String::with_capacity(LIBRARY.len() + (1 << 18));
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        html.push_str(before);
        html.push_str(&fill(name));
        rest = after;
    }
    html + rest
}

fn summary(report: &Report) -> String {
    let met = report.goals.iter().filter(|outcome| outcome.met).count();
    let goals = match report.goals.len() {
        0 => String::new(),
        all => format!(" {met} of {all} goals are met."),
    };
    format!(
        "A kernel and an address space on every node of a NUMA machine, against one kernel and one space for all. \
         {} figures, each with what the thesis behind Skerry found and what is found here.{goals}",
        report.figures.len()
    )
}

fn provenance(report: &Report) -> String {
    let fields = [
        ("revision", "revision"),
        ("dirty", "uncommitted changes"),
        ("qemu", "QEMU"),
        ("guest_compiler", "guest compiler"),
        ("machine", "machine"),
        ("machine_hash", "machine file"),
        ("quantum", "quantum"),
        ("set", "set"),
    ];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let row = |(key, called): (&str, &str)| {
        let value = report.first.get(key).map(text)?;
        Some(format!("<div><dt>{called}</dt><dd>{}</dd></div>", escape(&value)))
    };
    fields.into_iter().filter_map(row).collect()
}

fn sensitivity(report: &Report) -> String {
    match report.first.get("quantum_spread") {
        Some(_) => " (records say how much, in <code>quantum_spread</code>)".into(),
        None => "; how much was not measured for these records (<code>run --quanta</code> does that)".into(),
    }
}

fn nav(report: &Report) -> String {
    let link = |figure: &Figure| format!("<a href=\"#figure-{0}\">{0}</a>", escape(figure.id));
    let figures: String = report.figures.iter().map(link).collect();
    format!("<a href=\"#goals\">goals</a>{figures}")
}

fn goals(outcomes: &[Outcome]) -> String {
    if outcomes.is_empty() {
        return "<p>No goal has all its runs.</p>".into();
    }
    let cell = |outcome: Option<&&Outcome>| {
        let Some(outcome) = outcome else {
            return "<td class=\"number\" colspan=\"2\">not measured</td>".to_owned();
        };
        let (class, word) = if outcome.met { ("met", "met") } else { ("missed", "missed") };
        let ratio = outcome.goal.unit == "ratio";
        let value = if ratio { format!("{:.3}", outcome.value) } else { format!("{:.1}", outcome.value) };
        let why = if outcome.met || outcome.why.is_empty() {
            String::new()
        } else {
            format!("<span class=\"why\">{}</span>", escape(&outcome.why))
        };
        format!(
            "<td class=\"number\">{}</td><td><span class=\"{class}\">{value} · {word}</span>{why}</td>",
            outcome.goal.bound
        )
    };
    let mut rows = String::new();
    let mut names: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !names.contains(&outcome.goal.name.as_str()) {
            names.push(&outcome.goal.name);
        }
    }
    for name in names {
        let of = |core: &str| {
            let found: Vec<&Outcome> =
                outcomes.iter().filter(|o| o.goal.name == name && o.goal.core.name() == core).collect();
            cell(found.first())
        };
        rows += &format!("<tr><td>{}</td>{}{}</tr>", escape(name), of("blocking"), of("prefetching"));
    }
    format!(
        "<table><thead><tr><th>goal</th><th>at most</th><th>blocking core</th><th>at most</th><th>prefetching core</th></tr>\
         </thead><tbody>{rows}</tbody></table>"
    )
}

fn of_figure(report: &Report, figure: &Figure) -> String {
    let sentences = figure.conclusions(&report.results);
    let panels: String = figure
        .panels
        .iter()
        .zip(&sentences)
        .map(|(panel, sentence)| {
            let core = panel.core.name();
            let sentence = sentence.strip_prefix(core).and_then(|text| text.strip_prefix(": ")).unwrap_or(sentence);
            format!(
                "<div class=\"panel\"><h4>{core} core</h4><div class=\"plot\"></div><p class=\"sentence\">{}</p></div>",
                escape(&capitalised(sentence))
            )
        })
        .collect();
    let kind = figure.kind();
    format!(
        "<article class=\"figure\" id=\"figure-{id}\"><header><span class=\"id\">{id}</span><h3>{title}</h3>\
         <span class=\"badge {kind}\">{kind}</span><button type=\"button\">SVG</button></header>\
         <div class=\"panels\">{panels}</div><p class=\"expected\">{expected}</p>\
         <template id=\"svg-{id}\">{svg}</template></article>\n",
        id = escape(figure.id),
        title = escape(figure.title),
        expected = escape(figure.expected),
        svg = svg::render(figure, &report.results),
    )
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text() {
        assert_eq!(escape("a<b> & \"c\""), "a&lt;b&gt; &amp; &quot;c&quot;");
        assert_eq!((capitalised("numa is"), capitalised("")), ("Numa is".into(), String::new()));
    }
}
