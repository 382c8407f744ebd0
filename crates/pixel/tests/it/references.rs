//! Every image of the DICOM test set against its reference: lossless ones to the last bit.

use std::path::{Path, PathBuf};

use dataset::{Header, Instance};
use pixel::{Description, Limits, RenderOptions, Rendered, decode, describe, picture, png, render};
use serde_json::Value;

/// Files that cannot be done yet, each with the reason. The test fails when one of them starts to pass.
const NOT_YET: &[(&str, &str)] = &[];

/// The test set beside the checkout; nothing, and a line that says so, when it is not there.
pub(crate) fn set() -> Option<PathBuf> {
    let set = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/dicom");
    if set.join("index.tsv").exists() {
        return Some(set);
    }
    println!("skipped: no DICOM test set at ../shared/dicom beside the workspace");
    None
}

pub(crate) fn open_header(set: &Path, name: &str) -> Header {
    Header::open(&set.join(name), &dataset::Limits::default()).expect("the header of a file of the test set")
}

fn open(set: &Path, name: &str) -> Result<Instance, dataset::Error> {
    Instance::open(&set.join(name), &dataset::Limits::default())
}

/// The files of the index and their references.
fn references(set: &Path) -> Vec<(String, Value)> {
    let index = std::fs::read_to_string(set.join("index.tsv")).expect("the index");
    let names = index.lines().skip(1).filter_map(|line| line.split('\t').next());
    names
        .map(|name| {
            let file = std::fs::read(set.join("refs").join(format!("{name}.json"))).expect("a reference");
            (name.to_owned(), serde_json::from_slice(&file).expect("a reference in JSON"))
        })
        .collect()
}

#[test]
fn every_image_is_what_its_reference_says() {
    let Some(set) = set() else { return };
    let mut wrong = Vec::new();
    let mut right = 0;
    for (name, reference) in references(&set) {
        if !reference["array"].is_object() || name.starts_with("malformed/") {
            continue;
        }
        let difference = compare(&set, &name, &reference).err();
        let expected = NOT_YET.iter().find(|(file, _)| *file == name);
        match (difference, expected) {
            (None, None) => right += 1,
            (Some(_), Some((_, reason))) => println!("not yet: {name}: {reason}"),
            (None, Some(_)) => wrong.push(format!("{name} passes now: take it off the list")),
            (Some(difference), None) => wrong.push(format!("{name}: {difference}")),
        }
    }
    println!("{right} files are what their references say, {} are not done yet", NOT_YET.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), right + wrong.len(), wrong.join("\n"));
}

fn compare(set: &Path, name: &str, reference: &Value) -> Result<(), String> {
    let instance = open(set, name).map_err(|error| error.to_string())?;
    let described = describe(&instance, 0, &Limits::default()).map_err(|error| error.to_string())?;
    let ours = serde_json::to_value(&described).map_err(|error| error.to_string())?;
    let due = &reference["array"];
    for field in ["shape", "dtype"] {
        if ours["array"][field] != due[field] {
            return Err(format!("{field} is {}, due is {}", ours["array"][field], due[field]));
        }
    }
    let lossy = reference["lossy_codec"] == true;
    // Rounding in YBR to RGB is allowed to differ, so such an image counts as lossy.
    let converted = due["sha256_le"] != due["raw_no_colour_conversion_sha256_le"];
    if !lossy && !converted && ours["array"]["sha256_le"] != due["sha256_le"] {
        return Err(format!(
            "other values: {}..{}, due {}..{}",
            ours["array"]["min"], ours["array"]["max"], due["min"], due["max"]
        ));
    }
    let tolerances = if lossy || converted { (2.0, 6.0) } else { (0.6, 0.6) };
    compare_levels(&described, &reference["voi8"], tolerances)?;
    let picture = render(&instance, 0, &RenderOptions::default(), &Limits::default()).map_err(|e| e.to_string())?;
    check_picture(&picture, &described)
}

fn compare_levels(described: &Description, due: &Value, (of_mean, of_cell): (f64, f64)) -> Result<(), String> {
    let ours = &described.voi8;
    let inverted = due["display_inverted"].as_bool();
    if ours.display_inverted != inverted {
        return Err(format!("inverted is {:?}, due is {inverted:?}", ours.display_inverted));
    }
    let mean = due["mean"].as_f64().ok_or("the reference has no mean")?;
    if (ours.mean - mean).abs() > of_mean {
        return Err(format!("the mean is {}, due is {mean}", ours.mean));
    }
    for (i, row) in ours.grid16.iter().enumerate() {
        for (j, cell) in row.iter().enumerate() {
            let due = due["grid16"][i][j].as_f64().ok_or("the reference has no grid")?;
            if (cell - due).abs() > of_cell {
                return Err(format!("cell {i},{j} is {cell}, due is {due}"));
            }
        }
    }
    Ok(())
}

