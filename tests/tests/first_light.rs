//! The main job: a study goes in by C-STORE, a draft report comes back by C-STORE.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use dicom_dictionary_std::uids;
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance, samples,
    scp::Scp,
    scu::Scu,
    sr::Report,
};

use crate::conform;

/// For a study whose turn comes after eleven others, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn the_sample_studies_come_back_as_true_reports() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    let daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let samples = samples::all()?;
    ensure!(samples.len() == 12, "{} samples", samples.len());
    let instances: Vec<_> = samples.iter().map(|sample| sample.instance.clone()).collect();
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, &instances)?;
    for instance in &instances {
        assert_eq!(scu.store(instance)?, 0);
    }
    scu.release()?;

    // All are looked at, so that one that fails does not hide the next.
    let mut failures = Vec::new();
    let mut true_ones = 0;
    let mut uids = BTreeSet::new();
    for sample in &samples {
        let study = &sample.instance.study_instance_uid;
        let received = pacs.text_report(study, PATIENCE).with_context(|| sample.name.clone())?;
        assert_eq!(received.calling_ae_title, AE_TITLE);
        let report = Report::of(&received.instance)?;
        let truth = sample.truth();
        let said = report.sentences();
        eprintln!("{}: {said:?}", sample.name);
        if said == truth {
            true_ones += 1;
        } else {
            eprintln!("{}: the truth is {truth:?}", sample.name);
        }
        let first = report.texts("55112-7").into_iter().next().unwrap_or_default();
        if !first.to_lowercase().contains("demonstration") {
            failures.push(format!("{}: the first line is: {first}", sample.name));
        }

        let sr = daemon.dir().join(format!("{}.sr.dcm", sample.name));
        fs::write(&sr, received.instance.to_part10()?)?;
        if let Err(error) = conform::check(&sample.file, &sr) {
            failures.push(format!("{}: {error:#}", sample.name));
        }

        daemon.await_state(study, "delivered", Duration::from_secs(10))?;
        let shown = daemon.show(study)?;
        let kept = shown["instances"][0]["path"].as_str().context("no path")?;
        let kept = fs::read(kept).with_context(|| kept.to_owned())?;
        assert!(instance::data_set(&kept)? == sample.instance.data_set, "{}: kept otherwise than it came", sample.name);
        assert_eq!(shown["instances"][0]["sop_instance_uid"], sample.instance.sop_instance_uid.as_str());
        assert_eq!(shown["instances"][0]["transfer_syntax_uid"], sample.instance.transfer_syntax_uid.as_str());
        let uid = received.instance.sop_instance_uid.as_str();
        let reports = shown["reports"].as_array().context("no reports")?;
        let report =
            reports.iter().find(|report| report["sop_instance_uid"] == uid).context("the report is not listed")?;
        assert_eq!(report["sop_class_uid"], uids::BASIC_TEXT_SR_STORAGE);
        assert!(report["delivered_to"].to_string().contains("pacs"), "{report}");
        uids.insert(received.instance.sop_instance_uid);
    }
    assert_eq!(uids.len(), 12, "two reports with one UID");
    if true_ones < 11 {
        failures.push(format!("only {true_ones} of 12 reports are true"));
    }

    // Longer than a quiet period: nothing follows.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(pacs.received().len(), 12, "each study gets one object, once");
    assert_eq!(daemon.queue()?.len(), 12);
    ensure!(failures.is_empty(), "{failures:#?}");
    Ok(())
}

#[test]
fn the_same_instance_again_starts_nothing() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    let daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let sample = samples::all()?.swap_remove(1);
    let study = &sample.instance.study_instance_uid;
    let send = || -> Result<u16> {
        let mut scu =
            Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, std::slice::from_ref(&sample.instance))?;
        let status = scu.store(&sample.instance)?;
        scu.release()?;
        Ok(status)
    };
    assert_eq!(send()?, 0);
    let first = pacs.text_report(study, PATIENCE)?;
    assert_eq!(send()?, 0);
    // And our own report, as a PACS that routes everything sends it.
    let mut scu = Scu::for_instances(&daemon.address(), "PACS", AE_TITLE, std::slice::from_ref(&first.instance))?;
    assert_eq!(scu.store(&first.instance)?, 0);
    scu.release()?;
    // Longer than the quiet period and a reading.
    thread::sleep(Duration::from_secs(6));
    assert_eq!(pacs.received().len(), 1);
    let entry = daemon.study(study)?.context("the study is gone")?;
    assert_eq!(entry["state"], "delivered", "{entry}");
    Ok(())
}

#[test]
fn a_destination_that_is_away_gets_its_report_when_it_is_back() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    // Out of resources, PS3.4 table B.2-1: a failure that passes.
    pacs.answer(0xA700);
    let mut daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let sample = samples::all()?.swap_remove(2);
    let study = &sample.instance.study_instance_uid;
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, std::slice::from_ref(&sample.instance))?;
    assert_eq!(scu.store(&sample.instance)?, 0);
    scu.release()?;
    let refused = e2e::wait::until("a first try", PATIENCE, || Ok(pacs.received().into_iter().next()))?;
    daemon.kill()?;
    pacs.answer(0);
    daemon.start_again()?;
    let stored = pacs.text_report(study, PATIENCE)?;
    assert_eq!(stored.instance, refused.instance, "a retry is the same object");
    daemon.await_state(study, "delivered", Duration::from_secs(10))?;
    assert_eq!(pacs.stored_in(study).len(), 1);
    Ok(())
}

#[test]
fn at_rest_the_daemon_holds_less_than_forty_mebibytes() -> Result<()> {
    let daemon = Daemon::start(&Setup::default())?;
    thread::sleep(Duration::from_secs(1));
    let mebibytes = daemon.resident_memory()? / (1 << 20);
    eprintln!("at rest: {mebibytes} MiB");
    assert!(mebibytes < 40, "{mebibytes} MiB");
    Ok(())
}
