//! Grayscale Softcopy Presentation State (PS3.3 A.33.1): the regions drawn over their images, for viewers that show
//! presentation states rather than structured reports.

use dataset::{Instance, tags};
use dicom_core::{Tag, VR};

use crate::{
    Error,
    content::one_line,
    document::{Document, Provenance, Source},
    elements::DataSet,
    header::{self, put_laterality, put_moment},
    localized::{LocalizedFinding, Shape},
    references::{image_reference, presented},
    uids::Kind,
    values::{is_decimal, trimmed},
};

/// Graphic Layer (0070,0002) that everything is drawn on.
const LAYER: &str = "AI DRAFT";

/// The findings drawn over `images`, which are instances that they lie on. The images keep the window and the grey levels
/// that they have by themselves.
///
/// A presentation state has one modality transformation and one sense of black, and knows neither colour nor functional
/// groups: images that differ from the first in these are left out, and none is made where there is nothing left to draw
/// on.
pub fn presentation_state(
    findings: &[LocalizedFinding],
    images: &[&Instance],
    source: &Source<'_>,
    provenance: &Provenance,
) -> Result<Option<Document>, Error> {
    if findings.iter().any(|finding| !finding.region.shape.is_drawable()) {
        return Err(Error::Region);
    }
    let shown = |instance: &Instance| {
        let mut on =
            findings.iter().filter(|finding| finding.region.sop_instance_uid == instance.header.sop_instance_uid);
        on.next().is_some()
    };
    let mut grey: Vec<Grey<'_>> = images.iter().filter(|it| shown(it)).filter_map(|it| Grey::of(it)).collect();
    if let Some(first) = grey.first().map(|first| first.pipeline.clone()) {
        grey.retain(|image| image.pipeline == first);
    }
    let place = |finding: &LocalizedFinding| grey.iter().position(|image| image.is_of(finding));
    let drawn: Vec<(&LocalizedFinding, usize)> = findings.iter().filter_map(|it| Some((it, place(it)?))).collect();
    let Some((first, _)) = drawn.first().map(|(_, image)| (&grey[*image], ())) else { return Ok(None) };

    let labels: Vec<String> = drawn.iter().map(|(finding, _)| label(finding)).collect();
    let own: Vec<&str> = labels.iter().map(String::as_str).collect();
    let mut object = header::begin(Kind::Presentation, source, provenance, &own)?;
    let to = &mut object.data_set;
    let moment = (tags::PRESENTATION_CREATION_DATE, tags::PRESENTATION_CREATION_TIME);
    put_moment(to, moment, &provenance.content_time);
    put_laterality(to, &object.copier, false);
    to.put_bytes(tags::CONTENT_LABEL, VR::CS, "AI_DRAFT");
    to.put_bytes(tags::CONTENT_DESCRIPTION, VR::LO, "Regions of AI findings, not verified");
    to.put_bytes(tags::CONTENT_CREATOR_NAME, VR::PN, "");
    to.put_items(
        tags::REFERENCED_SERIES_SEQUENCE,
        presented(drawn.iter().map(|(finding, _)| (finding.region.place(), finding.region.frame))),
    );
    first.put_pipeline(to);
    let used: Vec<&Grey<'_>> = grey
        .iter()
        .enumerate()
        .filter(|(at, _)| drawn.iter().any(|(_, image)| image == at))
        .map(|(_, it)| it)
        .collect();
    to.put_items(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, used.iter().map(|image| image.displayed_area()).collect());
    let windows: Vec<DataSet> = used.iter().filter_map(|image| image.window()).collect();
    if !windows.is_empty() {
        to.put_items(tags::SOFTCOPY_VOILUT_SEQUENCE, windows);
    }
    let mut layer = DataSet::default();
    layer.put_bytes(tags::GRAPHIC_LAYER, VR::CS, LAYER);
    layer.put_bytes(tags::GRAPHIC_LAYER_ORDER, VR::IS, "1");
    layer.put_bytes(tags::GRAPHIC_LAYER_DESCRIPTION, VR::LO, "Regions of AI findings, not verified");
    to.put_items(tags::GRAPHIC_LAYER_SEQUENCE, vec![layer]);
    let annotations = drawn.iter().zip(&labels).map(|((finding, _), label)| annotation(finding, label));
    to.put_items(tags::GRAPHIC_ANNOTATION_SEQUENCE, annotations.collect());
    object.finish().map(Some)
}

