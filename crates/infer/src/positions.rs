//! Where the tokens of a sequence are, for position embeddings.

use ort::value::DynValue;

use crate::{
    error::Result,
    graph::{TensorInfo, integers},
};

/// Positions of a sequence, known for as far as it will go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Positions {
    /// Counted from `base`.
    Linear { base: i64 },
    /// In time, height and width (Qwen): listed for the prompt, then counting on along all three from its length plus
    /// `delta`.
    Spatial { prompt: Vec<[i64; 3]>, delta: i64 },
}

impl Positions {
    /// Time, height and width of the token at `index`.
    fn at(&self, index: usize) -> [i64; 3] {
        let count = i64::try_from(index).unwrap_or(i64::MAX);
        match self {
            Self::Linear { base } => [base + count; 3],
            Self::Spatial { prompt, delta } => prompt.get(index).copied().unwrap_or([count + delta; 3]),
        }
    }

    /// `position_ids` for `length` tokens after `past`, the same for each of `rows`: [rows, length], or
    /// [axes, rows, length] where the graph asks for three dimensions. With four axes the first counts tokens, as
    /// Transformers passes it since version 5.
    pub(crate) fn feed(&self, input: &TensorInfo, past: usize, length: usize, rows: usize) -> Result<DynValue> {
        let steps: Vec<(usize, [i64; 3])> = (past..past + length).map(|index| (index, self.at(index))).collect();
        let row = |axis: usize| steps.iter().map(move |(_, at)| at[axis]);
        let count = |&(index, _): &(usize, [i64; 3])| i64::try_from(index).unwrap_or(i64::MAX);
        let repeated = |values: Vec<i64>| (0..rows).flat_map(|_| values.clone()).collect::<Vec<i64>>();
        if input.shape.len() < 3 {
            return integers(input, &[rows, length], repeated(row(0).collect()));
        }
        let mut values =
            if input.fixed(0) == Some(4) { repeated(steps.iter().map(count).collect()) } else { Vec::new() };
        for axis in 0..3 {
            values.extend(repeated(row(axis).collect()));
        }
        integers(input, &[values.len() / (rows * length).max(1), rows, length], values)
    }
}

/// A run of image tokens that is a grid of `[frames, rows, columns]`, and where it begins in the sequence.
pub(crate) type Grid = (usize, [usize; 3]);

/// Transformers' `get_rope_index` for images: text counts along all axes; an image takes positions by frame, row and
/// column from where the text before it ended, and the text after it goes on behind the largest side of the grid.
pub(crate) fn spatial(length: usize, grids: &[Grid]) -> Positions {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let mut prompt = Vec::with_capacity(length);
    let mut next = 0;
    for (start, [frames, rows, columns]) in grids {
        while prompt.len() < *start {
            prompt.push([next; 3]);
            next += 1;
        }
        for frame in 0..*frames {
            for row in 0..*rows {
                prompt
                    .extend((0..*columns).map(|column| [next + count(frame), next + count(row), next + count(column)]));
            }
        }
        next += count(*rows.max(columns).max(frames));
    }
    while prompt.len() < length {
        prompt.push([next; 3]);
        next += 1;
    }
    let largest = prompt.iter().flatten().max().map_or(0, |largest| largest + 1);
    Positions::Spatial { delta: largest - count(prompt.len()), prompt }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_counts_and_images_spread() {
        let check = |length: usize, grids: &[Grid], axes: [&[i64]; 3], delta: i64| {
            let Positions::Spatial { prompt, delta: found } = spatial(length, grids) else { panic!("spatial") };
            let axis = |axis: usize| prompt.iter().map(|at| at[axis]).collect::<Vec<_>>();
            assert_eq!(
                (axis(0), axis(1), axis(2), found),
                (axes[0].to_vec(), axes[1].to_vec(), axes[2].to_vec(), delta)
            );
        };
        check(3, &[], [&[0, 1, 2], &[0, 1, 2], &[0, 1, 2]], 0);
        check(
            8,
            &[(1, [1, 2, 3])],
            [&[0, 1, 1, 1, 1, 1, 1, 4], &[0, 1, 1, 1, 2, 2, 2, 4], &[0, 1, 2, 3, 1, 2, 3, 4]],
            -3,
        );
        check(4, &[(0, [1, 1, 2]), (3, [1, 1, 1])], [&[0, 0, 2, 3], &[0, 0, 2, 3], &[0, 1, 2, 3]], 0);
        // Where the image is last, what is generated goes on behind its largest position.
        check(2, &[(0, [1, 2, 1])], [&[0, 0], &[0, 1], &[0, 0]], 0);
    }

    #[test]
    fn positions_go_on_after_the_prompt() {
        assert_eq!(Positions::Linear { base: 1 }.at(4), [5; 3]);
        assert_eq!(spatial(8, &[(1, [1, 2, 3])]).at(9), [6; 3]);
    }
}
