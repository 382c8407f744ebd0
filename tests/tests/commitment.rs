//! Storage commitment against real users of it: who asks gets its answer, on this association or the next, whatever
//! happens to us in between; and what the disk no longer holds is not committed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use e2e::{
    child::Child,
    daemon::{AE_TITLE, Daemon, Setup},
    orthanc::Orthanc,
    peers, place,
    port::Port,
    samples::{self, Sample},
    wait,
};
use serde_json::{Value, json};

const CALLING: &str = "MODALITY";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

/// Nothing is to be read: only what is kept counts.
fn setup(commitment_address: Option<&str>) -> Setup {
    let address = commitment_address.map(|address| format!("commitment_address = {address:?}")).unwrap_or_default();
    Setup { when: "false".into(), peer: address, ..Setup::default() }
}

fn reference(sample: &Sample) -> Value {
    json!([sample.instance.sop_class_uid, sample.instance.sop_instance_uid])
}

/// A user of storage commitment that asks over an association of its own.
struct Request<'a> {
    transaction: &'a str,
    references: Value,
    /// How long it waits for each result; with 0 it wants none on this association.
    seconds: &'a str,
    /// What it stores on the same association.
    files: Vec<&'a Path>,
}

impl Request<'_> {
    /// Asks, and answers the results that came; the request itself must be taken.
    fn send(&self, daemon: &Daemon) -> Result<Vec<Value>> {
        let (port, references) = (daemon.port().to_string(), self.references.to_string());
        let files: Vec<String> = self.files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
        let mut arguments = vec!["127.0.0.1", &port, AE_TITLE, CALLING, self.transaction, &references, self.seconds];
        arguments.extend(files.iter().map(String::as_str));
        let answer = peers::python("commitment_request.py", &arguments)?;
        let stored = answer["store"].as_array().context("no statuses")?;
        assert!(stored.iter().all(|status| *status == 0), "{answer}");
        assert_eq!(answer["action"], 0, "{answer}\n{}", daemon.log());
        Ok(answer["events"].as_array().cloned().unwrap_or_default())
    }
}

/// A user of storage commitment that results are brought to.
struct Listener {
    child: Child,
    port: Port,
}

impl Listener {
    fn start(port: Port, dir: &Path) -> Result<Self> {
        let script = place::root().join("tests/peers/commitment_listen.py");
        let mut command = Command::new(peers::python_program()?);
        command.arg(script).args([&port.number().to_string(), CALLING]);
        let child = Child::start(&mut command, &dir.join("listener.log"))?;
        let listener = Self { child, port };
        let ready = || Ok(listener.child.log().contains("listening").then_some(()));
        wait::until("the listener", Duration::from_secs(20), ready).with_context(|| listener.child.log())?;
        Ok(listener)
    }

