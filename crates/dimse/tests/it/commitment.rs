//! Storage commitment: what is taken, what is refused, and every way in which a result comes to the peer or does not.

use std::time::Duration;

use dataset::{Limits, TransferSyntax, parse_data_set, tags};
use dicom_core::{DataElement, PrimitiveValue, VR, value::DataSetSequence};
use dicom_object::InMemDicomObject;
use dicom_ul::{
    Pdu,
    association::client::ClientAssociationOptions,
    pdu::{
        AssociationAC, PDataValueType, PresentationContextResult, PresentationContextResultReason, RequestorRoles,
        UserVariableItem, read_pdu, write_pdu,
    },
};
use dimse::{
    CommitmentRequest, CommitmentResult, Destination, Error, FailureReason, InstanceReference, Refusal, ReportError,
    report_commitment,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    provider::{Association, aborted, command, echo_command, message, response, send, value},
    support::{CT, EXPLICIT, Memory, Running, config, destination},
};

const PUSH_MODEL: &str = "1.2.840.10008.1.20.1";
const INSTANCE: &str = "1.2.840.10008.1.20.1.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const TRANSACTION: &str = "1.2.3.99";

/// Context 1 is storage commitment in `syntax`, context 3 verification.
async fn associate(running: &Running, syntax: &'static str) -> Association {
    ClientAssociationOptions::new()
        .calling_ae_title("TEST")
        .called_ae_title("PREREAD")
        .with_presentation_context(PUSH_MODEL, vec![syntax])
        .with_presentation_context("1.2.840.10008.1.1", vec![IMPLICIT])
        .establish_async(running.address)
        .await
        .unwrap()
}

fn action(message: u16, class: &str, instance: &str, action: u16) -> Vec<u8> {
    command(&[
        (0x0003, class.as_bytes()),
        (0x0100, &0x0130_u16.to_le_bytes()),
        (0x0110, &message.to_le_bytes()),
        (0x0800, &[0, 0]),
        (0x1001, instance.as_bytes()),
        (0x1008, &action.to_le_bytes()),
    ])
}

fn reference(instance: &str) -> InstanceReference {
    InstanceReference { sop_class_uid: CT.parse().unwrap(), sop_instance_uid: instance.parse().unwrap() }
}

/// The data set of a request, in `syntax`; what is `None` is left out.
fn information(syntax: &str, transaction: Option<&str>, instances: Option<&[(&str, &str)]>) -> Vec<u8> {
    let mut object = InMemDicomObject::new_empty();
    if let Some(uid) = transaction {
        object.put(DataElement::new(tags::TRANSACTION_UID, VR::UI, PrimitiveValue::from(uid)));
    }
    let item = |&(class, instance): &(&str, &str)| {
        InMemDicomObject::from_element_iter([
            DataElement::new(tags::REFERENCED_SOP_CLASS_UID, VR::UI, PrimitiveValue::from(class)),
            DataElement::new(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from(instance)),
        ])
    };
    if let Some(instances) = instances {
        let items: Vec<_> = instances.iter().map(item).collect();
        object.put(DataElement::new(tags::REFERENCED_SOP_SEQUENCE, VR::SQ, DataSetSequence::from(items)));
    }
    let mut bytes = Vec::new();
    let entry = dicom_transfer_syntax_registry::TransferSyntaxIndex::get(
        &dicom_transfer_syntax_registry::TransferSyntaxRegistry,
        syntax,
    );
    object.write_dataset_with_ts(&mut bytes, entry.unwrap()).unwrap();
    bytes
}

/// Asks for two instances and answers what the sink got.
async fn ask(running: &Running, association: &mut Association, message_id: u16, syntax: &str) -> CommitmentRequest {
    let information = information(syntax, Some(TRANSACTION), Some(&[(CT, "1.2.5"), (CT, "1.2.6")]));
    message(association, 1, &action(message_id, PUSH_MODEL, INSTANCE, 1), Some(&information)).await;
    assert_eq!(response(association).await, (0x8130, message_id, 0));
    running.memory.stored.lock().unwrap().commitments.pop().unwrap()
}

