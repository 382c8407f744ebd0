//! The distance between pixels, with what it was measured on: a measurement is as good as that.

use dataset::{Instance, tags};
use dicom_object::InMemDicomObject;

use crate::{
    Error,
    groups::{functional_group, numbers, text},
    mapping::Area,
    series::value,
};

/// Which attribute a pixel spacing comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpacingSource {
    /// Pixel Spacing (0028,0030).
    PixelSpacing,
    /// Imager Pixel Spacing (0018,1164), through Estimated Radiographic Magnification Factor (0018,1114) or the distances
    /// that it is the quotient of, when they are there.
    ImagerPixelSpacing,
    /// Nominal Scanned Pixel Spacing (0018,2010).
    NominalScannedPixelSpacing,
    /// Physical Delta X and Y of the only kind of region that shows tissue (0018,6011).
    UltrasoundRegion,
}

/// Where a pixel spacing holds, and so how far a length measured with it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// In the patient: a cross section, or ultrasound at the speed of sound that the device assumed.
    AtPatient,
    /// In a projection, at the depth whose magnification the device knew or assumed.
    CalibratedByGeometry,
    /// In a projection, at the depth of an object of known size.
    CalibratedByFiducial,
    /// In a projection, corrected in a way that is not stated: it differs from the spacing at the detector.
    Calibrated,
    /// At the detector: a projection magnifies, so a true length is shorter.
    AtDetector,
    /// On the film that was scanned, which magnifies likewise.
    OnFilm,
    /// Not stated, or contradicted by the image: good for proportions only.
    Unknown,
}

/// The distance between the centres of neighbouring pixels.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct PixelSpacing {
    /// Between rows, in mm.
    pub row: f64,
    /// Between columns, in mm.
    pub column: f64,
    /// Which attribute says so.
    pub source: SpacingSource,
    /// Where it holds.
    pub trust: Trust,
}

/// A region of an ultrasound image (PS3.3 C.8.5.5) that shows tissue in two dimensions of known scale.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct UltrasoundRegion {
    /// Where it is, in pixels.
    pub area: Area,
    /// From row to row, in mm.
    pub row: f64,
    /// From column to column, in mm.
    pub column: f64,
    /// Whether it lies within the image. One that does not was written before the image was made smaller, and its scale
    /// is that of the larger one.
    pub fits: bool,
}

/// The pixel spacing of a frame, counted from 0; nothing where the file states none. Errors with [`Error::Malformed`]
/// when a stated one is no number.
pub(crate) fn pixel_spacing(instance: &Instance, frame: u32) -> Result<Option<PixelSpacing>, Error> {
    let top_level: &InMemDicomObject = instance.object();
    if let Some(measures) = functional_group(instance, frame, tags::PIXEL_MEASURES_SEQUENCE)
        && let Some((row, column)) = pair(measures, tags::PIXEL_SPACING)?
    {
        return Ok(Some(PixelSpacing { row, column, source: SpacingSource::PixelSpacing, trust: Trust::AtPatient }));
    }
    let imager = pair(top_level, tags::IMAGER_PIXEL_SPACING)?;
    if let Some((row, column)) = pair(top_level, tags::PIXEL_SPACING)? {
        let trust = trust_in_pixel_spacing(instance, (row, column), imager);
        return Ok(Some(PixelSpacing { row, column, source: SpacingSource::PixelSpacing, trust }));
    }
    if let Some(spacing) = of_regions(&ultrasound_regions(instance)) {
        return Ok(Some(spacing));
    }
    if let Some((row, column)) = imager {
        let factor = magnification(top_level);
        let trust = if factor.is_some() { Trust::CalibratedByGeometry } else { Trust::AtDetector };
        let factor = factor.unwrap_or(1.0);
        let source = SpacingSource::ImagerPixelSpacing;
        return Ok(Some(PixelSpacing { row: row / factor, column: column / factor, source, trust }));
    }
    let scanned = pair(top_level, tags::NOMINAL_SCANNED_PIXEL_SPACING)?;
    let source = SpacingSource::NominalScannedPixelSpacing;
    Ok(scanned.map(|(row, column)| PixelSpacing { row, column, source, trust: Trust::OnFilm }))
}

/// How much larger a projection is than what it shows, at the depth that its distances are taken at (PS3.3 C.8.7.5.1.2 and
/// C.8.11.7): never smaller.
fn magnification(item: &InMemDicomObject) -> Option<f64> {
    let stated = value(item, tags::ESTIMATED_RADIOGRAPHIC_MAGNIFICATION_FACTOR).filter(|factor| *factor > 0.0);
    stated.or_else(|| {
        let to_patient = value(item, tags::DISTANCE_SOURCE_TO_PATIENT).filter(|distance| *distance > 0.0)?;
        let quotient = value(item, tags::DISTANCE_SOURCE_TO_DETECTOR)? / to_patient;
        (quotient.is_finite() && quotient >= 1.0).then_some(quotient)
    })
}

