//! From the images of a study to a model's input: what is opened, what is shown, and what stands in for what is broken.

use std::cell::RefCell;

use dataset::{Header, Instance, tags};
use dicom_core::{PrimitiveValue, VR};
use pixel::{
    Composer, FRAMES_OF_PERCENTILES, ImagePolicy, Limits, ModelInput, Point, PolicyKeys, Unread, Window, contact_sheet,
};

use crate::support::{CT, DX, ENHANCED_CT, MG, MR, Made, US_MULTI_FRAME, image, numbers};

const AXIAL: [f64; 6] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];

/// A slice at `number` mm; all of its values are ten times its number.
fn slice(class: &str, modality: &str, number: u32) -> Made {
    let value = i16::try_from(number % 100 * 10).expect("a small number");
    image(class, modality, number)
        .instance_number(number)
        .plane([0.0, 0.0, f64::from(number)], AXIAL)
        .text(tags::PIXEL_SPACING, VR::DS, "0.5\\0.5")
        .pixels(&[value; 12])
}

/// The same with half of its pixel data.
fn broken(made: Made) -> Made {
    made.pixels(&[0; 6])
}

/// What a model gets of the images, and which of them were opened, in order.
fn compose(images: Vec<Made>, keys: PolicyKeys<'_>, wanted: &[&str]) -> (ModelInput, Vec<usize>) {
    let instances: Vec<Instance> = images.into_iter().map(Made::instance).collect();
    let headers: Vec<&Header> = instances.iter().map(|instance| &instance.header).collect();
    let policy = ImagePolicy::of(&keys).expect("a policy");
    let wanted: Vec<String> = wanted.iter().map(|view| (*view).to_owned()).collect();
    let opened = RefCell::new(Vec::new());
    let open = |index: usize| {
        opened.borrow_mut().push(index);
        Ok(again(&instances[index]))
    };
    let composer = Composer::new(&headers, &policy, &wanted, Limits::default(), Box::new(open));
    let planned = composer.planned();
    let input = composer.compose();
    if input.unread.iter().all(|(_, why)| !matches!(why, Unread::Undecoded(_))) {
        assert_eq!(input.read, planned, "what was planned is what was read");
    }
    (input, opened.into_inner())
}

/// An instance is opened from its bytes, as from a file.
fn again(instance: &Instance) -> Instance {
    let mut bytes = Vec::new();
    instance.object().write_all(&mut bytes).expect("a file in memory");
    Instance::from_bytes(&bytes, &dataset::Limits::default()).expect("what was just written")
}

fn keys<'a>(slices: &'a str, limit: u32) -> PolicyKeys<'a> {
    PolicyKeys { slices: Some(slices), limit: Some(limit), ..PolicyKeys::default() }
}

#[test]
fn only_what_is_shown_is_opened() {
    let study = |count: u32| (0..count).map(|number| slice(MR, "MR", number)).collect::<Vec<_>>();
    let (input, opened) = compose(study(2000), keys("8 evenly", 8), &[]);
    assert_eq!(opened, [125, 375, 625, 875, 1125, 1375, 1625, 1875]);
    assert_eq!((input.images.len(), input.unread.len()), (8, 1992));
    assert!(input.unread.iter().all(|(_, why)| *why == Unread::OtherSlices));
    let [stack] = input.stacks.as_slice() else { panic!("{:?}", input.stacks) };
    assert_eq!((stack.frames, stack.shown, stack.from_to_mm), (2000, 8, Some((0.0, 1999.0))));
    // Percentiles take some more, however many slices there are.
    let windows = ["percentiles 0 100".to_owned()];
    let (input, opened) = compose(study(2000), PolicyKeys { windows: &windows, ..keys("8 evenly", 8) }, &[]);
    assert_eq!(opened.len(), 8 + FRAMES_OF_PERCENTILES);
    let windows: Vec<Window> = input.images.iter().flat_map(|image| image.frames[0].windows.clone()).collect();
    assert!(windows.iter().all(|window| *window == windows[0]), "one window for all slices: {windows:?}");
}