/// The picture that a model sees is the described one, inverted where it says so.
fn check_picture(picture: &Rendered, described: &Description) -> Result<(), String> {
    let pixels = picture.width as usize * picture.height as usize;
    if picture.rgb.len() != pixels * 3 {
        return Err("the picture is not of its size".to_owned());
    }
    let mean = picture.rgb.iter().map(|level| f64::from(*level)).sum::<f64>() / (pixels * 3) as f64;
    let due = if picture.inverted { 255.0 - described.voi8.mean } else { described.voi8.mean };
    if (mean - due).abs() > 1.0 {
        return Err(format!("the picture's mean is {mean}, due is {due}"));
    }
    let file = png(picture);
    if file.starts_with(b"\x89PNG\r\n\x1a\n") { Ok(()) } else { Err("the PNG is none".to_owned()) }
}

/// Broken files end in an error or in a result of a plausible size; and where they are only odd, in the right one.
#[test]
fn broken_files_end_well_and_in_bounded_memory() {
    let Some(set) = set() else { return };
    for (name, reference) in references(&set) {
        if !name.starts_with("malformed/") && reference["array"].is_object() {
            continue;
        }
        let outcome = open(&set, &name).map_err(|error| error.to_string()).and_then(|instance| {
            let limits = Limits::default();
            let described = describe(&instance, 0, &limits).map_err(|error| error.to_string())?;
            render(&instance, 0, &RenderOptions::default(), &limits).map_err(|error| error.to_string())?;
            Ok(described)
        });
        match &outcome {
            Ok(described) => println!("{name}: {:?}", described.array.shape),
            Err(error) => println!("{name}: {error}"),
        }
        if let (Ok(described), Some(due)) = (&outcome, reference["array"]["sha256_le"].as_str()) {
            assert_eq!(described.array.sha256_le, due, "{name}");
            compare_levels(described, &reference["voi8"], (0.6, 0.6)).unwrap();
        }
        let must_fail = reference["result"].as_str().is_some_and(|result| result.contains("ValueError"));
        assert!(outcome.is_err() || !must_fail, "{name} must not pass for an image");
    }
    if let Some(peak) = peak_memory() {
        println!("peak memory: {peak} KiB");
        assert!(peak < 1 << 20, "{peak} KiB");
    }
}

/// A codestream of which the second half is missing is no image, also when something wrote an end after the first one.
#[test]
fn a_codestream_cut_short_is_no_image() {
    let Some(set) = set() else { return };
    for name in [
        "codec/HTJ2KLossless_08_RGB.dcm",
        "codec/JPEG2000.dcm",
        "codec/ct_j2k_lossless.dcm",
        "codec/ct_jls_lossless.dcm",
        "codec/ct_jpeg_baseline.dcm",
        "codec/ct_jpeg_extended12.dcm",
        "codec/ct_jpeg_lossless_p14.dcm",
        "codec/ct_jpeg_lossless_sv1.dcm",
        "codec/ct_rle.dcm",
        "codec/mr_jxl_lossless16.dcm",
        "colour/SC_jpeg_no_color_transform.dcm",
        "colour/SC_rgb_dcmtk__eb_cy_n1.dcm",
        "colour/TestPattern_JPEG-Baseline_YBR422.dcm",
        "colour/TestPattern_JPEG-Lossless_RGB.dcm",
        "cxr_hannover/04a33bab_6b5af975_16_htj2k.dcm",
        "mg/GH133.dcm",
    ] {
        let file = std::fs::read(set.join(name)).unwrap();
        for end in [&[][..], &[0xff, 0xd9]] {
            let file = with_codestream(&file, |whole| [&whole[..whole.len() / 4 * 2], end].concat());
            let instance = Instance::from_bytes(&file, &dataset::Limits::default()).unwrap();
            let decoded = decode(&instance, 0, &Limits::default());
            assert!(decoded.is_err(), "{name} with {end:?} passes for an image");
        }
    }
}

/// Zeros after a codestream are padding. The seam to dicom-pixeldata makes use of it.
#[test]
fn zeros_after_a_codestream_make_no_difference() {
    let Some(set) = set() else { return };
    for name in [
        "codec/HTJ2KLossless_08_RGB.dcm",
        "codec/JPEG2000.dcm",
        "codec/ct_j2k_lossless.dcm",
        "codec/ct_jls_lossless.dcm",
        "codec/ct_jpeg_baseline.dcm",
        "codec/ct_jpeg_lossless_sv1.dcm",
        "codec/ct_rle.dcm",
        "colour/TestPattern_JPEG-Baseline_YBR422.dcm",
    ] {
        let file = std::fs::read(set.join(name)).unwrap();
        let padded = with_codestream(&file, |whole| [whole, &[0; 100_000]].concat());
        let decoded = |file: &[u8]| {
            let instance = Instance::from_bytes(file, &dataset::Limits::default()).unwrap();
            decode(&instance, 0, &Limits::default()).unwrap()
        };
        assert_eq!(decoded(&file), decoded(&padded), "{name}");
    }
}

