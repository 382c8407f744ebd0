use dataset::{Instance, tags};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_object::InMemDicomObject;
use pixel::{Limits, PixelSpacing, RenderOptions, SpacingSource, Trust, render, ultrasound_regions};

use crate::{
    references::set,
    support::{CT, DX, ENHANCED_CT, MG, Made, US_MULTI_FRAME, image},
};

fn spacing(instance: &Instance) -> Option<PixelSpacing> {
    render(instance, 0, &RenderOptions::default(), &Limits::default()).expect("rendered").pixel_spacing
}

#[test]
fn a_spacing_says_where_it_holds() {
    let check = |made: Made, expected: Option<(f64, f64, SpacingSource, Trust)>| {
        let found = spacing(&made.instance()).map(|it| (it.row, it.column, it.source, it.trust));
        assert_eq!(found, expected);
    };
    let (pixel, imager) = (tags::PIXEL_SPACING, tags::IMAGER_PIXEL_SPACING);
    let chest = |values: &[(Tag, &str)]| {
        values.iter().fold(image(DX, "DX", 1), |made, (tag, text)| made.text(*tag, VR::DS, text))
    };
    let kind = |made: Made, text: &str| made.text(tags::PIXEL_SPACING_CALIBRATION_TYPE, VR::CS, text);
    let of_pixel = |trust| Some((0.2, 0.3, SpacingSource::PixelSpacing, trust));
    check(chest(&[]), None);
    check(chest(&[(pixel, "0.0\\0.0")]), None);
    check(chest(&[(pixel, "0.2\\0.3")]), of_pixel(Trust::Unknown));
    check(chest(&[(pixel, "0.2\\0.3"), (imager, "0.2\\0.3")]), of_pixel(Trust::AtDetector));
    check(chest(&[(pixel, "0.2\\0.3"), (imager, "0.25\\0.375")]), of_pixel(Trust::Calibrated));
    check(kind(chest(&[(pixel, "0.2\\0.3")]), "GEOMETRY"), of_pixel(Trust::CalibratedByGeometry));
    check(kind(chest(&[(pixel, "0.2\\0.3"), (imager, "0.2\\0.3")]), "FIDUCIAL"), of_pixel(Trust::CalibratedByFiducial));
    let of_imager = |row, column, trust| Some((row, column, SpacingSource::ImagerPixelSpacing, trust));
    check(chest(&[(imager, "0.2\\0.3")]), of_imager(0.2, 0.3, Trust::AtDetector));
    let magnified = image(MG, "MG", 1).text(imager, VR::DS, "0.1\\0.2");
    let magnified = magnified.text(tags::ESTIMATED_RADIOGRAPHIC_MAGNIFICATION_FACTOR, VR::DS, "2");
    check(magnified, of_imager(0.05, 0.1, Trust::CalibratedByGeometry));
    let distances = |detector, patient| {
        let (from, to) = (tags::DISTANCE_SOURCE_TO_DETECTOR, tags::DISTANCE_SOURCE_TO_PATIENT);
        chest(&[(imager, "0.3\\0.3")]).text(from, VR::DS, detector).text(to, VR::DS, patient)
    };
    check(distances("1600", "800"), of_imager(0.15, 0.15, Trust::CalibratedByGeometry));
    for (detector, patient) in [("1200", "0"), ("1200", ""), ("", "800"), ("800", "1200")] {
        check(distances(detector, patient), of_imager(0.3, 0.3, Trust::AtDetector));
    }
    let film = chest(&[(tags::NOMINAL_SCANNED_PIXEL_SPACING, "0.2\\0.3")]);
    check(film, Some((0.2, 0.3, SpacingSource::NominalScannedPixelSpacing, Trust::OnFilm)));
    check(image(CT, "CT", 1).text(pixel, VR::DS, "0.2\\0.3"), of_pixel(Trust::AtPatient));
    let measures = Made::group(vec![(tags::PIXEL_MEASURES_SEQUENCE, Made::item(pixel, VR::DS, "0.2\\0.3"))]);
    let enhanced = image(ENHANCED_CT, "CT", 1).items(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![measures]);
    check(enhanced, of_pixel(Trust::AtPatient));
}