fn result(failed: Option<FailureReason>) -> CommitmentResult {
    let mut result = CommitmentResult {
        transaction_uid: TRANSACTION.parse().unwrap(),
        committed: vec![reference("1.2.5")],
        failed: Vec::new(),
    };
    match failed {
        Some(reason) => result.failed.push((reference("1.2.6"), reason)),
        None => result.committed.push(reference("1.2.6")),
    }
    result
}

/// What an N-EVENT-REPORT says.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    event_type: u16,
    transaction: String,
    committed: Vec<String>,
    failed: Vec<(String, u16)>,
}

impl Event {
    fn expected(failed: Option<FailureReason>) -> Self {
        let (five, six) = ("1.2.5".to_owned(), "1.2.6".to_owned());
        let transaction = TRANSACTION.to_owned();
        match failed {
            None => Self { event_type: 1, transaction, committed: vec![five, six], failed: vec![] },
            Some(reason) => {
                Self { event_type: 2, transaction, committed: vec![five], failed: vec![(six, reason.code())] }
            }
        }
    }

    fn read(command: &[u8], data_set: &[u8], syntax: &str) -> (u16, Self) {
        let command = InMemDicomObject::read_dataset_with_ts(
            command,
            &dicom_transfer_syntax_registry::entries::IMPLICIT_VR_LITTLE_ENDIAN.erased(),
        );
        let command = command.unwrap();
        let number = |tag| command.get(tag).unwrap().to_int::<u16>().unwrap();
        let text = |object: &InMemDicomObject, tag| object.get(tag).unwrap().to_str().unwrap().into_owned();
        assert_eq!(number(tags::COMMAND_FIELD), 0x0100);
        assert_eq!(text(&command, tags::AFFECTED_SOP_CLASS_UID).trim_end_matches('\0'), PUSH_MODEL);
        assert_eq!(text(&command, tags::AFFECTED_SOP_INSTANCE_UID), INSTANCE);
        let syntax = TransferSyntax::from_uid(syntax).unwrap();
        let object = parse_data_set(data_set, syntax, &Limits::default()).unwrap();
        let items = |tag| object.get(tag).and_then(|sequence| sequence.items()).unwrap_or_default().to_vec();
        let instance = |item: &InMemDicomObject| {
            assert_eq!(text(item, tags::REFERENCED_SOP_CLASS_UID), CT);
            text(item, tags::REFERENCED_SOP_INSTANCE_UID)
        };
        let failure = |item: &InMemDicomObject| item.get(tags::FAILURE_REASON).unwrap().to_int::<u16>().unwrap();
        let failed = items(tags::FAILED_SOP_SEQUENCE);
        let event = Self {
            event_type: number(tags::EVENT_TYPE_ID),
            transaction: text(&object, tags::TRANSACTION_UID),
            committed: items(tags::REFERENCED_SOP_SEQUENCE).iter().map(instance).collect(),
            failed: failed.iter().map(|item| (instance(item), failure(item))).collect(),
        };
        (number(tags::MESSAGE_ID), event)
    }
}

/// The next event on an association that we requested, and its message ID.
async fn event(association: &mut Association, syntax: &str) -> (u16, Event) {
    let mut parts = [Vec::new(), Vec::new()];
    for part in &mut parts {
        let pdu = timeout(Duration::from_secs(10), association.receive()).await.unwrap().unwrap();
        let Pdu::PData { data } = pdu else { panic!("{}", pdu.short_description()) };
        assert!(data.len() == 1 && data[0].is_last && data[0].presentation_context_id == 1);
        part.clone_from(&data[0].data);
    }
    Event::read(&parts[0], &parts[1], syntax)
}