/// Between rows and between columns; nothing unless both are positive.
fn pair(item: &InMemDicomObject, tag: dataset::Tag) -> Result<Option<(f64, f64)>, Error> {
    Ok(match numbers(item, tag, "a pixel spacing")?.as_deref() {
        Some(&[row, column, ..]) if row > 0.0 && column > 0.0 => Some((row, column)),
        _ => None,
    })
}

/// What Pixel Spacing means depends on the kind of image (PS3.3 10.7.1.3): in a projection it is worth what Pixel Spacing
/// Calibration Type (0028,0A02) says, or its difference from Imager Pixel Spacing.
fn trust_in_pixel_spacing(instance: &Instance, spacing: (f64, f64), imager: Option<(f64, f64)>) -> Trust {
    match text(instance.object(), tags::PIXEL_SPACING_CALIBRATION_TYPE).as_deref() {
        Some("GEOMETRY") => return Trust::CalibratedByGeometry,
        Some("FIDUCIAL") => return Trust::CalibratedByFiducial,
        _ => {}
    }
    if let Some(imager) = imager {
        let same = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b;
        let equal = same(spacing.0, imager.0) && same(spacing.1, imager.1);
        return if equal { Trust::AtDetector } else { Trust::Calibrated };
    }
    let modality = instance.header.modality();
    let crosses = ["CT", "MR", "PT", "NM", "US", "OPT"].contains(&modality.as_str());
    if crosses || instance.element(tags::IMAGE_ORIENTATION_PATIENT).is_some() {
        Trust::AtPatient
    } else {
        Trust::Unknown
    }
}

/// The regions of an ultrasound image whose scale is a length in both directions. Never fails: what cannot be read is no
/// region.
pub fn ultrasound_regions(instance: &Instance) -> Vec<UltrasoundRegion> {
    const CENTIMETRES: f64 = 3.0;
    const TWO_DIMENSIONS: f64 = 1.0;
    let items = instance.element(tags::SEQUENCE_OF_ULTRASOUND_REGIONS).and_then(|element| element.items());
    let size = |tag| instance.header.integer(tag).unwrap_or(0);
    let region = |item: &InMemDicomObject| {
        let number = |tag| value(item, tag);
        let is = |tag, wanted: f64| number(tag) == Some(wanted);
        if !is(tags::REGION_SPATIAL_FORMAT, TWO_DIMENSIONS)
            || !is(tags::PHYSICAL_UNITS_X_DIRECTION, CENTIMETRES)
            || !is(tags::PHYSICAL_UNITS_Y_DIRECTION, CENTIMETRES)
        {
            return None;
        }
        // A negative delta only says that the axis runs the other way.
        let millimetres = |tag| number(tag).map(|delta| delta.abs() * 10.0).filter(|delta| *delta > 0.0);
        let (column, row) = (millimetres(tags::PHYSICAL_DELTA_X)?, millimetres(tags::PHYSICAL_DELTA_Y)?);
        let (left, top) = (number(tags::REGION_LOCATION_MIN_X0)?, number(tags::REGION_LOCATION_MIN_Y0)?);
        let (right, bottom) = (number(tags::REGION_LOCATION_MAX_X1)?, number(tags::REGION_LOCATION_MAX_Y1)?);
        #[expect(clippy::cast_precision_loss)] // rows and columns
        // Some devices count the last pixel, some stop behind it.
        let fits = right <= size(tags::COLUMNS) as f64 && bottom <= size(tags::ROWS) as f64;
        let area = Area { left, top, width: right - left + 1.0, height: bottom - top + 1.0 };
        Some(UltrasoundRegion { area, row, column, fits })
    };
    items.unwrap_or_default().iter().filter_map(region).collect()
}

/// One scale for the whole image only where all regions have it.
fn of_regions(regions: &[UltrasoundRegion]) -> Option<PixelSpacing> {
    let first = regions.first()?;
    let same = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b;
    let agree = regions.iter().all(|it| same(it.row, first.row) && same(it.column, first.column));
    let trust = if regions.iter().all(|it| it.fits) { Trust::AtPatient } else { Trust::Unknown };
    let source = SpacingSource::UltrasoundRegion;
    agree.then_some(PixelSpacing { row: first.row, column: first.column, source, trust })
}
