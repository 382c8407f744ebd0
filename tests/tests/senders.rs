//! Other people's senders: what DCMTK, pynetdicom and Orthanc send is kept as they sent it, and what is malformed is
//! answered with what it deserves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use dicom_dictionary_std::uids;
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance::{self, Instance, Study},
    orthanc::Orthanc,
    peers::{self, Sending},
    place,
    recorder::Recorder,
    samples,
    scu::Scu,
};
use serde_json::Value;

/// A daemon that reads nothing: only what is kept counts.
fn keeper() -> Result<Daemon> {
    Daemon::start(&Setup { when: "false".into(), ..Setup::default() })
}

#[test]
fn dcmtk_and_pynetdicom_store_and_are_kept_byte_for_byte() -> Result<()> {
    let daemon = keeper()?;
    let port = daemon.port().to_string();
    let (success, said) = peers::dcmtk("echoscu", &["-aec", AE_TITLE, "127.0.0.1", &port])?;
    assert!(success, "{said}");

    let samples = samples::all()?;
    let (dcmtk, pynetdicom) = (&samples[0], &samples[4]);
    let file = |sample: &samples::Sample| sample.file.to_string_lossy().into_owned();
    let (success, said) = peers::dcmtk("storescu", &["-aec", AE_TITLE, "127.0.0.1", &port, &file(dcmtk)])?;
    assert!(success, "{said}");
    let answer = peers::python("store.py", &["127.0.0.1", &port, AE_TITLE, "PYNETDICOM", &file(pynetdicom)])?;
    assert_eq!(answer, serde_json::json!({"echo": 0, "store": [0]}));

    for sample in [dcmtk, pynetdicom] {
        let study = &sample.instance.study_instance_uid;
        let entry = daemon.await_state(study, "skipped", Duration::from_secs(20))?;
        assert!(entry["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{entry}");
        let shown = daemon.show(study)?;
        let path = shown["instances"][0]["path"].as_str().context("no path")?;
        let kept = fs::read(path)?;
        assert!(instance::data_set(&kept)? == sample.instance.data_set, "{}", sample.name);
    }
    Ok(())
}

/// With +C storescu proposes a compressed transfer syntax and the native ones in one context; what it has is native.
#[test]
fn storescu_that_combines_transfer_syntaxes_sends_a_native_image() -> Result<()> {
    let daemon = keeper()?;
    let port = daemon.port().to_string();
    let file = samples::all()?[0].file.to_string_lossy().into_owned();
    for preferred in ["-xs", "-xy", "-xx", "-xr", "-xv", "-xw", "-xt", "-xu", "-xd", "-xb"] {
        let arguments = ["+C", preferred, "-aec", AE_TITLE, "127.0.0.1", &port, &file];
        let (success, said) = peers::dcmtk("storescu", &arguments)?;
        assert!(success, "{preferred}: {said}");
    }
    Ok(())
}

/// A file of the test set, as its row in `index.tsv` describes it.
struct Row {
    name: String,
    file: PathBuf,
    sop_class: String,
    transfer_syntax: String,
    /// What is due, where the row says so.
    due: String,
}

/// Every file of the test set; none where it is not beside the checkout.
fn test_set() -> Result<Option<Vec<Row>>> {
    let Some(folder) = place::shared().map(|shared| shared.join("dicom")) else { return Ok(None) };
    let index = fs::read_to_string(folder.join("index.tsv"))?;
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let field = |number: usize| fields.get(number).map(|field| (*field).to_owned());
        let row = || {
            Some(Row {
                name: field(0)?,
                file: folder.join(field(0)?),
                sop_class: field(2)?,
                transfer_syntax: field(3)?,
                due: field(9)?.split_once("expect: ").map(|(_, due)| due.to_owned()).unwrap_or_default(),
            })
        };
        row().with_context(|| format!("index.tsv: {line}"))
    };
    let rows: Vec<Row> = index.lines().skip(1).map(row).collect::<Result<_>>()?;
    ensure!(rows.len() > 120, "index.tsv has {} rows only", rows.len());
    Ok(Some(rows))
}