fn answer(message_id: u16, status: u16) -> Vec<u8> {
    command(&[
        (0x0002, PUSH_MODEL.as_bytes()),
        (0x0100, &0x8100_u16.to_le_bytes()),
        (0x0120, &message_id.to_le_bytes()),
        (0x0800, &[1, 1]),
        (0x0900, &status.to_le_bytes()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_comes_over_the_association_of_its_request() {
    let running = Running::usual().await;
    for (syntax, failed) in [
        (EXPLICIT, None),
        (IMPLICIT, Some(FailureReason::NoSuchObjectInstance)),
        ("1.2.840.10008.1.2.2", Some(FailureReason::ProcessingFailure)),
    ] {
        let mut association = associate(&running, syntax).await;
        let request = ask(&running, &mut association, 1, syntax).await;
        assert_eq!(request.transaction_uid.as_str(), TRANSACTION);
        assert_eq!(request.instances, [reference("1.2.5"), reference("1.2.6")]);
        assert_eq!(request.association.calling_ae_title, "TEST");
        let reporting = tokio::spawn(async move { request.reporter.report(result(failed)).await });
        let (message_id, event) = event(&mut association, syntax).await;
        assert_eq!(event, Event::expected(failed));
        // The peer may have something else to ask before it answers.
        message(&mut association, 3, &echo_command(2), None).await;
        assert_eq!(response(&mut association).await, (0x8030, 2, 0));
        message(&mut association, 1, &answer(message_id, 0), None).await;
        assert_eq!(reporting.await.unwrap(), Ok(()));
        association.release().await.unwrap();
    }
    running.all_closed(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_go_one_at_a_time_and_between_messages() {
    let running = Running::usual().await;
    let mut association = associate(&running, EXPLICIT).await;
    let first = ask(&running, &mut association, 1, EXPLICIT).await;
    let second = ask(&running, &mut association, 2, EXPLICIT).await;
    // A command has begun: nothing may come in between.
    let echo = echo_command(3);
    send(&mut association, vec![value(3, PDataValueType::Command, false, &echo[..20])]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let reporting: Vec<JoinHandle<_>> = [first, second]
        .into_iter()
        .map(|request| tokio::spawn(async move { request.reporter.report(result(None)).await }))
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    send(&mut association, vec![value(3, PDataValueType::Command, true, &echo[20..])]).await;
    assert_eq!(response(&mut association).await, (0x8030, 3, 0));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let (message_id, _) = event(&mut association, EXPLICIT).await;
        let early = timeout(Duration::from_millis(100), association.receive()).await;
        assert!(early.is_err(), "a second result came before the first was answered");
        message(&mut association, 1, &answer(message_id, 0), None).await;
        ids.push(message_id);
    }
    assert_ne!(ids[0], ids[1]);
    for reporting in reporting {
        assert_eq!(reporting.await.unwrap(), Ok(()));
    }
    association.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_does_not_arrive_is_told_so() {
    let mut config = config();
    config.deadlines.idle = Duration::from_millis(400);
    let running = Running::start(config, Memory::default()).await;
    // Refused, with a data set that nobody asked for.
    let mut association = associate(&running, EXPLICIT).await;
    let request = ask(&running, &mut association, 1, EXPLICIT).await;
    let reporter = request.reporter.clone();
    let reporting = tokio::spawn(async move { reporter.report(result(None)).await });
    let (message_id, _) = event(&mut association, EXPLICIT).await;
    let mut refusal = answer(message_id, 0x0110);
    let data_set_type = refusal.windows(4).position(|bytes| bytes == [0, 0, 0, 8]).unwrap();
    refusal[data_set_type + 8..data_set_type + 10].copy_from_slice(&[0, 0]);
    message(&mut association, 1, &refusal, Some(&[0; 8])).await;
    assert_eq!(reporting.await.unwrap(), Err(ReportError::Refused(0x0110)));
    // Not answered in time; the association stays, and the late answer disturbs nobody.
    let reporter = request.reporter.clone();
    let reporting = tokio::spawn(async move { reporter.report(result(None)).await });
    let (message_id, _) = event(&mut association, EXPLICIT).await;
    assert_eq!(reporting.await.unwrap(), Err(ReportError::TimedOut));
    message(&mut association, 1, &answer(message_id, 0), None).await;
    message(&mut association, 3, &echo_command(2), None).await;
    assert_eq!(response(&mut association).await, (0x8030, 2, 0));
    // Released before the answer, and before the result.
    let reporter = request.reporter.clone();
    let reporting = tokio::spawn(async move { reporter.report(result(None)).await });
    event(&mut association, EXPLICIT).await;
    association.release().await.unwrap();
    assert_eq!(reporting.await.unwrap(), Err(ReportError::Closed));
    running.all_closed(1).await;
    assert_eq!(request.reporter.report(result(None)).await, Err(ReportError::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_result_is_not_idle() {
    let mut config = config();
    config.deadlines.idle = Duration::from_millis(200);
    let running = Running::start(config, Memory::default()).await;
    let mut association = associate(&running, EXPLICIT).await;
    let request = ask(&running, &mut association, 1, EXPLICIT).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    message(&mut association, 3, &echo_command(2), None).await;
    assert_eq!(response(&mut association).await, (0x8030, 2, 0));
    drop(request);
    aborted(&mut association).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_cannot_be_taken_are_answered_and_the_association_kept() {
    let running = Running::usual().await;
    let mut association = associate(&running, EXPLICIT).await;
    let good = information(EXPLICIT, Some(TRANSACTION), Some(&[(CT, "1.2.5")]));
    let of = |transaction, instances| information(EXPLICIT, transaction, instances);
    // Sequences in sequences: what goes to a recursive parser unseen takes the process with it.
    let nested = [&[8, 0, 0x99, 0x11, b'S', b'Q', 0, 0], &[0xff; 4][..], &[0xfe, 0xff, 0, 0xe0], &[0xff; 4]].concat();
    let cases: [(&str, &str, u16, Vec<u8>, u16); 12] = [
        (CT, INSTANCE, 1, good.clone(), 0x0118),
        (PUSH_MODEL, "1.2.3", 1, good.clone(), 0x0112),
        (PUSH_MODEL, "no uid", 1, good.clone(), 0x0117),
        (PUSH_MODEL, INSTANCE, 2, good.clone(), 0x0123),
        (PUSH_MODEL, INSTANCE, 1, of(None, Some(&[(CT, "1.2.5")])), 0x0115),
        (PUSH_MODEL, INSTANCE, 1, of(Some("no uid"), Some(&[(CT, "1.2.5")])), 0x0115),
        (PUSH_MODEL, INSTANCE, 1, of(Some(TRANSACTION), None), 0x0115),
        (PUSH_MODEL, INSTANCE, 1, of(Some(TRANSACTION), Some(&[])), 0x0115),
        (PUSH_MODEL, INSTANCE, 1, of(Some(TRANSACTION), Some(&[(CT, "1.2.5"), (CT, "../etc")])), 0x0115),
        (PUSH_MODEL, INSTANCE, 1, good[..good.len() - 3].to_vec(), 0x0115),
        (PUSH_MODEL, INSTANCE, 1, vec![0xff; 100], 0x0115),
        (PUSH_MODEL, INSTANCE, 1, nested.repeat(5_000), 0x0115),
    ];
    for (message_id, (class, instance, action_type, data, status)) in (1..).zip(cases) {
        assert!(data.len() < 128 << 10, "one PDU takes it");
        message(&mut association, 1, &action(message_id, class, instance, action_type), Some(&data)).await;
        assert_eq!(response(&mut association).await, (0x8130, message_id, status), "{message_id}");
    }
    // No data set at all, a context for something else, and what the sink does not take.
    let mut without = action(20, PUSH_MODEL, INSTANCE, 1);
    let data_set_type = without.windows(4).position(|bytes| bytes == [0, 0, 0, 8]).unwrap();
    without[data_set_type + 8..data_set_type + 10].copy_from_slice(&[1, 1]);
    message(&mut association, 1, &without, None).await;
    assert_eq!(response(&mut association).await, (0x8130, 20, 0x0115));
    message(&mut association, 3, &action(21, PUSH_MODEL, INSTANCE, 1), Some(&good)).await;
    assert_eq!(response(&mut association).await, (0x8130, 21, 0x0211));
    running.memory.stored.lock().unwrap().commitment_refusals = vec![Refusal::Failed, Refusal::OutOfResources];
    for (message_id, status) in [(22, 0x0213), (23, 0x0110)] {
        message(&mut association, 1, &action(message_id, PUSH_MODEL, INSTANCE, 1), Some(&good)).await;
        assert_eq!(response(&mut association).await, (0x8130, message_id, status));
    }
    // Longer than it may be: read past.
    send(&mut association, vec![value(1, PDataValueType::Command, true, &action(24, PUSH_MODEL, INSTANCE, 1))]).await;
    for number in 1..=50 {
        send(&mut association, vec![value(1, PDataValueType::Data, number == 50, &[0; 100_000])]).await;
    }
    assert_eq!(response(&mut association).await, (0x8130, 24, 0x0213));
    assert!(running.memory.stored.lock().unwrap().commitments.is_empty());
    // And one that is as long as they come.
    let instances: Vec<String> = (0..20_000).map(|number| format!("1.2.840.113619.2.5.{number}")).collect();
    let references: Vec<(&str, &str)> = instances.iter().map(|instance| (CT, instance.as_str())).collect();
    let long = information(EXPLICIT, Some(TRANSACTION), Some(&references));
    send(&mut association, vec![value(1, PDataValueType::Command, true, &action(25, PUSH_MODEL, INSTANCE, 1))]).await;
    let pieces: Vec<_> = long.chunks(100_000).collect();
    for (number, piece) in pieces.iter().enumerate() {
        send(&mut association, vec![value(1, PDataValueType::Data, number + 1 == pieces.len(), piece)]).await;
    }
    assert_eq!(response(&mut association).await, (0x8130, 25, 0));
    assert_eq!(running.memory.stored.lock().unwrap().commitments[0].instances.len(), 20_000);
    association.release().await.unwrap();
}

/// How the acceptor of a new association behaves.
#[derive(Debug, Clone, Copy)]
struct Acceptor {
    /// What it says of the role that we propose, if anything.
    role: Option<bool>,
    accepts_context: bool,
    /// With what it answers the event.
    status: u16,
}

/// Accepts one association and answers the event that comes on it.
async fn accept(acceptor: Acceptor) -> (Destination, JoinHandle<Option<Event>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let destination = destination("SENDER", listener.local_addr().unwrap().port());
    let accepting = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = Vec::new();
        let Some(Pdu::AssociationRQ(request)) = next(&mut socket, &mut buffer).await else { panic!("no request") };
        let ours = RequestorRoles { scu: false, scp: true };
        assert!(
            request.user_variables.contains(&UserVariableItem::ScuScpRoleSelectionSubItem(PUSH_MODEL.to_owned(), ours))
        );
        let reason = match acceptor.accepts_context {
            true => PresentationContextResultReason::Acceptance,
            false => PresentationContextResultReason::AbstractSyntaxNotSupported,
        };
        let result = |id, transfer_syntax: &str| PresentationContextResult {
            id,
            reason: reason.clone(),
            transfer_syntax: transfer_syntax.to_owned(),
        };
        let contexts = request.presentation_contexts.iter();
        let contexts = contexts.map(|context| result(context.id, &context.transfer_syntaxes[0])).collect();
        let mut user_variables = vec![UserVariableItem::MaxLength(16_384)];
        if let Some(scp) = acceptor.role {
            let roles = RequestorRoles { scu: false, scp };
            user_variables.push(UserVariableItem::ScuScpRoleSelectionSubItem(PUSH_MODEL.to_owned(), roles));
        }
        let accepted = Pdu::AssociationAC(AssociationAC {
            protocol_version: 1,
            application_context_name: request.application_context_name,
            called_ae_title: request.called_ae_title,
            calling_ae_title: request.calling_ae_title,
            presentation_contexts: contexts,
            user_variables,
        });
        write(&mut socket, &accepted).await;
        let mut parts = [Vec::new(), Vec::new()];
        let mut context = 0;
        loop {
            match next(&mut socket, &mut buffer).await {
                Some(Pdu::PData { data }) => {
                    for value in data {
                        context = value.presentation_context_id;
                        let part = usize::from(value.value_type == PDataValueType::Data);
                        parts[part].extend_from_slice(&value.data);
                        if part == 1 && value.is_last {
                            let answer = answer(1, acceptor.status);
                            let data = vec![crate::provider::value(context, PDataValueType::Command, true, &answer)];
                            write(&mut socket, &Pdu::PData { data }).await;
                        }
                    }
                }
                Some(Pdu::ReleaseRQ) => write(&mut socket, &Pdu::ReleaseRP).await,
                None => break,
                Some(other) => panic!("{other:?}"),
            }
        }
        (context == 1).then(|| Event::read(&parts[0], &parts[1], EXPLICIT).1)
    });
    (destination, accepting)
}

async fn next(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Pdu> {
    loop {
        if let Some(length) = buffer.get(2..6) {
            let end = 6 + usize::try_from(u32::from_be_bytes(length.try_into().unwrap())).unwrap();
            if buffer.len() >= end {
                let pdu = read_pdu(&buffer[..end], 1 << 20, false).unwrap();
                buffer.drain(..end);
                return pdu;
            }
        }
        if socket.read_buf(buffer).await.unwrap() == 0 {
            return None;
        }
    }
}

async fn write(socket: &mut TcpStream, pdu: &Pdu) {
    let mut bytes = Vec::new();
    write_pdu(&mut bytes, pdu).unwrap();
    socket.write_all(&bytes).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_comes_over_a_new_association_on_which_we_are_provider() {
    let usual = Acceptor { role: Some(true), accepts_context: true, status: 0 };
    for acceptor in [usual, Acceptor { role: None, ..usual }] {
        for failed in [None, Some(FailureReason::ClassInstanceConflict)] {
            let (destination, accepting) = accept(acceptor).await;
            report_commitment(&destination, &result(failed)).await.unwrap();
            assert_eq!(accepting.await.unwrap(), Some(Event::expected(failed)));
        }
    }
    for acceptor in [Acceptor { role: Some(false), ..usual }, Acceptor { accepts_context: false, ..usual }] {
        let (destination, accepting) = accept(acceptor).await;
        let error = report_commitment(&destination, &result(None)).await.unwrap_err();
        assert!(matches!(error, Error::NotOffered { .. }), "{error}");
        assert_eq!(accepting.await.unwrap(), None);
    }
    let (destination, accepting) = accept(Acceptor { status: 0x0110, ..usual }).await;
    let error = report_commitment(&destination, &result(None)).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 0x0110, .. }), "{error}");
    assert!(accepting.await.unwrap().is_some());
    // Longer than one PDU, and nobody there.
    let (destination, accepting) = accept(usual).await;
    let mut long = result(None);
    long.committed = (0..2_000).map(|number| reference(&format!("1.2.{number}"))).collect();
    report_commitment(&destination, &long).await.unwrap();
    assert_eq!(accepting.await.unwrap().unwrap().committed.len(), 2_000);
    let error = report_commitment(&destination, &long).await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
}

#[test]
fn every_failure_reason_is_known_by_its_code() {
    for code in [0x0110, 0x0112, 0x0119, 0x0122, 0x0131, 0x0213] {
        assert_eq!(FailureReason::from_code(code).map(FailureReason::code), Some(code));
    }
    assert_eq!(FailureReason::from_code(0), None);
}
