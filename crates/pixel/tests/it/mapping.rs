use pixel::{Mapping, Point};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Resize((u32, u32), (u32, u32)),
    Crop(f64, f64),
    Pad(f64, f64),
}

fn step() -> impl Strategy<Value = Step> {
    let size = || (1u32..5000, 1u32..5000);
    let length = || (0.0..2000f64, 0.0..2000f64);
    prop_oneof![
        (size(), size()).prop_map(|(from, to)| Step::Resize(from, to)),
        length().prop_map(|(left, top)| Step::Crop(left, top)),
        length().prop_map(|(left, top)| Step::Pad(left, top)),
    ]
}

fn mapping(steps: &[Step]) -> Mapping {
    steps.iter().fold(Mapping::IDENTITY, |mapping, step| match *step {
        Step::Resize(from, to) => mapping.resized(from, to),
        Step::Crop(left, top) => mapping.cropped(left, top),
        Step::Pad(left, top) => mapping.padded(left, top),
    })
}

proptest! {
    /// A point that goes to the model and back is where it was, whatever was done to the image in between.
    #[test]
    fn there_and_back(steps in prop::collection::vec(step(), 0..4), column in 0.0..5000f64, row in 0.0..5000f64) {
        let mapping = mapping(&steps);
        let back = mapping.to_source(mapping.to_model(Point { column, row }));
        // Two resizes by 5000 leave nine digits.
        prop_assert!((back.column - column).abs() < 1e-3 && (back.row - row).abs() < 1e-3, "{back:?}");
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
}
