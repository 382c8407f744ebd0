//! Reads A-ASSOCIATE-RQ and A-ASSOCIATE-AC (PS3.8 sections 9.3.2 and 9.3.3).
//!
//! Written here and not taken from dicom-ul: items of unrecognized types are to be skipped (PS3.8 section 9.3.1), and a
//! refused presentation context need not name a transfer syntax (table 9-18), but dicom-ul refuses the whole PDU for
//! either. One pass, bounded by the length of the PDU.

use dicom_ul::{
    Pdu,
    pdu::{
        AssociationAC, AssociationRQ, PresentationContextProposed, PresentationContextResult,
        PresentationContextResultReason as Reason, RequestorRoles, UserVariableItem,
    },
};

/// Protocol version, two reserved bytes, two titles, 32 reserved bytes.
const FIXED_FIELDS: usize = 68;

mod item {
    pub(super) const APPLICATION_CONTEXT: u8 = 0x10;
    pub(super) const PROPOSED_CONTEXT: u8 = 0x20;
    pub(super) const CONTEXT_RESULT: u8 = 0x21;
    pub(super) const ABSTRACT_SYNTAX: u8 = 0x30;
    pub(super) const TRANSFER_SYNTAX: u8 = 0x40;
    pub(super) const USER_INFORMATION: u8 = 0x50;
    pub(super) const MAXIMUM_LENGTH: u8 = 0x51;
    pub(super) const IMPLEMENTATION_CLASS: u8 = 0x52;
    pub(super) const ROLE_SELECTION: u8 = 0x54;
    pub(super) const IMPLEMENTATION_VERSION: u8 = 0x55;
    pub(super) const EXTENDED_NEGOTIATION: u8 = 0x56;
}

/// What both PDUs hold.
struct Body<'a> {
    protocol_version: u16,
    called_ae_title: String,
    calling_ae_title: String,
    items: &'a [u8],
}

/// Reads the body of an A-ASSOCIATE-RQ; nothing where a field is cut short or the application context is missing.
pub(crate) fn request(body: &[u8]) -> Option<Pdu> {
    let body = fixed(body)?;
    let (mut application_context_name, mut presentation_contexts, mut user_variables) = (None, Vec::new(), Vec::new());
    for (kind, value) in Items(body.items) {
        match (kind, value?) {
            (item::APPLICATION_CONTEXT, value) => application_context_name = Some(text(value)),
            (item::PROPOSED_CONTEXT, value) => presentation_contexts.push(proposed(value)?),
            (item::USER_INFORMATION, value) => user_information(value, &mut user_variables)?,
            _ => {}
        }
    }
    Some(Pdu::AssociationRQ(AssociationRQ {
        protocol_version: body.protocol_version,
        calling_ae_title: body.calling_ae_title,
        called_ae_title: body.called_ae_title,
        application_context_name: application_context_name?,
        presentation_contexts,
        user_variables,
    }))
}

/// Reads the body of an A-ASSOCIATE-AC; nothing where a field is cut short.
pub(crate) fn acceptance(body: &[u8]) -> Option<Pdu> {
    let body = fixed(body)?;
    let (mut application_context_name, mut presentation_contexts, mut user_variables) =
        (String::new(), Vec::new(), Vec::new());
    for (kind, value) in Items(body.items) {
        match (kind, value?) {
            (item::APPLICATION_CONTEXT, value) => application_context_name = text(value),
            (item::CONTEXT_RESULT, value) => presentation_contexts.push(result(value)?),
            (item::USER_INFORMATION, value) => user_information(value, &mut user_variables)?,
            _ => {}
        }
    }
    Some(Pdu::AssociationAC(AssociationAC {
        protocol_version: body.protocol_version,
        calling_ae_title: body.calling_ae_title,
        called_ae_title: body.called_ae_title,
        application_context_name,
        presentation_contexts,
        user_variables,
    }))
}

fn fixed(body: &[u8]) -> Option<Body<'_>> {
    let (fixed, items) = body.split_at_checked(FIXED_FIELDS)?;
    Some(Body {
        protocol_version: u16::from_be_bytes([fixed[0], fixed[1]]),
        called_ae_title: text(&fixed[4..20]),
        calling_ae_title: text(&fixed[20..36]),
        items,
    })
}

