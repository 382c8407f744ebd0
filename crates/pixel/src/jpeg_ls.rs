//! JPEG-LS (ITU-T T.87): lossless and near-lossless, 2 to 16 bits, every interleave mode.
//!
//! Of our own, because what dicom-pixeldata offers is CharLS, a library in C++: its faults would be the process's.

mod bits;

use bits::Bits;

use crate::{
    Error,
    codec::Cells,
    codestream::{JpegHeader, Segments, segments},
};

const CODEC: &str = "JPEG-LS";

fn damaged(what: &str) -> Error {
    Error::codec(CODEC, what)
}

/// Decodes to samples interleaved by pixel. The header's sizes must have been checked.
pub(crate) fn decode(data: &[u8], header: &JpegHeader) -> Result<Cells, Error> {
    let samples = header.rows as usize * header.columns as usize * header.components.len();
    if header.precision <= 8 {
        let mut cells = vec![0u8; samples];
        decode_into(data, header, &mut cells)?;
        Ok(Cells::Eight(cells))
    } else {
        let mut cells = vec![0u16; samples];
        decode_into(data, header, &mut cells)?;
        Ok(Cells::Sixteen(cells))
    }
}

/// A cell that a sample is written to. A sample is never more than the precision, so nothing is lost.
trait Cell: Copy {
    fn of(sample: i32) -> Self;
}

impl Cell for u8 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn of(sample: i32) -> Self {
        sample as u8
    }
}

impl Cell for u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn of(sample: i32) -> Self {
        sample as u16
    }
}

fn decode_into<T: Cell>(data: &[u8], header: &JpegHeader, cells: &mut [T]) -> Result<(), Error> {
    let mut walk = segments(CODEC, data)?;
    let mut preset = Preset::default();
    let mut restart_lines = 0;
    let mut done = 0;
    while done < header.components.len() {
        let (marker, segment) = walk.next()?;
        match marker {
            0xf8 => preset.read(segment)?,
            0xdd => restart_lines = restart_interval(segment)?,
            // APP8 "mrfx": a colour transform of Hewlett-Packard's that neither T.87 nor DICOM knows.
            0xe8 if segment.starts_with(b"mrfx") && segment.get(4).is_some_and(|transform| *transform != 0) => {
                return Err(Error::unsupported("JPEG-LS with a colour transform of its own"));
            }
            0xda => {
                let scan = Scan::read(segment, header, done)?;
                let coding = Coding::new(header.precision, scan.near, &preset)?;
                let (entropy, after) = entropy_coded(walk.rest(), restart_lines > 0);
                let frame = Frame { columns: header.columns as usize, samples: header.components.len(), first: done };
                if scan.near == 0 {
                    frame.decode::<T, true>(&coding, &scan, entropy, restart_lines, cells)?;
                } else {
                    frame.decode::<T, false>(&coding, &scan, entropy, restart_lines, cells)?;
                }
                done += scan.components;
                walk = Segments::at(CODEC, after);
            }
            _ => {}
        }
    }
    Ok(())
}

/// In JPEG-LS an interval is counted in lines (T.87 C.2.5), and may be written in 2, 3 or 4 bytes.
fn restart_interval(segment: &[u8]) -> Result<usize, Error> {
    match segment.len() {
        2..=4 => Ok(segment.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))),
        _ => Err(damaged("the restart interval is malformed")),
    }
}

/// The entropy-coded data up to the next marker, and the rest from that marker on. Restart markers do not end it.
fn entropy_coded(data: &[u8], restarts: bool) -> (&[u8], &[u8]) {
    let mut at = 0;
    while let Some(found) = data[at..].iter().position(|byte| *byte == 0xff) {
        at += found;
        match data.get(at + 1) {
            Some(0xd0..=0xd7) if restarts => {}
            Some(0x80..) => return data.split_at(at),
            Some(_) => {}
            None => break,
        }
        at += 1;
    }
    (data, &[])
}

