//! How fast pixels are decoded, beside other decoders on the same files.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use e2e::{peers, place};

use crate::{
    Options,
    command::said,
    document,
    figures::{float, median},
    machine, table,
};

/// Slices of the series that goes from files to tensors, native and compressed.
const SLICES: usize = 300;
const COMPRESSED_SLICES: usize = 60;
const MOST_SECONDS_FOR_SLICES: f64 = 1.5;

/// A program that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decoder {
    /// This crate, in a process of its own that times itself.
    Preread,
    /// pydicom with one of its plugins, which times itself likewise; its name in the tables.
    Pydicom(&'static str, &'static str),
    /// A command-line tool, by what more frames take it: its name, Debian's package, and what stands before the two files.
    Tool(&'static str, &'static str, &'static [&'static str]),
}

impl Decoder {
    fn name(self) -> &'static str {
        match self {
            Self::Preread => "preread",
            Self::Pydicom(_, name) => name,
            Self::Tool(name, ..) => name,
        }
    }
}

const LIBJPEG: Decoder = Decoder::Pydicom("pylibjpeg", "pylibjpeg-libjpeg");
const OPENJPEG: Decoder = Decoder::Pydicom("pylibjpeg", "OpenJPEG");
const GDCM: Decoder = Decoder::Pydicom("gdcm", "GDCM");
const GDCMCONV: Decoder = Decoder::Tool("gdcmconv", "libgdcm-tools", &["--raw"]);
const DCMJ2PNM: Decoder = Decoder::Tool("dcmj2pnm", "dcmtk", &["--all-frames"]);
const DCMDJPEG: Decoder = Decoder::Tool("dcmdjpeg", "dcmtk", &[]);
const DCMDJPLS: Decoder = Decoder::Tool("dcmdjpls", "dcmtk", &[]);
const DCMDRLE: Decoder = Decoder::Tool("dcmdrle", "dcmtk", &[]);

/// A kind of compression, a file of it, and who else decodes it. `wanted`: how many times as fast as the fastest of them.
struct Case {
    codec: &'static str,
    file: &'static str,
    others: &'static [Decoder],
    wanted: f64,
}

const CASES: [Case; 12] = [
    Case {
        codec: "native, 16 bits",
        file: "codec/ct_explicit_le.dcm",
        others: &[Decoder::Pydicom("", "pydicom")],
        wanted: 1.0,
    },
    Case {
        codec: "RLE",
        file: "codec/ct_rle.dcm",
        others: &[Decoder::Pydicom("pylibjpeg", "pylibjpeg-rle"), GDCMCONV, DCMDRLE],
        wanted: 1.0,
    },
    Case {
        codec: "JPEG-LS, CT",
        file: "codec/ct_jls_lossless.dcm",
        others: &[Decoder::Pydicom("pyjpegls", "pyjpegls"), GDCM, GDCMCONV, DCMDJPLS],
        wanted: 1.0,
    },
    Case {
        codec: "JPEG-LS, radiograph",
        file: "cxr_hannover/0664ee2b_d2af569b_12_jls.dcm",
        others: &[Decoder::Pydicom("pyjpegls", "pyjpegls"), GDCM, GDCMCONV, DCMDJPLS],
        wanted: 1.0,
    },
    Case {
        codec: "JPEG baseline, grey",
        file: "codec/ct_jpeg_baseline.dcm",
        others: &[LIBJPEG, GDCM, GDCMCONV, DCMDJPEG, DCMJ2PNM],
        wanted: 1.0,
    },
    Case {
        codec: "JPEG baseline, colour",
        file: "us/examples_ybr_color.dcm",
        others: &[LIBJPEG, GDCM, GDCMCONV, DCMDJPEG, DCMJ2PNM],
        wanted: 1.0,
    },
    Case {
        codec: "JPEG extended, 12 bits",
        file: "codec/ct_jpeg_extended12.dcm",
        others: &[LIBJPEG, DCMDJPEG],
        wanted: 1.0,
    },
    Case {
        codec: "JPEG lossless, CT",
        file: "codec/ct_jpeg_lossless_sv1.dcm",
        others: &[LIBJPEG, GDCM, GDCMCONV, DCMDJPEG, DCMJ2PNM],
        wanted: 1.0,
    },
    Case {
        codec: "JPEG lossless, mammogram",
        file: "mg/GH133.dcm",
        // gdcmconv ends on an assertion about the modality of this one.
        others: &[LIBJPEG, GDCM, DCMDJPEG, DCMJ2PNM],
        wanted: 1.0,
    },
    Case { codec: "JPEG 2000 lossless, CT", file: "codec/ct_j2k_lossless.dcm", others: &[OPENJPEG], wanted: 0.8 },
    Case { codec: "JPEG 2000 lossless, radiograph", file: "cr/966_fixed.dcm", others: &[OPENJPEG], wanted: 0.8 },
    Case {
        codec: "HTJ2K, radiograph",
        file: "cxr_hannover/04a33bab_6b5af975_16_htj2k.dcm",
        others: &[OPENJPEG],
        wanted: 0.8,
    },
];

