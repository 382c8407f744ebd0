//! How well sentences are understood that nobody wrote with the lexicon in sight.
//!
//! `tests/corpus/REGION.jsonl` has labelled sentences, `sweep-LANGUAGE.tsv` ways to deny, doubt, ask, date and recommend.
//! What is coded has to be right; how much is read is held to what was reached, so that it does not fall unseen.

use std::{collections::BTreeMap, fs, path::PathBuf};

use report::{Certainty, Concept, Language, ModelText, Presence, Side, Status, Structure, Understood, parse_in};
use serde::Deserialize;

#[derive(Deserialize)]
struct Line {
    language: String,
    heading: Option<String>,
    text: String,
    labels: Vec<Label>,
}

#[derive(Deserialize, Debug)]
struct Label {
    concept: String,
    presence: String,
    status: String,
    certainty: String,
    side: Option<String>,
}

fn corpus(name: &str) -> Vec<Line> {
    let text = fs::read_to_string(folder().join(name)).expect("a corpus");
    text.lines().map(|line| serde_json::from_str(line).expect("a labelled sentence")).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// What was counted over a region.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    sentences: usize,
    whole: usize,
    /// Labels of the images with a concept of the vocabulary, and those that were read.
    labels: usize,
    read: usize,
    /// Read as there and current, though denied, asked or past; among them in wholly understood sentences.
    turned: usize,
    turned_whole: usize,
    /// Findings that a draft codes, and those no label has.
    coded: usize,
    coded_wrong: usize,
    /// Hedged labels that were coded as certain.
    hedge_lost: usize,
    sides: usize,
    sides_wrong: usize,
}

fn side_of(label: &Label) -> Option<Side> {
    match label.side.as_deref() {
        Some("left") => Some(Side::Left),
        Some("right") => Some(Side::Right),
        Some("bilateral") => Some(Side::Bilateral),
        _ => None,
    }
}

fn count(lines: &[Line], mut wrong: impl FnMut(&str, &str)) -> Count {
    let mut count = Count::default();
    for line in lines {
        let language = Language::of_tag(&line.language).expect("a language");
        let heading = line.heading.as_ref().map(|heading| format!("{heading}:\n")).unwrap_or_default();
        let text = format!("{heading}{}", line.text);
        let draft = parse_in(&ModelText { text: &text, tokens: Vec::new(), grid: None }, language);
        let of_images = |label: &&Label| label.status == "current" && Concept::named(&label.concept).is_some();
        let is = |label: &Label, concept: Concept, presence: Presence| {
            label.concept == concept.id() && (label.presence == "present") == (presence == Presence::Present)
        };
        let statements: Vec<_> = draft.structure.statements().collect();
        count.sentences += draft.structure.sentences.len();
        count.whole += draft.structure.sentences.iter().filter(|it| it.understood == Understood::Whole).count();
        for label in line.labels.iter().filter(of_images) {
            count.labels += 1;
            let read =
                statements.iter().any(|(_, it)| it.status == Status::Current && is(label, it.concept, it.presence));
            count.read += usize::from(read);
            if !read {
                wrong("missed", &format!("{} {} | {text}", label.presence, label.concept));
            }
        }
        for (sentence, it) in &statements {
            let of_concept: Vec<&Label> = line.labels.iter().filter(|label| label.concept == it.concept.id()).collect();
            let asserts =
                it.presence == Presence::Present && it.status == Status::Current && it.certainty == Certainty::Certain;
            let only_denied = !of_concept.is_empty()
                && of_concept.iter().all(|label| label.presence == "absent" || label.status != "current");
            if asserts && only_denied {
                count.turned += 1;
                let whole = sentence.understood == Understood::Whole;
                count.turned_whole += usize::from(whole);
                wrong(if whole { "TURNED WHOLE" } else { "turned" }, &format!("{} | {text}", it.concept.id()));
            }
        }
        for finding in draft.findings.iter().filter(|it| it.concept.id() != "normal_appearance") {
            count.coded += 1;
            let same: Vec<&Label> =
                line.labels.iter().filter(|label| is(label, finding.concept, finding.presence)).collect();
            if same.is_empty() {
                count.coded_wrong += 1;
                wrong("coded wrong", &format!("{:?} {} | {text}", finding.presence, finding.concept.id()));
                continue;
            }
            let certain = finding.certainty == Certainty::Certain && finding.presence == Presence::Present;
            if certain && same.iter().all(|label| label.certainty != "certain") {
                count.hedge_lost += 1;
                wrong("hedge lost", &format!("{} | {text}", finding.concept.id()));
            }
            count.sides += 1;
            if !same.iter().any(|label| side_of(label) == finding.side) {
                count.sides_wrong += 1;
                wrong("side", &format!("{:?} {} | {text}", finding.side, finding.concept.id()));
            }
        }
    }
    count
}

