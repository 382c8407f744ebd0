//! Files that ask for more memory than they are worth, read by the shipped program: each ends in bounded memory, with a
//! result or with an error that says so.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use dicom_core::{DataElement, PrimitiveValue, VR, value::PixelFragmentSequence};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use e2e::{
    instance::{Study, encode},
    place,
};

const MOST_MEBIBYTES: u64 = 256;

/// Runs a program and says on standard output how it ended and the most memory that it had, in KiB, as its parent learns
/// it from the kernel (`getrusage(2)`): nothing is missed between two looks.
const MEASURE: &str = "
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.stderr.buffer.write(done.stderr)
";

/// Reads a file with `preread pixels`: whether it succeeded, and what it said if not. An error when it ended in another
/// way, or had too much memory.
fn read(file: &Path) -> Result<(bool, String)> {
    let (status, said) = measured(file, |preread| preread.arg("pixels").arg(file).arg("--json"))?;
    ensure!(matches!(status.as_str(), "0" | "1"), "ended with {status}: {said}");
    ensure!(status == "0" || said.len() > 20, "no reason is given: {said}");
    Ok((status == "0", said))
}

/// The exit code of a command on a file, and what it said. An error when it had too much memory.
fn measured(file: &Path, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<(String, String)> {
    let mut python = Command::new("python3");
    arguments(python.args(["-c", MEASURE]).arg(place::preread()?)).current_dir(place::root()).stdin(Stdio::null());
    let output = python.output().context("cannot start python3")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let (status, kibibytes) = line.trim().split_once(' ').with_context(|| format!("not measured: {said}"))?;
    let mebibytes = kibibytes.parse::<u64>()? >> 10;
    eprintln!("{}: {status}, {mebibytes} MiB {}", file.display(), said.trim());
    ensure!(mebibytes < MOST_MEBIBYTES, "{mebibytes} MiB");
    Ok((status.to_owned(), said))
}

#[test]
fn a_file_of_which_the_header_says_that_it_is_too_large_is_not_in_memory() -> Result<()> {
    const SIDE: u16 = 32_000;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("large.dcm");
    let mut object = Study::seeded(91).image(1)?.header()?;
    for tag in [tags::ROWS, tags::COLUMNS] {
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(SIDE)));
    }
    object.remove_element(tags::PIXEL_DATA);
    let bytes = encode(object, uids::EXPLICIT_VR_LITTLE_ENDIAN)?.to_part10()?;
    let pixels = u32::from(SIDE) * u32::from(SIDE);
    fs::write(&file, [&bytes, &b"\xe0\x7f\x10\x00OB\x00\x00"[..], &pixels.to_le_bytes()].concat())?;
    // Zeros that take no room on the disk.
    let large = fs::OpenOptions::new().write(true).open(&file)?;
    large.set_len(large.metadata()?.len() + u64::from(pixels))?;
    let out = dir.path().join("out");
    let (status, said) = measured(&file, |preread| preread.arg("read").arg(&file).arg("--out").arg(&out))?;
    ensure!(status == "3" && said.contains("pixels per frame is more than the limit"), "{status}: {said}");
    Ok(())
}

#[test]
fn malformed_files_are_read_in_bounded_memory() -> Result<()> {
    let Some(shared) = place::shared() else { return Ok(()) };
    for file in place::dicom_files(&shared.join("dicom/malformed"))? {
        let (read, _) = read(&file).with_context(|| file.display().to_string())?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let due = due(&shared, &name)?;
        ensure!(due.is_none_or(|due| due == read), "{name}: read is {read}, and its row says otherwise");
    }
    Ok(())
}

/// What the index says is due of a malformed file: to be read, to be refused, or either.
fn due(shared: &Path, name: &str) -> Result<Option<bool>> {
    let index = fs::read_to_string(shared.join("dicom/index.tsv"))?;
    let row = index.lines().find(|row| row.starts_with(&format!("malformed/{name}\t")));
    let expectation = row.with_context(|| format!("{name} has no row"))?.split("expect: ").nth(1).unwrap_or_default();
    let expectation = expectation.split('\t').next().unwrap_or_default();
    Ok(match expectation.trim() {
        "reject" | "reject, bounded memory" if !NOT_BY_PIXELS.contains(&name) => Some(false),
        "accept" | "accept, escaped" => Some(true),
        _ => None,
    })
}

