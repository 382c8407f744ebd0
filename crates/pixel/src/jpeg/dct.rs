//! The inverse DCT.

use std::num::Wrapping;

/// Coefficients and samples: those of a damaged scan wrap, those of a valid one do not come near it.
pub(super) type Word = Wrapping<i32>;

/// The integer inverse DCT after Loeffler, Ligtenberg and Moschytz with the constants and the rounding of the
/// Independent JPEG Group's "islow", so that values equal those of other DICOM software. Answers samples.
pub(super) fn inverse_dct(block: &mut [Word; 64], precision: u32) {
    const CONSTANT_BITS: usize = 13;
    let extra = if precision > 8 { 1 } else { 2 };
    for column in 0..8 {
        let input: [Word; 8] = std::array::from_fn(|row| block[row * 8 + column]);
        // Most columns of a smooth image are constant.
        let transformed = if input[1..] == [Wrapping(0); 7] {
            [input[0] << extra; 8]
        } else {
            dct_8(input).map(|value| descaled(value, CONSTANT_BITS - extra))
        };
        for (row, value) in transformed.into_iter().enumerate() {
            block[row * 8 + column] = value;
        }
    }
    let (middle, highest) = (Wrapping(1i32 << (precision - 1)), Wrapping((1i32 << precision) - 1));
    for row in block.as_chunks_mut::<8>().0 {
        let transformed = dct_8(*row).map(|value| descaled(value, CONSTANT_BITS + extra + 3));
        *row = transformed.map(|value| (value + middle).clamp(Wrapping(0), highest));
    }
}

fn descaled(value: Word, bits: usize) -> Word {
    (value + Wrapping(1 << (bits - 1))) >> bits
}

#[inline(always)]
fn dct_8(input: [Word; 8]) -> [Word; 8] {
    let times = |value: Word, factor: i32| value * Wrapping(factor);
    let z1 = times(input[2] + input[6], 4433);
    let (even2, even3) = (z1 - times(input[6], 15137), z1 + times(input[2], 6270));
    let (even0, even1) = ((input[0] + input[4]) << 13, (input[0] - input[4]) << 13);
    let (a0, a3, a1, a2) = (even0 + even3, even0 - even3, even1 + even2, even1 - even2);
    let [_, i1, _, i3, _, i5, _, i7] = input;
    let z5 = times(i7 + i3 + i5 + i1, 9633);
    let (z1, z2) = (times(i7 + i1, -7373), times(i5 + i3, -20995));
    let (z3, z4) = (times(i7 + i3, -16069) + z5, times(i5 + i1, -3196) + z5);
    let (b0, b1) = (times(i7, 2446) + z1 + z3, times(i5, 16819) + z2 + z4);
    let (b2, b3) = (times(i3, 25172) + z2 + z3, times(i1, 12299) + z1 + z4);
    [a0 + b3, a1 + b2, a2 + b1, a3 + b0, a3 - b0, a2 - b1, a1 - b2, a0 - b3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_block_is_constant() {
        let mut block = [Wrapping(0); 64];
        block[0] = Wrapping(80);
        inverse_dct(&mut block, 8);
        assert_eq!(block, [Wrapping(138); 64]);
    }
}
