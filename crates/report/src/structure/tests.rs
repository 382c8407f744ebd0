use super::*;

/// A sentence's statements as one line each: presence, certainty, side, concept, places, measurements.
fn said(text: &str, language: Language) -> String {
    let structure = Structure::read(text, language);
    let line = |statement: &Statement| {
        let mut words = Vec::new();
        match statement.status {
            Status::Current => {}
            Status::History => words.push("history".to_owned()),
            Status::Question => words.push("question".to_owned()),
        }
        if statement.presence == Presence::Absent {
            words.push("no".to_owned());
        }
        match statement.certainty {
            Certainty::Certain => {}
            Certainty::Probable => words.push("probable".to_owned()),
            Certainty::Possible => words.push("possible".to_owned()),
        }
        words.extend(statement.side.map(|side| format!("{side:?}").to_lowercase()));
        words.push(statement.concept.id().to_owned());
        words.extend(statement.sites.iter().map(|site| format!("@{}", site.id())));
        words.extend(statement.measurements.iter().map(|it| format!("[{}]", it.text())));
        words.extend(statement.change.map(|change| format!("~{change:?}").to_lowercase()));
        words.join(" ")
    };
    let mut lines = Vec::new();
    for sentence in &structure.sentences {
        let mark = match sentence.understood {
            Understood::Whole => "",
            Understood::Part => "? ",
            Understood::Nothing => "- ",
        };
        let statements: Vec<String> = sentence.statements.iter().map(line).collect();
        lines.push(format!("{mark}{}", statements.join("; ")));
    }
    lines.join(" | ")
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(said(text, Language::ENGLISH), expected, "{text}");
}

#[track_caller]
fn check_german(text: &str, expected: &str) {
    assert_eq!(said(text, Language::GERMAN), expected, "{text}");
}

#[test]
fn negation_reaches_over_a_list_and_ends_where_it_is_ended() {
    check(
        "No focal consolidation, pleural effusion, or pneumothorax.",
        "no consolidation; no pleural_effusion; no pneumothorax",
    );
    check("No pneumothorax, but there is a small left pleural effusion.", "no pneumothorax; left pleural_effusion");
    check("There is no hydronephrosis or renal calculus.", "no hydronephrosis; no kidney_stone");
    check("Pleural effusion is not seen.", "no pleural_effusion");
    check("Left effusion without pneumothorax.", "left pleural_effusion; no pneumothorax");
    check("No midline shift and no hydrocephalus.", "no midline_shift; no hydrocephalus");
    check("No pneumothorax and pleural effusion.", "no pneumothorax; no pleural_effusion");
    check("No right pneumothorax or left effusion.", "no right pneumothorax; no left pleural_effusion");
    check("The heart is not enlarged.", "no cardiomegaly");
    // Could be read two ways.
    check("No pneumothorax and pleural effusion is present.", "? no pneumothorax");
    check("The left pleural effusion is not small.", "? left pleural_effusion");
    check("Consolidation or mass.", "? ");
}

#[test]
fn doubt_and_history_are_kept() {
    check("Possible pneumonia in the right lower lobe.", "possible right pneumonia @lower_lobe");
    check("Pulmonary embolism cannot be excluded.", "possible pulmonary_embolism");
    check("Findings are consistent with pulmonary edema.", "probable pulmonary_edema");
    check("Left lower lobe opacity, likely atelectasis.", "left opacity @lower_lobe; probable atelectasis");
    check("History of pneumothorax.", "history pneumothorax");
    check("TECHNIQUE: CT.\nINDICATION: Evaluate for pulmonary embolism.", "-  | question pulmonary_embolism");
}

#[test]
fn sides_places_and_measurements_belong_to_their_concept() {
    check("5 mm solid nodule in the right upper lobe.", "right nodule @upper_lobe [5 mm]");
    check("A mass in the left kidney measures 2.3 x 1.4 cm.", "left mass @kidney [2.3 x 1.4 cm]");
    check("A cyst of the liver, measuring 12-15 mm.", "cyst @liver [12 - 15 mm]");
    check("In the left frontal lobe, there is a meningioma of 2 cm.", "left meningioma @frontal_lobe [2 cm]");
    check("Right pleural effusion and atelectasis.", "right pleural_effusion; atelectasis");
    check("Bilateral pleural effusions.", "bilateral pleural_effusion");
    check(
        "The liver, spleen and pancreas are unremarkable.",
        "normal_appearance @liver; normal_appearance @spleen; normal_appearance @pancreas",
    );
    check("The heart is mildly enlarged.", "cardiomegaly");
    check("Hepatic cyst with a density of 5 HU.", "cyst @liver [5 [hnsf'U]]");
    // A date is no measurement, a level no size.
    check("Compression fracture of L2, unchanged since 03/12/2023.", "? compression_fracture ~same");
    check("Since 12 March 2024 the right renal cyst is stable.", "right renal_cyst ~same");
}