    fn events(&self) -> Vec<Value> {
        self.child.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn await_events(&self, count: usize, daemon: &Daemon) -> Result<Vec<Value>> {
        let came = || Ok(Some(self.events()).filter(|events| events.len() >= count));
        wait::until("a result of storage commitment", Duration::from_secs(30), came).with_context(|| {
            format!(
                "{}: the listener's log:\n{}\nthe daemon's:\n{}",
                self.port.address(),
                self.child.log(),
                daemon.log()
            )
        })
    }
}

#[test]
fn what_is_kept_is_committed_and_what_is_not_is_named_with_its_reason() -> Result<()> {
    let daemon = Daemon::start(&setup(None))?;
    let samples = samples::all()?;
    let (first, second) = (&samples[0], &samples[1]);
    let events = Request {
        transaction: "1.2.3.1",
        references: json!([reference(first), reference(second)]),
        seconds: "30",
        files: vec![&first.file, &second.file],
    }
    .send(&daemon)?;
    let committed = json!([reference(first), reference(second)]);
    assert_eq!(events, [json!({"type": 1, "transaction": "1.2.3.1", "committed": committed, "failed": []})]);

    let of_another_class = json!([CT, second.instance.sop_instance_uid]);
    let (unknown, unsupported) = (json!([CT, "1.2.3.4.5"]), json!(["1.2.840.10008.1.1", "1.2.3.4.6"]));
    let events = Request {
        transaction: "1.2.3.2",
        references: json!([unknown, reference(first), of_another_class, unsupported]),
        seconds: "30",
        files: vec![],
    }
    .send(&daemon)?;
    let with = |reference: &Value, reason: u16| json!([reference[0], reference[1], reason]);
    let failed = json!([with(&unknown, 0x0112), with(&of_another_class, 0x0119), with(&unsupported, 0x0122)]);
    let committed = json!([reference(first)]);
    assert_eq!(events, [json!({"type": 2, "transaction": "1.2.3.2", "committed": committed, "failed": failed})]);

    // A Transaction UID that is taken commits to nothing.
    let references = json!([reference(second)]);
    let events = Request { transaction: "1.2.3.1", references, seconds: "30", files: vec![] }.send(&daemon)?;
    assert_eq!(events[0]["failed"], json!([with(&reference(second), 0x0131)]), "{events:?}");
    assert_eq!(events[0]["type"], 2);
    Ok(())
}

#[test]
fn what_the_disk_has_damaged_is_not_committed() -> Result<()> {
    let daemon = Daemon::start(&setup(None))?;
    let samples = samples::all()?;
    let [flipped, cut, gone, whole, twice] = &samples[..5] else { anyhow::bail!("five samples are needed") };
    let store = |file: &Path| {
        let port = daemon.port().to_string();
        peers::python("store.py", &["127.0.0.1", &port, AE_TITLE, CALLING, &file.to_string_lossy()])
    };
    for sample in [flipped, cut, gone, whole, twice] {
        assert_eq!(store(&sample.file)?["store"], json!([0]));
    }
    let kept = |sample: &Sample| -> Result<PathBuf> {
        let shown = daemon.show(&sample.instance.study_instance_uid)?;
        Ok(shown["instances"][0]["path"].as_str().context("no path")?.into())
    };
    let path = kept(flipped)?;
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes)?;
    let path = kept(cut)?;
    let bytes = fs::read(&path)?;
    fs::write(&path, &bytes[..bytes.len() - 1])?;
    fs::remove_file(kept(gone)?)?;
    // Another image under the same UIDs is quarantined: which one is meant, nobody can say.
    let mut other = fs::read(&twice.file)?;
    let in_the_pixels = other.len() - 1_000;
    other[in_the_pixels] ^= 1;
    let file = daemon.dir().join("other.dcm");
    fs::write(&file, other)?;
    assert_eq!(store(&file)?["store"], json!([0]));

    let references = json!([flipped, cut, gone, whole, twice].map(reference));
    let events = Request { transaction: "1.2.3.1", references, seconds: "30", files: vec![] }.send(&daemon)?;
    let damaged = |sample: &Sample| {
        let reference = reference(sample);
        json!([reference[0], reference[1], 0x0110])
    };
    let failed = json!([flipped, cut, gone, twice].map(damaged));
    let committed = json!([reference(whole)]);
    assert_eq!(events, [json!({"type": 2, "transaction": "1.2.3.1", "committed": committed, "failed": failed})]);
    Ok(())
}

#[test]
fn a_result_is_brought_to_who_did_not_wait_for_it() -> Result<()> {
    let port = Port::free()?;
    let daemon = Daemon::start(&setup(Some(&port.address())))?;
    let listener = Listener::start(port, daemon.dir())?;
    let samples = samples::all()?;
    let references = json!([reference(&samples[0]), [CT, "1.2.3.4.5"]]);
    let files = vec![samples[0].file.as_path()];
    let request = Request { transaction: "1.2.3.1", references, seconds: "0", files };
    assert!(request.send(&daemon)?.is_empty());
    let events = listener.await_events(1, &daemon)?;
    let expected = json!({
        "type": 2,
        "transaction": "1.2.3.1",
        "committed": [reference(&samples[0])],
        "failed": [[CT, "1.2.3.4.5", 0x0112]],
        "from": AE_TITLE,
    });
    assert_eq!(events, [expected]);
    Ok(())
}

