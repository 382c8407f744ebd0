use pixel::{Area, Layout, Mapping, ModelImage, Montage, Point, Rendered, Source, Turn};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Resize((u32, u32), (u32, u32)),
    Crop(f64, f64),
    Pad(f64, f64),
    Turn(Turn, (u32, u32)),
}

fn step() -> impl Strategy<Value = Step> {
    // Sizes that models and detectors have: a resize by 1000 twice leaves too few digits to speak of sub-pixels.
    let size = || (50u32..5000, 50u32..5000);
    let length = || (0.0..2000f64, 0.0..2000f64);
    prop_oneof![
        (size(), size()).prop_map(|(from, to)| Step::Resize(from, to)),
        length().prop_map(|(left, top)| Step::Crop(left, top)),
        length().prop_map(|(left, top)| Step::Pad(left, top)),
        (prop::sample::select(Turn::ALL.to_vec()), size()).prop_map(|(turn, size)| Step::Turn(turn, size)),
    ]
}

fn mapping(steps: &[Step]) -> Mapping {
    steps.iter().fold(Mapping::IDENTITY, |mapping, step| match *step {
        Step::Resize(from, to) => mapping.resized(from, to),
        Step::Crop(left, top) => mapping.cropped(left, top),
        Step::Pad(left, top) => mapping.padded(left, top),
        Step::Turn(turn, size) => mapping.turned(turn, size),
    })
}

fn near(a: Point, b: Point, by: f64) -> bool {
    (a.column - b.column).abs() <= by && (a.row - b.row).abs() <= by
}

proptest! {
    /// A point that goes to the model and back is where it was, whatever was done to the image in between.
    #[test]
    fn there_and_back(steps in prop::collection::vec(step(), 0..6), column in 0.0..5000f64, row in 0.0..5000f64) {
        let (mapping, point) = (mapping(&steps), Point { column, row });
        let back = mapping.to_source(mapping.to_model(point));
        prop_assert!(near(back, point, 1e-6), "{back:?}");
    }

    /// Doing one chain of steps after another is doing them all.
    #[test]
    fn chains_compose(
        first in prop::collection::vec(step(), 0..3),
        second in prop::collection::vec(step(), 0..3),
        column in 0.0..5000f64,
        row in 0.0..5000f64,
    ) {
        let point = Point { column, row };
        let at_once = mapping(&first).then(mapping(&second)).to_model(point);
        let one_by_one = mapping(&second).to_model(mapping(&first).to_model(point));
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e6);
        prop_assert!(near(at_once.column, one_by_one.column) && near(at_once.row, one_by_one.row));
    }

    /// A resize keeps the corners: the source's lower right one is the model input's lower right one.
    #[test]
    fn corners_stay_corners(from in (1u32..5000, 1u32..5000), to in (1u32..5000, 1u32..5000)) {
        let corner = Point { column: from.0.into(), row: from.1.into() };
        let there = Mapping::IDENTITY.resized(from, to).to_model(corner);
        prop_assert!((there.column - f64::from(to.0)).abs() < 1e-6 && (there.row - f64::from(to.1)).abs() < 1e-6);
    }

    /// Each point of each frame of a montage is shown once, and leads back to itself; what a processor then cuts off
    /// leads nowhere.
    #[test]
    fn a_montage_leads_back(
        sizes in prop::collection::vec((1u32..40, 1u32..40, prop::sample::select(Turn::ALL.to_vec())), 1..8),
        shape in (1u32..4, 1u32..4, 16u32..64),
        cut in (0.0..0.9f64, 0.0..0.9f64),
        at in (0.0..1f64, 0.0..1f64),
    ) {
        let montage = Montage { rows: shape.0, columns: shape.1, cell: shape.2 };
        let images: Vec<ModelImage> =
            (0..).zip(&sizes).map(|(frame, (width, height, turn))| ModelImage::of(picture(frame, *width, *height), *turn)).collect();
        let shown = images.len().min(montage.places());
        let image = ModelImage::montage(images, montage);
        prop_assert_eq!(image.layout.tiles.len(), shown);
        prop_assert_eq!(image.rgb.len(), (image.width * image.height * 3) as usize);
        // A processor's resize and centre crop.
        let (left, top) = (cut.0 * f64::from(image.width), cut.1 * f64::from(image.height));
        let seen = image.layout.then(Mapping::IDENTITY.cropped(left, top).resized((10, 10), (7, 13)), 64, 64);
        for (frame, (width, height, _)) in (0..).zip(sizes.iter().take(shown)) {
            let source = source(frame);
            let point = Point { column: at.0 * f64::from(*width), row: at.1 * f64::from(*height) };
            let there = image.layout.to_model(&source, point).expect("shown");
            let back = image.to_source(there).expect("not padding");
            prop_assert_eq!(&back.source, &source);
            prop_assert!(near(back.point, point, 1e-6), "{:?} {:?}", back.point, point);
            match seen.to_model(&source, point) {
                None => {
                    let step = Mapping::IDENTITY.cropped(left, top).resized((10, 10), (7, 13));
                    prop_assert!(!Area::of_size(64, 64).contains(step.to_model(there)));
                }
                Some(there) => {
                    // On an edge the next tile may answer.
                    let back = seen.to_source(there);
                    prop_assert!(back.is_none_or(|back| back.source != source || near(back.point, point, 1e-6)));
                }
            }
            let beyond = Point { column: f64::from(*width) + 0.01, row: 0.0 };
            prop_assert_eq!(image.layout.to_model(&source, beyond), None);
        }
    }
}