/// Items one after the other, by type; the value is missing where the item is cut short, and that is the last one.
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = (u8, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let kind = *self.0.first()?;
        let split = self
            .0
            .split_first_chunk::<4>()
            .and_then(|(&[_, _, high, low], rest)| rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))));
        let (value, rest) = split.map_or((None, &[][..]), |(value, rest)| (Some(value), rest));
        self.0 = rest;
        Some((kind, value))
    }
}

/// A proposed context; without an abstract syntax it is one that nobody supports.
fn proposed(value: &[u8]) -> Option<PresentationContextProposed> {
    let (&[id, ..], items) = value.split_first_chunk::<4>()?;
    let (mut abstract_syntax, mut transfer_syntaxes) = (String::new(), Vec::new());
    for (kind, value) in Items(items) {
        match (kind, value?) {
            (item::ABSTRACT_SYNTAX, value) => abstract_syntax = text(value),
            (item::TRANSFER_SYNTAX, value) => transfer_syntaxes.push(text(value)),
            _ => {}
        }
    }
    Some(PresentationContextProposed { id, abstract_syntax, transfer_syntaxes })
}

/// The result for a context. A reason that the standard does not know is a refusal; what a refusal says of a transfer
/// syntax is not looked at.
fn result(value: &[u8]) -> Option<PresentationContextResult> {
    let (&[id, _, reason, _], items) = value.split_first_chunk::<4>()?;
    let reason = match reason {
        0 => Reason::Acceptance,
        1 => Reason::UserRejection,
        3 => Reason::AbstractSyntaxNotSupported,
        4 => Reason::TransferSyntaxesNotSupported,
        _ => Reason::NoReason,
    };
    let mut transfer_syntax = None;
    for (kind, value) in Items(items) {
        match value {
            None if reason == Reason::Acceptance => return None,
            Some(value) if kind == item::TRANSFER_SYNTAX => transfer_syntax = transfer_syntax.or(Some(text(value))),
            _ => {}
        }
    }
    Some(PresentationContextResult { id, reason, transfer_syntax: transfer_syntax.unwrap_or_default() })
}

/// The sub-items that mean something here (PS3.7 annex D.3.3). Asynchronous operations, user identity and what is newer are
/// skipped as unrecognized ones are.
fn user_information(value: &[u8], variables: &mut Vec<UserVariableItem>) -> Option<()> {
    for (kind, value) in Items(value) {
        let value = value?;
        variables.push(match kind {
            item::MAXIMUM_LENGTH => UserVariableItem::MaxLength(u32::from_be_bytes(*value.first_chunk::<4>()?)),
            item::IMPLEMENTATION_CLASS => UserVariableItem::ImplementationClassUID(text(value)),
            item::IMPLEMENTATION_VERSION => UserVariableItem::ImplementationVersionName(text(value)),
            item::ROLE_SELECTION => {
                let (uid, roles) = of_class(value)?;
                let [scu, scp] = *roles.first_chunk::<2>()?;
                UserVariableItem::ScuScpRoleSelectionSubItem(uid, RequestorRoles { scu: scu != 0, scp: scp != 0 })
            }
            item::EXTENDED_NEGOTIATION => {
                let (uid, information) = of_class(value)?;
                UserVariableItem::SopClassExtendedNegotiationSubItem(uid, information.to_vec())
            }
            _ => continue,
        });
    }
    Some(())
}

/// A SOP Class UID with its length before it, and what follows.
fn of_class(value: &[u8]) -> Option<(String, &[u8])> {
    let (&length, rest) = value.split_first_chunk::<2>()?;
    let (uid, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(length)))?;
    Some((text(uid), rest))
}