/// What no receiver could keep: no SOP class, instance or study to file it under, or a data set that is not well formed.
const REFUSED: &[&str] = &[
    "charset/chrSQEncoding.dcm",
    "charset/empty_charset_LEI.dcm",
    "codec/HTJ2KLossless_08_RGB.dcm",
    "codec/JLSL_16_15_1_1F.dcm",
    "encaps/generated_encapsulated_defined_bot_2_to_1.dcm",
    "fileset/DICOMDIR",
    "malformed/MR_truncated.dcm",
    "malformed/UN_sequence.dcm",
    "malformed/bad_sequence.dcm",
    "malformed/emri_small_jpeg_2k_lossless_too_short.dcm",
    "malformed/m_deep_nesting_5000.dcm",
    "malformed/m_deflate_bomb_300mb.dcm",
    "malformed/m_length_4gb.dcm",
    "malformed/m_missing_uids.dcm",
    "malformed/m_truncated_header.dcm",
    "malformed/m_truncated_mid_element.dcm",
    "malformed/m_uid_path_traversal.dcm",
    "malformed/m_undefined_length_text.dcm",
    "malformed/meta_missing_tsyntax.dcm",
    "malformed/no_meta.dcm",
    "mr/decimal_rescale.dcm",
];

/// To be rejected by whoever decodes them: as data sets they are well formed, and what a radiologist's modality sent is
/// kept whatever its pixels are.
const LEFT_TO_THE_PIXELS: &[&str] = &[
    "malformed/m_bits_stored_17_of_16.dcm",
    "malformed/m_bits_zero.dcm",
    "malformed/m_bot_offset_out_of_range.dcm",
    "malformed/m_frames_2e31.dcm",
    "malformed/m_j2k_siz_2e31.dcm",
    "malformed/m_jpeg_size_mismatch.dcm",
    "malformed/m_rle_bad_offsets.dcm",
    "malformed/m_rows_cols_65535.dcm",
];

impl Row {
    fn is_refused(&self) -> bool {
        REFUSED.contains(&self.name.as_str())
    }

    /// Whether [`REFUSED`] says what the row says.
    fn agrees(&self) -> bool {
        let keep = ["accept", "policy", "conflict", "no NaN"].iter().any(|due| self.due.starts_with(due));
        let reject = self.due.starts_with("reject");
        let left = LEFT_TO_THE_PIXELS.contains(&self.name.as_str());
        if keep { !self.is_refused() } else { !reject || self.is_refused() != left }
    }
}

#[test]
fn the_list_of_what_is_refused_follows_the_index() -> Result<()> {
    let Some(rows) = test_set()? else { return Ok(()) };
    let disagreeing: Vec<&str> = rows.iter().filter(|row| !row.agrees()).map(|row| row.name.as_str()).collect();
    assert!(disagreeing.is_empty(), "{disagreeing:?}");
    let refused = rows.iter().filter(|row| row.is_refused()).count();
    assert_eq!(refused, REFUSED.len(), "the list has a file that is not in the index");
    Ok(())
}

/// The data sets that the daemon has under each SOP Instance UID, quarantined ones too.
fn kept(daemon: &Daemon) -> Result<BTreeMap<String, Vec<Vec<u8>>>> {
    let mut kept = BTreeMap::<String, Vec<Vec<u8>>>::new();
    for study in daemon.queue()? {
        let shown = daemon.show(study["study_instance_uid"].as_str().context("no UID")?)?;
        for entry in ["instances", "quarantined"].iter().filter_map(|list| shown[list].as_array()).flatten() {
            let uid = entry["sop_instance_uid"].as_str().context("no UID")?;
            let file = fs::read(entry["path"].as_str().context("no path")?)?;
            ensure!(file[..128].iter().all(|byte| *byte == 0), "a preamble is kept");
            kept.entry(uid.to_owned()).or_default().push(instance::data_set(&file)?.to_vec());
        }
    }
    Ok(kept)
}