/// LSE parameters of type 1 (T.87 C.2.4.1.1); 0 stands for the default.
#[derive(Debug, Default, Clone, Copy)]
struct Preset {
    highest: i32,
    thresholds: [i32; 3],
    reset: i32,
}

impl Preset {
    fn read(&mut self, segment: &[u8]) -> Result<(), Error> {
        match segment {
            [1, values @ ..] if values.len() == 10 => {
                let value = |at: usize| i32::from(u16::from_be_bytes([values[2 * at], values[2 * at + 1]]));
                *self = Self { highest: value(0), thresholds: [value(1), value(2), value(3)], reset: value(4) };
                Ok(())
            }
            [2 | 3, ..] => Err(Error::unsupported("JPEG-LS with mapping tables")),
            _ => Err(damaged("the preset parameters are malformed")),
        }
    }
}

/// How the components of a scan follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interleave {
    /// One component.
    None,
    Line,
    Sample,
}

/// The scan header (T.87 C.2.3).
struct Scan {
    components: usize,
    near: i32,
    interleave: Interleave,
}

impl Scan {
    /// `done`: how many components came in scans before.
    fn read(segment: &[u8], header: &JpegHeader, done: usize) -> Result<Self, Error> {
        let malformed = || damaged("the scan header is malformed");
        let components = usize::from(*segment.first().ok_or_else(malformed)?);
        let named = segment.get(1..1 + 2 * components).ok_or_else(malformed)?;
        let &[near, interleave, point_transform] = &segment[1 + 2 * components..] else { return Err(malformed()) };
        let due = header.components.get(done..done + components).ok_or_else(malformed)?;
        if named.chunks_exact(2).zip(due).any(|(named, due)| named[0] != *due) {
            return Err(damaged("a scan names another component than the one that is due"));
        }
        if named.chunks_exact(2).any(|component| component[1] != 0) {
            return Err(Error::unsupported("JPEG-LS with mapping tables"));
        }
        if point_transform != 0 {
            return Err(Error::unsupported("JPEG-LS with a point transform"));
        }
        let interleave = match (interleave, components) {
            (0..=2, 1) => Interleave::None,
            (1, 2..=4) => Interleave::Line,
            (2, 2..=4) => Interleave::Sample,
            _ => return Err(malformed()),
        };
        Ok(Self { components, near: i32::from(near), interleave })
    }
}

/// The constants of a scan (T.87 A.2.1 and C.2.4.1.1).
struct Coding {
    /// MAXVAL.
    highest: i32,
    near: i32,
    /// How far apart two samples are that differ: 1 where nothing is lost.
    step: i32,
    range: i32,
    /// Bits of a prediction error that is coded as it is.
    error_bits: u32,
    limit: u32,
    reset: i32,
    /// T3: whatever is steeper is of the same region.
    steepest: i32,
    /// By gradient plus `steepest`: its region.
    regions: Vec<i8>,
}

impl Coding {
    fn new(precision: u32, near: i32, preset: &Preset) -> Result<Self, Error> {
        if !(2..=16).contains(&precision) {
            return Err(damaged("the precision is not 2 to 16 bits"));
        }
        let highest = if preset.highest == 0 { (1 << precision) - 1 } else { preset.highest };
        if highest >= 1 << precision || near > 255.min(highest / 2) {
            return Err(damaged("MAXVAL or NEAR is out of range"));
        }
        let range = (highest + 2 * near) / (2 * near + 1) + 1;
        let bits_of = |count: i32| 32 - (count - 1).leading_zeros();
        let (error_bits, sample_bits) = (bits_of(range), bits_of(highest + 1).max(2));
        let reset = if preset.reset == 0 { 64 } else { preset.reset };
        if reset < 3 {
            return Err(damaged("RESET is out of range"));
        }
        let thresholds = thresholds(highest, near, preset)?;
        let steepest = thresholds[2];
        let region = |gradient: i32| {
            let size = match gradient.abs() {
                size if size <= near => 0,
                size if size < thresholds[0] => 1,
                size if size < thresholds[1] => 2,
                size if size < steepest => 3,
                _ => 4,
            };
            if gradient < 0 { -size } else { size }
        };
        let regions = (-steepest..=steepest).map(region).collect();
        let limit = 2 * (sample_bits + sample_bits.max(8));
        Ok(Self { highest, near, step: 2 * near + 1, range, error_bits, limit, reset, steepest, regions })
    }

