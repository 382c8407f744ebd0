//! Other people's senders: what DCMTK and pynetdicom send is kept as they sent it.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance, peers, place, samples,
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
fn every_kind_of_object_is_taken_whatever_it_is() -> Result<()> {
    let Some(shared) = place::shared() else { return Ok(()) };
    let daemon = Daemon::start(&Setup { when: "false".into(), ..Setup::default() })?;
    let port = daemon.port().to_string();
    // Series, multi-frame, video, waveform, encapsulated documents, segmentation, radiotherapy, structured reports.
    for folder in ["codec", "encaps", "enh", "lut", "mg", "nonimage", "op", "rt", "seg", "us"] {
        let files = place::dicom_files(&shared.join("dicom").join(folder))?;
        let files: Vec<String> = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
        let mut arguments = vec!["127.0.0.1", &port, AE_TITLE, "PYNETDICOM"];
        arguments.extend(files.iter().map(String::as_str));
        let answer = peers::python("store.py", &arguments).with_context(|| folder.to_owned())?;
        let statuses = answer["store"].as_array().cloned().unwrap_or_default();
        for (file, status) in files.iter().zip(&statuses) {
            assert_eq!(status, 0, "{file}");
        }
        assert_eq!(statuses.len(), files.len());
    }
    Ok(())
}
