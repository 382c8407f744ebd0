//! How many planted faults the checks find, and how often they object to right reports.

mod faults;
mod reports;

use std::{collections::BTreeMap, fmt::Write, fs};

use anyhow::{Context, Result, ensure};
use e2e::{daemon, random::Random};
use serde_json::{Value, json};

use crate::{document, figures::float, table};

/// Right reports.
const RIGHT: u64 = 300;
/// Faults of each kind, at the most; of a kind that few reports have a place for, at least [`LEAST`].
const EACH: usize = 30;
const LEAST: usize = 20;
const LEAST_RECALL: f64 = 95.0;
const MOST_FALSE: f64 = 2.0;

/// Plants faults, has `preread report check` look at everything, and counts.
///
/// # Errors
/// When preread cannot be run, or a figure misses what it is held to.
pub(crate) fn run(write: bool) -> Result<()> {
    let right: Vec<reports::Report> = (0..RIGHT).map(reports::right).collect();
    let mut drafts: Vec<(Option<usize>, Value)> =
        right.iter().map(|report| (None, json!({ "text": report.text(), "study": report.study }))).collect();
    for (number, (kind, _)) in faults::KINDS.iter().enumerate() {
        let mut random = Random::seeded(0x6661_756c_7400 + number as u64);
        let planted = right
            .iter()
            .cycle()
            .skip(number * 11)
            .take(right.len() * 3)
            .filter_map(|report| faults::plant(kind, report, &mut random));
        let planted: Vec<_> = planted.take(EACH).collect();
        ensure!(planted.len() >= LEAST, "only {} reports have a place for a fault of kind {kind}", planted.len());
        drafts.extend(planted.into_iter().map(|it| (Some(number), json!({ "text": it.text, "study": it.study }))));
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("drafts.jsonl");
    let lines: Vec<String> = drafts.iter().map(|(_, draft)| draft.to_string()).collect();
    fs::write(&path, lines.join("\n"))?;
    let output = daemon::command(&["report", "check", &path.to_string_lossy(), "--json"])?;
    let checked: Vec<Value> = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("preread report check: {}", String::from_utf8_lossy(&output.stderr)))?;
    ensure!(checked.len() == drafts.len(), "{} drafts, {} answers", drafts.len(), checked.len());

    let mut outcome = Outcome::default();
    for ((kind, draft), answer) in drafts.iter().zip(&checked) {
        outcome.count(*kind, draft, answer);
    }
    let text = outcome.table();
    println!("{text}");
    if write {
        let preface = "# Benchmarks: checks\n\nMade by `cargo xtask bench checks --write`. ";
        document::write(&format!("{preface}{METHOD}{text}"))?;
    }
    ensure!(outcome.recall() >= LEAST_RECALL, "recall of {:.1} %", outcome.recall());
    ensure!(outcome.false_share() <= MOST_FALSE, "{:.1} % of the right reports are objected to", outcome.false_share());
    Ok(())
}

const METHOD: &str = "\
300 right reports of phantom studies (chest radiographs, chest CT, brain MR, abdominal ultrasound, mammograms, knees) are put
together by a seed out of sentences in four layouts, with the facts of their studies; then faults of each kind are planted,
one in a report. `preread report check` gets texts and facts. A fault counts as found when an objection of its kind is among the
objections, or of a kind that means the same. A right report counts as objected to when it has any objection but that a
sentence was not interpreted, which is shown beside it.

The reports and the tables of the checks are by the same authors, and the tables were completed with these sentences in view:
the figures say that the checks do what they are meant to, not how often models err or how radiologists write.

";

#[derive(Default)]
struct Outcome {
    /// By kind: planted, found.
    kinds: BTreeMap<usize, (usize, usize)>,
    right: usize,
    objected: usize,
    uninterpreted: usize,
    examples: Vec<String>,
}

impl Outcome {
    fn count(&mut self, kind: Option<usize>, draft: &Value, answer: &Value) {
        let objections = answer["objections"].as_array().map(Vec::as_slice).unwrap_or_default();
        let has = |name: &str| objections.iter().any(|it| it["kind"] == name);
        let Some(kind) = kind else {
            self.right += 1;
            self.uninterpreted += usize::from(has("unrecognised"));
            let against: Vec<String> = objections
                .iter()
                .map(|it| format!("{}: {} {}", it["kind"], it["explanation"], it["sentence"]))
                .collect();
            if objections.iter().any(|it| it["kind"] != "unrecognised") {
                self.objected += 1;
                self.examples.push(format!("objected to a right report: {}", against.join("; ")));
            }
            return;
        };
        let (name, same) = faults::KINDS[kind];
        let found = has(name) || same.iter().any(|name| has(name));
        let (planted, hits) = self.kinds.entry(kind).or_default();
        *planted += 1;
        *hits += usize::from(found);
        if !found {
            self.examples.push(format!("missed {name}: {}", draft["text"]));
        }
    }

    fn recall(&self) -> f64 {
        let (planted, found) = self.kinds.values().fold((0, 0), |(a, b), (planted, found)| (a + planted, b + found));
        percent(found, planted)
    }

    fn false_share(&self) -> f64 {
        percent(self.objected, self.right)
    }

    fn table(&self) -> String {
        let row = |name: &str, planted: usize, found: usize| {
            vec![name.to_owned(), planted.to_string(), found.to_string(), format!("{:.1} %", percent(found, planted))]
        };
        let mut rows: Vec<Vec<String>> =
            self.kinds.iter().map(|(kind, (planted, found))| row(faults::KINDS[*kind].0, *planted, *found)).collect();
        let (planted, found) = self.kinds.values().fold((0, 0), |(a, b), (planted, found)| (a + planted, b + found));
        rows.push(row("all", planted, found));
        let mut text = table::render(&["fault", "planted", "found", "recall"], &rows);
        let _ = writeln!(
            text,
            "\nRecall {:.1} % (wanted: at least {LEAST_RECALL} %). Of {} right reports {} are objected to: {:.1} % (wanted: at most {MOST_FALSE} %); \
             {} have a sentence that was not interpreted.",
            self.recall(),
            self.right,
            self.objected,
            self.false_share(),
            self.uninterpreted
        );
        for example in
            self.examples.iter().take(std::env::var("BENCH_EXAMPLES").ok().and_then(|it| it.parse().ok()).unwrap_or(0))
        {
            eprintln!("{example}");
        }
        text
    }
}

fn percent(part: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { 100.0 * float(part as u64) / float(of as u64) }
}
