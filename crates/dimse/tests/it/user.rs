//! The user against DCMTK's provider, against ours, and against destinations that are not there.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};

use dataset::{Instance, Limits};
use dimse::{Destination, Error, StoreStatus, echo, store};
use tempfile::tempdir;
use tokio::{process::Child, sync::Semaphore};

use crate::support::{
    Memory, Running, config, dcmtk, destination, distinct, file, free_port, peer, shared_files, split,
};

const FOLDERS: &[&str] = &[
    "charset",
    "codec",
    "colour",
    "cr",
    "cxr_hannover",
    "encaps",
    "enh",
    "lut",
    "mg",
    "mr",
    "nonimage",
    "op",
    "rt",
    "seg",
    "series_ct_liver",
    "sm",
    "us",
    "video",
];

/// Starts DCMTK's storescp, which keeps data sets as they come, and waits until it answers.
async fn storescp(folder: &Path, options: &[&str]) -> (Child, Destination) {
    let port = free_port();
    let mut program = dcmtk("storescp");
    // Nobody reads its output, and a full pipe would stop it.
    program.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    program.env("TCP_NODELAY", "1").args(["+B", "-od"]).arg(folder).args(options).arg(port.to_string());
    let child = program.spawn().unwrap();
    let destination = destination("ANY", port);
    for _ in 0..100 {
        if echo(&destination).await.is_ok() {
            return (child, destination);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("storescp does not answer on port {port}");
}

/// The one file in a folder whose SOP Instance UID is this.
fn received(folder: &Path, uid: &str) -> Vec<u8> {
    // storescp names a file by its modality and the UID.
    let named = |path: &PathBuf| {
        path.file_name().unwrap().to_str().unwrap().split_once('.').is_some_and(|(_, name)| name == uid)
    };
    let mut entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let path = entries.find(named).unwrap_or_else(|| panic!("no file for {uid}"));
    split(&path).1
}

/// The same bytes, and a deflated data set of odd length padded (PS3.5 A.5).
fn is_what_was_sent(bytes: &[u8], sent: &[u8]) -> bool {
    bytes.len().is_multiple_of(2) && bytes.strip_prefix(sent).is_some_and(|rest| rest.is_empty() || rest == [0])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_the_test_set_reaches_our_server_byte_for_byte() {
    let files = shared_files(FOLDERS);
    if files.is_empty() {
        return;
    }
    let running = Running::usual().await;
    let outcomes = store(&running.destination(), &files).await.unwrap();
    let mut instances = std::mem::take(&mut running.memory.stored.lock().unwrap().instances).into_iter();
    let mut syntaxes = std::collections::BTreeSet::new();
    let (mut stored, mut unreadable) = (0, 0);
    for outcome in &outcomes {
        match &outcome.status {
            StoreStatus::Success => {
                let (info, bytes) = instances.next().unwrap();
                let (meta, sent) = split(&outcome.path);
                assert_eq!(Some(&info.sop_instance_uid), outcome.sop_instance_uid.as_ref());
                assert_eq!(info.transfer_syntax.uid(), meta.transfer_syntax_uid.as_str());
                assert!(is_what_was_sent(&bytes, &sent), "{}", outcome.path.display());
                syntaxes.insert(info.transfer_syntax.name());
                stored += 1;
            }
            StoreStatus::Unreadable(error) => {
                println!("{}: {error}", outcome.path.display());
                unreadable += 1;
            }
            other => panic!("{}: {other}", outcome.path.display()),
        }
    }
    println!(
        "{stored} of {} files stored byte for byte in {} syntaxes, {unreadable} unreadable",
        files.len(),
        syntaxes.len()
    );
    assert!(instances.next().is_none());
    assert!(stored > 70 && unreadable <= 8 && syntaxes.len() >= 15, "{stored} {unreadable} {syntaxes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn storescp_gets_files_byte_for_byte() {
    let files = distinct(shared_files(&["codec", "charset", "series_ct_liver", "rt"]));
    let folder = tempdir().unwrap();
    let (mut child, destination) = storescp(folder.path(), &["+xa"]).await;
    let elsewhere = tempdir().unwrap();
    let own = [file(elsewhere.path(), "1.2.77", 2), file(elsewhere.path(), "1.2.78", 3_000_002)];
    let files: Vec<_> = own.into_iter().chain(files).collect();
    let outcomes = store(&destination, &files).await.unwrap();
    let mut stored = 0;
    for outcome in &outcomes {
        match (&outcome.status, &outcome.sop_instance_uid) {
            (StoreStatus::Success, Some(uid)) => {
                let bytes = received(folder.path(), uid.as_str());
                assert!(is_what_was_sent(&bytes, &split(&outcome.path).1), "{}", outcome.path.display());
                stored += 1;
            }
            (status, _) => println!("{}: {status}", outcome.path.display()),
        }
    }
    println!("storescp: {stored} of {} files byte for byte", files.len());
    assert!(stored * 10 >= files.len() * 8, "{stored} of {}", files.len());
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn native_files_are_rewritten_for_who_takes_implicit_vr_only_and_compressed_ones_are_not() {
    let files = distinct(shared_files(&["codec"]));
    let folder = tempdir().unwrap();
    let (mut child, destination) = storescp(folder.path(), &["+xi"]).await;
    let elsewhere = tempdir().unwrap();
    let own = file(elsewhere.path(), "1.2.77", 1000);
    let outcomes = store(&destination, std::slice::from_ref(&own)).await.unwrap();
    assert!(matches!(outcomes[0].status, StoreStatus::Success), "{}", outcomes[0].status);
    let outcomes = store(&destination, &files).await.unwrap();
    let mut rewritten = 0;
    for outcome in &outcomes {
        let (meta, _) = split(&outcome.path);
        let native = matches!(
            meta.transfer_syntax_uid.as_str(),
            "1.2.840.10008.1.2" | "1.2.840.10008.1.2.1" | "1.2.840.10008.1.2.1.99"
        );
        match &outcome.status {
            StoreStatus::Success if native => {
                let uid = outcome.sop_instance_uid.as_ref().unwrap();
                let mut meta = meta.clone();
                meta.transfer_syntax_uid = "1.2.840.10008.1.2".parse().unwrap();
                let mut bytes = Vec::new();
                meta.write_file(&received(folder.path(), uid.as_str()), &mut bytes).unwrap();
                let (was, is) = (
                    Instance::open(&outcome.path, &Limits::default()).unwrap(),
                    Instance::from_bytes(&bytes, &Limits::default()).unwrap(),
                );
                assert_eq!(was.header.sop_class_uid, is.header.sop_class_uid);
                let pixels = |instance: &Instance| {
                    let element = instance.element(dataset::tags::PIXEL_DATA);
                    element.map(|element| element.to_bytes().unwrap().into_owned())
                };
                assert!(pixels(&was) == pixels(&is), "{}", outcome.path.display());
                // Group lengths are left out.
                let tags = |instance: &Instance| {
                    let tags = instance.object().iter().map(|element| element.header().tag);
                    tags.filter(|tag| tag.element() != 0).collect::<Vec<_>>()
                };
                assert_eq!(tags(&was), tags(&is));
                rewritten += 1;
            }
            StoreStatus::NotAccepted { .. } if !native => {}
            other => panic!("{}: {other}", outcome.path.display()),
        }
    }
    println!("{rewritten} of {} files sent in Implicit VR Little Endian", outcomes.len());
    assert!(files.is_empty() || rewritten >= 3);
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_instance_is_said_to_be_unreadable_and_the_rest_is_sent() {
    let running = Running::usual().await;
    let folder = tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "not DICOM").unwrap();
    let missing = folder.path().join("missing.dcm");
    let files = [text, file(folder.path(), "1.2.77", 10), missing, file(folder.path(), "1.2.78", 0)];
    let outcomes = store(&running.destination(), &files).await.unwrap();
    assert!(matches!(outcomes[0].status, StoreStatus::Unreadable(dataset::Error::NotDicom)));
    assert!(matches!(outcomes[1].status, StoreStatus::Success));
    assert!(matches!(outcomes[2].status, StoreStatus::Unreadable(dataset::Error::Io(_))));
    assert!(matches!(outcomes[3].status, StoreStatus::Success));
    // Nothing to send is no reason to connect.
    assert!(store(&destination("NOBODY", free_port()), &files[..1]).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_ends_early_is_never_taken_for_a_whole_one() {
    // Sink and network hold a few MB; the file is larger, and is cut while the sink holds its breath.
    let memory = Memory { gate: Some(Semaphore::new(1)), ..Memory::default() };
    let running = Running::start(config(), memory).await;
    let folder = tempdir().unwrap();
    let files = [file(folder.path(), "1.2.77", 64 << 20), file(folder.path(), "1.2.78", 10)];
    let (to, sent) = (running.destination(), files.clone());
    let sending = tokio::spawn(async move { store(&to, &sent).await });
    for _ in 0..100 {
        if running.memory.opened.load(Ordering::SeqCst) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    OpenOptions::new().write(true).open(&files[0]).unwrap().set_len(1 << 20).unwrap();
    running.memory.gate.as_ref().unwrap().add_permits(1 << 20);
    let outcomes = sending.await.unwrap().unwrap();
    assert!(matches!(outcomes[0].status, StoreStatus::Unreadable(dataset::Error::Io(_))), "{}", outcomes[0].status);
    assert!(matches!(outcomes[1].status, StoreStatus::NotSent(_)), "{}", outcomes[1].status);
    running.all_closed(1).await;
    assert_eq!(running.memory.abandoned.load(Ordering::SeqCst), 1);
    assert!(running.memory.stored.lock().unwrap().instances.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_where_and_what_to_do() {
    let said = |error: Error| error.to_string();
    let nobody = destination("PACS", free_port());
    assert_eq!(
        said(echo(&nobody).await.unwrap_err()),
        format!("connection refused by {}: is it listening there?", nobody.address)
    );
    let running = Running::usual().await;
    let wrong = destination("OTHER", running.address.port());
    let text = said(echo(&wrong).await.unwrap_err());
    assert!(
        text.ends_with("rejected the association: called AE title not recognised: is OTHER its AE title?"),
        "{text}"
    );
    let mut strict = config();
    strict.peers = vec![peer("127.0.0.1/32", "PACS")];
    let strict = Running::start(strict, Memory::default()).await;
    let text = said(echo(&strict.destination()).await.unwrap_err());
    assert!(text.contains("calling AE title not recognised: add PREREAD"), "{text}");
    // One that takes the connection and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut silent_destination = destination("PACS", silent.local_addr().unwrap().port());
    silent_destination.name = "archive".to_owned();
    silent_destination.timeouts.response = Duration::from_millis(200);
    let text = said(echo(&silent_destination).await.unwrap_err());
    assert!(text.contains("archive (127.0.0.1:"), "{text}");
    assert!(text.ends_with("no answer to the association request came in time"), "{text}");
}