    /// The region of a gradient, -4 to 4 (T.87 A.3.3).
    #[inline(always)]
    fn region(&self, gradient: i32) -> i32 {
        let most = self.steepest;
        #[expect(clippy::cast_sign_loss)] // the sum is not negative
        let index = gradient.clamp(most.wrapping_neg(), most).wrapping_add(most) as usize;
        i32::from(self.regions[index])
    }

    /// A prediction with its error, back in the range (T.87 A.4.5).
    #[inline]
    fn reconstructed<const LOSSLESS: bool>(&self, predicted: i32, error: i32) -> i32 {
        if LOSSLESS {
            // The range is MAXVAL + 1, not always a power of two.
            let value = predicted.wrapping_add(error);
            let value = if value < 0 { value.wrapping_add(self.range) } else { value };
            let value = if value > self.highest { value.wrapping_sub(self.range) } else { value };
            return value.clamp(0, self.highest);
        }
        let step = self.step;
        let value = predicted + error * step;
        let value = if value < -self.near {
            value + self.range * step
        } else if value > self.highest + self.near {
            value - self.range * step
        } else {
            value
        };
        value.clamp(0, self.highest)
    }
}

/// The thresholds of the gradient regions: those given, else the defaults of T.87 C.2.4.1.1.1.
fn thresholds(highest: i32, near: i32, preset: &Preset) -> Result<[i32; 3], Error> {
    const BASIC: [i32; 3] = [3, 7, 21];
    let clamped = |value: i32, least: i32| if value > highest || value < least { least } else { value };
    let mut due = [0; 3];
    let mut least = near + 1;
    for (index, basic) in BASIC.into_iter().enumerate() {
        // The distance from `near` grows by 2, 3 and 4 for each unit of the factor.
        let (step, extra) = (i32::try_from(index).unwrap_or_default() + 2, [3, 5, 7][index]);
        let default = if highest >= 128 {
            let factor = (highest.min(4095) + 128) / 256;
            factor * (basic - step) + step + extra * near
        } else {
            let factor = 256 / (highest + 1);
            (basic / factor + extra * near).max(step)
        };
        due[index] = clamped(default, least);
        least = due[index];
    }
    for (due, given) in due.iter_mut().zip(preset.thresholds) {
        if given != 0 {
            *due = given;
        }
    }
    if near < due[0] && due[0] <= due[1] && due[1] <= due[2] && due[2] <= highest {
        Ok(due)
    } else {
        Err(damaged("a threshold is out of range"))
    }
}

/// A context of regular samples (T.87 A.2.1): A, B, C and N.
#[derive(Clone, Copy)]
struct Context {
    magnitude: i32,
    bias: i32,
    correction: i32,
    count: i32,
    /// Of the next code, from the others: found when they change, because the next sample waits for it.
    parameter: u32,
}

/// A context of samples that end a run: A, N and Nn.
#[derive(Clone, Copy)]
struct RunContext {
    magnitude: i32,
    count: i32,
    negative: i32,
}

/// By run index, the logarithm of a run's length (T.87 A.2.1).
const RUN_LENGTHS: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// No valid scan comes near this sum of errors, and nothing overflows below it.
const MAGNITUDE_LIMIT: i32 = 65536 * 256;

/// What the decoder has learned since the scan or the restart interval began.
struct State<'a> {
    bits: Bits<'a>,
    contexts: Vec<Context>,
    runs: [RunContext; 2],
}

