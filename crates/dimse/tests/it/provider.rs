//! The provider against DCMTK's users, and against a user that fragments, mixes and breaks off as no program would.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::atomic::Ordering,
    time::Duration,
};

use dataset::{Header, Limits};
use dicom_ul::{
    Pdu,
    association::client::{AsyncClientAssociation, ClientAssociationOptions},
    pdu::{AbortRQServiceProviderReason, AbortRQSource, PDataValue, PDataValueType},
};
use dimse::{Refusal, echo};
use tokio::{net::TcpStream, time::timeout};

use crate::support::{CT, EXPLICIT, Memory, Running, Step, config, data_set, dcmtk, peer, run, shared_files, split};

const VERIFICATION: &str = "1.2.840.10008.1.1";
const IMPLICIT: &str = "1.2.840.10008.1.2";

pub(crate) type Association = AsyncClientAssociation<TcpStream>;

/// Context 1 is Verification, context 3 CT Image Storage in Explicit VR Little Endian.
async fn associate(running: &Running) -> Association {
    ClientAssociationOptions::new()
        .calling_ae_title("TEST")
        .called_ae_title("PREREAD")
        .with_presentation_context(VERIFICATION, vec![IMPLICIT])
        .with_presentation_context(CT, vec![EXPLICIT])
        .establish_async(running.address)
        .await
        .unwrap()
}

/// A command set, from element numbers and values.
pub(crate) fn command(elements: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, value) in elements {
        let mut value = value.to_vec();
        value.resize(value.len().next_multiple_of(2), 0);
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&value);
    }
    bytes
}

fn store_command(message: u16, class: &str, instance: &str) -> Vec<u8> {
    command(&[
        (0x0002, class.as_bytes()),
        (0x0100, &1_u16.to_le_bytes()),
        (0x0110, &message.to_le_bytes()),
        (0x0700, &[0, 0]),
        (0x0800, &[0, 0]),
        (0x1000, instance.as_bytes()),
    ])
}

pub(crate) fn echo_command(message: u16) -> Vec<u8> {
    let number = message.to_le_bytes();
    command(&[(0x0002, VERIFICATION.as_bytes()), (0x0100, &[0x30, 0]), (0x0110, &number), (0x0800, &[1, 1])])
}

pub(crate) fn value(context: u8, value_type: PDataValueType, is_last: bool, data: &[u8]) -> PDataValue {
    PDataValue { presentation_context_id: context, value_type, is_last, data: data.to_vec() }
}

pub(crate) async fn send(association: &mut Association, data: Vec<PDataValue>) {
    association.send(&Pdu::PData { data }).await.unwrap();
}

/// Sends a message, each part whole.
pub(crate) async fn message(association: &mut Association, context: u8, command: &[u8], data: Option<&[u8]>) {
    send(association, vec![value(context, PDataValueType::Command, true, command)]).await;
    if let Some(data) = data {
        send(association, vec![value(context, PDataValueType::Data, true, data)]).await;
    }
}

/// The next response: command field, message ID responded to, status.
pub(crate) async fn response(association: &mut Association) -> (u16, u16, u16) {
    let pdu = timeout(Duration::from_secs(10), association.receive()).await.unwrap().unwrap();
    let Pdu::PData { data } = pdu else { panic!("{}", pdu.short_description()) };
    let [value] = data.as_slice() else { panic!("{} values", data.len()) };
    assert!(value.is_last && value.value_type == PDataValueType::Command);
    let number = |wanted: u16| {
        let mut at = 0;
        loop {
            let head = &value.data[at..at + 8];
            let length = usize::try_from(u32::from_le_bytes(head[4..8].try_into().unwrap())).unwrap();
            if head[..4] == [0, 0, wanted.to_le_bytes()[0], wanted.to_le_bytes()[1]] {
                return u16::from_le_bytes(value.data[at + 8..at + 10].try_into().unwrap());
            }
            at += 8 + length;
        }
    };
    (number(0x0100), number(0x0120), number(0x0900))
}

/// Who aborts, and why.
pub(crate) async fn aborted(association: &mut Association) -> AbortRQSource {
    match timeout(Duration::from_secs(10), association.receive()).await.unwrap() {
        Ok(Pdu::AbortRQ { source }) => source,
        other => panic!("{other:?}"),
    }
}

const USER: AbortRQSource = AbortRQSource::ServiceUser;