#[test]
fn sections_go_by_their_usual_headings() {
    let text = "EXAM: CT chest\n\nClinical history: Cough for 3 weeks, e.g. at night.\n\nCOMPARISON: None.\n\n## Findings\n\
                Lungs: Clear.\nThe aorta measures\n3.2 cm. No effusion.\n\nIMPRESSION:\n1. No acute disease.\n\
                2) Stable nodule.\n\nElectronically signed by: Dr. Jane Doe";
    let structure = Structure::read(text, Language::ENGLISH);
    let sections: Vec<(SectionKind, &str)> =
        structure.sentences.iter().map(|sentence| (sentence.section, sentence.text.as_str())).collect();
    use SectionKind as S;
    assert_eq!(
        sections,
        [
            (S::Technique, "CT chest"),
            (S::Indication, "Cough for 3 weeks, e.g. at night."),
            (S::Comparison, "None."),
            (S::Findings, "Lungs: Clear."),
            (S::Findings, "The aorta measures 3.2 cm."),
            (S::Findings, "No effusion."),
            (S::Impression, "No acute disease."),
            (S::Impression, "Stable nodule."),
            (S::Foreign, "Electronically signed by: Dr. Jane Doe"),
        ]
    );
}

#[test]
fn recommendations_and_categories_are_read() {
    let read = |text: &str| {
        let sentence = Structure::read(text, Language::ENGLISH).sentences.remove(0);
        let categories: Vec<String> =
            sentence.categories.iter().map(|it| format!("{} {}", it.scheme, it.value)).collect();
        (sentence.recommendation.map(|it| (it.actions.join(","), it.months)), categories.join(","))
    };
    assert_eq!(
        read("Follow-up CT in 6-12 months is recommended."),
        (Some(("ct".into(), Some((6.0, 12.0)))), String::new())
    );
    assert_eq!(read("No routine follow-up is needed."), (Some(("none".into(), None)), String::new()));
    assert_eq!(read("BI-RADS category 4A."), (None, "birads 4a".into()));
    assert_eq!(read("BI-RADS: 2."), (None, "birads 2".into()));
    assert_eq!(read("Biopsy is recommended."), (Some(("biopsy".into(), None)), String::new()));
}

#[test]
fn german_is_a_folder() {
    check_german("Kein Nachweis eines Pneumothorax.", "no pneumothorax");
    check_german("Kleiner Pleuraerguss links.", "left pleural_effusion");
    check_german("Verdacht auf Pneumonie im rechten Unterlappen.", "possible right pneumonia @lower_lobe");
    check_german("Keine Infiltrate, kein Erguss.", "no infiltrate; no pleural_effusion");
    check_german("Rundherd im linken Oberlappen, 8 mm.", "left nodule @upper_lobe [8 mm]");
    check_german("Leberzyste von 1,5 cm.", "cyst [1.5 cm]");
    check_german(
        "Leber, Milz und Pankreas unauffällig.",
        "normal_appearance @liver; normal_appearance @spleen; normal_appearance @pancreas",
    );
    check_german("Cholezystolithiasis ohne Cholezystitis.", "gallstone; no cholecystitis");
    let structure = Structure::read(
        "Klinische Angaben: Husten.\nBefund: Kein Erguss.\nBeurteilung: Unauffällige Lunge.",
        Language::GERMAN,
    );
    let sections: Vec<SectionKind> = structure.sentences.iter().map(|sentence| sentence.section).collect();
    assert_eq!(sections, [SectionKind::Indication, SectionKind::Findings, SectionKind::Impression]);
}

#[test]
fn constrained_json_is_read_and_its_claims_are_not_trusted() {
    let json = r#"{"indication":"Cough.","findings":[
        {"sentence":"Small left pleural effusion.","concept":"pleural_effusion","presence":"present","laterality":"left",
         "evidence":[{"image":0,"region":[0.5,0.6,0.9,0.95]}]},
        {"sentence":"No pneumothorax.","concept":"pneumothorax","presence":"present"}],
        "impression":["Small left pleural effusion."]}"#;
    let structure = Structure::read(json, Language::ENGLISH);
    assert_eq!(structure.sentences.len(), 4);
    assert_eq!(structure.sentences[0].section, SectionKind::Indication);
    assert_eq!(structure.sentences[1].statements[0].evidence.len(), 1);
    assert_eq!(&json[structure.sentences[1].range.clone()], "Small left pleural effusion.");
    assert_eq!(structure.sentences[2].statements[0].presence, Presence::Absent);
    let schema = schema();
    assert!(schema["properties"]["findings"]["items"]["properties"]["concept"]["enum"].as_array().unwrap().len() > 150);
}

