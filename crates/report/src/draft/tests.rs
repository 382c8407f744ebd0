use super::*;

fn read(text: &str) -> Draft {
    parse(&ModelText { text, tokens: Vec::new(), grid: None })
}

/// A draft as one line: recognised statements, then what was not, in brackets.
fn shown(draft: &Draft) -> String {
    let findings = draft.findings.iter().map(|finding| finding.text.clone());
    let normal = draft.normal.iter().map(|normal| normal.statement.text().to_owned());
    let unrecognised = draft.unrecognised.iter().map(|sentence| format!("[{}]", sentence.text));
    findings.chain(normal).chain(unrecognised).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(shown(&read(text)), expected, "{text:?}");
}

#[test]
fn the_demonstration_models_sentences_are_all_recognised() {
    for side in ["left", "right"] {
        for zone in ["upper", "mid", "lower"] {
            for size in ["Small", "Large"] {
                let sentence = format!("{size} nodule in the {side} {zone} zone.");
                check(&sentence, &sentence);
            }
            let sentence = format!("Consolidation in the {side} {zone} zone.");
            check(&sentence, &sentence);
        }
        for size in ["Small", "Moderate", "Large"] {
            let sentence = format!("{size} {side} pleural effusion.");
            check(&sentence, &sentence);
        }
    }
    check("Left pneumothorax.", "Left pneumothorax.");
    check("Right central venous line in place.", "Right central venous line in place.");
    check("Left pacemaker in place.", "Left pacemaker in place.");
    check("Endotracheal tube in place.", "Endotracheal tube in place.");
    check("The heart is enlarged.", "Cardiomegaly.");
    check("No abnormality.", "No abnormality.");
}

#[test]
fn other_wording_says_the_same() {
    check("There is a left-sided pleural effusion.", "Left pleural effusion.");
    check("Pleural effusion on the right, small.", "Pleural effusion on the right, small.");
    check("Enlarged cardiac silhouette.", "Cardiomegaly.");
    check("Heart size is mildly enlarged", "Mild cardiomegaly.");
    check("Airspace opacity in the right lower lobe.", "Opacity in the right lower lobe.");
    check("Right upper lobe consolidation.", "Consolidation in the right upper lobe.");
    check("Bilateral pleural effusions.", "Bilateral pleural effusion.");
    check("Left and right pleural effusions.", "Bilateral pleural effusion.");
    check("Consolidation in both lower lung zones.", "Consolidation in both lower zones.");
    check("Nodule in the left lung.", "Nodule in the left lung.");
    check("Nodule in the upper zone.", "Nodule in the upper zone, side not stated.");
    check("No acute cardiopulmonary abnormality.", "No acute abnormality.");
    check("FINDINGS: The lungs are clear.", "The lungs are clear.");
    check("Both lungs are clear", "The lungs are clear.");
    check("The heart size is normal and the lungs are clear.", "No cardiomegaly. The lungs are clear.");
    check("IMPRESSION:\n1. Left pneumothorax.\n2. Left pneumothorax", "Left pneumothorax.");
    check("**Findings:**\n- Small right pleural effusion", "Small right pleural effusion.");
}

#[test]
fn negation_reaches_as_far_as_the_sentence_says_and_no_further() {
    check("No pleural effusion.", "No pleural effusion.");
    check("No pneumothorax or pleural effusion.", "No pneumothorax. No pleural effusion.");
    check(
        "No focal consolidation, pleural effusion, or pneumothorax is seen.",
        "No consolidation. No pleural effusion. No pneumothorax.",
    );
    check("No evidence of pneumothorax.", "No pneumothorax.");
    check("Negative for pneumothorax.", "No pneumothorax.");
    check("Pneumothorax is not seen.", "No pneumothorax.");
    check("The heart is not enlarged.", "No cardiomegaly.");
    check("Left pneumothorax is not seen.", "No left pneumothorax.");
    check("Neither pneumothorax nor pleural effusion.", "No pneumothorax. No pleural effusion.");
    check("Left pleural effusion without pneumothorax.", "Left pleural effusion. No pneumothorax.");
    check("No pneumothorax but a small left pleural effusion.", "No pneumothorax. Small left pleural effusion.");
    check("No pleural effusion and no pneumothorax.", "No pleural effusion. No pneumothorax.");
    check("Without pneumothorax.", "No pneumothorax.");
    // Could be read two ways.
    for ambiguous in [
        "No pneumothorax and pleural effusion.",
        "No pneumothorax, small left pleural effusion.",
        "No pneumothorax, effusion is present.",
        "Pneumothorax and effusion are not seen.",
        "Consolidation or mass.",
        "No absent pneumothorax.",
        "The left pleural effusion is not small.",
        "Pneumothorax is not on the left.",
    ] {
        check(ambiguous, &format!("[{ambiguous}]"));
    }
}