fn provider(reason: AbortRQServiceProviderReason) -> AbortRQSource {
    AbortRQSource::ServiceProvider(reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn echoscu_is_answered_and_titles_are_checked() {
    let mut config = config();
    config.peers = vec![peer("127.0.0.0/8", "PACS*")];
    let running = Running::start(config, Memory::default()).await;
    let port = running.address.port().to_string();
    for (calling, called, expected) in
        [("PACS1", "PREREAD", ""), ("PACS1", "OTHER", "Called AE Title"), ("CT1", "PREREAD", "Calling AE Title")]
    {
        let mut program = dcmtk("echoscu");
        program.args(["-v", "-aet", calling, "-aec", called, "127.0.0.1", &port]);
        let (success, output) = run(program).await;
        assert_eq!(success, expected.is_empty(), "{output}");
        assert!(output.contains(expected), "{output}");
    }
    running.all_closed(1).await;
    assert_eq!(running.memory.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn storescu_stores_every_transfer_syntax_of_the_test_set() {
    // What storescu has to be told to propose.
    let options = BTreeMap::from([
        ("1.2.840.10008.1.2", "-xi"),
        ("1.2.840.10008.1.2.1", "-xe"),
        ("1.2.840.10008.1.2.2", "-xb"),
        ("1.2.840.10008.1.2.1.99", "-xd"),
        ("1.2.840.10008.1.2.4.50", "-xy"),
        ("1.2.840.10008.1.2.4.51", "-xx"),
        ("1.2.840.10008.1.2.4.70", "-xs"),
        ("1.2.840.10008.1.2.4.80", "-xt"),
        ("1.2.840.10008.1.2.4.81", "-xu"),
        ("1.2.840.10008.1.2.4.90", "-xv"),
        ("1.2.840.10008.1.2.4.91", "-xw"),
        ("1.2.840.10008.1.2.5", "-xr"),
    ]);
    let files = shared_files(&["codec", "colour", "series_ct_liver"]);
    let running = Running::usual().await;
    let (mut stored, mut identical) = (0, 0);
    let mut syntaxes = BTreeSet::new();
    for path in &files {
        let (meta, sent) = split(path);
        let Some(option) = options.get(meta.transfer_syntax_uid.as_str()) else { continue };
        let mut program = dcmtk("storescu");
        program.args(["-R", option, "-aec", "PREREAD", "127.0.0.1", &running.address.port().to_string()]).arg(path);
        let (success, output) = run(program).await;
        assert!(success, "{}: {output}", path.display());
        let (info, received) = running.memory.stored.lock().unwrap().instances.pop().unwrap();
        assert_eq!(info.sop_instance_uid, Header::open(path, &Limits::default()).unwrap().sop_instance_uid);
        assert_eq!(info.transfer_syntax.uid(), meta.transfer_syntax_uid.as_str(), "{}", path.display());
        syntaxes.insert(info.transfer_syntax.name());
        stored += 1;
        // storescu reads and writes the data set anew, so that sequences and padding may differ.
        identical += usize::from(received == sent);
    }
    println!(
        "storescu: {stored} of {} files stored, {identical} byte-identical, {} syntaxes",
        files.len(),
        syntaxes.len()
    );
    assert!(
        files.is_empty() || identical * 2 > stored && syntaxes.len() == options.len(),
        "{identical} {stored} {syntaxes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn findscu_gets_an_answer_and_the_server_lives() {
    let running = Running::usual().await;
    let mut program = dcmtk("findscu");
    let port = running.address.port().to_string();
    program.args(["-S", "-k", "QueryRetrieveLevel=STUDY", "-aec", "PREREAD", "127.0.0.1", &port]);
    let (_, output) = run(program).await;
    assert!(
        output.contains("No presentation context") || output.contains("No Acceptable Presentation Contexts"),
        "{output}"
    );
    echo(&running.destination()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_operation_is_refused_and_the_association_kept() {
    let running = Running::usual().await;
    let mut association = associate(&running).await;
    // C-FIND with an identifier, N-ACTION without a data set, C-CANCEL, and then C-ECHO.
    let find = command(&[(0x0002, CT.as_bytes()), (0x0100, &[0x20, 0]), (0x0110, &[1, 0]), (0x0800, &[0, 0])]);
    message(&mut association, 3, &find, Some(&data_set("1.2.3", 0))).await;
    assert_eq!(response(&mut association).await, (0x8020, 1, 0x0211));
    let action =
        command(&[(0x0003, b"1.2.840.10008.1.20.1"), (0x0100, &[0x30, 1]), (0x0110, &[2, 0]), (0x0800, &[1, 1])]);
    message(&mut association, 1, &action, None).await;
    assert_eq!(response(&mut association).await, (0x8130, 2, 0x0211));
    let cancel = command(&[(0x0100, &[0xff, 0x0f]), (0x0120, &[1, 0]), (0x0800, &[1, 1])]);
    message(&mut association, 1, &cancel, None).await;
    message(&mut association, 1, &echo_command(3), None).await;
    assert_eq!(response(&mut association).await, (0x8030, 3, 0));
    association.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_of_any_size_in_any_pdu_make_one_message() {
    let running = Running::usual().await;
    let mut association = associate(&running).await;
    let sent = data_set("1.2.5", 300);
    let store = store_command(7, CT, "1.2.5");
    let (first, second) = store.split_at(11);
    let (head, body) = sent.split_at(5);
    send(&mut association, vec![value(3, PDataValueType::Command, false, first)]).await;
    // The rest of the command, an empty fragment and the start of the data set in one PDU.
    let mixed = vec![
        value(3, PDataValueType::Command, true, second),
        value(3, PDataValueType::Data, false, &[]),
        value(3, PDataValueType::Data, false, head),
    ];
    send(&mut association, mixed).await;
    for byte in body {
        send(&mut association, vec![value(3, PDataValueType::Data, false, &[*byte])]).await;
    }
    // The last fragment is empty, and the next message is in the same PDU.
    let last =
        vec![value(3, PDataValueType::Data, true, &[]), value(1, PDataValueType::Command, true, &echo_command(8))];
    send(&mut association, last).await;
    assert_eq!(response(&mut association).await, (0x8001, 7, 0));
    assert_eq!(response(&mut association).await, (0x8030, 8, 0));
    association.release().await.unwrap();
    let stored = running.memory.stored.lock().unwrap();
    assert_eq!(stored.instances[0].1, sent);
    assert_eq!(stored.instances[0].0.association.peer_name, "loopback");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_answered_and_the_next_instance_is_served() {
    let running = Running::usual().await;
    let refusals = vec![
        Some((Step::Begin, Refusal::OutOfResources)),
        Some((Step::Write, Refusal::Failed)),
        Some((Step::Commit, Refusal::DataSetMismatch)),
        Some((Step::Commit, Refusal::CannotUnderstand("sequences nested deeper than 64".to_owned()))),
        None,
    ];
    running.memory.stored.lock().unwrap().refusals = refusals;
    let mut association = associate(&running).await;
    let sent = data_set("1.2.5", 100_000);
    for (message, status) in (1..).zip([0xA700, 0xA700, 0xA900, 0xC000, 0]) {
        send(&mut association, vec![value(3, PDataValueType::Command, true, &store_command(message, CT, "1.2.5"))])
            .await;
        let pieces: Vec<_> = sent.chunks(16_000).collect();
        for (number, piece) in pieces.iter().enumerate() {
            send(&mut association, vec![value(3, PDataValueType::Data, number + 1 == pieces.len(), piece)]).await;
        }
        assert_eq!(response(&mut association).await, (0x8001, message, status));
    }
    assert_eq!(running.memory.abandoned.load(Ordering::SeqCst), 3);
    assert_eq!(running.memory.stored.lock().unwrap().instances.len(), 1);
    // What the sink is never asked.
    let cases =
        [("1.2.840.10008.5.1.4.1.2.2.1", "1.2.5", 0x0122), (CT, "../../etc/passwd", 0x0117), ("x", "1.2", 0x0122)];
    for (message_id, (class, instance, status)) in (10..).zip(cases) {
        message(&mut association, 3, &store_command(message_id, class, instance), Some(&sent)).await;
        assert_eq!(response(&mut association).await, (0x8001, message_id, status));
    }
    association.release().await.unwrap();
    running.all_closed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_protocol_is_aborted_and_what_was_cut_is_abandoned() {
    use AbortRQServiceProviderReason::{InvalidPduParameter, UnexpectedPdu};
    let running = Running::usual().await;
    let store = value(3, PDataValueType::Command, true, &store_command(1, CT, "1.2.5"));
    let part = value(3, PDataValueType::Data, false, &[0; 100]);
    let not_last = |context| value(context, PDataValueType::Command, false, &echo_command(1));
    let no_message_id = command(&[(0x0100, &[0x30, 0]), (0x0800, &[1, 1])]);
    let unasked = command(&[(0x0100, &[0x30, 0x80]), (0x0120, &[1, 0]), (0x0800, &[1, 1])]);
    let unasked_event = command(&[(0x0100, &[0, 0x81]), (0x0120, &[1, 0]), (0x0800, &[1, 1]), (0x0900, &[0, 0])]);
    let broken = [
        // A data set before any command, and a context that was not accepted.
        (vec![part.clone()], USER),
        (vec![value(5, PDataValueType::Command, true, &echo_command(1))], provider(InvalidPduParameter)),
        (vec![not_last(1), not_last(3)], USER),
        (vec![value(1, PDataValueType::Command, true, b"GET / HTTP/1.1\r\n")], USER),
        (vec![value(1, PDataValueType::Command, true, &no_message_id)], USER),
        (vec![value(1, PDataValueType::Command, true, &unasked)], USER),
        (vec![value(1, PDataValueType::Command, true, &unasked_event)], USER),
        (vec![store.clone(), part.clone(), value(1, PDataValueType::Command, true, &echo_command(2))], USER),
        (vec![store.clone(), part.clone(), value(1, PDataValueType::Data, true, &[0; 100])], USER),
    ];
    let count = broken.len();
    for (number, (data, source)) in broken.into_iter().enumerate() {
        let mut association = associate(&running).await;
        send(&mut association, data).await;
        assert_eq!(aborted(&mut association).await, source, "case {number}");
    }
    // A command without end.
    let mut association = associate(&running).await;
    for _ in 0..5 {
        send(&mut association, vec![value(1, PDataValueType::Command, false, &[0; 16_000])]).await;
    }
    assert_eq!(aborted(&mut association).await, USER);
    // A release in the middle of a command and of a data set, an abort and a lost connection in that of a data set.
    for data in [vec![not_last(1)], vec![store.clone(), part.clone()]] {
        let mut association = associate(&running).await;
        send(&mut association, data).await;
        association.send(&Pdu::ReleaseRQ).await.unwrap();
        assert_eq!(aborted(&mut association).await, provider(UnexpectedPdu));
    }
    let mut association = associate(&running).await;
    send(&mut association, vec![store.clone(), part.clone()]).await;
    association.abort().await.unwrap();
    let mut association = associate(&running).await;
    send(&mut association, vec![store, part]).await;
    drop(association);
    running.all_closed(count + 5).await;
    assert_eq!(running.memory.abandoned.load(Ordering::SeqCst), 5);
    assert!(running.memory.stored.lock().unwrap().instances.is_empty());
    echo(&running.destination()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_values_and_padding_are_taken() {
    let running = Running::usual().await;
    let mut association = associate(&running).await;
    let mut odd = Vec::new();
    for (number, value) in
        [(0x0002_u16, CT.as_bytes()), (0x0100, &[1, 0]), (0x0110, &[7, 0]), (0x0800, &[0, 0]), (0x1000, b"1.2.5")]
    {
        odd.extend_from_slice(&[0, 0]);
        odd.extend_from_slice(&number.to_le_bytes());
        odd.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
        odd.extend_from_slice(value);
    }
    odd.push(0);
    let sent = data_set("1.2.5", 301);
    message(&mut association, 3, &odd, Some(&sent)).await;
    assert_eq!(response(&mut association).await, (0x8001, 7, 0));
    association.release().await.unwrap();
    assert_eq!(running.memory.stored.lock().unwrap().instances[0].1, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_class_that_is_not_configured_is_refused_by_context_and_by_command() {
    const PRIVATE: &str = "1.2.840.113619.4.30";
    for (configured, status) in [(vec![], 0x0122), (vec!["1.2.840.113619.*"], 0)] {
        let mut config = config();
        config.private_sop_classes = configured.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let running = Running::start(config, Memory::default()).await;
        let mut association = ClientAssociationOptions::new()
            .calling_ae_title("TEST")
            .called_ae_title("PREREAD")
            .with_presentation_context(PRIVATE, vec![EXPLICIT])
            .with_presentation_context(CT, vec![EXPLICIT])
            .establish_async(running.address)
            .await
            .unwrap();
        let accepted = association.presentation_contexts().iter().any(|context| context.id == 1);
        assert_eq!(accepted, status == 0);
        // Also on the context of another class.
        let sent = data_set("1.2.5", 10);
        message(&mut association, 3, &store_command(1, PRIVATE, "1.2.5"), Some(&sent)).await;
        assert_eq!(response(&mut association).await, (0x8001, 1, status));
        message(&mut association, 3, &store_command(2, CT, "1.2.5"), Some(&sent)).await;
        assert_eq!(response(&mut association).await, (0x8001, 2, 0));
        association.release().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_cannot_let_go_has_the_association_aborted_in_place_of_its_release() {
    let running = Running::start(config(), Memory { holds_on: true, ..Memory::default() }).await;
    let mut association = associate(&running).await;
    message(&mut association, 1, &echo_command(1), None).await;
    assert_eq!(response(&mut association).await, (0x8030, 1, 0));
    association.send(&Pdu::ReleaseRQ).await.unwrap();
    assert_eq!(aborted(&mut association).await, USER);
    running.all_closed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_on_pdus_instances_and_time_hold() {
    use AbortRQServiceProviderReason::{InvalidPduParameter, ReasonNotSpecified};
    let mut config = config();
    config.max_pdu_length = 16 << 10;
    config.max_instance_bytes = 50_000;
    config.deadlines.idle = Duration::from_millis(300);
    let running = Running::start(config, Memory::default()).await;
    let store = value(3, PDataValueType::Command, true, &store_command(1, CT, "1.2.5"));
    // dicom-ul keeps to our maximum, so the PDU that is too long is written past it.
    let mut association = associate(&running).await;
    let mut long = vec![4, 0];
    long.extend_from_slice(&(16_u32 * 1024 + 1).to_be_bytes());
    tokio::io::AsyncWriteExt::write_all(association.inner_stream(), &long).await.unwrap();
    assert_eq!(aborted(&mut association).await, provider(InvalidPduParameter));
    // An instance that is too long is refused, and the next one served; one without end is not read to its end.
    let mut association = associate(&running).await;
    send(&mut association, vec![store.clone()]).await;
    for number in 1..=6 {
        send(&mut association, vec![value(3, PDataValueType::Data, number == 6, &[0; 10_000])]).await;
    }
    assert_eq!(response(&mut association).await, (0x8001, 1, 0xC000));
    message(&mut association, 3, &store_command(2, CT, "1.2.5"), Some(&data_set("1.2.5", 100))).await;
    assert_eq!(response(&mut association).await, (0x8001, 2, 0));
    send(&mut association, vec![store.clone()]).await;
    for _ in 0..11 {
        send(&mut association, vec![value(3, PDataValueType::Data, false, &[0; 10_000])]).await;
    }
    assert_eq!(aborted(&mut association).await, USER);
    // Idle between messages, and in the middle of one.
    let mut association = associate(&running).await;
    assert_eq!(aborted(&mut association).await, provider(ReasonNotSpecified));
    let mut association = associate(&running).await;
    send(&mut association, vec![store]).await;
    assert_eq!(aborted(&mut association).await, provider(ReasonNotSpecified));
    running.all_closed(4).await;
    assert_eq!(running.memory.abandoned.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_open_associations_end_and_then_aborts_them() {
    let mut running = Running::usual().await;
    let mut ending = associate(&running).await;
    let mut staying = associate(&running).await;
    running.stop.cancel();
    // The open ones are still served.
    message(&mut ending, 3, &store_command(1, CT, "1.2.5"), Some(&data_set("1.2.5", 10))).await;
    assert_eq!(response(&mut ending).await, (0x8001, 1, 0));
    ending.release().await.unwrap();
    assert_eq!(aborted(&mut staying).await, USER);
    timeout(Duration::from_secs(5), &mut running.serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
    running.all_closed(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_that_leave_nagle_on_are_not_held_up() {
    let files: Vec<PathBuf> = shared_files(&["series_ct_liver"]);
    if files.is_empty() {
        return;
    }
    let running = Running::usual().await;
    let mut program = dcmtk("storescu");
    program
        .args(["-R", "-aec", "PREREAD", "127.0.0.1", &running.address.port().to_string()])
        // Linux does not delay the first acknowledgements of a connection.
        .args(std::iter::repeat_n(&files, 50).flatten());
    let start = std::time::Instant::now();
    let (success, output) = run(program).await;
    let (elapsed, count) = (start.elapsed(), running.memory.stored.lock().unwrap().instances.len());
    assert!(success, "{output}");
    println!("{count} instances in {elapsed:?}: {:?} each", elapsed / u32::try_from(count).unwrap());
    // A wait for a delayed acknowledgement at each instance would cost 40 ms; the rest is room for a busy machine.
    assert!(elapsed / u32::try_from(count).unwrap() < Duration::from_millis(30));
}
