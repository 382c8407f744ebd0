//! Resizing of pictures that are put together before a model's own processor sees them.

/// The share that each input pixel has in one output pixel along one axis.
struct Shares {
    first: usize,
    weights: Vec<f32>,
}

/// A triangle as wide as an output pixel and its neighbours, or when enlarging as an input pixel and its neighbours: no
/// line of one pixel vanishes when a picture is made smaller.
fn shares(from: usize, to: usize) -> Vec<Shares> {
    let scale = from as f64 / to as f64;
    let reach = scale.max(1.0);
    let of = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within 0..=from
        let edge = |at: f64| at.clamp(0.0, from as f64) as usize;
        let (first, end) = (edge((centre - reach).floor()), edge((centre + reach).ceil()));
        let weight = |pixel: usize| (1.0 - ((pixel as f64 + 0.5 - centre) / reach).abs()).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        #[expect(clippy::cast_possible_truncation)]
        let weights = (first..end).map(|pixel| (weight(pixel) / sum) as f32).collect();
        Shares { first, weights }
    };
    (0..to).map(of).collect()
}

/// Resizes RGB pixels, row by row, from one (width, height) to another; neither has a side of 0.
pub(crate) fn resize(rgb: Vec<u8>, from: (u32, u32), to: (u32, u32)) -> Vec<u8> {
    if from == to {
        return rgb;
    }
    let (width, height) = (from.0 as usize, from.1 as usize);
    let (columns, rows) = (to.0 as usize, to.1 as usize);
    let across = shares(width, columns);
    let mut wide = Vec::with_capacity(columns * height);
    for line in rgb.as_chunks::<3>().0.chunks_exact(width) {
        for share in &across {
            let mut sum = [0f32; 3];
            for (pixel, weight) in line[share.first..].iter().zip(&share.weights) {
                for (sum, sample) in sum.iter_mut().zip(pixel) {
                    *sum += f32::from(*sample) * weight;
                }
            }
            wide.push(sum);
        }
    }
    let mut resized = Vec::with_capacity(columns * rows * 3);
    for share in shares(height, rows) {
        let mut line = vec![[0f32; 3]; columns];
        for (input, weight) in wide[share.first * columns..].chunks_exact(columns).zip(&share.weights) {
            for (sum, pixel) in line.as_flattened_mut().iter_mut().zip(input.as_flattened()) {
                *sum += pixel * weight;
            }
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a mean of 0..=255
        resized.extend(line.as_flattened().iter().map(|sum| (sum + 0.5) as u8));
    }
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_picture_stays_even_and_edges_stay_in_place() {
        for (from, to) in [((5, 4), (3, 9)), ((2, 2), (7, 5)), ((300, 1), (3, 1)), ((1, 1), (4, 4))] {
            let even = vec![77; (from.0 * from.1 * 3) as usize];
            let resized = resize(even, from, to);
            assert_eq!(resized.len(), (to.0 * to.1 * 3) as usize);
            assert!(resized.iter().all(|sample| *sample == 77), "{from:?} {to:?}");
        }
        // Black on the left half, white on the right one.
        let line: Vec<u8> = (0..8).flat_map(|column| [if column < 4 { 0 } else { 255 }; 3]).collect();
        let smaller = resize(line.clone(), (8, 1), (4, 1));
        let larger = resize(line, (8, 1), (32, 1));
        assert!(smaller[3] < 64 && smaller[6] > 191, "{smaller:?}");
        assert!(larger[14 * 3] < 100 && larger[17 * 3] > 155, "{larger:?}");
    }
}
