use dataset::{Instance, tags};
use dicom_core::{PrimitiveValue, VR};
use pixel::{Apart, Kind, Limits, Order, Stack, frames_of, header_suffices, stacks};

use crate::{
    references::{open_header, set},
    support::{CT, DX, ENHANCED_CT, MR, Made, US_MULTI_FRAME, image, numbers},
};

const AXIAL: [f64; 6] = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
const CORONAL: [f64; 6] = [1.0, 0.0, 0.0, 0.0, 0.0, -1.0];

fn stacks_of(instances: &[Instance]) -> Vec<Stack> {
    let frames = instances.iter().enumerate().flat_map(|(index, instance)| {
        let whole = (!header_suffices(&instance.header)).then_some(instance);
        frames_of(index, &instance.header, whole, &Limits::default())
    });
    stacks(frames.collect())
}

/// What each stack consists of: indices of images, or `image.frame` of those with several frames.
fn contents(stacks: &[Stack]) -> Vec<Vec<String>> {
    let several = stacks.iter().flat_map(|stack| &stack.frames).any(|frame| frame.source.frame > 0);
    let name = |frame: &pixel::StackFrame| match several {
        true => format!("{}.{}", frame.image, frame.source.frame),
        false => frame.image.to_string(),
    };
    stacks.iter().map(|stack| stack.frames.iter().map(name).collect()).collect()
}

fn check(instances: Vec<Made>, expected: &[&[&str]]) -> Vec<Stack> {
    let instances: Vec<Instance> = instances.into_iter().map(Made::instance).collect();
    let found = stacks_of(&instances);
    assert_eq!(contents(&found), expected);
    // The order of the images given makes no difference to what comes out.
    let backwards: Vec<Instance> = instances.into_iter().rev().collect();
    let last = backwards.len() - 1;
    let mut turned = stacks_of(&backwards);
    turned.iter_mut().flat_map(|stack| &mut stack.frames).for_each(|frame| frame.image = last - frame.image);
    assert_eq!(contents(&turned), expected, "the same images backwards");
    found
}

fn slice(number: u32, z: f64) -> Made {
    image(CT, "CT", number).instance_number(number).plane([-100.0, -100.0, z], AXIAL)
}

