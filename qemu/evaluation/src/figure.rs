//! A figure: what is drawn against what, and which runs give the points.

use crate::cell::{Cell, Core};
use crate::crossover::{Crossing, crossing};
use crate::metric::Metric;
use crate::results::Results;

/// Where a point lies on the axis.
#[derive(Clone, Debug, PartialEq)]
pub enum X {
    /// At a number.
    Number(f64),
    /// At a name.
    Name(&'static str),
}

/// A point of a series: a number of a cell, perhaps divided by that of another.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Where.
    pub x: X,
    /// Whose number.
    pub cell: Cell,
    /// Which.
    pub metric: Metric,
    /// By whose it is divided.
    pub per: Option<(Cell, Metric)>,
}

impl Point {
    /// Its height, if the cells were run.
    pub fn y(&self, results: &Results) -> Option<f64> {
        let value = self.metric.value(results, &self.cell)?;
        match &self.per {
            None => Some(value),
            Some((cell, metric)) => Some(value / metric.value(results, cell)?),
        }
    }
}

/// Points that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is called in the legend.
    pub name: &'static str,
    /// Its points.
    pub points: Vec<Point>,
}

/// The same figure for one core model.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// Which.
    pub core: Core,
    /// The curves or the groups of bars.
    pub series: Vec<Series>,
}

/// How it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Curves over numbers.
    Lines,
    /// Bars over names.
    Bars,
}

/// What its sentence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Where the first series is below the second, and by how much at the ends.
    Crossing,
    /// How much the last bar is of the first, in each series.
    LastToFirst,
    /// How much the second series is of the first, everywhere.
    Ratio,
    /// How much each series grows from its first point to its last.
    Growth,
}

/// A figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Number in the thesis, or a word for those that are not in it.
    pub id: &'static str,
    /// The benchmark that measures it.
    pub bench: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// The axes.
    pub x: &'static str,
    /// With its unit.
    pub y: &'static str,
    /// How it is drawn.
    pub shape: Shape,
    /// What its sentence is about.
    pub question: Question,
    /// What the thesis (or the design) says it should look like.
    pub expected: &'static str,
    /// One per core model.
    pub panels: Vec<Panel>,
}