/// Fails unless the daemon has exactly `acknowledged`, byte for byte.
fn check_kept(daemon: &Daemon, acknowledged: &[(&Row, &Instance)]) -> Result<()> {
    let kept = kept(daemon)?;
    let mut different = BTreeSet::new();
    for (row, instance) in acknowledged {
        let data_sets = kept.get(&instance.sop_instance_uid).map(Vec::as_slice).unwrap_or_default();
        ensure!(data_sets.contains(&instance.data_set), "{} is not kept as it came", row.name);
        different.insert((&instance.sop_instance_uid, &instance.data_set));
    }
    let count: usize = kept.values().map(Vec::len).sum();
    ensure!(count == different.len(), "{count} data sets are kept, {} were acknowledged", different.len());
    Ok(())
}

/// The same files by the same sender to a recorder and to the daemon: what the recorder saw on the wire is what the
/// daemon must have, where it said so. `at_least` so many must get through.
fn check(
    sender: &str,
    rows: &[Row],
    on_the_wire: &[Instance],
    to_recorder: &[Sending],
    daemon: &Daemon,
    to_daemon: &[Sending],
    at_least: usize,
) -> Result<()> {
    ensure!(to_recorder.len() == rows.len() && to_daemon.len() == rows.len(), "{sender}: not every file is spoken of");
    let mut next = on_the_wire.iter();
    let (mut acknowledged, mut refused, mut failures) = (Vec::new(), 0, Vec::new());
    for ((row, reference), outcome) in rows.iter().zip(to_recorder).zip(to_daemon) {
        match (reference, outcome) {
            (Sending::NotSent(why), Sending::NotSent(_)) => println!("{sender} does not send {}: {why}", row.name),
            (Sending::Answered(0), Sending::Answered(status)) => {
                let instance = next.next().with_context(|| format!("{sender}: {} did not come", row.name))?;
                match status {
                    0 if !row.is_refused() || instance.data_set != as_it_is(row)?.data_set => {
                        // What is refused as it is may be mended by a sender that writes it anew.
                        acknowledged.push((row, instance));
                    }
                    // Cannot understand, does not match, or a UID that is none (PS3.4 B.2.3, PS3.7 annex C).
                    0xA900..=0xCFFF | 0x0117 if row.is_refused() => refused += 1,
                    _ => failures.push(format!("{}: answered {status:04X}", row.name)),
                }
            }
            other => failures.push(format!("{}: {other:?}", row.name)),
        }
    }
    ensure!(failures.is_empty(), "{sender}: {failures:#?}");
    ensure!(next.next().is_none(), "{sender} sent more than it says");
    println!("{sender}: {} kept, {refused} refused", acknowledged.len());
    let through = acknowledged.len() + refused;
    ensure!(through >= at_least, "{sender}: only {through} files got through");
    check_kept(daemon, &acknowledged).with_context(|| sender.to_owned())
}

#[test]
fn what_storescu_sends_is_kept_byte_for_byte() -> Result<()> {
    let Some(rows) = test_set()? else { return Ok(()) };
    let (recorder, daemon) = (Recorder::start()?, keeper()?);
    let mut contexts = BTreeSet::new();
    for row in rows.iter().filter(|row| !row.sop_class.is_empty()) {
        // A file without file meta information may be in either.
        let either = [uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN];
        let own = [row.transfer_syntax.as_str()];
        let syntaxes = if row.transfer_syntax.is_empty() { either.as_slice() } else { own.as_slice() };
        contexts.extend(syntaxes.iter().map(|syntax| (row.sop_class.clone(), (*syntax).to_owned())));
    }
    let files: Vec<PathBuf> = rows.iter().map(|row| row.file.clone()).collect();
    let to_recorder = peers::storescu(recorder.port(), AE_TITLE, &contexts, &files)?;
    let to_daemon = peers::storescu(daemon.port(), AE_TITLE, &contexts, &files)?;
    check("storescu", &rows, &recorder.came(), &to_recorder, &daemon, &to_daemon, 110)
}