/// What the receiver refuses, because the pixels are not what is wrong.
const NOT_BY_PIXELS: [&str; 3] = ["m_missing_uids.dcm", "m_uid_path_traversal.dcm", "m_length_4gb.dcm"];

/// What a codestream claims, and with it the header.
#[derive(Clone, Copy)]
struct Claim {
    side: u16,
    samples: u16,
    bits: u16,
}

/// An image of few bytes that claims to be a large one.
fn write(file: &Path, syntax: &str, claim: Claim, codestream: Vec<u8>) -> Result<()> {
    let mut object = InMemDicomObject::new_empty();
    let text = |object: &mut InMemDicomObject, tag, vr, value: &str| {
        object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
    };
    text(&mut object, tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.7");
    text(&mut object, tags::SOP_INSTANCE_UID, VR::UI, "2.25.1");
    let photometric = if claim.samples == 3 { "RGB" } else { "MONOCHROME2" };
    text(&mut object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric);
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, claim.samples),
        (tags::PLANAR_CONFIGURATION, 0),
        (tags::ROWS, claim.side),
        (tags::COLUMNS, claim.side),
        (tags::BITS_ALLOCATED, claim.bits),
        (tags::BITS_STORED, claim.bits),
        (tags::HIGH_BIT, claim.bits - 1),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }
    let fragments = PixelFragmentSequence::new_fragments(vec![codestream]);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, dicom_core::value::Value::PixelSequence(fragments)));
    object.with_meta(FileMetaTableBuilder::new().transfer_syntax(syntax))?.write_to_file(file)?;
    Ok(())
}

/// Segments of a JPEG or JPEG-LS codestream up to its first scan, and then `entropy`.
fn jpeg(marker: u8, claim: Claim, scan: [u8; 3], tables: &[u8], entropy: &[u8]) -> Vec<u8> {
    let [high, low] = claim.side.to_be_bytes();
    let components: Vec<u8> = (1..=3).take(claim.samples.into()).collect();
    let count = components.len().to_le_bytes()[0];
    let mut data =
        vec![0xff, 0xd8, 0xff, marker, 0, 8 + 3 * count, claim.bits.to_le_bytes()[0], high, low, high, low, count];
    data.extend(components.iter().flat_map(|component| [*component, 0x11, 0]));
    data.extend(tables);
    data.extend([0xff, 0xda, 0, 6 + 2 * count, count]);
    data.extend(components.iter().flat_map(|component| [*component, 0]));
    data.extend(scan);
    data.extend(entropy);
    data.extend([0xff, 0xd9]);
    data
}

/// JPEG 2000: SIZ, COD, QCD and a tile-part of empty packets.
fn jpeg_2000(claim: Claim, levels: u8) -> Vec<u8> {
    let side = u32::from(claim.side).to_be_bytes();
    let mut data = vec![0xff, 0x4f, 0xff, 0x51];
    data.extend((38 + 3 * claim.samples).to_be_bytes());
    data.extend([0, 0].iter().chain(&side).chain(&side).chain(&[0; 8]).chain(&side).chain(&side).chain(&[0; 8]));
    data.extend(claim.samples.to_be_bytes());
    (0..claim.samples).for_each(|_| data.extend([claim.bits.to_le_bytes()[0] - 1, 1, 1]));
    data.extend([0xff, 0x52, 0, 12, 0, 0, 0, 1, 0, levels, 4, 4, 0, 1]);
    data.extend([0xff, 0x5c, 0, 4 + 3 * levels, 0x40]);
    data.extend((0..=3 * levels).map(|_| 0x80));
    let body = vec![0; 4096];
    data.extend([0xff, 0x90, 0, 10, 0, 0]);
    data.extend(u32::try_from(14 + body.len()).unwrap_or_default().to_be_bytes());
    data.extend([0, 1, 0xff, 0x93]);
    data.extend(body);
    data.extend([0xff, 0xd9]);
    data
}

/// JPEG XL: a size of 18 bits, both sides alike, everything else as it is by default, and then nothing of meaning.
fn jpeg_xl(claim: Claim) -> Vec<u8> {
    let bits = 2u64 << 1 | u64::from(claim.side - 1) << 3 | 1 << 21 | 1 << 24;
    [&[0xff, 0x0a][..], &bits.to_le_bytes()[..4], &[0; 300]].concat()
}

