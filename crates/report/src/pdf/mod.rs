//! The draft as an Encapsulated PDF (PS3.3 A.45.1): for sites whose archive shows no structured reports.

mod font;
mod page;

use dataset::tags;
use dicom_core::VR;

use crate::{
    Error,
    codes::DIAGNOSTIC_IMAGING_REPORT,
    content::code_item,
    document::{Document, Provenance, Source},
    draft::Draft,
    header::{self, put_moment},
    heatmap::Raster,
    references::{Place, reference},
    text,
    uids::Kind,
};
use page::{Block, Head};

/// A heading with its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// A paragraph each.
    pub lines: Vec<String>,
}

/// A figure behind the text.
#[derive(Debug, Clone, Copy)]
pub struct Figure<'a> {
    /// The picture.
    pub picture: &'a Raster,
    /// The line below it.
    pub caption: &'a str,
}

/// The sections of a draft, and how it was made.
pub fn sections(draft: &Draft, provenance: &Provenance, inputs: usize) -> Vec<Section> {
    let made = ("How this draft was made", text::provenance_lines(provenance, Some(inputs)));
    let section = |(heading, lines): (&str, Vec<String>)| Section { heading: heading.to_owned(), lines };
    text::sections(draft).into_iter().chain([made]).map(section).collect()
}

/// The sections and figures as a PDF in its own DICOM object. Errors as for every document, and when a figure cannot be
/// compressed.
pub fn report(
    sections: &[Section],
    figures: &[Figure<'_>],
    source: &Source<'_>,
    provenance: &Provenance,
) -> Result<Document, Error> {
    const TITLE: &str = "AI DRAFT report - not verified";
    // The text of the pages is the PDF's own: it does not decide the character set of the object.
    let mut object = header::begin(Kind::Pdf, source, provenance, &[])?;
    let head = Head { warning: "AI DRAFT - NOT VERIFIED BY A RADIOLOGIST".to_owned(), lines: patient(source) };
    let notice = text::first_line(provenance);
    let mut blocks = vec![Block::Line(&notice)];
    for section in sections {
        blocks.push(Block::Heading(&section.heading));
        blocks.extend(section.lines.iter().map(|line| Block::Line(line)));
    }
    blocks.extend(figures.iter().map(|figure| Block::Figure { picture: figure.picture, caption: figure.caption }));
    let identity = object.derivation.instance(Kind::Pdf);
    let pdf = page::pdf(TITLE, &head, &blocks, identity.as_str().as_bytes())?;

    let to = &mut object.data_set;
    let time = &provenance.content_time;
    put_moment(to, (tags::CONTENT_DATE, tags::CONTENT_TIME), time);
    to.put_bytes(tags::ACQUISITION_DATE_TIME, VR::DT, "");
    to.put_bytes(tags::CONVERSION_TYPE, VR::CS, "WSD");
    to.put_bytes(tags::BURNED_IN_ANNOTATION, VR::CS, "YES");
    to.put_bytes(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    to.put_bytes(tags::DOCUMENT_TITLE, VR::ST, TITLE);
    to.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code_item(&DIAGNOSTIC_IMAGING_REPORT)]);
    to.put_bytes(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, VR::LO, "application/pdf");
    let sources: std::collections::BTreeSet<Place<'_>> = source.evidence.iter().map(Place::from).collect();
    to.put_items(
        tags::SOURCE_INSTANCE_SEQUENCE,
        sources.into_iter().map(|place| reference(place.class, place.instance)).collect(),
    );
    let length = u32::try_from(pdf.len()).map_err(|_| Error::TooLong { tag: tags::ENCAPSULATED_DOCUMENT })?;
    to.put_bytes(tags::ENCAPSULATED_DOCUMENT_LENGTH, VR::UL, length.to_le_bytes());
    to.put_bytes(tags::ENCAPSULATED_DOCUMENT, VR::OB, pdf);
    object.finish()
}

/// Patient and study as the head of a page says them, decoded from the source's character set.
fn patient(source: &Source<'_>) -> Vec<String> {
    let header = &source.representative.header;
    let value = |tag| header.character_set().clean(header.raw(tag).unwrap_or_default(), false).text.trim().to_owned();
    // Alphabetic, ideographic and phonetic form, each with its parts in the order of the standard.
    let name = value(tags::PATIENT_NAME);
    let forms =
        name.split('=').map(|form| form.split('^').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "));
    let name: Vec<String> = forms.filter(|form| !form.is_empty()).collect();
    let labelled = |label: &str, value: String| (!value.is_empty()).then(|| format!("{label}: {value}"));
    let line = |parts: Vec<Option<String>>| parts.into_iter().flatten().collect::<Vec<_>>().join("    ");
    let patient = line(vec![
        labelled("Patient", name.join("  =  ")),
        labelled("ID", value(tags::PATIENT_ID)),
        labelled("Born", value(tags::PATIENT_BIRTH_DATE)),
        labelled("Sex", value(tags::PATIENT_SEX)),
    ]);
    let study = line(vec![
        labelled("Accession", value(tags::ACCESSION_NUMBER)),
        labelled("Study", value(tags::STUDY_DESCRIPTION)),
        labelled("Date", value(tags::STUDY_DATE)),
    ]);
    [patient, study].into_iter().filter(|line| !line.is_empty()).collect()
}