#[test]
fn what_pynetdicom_sends_is_kept_byte_for_byte() -> Result<()> {
    let Some(rows) = test_set()? else { return Ok(()) };
    let (recorder, daemon) = (Recorder::start()?, keeper()?);
    let files: Vec<String> = rows.iter().map(|row| row.file.to_string_lossy().into_owned()).collect();
    let send = |port: u16| -> Result<(Vec<Sending>, Vec<u64>)> {
        let port = port.to_string();
        let mut arguments = vec!["127.0.0.1", &port, AE_TITLE];
        arguments.extend(files.iter().map(String::as_str));
        let outcomes = peers::python("store_each.py", &arguments)?;
        let sending = |outcome: &Value| {
            let sending = match (outcome[0].as_u64(), outcome[0].as_str()) {
                (Some(status), _) => Sending::Answered(u16::try_from(status)?),
                (_, Some(why)) => Sending::NotSent(why.to_owned()),
                _ => anyhow::bail!("neither a status nor a reason: {outcome}"),
            };
            Ok((sending, outcome[1].as_u64().context("no number of times")?))
        };
        let outcomes = outcomes.as_array().context("not a list")?.iter().map(sending);
        Ok(outcomes.collect::<Result<Vec<_>>>()?.into_iter().unzip())
    };
    let ((to_recorder, times), (to_daemon, _)) = (send(recorder.port())?, send(daemon.port())?);
    // Of what was sent again, because pynetdicom lost the response, only the last counts.
    let mut on_the_wire = recorder.came().into_iter();
    let answered = to_recorder.iter().zip(times).filter(|(sending, _)| matches!(sending, Sending::Answered(_)));
    let on_the_wire: Vec<Instance> =
        answered.filter_map(|(_, times)| on_the_wire.nth(usize::try_from(times).ok()?.checked_sub(1)?)).collect();
    check("pynetdicom", &rows, &on_the_wire, &to_recorder, &daemon, &to_daemon, 115)
}

#[test]
fn what_orthanc_sends_is_kept_byte_for_byte() -> Result<()> {
    let Some(rows) = test_set()? else { return Ok(()) };
    let (recorder, daemon) = (Recorder::start()?, keeper()?);
    let orthanc = Orthanc::prepare()?.send_to(&[("recorder", recorder.port()), ("preread", daemon.port())])?;
    let (mut to_recorder, mut to_daemon) = (Vec::new(), Vec::new());
    for row in &rows {
        // One at a time: it keeps only one instance under a SOP Instance UID.
        let uploaded = if row.name == ENDS_ORTHANC {
            Err(anyhow::anyhow!("it would end Orthanc itself, by a stack overflow"))
        } else {
            orthanc.upload(&row.file)
        };
        match uploaded {
            Ok(id) => {
                to_recorder.push(orthanc_sends(&orthanc, &id, "recorder")?);
                to_daemon.push(orthanc_sends(&orthanc, &id, "preread")?);
                orthanc.delete(&id)?;
            }
            Err(why) => {
                to_recorder.push(Sending::NotSent(why.to_string()));
                to_daemon.push(Sending::NotSent(why.to_string()));
            }
        }
    }
    check("Orthanc", &rows, &recorder.came(), &to_recorder, &daemon, &to_daemon, 108)
}

/// Debian's Orthanc 1.10.1 parses it recursively.
const ENDS_ORTHANC: &str = "malformed/m_deep_nesting_5000.dcm";