/// RLE: every segment a run after run.
fn rle(claim: Claim, bytes: usize) -> Vec<u8> {
    let segments = u32::from(claim.samples * claim.bits / 8);
    let run = [0x81, 0].repeat(bytes / 2);
    let mut data = segments.to_le_bytes().to_vec();
    for segment in 0..segments {
        data.extend((64 + segment * u32::try_from(run.len()).unwrap_or_default()).to_le_bytes());
    }
    data.resize(64, 0);
    (0..segments).for_each(|_| data.extend(&run));
    data
}

/// Zeros without end, deflated.
fn deflated() -> Result<Vec<u8>> {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1 << 20])?;
    }
    Ok(encoder.finish()?)
}

/// Huffman tables whose only code of one bit is 0, for DC and for AC.
fn huffman() -> Vec<u8> {
    let table = |class: u8| [[class, 1].as_slice(), &[0; 16]].concat();
    [[0xff, 0xc4, 0, 38].as_slice(), &table(0x00), &table(0x10)].concat()
}

/// What `codestream` makes of a claim, for all claims, in a folder.
fn bombs(folder: &Path) -> Result<Vec<PathBuf>> {
    let quantization: Vec<u8> = [0xff, 0xdb, 0, 67, 0].into_iter().chain([1; 64]).collect();
    let huffman = huffman();
    let baseline = [quantization.as_slice(), &huffman].concat();
    // A byte of ones is followed by one of seven bits.
    let ones = [0xff, 0x7f].repeat(8192);
    let deflated = deflated()?;
    type Codestream<'a> = &'a dyn Fn(Claim) -> Vec<u8>;
    let codecs: [(&str, &str, u16, Codestream<'_>); 9] = [
        ("uncompressed", "1.2.840.10008.1.2.1.98", 16, &|_| vec![0; 4096]),
        ("deflate", "1.2.840.10008.1.2.8.1", 16, &|_| deflated.clone()),
        ("rle", "1.2.840.10008.1.2.5", 16, &|claim| rle(claim, 4096)),
        ("jpeg", "1.2.840.10008.1.2.4.50", 8, &|claim| jpeg(0xc0, claim, [0, 63, 0], &baseline, &[0; 4096])),
        ("jpeg-12", "1.2.840.10008.1.2.4.51", 12, &|claim| jpeg(0xc1, claim, [0, 63, 0], &baseline, &[0; 4096])),
        ("jpeg-lossless", "1.2.840.10008.1.2.4.70", 16, &|claim| jpeg(0xc3, claim, [1, 0, 0], &huffman, &[0; 4096])),
        ("jpeg-ls", "1.2.840.10008.1.2.4.80", 16, &|claim| jpeg(0xf7, claim, [0, 0, 0], &[], &ones)),
        ("jpeg-2000", "1.2.840.10008.1.2.4.90", 16, &|claim| jpeg_2000(claim, 5)),
        ("jpeg-xl", "1.2.840.10008.1.2.4.110", 8, &jpeg_xl),
    ];
    let mut files = Vec::new();
    for (name, syntax, bits, codestream) in codecs {
        for side in [65535, 8192, 5000, 3000] {
            for samples in [1, 3] {
                let claim = Claim { side, samples, bits };
                // JPEG of 12 bits is in cells of 16.
                let header = Claim { bits: bits.next_multiple_of(8), ..claim };
                let file = folder.join(format!("{name}-{side}-{samples}.dcm"));
                write(&file, syntax, header, codestream(claim))?;
                files.push(file);
            }
        }
    }
    Ok(files)
}

#[test]
fn small_files_that_claim_to_be_large_images_are_read_in_bounded_memory() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut read_at_all, mut refused) = (0, 0);
    for file in bombs(folder.path())? {
        let bytes = fs::metadata(&file)?.len();
        ensure!(bytes < 70_000, "{} has {bytes} bytes", file.display());
        match read(&file).with_context(|| file.display().to_string())? {
            (true, _) => read_at_all += 1,
            (false, _) => refused += 1,
        }
    }
    // An empty image is one; a larger one than it can be is none.
    ensure!(refused >= 36, "only {refused} of {} are refused", read_at_all + refused);
    Ok(())
}
