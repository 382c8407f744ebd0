//! The report as plain text: the lines that the documents have too, and an SR file read back.

use dataset::{CharacterSet, TransferSyntax, part10::Meta, tags};

use crate::{
    document::Provenance,
    draft::{Confidence, Draft, Finding},
    elements::{self, DataSet},
    structure::{SectionKind, Sentence, Struck, Understood},
};

/// What every report begins with (promise: nobody takes a draft for a report), with what the model's makers want said:
/// one item, because a viewer may show the first one only.
pub(crate) fn first_line(provenance: &Provenance) -> String {
    let Provenance { model_name, model_version, notice, .. } = provenance;
    let notice = notice.as_ref().map(|notice| format!(". {notice}")).unwrap_or_default();
    format!("AI-GENERATED DRAFT - NOT VERIFIED BY A RADIOLOGIST. {model_name} {model_version}{notice}")
}

/// What made the report, one fact a line.
pub(crate) fn provenance_lines(provenance: &Provenance, inputs: Option<usize>) -> Vec<String> {
    let mut lines = vec![
        format!("Drafted by the model {}, version {}", provenance.model_name, provenance.model_version),
        format!("Model weights digest: {}", provenance.model_digest),
        format!("Prompt: {}", provenance.prompt_id),
        format!("Settings: {}", provenance.settings),
        format!("Rule: {}", provenance.rule),
        format!("Software: {} {}", dataset::MANUFACTURER, provenance.software_version),
    ];
    lines.extend(inputs.map(|count| format!("Instances analysed: {count}")));
    lines
}

/// The sign behind a sentence that was not wholly understood: no code stands beside it. ASCII, as it goes into documents of
/// any character set.
const NOT_UNDERSTOOD: &str = " *";

/// What the sign means.
const LEGEND: &str = "[* behind a sentence: not interpreted, and in no code. Read it.]";

/// The lines of the findings section: the model's own sentences in the model's own order.
pub(crate) fn finding_lines(draft: &Draft) -> Vec<String> {
    let mut lines = own_words(draft, |section| !section.stands_by_itself() && section != SectionKind::Impression);
    if draft.not_understood().next().is_some() {
        lines.push(LEGEND.to_owned());
    }
    if draft.structure.omitted > 0 {
        lines.push(format!("[{} further sentences of the model's text were left out]", draft.structure.omitted));
    }
    if let Some(why) = &draft.structure.unreadable {
        lines.push(format!("[Nothing of the model's output is shown: {why}]"));
    }
    if lines.is_empty() {
        lines.push("The model reported nothing.".to_owned());
    }
    lines
}

/// The lines of the impression: the model's own, as it wrote it. Where it wrote none, its sentences on what is there and is
/// no device, most urgent first, and a line that says so. Nothing is ever summed up as normal.
pub(crate) fn impression_lines(draft: &Draft) -> Vec<String> {
    let own = own_words(draft, |section| section == SectionKind::Impression);
    if !own.is_empty() {
        return own;
    }
    if draft.structure.unreadable.is_some() {
        return vec!["The model's output could not be read: nothing is assessed.".to_owned()];
    }
    if draft.is_empty() {
        return vec!["The model reported nothing.".to_owned()];
    }
    let mut positive: Vec<&Finding> = draft.positive().collect();
    // The vocabulary stands in order of urgency, and the sort keeps the text's order among equals.
    positive.sort_by_key(|finding| (finding.concept.urgency(), finding.concept));
    let mut lines: Vec<String> = Vec::new();
    for finding in positive {
        // A sentence that names two findings is one line.
        if !lines.contains(&finding.text) {
            lines.push(finding.text.clone());
        }
    }
    let unread = draft.not_understood().count() + draft.structure.omitted;
    let unread = match unread {
        0 => String::new(),
        1 => " 1 sentence of them was not interpreted.".to_owned(),
        count => format!(" {count} sentences of them were not interpreted."),
    };
    lines.push(format!("[The model wrote no impression: read the findings.{unread}]"));
    lines
}

/// The sentences of the sections that `takes`, in the model's order: whole, or struck and why.
pub(crate) fn own_words(draft: &Draft, takes: impl Fn(SectionKind) -> bool) -> Vec<String> {
    let shown = draft.structure.sentences.iter().filter(|it| takes(it.section) && !it.text.is_empty());
    shown.map(sentence_line).collect()
}

fn sentence_line(sentence: &Sentence) -> String {
    let text = &sentence.text;
    if let Some(Struck { why, words }) = &sentence.struck {
        return if *words {
            format!("[Struck out: {text} - {why}]")
        } else {
            format!("[A sentence was struck out: {why}]")
        };
    }
    // Nobody asked the model why the study was made, or how.
    let by_model =
        matches!(sentence.section, SectionKind::Indication | SectionKind::Technique | SectionKind::Comparison);
    let by_model = if by_model { "[said by the model] " } else { "" };
    let unmeasured = if sentence.unmeasured { " [size not measured]" } else { "" };
    let sign = sentence.section.is_of_images() && sentence.understood != Understood::Whole;
    format!("{by_model}{text}{unmeasured}{}{}", if sign { NOT_UNDERSTOOD } else { "" }, calibrated(sentence.confidence))
}