/// ISO 646, read as its superset ISO 8859-1 so that every byte is a letter; without white space around it.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[kind, 0], &length[..], value].concat()
    }

    fn body(items: &[Vec<u8>]) -> Vec<u8> {
        let titles = b"PREREAD         TEST            ";
        [&[0, 1, 0, 0][..], titles, &[0; 32], &items.concat()].concat()
    }

    /// One of each that means something, with strangers (0x99 and 0xF0) at every level, first and last.
    fn with_strangers(context: u8, inside: &[u8]) -> Vec<u8> {
        let (stranger, empty) = (item(0x99, b"xx"), item(0xF0, b""));
        let syntaxes = [&stranger[..], inside, &item(0x40, b"1.2.840.10008.1.2"), &empty].concat();
        let user = [
            &empty[..],
            &item(0x51, &[0, 0, 64, 0]),
            &item(0x57, &[0, 1]),
            &item(0x58, &[9]),
            &item(0x53, &[]),
            &stranger,
            &item(0x55, b"NAME"),
            &item(0x54, &[&[0, 3][..], b"1.2", &[1, 0]].concat()),
        ]
        .concat();
        body(&[
            stranger.clone(),
            item(0x10, b"1.2.840.10008.3.1.1.1"),
            empty.clone(),
            item(context, &[&[1, 0, 0, 0][..], &syntaxes].concat()),
            item(0x50, &user),
            stranger,
        ])
    }

    fn variables() -> Vec<UserVariableItem> {
        vec![
            UserVariableItem::MaxLength(16384),
            UserVariableItem::ImplementationVersionName("NAME".to_owned()),
            UserVariableItem::ScuScpRoleSelectionSubItem("1.2".to_owned(), RequestorRoles { scu: true, scp: false }),
        ]
    }

    #[test]
    fn items_of_unrecognized_types_are_skipped_at_every_level() {
        let Some(Pdu::AssociationRQ(read)) = request(&with_strangers(0x20, &item(0x30, b"1.2.840.10008.1.1\0"))) else {
            panic!("no request");
        };
        assert_eq!((read.called_ae_title.as_str(), read.calling_ae_title.as_str()), ("PREREAD", "TEST"));
        assert_eq!(read.application_context_name, "1.2.840.10008.3.1.1.1");
        let expected = PresentationContextProposed {
            id: 1,
            abstract_syntax: "1.2.840.10008.1.1\0".to_owned(),
            transfer_syntaxes: vec!["1.2.840.10008.1.2".to_owned()],
        };
        assert_eq!(read.presentation_contexts, [expected]);
        assert_eq!(read.user_variables, variables());

        let Some(Pdu::AssociationAC(read)) = acceptance(&with_strangers(0x21, &[])) else { panic!("no acceptance") };
        let [context] = read.presentation_contexts.as_slice() else { panic!("{:?}", read.presentation_contexts) };
        assert_eq!((context.id, &context.reason), (1, &Reason::Acceptance));
        assert_eq!(context.transfer_syntax, "1.2.840.10008.1.2");
        assert_eq!(read.user_variables, variables());
    }

    #[test]
    fn a_refused_context_needs_no_transfer_syntax() {
        for (reason, expected) in [(3, Reason::AbstractSyntaxNotSupported), (9, Reason::NoReason)] {
            for syntax in [vec![], item(0x40, b""), item(0x99, b"x"), vec![0x40, 0, 9]] {
                let context = item(0x21, &[&[5, 0, reason, 0][..], &syntax].concat());
                let Some(Pdu::AssociationAC(read)) = acceptance(&body(&[context])) else { panic!("no acceptance") };
                assert_eq!(read.presentation_contexts[0].reason, expected);
            }
        }
    }

    #[test]
    fn what_is_cut_short_is_no_request() {
        let whole = with_strangers(0x20, &item(0x30, b"1.2.840.10008.1.1"));
        // Where an item ends, from the application context on.
        let mut ends = vec![FIXED_FIELDS];
        while let Some(&end) = ends.last().filter(|end| **end < whole.len()) {
            ends.push(end + 4 + usize::from(u16::from_be_bytes([whole[end + 2], whole[end + 3]])));
        }
        for length in 0..=whole.len() {
            assert_eq!(request(&whole[..length]).is_some(), ends[2..].contains(&length), "{length}");
        }
        let context = item(0x10, b"1.2.840.10008.3.1.1.1");
        for bad in [
            item(0x20, &[1, 0, 0]),
            item(0x20, &[1, 0, 0, 0, 0x30, 0, 0, 9]),
            item(0x50, &item(0x51, &[0, 0, 1])),
            item(0x50, &item(0x54, &[0, 9, b'1'])),
            item(0x50, &item(0x54, &[0, 1, b'1', 1])),
            item(0x50, &item(0x56, &[0])),
        ] {
            assert!(request(&body(&[context.clone(), bad.clone()])).is_none(), "{bad:?}");
        }
        // An application context there must be.
        assert!(request(&body(&[])).is_none());
    }
}