/// A file of one fragment with another codestream in it.
fn with_codestream(file: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let begins = |at: &[u8]| at.starts_with(&[0xe0, 0x7f, 0x10, 0, b'O']) && at.ends_with(&[0, 0, 255, 255, 255, 255]);
    let length = |at: usize| file[at + 4..at + 8].iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let table = file.windows(12).rposition(begins).expect("encapsulated pixel data") + 12;
    let fragment = table + 8 + length(table);
    let begin = fragment + 8;
    let (whole, delimiter) = file[begin..].split_at(length(fragment));
    assert!(delimiter.starts_with(&[0xfe, 0xff, 0xdd, 0xe0]));
    let changed = change(whole);
    let length = u32::try_from(changed.len()).expect("a length").to_le_bytes();
    [&file[..fragment + 4], &length, &changed, delimiter].concat()
}

/// The most memory that this process ever held, in KiB; nothing where the system does not say.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// Small files with bytes changed and with their ends cut off: no panic, and memory as for an image.
#[test]
fn changed_bytes_end_well_and_in_bounded_memory() {
    const ROUNDS: u64 = 20;
    let Some(set) = set() else { return };
    let limits = Limits::default();
    // A linear congruential generator (Knuth's MMIX): the same changes in every run.
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below.max(1)
    };
    let (mut read, mut refused) = (0, 0);
    for (name, _) in references(&set) {
        let bytes = std::fs::read(set.join(&name)).unwrap();
        if bytes.len() > 200_000 {
            continue;
        }
        for round in 0..rounds(ROUNDS) {
            let mut changed = bytes.clone();
            // Half of the changes go to the second half of the file, where the pixels are.
            for _ in 0..1 + random(4) {
                let from = if round % 2 == 0 { 0 } else { changed.len() / 2 };
                let at = from + random(changed.len() - from);
                changed[at] = u8::try_from(random(256)).unwrap();
            }
            if round % 5 == 4 {
                changed.truncate(changed.len() - random(changed.len() / 2));
            }
            let instance = Instance::from_bytes(&changed, &dataset::Limits::default());
            match instance.map(|instance| describe(&instance, 0, &limits)) {
                Ok(Ok(_)) => read += 1,
                _ => refused += 1,
            }
        }
    }
    println!("{read} read, {refused} refused, peak memory {:?} KiB", peak_memory());
    assert!(peak_memory().is_none_or(|peak| peak < 1 << 20));
}

/// How often each file is changed: more for a long run, by PIXEL_TEST_ROUNDS.
fn rounds(normal: u64) -> u64 {
    std::env::var("PIXEL_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(normal)
}

/// Not a check: says how long a radiograph takes.
#[test]
fn timings() {
    let Some(set) = set() else { return };
    // JPEG 2000, HTJ2K, lossless JPEG, JPEG 8 and 12 bits and colour, JPEG-LS, RLE, JPEG XL, native 16 and 8 bits.
    for name in [
        "cr/966_fixed.dcm",
        "cr/RG1_J2KI.dcm",
        "cxr_hannover/04a33bab_6b5af975_16_htj2k.dcm",
        "mg/GH133.dcm",
        "lut/CR-ModalitySequenceLUT.dcm",
        "op/sample-op.dcm",
        "codec/ct_jpeg_baseline.dcm",
        "codec/ct_jpeg_extended12.dcm",
        "colour/TestPattern_JPEG-Baseline_YBR422.dcm",
        "codec/ct_jls_lossless.dcm",
        "cxr_hannover/0664ee2b_d2af569b_12_jls.dcm",
        "codec/ct_rle.dcm",
        "us/OBXXXX1A_rle_2frame.dcm",
        "codec/mr_jxl_lossless16.dcm",
        "codec/ct_explicit_le.dcm",
        "cxr_hannover/024e7871_fff13f3a_12_voilut.dcm",
        "us/us_burned_in_grey.dcm",
    ] {
        let instance = open(&set, name).unwrap();
        let best = |what: &dyn Fn()| {
            let once = || {
                let started = std::time::Instant::now();
                what();
                started.elapsed()
            };
            (0..3).map(|_| once()).min().unwrap_or_default()
        };
        let limits = Limits::default();
        let decoded = decode(&instance, 0, &limits).unwrap();
        let shown = picture(&instance, 0, decoded.clone(), &RenderOptions::default()).unwrap();
        let decoding = best(&|| drop(decode(&instance, 0, &limits)));
        let copying = best(&|| drop(decoded.clone()));
        let rendering = best(&|| drop(picture(&instance, 0, decoded.clone(), &RenderOptions::default())));
        let writing = best(&|| drop(png(&shown)));
        println!(
            "{name} {:?}: decode {decoding:?}, render {:?}, PNG {writing:?}",
            decoded.samples.shape(),
            rendering.saturating_sub(copying),
        );
    }
}
