//! Items of unrecognized types in A-ASSOCIATE-RQ and -AC, which are to be skipped (PS3.8 section 9.3.1).

use dimse::{Error, echo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    hostile::{knock, request},
    support::{Running, destination},
};

fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind, 0], &length[..], value].concat()
}

/// A PDU with other items behind its 68 bytes of fixed fields.
fn with_items(pdu: &[u8], items: &[u8]) -> Vec<u8> {
    let length = u32::try_from(68 + items.len()).unwrap().to_be_bytes();
    [&pdu[..2], &length, &pdu[6..74], items].concat()
}

/// The whole PDU that comes next.
async fn read_pdu(stream: &mut TcpStream) -> Vec<u8> {
    let mut pdu = vec![0; 6];
    stream.read_exact(&mut pdu).await.unwrap();
    let length = u32::from_be_bytes(pdu[2..6].try_into().unwrap());
    pdu.resize(6 + usize::try_from(length).unwrap(), 0);
    stream.read_exact(&mut pdu[6..]).await.unwrap();
    pdu
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_strange_items_is_accepted() {
    let running = Running::usual().await;
    let right = request();
    let items = &right[74..];
    // Every type that means nothing at the top level, those of the other PDU and of sub-items too.
    let strange: Vec<u8> = (0..=255_u8).filter(|kind| !matches!(kind, 0x10 | 0x20 | 0x50)).collect();
    let many: Vec<u8> = strange.iter().flat_map(|kind| item(*kind, &[*kind; 7])).collect();
    for (before, after) in [(&[][..], &item(0x99, b"xx")[..]), (&item(0, b""), &[]), (&many, &many)] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(&with_items(&right, &[before, items, after].concat())).await.unwrap();
        let accepted = read_pdu(&mut stream).await;
        assert_eq!(accepted[0], 2);
        // One context, accepted.
        let context = accepted.windows(8).find(|window| window[..2] == [0x21, 0]).unwrap();
        assert_eq!(context[4..8], [1, 0, 0, 0]);
    }
    // An item longer than what is left stays a malformed PDU: aborted, invalid parameter value.
    let cut = with_items(&right, &[items, &[0x99, 0, 0, 9, 1]].concat());
    assert_eq!(knock(&running, &cut).await, [7, 0, 0, 0, 0, 4, 0, 0, 2, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_with_strange_items_is_an_acceptance() {
    let check = async |context: Vec<u8>, user: Vec<u8>, around: Vec<u8>| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let destination = destination("ANY", listener.local_addr().unwrap().port());
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = read_pdu(&mut stream).await;
            asked[0] = 2;
            let items = [around.clone(), item(0x10, b"1.2.840.10008.3.1.1.1"), context, item(0x50, &user), around];
            stream.write_all(&with_items(&asked, &items.concat())).await.unwrap();
            // The echo, if there is one: a response of success to message 1.
            if read_pdu(&mut stream).await[0] == 4 {
                let response = crate::provider::command(&[
                    (0x0002, b"1.2.840.10008.1.1"),
                    (0x0100, &[0x30, 0x80]),
                    (0x0120, &[1, 0]),
                    (0x0800, &[1, 1]),
                    (0x0900, &[0, 0]),
                ]);
                let length = u32::try_from(response.len() + 2).unwrap();
                let head = [&[4, 0][..], &(length + 4).to_be_bytes(), &length.to_be_bytes(), &[1, 3]].concat();
                stream.write_all(&[head, response].concat()).await.unwrap();
                assert_eq!(read_pdu(&mut stream).await[0], 5);
            }
            stream.write_all(&[6, 0, 0, 0, 0, 4, 0, 0, 0, 0]).await.unwrap();
        });
        let echoed = echo(&destination).await;
        answering.await.unwrap();
        echoed
    };
    let stranger = item(0x99, b"xx");
    let syntax = item(0x40, b"1.2.840.10008.1.2");
    let context = |reason, items: &[u8]| item(0x21, &[&[1, 0, reason, 0][..], items].concat());
    let length = item(0x51, &[0, 0, 64, 0]);
    let user = [&stranger[..], &length, &item(0x57, b"newer"), &item(0x59, &[0, 0])].concat();
    check(context(0, &syntax), length.clone(), stranger.clone()).await.unwrap();
    check(context(0, &[&stranger[..], &syntax, &stranger].concat()), user, vec![]).await.unwrap();
    // A context that is refused without a transfer syntax, or with a reason that nobody knows.
    for reason in [3, 77] {
        let refused = check(context(reason, &[]), length.clone(), vec![]).await;
        assert!(matches!(refused, Err(Error::NotOffered { .. })), "{refused:?}");
    }
}