fn label(finding: &LocalizedFinding) -> String {
    format!("{} (AI draft)", one_line(&finding.label))
}

/// A grey image and how its values become grey levels.
struct Grey<'a> {
    instance: &'a Instance,
    pipeline: Pipeline,
    columns: u16,
    rows: u16,
}

/// What a presentation state has once for all of its images.
#[derive(Clone, PartialEq)]
struct Pipeline {
    /// Rescale Intercept, Slope and Type.
    rescale: Option<[Vec<u8>; 3]>,
    /// MONOCHROME1: the lowest value is white.
    inverted: bool,
}

impl<'a> Grey<'a> {
    /// None for an image that cannot stand in a presentation state.
    fn of(instance: &'a Instance) -> Option<Self> {
        let header = &instance.header;
        let photometric = header.text(tags::PHOTOMETRIC_INTERPRETATION)?;
        let inverted = match photometric.trim() {
            "MONOCHROME1" => true,
            "MONOCHROME2" => false,
            _ => return None,
        };
        let elsewhere = [tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, tags::MODALITY_LUT_SEQUENCE, tags::VOILUT_SEQUENCE];
        if elsewhere.iter().any(|tag| instance.element(*tag).is_some()) {
            return None;
        }
        let number = |tag| instance.element(tag)?.to_int::<u16>().ok();
        let (columns, rows) = (number(tags::COLUMNS)?, number(tags::ROWS)?);
        let decimals = |tag| decimals(instance, tag, 1);
        let rescale = decimals(tags::RESCALE_INTERCEPT).zip(decimals(tags::RESCALE_SLOPE)).map(|(intercept, slope)| {
            let legal = |unit: &&[u8]| {
                (1..=16).contains(&unit.len()) && unit.iter().all(|byte| (0x20..0x7f).contains(byte) && *byte != b'\\')
            };
            let unit = header.raw(tags::RESCALE_TYPE).map(trimmed).filter(legal).unwrap_or(b"US");
            [intercept, slope, unit.to_vec()]
        });
        Some(Self { instance, pipeline: Pipeline { rescale, inverted }, columns, rows })
    }

    fn is_of(&self, finding: &LocalizedFinding) -> bool {
        self.instance.header.sop_instance_uid == finding.region.sop_instance_uid
    }

    fn reference(&self) -> DataSet {
        image_reference(&self.instance.header.sop_class_uid, &self.instance.header.sop_instance_uid, None)
    }

    /// Modality LUT and Softcopy Presentation LUT (PS3.3 C.11.1, C.11.6).
    fn put_pipeline(&self, to: &mut DataSet) {
        if let Some([intercept, slope, unit]) = &self.pipeline.rescale {
            to.put_bytes(tags::RESCALE_INTERCEPT, VR::DS, intercept.clone());
            to.put_bytes(tags::RESCALE_SLOPE, VR::DS, slope.clone());
            to.put_bytes(tags::RESCALE_TYPE, VR::LO, unit.clone());
        }
        let shape = if self.pipeline.inverted { "INVERSE" } else { "IDENTITY" };
        to.put_bytes(tags::PRESENTATION_LUT_SHAPE, VR::CS, shape);
    }

    /// Displayed Area (PS3.3 C.10.4): the whole image, its pixels as high and wide as they are.
    fn displayed_area(&self) -> DataSet {
        let mut area = DataSet::default();
        area.put_items(tags::REFERENCED_IMAGE_SEQUENCE, vec![self.reference()]);
        let corner = |column: i32, row: i32| [column.to_le_bytes(), row.to_le_bytes()].concat();
        area.put_bytes(tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER, VR::SL, corner(1, 1));
        let last = corner(i32::from(self.columns), i32::from(self.rows));
        area.put_bytes(tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER, VR::SL, last);
        area.put_bytes(tags::PRESENTATION_SIZE_MODE, VR::CS, "SCALE TO FIT");
        let spacings = [tags::PIXEL_SPACING, tags::IMAGER_PIXEL_SPACING];
        let is_size = |spacing: &Vec<u8>| {
            let number = |part: &[u8]| std::str::from_utf8(trimmed(part)).ok()?.parse::<f64>().ok();
            spacing.split(|byte| *byte == b'\\').all(|part| number(part).is_some_and(|size| size > 0.0))
        };
        match spacings.iter().find_map(|tag| decimals(self.instance, *tag, 2).filter(is_size)) {
            Some(spacing) => area.put_bytes(tags::PRESENTATION_PIXEL_SPACING, VR::DS, spacing),
            None => {
                let ratio = self.instance.header.raw(tags::PIXEL_ASPECT_RATIO).map(trimmed);
                let whole = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
                let valid = |ratio: &&[u8]| {
                    let parts: Vec<&[u8]> = ratio.split(|byte| *byte == b'\\').map(trimmed).collect();
                    parts.len() == 2 && parts.into_iter().all(whole)
                };
                let ratio = ratio.filter(valid).unwrap_or(b"1\\1");
                area.put_bytes(tags::PRESENTATION_PIXEL_ASPECT_RATIO, VR::IS, ratio);
            }
        }
        area
    }

