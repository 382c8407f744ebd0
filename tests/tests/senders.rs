//! Other people's senders: what DCMTK and pynetdicom send is kept as they sent it.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result};
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance::{self, Instance},
    peers, place, samples,
    scu::Scu,
};

#[test]
fn dcmtk_and_pynetdicom_store_and_are_kept_byte_for_byte() -> Result<()> {
    // Nothing is to be read here: only what is kept counts.
    let daemon = Daemon::start(&Setup { when: "false".into(), ..Setup::default() })?;
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

#[test]
fn every_kind_of_object_is_taken_whatever_it_is_and_kept_byte_for_byte() -> Result<()> {
    let Some(shared) = place::shared() else { return Ok(()) };
    let daemon = Daemon::start(&Setup { when: "false".into(), ..Setup::default() })?;
    let mut failures = Vec::new();
    let mut sent = BTreeMap::<String, Instance>::new();
    // Series, multi-frame, video, waveforms, encapsulated documents, segmentations, radiotherapy, structured reports.
    for folder in [
        "charset",
        "codec",
        "colour",
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
        "series_mr_t1",
        "sm",
        "us",
        "video",
    ] {
        let files = place::dicom_files(&shared.join("dicom").join(folder))?;
        // A few have no file meta information or no SOP class: they are for readers of files, and cannot be sent.
        let mut instances: Vec<Instance> = files.iter().filter_map(|file| Instance::read(file).ok()).collect();
        instances.retain(|instance| !instance.sop_class_uid.is_empty());
        let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, &instances)?;
        for instance in instances {
            let what = format!("{folder}: {} as {}", instance.sop_instance_uid, instance.transfer_syntax_uid);
            match scu.store(&instance) {
                Ok(0) => {
                    sent.entry(instance.sop_instance_uid.clone()).or_insert(instance);
                }
                // Without a study there is nowhere to put it.
                Ok(0xA900..=0xCFFF) if instance.study_instance_uid.is_empty() => {}
                Ok(status) => failures.push(format!("{what}: {status:04x}")),
                Err(error) => failures.push(format!("{what}: {error:#}")),
            }
        }
        scu.release()?;
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(sent.len() > 60, "only {} instances were sent", sent.len());

    let mut kept = 0;
    for study in daemon.queue()? {
        let shown = daemon.show(study["study_instance_uid"].as_str().context("no UID")?)?;
        for entry in shown["instances"].as_array().context("no instances")? {
            let uid = entry["sop_instance_uid"].as_str().context("no UID")?;
            let file = fs::read(entry["path"].as_str().context("no path")?)?;
            let instance = sent.get(uid).context("an instance that was not sent")?;
            assert!(instance::data_set(&file)? == instance.data_set, "{uid} is kept otherwise than it came");
            kept += 1;
        }
    }
    assert_eq!(kept, sent.len());
    Ok(())
}
