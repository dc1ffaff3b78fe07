//! The figures as the page's script wants them.

use serde_json::{Value, json};

use super::Report;
use crate::figure::{Figure, Panel, Shape, X};
use crate::results::Results;

/// All figures as JSON that may stand in a script element.
pub(super) fn render(report: &Report) -> String {
    let all: Vec<Value> = report.figures.iter().map(|figure| of(figure, &report.results)).collect();
    // Nothing in it may look like the end of the element.
    Value::Array(all).to_string().replace('<', "\\u003c")
}

fn of(figure: &Figure, results: &Results) -> Value {
    let panels: Vec<Value> = figure.panels.iter().map(|panel| of_panel(figure, panel, results)).collect();
    json!({
        "id": figure.id, "x": figure.x, "y": figure.y, "panels": panels,
        "shape": if figure.shape == Shape::Bars { "bars" } else { "lines" },
        "ratio": is_ratio(figure), "logarithmic": is_logarithmic(figure),
    })
}

/// Whether heights are ratios: what counts is their distance from 1, not from 0.
pub(super) fn is_ratio(figure: &Figure) -> bool {
    let mut points = figure.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
    points.any(|point| point.per.is_some())
}

/// Whether the axis spans orders of magnitude.
pub(super) fn is_logarithmic(figure: &Figure) -> bool {
    let points = figure.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
    let numbers = points.filter_map(|point| if let X::Number(x) = point.x { Some(x) } else { None });
    let (least, most) =
        numbers.fold((f64::INFINITY, 0.0_f64), |(least, most), x| (least.min(x), most.max(x)));
    least > 0.0 && most / least > 50.0
}

fn of_panel(figure: &Figure, panel: &Panel, results: &Results) -> Value {
    let names: Vec<&str> = match panel.series.first() {
        Some(series) if figure.shape == Shape::Bars => {
            series.points.iter().map(|point| if let X::Name(name) = point.x { name } else { "" }).collect()
        }
        _ => Vec::new(),
    };
    let series: Vec<Value> = panel
        .series
        .iter()
        .map(|series| {
            let data: Vec<Value> = series
                .points
                .iter()
                .map(|point| match (&point.x, point.y(results)) {
                    (_, None) => Value::Null,
                    (X::Number(x), Some(y)) => json!([x, rounded(y)]),
                    (X::Name(_), Some(y)) => json!(rounded(y)),
                })
                .collect();
            json!({"name": series.name, "data": data})
        })
        .collect();
    json!({"core": panel.core.name(), "names": names, "series": series})
}

fn rounded(y: f64) -> f64 {
    (y * 1e4).round() / 1e4
}
