//! A figure as static SVG, for papers: both panels side by side, black on white.

use plotters::coord::ranged1d::{KeyPointHint, Ranged};
use plotters::prelude::*;

use super::data::{is_logarithmic, is_ratio};
use crate::figure::{Figure, Panel, Shape, X};
use crate::results::Results;

const SIZE: (u32, u32) = (1160, 440);
const COLOURS: [RGBColor; 4] =
    [RGBColor(20, 96, 122), RGBColor(209, 96, 61), RGBColor(122, 139, 46), RGBColor(107, 76, 154)];

/// The SVG's text.
pub(super) fn render(figure: &Figure, results: &Results) -> String {
    let mut text = String::new();
    // Writing to memory does not fail; what cannot be drawn (no point at all) leaves an empty panel.
    let _ = draw(figure, results, &mut text);
    text
}

type Trouble = Box<dyn std::error::Error>;

fn draw(figure: &Figure, results: &Results, text: &mut String) -> Result<(), Trouble> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let areas = root.split_evenly((1, figure.panels.len().max(1)));
    for (panel, area) in figure.panels.iter().zip(&areas) {
        match figure.shape {
            Shape::Lines => lines(figure, panel, results, area)?,
            Shape::Bars => bars(figure, panel, results, area)?,
        }
    }
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// The lowest and the highest value that the axis shows.
fn range(figure: &Figure, panel: &Panel, results: &Results) -> std::ops::Range<f64> {
    let points = panel.series.iter().flat_map(|series| &series.points);
    let heights: Vec<f64> = points.filter_map(|point| point.y(results)).collect();
    let most = heights.iter().copied().fold(0.0, f64::max);
    let least = heights.iter().copied().fold(most, f64::min);
    match (most > 0.0, is_ratio(figure)) {
        (false, _) => 0.0..1.0,
        (true, false) => 0.0..most * 1.08,
        (true, true) => least - (most - least).max(0.02) * 0.2..most + (most - least).max(0.02) * 0.2,
    }
}

fn caption(figure: &Figure, panel: &Panel) -> String {
    format!("{}: {} ({}, {} core)", figure.id, figure.title, figure.kind(), panel.core.name())
}

fn short(value: &f64) -> String {
    let text = match value.abs() {
        size if size >= 1e9 => return format!("{:.2} G", value / 1e9),
        size if size >= 1e6 => return format!("{:.0} M", value / 1e6),
        size if size >= 1e4 => return format!("{:.0} k", value / 1e3),
        size if size >= 100.0 => return format!("{value:.0}"),
        _ => format!("{value:.2}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn lines(figure: &Figure, panel: &Panel, results: &Results, area: &Area<'_>) -> Result<(), Trouble> {
    let xs: Vec<f64> = panel
        .series
        .iter()
        .flat_map(|series| &series.points)
        .filter_map(|point| if let X::Number(x) = point.x { Some(x) } else { None })
        .collect();
    let least = xs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = xs.iter().copied().fold(0.0, f64::max);
    if is_logarithmic(figure) {
        let chart = builder(figure, panel, area)
            .build_cartesian_2d((least..most).log_scale(), range(figure, panel, results))?;
        curves(figure, panel, results, chart)
    } else {
        let chart =
            builder(figure, panel, area).build_cartesian_2d(least..most, range(figure, panel, results))?;
        curves(figure, panel, results, chart)
    }
}

fn builder<'a, 'b>(
    figure: &Figure,
    panel: &Panel,
    area: &'a Area<'b>,
) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .caption(caption(figure, panel), ("sans-serif", 15));
    builder
}

fn curves<'a, T>(
    figure: &Figure,
    panel: &Panel,
    results: &Results,
    mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<T, plotters::coord::types::RangedCoordf64>>,
) -> Result<(), Trouble>
where
    T: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(figure.x)
        .y_desc(figure.y)
        .x_label_formatter(&short)
        .y_label_formatter(&short)
        .draw()?;
    for (series, colour) in panel.series.iter().zip(COLOURS.iter().cycle()) {
        let points = || {
            series.points.iter().filter_map(|point| match point.x {
                X::Number(x) => Some((x, point.y(results)?)),
                X::Name(_) => None,
            })
        };
        chart
            .draw_series(LineSeries::new(points(), colour.stroke_width(2)))?
            .label(series.name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    legend(&mut chart, SeriesLabelPosition::LowerRight)
}

/// Which colour is which series.
fn legend<'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, C>,
    position: SeriesLabelPosition,
) -> Result<(), Trouble> {
    let mut labels = chart.configure_series_labels();
    labels.position(position).background_style(WHITE.mix(0.8)).border_style(TRANSPARENT).draw()?;
    Ok(())
}

/// Groups of bars: a group is one wide, and its bars fill four fifths of it.
fn bars(figure: &Figure, panel: &Panel, results: &Results, area: &Area<'_>) -> Result<(), Trouble> {
    let names: Vec<&str> = panel
        .series
        .first()
        .map(|series| {
            series.points.iter().map(|point| if let X::Name(name) = point.x { name } else { "" }).collect()
        })
        .unwrap_or_default();
    let axis = Groups { count: names.len() };
    let mut chart = builder(figure, panel, area).build_cartesian_2d(axis, range(figure, panel, results))?;
    let name = |x: &f64| names.get(*x as usize).copied().unwrap_or("").to_owned();
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(figure.x)
        .y_desc(figure.y)
        .x_labels(names.len())
        .x_label_formatter(&name)
        .x_label_style(("sans-serif", 10))
        .y_label_formatter(&short)
        .draw()?;
    let width = 0.8 / panel.series.len().max(1) as f64;
    for (index, (series, colour)) in panel.series.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let bar = |(group, y): (usize, f64)| {
            let left = group as f64 + 0.1 + width * index as f64;
            Rectangle::new([(left, 0.0), (left + width * 0.94, y)], colour.filled())
        };
        let heights =
            series.points.iter().enumerate().filter_map(|(group, point)| Some((group, point.y(results)?)));
        chart
            .draw_series(heights.map(bar))?
            .label(series.name)
            .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    if panel.series.len() > 1 {
        legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
    }
    Ok(())
}

/// An axis of groups, labelled in their middles.
struct Groups {
    count: usize,
}

impl Ranged for Groups {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (f64::from(limit.1 - limit.0) * value / self.count.max(1) as f64) as i32
    }
    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        (0..self.count).map(|group| group as f64 + 0.5).collect()
    }
    fn range(&self) -> std::ops::Range<f64> {
        0.0..self.count as f64
    }
}

impl plotters::coord::ranged1d::ValueFormatter<f64> for Groups {
    fn format(value: &f64) -> String {
        format!("{value}")
    }
}