#[test]
fn slices_are_in_order_of_their_positions_whatever_their_numbers() {
    let found = check(vec![slice(1, 5.0), slice(2, -5.0), slice(3, 10.0), slice(4, 0.0)], &[&["1", "3", "0", "2"]]);
    assert_eq!((found[0].kind, found[0].order), (Kind::Slices, Order::Position));
    let spacing = found[0].spacing.unwrap();
    assert!(spacing.regular && (spacing.usual_mm - 5.0).abs() < 1e-9 && found[0].gaps.is_empty());
    // Directions of opposite rows have the normal that the right hand says.
    let prone = |number, z| {
        image(CT, "CT", number).instance_number(number).plane([0.0, 0.0, z], [-1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    };
    check(vec![prone(1, 5.0), prone(2, -5.0)], &[&["0", "1"]]);
}

#[test]
fn a_tilted_gantry_makes_one_stack_that_says_so() {
    let angle = 20f64.to_radians();
    let tilted = [1.0, 0.0, 0.0, 0.0, angle.cos(), angle.sin()];
    // The table moves along z though the slices lie across it.
    let of = |number: u32| {
        image(CT, "CT", number).instance_number(9 - number).plane([0.0, 0.0, f64::from(number) * 5.0], tilted)
    };
    let found = check(vec![of(2), of(1), of(3)], &[&["1", "0", "2"]]);
    assert!((found[0].shear_degrees - 20.0).abs() < 1e-6, "{}", found[0].shear_degrees);
    assert!((found[0].spacing.unwrap().usual_mm - 5.0 * angle.cos()).abs() < 1e-9);
    // Digits that a file rounds away do not tear a stack apart.
    let jitter = |number: u32, by: f64| {
        image(CT, "CT", number)
            .instance_number(number)
            .plane([by, -by, f64::from(number)], [1.0, by, 0.0, -by, 1.0, 1e-5])
    };
    check(vec![jitter(1, 1e-4), jitter(2, -1e-4), jitter(3, 0.0)], &[&["0", "1", "2"]]);
}

#[test]
fn gaps_and_uneven_distances_are_said() {
    let found = check(
        vec![slice(1, 0.0), slice(2, 5.0), slice(3, 10.0), slice(4, 30.0), slice(5, 35.0)],
        &[&["0", "1", "2", "3", "4"]],
    );
    let [gap] = found[0].gaps.as_slice() else { panic!("{:?}", found[0].gaps) };
    assert_eq!((gap.after, gap.missing), (2, 3));
    assert!(found[0].spacing.unwrap().regular);
    let found = check(vec![slice(1, 0.0), slice(2, 5.0), slice(3, 11.0), slice(4, 16.0)], &[&["0", "1", "2", "3"]]);
    assert!(!found[0].spacing.unwrap().regular && found[0].gaps.is_empty());
}

/// Two images at each of three positions; `apart` says what differs between the first and the second of them.
fn twice(apart: impl Fn(Made, u32) -> Made) -> Vec<Made> {
    let of = |number: u32| {
        let made =
            image(MR, "MR", number).instance_number(number).plane([0.0, 0.0, f64::from(number / 2) * 4.0], AXIAL);
        apart(made, number % 2)
    };
    (0..6).map(of).collect()
}

#[test]
fn what_lies_at_one_position_goes_to_different_stacks() {
    let text =
        |tag, vr, values: [&'static str; 2]| move |made: Made, which: u32| made.text(tag, vr, values[which as usize]);
    let check = |what: Apart, values: [&str; 2], instances: Vec<Made>| {
        let found = check(instances, &[&["0", "2", "4"], &["1", "3", "5"]]);
        let told: Vec<&str> = found.iter().map(|stack| stack.apart[&what].as_str()).collect();
        assert_eq!(told, values, "{what:?}");
        assert!(found.iter().all(|stack| stack.apart.len() == 1), "{what:?}");
    };
    check(Apart::EchoTime, ["2.46", "10.00"], twice(text(tags::ECHO_TIME, VR::DS, ["2.46", "10"])));
    check(Apart::TemporalPosition, ["1", "2"], twice(text(tags::TEMPORAL_POSITION_IDENTIFIER, VR::IS, ["1", "2"])));
    check(Apart::AcquisitionNumber, ["1", "2"], twice(text(tags::ACQUISITION_NUMBER, VR::IS, ["1", "2"])));
    let types = ["ORIGINAL\\PRIMARY\\M\\FFE", "ORIGINAL\\PRIMARY\\P\\FFE"];
    check(Apart::ImageType, ["M\\FFE", "P\\FFE"], twice(text(tags::IMAGE_TYPE, VR::CS, types)));
    check(Apart::Kernel, ["B30f", "B70f"], twice(text(tags::CONVOLUTION_KERNEL, VR::SH, ["B30f", "B70f"])));
    let b = |made: Made, which: u32| made.element(tags::DIFFUSION_B_VALUE, VR::FD, f64::from(which) * 800.0);
    check(Apart::DiffusionBValue, ["0", "800"], twice(b));
    check(Apart::InstanceNumber, ["1", "2"], twice(|made, _| made));
    // A time that differs from slice to slice tears nothing apart.
    let own_time =
        |made: Made, which: u32| made.text(tags::ACQUISITION_NUMBER, VR::IS, if which == 0 { "1" } else { "2" });
    let mut instances = Vec::new();
    for (number, made) in twice(own_time).into_iter().enumerate() {
        instances.push(made.text(tags::TRIGGER_TIME, VR::DS, &(number * 100).to_string()));
    }
    check(Apart::AcquisitionNumber, ["1", "2"], instances);
}

#[test]
fn several_reasons_at_once_and_several_directions() {
    // Two echoes at two times at two positions.
    let of = |number: u32| {
        let (z, echo, time) = (number % 2, number / 2 % 2, number / 4);
        image(MR, "MR", number)
            .instance_number(number)
            .plane([0.0, 0.0, f64::from(z)], AXIAL)
            .text(tags::ECHO_TIME, VR::DS, if echo == 0 { "10" } else { "90" })
            .text(tags::TEMPORAL_POSITION_IDENTIFIER, VR::IS, &(time + 1).to_string())
    };
    check((0..8).map(of).collect(), &[&["0", "1"], &["2", "3"], &["4", "5"], &["6", "7"]]);
    let crossing = |number: u32, orientation| {
        image(MR, "MR", number).instance_number(number).plane([0.0, f64::from(number), 0.0], orientation)
    };
    check(vec![crossing(3, CORONAL), crossing(2, AXIAL), crossing(1, CORONAL)], &[&["2", "0"], &["1"]]);
}

#[test]
fn without_positions_numbers_decide() {
    let bare = |number: u32, instance_number| image(CT, "CT", number).instance_number(instance_number);
    let found = check(vec![bare(1, 3), bare(2, 1), bare(3, 2)], &[&["1", "2", "0"]]);
    assert_eq!((found[0].kind, found[0].order), (Kind::Slices, Order::InstanceNumber));
    let nonsense = bare(1, 1).plane([0.0; 3], [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(check(vec![nonsense], &[&["0"]])[0].order, Order::InstanceNumber);
    // Radiographs are no stack.
    let radiograph = |number: u32| image(DX, "DX", number).instance_number(number);
    let found = check(vec![radiograph(2), radiograph(1)], &[&["1"], &["0"]]);
    assert!(found.iter().all(|stack| stack.kind == Kind::Picture));
}

#[test]
fn a_cine_is_in_order_of_its_frames_and_knows_the_recommended_one() {
    let cine = image(US_MULTI_FRAME, "US", 1)
        .text(tags::NUMBER_OF_FRAMES, VR::IS, "4")
        .word(tags::REPRESENTATIVE_FRAME_NUMBER, 3)
        .pixels(&[0; 48]);
    let found = check(vec![cine], &[&["0.0", "0.1", "0.2", "0.3"]]);
    assert_eq!((found[0].kind, found[0].order), (Kind::Frames, Order::FrameNumber));
    assert_eq!(found[0].frames.iter().position(|frame| frame.recommended), Some(2));
}

/// A multi-frame image of slices at these positions; `echoes` gives each an echo time.
fn enhanced(positions: &[f64], echoes: Option<&[f64]>) -> Made {
    let orientation = Made::item(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, numbers(&AXIAL));
    let frame = |(index, z): (usize, &f64)| {
        let position = Made::item(tags::IMAGE_POSITION_PATIENT, VR::DS, numbers(&[-100.0, -100.0, *z]));
        let echo =
            echoes.map(|echoes| Made::item(tags::EFFECTIVE_ECHO_TIME, VR::FD, PrimitiveValue::from(echoes[index])));
        let echo = echo.map(|item| (tags::MR_ECHO_SEQUENCE, item));
        Made::group([(tags::PLANE_POSITION_SEQUENCE, position)].into_iter().chain(echo).collect())
    };
    image(ENHANCED_CT, "CT", 1)
        .text(tags::NUMBER_OF_FRAMES, VR::IS, &positions.len().to_string())
        .pixels(&vec![0; positions.len() * 12])
        .items(
            tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE,
            vec![Made::group(vec![(tags::PLANE_ORIENTATION_SEQUENCE, orientation)])],
        )
        .items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, positions.iter().enumerate().map(frame).collect())
}

#[test]
fn a_multi_frame_image_is_the_same_as_its_slices() {
    let positions = [5.0, -5.0, 10.0, 0.0];
    let one = check(vec![enhanced(&positions, None)], &[&["0.1", "0.3", "0.0", "0.2"]]);
    let classic = positions.iter().zip(1..).map(|(z, number)| slice(number, *z)).collect();
    let many = check(classic, &[&["1", "3", "0", "2"]]);
    assert_eq!((one[0].kind, one[0].order, one[0].spacing), (many[0].kind, many[0].order, many[0].spacing));
    let positions = |stack: &Stack| stack.frames.iter().map(|frame| frame.position_mm).collect::<Vec<_>>();
    assert_eq!(positions(&one[0]), positions(&many[0]));
    let found = check(
        vec![enhanced(&[4.0, 4.0, 0.0, 0.0], Some(&[10.0, 90.0, 10.0, 90.0]))],
        &[&["0.2", "0.0"], &["0.3", "0.1"]],
    );
    assert_eq!(found[1].apart[&Apart::EchoTime], "90.00");
}

#[test]
fn the_series_of_the_test_set() {
    let Some(set) = set() else { return };
    let check = |names: &[String], expected: &[usize], usual: f64| {
        let headers: Vec<_> = names.iter().map(|name| open_header(&set, name)).collect();
        let frames =
            headers.iter().enumerate().flat_map(|(index, header)| frames_of(index, header, None, &Limits::default()));
        let found = stacks(frames.collect());
        assert_eq!(found.len(), 1, "{names:?}");
        let order: Vec<usize> = found[0].frames.iter().map(|frame| frame.image).collect();
        assert_eq!(order, expected, "{names:?}");
        let spacing = found[0].spacing.unwrap();
        assert!(spacing.regular && (spacing.usual_mm - usual).abs() < 1e-3, "{spacing:?}");
    };
    // The liver is scanned from head to feet; the normal leads to the head.
    check(&["01", "02", "03"].map(|name| format!("series_ct_liver/{name}.dcm")), &[2, 1, 0], 1.0);
    let brain: Vec<String> =
        [190, 187, 193, 186, 188, 192, 189, 191].map(|n| format!("series_mr_t1/N2D_0{n}.dcm")).into();
    check(&brain, &[3, 1, 4, 6, 0, 7, 5, 2], 0.6667);
}
