//! Every document of one reading, made from an image as the pipeline makes them.

use dataset::{Header, Instance, Limits};
use report::{
    CodedFindings, Completion, ContentTime, Document, Draft, EvidenceItem, Grid, Kind, LocalizedFinding, ModelText,
    Presence, Provenance, Region, Shape, Source, StudyFinding, Trust, codes,
    heatmap::{FindingMap, Picture, Raster, draw, secondary_capture},
    key_objects::key_objects,
    localized::{Certainty, Measurement},
    parse, pdf,
    presentation::presentation_state,
    rejection::rejection_note,
    sr::{MeasurementClass, MeasurementOptions, Options, TextClass, measurement_report, results_report, text_report},
};

const TEXT: &str = "INDICATION: Cough.\nTECHNIQUE: Two views.\nCOMPARISON: Whatever there was.\n\
                    FINDINGS: Large nodule in the left upper zone. Small right pleural effusion. No pneumothorax. \
                    The heart is enlarged. Endotracheal tube in place. An odd sentence.\n\
                    RECOMMENDATIONS: Call the ward.";

pub(crate) fn draft() -> Draft {
    parse(&ModelText { text: TEXT, tokens: Vec::new(), grid: None })
}

pub(crate) fn provenance(notice: &str) -> Provenance {
    Provenance {
        model_name: "phantom-cxr".to_owned(),
        model_version: "1.0".to_owned(),
        model_digest: "sha256:4a44dc15364204a80fe80e9039455cc1608281820fe2b24f1e5233ade6af1dd5".to_owned(),
        notice: Some(notice.to_owned()),
        prompt_id: "report-1".to_owned(),
        settings: "greedy, 128 tokens, float32".to_owned(),
        settings_digest: None,
        rule: "chest radiographs".to_owned(),
        version: 1,
        device_uid: "2.25.123456789".parse().expect("a UID"),
        device_serial: "4711".to_owned(),
        software_version: "0.0.0".to_owned(),
        udi: None,
        content_time: "20260801101500".parse::<ContentTime>().expect("a time"),
    }
}

/// ASCII, so that the source's character set and bytes stay.
pub(crate) const PLAIN: &str = "Demonstration model. Not for clinical use.";
/// Not ASCII, so that everything becomes UTF-8.
pub(crate) const FOREIGN: &str = "Vorführmodell. Nicht für die Klinik. 展示";

pub(crate) fn evidence(header: &Header) -> EvidenceItem {
    EvidenceItem {
        series_instance_uid: header.series_instance_uid.clone(),
        sop_class_uid: header.sop_class_uid.clone(),
        sop_instance_uid: header.sop_instance_uid.clone(),
        digest: "00".repeat(32),
    }
}

/// An image of which there was a draft before, with documents of two kinds.
fn source(instance: &Instance) -> Source<'_> {
    let earlier = |kind: Kind, uid: &str| {
        let item = EvidenceItem {
            series_instance_uid: format!("{uid}.1").parse().expect("a UID"),
            sop_class_uid: kind.sop_class_uid().parse().expect("a UID"),
            sop_instance_uid: uid.parse().expect("a UID"),
            digest: String::new(),
        };
        (kind, item)
    };
    let predecessors = vec![earlier(Kind::BasicTextReport, "2.25.11"), earlier(Kind::Measurements3D, "2.25.12")];
    Source { representative: instance, evidence: vec![evidence(&instance.header)], predecessors }
}

pub(crate) fn document(instance: &Instance, notice: &str, class: TextClass) -> Document {
    let source = source(instance);
    let options = Options { class, completion: Completion::Complete, clinical_information: Some("Cough.".to_owned()) };
    text_report(&draft(), &source, &provenance(notice), &options).expect("a document")
}

fn picture() -> Raster {
    let grid = Grid { rows: 2, columns: 2, values: vec![0.0, 1.0, 0.0, 0.0] };
    let pixels = vec![100; 120 * 90];
    let picture = Picture::Grey { width: 120, height: 90, pixels: &pixels };
    draw(&picture, &[FindingMap { grid: &grid, area: None, label: "Large nodule in the left upper zone." }])
        .expect("a picture")
}

/// The corners of the region that every reading has.
pub(crate) const REGION: [[f32; 2]; 4] = [[30.5, 20.0], [60.0, 20.0], [60.0, 50.25], [30.5, 50.25]];
/// Its diameter, in more digits than a decimal string has.
pub(crate) const DIAMETER: f64 = 26.245_678_901_234_567;

