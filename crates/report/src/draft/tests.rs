use super::*;

fn read(text: &str) -> Draft {
    parse(&ModelText { text, tokens: Vec::new(), grid: None })
}

/// A draft as one line: what each finding says, then what was not understood, in brackets.
fn shown(draft: &Draft) -> String {
    let words = |text: String| text.to_lowercase().replace('_', " ");
    let finding = |finding: &Finding| {
        let mut parts = Vec::new();
        parts.extend((finding.presence == Presence::Absent).then(|| "no".to_owned()));
        parts.extend((finding.certainty != Certainty::Certain).then(|| words(format!("{:?}", finding.certainty))));
        parts.extend(finding.size.map(|size| words(format!("{size:?}"))));
        parts.extend(finding.side.map(|side| words(format!("{side:?}"))));
        parts.push(words(finding.concept.id().to_owned()));
        parts.extend(finding.sites.iter().map(|site| format!("@{}", words(site.id().to_owned()))));
        parts.join(" ")
    };
    let findings = draft.findings.iter().map(finding);
    let normal = draft.normal.iter().map(|normal| words(format!("{:?}", normal.statement)));
    let unread = draft.not_understood().map(|sentence| format!("[{}]", sentence.text));
    findings.chain(normal).chain(unread).collect::<Vec<_>>().join("; ")
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(shown(&read(text)), expected, "{text:?}");
}

#[test]
fn the_demonstration_models_sentences_are_all_understood() {
    for side in ["left", "right"] {
        for zone in ["upper", "mid", "lower"] {
            for size in ["small", "large"] {
                check(
                    &format!("{} nodule in the {side} {zone} zone.", size.to_uppercase()),
                    &format!("{size} {side} nodule @{zone} zone"),
                );
            }
            check(&format!("Consolidation in the {side} {zone} zone."), &format!("{side} consolidation @{zone} zone"));
        }
        for size in ["small", "moderate", "large"] {
            check(&format!("{size} {side} pleural effusion."), &format!("{size} {side} pleural effusion"));
        }
    }
    check("Left pneumothorax.", "left pneumothorax");
    check("Right central venous line in place.", "right central venous line");
    check("Left pacemaker in place.", "left pacemaker");
    check("Endotracheal tube in place.", "endotracheal tube");
    check("The heart is enlarged.", "cardiomegaly");
    check("No abnormality.", "noabnormality");
}

#[test]
fn other_wording_says_the_same() {
    check("There is a left-sided pleural effusion.", "left pleural effusion");
    check("Pleural effusion on the right, small.", "small right pleural effusion");
    check("Enlarged cardiac silhouette.", "cardiomegaly");
    check("Heart size is mildly enlarged", "small cardiomegaly");
    check("Airspace opacity in the right lower lobe.", "right opacity @lower lobe");
    check("Right upper lobe consolidation.", "right consolidation @upper lobe");
    check("Bilateral pleural effusions.", "bilateral pleural effusion");
    check("Left and right pleural effusions.", "bilateral pleural effusion");
    check("Bilateral pleural effusions, right greater than left.", "bilateral pleural effusion");
    check("Consolidation in both lower lung zones.", "bilateral consolidation @lower zone");
    check("Nodule in the left lung.", "left nodule @lung");
    check("Nodule in the upper zone.", "nodule @upper zone");
    check("No acute cardiopulmonary abnormality.", "nothingacute");
    check("Normal chest radiograph.", "noabnormality");
    check("FINDINGS: The lungs are clear.", "clear lungs @lung");
    check("IMPRESSION:\n1. Left pneumothorax.\n2. Left pneumothorax", "left pneumothorax");
    check("**Findings:**\n- Small right pleural effusion", "small right pleural effusion");
}

#[test]
fn negation_reaches_as_far_as_the_sentence_says_and_no_further() {
    check("No pleural effusion.", "no pleural effusion");
    check("No pneumothorax or pleural effusion.", "no pneumothorax; no pleural effusion");
    check(
        "No focal consolidation, pleural effusion, or pneumothorax is seen.",
        "no consolidation; no pleural effusion; no pneumothorax",
    );
    check("Negative for pneumothorax.", "no pneumothorax");
    check("Pneumothorax is not seen.", "no pneumothorax");
    check("Pneumothorax: none.", "no pneumothorax");
    check("The heart is not enlarged.", "no cardiomegaly");
    check("Left pneumothorax is not seen.", "no left pneumothorax");
    check("Neither pneumothorax nor pleural effusion.", "no pneumothorax; no pleural effusion");
    check("Left pleural effusion without pneumothorax.", "left pleural effusion; no pneumothorax");
    check("No pneumothorax but a small left pleural effusion.", "no pneumothorax; small left pleural effusion");
    check("No pleural effusion and no pneumothorax.", "no pleural effusion; no pneumothorax");
    check("The lungs are free from pneumothorax.", "no pneumothorax @lung");
    check("Pneumothorax is unlikely.", "no probable pneumothorax");
    // Could be read two ways.
    for ambiguous in [
        "No pneumothorax, small left pleural effusion.",
        "No pneumothorax, effusion is present.",
        "Consolidation or mass.",
        "No absent pneumothorax.",
        "The left pleural effusion is not small.",
    ] {
        check(ambiguous, &format!("[{ambiguous}]"));
    }
}

/// What is asked, recommended or was is no finding, however wholly it is understood.
#[test]
fn a_question_and_a_history_are_no_findings() {
    for text in [
        "? Pneumothorax.",
        "Pneumothorax?",
        "Query pneumothorax.",
        "Rule out pneumothorax.",
        "Follow-up for pneumothorax.",
        "Treated pneumothorax.",
        "Status post pneumothorax.",
        "Pneumothorax should be excluded.",
        "At risk of pneumothorax.",
    ] {
        assert!(read(text).findings.is_empty(), "{text}: {}", shown(&read(text)));
    }
}

