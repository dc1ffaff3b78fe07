//! Where one curve becomes cheaper than another.

/// What two curves over the same axis do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crossing {
    /// The first is below all the way.
    Below,
    /// The first is above all the way.
    Above,
    /// The first is below up to here, and above afterwards.
    Rises(f64),
    /// The first is above up to here, and below afterwards.
    Falls(f64),
    /// More than one crossing, the first of them here.
    Several(f64),
}

/// How two curves relate, given `(x, first, second)` in the order of x; `None` without points. Between points the difference is taken as linear.
pub fn crossing(points: &[(f64, f64, f64)]) -> Option<Crossing> {
    let differences: Vec<(f64, f64)> = points.iter().map(|&(x, a, b)| (x, a - b)).collect();
    let mut found: Vec<(f64, bool)> = Vec::new();
    let mut last: Option<(f64, f64)> = None;
    for &(x, difference) in differences.iter().filter(|(_, difference)| *difference != 0.0) {
        if let Some((before, value)) = last
            && (value < 0.0) != (difference < 0.0)
        {
            found.push((before + (x - before) * value / (value - difference), difference > 0.0));
        }
        last = Some((x, difference));
    }
    Some(match (found.as_slice(), last) {
        ([], None) if points.is_empty() => return None,
        // Equal everywhere: not above.
        ([], None) => Crossing::Below,
        ([], Some((_, difference))) if difference < 0.0 => Crossing::Below,
        ([], Some(_)) => Crossing::Above,
        (&[(x, true)], _) => Crossing::Rises(x),
        (&[(x, false)], _) => Crossing::Falls(x),
        (&[(x, _), ..], _) => Crossing::Several(x),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_cross_between_points() {
        assert_eq!(crossing(&[]), None);
        assert_eq!(crossing(&[(0.0, 1.0, 2.0), (1.0, 1.0, 3.0)]), Some(Crossing::Below));
        assert_eq!(crossing(&[(0.0, 2.0, 1.0)]), Some(Crossing::Above));
        assert_eq!(crossing(&[(0.0, 1.0, 1.0)]), Some(Crossing::Below));
        assert_eq!(crossing(&[(0.0, 1.0, 2.0), (1.0, 3.0, 2.0)]), Some(Crossing::Rises(0.5)));
        assert_eq!(
            crossing(&[(0.0, 5.0, 2.0), (1.0, 2.0, 2.0), (2.0, 1.0, 2.0)]),
            Some(Crossing::Falls(1.5))
        );
        let several = [(0.0, 0.0, 1.0), (1.0, 2.0, 1.0), (2.0, 0.0, 1.0)];
        assert_eq!(crossing(&several), Some(Crossing::Several(0.5)));
    }
}
