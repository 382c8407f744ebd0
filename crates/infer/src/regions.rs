//! Regions in the text of an answer, where a family's vocabulary has tokens for positions.

use crate::answer::Region;

/// A text cut at its tags: words, positions `<loc_n>` or `<locn>`, and other tags.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Words(&'a str),
    Position(f64),
    Tag(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        let Some(length) = rest[open..].find('>') else { break };
        if open > 0 {
            pieces.push(Piece::Words(&rest[..open]));
        }
        let tag = &rest[open + 1..open + length];
        let number =
            tag.strip_prefix("loc_").or_else(|| tag.strip_prefix("loc")).and_then(|digits| digits.parse::<u32>().ok());
        pieces.push(number.map_or(Piece::Tag(tag), |number| Piece::Position(number.into())));
        rest = &rest[open + length + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Words(rest));
    }
    pieces
}

/// Florence-2: words, then positions of a thousandth of the image each, x before y, at the middle of their bin. Four are
/// a box, eight the corners of a text, more (or inside `<poly>`) an outline; `<sep>` begins another. Without words the
/// label is empty.
pub(crate) fn of_florence2(text: &str, size: [u32; 2]) -> Vec<Region> {
    let [width, height] = size.map(|side| f64::from(side) / 1000.0);
    let mut found = Vec::new();
    let (mut label, mut positions, mut outlines) = ("", Vec::new(), false);
    let mut flush = |label: &str, positions: &mut Vec<f64>, outlines: bool| {
        let points: Vec<[f64; 2]> =
            positions.chunks_exact(2).map(|pair| [(pair[0] + 0.5) * width, (pair[1] + 0.5) * height]).collect();
        positions.clear();
        let label = label.trim();
        let boxes = !outlines && points.len() != 4 && points.len().is_multiple_of(2);
        if boxes {
            let corner = |pair: &[[f64; 2]]| region(label, &[pair[0], pair[1]]);
            found.extend(points.chunks_exact(2).map(corner));
        } else if points.len() > 2 {
            found.push(region(label, &points));
        }
    };
    for piece in pieces(text) {
        match piece {
            Piece::Words(words) => {
                flush(label, &mut positions, outlines);
                (label, outlines) = (words, false);
            }
            Piece::Position(position) => positions.push(position),
            Piece::Tag("poly") => {
                flush(label, &mut positions, outlines);
                outlines = true;
            }
            Piece::Tag("sep" | "/poly") => flush(label, &mut positions, outlines),
            Piece::Tag(_) => {}
        }
    }
    flush(label, &mut positions, outlines);
    found
}

/// PaliGemma: four positions of 1/1024 of the image each, y before x, upper left before lower right, then the label.
pub(crate) fn of_paligemma(text: &str, size: [u32; 2]) -> Vec<Region> {
    let [width, height] = size.map(|side| f64::from(side) / 1024.0);
    let mut found: Vec<Region> = Vec::new();
    let mut positions: Vec<f64> = Vec::new();
    for piece in pieces(text) {
        match piece {
            Piece::Position(position) => {
                positions.push(position);
                if let [top, left, bottom, right] = positions[..] {
                    found.push(region("", &[[left * width, top * height], [right * width, bottom * height]]));
                    positions.clear();
                }
            }
            Piece::Words(words) => {
                positions.clear();
                let label = words.split(';').next().unwrap_or_default().trim();
                if let Some(last) = found.last_mut().filter(|last| last.label.is_empty()) {
                    label.clone_into(&mut last.label);
                }
            }
            Piece::Tag(_) => {}
        }
    }
    found
}

/// Two points are the corners of a box, more an outline.
fn region(label: &str, points: &[[f64; 2]]) -> Region {
    let axis = |axis: usize| points.iter().map(move |point| point[axis]);
    let (least, most) = (
        |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min),
        |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NEG_INFINITY, f64::max),
    );
    let bounds = [least(&mut axis(0)), least(&mut axis(1)), most(&mut axis(0)), most(&mut axis(1))];
    let outline = if points.len() > 2 { points.to_vec() } else { Vec::new() };
    Region { label: label.to_owned(), bounds, outline }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(regions: Vec<Region>) -> Vec<(String, [f64; 4], usize)> {
        regions.into_iter().map(|region| (region.label, region.bounds, region.outline.len())).collect()
    }

    #[test]
    fn florence2() {
        let check = |text: &str, expected: &[(&str, [f64; 4], usize)]| {
            let expected: Vec<_> =
                expected.iter().map(|(label, at, points)| ((*label).to_owned(), *at, *points)).collect();
            assert_eq!(summary(of_florence2(text, [1000, 2000])), expected, "{text}");
        };
        check("</s><s>heart<loc_1><loc_2><loc_10><loc_20></s>", &[("heart", [1.5, 5.0, 10.5, 41.0], 0)]);
        check(
            "a<loc_0><loc_0><loc_1><loc_1><loc_2><loc_2><loc_3><loc_3><loc_4><loc_4><loc_5><loc_5>b<loc_0><loc_0><loc_9><loc_9>",
            &[
                ("a", [0.5, 1.0, 1.5, 3.0], 0),
                ("a", [2.5, 5.0, 3.5, 7.0], 0),
                ("a", [4.5, 9.0, 5.5, 11.0], 0),
                ("b", [0.5, 1.0, 9.5, 19.0], 0),
            ],
        );
        check("R<loc_0><loc_0><loc_9><loc_0><loc_9><loc_4><loc_0><loc_4>", &[("R", [0.5, 1.0, 9.5, 9.0], 4)]);
        check("<loc_0><loc_0><loc_9><loc_9>", &[("", [0.5, 1.0, 9.5, 19.0], 0)]);
        check(
            "lung<poly><loc_0><loc_0><loc_9><loc_0><loc_9><loc_9><sep><loc_1><loc_1><loc_2><loc_1><loc_2><loc_2></poly>",
            &[("lung", [0.5, 1.0, 9.5, 19.0], 3), ("lung", [1.5, 3.0, 2.5, 5.0], 3)],
        );
        check("no region <loc_3>", &[]);
        check("", &[]);
    }

    #[test]
    fn paligemma() {
        let check = |text: &str, expected: &[(&str, [f64; 4], usize)]| {
            let expected: Vec<_> =
                expected.iter().map(|(label, at, points)| ((*label).to_owned(), *at, *points)).collect();
            assert_eq!(summary(of_paligemma(text, [1024, 2048])), expected, "{text}");
        };
        check(
            "<loc0001><loc0002><loc0003><loc0004> heart ; <loc0005><loc0006><loc0007><loc0008> lung",
            &[("heart", [2.0, 2.0, 4.0, 6.0], 0), ("lung", [6.0, 10.0, 8.0, 14.0], 0)],
        );
        check("nothing", &[]);
    }
}
