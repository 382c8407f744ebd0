use dataset::{
    TransferSyntax,
    gate::{RawValue, Scan},
};

use super::*;

/// A header that states these; the fields are character set, id, issuer, birth date, sex, name.
fn header(fields: [&[u8]; 6]) -> Header {
    let tags = [
        tags::SPECIFIC_CHARACTER_SET,
        tags::PATIENT_ID,
        tags::ISSUER_OF_PATIENT_ID,
        tags::PATIENT_BIRTH_DATE,
        tags::PATIENT_SEX,
        tags::PATIENT_NAME,
    ];
    let value = |bytes: &[u8]| RawValue { vr: "LO".parse().unwrap(), bytes: bytes.to_vec() };
    let mut values: std::collections::BTreeMap<_, _> =
        tags.into_iter().zip(fields).map(|(tag, bytes)| (tag, value(bytes))).collect();
    values.insert(tags::STUDY_INSTANCE_UID, value(b"1.2.3"));
    let syntax = TransferSyntax::from_uid(TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
    Header::from_scan(Scan { values, ..Scan::default() }, syntax)
}

/// `id issuer birth-date sex name`, separated by `|`.
fn identity(line: &str) -> Identity {
    let fields: Vec<&[u8]> = line.split('|').map(str::as_bytes).collect();
    Identity::of(&header([b"ISO_IR 192", fields[0], fields[1], fields[2], fields[3], fields[4]]))
}

#[test]
fn instances_of_one_patient_are_one_group() {
    let check = |lines: &[&str], expected: &[usize]| {
        let identities: Vec<Identity> = lines.iter().map(|line| identity(line)).collect();
        assert_eq!(groups(&identities), expected, "{lines:?}");
        // Told again what they were made of.
        for identity in identities {
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
    };
    check(&[], &[]);
    check(&["1||||DOE^J"], &[0]);
    check(&["1||||DOE^J", "1||||DOE^J"], &[0, 0]);
    // The id decides.
    check(&["1||||DOE^J", "2||||DOE^J"], &[0, 1]);
    check(&["1||||DOE^J", "01||||DOE^J"], &[0, 1]);
    check(&["a||||DOE^J", "A||||DOE^J"], &[0, 1]);
    check(&["1 ||||DOE^J", " 1||||DOE^J"], &[0, 0]);
    check(&["1||||DOE^J", "2||||DOE^J", "1||||DOE^J"], &[0, 1, 0]);
    check(&["1||||A", "2||||B", "3||||C"], &[0, 1, 2]);
    // With its issuer; an empty one contradicts nothing.
    check(&["1|X|||DOE^J", "1|X|||DOE^J"], &[0, 0]);
    check(&["1|X|||DOE^J", "1|Y|||DOE^J"], &[0, 1]);
    check(&["1|X|||DOE^J", "1||||DOE^J"], &[0, 0]);
    // Birth date and sex contradict where both are stated.
    check(&["1||19700101||A", "1||19700101||A"], &[0, 0]);
    check(&["1||19700101||A", "1||19700102||A"], &[0, 1]);
    check(&["1||19700101||A", "1||||A"], &[0, 0]);
    check(&["1||1970.01.01||A", "1||19700101||A"], &[0, 0]);
    check(&["1||00000000||A", "1||19700101||A"], &[0, 0]);
    check(&["1|||M|A", "1|||F|A"], &[0, 1]);
    check(&["1|||M|A", "1|||m|A"], &[0, 0]);
    check(&["1|||M|A", "1|||U|A"], &[0, 0]);
    check(&["1|||M|A", "1||||A"], &[0, 0]);
    check(&["1|||M|A", "1|||O|A"], &[0, 1]);
    // A name alone does not, where there is an id.
    check(&["1||||DOE^J", "1||||SMITH^J"], &[0, 0]);
    check(&["1||||Yamada^Tarou", "1||||Yamada^Tarou=山田^太郎"], &[0, 0]);
    check(&["1||||DOE^J", "1||||"], &[0, 0]);
    // Without an id, name and birth date decide.
    check(&["||||DOE^J", "||||DOE^J"], &[0, 0]);
    check(&["||||DOE^J", "||||Doe^J^^ "], &[0, 0]);
    check(&["||||DOE^J", "||||ROE^J"], &[0, 1]);
    check(&["||||Yamada^Tarou", "||||Yamada^Tarou=山田^太郎"], &[0, 0]);
    check(&["||||Yamada^Tarou=山田^太郎", "||||Yamada^Tarou=山口^太郎"], &[0, 1]);
    check(&["||||Yamada^Tarou", "||||=山田^太郎"], &[0, 1]);
    check(&["||19700101||DOE^J", "||19710101||DOE^J"], &[0, 1]);
    check(&["||19700101||DOE^J", "||||DOE^J"], &[0, 0]);
    check(&["|||M|DOE^J", "|||F|DOE^J"], &[0, 1]);
    // Nothing stated contradicts nothing.
    check(&["1||||DOE^J", "||||DOE^J"], &[0, 0]);
    check(&["1||||DOE^J", "||||ROE^J"], &[0, 1]);
    check(&["1||||DOE^J", "||||"], &[0, 0]);
    check(&["||||", "||||"], &[0, 0]);
    // What would fit two patients is neither's.
    check(&["1||||A", "||||", "2||||B"], &[0, 1, 2]);
    check(&["||||", "1||||A", "2||||B"], &[0, 1, 2]);
    check(&["1|X|||A", "1||||A", "1|Y|||A"], &[0, 1, 2]);
    check(&["1||19700101||A", "1||||A", "1||19710101||A"], &[0, 1, 2]);
    check(&["1||||A", "||||A", "2||||A"], &[0, 1, 2]);
    check(&["1||||A", "||||B", "||||B", "2||||C"], &[0, 1, 1, 2]);
}

#[test]
fn a_name_in_two_encodings_is_one_name_and_bytes_without_a_set_are_bytes() {
    let of = |set: &[u8], name: &[u8]| Identity::of(&header([set, b"", b"", b"", b"", name]));
    let check = |one: Identity, other: Identity, same: bool| assert_eq!(!one.contradicts(&other), same);
    let utf8 = of(b"ISO_IR 192", "Müller".as_bytes());
    check(utf8, of(b"ISO_IR 100", b"M\xfcller"), true);
    check(utf8, of(b"ISO_IR 100", b"M\xf6ller"), false);
    check(of(b"", b"M\xfcller"), of(b"", b"M\xfcller"), true);
    check(of(b"", b"M\xfcller"), utf8, false);
    check(of(b"ISO_IR 192", b"M\xfcller"), of(b"ISO_IR 192", b"M\xfdller"), false);
    let fails = |set: &[u8], id: &[u8], name: &[u8]| undecodable(&header([set, id, b"", b"", b"", name])).len();
    assert_eq!(fails(b"ISO_IR 192", b"1", "Müller".as_bytes()), 0);
    assert_eq!(fails(b"ISO_IR 192", b"1", b"M\xfcller"), 1);
    assert_eq!(fails(b"ISO_IR 192", b"\xfc", b"M\xfcller"), 2);
    assert_eq!(fails(b"ISO_IR 999", b"1", b"M\xfcller"), 1);
    assert_eq!(fails(b"", b"1", b"M\xfcller"), 0, "it is taken over byte for byte");
    // Control characters say nothing: a report repeats the value without them.
    assert_eq!(fails(b"ISO_IR 100", b"1\x1b[2J\n", b"A\x1b]0;own\x07"), 0);
    check(of(b"ISO_IR 100", b"M\xfcller\x07"), utf8, true);
}

#[test]
fn bytes_that_are_no_characters_of_a_set_are_not_left_out_before_patients_are_compared() {
    let sets = [&b""[..], b"ISO_IR 6", b"ISO_IR 100", b"ISO_IR 144", b"ISO_IR 192", b"\\ISO 2022 IR 149"];
    for (set, at) in sets.into_iter().flat_map(|set| [(set, 1), (set, 2), (set, 5)]) {
        let of = |value: &[u8]| {
            let mut fields = [set, b"1", b"", b"", b"", b"A"];
            fields[1] = if at == 5 { b"" } else { fields[1] };
            fields[at] = value;
            header(fields)
        };
        let shown = format!("{} {at}", set.escape_ascii());
        // Šimek and Žimek in Windows-1252, which many senders take for ISO_IR 100.
        for (one, other) in [(&b"\x8aIMEK^J"[..], &b"\x8eIMEK^J"[..]), (b"\x8a1", b"1"), (b"1\x9b", b"1\x9c")] {
            let (one, other) = (of(one), of(other));
            assert!(Identity::of(&one).contradicts(&Identity::of(&other)), "{shown}");
            assert!(!Identity::of(&one).contradicts(&Identity::of(&one)), "{shown}");
            assert_eq!(undecodable(&one).len(), 1, "{shown}");
        }
    }
    // Controls of the upper half that are declared say nothing that is known, and may have been two letters.
    let of = |id: &str| Identity::of(&header([b"ISO_IR 192", id.as_bytes(), b"", b"", b"", b""]));
    assert!(of("\u{8a}1").contradicts(&of("\u{8e}1")));
    // UTF-8 without a declaration is bytes, whichever letters it has.
    for name in ["Müller", "MÜLLER", "É", "山田"] {
        assert_eq!(undecodable(&header([b"", b"1", b"", b"", b"", name.as_bytes()])), [], "{name}");
    }
}

#[test]
fn what_a_person_accepted_holds_until_somebody_unknown_comes() {
    let all = |lines: &[&str]| -> Vec<Identity> { lines.iter().map(|line| identity(line)).collect() };
    let known = all(&["1||||A", "2||||B", "1||||A"]);
    let check = |now: &[&str], accepted: Option<usize>, expected: Option<&[bool]>| {
        let accepted = accepted.map(|number| Acceptance::of(&known, number).to_string().parse().unwrap());
        let found = choose(&all(now), accepted.as_ref());
        match (expected, &found) {
            (Some(expected), Choice::These(found)) => assert_eq!(found, expected, "{now:?}"),
            (None, Choice::Open(_)) => {}
            _ => panic!("{now:?}: {found:?}"),
        }
    };
    check(&["1||||A", "1||||A"], None, Some(&[true, true]));
    check(&["1||||A", "2||||B"], None, None);
    check(&["1||||A", "2||||B", "1||||A"], Some(0), Some(&[true, false, true]));
    check(&["1||||A", "2||||B", "1||||A"], Some(1), Some(&[false, true, false]));
    // More of the same, and more that fits them alone.
    check(&["1||||A", "2||||B", "1||||A", "2||||B", "1||||A"], Some(0), Some(&[true, false, true, false, true]));
    check(&["1||||A", "2||||B", "1||||C"], Some(0), Some(&[true, false, true]));
    // Somebody else, or nobody in particular.
    check(&["1||||A", "2||||B", "3||||C"], Some(0), None);
    check(&["1||||A", "2||||B", "||||"], Some(0), None);
    // Who was accepted is not there any more.
    check(&["2||||B", "3||||C"], Some(0), None);
    // What a person ruled out does not count because it is alone, nor does what nobody decided of.
    check(&["2||||B"], Some(0), None);
    check(&["1||||A", "1||||A"], Some(1), None);
    check(&["3||||C"], Some(0), None);
    check(&["1||||A"], Some(0), Some(&[true]));
    check(&[], Some(0), Some(&[]));
}

#[test]
fn a_report_follows_another_only_where_both_are_filed_under_one_patient() {
    let check = |one: &str, other: &str, expected: bool| {
        assert_eq!(identity(one).is_filed_with(&identity(other)), expected, "{one} {other}");
    };
    check("1||||A", "1||||A", true);
    check("1||||A", "1||||B", true);
    check("1||19700101||A", "1||19710101||A", true);
    check("1||||A", "2||||A", false);
    check("1|X|||A", "1|Y|||A", false);
    check("1|X|||A", "1||||A", true);
    check("||||A", "1||||A", false);
    check("||||A", "||||A", true);
    check("||||A", "||||B", false);
}

#[test]
fn many_identities_are_not_compared_for_ever() {
    let identities: Vec<Identity> = (0..5_000).map(|number| identity(&format!("{number}||||A"))).collect();
    assert_eq!(groups(&identities), (0..5_000).collect::<Vec<_>>());
    assert_eq!(names(&identities), 1);
}