#[test]
fn each_pixel_leads_back_to_its_slice() {
    let montage = PolicyKeys { montage: Some([2, 3]), cell: Some(16), limit: Some(2), ..PolicyKeys::default() };
    // Prone: rows lead to the right, so that slices are turned.
    let prone =
        |number: u32| slice(CT, "CT", number).plane([0.0, 0.0, f64::from(number)], [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0]);
    let (input, _) = compose((0..10).map(prone).collect(), PolicyKeys { slices: Some("all"), ..montage }, &[]);
    let counts: Vec<usize> = input.images.iter().map(|image| image.frames.len()).collect();
    assert_eq!(counts, [6, 4]);
    for image in &input.images {
        for frame in &image.frames {
            let source = Point { column: 1.25, row: 0.5 };
            let there = image.picture.layout.to_model(&frame.source, source).expect("shown");
            let back = image.picture.to_source(there).expect("not padding");
            assert_eq!(back.source, frame.source);
            assert!((back.point.column - 1.25).abs() < 1e-9 && (back.point.row - 0.5).abs() < 1e-9);
            assert_eq!(frame.pixel_spacing.map(|spacing| spacing.row), Some(0.5));
        }
    }
}

#[test]
fn windows_become_images_or_channels() {
    let study =
        || vec![image(CT, "CT", 1).plane([0.0; 3], AXIAL).pixels(&[-600, -500, 40, 50, 60, 480, 900, 0, 1, 2, 3, 4])];
    let windows = ["lung", "mediastinum", "bone"].map(str::to_owned);
    let of = |windows_as, limit| PolicyKeys {
        windows: &windows,
        windows_as: Some(windows_as),
        limit: Some(limit),
        ..PolicyKeys::default()
    };
    let (images, opened) = compose(study(), of("images", 3), &[]);
    let (channels, _) = compose(study(), of("channels", 1), &[]);
    assert_eq!((images.images.len(), channels.images.len(), opened.len()), (3, 1, 1));
    let mixed = &channels.images[0].picture.rgb;
    for (channel, image) in images.images.iter().enumerate() {
        let of_channel: Vec<u8> = mixed.iter().skip(channel).step_by(3).copied().collect();
        let alone: Vec<u8> = image.picture.rgb.iter().step_by(3).copied().collect();
        assert_eq!(of_channel, alone);
        assert_eq!(image.windows.len(), 1);
    }
    assert_eq!(channels.images[0].frames[0].windows.len(), 3);
    assert_ne!(images.images[0].picture.rgb, images.images[1].picture.rgb);
}

#[test]
fn one_of_the_files_own_windows_is_taken_by_its_explanation_or_width() {
    let check = |asked: &str, center: f64, width: f64| {
        let made = slice(CT, "CT", 1)
            .text(tags::WINDOW_CENTER, VR::DS, "40\\-600\\300")
            .text(tags::WINDOW_WIDTH, VR::DS, "400\\1500\\2000")
            .text(tags::WINDOW_CENTER_WIDTH_EXPLANATION, VR::LO, "SOFT TISSUE\\LUNG\\BONE");
        let windows = [asked.to_owned()];
        let (input, _) = compose(vec![made], PolicyKeys { windows: &windows, ..PolicyKeys::default() }, &[]);
        assert_eq!(input.images[0].frames[0].windows, [Window::Linear { center, width }], "{asked}");
    };
    check("file", 40.0, 400.0);
    check("file lung", -600.0, 1500.0);
    check("file soft tissue", 40.0, 400.0);
    check("file 1900", 300.0, 2000.0);
    // There is none: the first.
    check("file liver", 40.0, 400.0);
}