impl<'a> State<'a> {
    fn new(coding: &Coding, entropy: &'a [u8]) -> Self {
        let magnitude = ((coding.range + 32) / 64).max(2);
        Self {
            bits: Bits::new(entropy),
            contexts: vec![Context::new(magnitude); 365],
            runs: [RunContext { magnitude, count: 1, negative: 0 }; 2],
        }
    }

    /// The error of a sample that ends a run (T.87 A.7.2). `same`: whether its neighbours are alike, RItype.
    fn run_end(&mut self, coding: &Coding, same: bool, run_index: usize) -> i32 {
        let kind = usize::from(same);
        let context = &mut self.runs[kind];
        let kind = i32::from(same);
        let magnitude = context.magnitude + if same { context.count >> 1 } else { 0 };
        let parameter = golomb_parameter(context.count, magnitude);
        let limit = coding.limit - RUN_LENGTHS[run_index] - 1;
        let mapped = self.bits.golomb(parameter, limit, coding.error_bits);
        let sum = mapped + kind;
        let odd = sum & 1;
        let size = (sum + odd) / 2;
        let prefers_negative = parameter != 0 || 2 * context.negative >= context.count;
        let error = if prefers_negative == (odd == 1) { -size } else { size };
        if error < 0 {
            context.negative += 1;
        }
        context.magnitude = (context.magnitude + ((mapped + 1 - kind) >> 1)).min(MAGNITUDE_LIMIT);
        if context.count == coding.reset {
            context.magnitude >>= 1;
            context.count >>= 1;
            context.negative >>= 1;
        }
        context.count += 1;
        error
    }

    /// The length of a run of at most `left` pixels (T.87 A.7.1).
    fn run_length(&mut self, run_index: &mut usize, left: usize) -> Result<usize, Error> {
        let mut length = 0;
        while self.bits.take(1)? == 1 {
            let full = 1usize << RUN_LENGTHS[*run_index];
            let count = full.min(left - length);
            length += count;
            if count == full {
                *run_index = (*run_index + 1).min(31);
            }
            if length == left {
                return Ok(length);
            }
        }
        length += self.bits.take(RUN_LENGTHS[*run_index])? as usize;
        if length < left { Ok(length) } else { Err(damaged("a run is longer than its line")) }
    }
}

impl Context {
    fn new(magnitude: i32) -> Self {
        Self { magnitude, bias: 0, correction: 0, count: 1, parameter: golomb_parameter(1, magnitude) }
    }

    /// A sample outside of runs (T.87 A.4 to A.6). `sign`: -1 where the context stands for its mirror image, else 0.
    #[inline(always)]
    fn sample<const LOSSLESS: bool>(&mut self, coding: &Coding, bits: &mut Bits<'_>, sign: i32, predicted: i32) -> i32 {
        let predicted = predicted.wrapping_add(self.correction ^ sign).wrapping_sub(sign).clamp(0, coding.highest);
        let mapped = bits.golomb(self.parameter, coding.limit, coding.error_bits);
        let mut error = (mapped >> 1) ^ (mapped & 1).wrapping_neg();
        if LOSSLESS {
            let turned = self.parameter == 0 && self.bias.wrapping_mul(2).wrapping_add(self.count) <= 0;
            error ^= i32::from(turned).wrapping_neg();
        }
        self.learn(error, coding);
        coding.reconstructed::<LOSSLESS>(predicted, (error ^ sign).wrapping_sub(sign))
    }

