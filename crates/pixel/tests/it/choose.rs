use crate::references::{open_header, set};

/// What is chosen of the test set's own series, segmentation and documents.
#[test]
fn a_study_of_everything() {
    let Some(set) = set() else { return };
    let names = [
        "nonimage/reportsi.dcm",
        "series_ct_liver/03.dcm",
        "series_ct_liver/seg_liver.dcm",
        "series_ct_liver/01.dcm",
        "us/us_burned_in_grey.dcm",
        "series_ct_liver/02.dcm",
        "nonimage/encapsulated_pdf.dcm",
        "colour/TestPattern_RGB.dcm",
        "video/mpeg2_mp_ml.dcm",
        "cr/966_fixed.dcm",
    ];
    let headers: Vec<_> = names.iter().map(|name| open_header(&set, name)).collect();
    let refs: Vec<_> = headers.iter().collect();
    let selection = pixel::choose(&refs);
    let mut chosen: Vec<&str> = selection.chosen.iter().map(|index| names[*index]).collect();
    // The series come from several studies, so only the order within a series is meaningful.
    let liver: Vec<&str> = chosen.iter().copied().filter(|name| name.starts_with("series_ct_liver")).collect();
    assert_eq!(liver, ["series_ct_liver/01.dcm", "series_ct_liver/02.dcm", "series_ct_liver/03.dcm"]);
    chosen.retain(|name| !name.starts_with("series_ct_liver"));
    assert_eq!(chosen, ["cr/966_fixed.dcm"]);
    assert_eq!(selection.chosen.len() + selection.skipped.len(), names.len());
}