/// Measures, prints, and writes the table if asked to.
///
/// # Errors
/// When something cannot be measured, or a figure misses what it is held to.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Some(shared) = place::shared() else {
        bail!("the files that are measured are in a folder beside the checkout")
    };
    let folder = tempfile::tempdir_in(place::root().join("target"))?;
    let begin = Instant::now();
    let mut report = preface(options, folder.path())?;
    let mut rows = Vec::new();
    let mut missed = Vec::new();
    for case in &CASES {
        let measured = measure(case, &shared.join("dicom"), folder.path(), options.rounds)?;
        let (ours, others) = measured.split_first().context("nothing was measured")?;
        let fastest = others.iter().map(|(_, time)| *time).fold(f64::INFINITY, f64::min);
        let times = fastest / ours.1;
        if times < case.wanted {
            missed.push(format!("{}: {times:.2} times the fastest other, wanted {}", case.codec, case.wanted));
        }
        let bytes = frame_bytes(&shared.join("dicom").join(case.file))?;
        for (index, (decoder, time)) in measured.iter().enumerate() {
            rows.push(vec![
                if index == 0 { case.codec.to_owned() } else { String::new() },
                decoder.name().to_owned(),
                table::number(*time),
                table::number(float(bytes) / 1000.0 / time),
                if index == 0 {
                    format!("{} (wanted {:.1})", table::number(times), case.wanted)
                } else {
                    String::new()
                },
            ]);
        }
        eprintln!("{}: {}", case.codec, table::number(times));
    }
    let head = ["codec", "decoder", "ms per frame", "MB/s", "times the fastest other"];
    let _ = writeln!(report, "## One frame on one thread\n\n{}", table::render(&head, &rows));
    report += &series(&shared.join("dicom"), folder.path(), options.rounds, &mut missed)?;
    let _ = writeln!(report, "## Missed\n");
    for line in &missed {
        let _ = writeln!(report, "- {line}");
    }
    if missed.is_empty() {
        report += "Nothing.\n";
    }
    println!("{report}\n{:.0} s; load average at the end {}", begin.elapsed().as_secs_f64(), machine::load_average()?);
    if options.write {
        document::write(&report)?;
    }
    ensure!(missed.is_empty(), "{} figures miss what they are held to", missed.len());
    Ok(())
}

/// Every decoder of a case with its median, ours first. In each round all have their turn.
fn measure(case: &Case, set: &Path, folder: &Path, rounds: usize) -> Result<Vec<(Decoder, f64)>> {
    let file = set.join(case.file);
    let decoders: Vec<Decoder> = [Decoder::Preread].into_iter().chain(case.others.iter().copied()).collect();
    let mut times = vec![Vec::new(); decoders.len()];
    for round in 0..rounds {
        for place in 0..decoders.len() {
            // Nobody is always the first, or always after the same one.
            let place = (place + round) % decoders.len();
            let time = once(decoders[place], &file, folder);
            times[place].push(time.with_context(|| format!("{} of {}", decoders[place].name(), case.file))?);
        }
    }
    Ok(decoders.into_iter().zip(times.into_iter().map(|times| median(times.into_iter()))).collect())
}

/// How many frames one turn decodes: 12 MB of them, so that a turn of the slowest takes some seconds, and what more frames
/// take a tool is more than what its start varies by.
fn repeats(file: &Path) -> Result<usize> {
    Ok(usize::try_from(12_000_000 / frame_bytes(file)?.max(1))?.clamp(3, 100))
}

fn once(decoder: Decoder, file: &Path, folder: &Path) -> Result<f64> {
    let repeats = repeats(file)?;
    match decoder {
        Decoder::Preread => number(Command::new(decoding()).arg("frames").arg(file).arg(repeats.to_string())),
        Decoder::Pydicom(plugin, _) => number(python()?.arg("frames").arg(file).arg(repeats.to_string()).arg(plugin)),
        Decoder::Tool(name, package, options) => {
            let tool = peers::program(name, package)?;
            // What more frames take: neither the start of the process nor the reading of the header counts.
            let of = |count: usize| -> Result<f64> {
                let stem = file.file_stem().unwrap_or_default().to_string_lossy();
                let (many, out) = (folder.join(format!("{stem}-{count}.dcm")), folder.join("out.dcm"));
                if !many.exists() {
                    run_quietly(python()?.arg("repeat").arg(file).arg(count.to_string()).arg(&many))?;
                }
                let begin = Instant::now();
                run_quietly(Command::new(&tool).args(options).arg(&many).arg(&out))?;
                Ok(begin.elapsed().as_secs_f64() * 1000.0)
            };
            let (few, many) = (2, 2 + repeats);
            Ok((of(many)? - of(few)?) / float(repeats as u64))
        }
    }
}