fn concept(name: &str) -> report::Concept {
    report::Concept::all().find(|concept| concept.name() == name).expect("a concept")
}

/// A nodule at its place, an effusion that is there and a pneumothorax that is not.
pub(crate) fn findings(header: &Header) -> CodedFindings {
    let certainty = |percent| Some(Certainty { percent });
    let study = |name: &str, presence, percent| StudyFinding {
        label: name.to_owned(),
        finding: concept(name).code().expect("a code"),
        presence,
        site: None,
        laterality: None,
        certainty: certainty(percent),
    };
    let diameter =
        Measurement { name: codes::DIAMETER, value: DIAMETER, unit: codes::MILLIMETRE, trust: Trust::AtDetector };
    let multi_frame = header.text(dataset::tags::NUMBER_OF_FRAMES).is_some_and(|frames| frames.trim() != "1");
    CodedFindings {
        localized: vec![LocalizedFinding {
            label: "Nodule 1".to_owned(),
            finding: concept("nodule").code().expect("a code"),
            site: Some(codes::LUNG),
            laterality: Some(codes::LEFT),
            region: Region::new(&evidence(header), multi_frame.then_some(1), Shape::Polygon(REGION.to_vec())),
            measurements: vec![diameter],
            certainty: certainty(72.0),
        }],
        study: vec![study("pleural effusion", Presence::Present, 93.0), study("pneumothorax", Presence::Absent, 1.0)],
    }
}

/// One document of each kind that can be made of the image: a presentation state only of a grey one.
pub(crate) fn all(instance: &Instance, notice: &str) -> Vec<Document> {
    let source = source(instance);
    let (provenance, findings) = (provenance(notice), findings(&instance.header));
    let completion = Completion::Complete;
    let picture = picture();
    let heat_map = secondary_capture(&picture, None, &source, &provenance).expect("a heat map");
    let measured = |class| {
        let options = MeasurementOptions { class, completion: completion.clone(), heat_map: Some(&heat_map) };
        measurement_report(&findings, &source, &provenance, &options).expect("a report").expect("a report")
    };
    let figure = pdf::Figure { picture: &picture, caption: "What the model attended to." };
    let sections = pdf::sections(&draft(), &provenance, 1);
    let mut documents = vec![
        document(instance, notice, TextClass::BasicText),
        document(instance, notice, TextClass::Enhanced),
        measured(MeasurementClass::Comprehensive3D),
        measured(MeasurementClass::Comprehensive),
        results_report(&findings, &source, &provenance, &completion).expect("a report").expect("a report"),
        pdf::report(&sections, &[figure], &source, &provenance).expect("a PDF"),
        key_objects(findings.localized.iter().map(|it| &it.region), Some(&heat_map), &source, &provenance).expect("KO"),
    ];
    documents.extend(presentation_state(&findings.localized, &[instance], &source, &provenance).expect("PR"));
    documents.push(heat_map);
    documents.push(withdrawn(&documents, &provenance));
    documents
}

/// What takes all of these back, of the patient that they were filed under.
fn withdrawn(documents: &[Document], provenance: &Provenance) -> Document {
    let of = Instance::from_bytes(&documents[0].file, &Limits::default()).expect("it is read back");
    let item = |document: &Document| EvidenceItem {
        series_instance_uid: document.series_instance_uid.clone(),
        sop_class_uid: document.sop_class_uid.clone(),
        sop_instance_uid: document.sop_instance_uid.clone(),
        digest: String::new(),
    };
    let source =
        Source { representative: &of, evidence: documents.iter().map(item).collect(), predecessors: Vec::new() };
    rejection_note(&source, "the wrong patient's images were among them", provenance).expect("a note")
}

/// The name that dciodvfy has for the object of a kind.
pub(crate) fn iod(kind: Kind) -> &'static str {
    match kind {
        Kind::BasicTextReport => "BasicTextSR",
        Kind::EnhancedTextReport => "EnhancedSR",
        Kind::Measurements3D | Kind::Results => "Comprehensive3DSR",
        Kind::Measurements => "ComprehensiveSR",
        Kind::Pdf => "EncapsulatedPDF",
        Kind::HeatMap => "SCImage",
        Kind::KeyObjects | Kind::RejectionNote => "KeyObjectSelectionDocument",
        Kind::Presentation => "GrayscaleSoftcopyPresentationState",
    }
}
