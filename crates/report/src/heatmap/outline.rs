//! The area that a model attended to most, as an outline.

use std::collections::{BTreeMap, BTreeSet};

use super::{Area, Drawn, HALF};
use crate::{Grid, Place2D};

/// Steps of the outline across each cell of a map.
const FINENESS: usize = 8;
/// The most steps along a side: a map of more cells is outlined as coarsely as that.
const STEPS: usize = 512;

/// The outline of the area around a map's strongest place in which it has at least half of its range, in pixels of the
/// picture that the map lies over; (0, 0) is the outer corner of the first pixel. None for a map that is flat or broken.
pub fn outline(grid: &Grid, (width, height): (f32, f32)) -> Option<Vec<Place2D>> {
    let columns = (grid.columns * FINENESS).min(STEPS);
    let rows = (grid.rows * FINENESS).min(STEPS);
    let drawn = Drawn::new(grid, Area::whole(columns, rows), columns, rows)?;
    let strength = |(column, row): (usize, usize)| drawn.strength(row, column);
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (column, row)));
    let peak = places.max_by(|a, b| strength(*a).total_cmp(&strength(*b)))?;
    let area = connected(peak, (columns, rows), |place| strength(place) >= HALF);
    let corners = border(&area);
    let scale = (width / columns as f32, height / rows as f32);
    Some(corners.into_iter().map(|[column, row]| [column * scale.0, row * scale.1]).collect())
}

/// The places that hang together with one by their sides, itself among them.
fn connected(
    start: (usize, usize),
    (columns, rows): (usize, usize),
    belongs: impl Fn((usize, usize)) -> bool,
) -> BTreeSet<(usize, usize)> {
    let (mut area, mut open) = (BTreeSet::from([start]), vec![start]);
    while let Some((column, row)) = open.pop() {
        let beside =
            [(column.wrapping_sub(1), row), (column + 1, row), (column, row.wrapping_sub(1)), (column, row + 1)];
        for next in beside {
            if next.0 < columns && next.1 < rows && !area.contains(&next) && belongs(next) {
                area.insert(next);
                open.push(next);
            }
        }
    }
    area
}

/// The outer border of an area, clockwise: the middles of the sides that it is made of, so that steps become slopes.
fn border(area: &BTreeSet<(usize, usize)>) -> Vec<Place2D> {
    type Corner = (usize, usize);
    let mut sides: BTreeMap<Corner, Vec<Corner>> = BTreeMap::new();
    for &(column, row) in area {
        let has =
            |column: Option<usize>, row: Option<usize>| column.zip(row).is_some_and(|place| area.contains(&place));
        let (right, below) = (column + 1, row + 1);
        let (this, under) = (Some(column), Some(row));
        for (outside, from, to) in [
            (!has(this, row.checked_sub(1)), (column, row), (right, row)),
            (!has(Some(right), under), (right, row), (right, below)),
            (!has(this, Some(below)), (right, below), (column, below)),
            (!has(column.checked_sub(1), under), (column, below), (column, row)),
        ] {
            if outside {
                sides.entry(from).or_default().push(to);
            }
        }
    }
    // The highest place of all, and of those the leftmost, is on the outer border.
    let Some(&(column, row)) = area.iter().min_by_key(|(column, row)| (*row, *column)) else { return Vec::new() };
    let (start, mut at) = ((column, row), (column + 1, row));
    let mut before = start;
    let mut walked = vec![(start, at)];
    let all: usize = sides.values().map(Vec::len).sum();
    while at != start && walked.len() <= all {
        let Some(ways) = sides.get(&at) else { break };
        // Two ways lead on where places touch by a corner: the right turn stays with the place walked along.
        let direction = |from: Corner, to: Corner| (to.0 as i64 - from.0 as i64, to.1 as i64 - from.1 as i64);
        let (across, down) = direction(before, at);
        let right_turn = ways.iter().find(|way| direction(at, **way) == (-down, across));
        let Some(&next) = right_turn.or(ways.first()) else { break };
        (before, at) = (at, next);
        walked.push((before, at));
    }
    let middle = |a: usize, b: usize| (a + b) as f32 / 2.0;
    let points: Vec<Place2D> = walked.iter().map(|(from, to)| [middle(from.0, to.0), middle(from.1, to.1)]).collect();
    without_needless(&points)
}

/// Without the points that lie on the line between their neighbours.
fn without_needless(points: &[Place2D]) -> Vec<Place2D> {
    let count = points.len();
    let turns = |at: usize| {
        let (before, here, after) = (points[(at + count - 1) % count], points[at], points[(at + 1) % count]);
        let cross = (here[0] - before[0]) * (after[1] - here[1]) - (here[1] - before[1]) * (after[0] - here[0]);
        cross.abs() > f32::EPSILON
    };
    (0..count).filter(|at| turns(*at)).map(|at| points[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn middle(points: &[Place2D]) -> Place2D {
        let sum = points.iter().fold([0.0, 0.0], |sum, point| [sum[0] + point[0], sum[1] + point[1]]);
        sum.map(|sum| sum / points.len() as f32)
    }

    #[test]
    fn the_outline_lies_around_the_strongest_place() {
        let mut grid = Grid { rows: 8, columns: 10, values: vec![0.0; 80] };
        grid.values[2 * 10 + 7] = 1.0;
        grid.values[6 * 10 + 1] = 0.9;
        let points = outline(&grid, (1000.0, 400.0)).unwrap();
        let [column, row] = middle(&points);
        assert!((column - 750.0).abs() < 8.0 && (row - 125.0).abs() < 5.0, "{column} {row}");
        // Half of the strength is reached half a cell from its centre, and the other spot is not part of it.
        assert!(points.iter().all(|[column, row]| (680.0..820.0).contains(column) && (90.0..160.0).contains(row)));
    }

    #[test]
    fn an_area_is_walked_around_once() {
        let area: BTreeSet<(usize, usize)> = [(1, 1), (2, 1), (1, 2), (3, 2)].into();
        let points = border(&area);
        assert!(
            points.iter().all(|[column, row]| (1.0..=3.0).contains(column) && (1.0..=3.0).contains(row)),
            "{points:?}"
        );
        let whole = connected((0, 0), (3, 2), |_| true);
        assert_eq!(border(&whole).len(), 8, "four sides with the corners cut");
    }

    #[test]
    fn a_map_without_a_strongest_place_has_no_outline() {
        for values in [vec![], vec![1.0; 4], vec![0.0, f32::NAN, 1.0, 0.0], vec![1.0, 2.0]] {
            let usable = values.len() == 4 && values.contains(&0.0);
            let found = outline(&Grid { rows: 2, columns: 2, values }, (8.0, 8.0));
            assert!(found.is_none() || usable, "{found:?}");
        }
        let edge = Grid { rows: 1, columns: 2, values: vec![1.0, 0.0] };
        let points = outline(&edge, (20.0, 10.0)).unwrap();
        assert!(points.iter().all(|[column, row]| (0.0..=10.5).contains(column) && (0.0..=10.0).contains(row)));
    }
}
