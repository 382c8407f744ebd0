//! Every document of one reading, from an image and a text that a model might have written: how long they take, beside a
//! bare run of dciodvfy, and with `--out` the files.
//!
//!     documents IMAGE.dcm [--rounds N] [--out FOLDER] [--markdown]
//!
//! Nothing but `report` is timed: the picture is a plain one, the attention a spot in the upper left.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use dataset::{Instance, Limits, tags};
use report::{
    CodedFindings, Completion, ContentTime, Document, EvidenceItem, ModelText, Provenance, Region, Shape, Source,
    TokenEvidence, heatmap, key_objects, pdf, presentation, sr,
};

const TEXT: &str = "Large nodule in the left upper zone. Small right pleural effusion. No pneumothorax.";

/// A grid of attention with one spot, as large as the demonstration model's.
const GRID: usize = 16;
const SPOT: (usize, usize) = (4, 11);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("documents: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let after = |name: &str| arguments.iter().position(|it| it == name).and_then(|at| arguments.get(at + 1));
    let image = arguments.first().filter(|it| !it.starts_with("--")).ok_or("which image? documents IMAGE.dcm")?;
    let rounds: usize = after("--rounds").map_or(Ok(1), |count| count.parse())?;
    let out = after("--out").map(PathBuf::from);
    let instance = Instance::open(Path::new(image), &Limits::default())?;
    let number = |tag| instance.element(tag).and_then(|it| it.to_int::<u32>().ok()).unwrap_or(512);
    let (columns, rows) = (number(tags::COLUMNS), number(tags::ROWS));
    let pixels: Vec<u8> = (0..columns as usize * rows as usize).map(|at| u8::try_from(at % 200).unwrap_or(0)).collect();

    let mut times = Vec::new();
    let mut made = Vec::new();
    for _ in 0..rounds.max(1) {
        let start = Instant::now();
        made = documents(&instance, (columns, rows), &pixels)?;
        let violations = report::validate_all(made.iter().map(|(_, document)| document));
        times.push(start.elapsed());
        if report::must_hold(&violations) {
            return Err(format!("the documents do not pass: {violations:#?}").into());
        }
    }
    let folder = out.clone().unwrap_or_else(env::temp_dir);
    fs::create_dir_all(&folder)?;
    let text = folder.join(format!("documents-{}.dcm", std::process::id()));
    fs::write(&text, &made[0].1.file)?;
    let judged: Vec<Duration> = (0..rounds.max(1)).filter_map(|_| dciodvfy(&text)).collect();
    fs::remove_file(&text)?;
    if let Some(out) = &out {
        for (name, document) in &made {
            fs::write(out.join(format!("{name}.dcm")), &document.file)?;
            println!("{name} {} {} {}", document.series_instance_uid, document.sop_class_uid, document.file.len());
        }
    }
    if rounds > 1 {
        print_table((columns, rows), &mut times, judged);
    }
    Ok(())
}