    /// T.87 A.6.
    #[inline(always)]
    fn learn(&mut self, error: i32, coding: &Coding) {
        self.magnitude = self.magnitude.wrapping_add(error.wrapping_abs()).min(MAGNITUDE_LIMIT);
        let bias = self.bias.wrapping_add(error.wrapping_mul(coding.step));
        self.bias = bias.clamp(-MAGNITUDE_LIMIT, MAGNITUDE_LIMIT);
        if self.count == coding.reset {
            self.magnitude >>= 1;
            self.bias >>= 1;
            self.count >>= 1;
        }
        self.count = self.count.wrapping_add(1);
        // Without a branch, which noise would decide.
        let (low, high) = (self.bias.wrapping_add(self.count) <= 0, self.bias > 0);
        let raised = self.bias.wrapping_add(self.count).max(1i32.wrapping_sub(self.count));
        let lowered = self.bias.wrapping_sub(self.count).min(0);
        self.bias =
            std::hint::select_unpredictable(low, raised, std::hint::select_unpredictable(high, lowered, self.bias));
        self.correction = (self.correction + i32::from(high) - i32::from(low)).clamp(-128, 127);
        self.parameter = golomb_parameter(self.count, self.magnitude);
    }
}

/// The smallest parameter that the count reaches the magnitude with (T.87 A.5.1). No valid scan
/// has more than 16.
#[inline(always)]
fn golomb_parameter(count: i32, magnitude: i32) -> u32 {
    let least = count.leading_zeros().saturating_sub(magnitude.leading_zeros());
    least.min(15) + u32::from(i64::from(count) << least < i64::from(magnitude))
}

/// Where the samples of a scan go.
struct Frame {
    columns: usize,
    /// Samples per pixel.
    samples: usize,
    /// The first component of the scan.
    first: usize,
}

/// The line above and the line that is being decoded of one component, each with a neighbour at both ends.
struct Lines {
    above: Vec<i32>,
    here: Vec<i32>,
    run_index: usize,
}

impl Frame {
    fn decode<T: Cell, const LOSSLESS: bool>(
        &self,
        coding: &Coding,
        scan: &Scan,
        entropy: &[u8],
        restart_lines: usize,
        cells: &mut [T],
    ) -> Result<(), Error> {
        let empty = || Lines { above: vec![0; self.columns + 2], here: vec![0; self.columns + 2], run_index: 0 };
        let fresh = || (0..scan.components).map(|_| empty()).collect::<Vec<_>>();
        let mut lines = fresh();
        let mut state = State::new(coding, entropy);
        let per_line = self.columns * self.samples;
        for (row, out) in cells.chunks_exact_mut(per_line).enumerate() {
            if restart_lines > 0 && row > 0 && row % restart_lines == 0 {
                state = State::new(coding, state.bits.restarted(row / restart_lines - 1)?);
                lines = fresh();
            }
            for line in &mut lines {
                std::mem::swap(&mut line.above, &mut line.here);
                line.above[self.columns + 1] = line.above[self.columns];
                line.here[0] = line.above[1];
            }
            if scan.interleave == Interleave::Sample {
                self.samples_line::<LOSSLESS>(coding, &mut state, &mut lines)?;
            } else {
                for line in &mut lines {
                    line.decode::<LOSSLESS>(coding, &mut state)?;
                }
            }
            if state.bits.overrun() {
                return Err(damaged("the scan ends before the image is full"));
            }
            if let ([line], 1) = (lines.as_slice(), self.samples) {
                out.iter_mut().zip(&line.here[1..]).for_each(|(place, sample)| *place = T::of(*sample));
                continue;
            }
            for (component, line) in lines.iter().enumerate() {
                let places = out[self.first + component..].iter_mut().step_by(self.samples);
                places.zip(&line.here[1..]).for_each(|(place, sample)| *place = T::of(*sample));
            }
        }
        Ok(())
    }

