use super::*;

/// A frontal radiograph of the chest of a man of 45 years that states everything.
fn chest() -> Stated {
    Stated {
        modality: Some("DX".to_owned()),
        modalities_of_class: Some(&["DX", "CR"]),
        body_parts: ["CHEST".to_owned()].into(),
        views: ["PA".to_owned()].into(),
        view: pixel::View { projection: Some("PA".to_owned()), ..pixel::View::default() },
        possible_views: None,
        sex: Some("M"),
        ages: vec![(45.0, 46.0)],
    }
}

fn mammogram(laterality: Option<char>, projection: Option<&str>, modified: bool) -> Stated {
    let projection = projection.map(str::to_owned);
    Stated {
        modality: Some("MG".to_owned()),
        modalities_of_class: Some(&["MG"]),
        body_parts: ["BREAST".to_owned()].into(),
        views: projection.iter().cloned().collect(),
        view: pixel::View { laterality, projection, modified, breast: true },
        ..chest()
    }
}

#[track_caller]
fn check(manifest: &str, image: &Stated, expected: &str) {
    let manifest = Manifest::parse(manifest).unwrap();
    let found = match fit(&manifest, image) {
        Fit::Reads => "reads".to_owned(),
        Fit::Silent(keys) => format!("silent: {}", keys.join("; ")),
        Fit::Otherwise(why) => format!("otherwise: {why}"),
    };
    let holds = if expected == "reads" { found == expected } else { found.starts_with(expected) };
    assert!(holds, "{found:?} does not begin with {expected:?}");
}

const EVERYTHING: &str =
    "modality = ['CR', 'DX']\nbody_part = ['CHEST']\nview = ['PA', 'AP']\nage = [18, 120]\nsex = ['F', 'M']";

#[test]
fn an_image_that_states_otherwise_is_not_read() {
    check("", &chest(), "reads");
    check(EVERYTHING, &chest(), "reads");
    check("modality = ['cr']", &chest(), "otherwise: its modality is DX");
    let other_class = Stated { modalities_of_class: Some(&["CT"]), ..chest() };
    check("modality = ['CR', 'DX']", &other_class, "otherwise: it is an image of another modality");
    for (manifest, part, expected) in [
        (EVERYTHING, "KNEE", "otherwise: its body part is KNEE, and the model reads CHEST"),
        (EVERYTHING, "SMITH", "otherwise: its body part is no term of the standard"),
        ("body_part = ['Thorax']", "CHEST", "reads"),
        ("body_part = ['HAND', 'KNEE']", "KNEE", "reads"),
    ] {
        check(manifest, &Stated { body_parts: [part.to_owned()].into(), ..chest() }, expected);
    }
    let two = Stated { body_parts: ["CHEST".to_owned(), "TIBIA".to_owned()].into(), ..chest() };
    check(EVERYTHING, &two, "otherwise: its body part is TIBIA");
    check(EVERYTHING, &Stated { ages: vec![(6.0, 7.0)], ..chest() }, "otherwise: the patient's age");
    check(EVERYTHING, &Stated { ages: vec![(45.0, 46.0), (6.0, 6.1)], ..chest() }, "otherwise: the patient's age");
    check("sex = ['F']", &chest(), "otherwise: the patient's sex");
    check("sex = ['F', 'M']", &Stated { sex: Some("O"), ..chest() }, "otherwise: the patient's sex");
}

#[test]
fn views_are_compared_by_what_they_mean() {
    let views = |views: &[&str]| Stated { views: views.iter().map(|it| (*it).to_owned()).collect(), ..chest() };
    let orientation = |possible| Stated { possible_views: Some(possible), ..views(&[]) };
    let lying = |stated: &[&str], possible| Stated { possible_views: Some(possible), ..views(stated) };
    let frontal = "view = ['PA', 'AP']";
    check(frontal, &views(&["PA"]), "reads");
    check(frontal, &views(&["FRONTAL"]), "reads");
    check("view = ['PA']", &views(&["FRONTAL"]), "silent: view");
    check("view = ['LATERAL']", &views(&["LL"]), "reads");
    check("view = ['LL']", &views(&["LATERAL"]), "silent: view");
    check(frontal, &views(&["LATERAL"]), "otherwise: it is another view than PA, AP");
    check(frontal, &views(&["PA", "LL"]), "otherwise");
    check(frontal, &views(&["LLD"]), "otherwise");
    check(frontal, &views(&[]), "silent: view");
    check(frontal, &orientation(&["LL", "RL"]), "otherwise");
    check(frontal, &orientation(&["PA", "AP"]), "silent: view");
    // What a console is set to is not how the patient lay.
    check(frontal, &lying(&["PA"], &["LL", "RL"]), "otherwise");
    check(frontal, &lying(&["PA"], &["AXIAL"]), "otherwise");
    check(frontal, &lying(&["PA"], &["PA", "AP"]), "reads");
    check(frontal, &lying(&["LL"], &["PA", "AP"]), "otherwise");
    check("view = ['LATERAL']", &lying(&["LL"], &["PA", "AP"]), "otherwise");
    check("view = ['LAO']", &lying(&["LAO"], &["PA", "AP"]), "reads");
    let slice = Stated { modality: Some("CT".to_owned()), modalities_of_class: Some(&["CT"]), ..views(&[]) };
    check(frontal, &slice, "reads");
    let four = "view = ['RCC', 'LCC', 'RMLO', 'LMLO']";
    check(four, &mammogram(Some('R'), Some("CC"), false), "reads");
    check("view = ['CC']", &mammogram(Some('L'), Some("CC"), false), "reads");
    check(four, &mammogram(Some('R'), Some("CC"), true), "otherwise");
    check(four, &mammogram(Some('R'), Some("ML"), false), "otherwise");
    check(four, &mammogram(None, Some("CC"), false), "silent: view and side");
    check("view = ['RCC']", &mammogram(Some('L'), Some("CC"), false), "otherwise");
    check(four, &mammogram(Some('R'), None, false), "silent: view and side");
}

#[test]
fn an_image_that_states_nothing_is_silent() {
    let nothing = Stated {
        modality: None,
        modalities_of_class: None,
        body_parts: Default::default(),
        views: Default::default(),
        sex: None,
        ages: Vec::new(),
        ..chest()
    };
    check("", &nothing, "reads");
    check(
        EVERYTHING,
        &nothing,
        "silent: modality (Modality); body part (Body Part Examined, Anatomic Region Sequence); view (View Position, View Code \
         Sequence); patient's age",
    );
    check("age = '18..'", &Stated { ages: vec![(17.5, 18.5)], ..chest() }, "silent: patient's age");
    check("modality = ['CT']", &Stated { modalities_of_class: Some(&["CT"]), ..nothing }, "reads");
}
