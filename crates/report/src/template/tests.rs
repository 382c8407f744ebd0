use super::*;

const REPORT: &str = "INDICATION: Cough.\nTECHNIQUE: PA chest radiograph.\nFINDINGS:\nThe lungs are clear. Small left pleural effusion.\n\
                      The heart is normal in size.\nIMPRESSION: Small left pleural effusion.";

#[test]
fn every_template_of_our_own_can_be_used() {
    for id in Template::own() {
        let (_, json) = OWN.iter().find(|(own, _)| *own == id).unwrap();
        let template = Template::read(json).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(template.id, id);
        let code = template.procedure.unwrap();
        let row = format!("{}\t{}\t{}", code.scheme, code.value, code.meaning);
        assert!(include_str!("../../tests/codes.tsv").lines().any(|line| line == row), "{row}");
    }
}

#[test]
fn a_report_is_measured_against_its_template() {
    let structured = structure(REPORT, &Template::named("chest-radiograph").unwrap(), Language::ENGLISH);
    let filled: Vec<(&str, usize)> = structured.items.iter().map(|it| (it.item.as_str(), it.sentences.len())).collect();
    assert_eq!(structured.missing, ["Comparison"], "{filled:?}");
    assert!(
        filled.contains(&("lungs", 1)) && filled.contains(&("pleura", 1)) && filled.contains(&("heart-mediastinum", 1)),
        "{filled:?}"
    );
    let effusion = structured.codes.iter().find(|it| it.concept.is("pleural_effusion")).unwrap();
    assert_eq!(effusion.code.unwrap().value, "60046008");
    let text = structured.text();
    assert!(text.contains("(60046008, SCT, \"Pleural effusion\")") && text.contains("Missing: Comparison"), "{text}");
}

const MRRT: &str = r#"<!DOCTYPE html>
<html><head><title>Chest</title><meta charset="UTF-8"><meta name="dcterms.identifier" content="urn:example:1">
<meta name="dcterms.language" content="en">
<script type="text/xml"><template_attributes><coded_content>
<entry ORIGTXT="T1"><term type="procedure"><code meaning="CT Chest Report" value="24627-2" scheme="LOINC"></code></term></entry>
</coded_content></template_attributes></script></head><body>
<section id="clinicalInformation" class="level1" data-section-name="Clinical Information"><p>
<label for="ci">Clinical information:</label><textarea id="ci" data-field-completion-action="NONE"></textarea></p></section>
<section id="findings" data-section-name="Findings"><header class="level1">Findings</header><p>
<label for="lungs">Lungs:</label><input id="lungs" type="text" data-field-type="TEXT" data-field-completion-action="PROHIBIT"/>
<label for="n">Nodule size:</label><input id="n" type="number" data-field-type="NUMBER"/>
<label for="eff">Effusion</label><select id="eff" required><option>None</option><option>Pleural effusion</option></select>
</p></section>
<section id="impression" data-section-name="Impression"><textarea id="imp" title="Impression"></textarea></section>
</body></html>"#;

#[test]
fn mrrt_is_read() {
    let template = Template::read(MRRT).unwrap();
    assert_eq!((template.id.as_str(), template.title.as_str()), ("urn:example:1", "Chest"));
    assert_eq!(template.procedure.as_ref().map(|it| (it.scheme.as_str(), it.value.as_str())), Some(("LN", "24627-2")));
    let items: Vec<_> = template.items.iter().map(|it| (it.id.as_str(), it.section, it.required)).collect();
    assert_eq!(
        items,
        [
            ("ci", SectionKind::Indication, false),
            ("lungs", SectionKind::Findings, true),
            ("n", SectionKind::Findings, false),
            ("eff", SectionKind::Findings, true),
            ("imp", SectionKind::Impression, false),
        ]
    );
    let structured = structure(REPORT, &template, Language::ENGLISH);
    assert!(structured.missing.is_empty(), "{:?}", structured.items);
    let without = structure("FINDINGS: The heart is normal.", &template, Language::ENGLISH);
    assert_eq!(without.missing, ["Lungs", "Effusion"]);
}

#[test]
fn what_is_no_template_is_refused() {
    for (text, wanted) in [
        ("{", "not a template"),
        ("<html></html>", "no items"),
        ("{\"id\":\"a\",\"title\":\"b\",\"items\":[]}", "no items"),
        (
            "{\"id\":\"a\",\"title\":\"b\",\"items\":[{\"id\":\"i\",\"label\":\"l\",\"section\":\"findings\",\"concepts\":[\"x\"]}]}",
            "\"x\"",
        ),
    ] {
        let error = Template::read(text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    assert!(matches!(Template::read(&" ".repeat(LARGEST + 1)), Err(TemplateError::TooLarge(_))));
}