#[test]
fn another_frame_stands_in_for_a_broken_one() {
    let check = |broken_ones: &[u32], keys: PolicyKeys<'_>, read: &[usize], notes: usize| {
        let of = |number: u32| {
            let made = slice(CT, "CT", number);
            if broken_ones.contains(&number) { broken(made) } else { made }
        };
        let (input, _) = compose((0..5).map(of).collect(), keys, &[]);
        assert_eq!(input.read.iter().copied().collect::<Vec<_>>(), read, "{broken_ones:?}");
        let told = input.unread.iter().filter(|(_, why)| matches!(why, Unread::Undecoded(_))).count();
        assert_eq!((told, input.notes.len()), (broken_ones.len(), notes), "{:?}", input.unread);
        assert_eq!(input.read.len() + input.unread.len(), 5);
    };
    check(&[], keys("middle", 1), &[2], 0);
    check(&[2], keys("middle", 1), &[3], 0);
    check(&[2, 3], keys("middle", 1), &[1], 0);
    check(&[1], keys("all", 9), &[0, 2, 3, 4], 0);
    check(&[0, 1, 2, 3, 4], keys("all", 9), &[], 0);
    // An image that claims frames which it has not is incomplete, and no memory is spent on claims.
    let claims = image(US_MULTI_FRAME, "US", 1).text(tags::NUMBER_OF_FRAMES, VR::IS, "60000").pixels(&[7; 24]);
    let (input, _) = compose(vec![claims], keys("8 evenly", 8), &[]);
    assert!(input.images.is_empty() && matches!(input.unread.as_slice(), [(0, Unread::Undecoded(_))]));
    let claims = image(US_MULTI_FRAME, "US", 1).text(tags::NUMBER_OF_FRAMES, VR::IS, "60000").word(tags::ROWS, 65_535);
    let (input, _) = compose(vec![claims.word(tags::COLUMNS, 65_535)], keys("all", 9), &[]);
    assert!(input.images.is_empty() && matches!(input.unread.as_slice(), [(0, Unread::Undecoded(_))]));
    // A broken frame takes only itself along.
    let cine = |values: usize| {
        image(US_MULTI_FRAME, "US", 1).text(tags::NUMBER_OF_FRAMES, VR::IS, "4").pixels(&vec![7; values])
    };
    let (input, _) = compose(vec![cine(48)], keys("all", 9), &[]);
    assert_eq!((input.images.len(), input.frames_not_shown), (4, 0));
    let (input, _) = compose(vec![cine(48)], keys("2 evenly", 9), &[]);
    assert_eq!((input.images.len(), input.frames_not_shown), (2, 2));
    let (input, _) =
        compose(vec![image(DX, "DX", 1).text(tags::NUMBER_OF_FRAMES, VR::IS, "99999999")], keys("all", 9), &[]);
    assert!(input.images.is_empty() && matches!(input.unread.as_slice(), [(0, Unread::Undecoded(_))]), "{input:?}");
}