#[test]
fn every_code_is_in_the_verified_list() {
    let verified: Vec<Vec<&str>> =
        include_str!("../../tests/codes.tsv").lines().map(|line| line.split('\t').collect()).collect();
    let codes: Vec<_> = Concept::all().filter_map(Concept::code).chain(Site::all().filter_map(Site::code)).collect();
    for code in &codes {
        assert!(verified.contains(&vec![code.scheme, code.value, code.meaning]), "{code:?}");
    }
    assert!(codes.len() > 110, "{}", codes.len());
    assert!(Concept::all().count() > 150);
    // Sites and concepts are named in every language that has them, or in English.
    for concept in Concept::all() {
        assert!(!Language::GERMAN.lexicon().name(concept).is_empty());
        assert_ne!(Language::ENGLISH.lexicon().name(concept), "");
    }
    for site in Site::all() {
        assert!(!Language::ENGLISH.lexicon().site_name(site).contains('_'), "{site:?}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::draft::{ModelText, parse_in};

    fn words() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            "[a-z]{1,8}",
            "[0-9]{1,4}([.,/-][0-9]{1,4}){0,2}",
            Just("no".to_owned()),
            Just("or".to_owned()),
            Just(",".to_owned()),
            Just("effusion".to_owned()),
            Just("FINDINGS:".to_owned()),
            Just("\n".to_owned()),
            Just(". ".to_owned()),
            Just("mm".to_owned()),
            Just("nodule".to_owned()),
            Just("left".to_owned()),
            Just("ÄöŁ氏名".to_owned()),
        ];
        proptest::collection::vec(word, 0..60).prop_map(|words| words.join(" "))
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_no_code_is_made_up(text in prop_oneof![words(), any::<String>()], german in any::<bool>()) {
            let language = if german { Language::GERMAN } else { Language::ENGLISH };
            let draft = parse_in(&ModelText { text: &text, tokens: Vec::new(), grid: None }, language);
            let table: Vec<Concept> = Concept::all().collect();
            for sentence in &draft.structure.sentences {
                prop_assert!(text.get(sentence.range.clone()).is_some());
                for statement in &sentence.statements {
                    prop_assert!(table.contains(&statement.concept));
                }
            }
            for finding in &draft.findings {
                prop_assert!(finding.concept.code().is_none_or(|code| !code.value.is_empty()));
            }
        }

        /// Twice the text is read as the text and the text again: no work grows with what came before.
        #[test]
        fn a_sentence_is_read_alike_wherever_it_stands(text in words()) {
            let once = Structure::read(&text, Language::ENGLISH);
            prop_assume!(once.sentences.len() < 90);
            let twice = Structure::read(&format!("{text}\n\n{text}"), Language::ENGLISH);
            let statements = |structure: &Structure| structure.sentences.iter().map(|it| it.statements.len()).sum::<usize>();
            prop_assert_eq!(statements(&twice), 2 * statements(&once));
        }
    }
}

#[test]
fn json_that_cannot_be_read_leaves_nothing_to_show() {
    let whole = r#"{"findings":[{"sentence":"Left pneumothorax.","concept":"pneumothorax","presence":"present"}],"impression":["Left pneumothorax."]}"#;
    let check = |text: &str, expected: Result<&[&str], &str>| {
        let structure = Structure::read(text, Language::ENGLISH);
        let sentences: Vec<&str> = structure.sentences.iter().map(|it| it.text.as_str()).collect();
        match (expected, &structure.unreadable) {
            (Ok(due), None) => assert_eq!(sentences, due, "{text}"),
            (Err(due), Some(why)) => assert!(why.contains(due) && sentences.is_empty(), "{text}: {why}"),
            (due, found) => panic!("{text}: {found:?} {sentences:?}, due {due:?}"),
        }
    };
    let twice = ["Left pneumothorax.", "Left pneumothorax."];
    check(whole, Ok(&twice));
    check(&format!("```json\n{whole}\n```\n"), Ok(&twice));
    check(
        &format!("Here is the draft:\n```\n{whole}\n```\nNo effusion."),
        Ok(&["Here is the draft:", twice[0], twice[1], "No effusion."]),
    );
    // Wherever it is cut, nothing of it is taken for prose.
    for cut in 1..whole.len() {
        check(&whole[..cut], Err("breaks off"));
    }
    check(&whole.replace("impression", "opinion"), Err("not of the schema"));
    check(&whole.replace("present", "perhaps"), Err("not of the schema"));
    check(&whole.replace(r#""concept":"#, r#""concept""#), Err("not of the schema"));
    check(r#"[{"finding": "Left pneumothorax."}]"#, Err("not of the schema"));
    check(&format!("{whole}\n{whole}"), Err("more than once"));
    check(&format!("{whole}\n{{\"findings\""), Err("more than once"));
    // Brackets of prose are no JSON.
    check(
        "Left pneumothorax [1]. No effusion {see above}.",
        Ok(&["Left pneumothorax [1].", "No effusion {see above}."]),
    );
}
