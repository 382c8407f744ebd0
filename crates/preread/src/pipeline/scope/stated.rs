//! What an image states of itself and its patient, wherever DICOM has a place for it.

use std::{collections::BTreeSet, path::Path};

use dataset::{Header, Instance, Limits, tags};
use pixel::View;

use super::words;

/// What is stated of an image. Descriptions are no statements.
pub(crate) struct Stated {
    /// Modality (0008,0060).
    pub(super) modality: Option<String>,
    /// Modalities of the images of its SOP class; nothing where images of any are.
    pub(super) modalities_of_class: Option<&'static [&'static str]>,
    /// By Body Part Examined (0018,0015) and Anatomic Region Sequence (0008,2218), of the image or of its frames.
    pub(super) body_parts: BTreeSet<String>,
    /// By View Position (0018,5101) and View Code Sequence (0054,0220).
    pub(super) views: BTreeSet<String>,
    pub(super) view: View,
    /// The views that Patient Orientation (0020,0020) leaves possible; nothing where it does not tell.
    pub(super) possible_views: Option<&'static [&'static str]>,
    /// Patient's Sex (0010,0040).
    pub(super) sex: Option<&'static str>,
    /// Patient's Age (0010,1010), and what the birth date says: in years, from and to.
    pub(super) ages: Vec<(f64, f64)>,
}

impl Stated {
    /// Of a header and, where `sequences` are asked for, what its file has before the pixels.
    pub(crate) fn of(header: &Header, path: &Path, limits: &Limits, sequences: bool) -> Self {
        // What cannot be parsed states what its header does; whether it can be read turns out later.
        let front = sequences.then(|| Instance::open_front(path, limits).ok()).flatten();
        let front = front.as_ref();
        let modality = header.text(tags::MODALITY).map(|text| text.trim().to_uppercase()).filter(|it| !it.is_empty());
        let modalities_of_class = modalities_of_class(header.sop_class_uid.as_str());
        let breast = modality.as_deref() == Some("MG") || modalities_of_class == Some(&["MG"]);
        let mut view = View::of(header, front);
        view.breast = breast;
        let views: BTreeSet<String> = views(header, front).into_iter().collect();
        let possible_views = possible_views(header).filter(|_| !breast);
        let mut body_parts = body_parts(header, front);
        if body_parts.is_empty() && breast {
            body_parts.insert("BREAST".to_owned());
        }
        Self {
            modality,
            modalities_of_class,
            body_parts,
            views,
            view,
            possible_views,
            sex: sex(header),
            ages: ages(header),
        }
    }
}

/// The modalities of the images of a SOP class, the usual deviations too.
fn modalities_of_class(uid: &str) -> Option<&'static [&'static str]> {
    let number = uid.strip_prefix("1.2.840.10008.5.1.4.1.1.")?;
    Some(match number {
        "1" => &["CR", "DX", "DR", "RG", "MG", "IO", "PX"],
        "1.1" | "1.1.1" => &["DX", "CR", "DR", "RG", "PX"],
        "1.2" | "1.2.1" | "13.1.3" | "13.1.4" | "13.1.5" => &["MG"],
        "1.3" | "1.3.1" => &["IO"],
        "2" | "2.1" | "2.2" => &["CT"],
        "4" | "4.1" | "4.3" | "4.4" => &["MR"],
        "3" | "3.1" | "6" | "6.1" | "6.2" => &["US", "IVUS"],
        "12.1" | "12.1.1" | "12.2" | "12.2.1" => &["XA", "RF"],
        "20" => &["NM"],
        "128" | "128.1" | "130" => &["PT"],
        _ => return None,
    })
}

/// Body parts, as they are compared.
fn body_parts(header: &Header, front: Option<&Instance>) -> BTreeSet<String> {
    let mut found: BTreeSet<String> =
        header.texts(tags::BODY_PART_EXAMINED).iter().filter_map(|text| words::body_part(text)).collect();
    let Some(front) = front else { return found };
    let groups = [tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE];
    let of_frames = groups.map(|group| [group, tags::FRAME_ANATOMY_SEQUENCE, tags::ANATOMIC_REGION_SEQUENCE]);
    let of_frames = of_frames.iter().flat_map(|path| front.codes(path));
    for region in front.codes(&[tags::ANATOMIC_REGION_SEQUENCE]).into_iter().chain(of_frames) {
        let by_code = words::body_part_of_code(&region.value).map(str::to_owned);
        // A code of somebody's own has a meaning in words.
        let by_meaning = || words::body_part(&region.meaning).filter(|part| words::is_known(part));
        found.extend(by_code.or_else(by_meaning));
    }
    found
}

/// Views of a projection, as they are compared.
fn views(header: &Header, front: Option<&Instance>) -> Vec<String> {
    let mut found: Vec<String> =
        header.texts(tags::VIEW_POSITION).iter().filter_map(|text| words::view(text)).collect();
    let codes = front.map(|front| front.codes(&[tags::VIEW_CODE_SEQUENCE])).unwrap_or_default();
    found.extend(codes.iter().filter_map(|code| pixel::view_of_code(&code.value)).map(str::to_owned));
    found
}

