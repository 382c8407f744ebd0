use pixel::{
    Frame, ImagePolicy, Kind, Limit, Limits, Montage, Plan, PolicyKeys, Slices, Stack, StackValues, View, Window,
    WindowChoice, WindowFor, WindowsAs, decode, frames_of, reading_order, stacks,
};

use crate::support::{CT, DX, MG, MR, Made, US_MULTI_FRAME, image};
use dataset::tags;
use dicom_core::VR;

#[test]
fn a_policy_is_read_from_a_manifests_keys_or_refused_in_words() {
    let windows = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let check = |keys: PolicyKeys<'_>, expected: Result<ImagePolicy, &str>| match (ImagePolicy::of(&keys), expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{part:?} is not in {error}"),
        (found, expected) => panic!("{keys:?}: {found:?}, expected {expected:?}"),
    };
    let keys = PolicyKeys::default;
    let policy = ImagePolicy::default;
    check(keys(), Ok(policy()));
    let slices = |text| PolicyKeys { slices: Some(text), ..keys() };
    check(slices("all"), Ok(ImagePolicy { slices: Slices::All, ..policy() }));
    check(slices("every 2.5 mm"), Ok(ImagePolicy { slices: Slices::EveryMillimetres(2.5), ..policy() }));
    check(slices("8 evenly spaced"), Ok(ImagePolicy { slices: Slices::Evenly(8), ..policy() }));
    for wrong in ["every 0 mm", "every NaN mm", "0 evenly", "some", "every 5", ""] {
        check(slices(wrong), Err("images.slices is "));
    }
    check(slices("some"), Err("expected \"middle\", \"all\", \"every 5 mm\""));
    let montage = Montage { rows: 3, columns: 4, cell: 256 };
    let filled = ImagePolicy { slices: Slices::Evenly(12), montage: Some(montage), ..policy() };
    check(PolicyKeys { montage: Some([3, 4]), ..keys() }, Ok(filled.clone()));
    check(
        PolicyKeys { montage: Some([3, 4]), slices: Some("all"), cell: Some(128), ..keys() },
        Ok(ImagePolicy { slices: Slices::All, montage: Some(Montage { cell: 128, ..montage }), ..policy() }),
    );
    check(PolicyKeys { montage: Some([0, 4]), ..keys() }, Err("images.montage is [0, 4]"));
    check(PolicyKeys { montage: Some([20, 20]), cell: Some(1024), ..keys() }, Err("images.cell is 1024"));
    check(PolicyKeys { cell: Some(64), ..keys() }, Err("images.cell is 64; expected a montage"));
    check(PolicyKeys { limit: Some(0), ..keys() }, Err("images.limit is 0"));
    check(PolicyKeys { limit: Some(8), ..keys() }, Ok(ImagePolicy { limit: Limit(8), ..policy() }));
    let three = windows(&["lung", "-50.5/350", "percentiles 0.5 99.5"]);
    let choices = vec![
        WindowChoice::Preset { name: "lung", center: -600.0, width: 1500.0 },
        WindowChoice::Explicit { center: -50.5, width: 350.0 },
        WindowChoice::Percentiles { low: 0.5, high: 99.5 },
    ];
    let channels = ImagePolicy { windows: choices, windows_as: WindowsAs::Channels, ..policy() };
    check(PolicyKeys { windows: &three, windows_as: Some("channels"), ..keys() }, Ok(channels));
    check(PolicyKeys { windows: &three[..2], windows_as: Some("channels"), ..keys() }, Err("with 2 windows"));
    check(PolicyKeys { windows_as: Some("layers"), ..keys() }, Err("images.windows_as is \"layers\""));
    let of_file = windows(&["file", "file soft tissue", "file 1500"]);
    let choices =
        vec![WindowChoice::File, WindowChoice::Explained("soft tissue".to_owned()), WindowChoice::OfWidth(1500.0)];
    check(PolicyKeys { windows: &of_file, ..keys() }, Ok(ImagePolicy { windows: choices, ..policy() }));
    for wrong in ["kidney", "file -3", "40/0", "40/x", "percentiles 99 1", "percentiles 0 101", ""] {
        check(PolicyKeys { windows: &windows(&[wrong]), ..keys() }, Err("images.windows is "));
    }
}

