//! Native pixels and the way to the display, on files that the tests write: what the test set has no sample of.

use dataset::Instance;
use pixel::{
    Error, Limits, Photometric, RenderOptions, Samples, Window, decode, describe, offered_windows, render,
    window_explained,
};

use crate::written::{BIG_ENDIAN, EXPLICIT, File};

const PIXEL_DATA: u32 = 0x7fe0_0010;

/// Whatever the type of the samples, as numbers.
pub(crate) fn numbers(samples: &Samples) -> Vec<f64> {
    match samples {
        Samples::U8(array) => array.iter().map(|value| f64::from(*value)).collect(),
        Samples::I8(array) => array.iter().map(|value| f64::from(*value)).collect(),
        Samples::U16(array) => array.iter().map(|value| f64::from(*value)).collect(),
        Samples::I16(array) => array.iter().map(|value| f64::from(*value)).collect(),
        Samples::U32(array) => array.iter().map(|value| f64::from(*value)).collect(),
        Samples::I32(array) => array.iter().map(|value| f64::from(*value)).collect(),
        Samples::F32(array) => array.iter().map(|value| f64::from(*value)).collect(),
        Samples::F64(array) => array.iter().copied().collect(),
    }
}

fn decoded(instance: &Instance) -> Vec<f64> {
    numbers(&decode(instance, 0, &Limits::default()).unwrap().samples)
}

/// Cells in the byte order of a transfer syntax, of the VR that goes with them.
fn cells(file: File, cells: &[u32], allocated: u16, big_endian: bool) -> File {
    let bytes = |cell: &u32| {
        let length = usize::from(allocated / 8);
        if big_endian { cell.to_be_bytes()[4 - length..].to_vec() } else { cell.to_le_bytes()[..length].to_vec() }
    };
    let value: Vec<u8> = cells.iter().flat_map(bytes).collect();
    file.element(PIXEL_DATA, if allocated == 8 { b"OB" } else { b"OW" }, &value)
}

/// Every number of bits in every cell, at its low and at its high end, signed or not, with other bits set beside them, as
/// of an overlay (PS3.5 section 8.1.1).
#[test]
fn samples_of_1_to_32_bits() {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state ^ state >> 16
    };
    for allocated in [8u16, 16, 24, 32] {
        for stored in 1..=allocated {
            for (signed, big_endian) in [(false, false), (true, false), (false, true), (true, true)] {
                if big_endian && allocated == 24 {
                    continue;
                }
                for high_bit in [stored - 1, allocated - 1] {
                    let (shift, mask) = (high_bit + 1 - stored, u32::MAX >> (32 - stored));
                    let all = u32::MAX >> (32 - allocated);
                    let values: Vec<u32> =
                        [0, mask, mask >> 1, 1].into_iter().chain((0..8).map(|_| next() & mask)).collect();
                    let around = !(mask << shift) & all;
                    let written: Vec<u32> = values.iter().map(|value| value << shift | next() & around).collect();
                    let due = |value: &u32| {
                        let negative = signed && value >> (stored - 1) == 1;
                        f64::from(*value) - if negative { f64::from(mask) + 1.0 } else { 0.0 }
                    };
                    let due: Vec<f64> = values.iter().map(due).collect();
                    let file = File::new(if big_endian { BIG_ENDIAN } else { EXPLICIT });
                    let file = file.image([3, 4, 1], "MONOCHROME2", [allocated, stored, high_bit], signed);
                    let instance = cells(file, &written, allocated, big_endian).open();
                    let what = format!(
                        "{stored} of {allocated} bits, high bit {high_bit}, signed {signed}, big endian {big_endian}"
                    );
                    assert_eq!(decoded(&instance), due, "{what}");
                }
            }
        }
    }
}

#[test]
fn single_bits_of_frames_that_follow_without_padding() {
    let file = File::new(EXPLICIT).frames(3).image([1, 3, 1], "MONOCHROME2", [1, 1, 0], false);
    let instance = file.element(PIXEL_DATA, b"OB", &[0b0101_1101, 0b1]).open();
    let frame = |frame| numbers(&decode(&instance, frame, &Limits::default()).unwrap().samples);
    assert_eq!([frame(0), frame(1), frame(2)].concat(), [1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
}

#[test]
fn floats_of_both_widths_and_byte_orders() {
    for (syntax, big_endian) in [(EXPLICIT, false), (BIG_ENDIAN, true)] {
        let header = |bits: u16| {
            let file = File::new(syntax).short(0x0028_0002, 1).text(0x0028_0004, b"CS", "MONOCHROME2");
            file.short(0x0028_0010, 1).short(0x0028_0011, 2).short(0x0028_0100, bits)
        };
        let four: Vec<u8> =
            [1.5f32, -2.25].iter().flat_map(|v| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() }).collect();
        assert_eq!(decoded(&header(32).element(0x7fe0_0008, b"OF", &four).open()), [1.5, -2.25]);
        let eight: Vec<u8> =
            [1e300f64, -2.25].iter().flat_map(|v| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() }).collect();
        assert_eq!(decoded(&header(64).element(0x7fe0_0009, b"OD", &eight).open()), [1e300, -2.25]);
    }
}