/// What Patient Orientation leaves possible: the letters of rows and columns say which way the beam went.
fn possible_views(header: &Header) -> Option<&'static [&'static str]> {
    let texts = header.texts(tags::PATIENT_ORIENTATION);
    let [row, column] = texts.as_slice() else { return None };
    // More letters than one are an oblique direction.
    let axis = |letters: &String| match letters.as_str() {
        "L" | "R" => Some(0),
        "A" | "P" => Some(1),
        "H" | "F" => Some(2),
        _ => None,
    };
    match (axis(row)?, axis(column)?) {
        (0, 2) | (2, 0) => Some(&["PA", "AP"]),
        (1, 2) | (2, 1) => Some(&["LL", "RL"]),
        (0, 1) | (1, 0) => Some(&["AXIAL"]),
        _ => None,
    }
}

fn sex(header: &Header) -> Option<&'static str> {
    match header.text(tags::PATIENT_SEX)?.trim().to_uppercase().as_str() {
        "F" | "FEMALE" => Some("F"),
        "M" | "MALE" => Some("M"),
        "O" | "OTHER" => Some("O"),
        _ => None,
    }
}

/// No patient is older, in years; a greater age, such as 999, stands for one that is not known.
const OLDEST: f64 = 125.0;

/// A birth date that de-identification writes.
const PLACEHOLDERS: &[&str] = &["19000101", "00010101", "11111111", "99991231"];

fn ages(header: &Header) -> Vec<(f64, f64)> {
    let stated = header.text(tags::PATIENT_AGE).and_then(|text| age(text.trim()));
    let dates = [tags::STUDY_DATE, tags::SERIES_DATE, tags::ACQUISITION_DATE, tags::CONTENT_DATE];
    let taken = dates.iter().find_map(|tag| date(&header.text(*tag)?));
    let born = header.text(tags::PATIENT_BIRTH_DATE).filter(|text| !PLACEHOLDERS.contains(&text.trim()));
    let born = born.and_then(|text| date(&text));
    let by_dates = born.zip(taken).map(|(born, taken)| between(born, taken));
    let plausible = |(low, high): &(f64, f64)| *high > 0.0 && *low < OLDEST;
    stated.into_iter().chain(by_dates).filter(plausible).collect()
}

/// Years, from and to, of `045Y`, `006M`, `012W`, `003D`.
fn age(text: &str) -> Option<(f64, f64)> {
    let unit = text.chars().next_back()?;
    let number: f64 = text.strip_suffix(unit)?.trim().parse::<u32>().ok()?.into();
    let in_a_year = match unit.to_ascii_uppercase() {
        'Y' => 1.0,
        'M' => 12.0,
        'W' => 52.18,
        'D' => 365.25,
        _ => return None,
    };
    Some((number / in_a_year, (number + 1.0) / in_a_year))
}

/// Year, month and day; those that are not known are 0. Old data sets write `1940.01.31`.
fn date(text: &str) -> Option<[i32; 3]> {
    let digits: String = text.trim().chars().filter(|letter| !matches!(letter, '.' | '-')).collect();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| digits.get(from..to).map_or(Some(0), |part| part.parse().ok());
    let [year, month, day] = [digits.get(..4)?.parse().ok()?, part(4, 6)?, part(6, 8)?];
    (year > 0 && month <= 12 && day <= 31).then_some([year, month, day])
}

/// Years from birth to the study, from and to: less than a day apart where both dates are whole.
fn between(born: [i32; 3], taken: [i32; 3]) -> (f64, f64) {
    let years = f64::from(taken[0] - born[0]);
    if [born, taken].iter().any(|date| date[1] == 0 || date[2] == 0) {
        return (years - 1.0, years + 1.0);
    }
    // Days of 31 to a month keep the order of dates, and a birthday is a whole number.
    let days = |date: [i32; 3]| f64::from((date[1] - 1) * 31 + date[2] - 1);
    let low = years + (days(taken) - days(born)) / 372.0;
    (low, low + 0.5 / 372.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_from_their_statement_and_from_dates() {
        let close = |found: Option<(f64, f64)>, low: f64| {
            assert!(found.is_some_and(|it| (it.0 - low).abs() < 0.01), "{found:?} {low}")
        };
        close(age("045Y"), 45.0);
        close(age("6M"), 0.5);
        close(age("052w"), 1.0);
        for nothing in ["", "45", "Y", "abcY", "-01Y", "045X"] {
            assert_eq!(age(nothing), None, "{nothing:?}");
        }
        let check = |born: &str, taken: &str, low: f64, high: f64| {
            let found = between(date(born).unwrap(), date(taken).unwrap());
            assert!(found.0 >= low && found.1 <= high, "{born} {taken}: {found:?}");
        };
        check("20080615", "20260614", 17.9, 18.0);
        check("20080615", "20260615", 18.0, 18.1);
        check("20201131", "20261130", 5.9, 6.0);
        check("1940.01.01", "20261122", 86.0, 87.0);
        check("2008", "20260615", 17.0, 19.0);
        for nothing in ["", "abc", "19", "20261301"] {
            assert_eq!(date(nothing), None, "{nothing:?}");
        }
    }
}