#[test]
fn a_side_is_never_guessed() {
    check("Right pleural effusion and pneumothorax.", "right pleural effusion; pneumothorax");
    check(
        "Small left effusion with right lower lobe consolidation.",
        "small left pleural effusion; right consolidation @lower lobe",
    );
    for unclear in ["Left or right pneumothorax.", "Left right pneumothorax.", "Left enlarged heart."] {
        check(unclear, &format!("[{unclear}]"));
    }
}

#[test]
fn a_sentence_with_a_word_outside_the_vocabulary_is_not_interpreted() {
    for unknown in [
        "Pleural effusion/pneumothorax.",
        "\u{420}neumothorax.",
        "The patient is John.",
        "Left pneumothorax of Mr Smith.",
        "Nearly pneumothorax.",
    ] {
        check(unknown, &format!("[{unknown}]"));
    }
}

#[test]
fn doubt_change_and_measurements_are_kept() {
    check("Resolved left pneumothorax.", "no left pneumothorax");
    check("Possible pneumonia.", "possible pneumonia");
    check("Left pneumothorax cannot be excluded.", "possible left pneumothorax");
    check("Old rib fracture.", "fracture @rib");
    check("The liver is unremarkable.", "normal appearance @liver");
    let [finding] = &read("Possible 12 mm nodule in the left upper lobe.").findings[..] else { panic!() };
    assert_eq!(
        (finding.side, finding.zone, finding.certainty),
        (Some(Side::Left), Some(Zone::UpperLobe), Certainty::Possible)
    );
    assert_eq!(finding.measurements[0].millimetres(), Some(12.0));
    // What stands in other sections is no finding.
    check("INDICATION: Pneumothorax.", "");
}

#[test]
fn what_is_shown_as_it_stands_is_harmless() {
    check("bad\u{1b}[31m \u{202e}text\0 \\n ~", "[bad [31m text /n -]");
    check("“Quoted” – it’s odd.", "[\"Quoted\" - it's odd.]");
    let long = read(&"word ".repeat(1_000));
    assert_eq!(long.structure.sentences.len(), 1);
    assert!(long.structure.sentences[0].text.len() < 1_100 && long.structure.sentences[0].text.ends_with("[cut]"));
    assert_eq!(shown(&read(" \n\n . . ; 1. 2. ** ")), "");
    let loops = read(&"Same odd thing. ".repeat(500));
    assert_eq!((loops.structure.sentences.len(), loops.structure.omitted), (200, 300));
}

/// The model's impression is the impression; without one its positive sentences stand there, and a line that says so.
#[test]
fn the_impression_is_the_models_own_and_never_says_normal() {
    let check = |text: &str, expected: &[&str]| {
        assert_eq!(crate::text::impression_lines(&read(text)), expected, "{text:?}");
    };
    let none = "[The model wrote no impression: read the findings.]";
    check("", &["The model reported nothing."]);
    check("No abnormality.", &[none]);
    check("No pneumothorax. Left pacemaker in place.", &[none]);
    check(
        "The heart is enlarged. Small left pleural effusion. Right pneumothorax. Endotracheal tube in place.",
        &["Right pneumothorax.", "Small left pleural effusion.", "The heart is enlarged.", none],
    );
    check(
        "Left pneumothorax. Who knows. Who cares.",
        &[
            "Left pneumothorax.",
            "[The model wrote no impression: read the findings. 2 sentences of them were not interpreted.]",
        ],
    );
    check(
        "FINDINGS: Intimal flap.\nIMPRESSION:\n1. Stanford type A dissection.\n2. Call the surgeon.",
        &["Stanford type A dissection. *", "Call the surgeon. *"],
    );
}

/// The model's sentences leave in its own words and its own order, understood or not.
#[test]
fn the_words_stand() {
    let text = "FINDINGS: Zorbulous. ? Pneumothorax. Right effusion.\nIMPRESSION: Right effusion.";
    let lines = crate::text::finding_lines(&read(text));
    assert_eq!(lines[..3], ["Zorbulous. *", "? Pneumothorax.", "Right effusion."], "{lines:?}");
    assert_eq!(crate::text::impression_lines(&read(text)), ["Right effusion."]);
}

#[test]
fn evidence_belongs_to_the_sentence_whose_tokens_it_is() {
    let text = "Left pneumothorax. No pleural effusion.";
    let token = |range: Range<usize>, probability: f32, attention: &[f32]| TokenEvidence {
        range,
        logprob: probability.ln(),
        attention: Some(attention.to_vec()),
    };
    let tokens = vec![
        token(0..4, 0.5, &[1.0, 0.0]),
        token(4..18, 1.0, &[0.0, 3.0]),
        token(18..30, 0.25, &[1.0, 1.0]),
        token(30..39, f32::NAN, &[f32::NAN, 1.0]),
    ];
    let draft = parse(&ModelText { text, tokens, grid: Some((1, 2)) });
    let [first, second] = draft.findings.as_slice() else { panic!("{draft:?}") };
    assert_eq!(first.confidence, Some(Confidence::of_tokens(0.5, 0.75)));
    let grid = first.attention.as_ref().unwrap();
    assert_eq!((grid.values.as_slice(), grid.best_cell()), (&[0.5, 1.5][..], Some((0, 1))));
    assert_eq!(second.confidence, Some(Confidence::of_tokens(0.25, 0.25)));
    assert_eq!(second.attention.as_ref().unwrap().values, [1.0, 1.0]);
}