impl Figure {
    /// The runs it needs.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        let points = self.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
        points.flat_map(|point| {
            [Some(&point.cell), point.per.as_ref().map(|(cell, _)| cell)].into_iter().flatten()
        })
    }

    /// `modelled` or `exact`.
    pub fn kind(&self) -> &'static str {
        let points = self.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
        points.map(|point| point.metric.kind()).next().unwrap_or("modelled")
    }

    /// Whether every point of every panel was measured.
    pub fn is_complete(&self, results: &Results) -> bool {
        let mut points = self.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
        points.all(|point| point.y(results).is_some())
    }

    /// One sentence per panel, computed from the numbers.
    pub fn conclusions(&self, results: &Results) -> Vec<String> {
        let sentence = |panel: &Panel| {
            let text =
                self.conclusion(panel, results).unwrap_or_else(|| "not all points were measured".into());
            format!("{}: {text}.", panel.core.name())
        };
        self.panels.iter().map(sentence).collect()
    }

    fn conclusion(&self, panel: &Panel, results: &Results) -> Option<String> {
        let heights = |series: &Series| -> Option<Vec<f64>> {
            series.points.iter().map(|point| point.y(results)).collect()
        };
        match self.question {
            Question::Crossing => {
                let [first, second, ..] = panel.series.as_slice() else { return None };
                let (a, b) = (heights(first)?, heights(second)?);
                let number = |(index, point): (usize, &Point)| match point.x {
                    X::Number(x) => x,
                    X::Name(_) => index as f64,
                };
                let xs = first.points.iter().enumerate().map(number);
                let points: Vec<(f64, f64, f64)> =
                    xs.zip(a.iter().zip(&b)).map(|(x, (&a, &b))| (x, a, b)).collect();
                let (start, end) = (points.first()?, points.last()?);
                let ends = format!(
                    "{:.2} times {} at {} {}, {:.2} at {}",
                    ratio(start.1, start.2),
                    second.name,
                    self.x,
                    short(start.0),
                    ratio(end.1, end.2),
                    short(end.0)
                );
                let verdict = match crossing(&points)? {
                    Crossing::Below => format!("{} is nowhere above {}", first.name, second.name),
                    Crossing::Above => format!("{} is above {} everywhere", first.name, second.name),
                    Crossing::Rises(x) => format!("{} is below {} up to {:.2}", first.name, second.name, x),
                    Crossing::Falls(x) => format!("{} is below {} from {:.2} on", first.name, second.name, x),
                    Crossing::Several(x) => {
                        format!("{} and {} cross more than once, first at {:.2}", first.name, second.name, x)
                    }
                };
                Some(format!("{verdict} ({ends})"))
            }
            Question::LastToFirst => {
                let series = panel.series.first()?;
                let (heights, name) = (heights(series)?, |point: &Point| match point.x {
                    X::Name(name) => format!("“{name}”"),
                    X::Number(x) => short(x),
                });
                let (first, last) = (series.points.first()?, series.points.last()?);
                let (from, to) = (*heights.first()?, *heights.last()?);
                let (first, last) = (name(first), name(last));
                Some(match from == 0.0 {
                    true if to == 0.0 => format!("nothing, neither with {first} nor with {last}"),
                    true => format!("{last} has {to:.1}, {first} nothing"),
                    false => format!("{last} is {:.2} times {first} ({to:.1} for {from:.1})", to / from),
                })
            }
            Question::Ratio => {
                let [first, second, ..] = panel.series.as_slice() else { return None };
                let ratios: Vec<f64> =
                    heights(second)?.iter().zip(heights(first)?).map(|(&b, a)| ratio(b, a)).collect();
                let least = ratios.iter().copied().reduce(f64::min)?;
                let most = ratios.iter().copied().reduce(f64::max)?;
                Some(format!("{} is {least:.2} to {most:.2} times {}", second.name, first.name))
            }
            Question::Growth => {
                let each = panel.series.iter().map(|series| {
                    let heights = heights(series)?;
                    let (first, last) = (*heights.first()?, *heights.last()?);
                    if series.points.first()?.per.is_some() {
                        return Some(format!("{first:.2} to {last:.2} for {}", series.name));
                    }
                    Some(format!("{:+.1} % for {}", (ratio(last, first) - 1.0) * 100.0, series.name))
                });
                let each: Vec<String> = each.collect::<Option<_>>()?;
                Some(format!("from the first point to the last {}", each.join(", ")))
            }
        }
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    if a == b { 1.0 } else { a / b }
}

fn short(x: f64) -> String {
    let text = format!("{x:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benches::Bench;
    use crate::invented;
    use crate::setup::Setup;

    /// Results in which numa is faster below an overlap of 0.35.
    fn results() -> (Figure, Results) {
        let figure = Bench::find("overlap").unwrap().figures(Setup { quick: true, paper: false }).remove(0);
        let time = |cell: &Cell| match (&cell.work, cell.system.name) {
            (crate::cell::Work::ArrayWalk { overlap, .. }, "numa") => 1000 + 10 * u64::from(*overlap),
            _ => 1035,
        };
        let records: Vec<_> =
            figure.cells().flat_map(|cell| invented::records("overlap", cell, time(cell))).collect();
        (figure, Results::of(&records))
    }

    #[test]
    fn a_sentence_says_where_curves_cross() {
        let (figure, results) = results();
        assert!(figure.is_complete(&results));
        let sentences = figure.conclusions(&results);
        assert_eq!(
            sentences[0],
            "blocking: numa is below non-numa up to 0.35 (0.97 times non-numa at overlap 0, 1.06 at 1)."
        );
        assert_eq!(figure.kind(), "modelled");
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let (figure, _) = results();
        let none = Results::default();
        assert!(!figure.is_complete(&none));
        assert!(figure.conclusions(&none)[0].contains("not all points"));
    }

    #[test]
    fn every_question_has_an_answer() {
        let setup = Setup { quick: true, paper: false };
        for figure in crate::benches::BENCHES.iter().flat_map(|bench| bench.figures(setup)) {
            let records: Vec<_> = figure
                .cells()
                .enumerate()
                .flat_map(|(index, cell)| invented::records(figure.bench, cell, 1000 + index as u64))
                .collect();
            let results = Results::of(&records);
            assert!(figure.is_complete(&results), "{}", figure.id);
            for sentence in figure.conclusions(&results) {
                assert!(
                    !sentence.contains("not all") && !sentence.contains("NaN"),
                    "{}: {sentence}",
                    figure.id
                );
            }
        }
    }
}