fn decoding() -> PathBuf {
    place::root().join("target/debug/examples/decoding")
}

fn python() -> Result<Command> {
    let program = place::root().join("target/peers/pixels/bin/python");
    ensure!(program.is_file(), "the other decoders are not installed: start this by `cargo xtask bench pixels`");
    let mut python = Command::new(program);
    python.arg(place::root().join("tests/peers/decode.py"));
    // One thread each.
    python.env("OMP_NUM_THREADS", "1").env("OPENBLAS_NUM_THREADS", "1");
    Ok(python)
}

fn number(command: &mut Command) -> Result<f64> {
    let said = said(command)?;
    said.parse().with_context(|| format!("not a number: {said}"))
}

fn run_quietly(command: &mut Command) -> Result<()> {
    said(command).map(|_| ())
}

/// Bytes of a decoded frame.
fn frame_bytes(file: &Path) -> Result<u64> {
    let said = said(Command::new(decoding()).arg("bytes").arg(file))?;
    said.parse().with_context(|| format!("not a number: {said}"))
}

/// From 300 files of CT to arrays for a model, on one thread and on all cores.
fn series(set: &Path, folder: &Path, rounds: usize, missed: &mut Vec<String>) -> Result<String> {
    let cores = std::thread::available_parallelism()?.get();
    let mut rows = Vec::new();
    for (what, source, slices) in
        [("native", "codec/ct_explicit_le.dcm", SLICES), ("JPEG 2000", "codec/ct_j2k_lossless.dcm", COMPRESSED_SLICES)]
    {
        let files = copies(&set.join(source), &folder.join(what), slices)?;
        let ours =
            |threads: usize| number(Command::new(decoding()).args(["tensors", &threads.to_string()]).args(&files));
        let theirs = || number(python()?.args(["tensors", &cores.to_string()]).args(&files));
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..rounds {
            times[0].push(ours(1)?);
            times[1].push(ours(cores)?);
            times[2].push(theirs()?);
        }
        let [one, all, others] = times.map(|times| median(times.into_iter()));
        for (name, time) in [
            ("preread, 1 thread".to_owned(), one),
            (format!("preread, {cores} threads"), all),
            (format!("pydicom, {cores} processes"), others),
        ] {
            let per_second = table::number(float(slices as u64) / time);
            rows.push(vec![format!("{slices} x {what}"), name, table::number(time), per_second]);
        }
        if what == "native" && all > MOST_SECONDS_FOR_SLICES {
            missed.push(format!("{slices} CT slices take {all:.2} s, wanted {MOST_SECONDS_FOR_SLICES} s at most"));
        }
        if all > others {
            missed.push(format!("{slices} CT slices of {what} take {all:.2} s, the others' {others:.2} s"));
        }
    }
    let head = ["CT slices", "by", "s", "slices/s"];
    Ok(format!("## From files to tensors, {cores} cores\n\n{}\n", table::render(&head, &rows)))
}

fn copies(file: &Path, folder: &Path, count: usize) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    (0..count)
        .map(|number| {
            let copy = folder.join(format!("{number:03}.dcm"));
            fs::copy(file, &copy)?;
            Ok(copy)
        })
        .collect()
}

/// What is measured, how, and on what.
fn preface(options: &Options, folder: &Path) -> Result<String> {
    let mut text = String::from("# Benchmarks: pixels\n\n");
    let _ = writeln!(
        text,
        "Made by `cargo xtask bench pixels --rounds {} --write` on {}, {}. Load average at the start: {}.\n",
        options.rounds,
        machine::date()?,
        machine::words(folder)?,
        machine::load_average()?
    );
    let _ = writeln!(text, "The others: {}; {}.\n", said(python()?.arg("versions"))?, dcmtk_version()?);
    text += METHOD;
    Ok(text)
}

fn dcmtk_version() -> Result<String> {
    let said = said(Command::new(peers::program("dcmdjpeg", "dcmtk")?).arg("--version"))?;
    let version = said.split_whitespace().find(|word| word.starts_with('v')).unwrap_or_default();
    Ok(format!("DCMTK {}", version.trim_start_matches('v')))
}

const METHOD: &str = "\
Every figure is the median of the rounds; in each round every decoder has its turn. preread and pydicom decode the same
frame again and again in one process on one thread and time each time; the median of a turn is its figure, so that neither
the start of a process nor the reading of the file is in it. What counts for both is from the codestream to an array of
values, colour as stored for pydicom, as RGB for preread. A tool of DCMTK or GDCM is given the frame 2 times and then so many
times more in one file; the difference through the number of frames is its figure, and writing the decoded file is in it;
dcmj2pnm writes a picture for each frame, through a window. GDCM is the library behind `gdcmconv`, called by pydicom. The tensors are three channels of normalized floats at the image's own
size, after modality transformation and a window; pydicom's processes are there before the clock starts.

";