/// The share in percent.
fn percent(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
}

#[test]
fn sentences_that_nobody_tuned_are_understood() {
    let show = std::env::var("CORPUS_SHOW").unwrap_or_default();
    // Of each region: the share in percent of what is to be read, the most that may be turned round, and be coded under another
    // name than the label's.
    let reached = [
        ("chest", 80.0, 8, 13),
        ("devices", 76.0, 13, 3),
        ("breast", 58.0, 6, 22),
        ("abdomen", 70.0, 5, 11),
        ("brain", 64.0, 9, 10),
        ("spine", 59.0, 6, 3),
        ("bones", 63.0, 9, 5),
        ("german", 34.0, 7, 3),
    ];
    let mut rows = String::new();
    let mut fallen = Vec::new();
    for (region, read, turned, wrong) in reached {
        let count = count(&corpus(&format!("{region}.jsonl")), |kind, what| {
            if show.split(',').any(|it| it == kind || it == region) {
                println!("{region} {kind}: {}", what.replace('\n', " / "));
            }
        });
        let holds = percent(count.read, count.labels) >= read && count.turned <= turned && count.coded_wrong <= wrong;
        // "Known multiple sclerosis" is history to its label.
        let whole = usize::from(matches!(region, "spine" | "german"));
        if !holds || count.turned_whole > whole || count.hedge_lost > 1 {
            fallen.push(region);
        }
        rows += &format!(
            "{region:9} sentences {:4} whole {:5.1} %  labels {:4} read {:5.1} %  turned {:3} (whole {})  coded {:4} wrong {:3} \
             hedge lost {}  sides wrong {} of {}\n",
            count.sentences,
            percent(count.whole, count.sentences),
            count.labels,
            percent(count.read, count.labels),
            count.turned,
            count.turned_whole,
            count.coded,
            count.coded_wrong,
            count.hedge_lost,
            count.sides_wrong,
            count.sides,
        );
    }
    println!("{rows}");
    assert!(fallen.is_empty(), "worse than it was: {fallen:?}\n{rows}");
}

/// Says each term in each way that is no certain presence today: the ways that are coded as one all the same, each with the
/// first term, and the share in percent of sentences that are read so.
fn sweep(language: &str, terms: &[(&str, Concept)]) -> (Vec<String>, f64) {
    let sweep = fs::read_to_string(folder().join(format!("sweep-{language}.tsv"))).expect("the sweep");
    let language = Language::of_tag(language).expect("a language");
    let show = std::env::var("CORPUS_SHOW").is_ok();
    let (mut said, mut read) = (0, 0);
    let mut coded: BTreeMap<&str, &str> = BTreeMap::new();
    for pattern in sweep.lines().filter_map(|line| Some(line.split_once('\t')?.1)) {
        let mut misread = false;
        for (term, concept) in terms {
            let text = pattern.replace("{X}", term);
            let draft = parse_in(&ModelText { text: &text, tokens: Vec::new(), grid: None }, language);
            said += 1;
            let certain = |presence, certainty| presence == Presence::Present && certainty == Certainty::Certain;
            let structure: &Structure = &draft.structure;
            let present = structure.statements().any(|(_, it)| {
                it.concept == *concept && it.status == Status::Current && certain(it.presence, it.certainty)
            });
            misread |= present;
            read += usize::from(present);
            if draft.findings.iter().any(|it| it.concept == *concept && certain(it.presence, it.certainty)) {
                coded.entry(pattern).or_insert(term);
            }
        }
        if misread && show {
            println!("read as present: {pattern}");
        }
    }
    println!("{said} sentences: {read} read as present and certain, {} patterns coded so", coded.len());
    (coded.iter().map(|(pattern, term)| format!("{pattern} ({term})")).collect(), percent(read, said))
}

#[test]
fn no_way_to_deny_doubt_ask_date_or_recommend_is_coded_as_present() {
    let findings: Vec<(&str, Concept)> =
        Concept::all().filter(|it| it.sort() == report::Sort::Finding).map(|it| (it.name(), it)).collect();
    let (coded, read) = sweep("en", &findings);
    assert!(read < 1.0, "{read} % are read as present and certain");
    assert!(coded.is_empty(), "coded as present and certain:\n{}", coded.join("\n"));
    let german = [
        ("Pneumothorax", "pneumothorax"),
        ("Pleuraerguss", "pleural_effusion"),
        ("Pneumonie", "pneumonia"),
        ("Fraktur", "fracture"),
        ("Lungenembolie", "pulmonary_embolism"),
    ];
    let german = german.map(|(term, id)| (term, Concept::named(id).expect("a concept")));
    let (coded, read) = sweep("de", &german);
    // German is not read for a draft yet: what is left is known.
    assert!(read < 3.0 && coded.len() <= 6, "{read} %: {coded:#?}");
}