#[test]
fn a_multi_frame_image_gives_the_same_input_as_its_slices() {
    let positions = [3.0, 1.0, 2.0, 0.0];
    let item = |tag, values: &[f64]| Made::item(tag, VR::DS, PrimitiveValue::from(numbers(values)));
    let frame = |z: &f64| {
        Made::group(vec![(tags::PLANE_POSITION_SEQUENCE, item(tags::IMAGE_POSITION_PATIENT, &[0.0, 0.0, *z]))])
    };
    let shared = Made::group(vec![
        (tags::PLANE_ORIENTATION_SEQUENCE, item(tags::IMAGE_ORIENTATION_PATIENT, &AXIAL)),
        (tags::PIXEL_MEASURES_SEQUENCE, item(tags::PIXEL_SPACING, &[0.5, 0.5])),
    ]);
    #[expect(clippy::cast_possible_truncation)] // small whole numbers
    let value = |z: f64| z as i16 * 10;
    let pixels: Vec<i16> = positions.iter().flat_map(|z| [value(*z); 12]).collect();
    let whole = image(ENHANCED_CT, "CT", 1)
        .text(tags::NUMBER_OF_FRAMES, VR::IS, "4")
        .items(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared])
        .items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, positions.iter().map(frame).collect())
        .pixels(&pixels);
    let windows = ["mediastinum".to_owned()];
    let policy = PolicyKeys { windows: &windows, ..keys("all", 9) };
    let (one, opened) = compose(vec![whole], policy.clone(), &[]);
    let (many, _) = compose((0..4).map(|number| slice(CT, "CT", number)).collect(), policy, &[]);
    let pictures = |input: &ModelInput| input.images.iter().map(|image| image.picture.rgb.clone()).collect::<Vec<_>>();
    let spacings = |input: &ModelInput| input.images.iter().map(|it| it.frames[0].pixel_spacing).collect::<Vec<_>>();
    assert_eq!(pictures(&one), pictures(&many));
    assert_eq!(spacings(&one), spacings(&many));
    assert!(pictures(&one).windows(2).all(|pair| pair[0] < pair[1]), "from the lowest position up");
    assert_eq!((one.stacks[0].spacing, opened.len()), (many.stacks[0].spacing, 1));
}

#[test]
fn the_four_views_of_a_mammogram_are_found_by_their_codes() {
    let breast = |number: u32, side: &str, code: &str| {
        image(MG, "MG", number)
            .instance_number(number)
            .text(tags::IMAGE_LATERALITY, VR::CS, side)
            .items(tags::VIEW_CODE_SEQUENCE, vec![Made::item(tags::CODE_VALUE, VR::SH, PrimitiveValue::from(code))])
    };
    let (cc, mlo) = ("399162004", "399368009");
    let study = vec![breast(1, "L", mlo), breast(2, "R", mlo), breast(3, "L", cc), breast(4, "R", cc)];
    let (input, _) = compose(study, keys("middle", 4), &["RCC", "LCC", "RMLO", "LMLO"]);
    let views: Vec<&str> = input.images.iter().filter_map(|image| image.view.as_deref()).collect();
    assert_eq!(views, ["RCC", "LCC", "RMLO", "LMLO"]);
}

#[test]
fn a_contact_sheet_shows_every_stack() {
    let mut study: Vec<Made> = (0..30).map(|number| slice(CT, "CT", number)).collect();
    study.push(image(DX, "DX", 100).text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.9").text(
        tags::SERIES_NUMBER,
        VR::IS,
        "1",
    ));
    study.push(broken(image(DX, "DX", 101).text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.8").text(
        tags::SERIES_NUMBER,
        VR::IS,
        "2",
    )));
    let instances: Vec<Instance> = study.into_iter().map(Made::instance).collect();
    let headers: Vec<&Header> = instances.iter().map(|instance| &instance.header).collect();
    let sheet = |most| {
        let open = |index: usize| Ok(again(&instances[index]));
        contact_sheet(&headers, 16, most, Limits::default(), Box::new(open))
    };
    let whole = sheet(100);
    assert_eq!((whole.thumbnails.len(), whole.notes.len()), (31, 0));
    assert!(whole.thumbnails.iter().all(|it| it.picture.width.max(it.picture.height) == 16));
    assert!(matches!(whole.unread.as_slice(), [(31, Unread::Undecoded(_))]));
    let frames: Vec<(Option<i64>, usize)> =
        whole.stacks.iter().map(|stack| (stack.series_number, stack.frames)).collect();
    assert_eq!(frames, [(Some(1), 1), (Some(2), 1), (None, 30)]);
    let thin = sheet(12);
    assert_eq!((thin.thumbnails.len(), thin.notes.len()), (5, 1));
    assert_eq!(sheet(0).thumbnails.len(), 0);
    assert_eq!(sheet(0).stacks.len(), 3);
}