/// What a destination that asks for text, measurements, PDF and heat map gets, and key objects and a presentation state.
fn documents(
    instance: &Instance,
    (columns, rows): (u32, u32),
    pixels: &[u8],
) -> Result<Vec<(&'static str, Document)>, report::Error> {
    let header = &instance.header;
    let image = EvidenceItem {
        series_instance_uid: header.series_instance_uid.clone(),
        sop_class_uid: header.sop_class_uid.clone(),
        sop_instance_uid: header.sop_instance_uid.clone(),
        digest: "00".repeat(32),
    };
    let source = Source { representative: instance, evidence: vec![image.clone()], predecessors: Vec::new() };
    let provenance = provenance()?;
    let mut attention = vec![0.0; GRID * GRID];
    attention[SPOT.0 * GRID + SPOT.1] = 1.0;
    let nodule = TEXT.find('.').unwrap_or(0) + 1;
    let token = TokenEvidence { range: 0..nodule, logprob: -0.2, attention: Some(attention) };
    let draft = report::parse(&ModelText { text: TEXT, tokens: vec![token], grid: Some((GRID, GRID)) });
    let findings = CodedFindings::of(&draft, |grid| {
        let corners = heatmap::outline(grid, (columns as f32, rows as f32))?;
        Some(Region::new(&image, None, Shape::Polygon(corners)))
    });

    let picture = heatmap::Picture::Grey { width: columns as usize, height: rows as usize, pixels };
    let maps = draft.positive().filter_map(|it| it.attention.as_ref().map(|grid| (grid, it.text.as_str())));
    let maps: Vec<_> = maps.map(|(grid, label)| heatmap::FindingMap { grid, area: None, label }).collect();
    let drawn = heatmap::draw(&picture, &maps)?;
    let heat_map = heatmap::secondary_capture(&drawn, None, &source, &provenance)?;
    let options = sr::MeasurementOptions { heat_map: Some(&heat_map), ..Default::default() };
    let figure = pdf::Figure { picture: &drawn, caption: "What the model attended to." };
    let sections = pdf::sections(&draft, &provenance, 1);
    let regions = findings.localized.iter().map(|finding| &finding.region);
    let mut made = vec![("text-sr", sr::text_report(&draft, &source, &provenance, &sr::Options::default())?)];
    made.extend(sr::measurement_report(&findings, &source, &provenance, &options)?.map(|it| ("measurements-sr", it)));
    let results = sr::results_report(&findings, &source, &provenance, &Completion::Complete)?;
    made.extend(results.map(|it| ("ai-results-sr", it)));
    made.push(("pdf", pdf::report(&sections, &[figure], &source, &provenance)?));
    made.push(("key-objects", key_objects::key_objects(regions, Some(&heat_map), &source, &provenance)?));
    let presentation = presentation::presentation_state(&findings.localized, &[instance], &source, &provenance)?;
    made.extend(presentation.map(|it| ("presentation-state", it)));
    made.push(("heatmap", heat_map));
    Ok(made)
}

fn provenance() -> Result<Provenance, report::Error> {
    let content_time: ContentTime = "20260801101500".parse()?;
    Ok(Provenance {
        model_name: "example".to_owned(),
        model_version: "1.0".to_owned(),
        model_digest: format!("sha256:{}", "4a".repeat(32)),
        notice: Some("Demonstration. Not for clinical use.".to_owned()),
        prompt_id: "none".to_owned(),
        settings: "greedy".to_owned(),
        settings_digest: None,
        rule: "example".to_owned(),
        version: 1,
        device_uid: dataset::Uid::derive(&[b"example device"]),
        device_serial: "1".to_owned(),
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        udi: None,
        content_time,
    })
}

/// How long dciodvfy takes for one file; nothing where it is not installed.
fn dciodvfy(file: &Path) -> Option<Duration> {
    let start = Instant::now();
    Command::new("dciodvfy").arg("-new").arg(file).output().ok()?;
    Some(start.elapsed())
}

fn print_table((columns, rows): (u32, u32), times: &mut [Duration], mut judged: Vec<Duration>) {
    times.sort();
    judged.sort();
    let figures = |sorted: &[Duration]| match sorted {
        [] => "not installed |  | ".to_owned(),
        sorted => {
            let milliseconds = |at: usize| sorted[at].as_secs_f64() * 1000.0;
            let last = sorted.len() - 1;
            format!("{:.1} | {:.1} | {:.1}", milliseconds(last / 2), milliseconds(0), milliseconds(last))
        }
    };
    println!("| a radiograph of {columns} x {rows}, {} rounds | median ms | least | most |", times.len());
    println!("| --- | ---: | ---: | ---: |");
    println!("| `report`: seven documents, checked | {} |", figures(times));
    println!("| a bare run of `dciodvfy` on the text report | {} |", figures(&judged));
}