#[test]
fn a_preset_means_hounsfield_units() {
    let lung: WindowChoice = "lung".parse().unwrap();
    let linear = Window::Linear { center: -600.0, width: 1500.0 };
    assert_eq!(lung.of_modality("CT"), WindowFor::Fixed(linear));
    assert_eq!(lung.of_modality("MR"), WindowFor::Percentiles { low: 1.0, high: 99.0 });
    assert_eq!(lung.of_modality("CR"), WindowFor::File);
    let explicit: WindowChoice = "40/400".parse().unwrap();
    assert_eq!(explicit.of_modality("CR"), WindowFor::Fixed(Window::Linear { center: 40.0, width: 400.0 }));
}

fn frames(made: Vec<Made>) -> Vec<Frame> {
    let of = |(index, made): (usize, Made)| {
        let instance = made.instance();
        frames_of(index, &instance.header, Some(&instance), &Limits::default())
    };
    made.into_iter().enumerate().flat_map(of).collect()
}

fn slices(positions: &[f64]) -> Stack {
    let of = |(number, z): (u32, &f64)| image(CT, "CT", number).plane([0.0, 0.0, *z], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    stacks(frames((1..).zip(positions).map(of).collect())).remove(0)
}

#[test]
fn a_policy_chooses_slices() {
    let check = |slices_key: &str, positions: &[f64], expected: &[usize]| {
        let keys = PolicyKeys { slices: Some(slices_key), limit: Some(100), ..PolicyKeys::default() };
        let plan = ImagePolicy::of(&keys).unwrap().plan(&[slices(positions)], &[0]);
        let taken: Vec<usize> = plan.images.iter().flat_map(|image| image.frames.clone()).collect();
        assert_eq!(taken, expected, "{slices_key} of {positions:?}");
    };
    let ten: Vec<f64> = (0..10).map(f64::from).collect();
    check("middle", &ten, &[5]);
    check("middle", &ten[..1], &[0]);
    check("all", &ten[..3], &[0, 1, 2]);
    check("1 evenly", &ten, &[5]);
    check("2 evenly", &ten, &[2, 7]);
    check("5 evenly", &ten, &[1, 3, 5, 7, 9]);
    check("20 evenly", &ten, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    check("every 3 mm", &ten, &[0, 3, 6, 9]);
    check("every 2.5 mm", &ten, &[0, 2, 5, 7, 9]);
    check("every 0.1 mm", &ten, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    // Where slices are missing, the nearest one stands in once.
    check("every 5 mm", &[0.0, 1.0, 4.0, 20.0, 21.0], &[0, 2, 3]);
}

#[test]
fn a_limit_thins_evenly_and_says_so() {
    let (large, small) = (slices(&(0..40).map(f64::from).collect::<Vec<_>>()), slices(&[0.0, 1.0]));
    let stacks = [large, small];
    let plan = |keys: PolicyKeys<'_>| ImagePolicy::of(&keys).unwrap().plan(&stacks, &[0, 1]);
    let shape =
        |plan: &Plan| plan.images.iter().map(|it| (it.stack, it.frames.len(), it.windows.clone())).collect::<Vec<_>>();
    let keys = PolicyKeys::default;
    let all = plan(PolicyKeys { slices: Some("all"), limit: Some(4), ..keys() });
    assert_eq!(all.images.iter().map(|it| it.frames[0]).collect::<Vec<_>>(), [5, 15, 25, 35]);
    assert!(all.notes[0].contains("at most 4 images") && all.notes[0].contains("4 of 40"), "{:?}", all.notes);
    // What the first stack leaves goes to the next one.
    let middle = plan(PolicyKeys { limit: Some(5), ..keys() });
    assert_eq!(shape(&middle), [(0, 1, vec![]), (1, 1, vec![])]);
    assert!(middle.notes.is_empty());
    let windows = ["lung", "bone"].map(str::to_owned);
    let windowed = plan(PolicyKeys { windows: &windows, limit: Some(3), ..keys() });
    assert_eq!(shape(&windowed), [(0, 1, vec![0]), (0, 1, vec![1]), (1, 1, vec![0])]);
    let montage = plan(PolicyKeys { montage: Some([3, 4]), ..keys() });
    assert_eq!(shape(&montage), [(0, 12, vec![])]);
    let pages = plan(PolicyKeys { montage: Some([3, 4]), slices: Some("all"), limit: Some(9), ..keys() });
    assert_eq!(pages.images.iter().map(|it| it.frames.len()).collect::<Vec<_>>(), [12, 12, 12, 4, 2]);
}

#[test]
fn a_cine_shows_its_recommended_frame() {
    let cine = |number| image(US_MULTI_FRAME, "US", number).text(tags::NUMBER_OF_FRAMES, VR::IS, "6").pixels(&[0; 72]);
    let check = |made: Made, expected: usize| {
        let found = stacks(frames(vec![made]));
        assert_eq!(found[0].kind, Kind::Frames);
        assert_eq!(ImagePolicy::default().plan(&found, &[0]).images[0].frames, [expected]);
    };
    check(cine(1).word(tags::REPRESENTATIVE_FRAME_NUMBER, 2), 1);
    check(cine(1), 3);
    check(cine(1).word(tags::REPRESENTATIVE_FRAME_NUMBER, 99), 3);
}

#[test]
fn stacks_are_read_in_the_order_that_the_manifest_wants() {
    let check = |made: Vec<Made>, wanted: &[&str], limit: u32, expected: &[usize]| {
        let instances: Vec<_> = made.into_iter().map(Made::instance).collect();
        let found: Vec<Frame> = instances
            .iter()
            .enumerate()
            .flat_map(|(i, it)| frames_of(i, &it.header, Some(it), &Limits::default()))
            .collect();
        let found = stacks(found);
        let views: Vec<View> =
            found.iter().map(|stack| View::of(&instances[stack.frames[0].image].header, None)).collect();
        let wanted: Vec<String> = wanted.iter().map(|view| (*view).to_owned()).collect();
        assert_eq!(reading_order(&found, &views, &wanted, Limit(limit)), expected);
    };
    let breast = |number: u32, side: &str, view: &str| {
        image(MG, "MG", number).instance_number(number).text(tags::IMAGE_LATERALITY, VR::CS, side).text(
            tags::VIEW_POSITION,
            VR::CS,
            view,
        )
    };
    let six = || {
        let views = [("L", "MLO"), ("R", "MLO"), ("R", "CC"), ("R", "CC"), ("L", "CC"), ("L", "XCCL")];
        (1..).zip(views).map(|(number, (side, view))| breast(number, side, view)).collect::<Vec<_>>()
    };
    let four = ["RCC", "LCC", "RMLO", "LMLO"];
    check(six(), &four, 4, &[2, 4, 1, 0, 3, 5]);
    // A model of one image takes the first of those that it was made for.
    check(six(), &four, 1, &[0, 1, 2, 3, 4, 5]);
    let chest = |number: u32, view: &str| {
        image(DX, "DX", number).instance_number(number).text(tags::VIEW_POSITION, VR::CS, view)
    };
    check(vec![chest(1, "LL"), chest(2, "AP"), chest(3, "PA")], &["PA", "AP"], 1, &[1, 2, 0]);
    check(vec![chest(1, "LL"), chest(2, "AP")], &[], 1, &[0, 1]);
    // The two slices of a scan that waits for contrast come after the stack of ten.
    let slice = |number: u32, series: &str, z: f64| {
        image(CT, "CT", number)
            .text(tags::SERIES_INSTANCE_UID, VR::UI, series)
            .text(tags::SERIES_NUMBER, VR::IS, &series[2..])
            .plane([0.0, 0.0, z], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    };
    let mut ct = vec![slice(1, "1.1", 0.0), slice(2, "1.1", 1.0)];
    ct.extend((0..10).map(|number| slice(number + 3, "1.2", f64::from(number))));
    check(ct, &[], 1, &[1, 0]);
}

#[test]
fn percentiles_are_those_of_the_whole_stack() {
    let slice = |number: u32, values: &[i16]| {
        image(MR, "MR", number)
            .text(tags::RESCALE_SLOPE, VR::DS, "2")
            .text(tags::RESCALE_INTERCEPT, VR::DS, "-10")
            .element(tags::PIXEL_PADDING_VALUE, VR::SS, -1000i16)
            .pixels(values)
            .instance()
    };
    let low = slice(1, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -1000, -1000]);
    let high = slice(2, &[90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, -1000]);
    let window = |order: [&dataset::Instance; 2], from: f64, to: f64| {
        let mut values = StackValues::of_frames(2);
        for instance in order {
            values.add(instance, 0, &decode(instance, 0, &Limits::default()).unwrap()).unwrap();
        }
        values.window(from, to)
    };
    let all = Some(Window::MinMax { low: -10.0, high: 190.0 });
    assert_eq!(window([&low, &high], 0.0, 100.0), all);
    assert_eq!(window([&high, &low], 0.0, 100.0), all);
    assert_eq!(window([&low, &high], 5.0, 50.0), Some(Window::MinMax { low: -8.0, high: 170.0 }));
    assert_eq!(StackValues::of_frames(1).window(1.0, 99.0), None);
}