/// A region of 2 by 2 pixels at the upper left, or as `more` says.
fn region(delta: f64, more: &[(Tag, u32)]) -> InMemDicomObject {
    let words = [
        (tags::REGION_SPATIAL_FORMAT, 1u16),
        (tags::PHYSICAL_UNITS_X_DIRECTION, 3),
        (tags::PHYSICAL_UNITS_Y_DIRECTION, 3),
    ];
    let longs = [
        (tags::REGION_LOCATION_MIN_X0, 0u32),
        (tags::REGION_LOCATION_MIN_Y0, 0),
        (tags::REGION_LOCATION_MAX_X1, 1),
        (tags::REGION_LOCATION_MAX_Y1, 1),
    ];
    let mut item = InMemDicomObject::new_empty();
    for (tag, value) in words {
        let value = more
            .iter()
            .find(|(other, _)| *other == tag)
            .map_or(value, |(_, it)| u16::try_from(*it).expect("a small number"));
        item.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }
    for (tag, value) in longs {
        let value = more.iter().find(|(other, _)| *other == tag).map_or(value, |(_, value)| *value);
        item.put(DataElement::new(tag, VR::UL, PrimitiveValue::from(value)));
    }
    for tag in [tags::PHYSICAL_DELTA_X, tags::PHYSICAL_DELTA_Y] {
        item.put(DataElement::new(tag, VR::FD, PrimitiveValue::from(delta)));
    }
    item
}

#[test]
fn ultrasound_is_measured_in_its_regions() {
    let check = |regions: Vec<InMemDicomObject>, count: usize, expected: Option<(f64, Trust)>| {
        let made = image(US_MULTI_FRAME, "US", 1).items(tags::SEQUENCE_OF_ULTRASOUND_REGIONS, regions);
        let instance = made.instance();
        assert_eq!(ultrasound_regions(&instance).len(), count);
        assert_eq!(spacing(&instance).map(|it| (it.row, it.trust)), expected);
    };
    check(vec![region(0.05, &[])], 1, Some((0.5, Trust::AtPatient)));
    check(vec![region(-0.05, &[])], 1, Some((0.5, Trust::AtPatient)));
    check(vec![region(0.05, &[]), region(0.05, &[])], 2, Some((0.5, Trust::AtPatient)));
    // Two scales are none for the whole image.
    check(vec![region(0.05, &[]), region(0.02, &[])], 2, None);
    // A spectrum of seconds and a region of no scale are no lengths.
    let doppler = region(0.01, &[(tags::PHYSICAL_UNITS_X_DIRECTION, 4)]);
    check(vec![doppler, region(0.05, &[])], 1, Some((0.5, Trust::AtPatient)));
    check(vec![region(0.05, &[(tags::REGION_SPATIAL_FORMAT, 3)])], 0, None);
    check(vec![region(0.0, &[])], 0, None);
    // The image was made smaller after its regions were written.
    check(vec![region(0.05, &[(tags::REGION_LOCATION_MAX_X1, 40)])], 1, Some((0.5, Trust::Unknown)));
}

#[test]
fn the_spacings_of_the_test_set() {
    let Some(set) = set() else { return };
    let check = |name: &str, source: SpacingSource, trust: Trust, column: f64| {
        let instance = Instance::open(&set.join(name), &dataset::Limits::default()).expect("a file of the test set");
        let found = spacing(&instance).expect("a spacing");
        assert_eq!((found.source, found.trust), (source, trust), "{name}");
        assert!((found.column - column).abs() < 1e-5, "{name}: {found:?}");
    };
    check("mg/GH133.dcm", SpacingSource::ImagerPixelSpacing, Trust::CalibratedByGeometry, 0.094_091);
    check("cr/966_fixed.dcm", SpacingSource::PixelSpacing, Trust::AtDetector, 0.16);
    check("series_ct_liver/01.dcm", SpacingSource::PixelSpacing, Trust::AtPatient, 0.810_547);
    check("us/us_burned_in_grey.dcm", SpacingSource::UltrasoundRegion, Trust::AtPatient, 0.064_905);
    check("us/examples_ybr_color.dcm", SpacingSource::UltrasoundRegion, Trust::Unknown, 0.510_497);
}
