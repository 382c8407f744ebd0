use dataset::tags;
use dicom_core::{
    DataElement, VR,
    value::{DataSetSequence, Value},
};
use dicom_object::InMemDicomObject;
use pixel::{StandsBy, Turn, View, upright};

use crate::support::{CT, DX, MG, Made, image};

#[test]
fn every_image_stands_with_the_patients_right_on_its_left() {
    let check = |made: Made, turn: Turn, by: StandsBy| {
        let instance = made.instance();
        let found = upright(&instance, 0);
        assert_eq!((found.turn, found.by), (turn, by), "{:?}", instance.header.texts(tags::PATIENT_ORIENTATION));
    };
    let projection = |text: &str| image(DX, "DX", 1).text(tags::PATIENT_ORIENTATION, VR::CS, text);
    let said = StandsBy::PatientOrientation;
    check(projection("L\\F"), Turn::None, said);
    check(projection("R\\F"), Turn::FlipColumns, said);
    check(projection("L\\H"), Turn::FlipRows, said);
    check(projection("R\\H"), Turn::Half, said);
    check(projection("F\\L"), Turn::Transpose, said);
    check(projection("H\\L"), Turn::Left, said);
    check(projection("F\\R"), Turn::Right, said);
    check(projection("H\\R"), Turn::AntiTranspose, said);
    check(projection("LF\\FR"), Turn::None, said);
    // A lateral view may face either way, so it is turned and never mirrored.
    check(projection("A\\F"), Turn::None, said);
    check(projection("P\\F"), Turn::None, said);
    check(projection("A\\H"), Turn::Half, said);
    check(projection("F\\P"), Turn::Right, said);
    check(projection("L\\P"), Turn::None, said);
    for nonsense in ["L\\R", "L", "X\\F", "LR\\F", "L\\F\\H"] {
        check(projection(nonsense), Turn::None, StandsBy::NotStated);
    }
    check(image(DX, "DX", 1), Turn::None, StandsBy::NotStated);

    let slice = |orientation| image(CT, "CT", 1).plane([0.0; 3], orientation);
    let placed = StandsBy::ImageOrientation;
    check(slice([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), Turn::None, placed);
    check(slice([-1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), Turn::FlipColumns, placed);
    check(slice([-1.0, 0.0, 0.0, 0.0, -1.0, 0.0]), Turn::Half, placed);
    check(slice([0.0, 1.0, 0.0, 0.0, 0.0, -1.0]), Turn::None, placed);
    check(slice([0.0, -1.0, 0.0, 0.0, 0.0, -1.0]), Turn::FlipColumns, placed);
    check(slice([1.0, 0.0, 0.0, 0.0, 0.0, 1.0]), Turn::FlipRows, placed);
    // A place in the patient counts for more than letters, which workstations copy.
    let both = slice([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]).text(tags::PATIENT_ORIENTATION, VR::CS, "R\\F");
    check(both, Turn::None, placed);

    let breast = |side: &str, text: &str| {
        image(MG, "MG", 1).text(tags::IMAGE_LATERALITY, VR::CS, side).text(tags::PATIENT_ORIENTATION, VR::CS, text)
    };
    // The chest wall of the right breast is on the right, of the left one on the left.
    check(breast("R", "P\\FL"), Turn::None, said);
    check(breast("R", "A\\FL"), Turn::FlipColumns, said);
    check(breast("L", "A\\FR"), Turn::None, said);
    check(breast("L", "P\\FR"), Turn::FlipColumns, said);
    check(breast("R", "P\\L"), Turn::None, said);
    check(breast("L", "A\\R"), Turn::None, said);
    check(breast("L", "A\\L"), Turn::FlipRows, said);
    check(breast("B", "A\\L"), Turn::None, StandsBy::NotStated);
}

#[test]
fn views_have_the_names_that_manifests_use() {
    let code = |value: &str, modifiers: usize| {
        let mut item = Made::item(tags::CODE_VALUE, VR::SH, value);
        let modifier = vec![InMemDicomObject::new_empty(); modifiers];
        let modifier = Value::from(DataSetSequence::from(modifier));
        item.put(DataElement::new(tags::VIEW_MODIFIER_CODE_SEQUENCE, VR::SQ, modifier));
        vec![item]
    };
    let check = |made: Made, name: Option<&str>, is: &str| {
        let instance = made.instance();
        let view = View::of(&instance.header, Some(&instance));
        assert_eq!(view.name().as_deref(), name);
        let wanted = ["RCC", "LCC", "RMLO", "LMLO", "PA", "MLO"];
        let found: Vec<&str> = wanted.into_iter().filter(|wanted| view.is(wanted)).collect();
        assert_eq!(found.join(" "), is);
    };
    let breast = |side: &str| image(MG, "MG", 1).text(tags::IMAGE_LATERALITY, VR::CS, side);
    check(breast("R").items(tags::VIEW_CODE_SEQUENCE, code("R-10242", 0)), Some("RCC"), "RCC");
    check(breast("L").items(tags::VIEW_CODE_SEQUENCE, code("399368009", 0)), Some("LMLO"), "LMLO MLO");
    check(breast("L").text(tags::VIEW_POSITION, VR::CS, "CC"), Some("LCC"), "LCC");
    check(image(MG, "MG", 1).text(tags::VIEW_POSITION, VR::CS, "CC"), None, "");
    // A magnified view is none of the four.
    check(breast("R").items(tags::VIEW_CODE_SEQUENCE, code("R-10242", 1)), Some("RCC"), "");
    check(image(DX, "DX", 1).text(tags::VIEW_POSITION, VR::CS, "pa"), Some("PA"), "PA");
    check(image(DX, "DX", 1).items(tags::VIEW_CODE_SEQUENCE, code("272479007", 0)), Some("PA"), "PA");
    // Of a projection a code counts for more than View Position, whose values are older.
    let both = image(DX, "DX", 1).text(tags::VIEW_POSITION, VR::CS, "AP");
    check(both.items(tags::VIEW_CODE_SEQUENCE, code("R-40888", 0)), Some("PA"), "PA");
    check(image(DX, "DX", 1), None, "");
}