/// Orthanc says in words which status it got.
fn orthanc_sends(orthanc: &Orthanc, id: &str, modality: &str) -> Result<Sending> {
    let Err(error) = orthanc.store(id, modality) else { return Ok(Sending::Answered(0)) };
    let said = error.to_string();
    let status = said.split_once("DIMSE status 0x").and_then(|(_, digits)| digits.get(..4));
    match status {
        Some(digits) => Ok(Sending::Answered(u16::from_str_radix(digits, 16)?)),
        None => Ok(Sending::NotSent(said)),
    }
}

/// The file as a sender that changes nothing sends it, under the UIDs that it says it has.
fn as_it_is(row: &Row) -> Result<Instance> {
    let parsed = |file: &Path| Instance::read(file).ok().filter(|instance| !instance.sop_class_uid.is_empty());
    // What is malformed on purpose may end a recursive parser.
    let read = if row.name.starts_with("malformed/") { None } else { parsed(&row.file) };
    let read = read.or_else(|| Instance::read_unparsed(&row.file).ok());
    // Where the index knows no SOP class, nobody could read it.
    let has_data_set = !row.sop_class.is_empty();
    let read = read.or_else(|| has_data_set.then(|| Instance::read_without_meta(&row.file).ok()).flatten());
    if let Some(instance) = read {
        return Ok(instance);
    }
    Ok(Instance {
        sop_class_uid: uids::CT_IMAGE_STORAGE.to_owned(),
        sop_instance_uid: "2.25.1".to_owned(),
        study_instance_uid: String::new(),
        transfer_syntax_uid: uids::EXPLICIT_VR_LITTLE_ENDIAN.to_owned(),
        data_set: fs::read(&row.file)?,
    })
}

/// PS3.5 section 9.1, but for leading zeros.
fn is_uid(text: &str) -> bool {
    let digits = |component: &str| !component.is_empty() && component.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 64 && text.split('.').all(digits)
}

#[test]
fn every_file_is_answered_with_what_it_deserves_and_the_next_one_is_served() -> Result<()> {
    let Some(rows) = test_set()? else { return Ok(()) };
    let daemon = keeper()?;
    let mut study = Study::seeded(11);
    let mut instances = rows.iter().map(as_it_is).collect::<Result<Vec<_>>>()?;
    let next: Vec<Instance> = (0..rows.len()).map(|_| study.image(1)).collect::<Result<_>>()?;
    // A presentation context has to name a SOP class, and one of the storage service.
    let unnamed = |uid: &str| uid.is_empty() || uid == uids::MEDIA_STORAGE_DIRECTORY_STORAGE;
    for instance in instances.iter_mut().filter(|instance| unnamed(&instance.sop_class_uid)) {
        instance.sop_class_uid = uids::CT_IMAGE_STORAGE.to_owned();
    }
    let mut contexts = instances.clone();
    contexts.extend(next.first().cloned());
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, &contexts)?;
    let (mut acknowledged, mut failures) = (Vec::new(), Vec::new());
    for ((row, instance), next) in rows.iter().zip(&instances).zip(&next) {
        let due = match row.name.as_str() {
            // Its file meta information has the UID of another instance than its data set.
            "malformed/badVR.dcm" => 0xA900,
            // The command's own SOP Instance UID is none (PS3.7 C.5.11, invalid object instance).
            _ if !is_uid(&instance.sop_instance_uid) => 0x0117,
            _ if row.is_refused() => 0xC000,
            _ => 0,
        };
        let status = scu.store(instance).with_context(|| row.name.clone())?;
        if status != due {
            failures.push(format!("{}: answered {status:04X}, {due:04X} is due", row.name));
        }
        if status == 0 {
            acknowledged.push((row, instance));
        }
        let after = scu.store(next).with_context(|| format!("after {}", row.name))?;
        ensure!(after == 0, "after {} an image is answered {after:04X}", row.name);
        acknowledged.push((row, next));
    }
    scu.release()?;
    assert!(failures.is_empty(), "{failures:#?}");
    check_kept(&daemon, &acknowledged)
}