#[test]
fn a_request_that_was_taken_is_answered_after_a_crash() -> Result<()> {
    let port = Port::free()?;
    let mut daemon = Daemon::start(&setup(Some(&port.address())))?;
    let samples = samples::all()?;
    let request = |transaction| Request {
        transaction,
        references: json!([reference(&samples[0])]),
        seconds: "0",
        files: vec![&samples[0].file],
    };
    // Nobody listens yet.
    request("1.2.3.1").send(&daemon)?;
    daemon.kill()?;
    let listener = Listener::start(port, daemon.dir())?;
    daemon.start_again()?;
    let events = listener.await_events(1, &daemon)?;
    assert!(events.iter().all(|event| event["transaction"] == "1.2.3.1" && event["type"] == 1), "{events:?}");
    let reported = || Ok(daemon.log().contains("storage commitment reported").then_some(()));
    wait::until("the result to be noted", Duration::from_secs(10), reported)?;
    // What was answered is not answered again, by the next start or after it.
    daemon.kill()?;
    let before = listener.events().len();
    daemon.start_again()?;
    request("1.2.3.2").send(&daemon)?;
    let events = listener.await_events(before + 1, &daemon)?;
    let transactions: Vec<_> = events[before..].iter().map(|event| &event["transaction"]).collect();
    assert_eq!(transactions, ["1.2.3.2"]);
    Ok(())
}

#[test]
fn a_result_that_nobody_can_be_told_waits_until_its_peer_asks_again() -> Result<()> {
    let daemon = Daemon::start(&setup(None))?;
    let sample = &samples::all()?[0];
    let request = |transaction, seconds| Request {
        transaction,
        references: json!([reference(sample)]),
        seconds,
        files: vec![&sample.file],
    };
    assert!(request("1.2.3.1", "0").send(&daemon)?.is_empty());
    let said = || Ok(daemon.log().contains("set commitment_address of [[peer]]").then_some(()));
    wait::until("a line that says what to configure", Duration::from_secs(60), said).with_context(|| daemon.log())?;
    let events = request("1.2.3.2", "20,20").send(&daemon)?;
    let mut came: Vec<_> = events.iter().map(|event| (event["transaction"].as_str(), &event["type"])).collect();
    came.sort_by_key(|(transaction, _)| *transaction);
    assert_eq!(came, [(Some("1.2.3.1"), &json!(1)), (Some("1.2.3.2"), &json!(1))], "{}", daemon.log());
    Ok(())
}

#[test]
fn what_is_acknowledged_for_its_association_can_be_committed_before_that_ends() -> Result<()> {
    let daemon = Daemon::start(&Setup { durability: "association".into(), ..setup(None) })?;
    let samples = samples::all()?;
    let events = Request {
        transaction: "1.2.3.1",
        references: json!([reference(&samples[0])]),
        seconds: "30",
        files: vec![&samples[0].file],
    }
    .send(&daemon)?;
    assert_eq!(events[0]["type"], 1, "{events:?}");
    Ok(())
}

#[test]
fn orthanc_gets_its_answer_on_a_new_association() -> Result<()> {
    let ready = Orthanc::prepare()?;
    let daemon = Daemon::start(&setup(Some(&ready.address())))?;
    let orthanc = ready.route_to(daemon.port())?;
    let sample = &samples::all()?[0];
    orthanc.upload(&sample.file)?;
    let here = || daemon.study(&sample.instance.study_instance_uid);
    wait::until("Orthanc to send the instance", Duration::from_secs(20), here)?;
    let unknown = json!([CT, "1.2.3.4.5"]);
    for (references, status) in
        [(json!([reference(sample)]), "Success"), (json!([reference(sample), unknown]), "Failure")]
    {
        let transaction = orthanc.request_commitment("preread", &references)?;
        let ended = wait::until("Orthanc to have its result", Duration::from_secs(30), || {
            Ok(Some(orthanc.commitment(&transaction)?).filter(|report| report["Status"] != "Pending"))
        });
        let report = ended.with_context(|| daemon.log())?;
        assert_eq!(report["Status"], status, "{report:#}");
        assert_eq!(report["Success"][0]["SOPInstanceUID"], sample.instance.sop_instance_uid, "{report:#}");
        if status == "Failure" {
            assert_eq!(report["Failures"][0]["SOPInstanceUID"], "1.2.3.4.5", "{report:#}");
            assert_eq!(report["Failures"][0]["FailureReason"], 0x0112, "{report:#}");
        }
    }
    Ok(())
}