fn source(frame: u32) -> Source {
    Source { sop_instance_uid: "1.2.3".parse().expect("a UID"), frame }
}

fn picture(frame: u32, width: u32, height: u32) -> Rendered {
    Rendered {
        width,
        height,
        rgb: vec![u8::try_from(frame + 1).expect("few frames"); (width * height * 3) as usize],
        grey: true,
        inverted: false,
        source: source(frame),
        window: None,
        pixel_spacing: None,
        aspect: 1.0,
        notes: Vec::new(),
    }
}

#[test]
fn what_is_shown_at_a_point_is_what_the_mapping_says() {
    let check = |sizes: &[(u32, u32)], montage: Montage| {
        let images = (0..)
            .zip(sizes)
            .map(|(frame, (width, height))| ModelImage::of(picture(frame, *width, *height), Turn::Right));
        let image = ModelImage::montage(images.collect(), montage);
        let mut pixels = image.rgb.chunks_exact(3);
        for row in 0..image.height {
            for column in 0..image.width {
                let point = Point { column: f64::from(column) + 0.5, row: f64::from(row) + 0.5 };
                let shown = image.to_source(point).map_or(0, |source| source.source.frame + 1);
                assert_eq!(u32::from(pixels.next().unwrap()[0]), shown, "{point:?} of {sizes:?}");
            }
        }
    };
    check(&[(8, 4), (4, 8), (8, 8)], Montage { rows: 2, columns: 2, cell: 16 });
    check(&[(30, 17), (1, 1), (5, 5)], Montage { rows: 1, columns: 2, cell: 20 });
}

#[test]
fn points_outside_lead_nowhere() {
    let layout = Layout::of_frame(source(3), 10, 5);
    let point = |column: f64, row: f64| Point { column, row };
    assert_eq!(layout.to_source(point(9.5, 4.5)).unwrap().source, source(3));
    for outside in [point(-0.1, 1.0), point(10.0, 1.0), point(1.0, 5.0), point(f64::NAN, 1.0)] {
        assert_eq!(layout.to_source(outside), None, "{outside:?}");
    }
    assert_eq!(layout.to_model(&source(2), point(1.0, 1.0)), None);
    let padded = layout.then(Mapping::IDENTITY.padded(20.0, 0.0), 64, 64);
    assert_eq!(padded.to_source(point(10.0, 1.0)), None);
    assert_eq!(padded.to_source(point(20.5, 1.0)).unwrap().point, point(0.5, 1.0));
    assert_eq!(Mapping::scaled([0.0, 1.0], [0.0, 0.0]), None);
    assert_eq!(Mapping::scaled([1.0, f64::NAN], [0.0, 0.0]), None);
}

#[test]
fn pixels_that_are_not_square_become_so() {
    let check = |aspect: f64, expected: (u32, u32)| {
        let image = ModelImage::of(picture(0, 20, 10), Turn::None).with_square_pixels(aspect);
        assert_eq!((image.width, image.height), expected);
        let corner = image.layout.to_model(&source(0), Point { column: 20.0, row: 10.0 }).unwrap();
        assert!(
            (corner.column - f64::from(expected.0)).abs() < 1e-9 && (corner.row - f64::from(expected.1)).abs() < 1e-9
        );
    };
    check(1.0, (20, 10));
    check(2.0, (20, 20));
    check(0.5, (40, 10));
    check(1.005, (20, 10));
    check(f64::NAN, (20, 10));
    check(1e9, (20, 10));
}