fn rgb(instance: &Instance) -> Vec<u8> {
    render(instance, 0, &RenderOptions::default(), &Limits::default()).unwrap().rgb
}

#[test]
fn colour_by_pixel_and_by_plane() {
    // Red, green, blue, white of 8 and of 12 bits.
    let pixels = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]];
    let by_pixel: Vec<u16> = pixels.concat();
    let by_plane: Vec<u16> = (0..3).flat_map(|sample| pixels.map(|pixel| pixel[sample])).collect();
    let due: Vec<u8> = by_pixel.iter().map(|value| value.to_le_bytes()[0]).collect();
    for (planar, values) in [(false, &by_pixel), (true, &by_plane)] {
        for (allocated, stored) in [(8u16, 8u16), (16, 12), (32, 20)] {
            let highest = (1u32 << stored) - 1;
            let values: Vec<u32> = values.iter().map(|value| u32::from(*value) * highest / 255).collect();
            let file =
                File::new(EXPLICIT).by_plane(planar).image([2, 2, 3], "RGB", [allocated, stored, stored - 1], false);
            let file = cells(file, &values, allocated, false);
            assert_eq!(rgb(&file.open()), due, "planar {planar}, {stored} bits");
        }
    }
}

/// PS3.3 C.7.6.3.1.2: the equations' own primaries.
#[test]
fn luminance_and_colour_differences() {
    let near = |rgb: &[u8], due: &[u8]| {
        assert_eq!(rgb.len(), due.len());
        assert!(rgb.iter().zip(due).all(|(one, other)| one.abs_diff(*other) <= 1), "{rgb:?} is not {due:?}");
    };
    let full = File::new(EXPLICIT).image([1, 3, 3], "YBR_FULL", [8, 8, 7], false);
    let instance = full.element(PIXEL_DATA, b"OB", &[76, 85, 255, 150, 44, 21, 29, 255, 107]).open();
    near(&rgb(&instance), &[255, 0, 0, 0, 255, 0, 0, 0, 255]);
    assert_eq!(decode(&instance, 0, &Limits::default()).unwrap().photometric, Photometric::Rgb);
    // Two pixels share their colour differences; in words of 16 bits too.
    let shared = File::new(EXPLICIT).image([1, 2, 3], "YBR_FULL_422", [8, 8, 7], false);
    near(&rgb(&shared.element(PIXEL_DATA, b"OB", &[76, 29, 128, 128]).open()), &[76, 76, 76, 29, 29, 29]);
    let shared = File::new(EXPLICIT).image([1, 2, 3], "YBR_FULL_422", [16, 16, 15], false);
    let words = [76 << 8, 29 << 8, 128 << 8, 128 << 8];
    near(&rgb(&shared.shorts(PIXEL_DATA, b"OW", &words).open()), &[76, 76, 76, 29, 29, 29]);
}

/// A grey image of one row in cells of 16 bits.
fn grey(values: &[i16], photometric: &str, more: impl FnOnce(File) -> File) -> Instance {
    let columns = u16::try_from(values.len()).unwrap();
    let file = File::new(EXPLICIT).image([1, columns, 1], photometric, [16, 16, 15], true);
    let words: Vec<u16> = values.iter().map(|value| value.cast_unsigned()).collect();
    more(file).shorts(PIXEL_DATA, b"OW", &words).open()
}

fn shades(instance: &Instance) -> Vec<u8> {
    rgb(instance).chunks_exact(3).map(|pixel| pixel[0]).collect()
}

fn window(file: File, center: &str, width: &str) -> File {
    file.text(0x0028_1050, b"DS", center).text(0x0028_1051, b"DS", width)
}

fn rescale(file: File, intercept: &str, slope: &str) -> File {
    file.text(0x0028_1052, b"DS", intercept).text(0x0028_1053, b"DS", slope)
}

/// An item of Modality LUT Sequence or VOI LUT Sequence.
fn table(file: File, descriptor: &[u16; 3], explanation: &str, entries: &[u16]) -> File {
    let file = file.shorts(0x0028_3002, b"SS", descriptor).text(0x0028_3003, b"LO", explanation);
    file.shorts(0x0028_3006, b"OW", entries)
}