#[test]
fn a_side_is_never_guessed() {
    check("Right pleural effusion and pneumothorax.", "Right pleural effusion. Pneumothorax.");
    check(
        "Small left effusion with right lower lobe consolidation.",
        "Small left pleural effusion. Consolidation in the right lower lobe.",
    );
    for unclear in [
        "Left or right pneumothorax.",
        "Left right pneumothorax.",
        "Left enlarged heart.",
        "Upper and lower zone consolidation on the left.",
        "Nodule left upper.",
        "Consolidation pneumonia in the left lung.",
    ] {
        check(unclear, &format!("[{unclear}]"));
    }
}

#[test]
fn a_sentence_with_a_word_outside_the_vocabulary_is_not_interpreted() {
    for unknown in [
        "Pneumothorax?",
        "Pleural effusion/pneumothorax.",
        "Рneumothorax.",
        "The patient is John.",
        "Doubtful left pneumothorax.",
        "Left pneumothorax of Mr Smith.",
    ] {
        check(unknown, &format!("[{unknown}]"));
    }
}

/// What says more than we have words for keeps its words, all of which are in the closed tables.
#[test]
fn doubt_change_and_measurements_stay_in_the_sentences_own_words() {
    for sentence in [
        "Resolved left pneumothorax.",
        "Possible pneumonia.",
        "Left pneumothorax cannot be excluded.",
        "Old rib fracture.",
        "A 3.5 cm mass in the left upper lobe.",
        "The liver is unremarkable.",
    ] {
        check(sentence, sentence);
    }
    let [finding] = &read("Possible 12 mm nodule in the left upper lobe.").findings[..] else { panic!() };
    assert_eq!(
        (finding.side, finding.zone, finding.certainty),
        (Some(Side::Left), Some(Zone::UpperLobe), Certainty::Possible)
    );
    assert_eq!(finding.measurements[0].millimetres(), Some(12.0));
    assert_eq!(read("Resolved left pneumothorax.").findings[0].presence, Presence::Absent);
    // What stands in other sections is no finding.
    check("INDICATION: Pneumothorax.", "[Pneumothorax.]");
}

#[test]
fn what_is_shown_as_it_stands_is_harmless() {
    check("bad\u{1b}[31m \u{202e}text\0 \\n ~", "[bad [31m text /n -]");
    check("“Quoted” – it’s odd.", "[\"Quoted\" - it's odd.]");
    let long = read(&"word ".repeat(1_000));
    assert_eq!(long.unrecognised.len(), 1);
    assert!(long.unrecognised[0].text.len() < 450 && long.unrecognised[0].text.ends_with("[cut]"));
    assert_eq!(shown(&read(" \n\n . . ; 1. 2. ** ")), "");
    let loops = read(&"Same odd thing. ".repeat(500));
    assert_eq!((loops.unrecognised.len(), loops.omitted), (200, 300));
}

#[test]
fn the_impression_is_derived_by_its_rule() {
    let check = |text: &str, expected: &[&str]| assert_eq!(read(text).impression, expected, "{text:?}");
    check("", &["The model reported nothing."]);
    check("No abnormality.", &["No abnormality reported by the model."]);
    check("No pneumothorax. Left pacemaker in place.", &["No abnormality reported by the model."]);
    check(
        "The heart is enlarged. Small left pleural effusion. Right pneumothorax. Endotracheal tube in place.",
        &["Right pneumothorax.", "Small left pleural effusion.", "Cardiomegaly."],
    );
    check(
        "Who knows.",
        &["No abnormality recognised, but 1 sentence of the model's text could not be interpreted: see Findings."],
    );
    check(
        "Left pneumothorax. Who knows. Who cares.",
        &["Left pneumothorax.", "2 sentences of the model's text could not be interpreted: see Findings."],
    );
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

/// Our own sentence for a statement is read back as that statement: no rendering says more or less than the structure.
#[test]
fn our_own_sentences_are_read_back_as_what_they_say() {
    use crate::vocabulary::{Grade, Place};
    let sides = [None, Some(Side::Left), Some(Side::Right), Some(Side::Bilateral)];
    let zones = [None, Some(Zone::Upper), Some(Zone::Mid), Some(Zone::LowerLobe), Some(Zone::MiddleLobe)];
    let sizes = [None, Some(Size::Small), Some(Size::Moderate), Some(Size::Large)];
    let mut count = 0;
    for concept in Concept::all().filter(|concept| concept.row().own) {
        let row = concept.row();
        for presence in [Presence::Present, Presence::Absent] {
            for side in sides.into_iter().filter(|side| side.is_none() || row.place != Place::Nowhere) {
                for zone in
                    zones.into_iter().filter(|zone| zone.is_none() || row.place == Place::Lung && side.is_some())
                {
                    for size in sizes.into_iter().filter(|size| size.is_none() || row.grade != Grade::None) {
                        if concept.is("clear_lungs") && presence == Presence::Absent {
                            continue;
                        }
                        let fact = phrase::Fact { concept, presence, side, zone, size };
                        let draft = read(&fact.text());
                        let finding = draft.findings.first().unwrap_or_else(|| panic!("{}", fact.text()));
                        let back = (finding.concept, finding.presence, finding.side, finding.zone, finding.size);
                        assert_eq!(back, (concept, presence, side, zone, size), "{}", fact.text());
                        count += 1;
                    }
                }
            }
        }
    }
    assert!(count > 500, "{count}");
}