/// The sections of a report in order, by their headings, but the one that says how it was made.
pub(crate) fn sections(draft: &Draft) -> Vec<(&'static str, Vec<String>)> {
    let own = |kind: SectionKind| own_words(draft, move |section| section == kind);
    let sections = [
        ("Clinical information", own(SectionKind::Indication)),
        ("Technique", own(SectionKind::Technique)),
        ("Comparison", own(SectionKind::Comparison)),
        ("Findings", finding_lines(draft)),
        ("Impression", impression_lines(draft)),
        ("Recommendations", own(SectionKind::Recommendations)),
    ];
    sections.into_iter().filter(|(_, lines)| !lines.is_empty()).collect()
}

/// How probable it is that a sentence is true, in one plain word and the number; nothing that was not calibrated.
fn calibrated(confidence: Option<Confidence>) -> String {
    let Some(probability) = confidence.and_then(|it| it.calibrated) else { return String::new() };
    let word = match probability {
        0.9.. => "very likely",
        0.7.. => "likely",
        0.4.. => "unsure",
        _ => "doubtful",
    };
    format!(" ({word}, {} %)", (probability * 100.0).round())
}

/// The report for a terminal.
pub fn render_text(draft: &Draft, provenance: &Provenance) -> String {
    let mut text = first_line(provenance) + "\n";
    for (heading, lines) in sections(draft) {
        text += &format!("\n{heading}\n");
        lines.iter().for_each(|line| text += &format!("  {line}\n"));
    }
    text += "\nHow this draft was made\n";
    provenance_lines(provenance, None).iter().for_each(|line| text += &format!("  {line}\n"));
    text
}

/// The content tree of an SR file as indented text; what is wrong with the file if it is none.
///
/// Control characters of the file are not passed on to the terminal.
pub fn read_text(file: &[u8]) -> String {
    match read(file) {
        Ok(data_set) => {
            let mut text = String::new();
            let own = CharacterSet::declared(data_set.bytes(tags::SPECIFIC_CHARACTER_SET).unwrap_or_default());
            let flags = [tags::COMPLETION_FLAG, tags::VERIFICATION_FLAG, tags::PRELIMINARY_FLAG];
            let flags: Vec<&str> =
                flags.iter().map(|tag| data_set.plain(*tag)).filter(|flag| !flag.is_empty()).collect();
            text += &format!("{}  [{}]\n", line(&data_set, &own), flags.join(", "));
            children(&mut text, &data_set, &own, 1);
            text
        }
        Err(what) => format!("not a readable SR: {what}\n"),
    }
}

/// Reads a Part 10 file through the gate.
pub(crate) fn read(file: &[u8]) -> Result<DataSet, String> {
    let (meta, at) = Meta::parse(file).map_err(|error| error.to_string())?;
    let syntax = TransferSyntax::from_uid(meta.transfer_syntax_uid.as_str()).map_err(|error| error.to_string())?;
    if syntax.deflated() {
        return Err("a deflated data set is not read here".to_owned());
    }
    let bytes = &file[at..];
    dataset::gate::scan(bytes, Some(bytes.len() as u64), syntax, &dataset::Limits::default())
        .map_err(|error| error.to_string())?;
    elements::decode(bytes, syntax).map_err(|malformed| format!("{} at byte {}", malformed.what, malformed.at))
}

fn children(text: &mut String, item: &DataSet, character_set: &CharacterSet, depth: usize) {
    for child in item.items(tags::CONTENT_SEQUENCE) {
        *text += &format!("{}{}\n", "  ".repeat(depth), line(child, character_set));
        children(text, child, character_set, depth + 1);
    }
}

fn line(item: &DataSet, character_set: &CharacterSet) -> String {
    let decode = |item: &DataSet, tag| {
        let text = character_set.decode(item.bytes(tag).unwrap_or_default());
        let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        shown.trim().to_owned()
    };
    let meaning = |tag| item.items(tag).first().map(|code| decode(code, tags::CODE_MEANING)).unwrap_or_default();
    let name = meaning(tags::CONCEPT_NAME_CODE_SEQUENCE);
    let value = match item.plain(tags::VALUE_TYPE) {
        "CONTAINER" => return name,
        "TEXT" => decode(item, tags::TEXT_VALUE),
        "CODE" => meaning(tags::CONCEPT_CODE_SEQUENCE),
        "NUM" => {
            let measured = item.items(tags::MEASURED_VALUE_SEQUENCE).first();
            let unit = measured.and_then(|value| value.items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE).first());
            let number = measured.map(|value| decode(value, tags::NUMERIC_VALUE)).unwrap_or_default();
            format!("{number} {}", unit.map(|unit| decode(unit, tags::CODE_VALUE)).unwrap_or_default())
        }
        "PNAME" => decode(item, tags::PERSON_NAME),
        "DATE" => decode(item, tags::DATE),
        "TIME" => decode(item, tags::TIME),
        "DATETIME" => decode(item, tags::DATE_TIME),
        "UIDREF" => decode(item, tags::UID),
        "SCOORD" | "SCOORD3D" => decode(item, tags::GRAPHIC_TYPE),
        "IMAGE" | "COMPOSITE" | "WAVEFORM" => item
            .items(tags::REFERENCED_SOP_SEQUENCE)
            .first()
            .map(|reference| decode(reference, tags::REFERENCED_SOP_INSTANCE_UID))
            .unwrap_or_default(),
        other => format!("({other})"),
    };
    if name.is_empty() { value } else { format!("{name}: {value}") }
}