#[test]
fn from_stored_values_to_grey_levels() {
    let values = [-1000, -10, 0, 10, 50, 100, 1000];
    type More<'a> = &'a dyn Fn(File) -> File;
    let cases: [(&str, &str, More<'_>, [u8; 7]); 14] = [
        // 255 * (x + 1000) / 2000.
        ("no window: from the lowest to the highest", "MONOCHROME2", &|file| file, [0, 126, 128, 129, 134, 140, 255]),
        ("MONOCHROME1", "MONOCHROME1", &|file| file, [255, 129, 128, 126, 121, 115, 0]),
        // 255 * ((x - 49.5) / 100 + 0.5), C.11.2.1.2.1.
        ("LINEAR", "MONOCHROME2", &|file| window(file, "50", "101"), [0, 0, 1, 27, 129, 255, 255]),
        ("a width of 1 is a threshold", "MONOCHROME2", &|file| window(file, "50", "1"), [0, 0, 0, 0, 255, 255, 255]),
        ("a width of 0 is none", "MONOCHROME2", &|file| window(file, "50", "0"), [0, 126, 128, 129, 134, 140, 255]),
        (
            "the first window of several that is one",
            "MONOCHROME2",
            &|file| window(file, "40\\50\\0", "0\\101\\2"),
            [0, 0, 1, 27, 129, 255, 255],
        ),
        (
            "LINEAR_EXACT",
            "MONOCHROME2",
            &|file| window(file, "50", "100").text(0x0028_1056, b"CS", "LINEAR_EXACT"),
            [0, 0, 0, 25, 128, 255, 255],
        ),
        (
            "SIGMOID",
            "MONOCHROME2",
            &|file| window(file, "50", "100").text(0x0028_1056, b"CS", "SIGMOID"),
            // 255 / (1 + exp(-4 * (x - 50) / 100)).
            [0, 21, 30, 43, 128, 225, 255],
        ),
        // 2 * x + 10 before the window.
        ("rescale", "MONOCHROME2", &|file| window(rescale(file, "10", "2"), "60", "101"), [0, 0, 1, 52, 255, 255, 255]),
        ("a slope of 0", "MONOCHROME2", &|file| window(rescale(file, "60", "0"), "60", "101"), [129; 7]),
        (
            "INVERSE",
            "MONOCHROME2",
            &|file| window(file, "50", "101").text(0x2050_0020, b"CS", "INVERSE"),
            [255, 255, 254, 228, 126, 0, 0],
        ),
        (
            "a modality LUT from -10 on, then a window",
            "MONOCHROME2",
            &|file| {
                let item: More<'_> = &|item| table(item, &[3, 0xfff6, 16], "OD", &[100, 0, 200]);
                window(file, "100", "201").sequence(0x0028_3000, &[item])
            },
            [128, 128, 255, 255, 255, 255, 255],
        ),
        (
            "a VOI LUT of 10 bits before a window",
            "MONOCHROME2",
            &|file| {
                let item: More<'_> = &|item| table(item, &[3, 9, 10], "", &[1023, 0, 341]);
                window(file, "50", "1").sequence(0x0028_3010, &[item])
            },
            [255, 255, 255, 0, 85, 85, 85],
        ),
        (
            "padding does not count, and is within the levels all the same",
            "MONOCHROME2",
            &|file| file.shorts(0x0028_0120, b"SS", &[0xfc18]).shorts(0x0028_0121, b"SS", &[0xfff6]),
            // 255 * x / 1000.
            [0, 0, 0, 3, 13, 26, 255],
        ),
    ];
    for (what, photometric, more, due) in cases {
        let instance = grey(&values, photometric, more);
        assert_eq!(shades(&instance), due, "{what}");
    }
}

#[test]
fn a_window_is_picked_by_its_explanation_by_its_number_or_given() {
    let tables: [&dyn Fn(File) -> File; 2] = [&|item| table(item, &[2, 0, 8], "Plain", &[0, 255]), &|item| {
        table(item, &[2, 0, 8], "Turned over", &[255, 0])
    }];
    let instance = grey(&[0, 1, 40], "MONOCHROME2", |file| {
        let file = window(file, "20\\0\\1", "40.0\\0\\2").text(0x0028_1055, b"LO", "SOFT TISSUE\\none\\Lung");
        file.sequence(0x0028_3010, &tables)
    });
    let offered = offered_windows(&instance, 0).unwrap();
    let explained: Vec<_> = offered.iter().map(|one| one.explanation.as_deref().unwrap_or_default()).collect();
    assert_eq!(explained, ["Plain", "Turned over", "SOFT TISSUE", "Lung"]);
    let shown = |window| {
        let options = RenderOptions { window };
        let picture = render(&instance, 0, &options, &Limits::default()).unwrap();
        picture.rgb.chunks_exact(3).map(|pixel| pixel[0]).collect::<Vec<_>>()
    };
    assert_eq!(shown(None), [0, 255, 255]);
    assert_eq!(shown(window_explained(&offered, "turned over ")), [255, 0, 0]);
    assert_eq!(shown(window_explained(&offered, "LUNG")), [0, 255, 255]);
    // By a part of it, and only where no whole one fits.
    assert_eq!(window_explained(&offered, "tissue"), Some(Window::Linear { center: 20.0, width: 40.0 }));
    assert_eq!(window_explained(&offered, "bone"), None);
    assert_eq!(shown(Some(offered[1].window)), [255, 0, 0]);
    assert_eq!(shown(Some(Window::LinearExact { center: 20.0, width: 40.0 })), [0, 6, 255]);
    assert_eq!(describe(&instance, 0, &Limits::default()).unwrap().offered_windows, offered);
}

/// Rescale and windows of each frame's own functional group before the shared one and the top level.
#[test]
fn each_frame_has_its_own_transformation() {
    let group = |intercept: &'static str, center: &'static str| {
        move |item: File| {
            let rescaled: &dyn Fn(File) -> File = &|item| rescale(item, intercept, "1");
            let windowed: &dyn Fn(File) -> File = &|item| window(item, center, "1");
            item.sequence(0x0028_9132, &[windowed]).sequence(0x0028_9145, &[rescaled])
        }
    };
    let (first, second) = (group("0", "5"), group("10", "5"));
    let file = File::new(EXPLICIT).frames(2);
    let file = window(file.image([1, 2, 1], "MONOCHROME2", [16, 16, 15], false), "0", "1");
    let file = file.sequence(0x5200_9230, &[&first, &second]);
    let instance = file.shorts(PIXEL_DATA, b"OW", &[0, 5, 0, 5]).open();
    let frame = |frame| render(&instance, frame, &RenderOptions::default(), &Limits::default()).unwrap().rgb;
    assert_eq!((frame(0), frame(1)), (vec![0, 0, 0, 255, 255, 255], vec![255; 6]));
}

/// A palette of three colours whose first index is 1: plain with entries of 8 and of 16 bits, and segmented.
#[test]
fn palettes() {
    let colours = [[255u16, 0, 0], [0, 128, 0], [0, 0, 64]];
    let due: Vec<u8> =
        [0, 0, 1, 2, 2].iter().flat_map(|index: &usize| colours[*index].map(|it| it.to_le_bytes()[0])).collect();
    let plain = |bits: u16| {
        move |mut file: File| {
            for channel in 0..3u32 {
                file = file.shorts(0x0028_1101 + channel, b"US", &[3, 1, bits]);
            }
            for channel in 0..3usize {
                let entries = colours.map(|colour| colour[channel]);
                let tag = 0x0028_1201 + u32::try_from(channel).unwrap();
                file = if bits == 8 {
                    file.element(tag, b"OW", &entries.map(|entry| entry.to_le_bytes()[0]))
                } else {
                    file.shorts(tag, b"OW", &entries.map(|entry| entry << 8 | 0x55))
                };
            }
            file
        }
    };
    let segmented = |mut file: File| {
        for channel in 0..3u32 {
            file = file.shorts(0x0028_1101 + channel, b"US", &[3, 1, 16]);
        }
        for channel in 0..3usize {
            let [a, b, c] = colours.map(|colour| colour[channel] << 8);
            // A discrete segment of two entries, and a linear one that ends at the third.
            file = file.shorts(0x0028_1221 + u32::try_from(channel).unwrap(), b"OW", &[0, 2, a, b, 1, 1, c]);
        }
        file
    };
    let of = |write: &dyn Fn(File) -> File| {
        let file = File::new(EXPLICIT).image([1, 5, 1], "PALETTE COLOR", [8, 8, 7], false);
        write(file).element(PIXEL_DATA, b"OB", &[0, 1, 2, 3, 200]).open()
    };
    assert_eq!(rgb(&of(&plain(8))), due);
    assert_eq!(rgb(&of(&plain(16))), due);
    assert_eq!(rgb(&of(&segmented)), due);
    let missing = of(&|file| file.shorts(0x0028_1101, b"US", &[3, 1, 8]));
    let error = render(&missing, 0, &RenderOptions::default(), &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
}

#[test]
fn an_icc_profile_is_noted() {
    let file = |more: &dyn Fn(File) -> File| {
        more(File::new(EXPLICIT).image([1, 1, 3], "RGB", [8, 8, 7], false))
            .element(PIXEL_DATA, b"OB", &[1, 2, 3])
            .open()
    };
    let noted = |instance: &Instance| describe(instance, 0, &Limits::default()).unwrap().icc_profile;
    assert!(!noted(&file(&|file| file)));
    assert!(noted(&file(&|file| file.element(0x0028_2000, b"OB", &[0; 8]))));
}