    /// Softcopy VOI LUT (PS3.3 C.11.8): the image's own first window.
    fn window(&self) -> Option<DataSet> {
        let first = |tag| {
            let raw = trimmed(self.instance.header.raw(tag)?);
            let value = trimmed(raw.split(|byte| *byte == b'\\').next()?).to_vec();
            is_decimal(&value).then_some(value)
        };
        let (centre, width) = (first(tags::WINDOW_CENTER)?, first(tags::WINDOW_WIDTH)?);
        let mut window = DataSet::default();
        window.put_items(tags::REFERENCED_IMAGE_SEQUENCE, vec![self.reference()]);
        window.put_bytes(tags::WINDOW_CENTER, VR::DS, centre);
        window.put_bytes(tags::WINDOW_WIDTH, VR::DS, width);
        Some(window)
    }
}

/// `count` decimals as they stand; none for anything else.
fn decimals(instance: &Instance, tag: Tag, count: usize) -> Option<Vec<u8>> {
    let raw = trimmed(instance.header.raw(tag)?);
    let parts: Vec<&[u8]> = raw.split(|byte| *byte == b'\\').map(trimmed).collect();
    (parts.len() == count && parts.iter().all(|part| is_decimal(part))).then(|| raw.to_vec())
}

/// An item of Graphic Annotation Sequence (PS3.3 C.10.5): the outline, and its name where it begins.
fn annotation(finding: &LocalizedFinding, label: &str) -> DataSet {
    let region = &finding.region;
    let (graphic_type, points) = region.shape.graphic();
    let floats = |points: &[[f32; 2]]| points.iter().flatten().flat_map(|it| it.to_le_bytes()).collect::<Vec<u8>>();
    let mut graphic = DataSet::default();
    graphic.put_bytes(tags::GRAPHIC_ANNOTATION_UNITS, VR::CS, "PIXEL");
    graphic.put_bytes(tags::GRAPHIC_DIMENSIONS, VR::US, 2_u16.to_le_bytes());
    let count = u16::try_from(points.len()).unwrap_or(u16::MAX);
    graphic.put_bytes(tags::NUMBER_OF_GRAPHIC_POINTS, VR::US, count.to_le_bytes());
    graphic.put_bytes(tags::GRAPHIC_DATA, VR::FL, floats(&points));
    graphic.put_bytes(tags::GRAPHIC_TYPE, VR::CS, graphic_type);
    if matches!(region.shape, Shape::Polygon(_) | Shape::Ellipse { .. }) {
        graphic.put_bytes(tags::GRAPHIC_FILLED, VR::CS, "N");
    }
    let mut text = DataSet::default();
    text.put_bytes(tags::ANCHOR_POINT_ANNOTATION_UNITS, VR::CS, "PIXEL");
    text.put_bytes(tags::UNFORMATTED_TEXT_VALUE, VR::ST, label);
    text.put_bytes(tags::ANCHOR_POINT, VR::FL, floats(&points[..1]));
    text.put_bytes(tags::ANCHOR_POINT_VISIBILITY, VR::CS, "N");
    let mut annotation = DataSet::default();
    let image = image_reference(&region.sop_class_uid, &region.sop_instance_uid, region.frame);
    annotation.put_items(tags::REFERENCED_IMAGE_SEQUENCE, vec![image]);
    annotation.put_bytes(tags::GRAPHIC_LAYER, VR::CS, LAYER);
    annotation.put_items(tags::TEXT_OBJECT_SEQUENCE, vec![text]);
    annotation.put_items(tags::GRAPHIC_OBJECT_SEQUENCE, vec![graphic]);
    annotation
}