    /// A line of pixels whose components alternate: they share contexts, and a run is one of all of them.
    fn samples_line<const LOSSLESS: bool>(
        &self,
        coding: &Coding,
        state: &mut State<'_>,
        lines: &mut [Lines],
    ) -> Result<(), Error> {
        let mut run_index = lines[0].run_index;
        let mut at = 1;
        while at <= self.columns {
            let mut regions = [0; 4];
            for (region, line) in regions.iter_mut().zip(&*lines) {
                *region = line.region(coding, at);
            }
            if regions != [0; 4] {
                for (line, region) in lines.iter_mut().zip(regions) {
                    let context = &mut state.contexts[region.unsigned_abs() as usize];
                    let (sign, predicted) = (region >> 31, line.predicted(at));
                    line.here[at] = context.sample::<LOSSLESS>(coding, &mut state.bits, sign, predicted);
                }
                at += 1;
                continue;
            }
            let length = state.run_length(&mut run_index, self.columns + 1 - at)?;
            for line in &mut *lines {
                let sample = line.here[at - 1];
                line.here[at..at + length].fill(sample);
            }
            at += length;
            if at <= self.columns {
                for line in &mut *lines {
                    let (left, above) = (line.here[at - 1], line.above[at]);
                    let error = state.run_end(coding, false, run_index);
                    let error = if above < left { -error } else { error };
                    line.here[at] = coding.reconstructed::<LOSSLESS>(above, error);
                }
                run_index = run_index.saturating_sub(1);
                at += 1;
            }
        }
        lines[0].run_index = run_index;
        Ok(())
    }
}

impl Lines {
    /// The region of the gradients around a place, 0 for a run (T.87 A.3).
    #[inline]
    fn region(&self, coding: &Coding, at: usize) -> i32 {
        let (left, above) = (self.here[at - 1], self.above[at]);
        let (corner, right) = (self.above[at - 1], self.above[at + 1]);
        81 * coding.region(right - above) + 9 * coding.region(above - corner) + coding.region(corner - left)
    }

    /// The median of three predictions (T.87 A.4.1).
    #[inline]
    fn predicted(&self, at: usize) -> i32 {
        let (left, above, corner) = (self.here[at - 1], self.above[at], self.above[at - 1]);
        median(left, above, corner)
    }

    fn decode<const LOSSLESS: bool>(&mut self, coding: &Coding, state: &mut State<'_>) -> Result<(), Error> {
        let columns = self.here.len() - 2;
        let Self { above, here, run_index } = self;
        // In a place of its own, not behind a reference: in registers.
        let mut bits = state.bits;
        let mut at = 1;
        let (mut left, mut corner, mut over) = (here[0], above[0], above[1]);
        // The second gradient of a place is the first one of the place before.
        let mut second = coding.region(over.wrapping_sub(corner));
        while at <= columns {
            let right = above[at + 1];
            let first = coding.region(right.wrapping_sub(over));
            let region = 81 * first + 9 * second + coding.region(corner.wrapping_sub(left));
            if region != 0 {
                let context = &mut state.contexts[region.unsigned_abs() as usize];
                left = context.sample::<LOSSLESS>(coding, &mut bits, region >> 31, median(left, over, corner));
                here[at] = left;
                (corner, over, second) = (over, right, first);
                at += 1;
                continue;
            }
            state.bits = bits;
            let length = state.run_length(run_index, columns + 1 - at)?;
            here[at..at + length].fill(left);
            at += length;
            if at <= columns {
                let above = above[at];
                let same = (left - above).abs() <= coding.near;
                let error = state.run_end(coding, same, *run_index);
                let (predicted, error) =
                    if same { (left, error) } else { (above, if above < left { -error } else { error }) };
                here[at] = coding.reconstructed::<LOSSLESS>(predicted, error);
                *run_index = run_index.saturating_sub(1);
                at += 1;
            }
            (left, corner, over) = (here[at - 1], above[at - 1], above[at]);
            second = coding.region(over.wrapping_sub(corner));
            bits = state.bits;
        }
        state.bits = bits;
        Ok(())
    }
}

#[inline(always)]
fn median(left: i32, above: i32, corner: i32) -> i32 {
    // The plane through the three, kept between the left and the upper one: without a branch that noise decides.
    left.wrapping_add(above).wrapping_sub(corner).max(left.min(above)).min(left.max(above))
}
