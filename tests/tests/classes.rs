//! A destination that does not take every SOP class: each document goes as one that it takes, or a person reads why not.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use dicom_dictionary_std::uids;
use e2e::{
    child::Child,
    daemon::{AE_TITLE, Daemon, Setup},
    instance::Instance,
    peers, place,
    port::Port,
    samples,
    scu::Scu,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

/// DCMTK's storescp with an association profile of these SOP classes, which keeps what it gets in `dir`.
fn storescp(dir: &Path, port: &Port, classes: &[&str]) -> Result<Child> {
    let contexts = (1..).zip(classes).map(|(number, uid)| format!("PresentationContext{number} = {uid}\\Plain\n"));
    let profile = format!(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LittleEndianExplicit\nTransferSyntax2 = LittleEndianImplicit\n\
         [[PresentationContexts]]\n[Some]\n{}[[Profiles]]\n[Restricted]\nPresentationContexts = Some\n",
        contexts.collect::<String>()
    );
    fs::write(dir.join("profile.cfg"), profile)?;
    let kept = dir.join("kept");
    fs::create_dir_all(&kept)?;
    let mut command = Command::new(peers::program("storescp", "dcmtk")?);
    command.arg("-xf").arg(dir.join("profile.cfg")).arg("Restricted").arg("-od").arg(&kept);
    command.args(["-aet", "PACS"]).arg(port.number().to_string());
    Child::start(&mut command, &dir.join("storescp.log"))
}

/// The SOP classes that came, sorted.
fn came(dir: &Path) -> Result<Vec<String>> {
    let files = fs::read_dir(dir.join("kept"))?.map(|entry| Ok(entry?.path()));
    let mut classes =
        files.map(|path: Result<_>| Ok(Instance::read(&path?)?.sop_class_uid)).collect::<Result<Vec<String>>>()?;
    classes.sort();
    Ok(classes)
}

/// Sends a study with a finding, and answers what `preread queue show` says when it is `state`, in JSON and in words.
fn sent(daemon: &Daemon, state: &str) -> Result<(Value, String)> {
    let samples = samples::all()?;
    let sample = samples.iter().find(|sample| sample.name.contains("nodule")).context("no nodule")?;
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, std::slice::from_ref(&sample.instance))?;
    ensure!(scu.store(&sample.instance)? == 0);
    scu.release()?;
    let study = &sample.instance.study_instance_uid;
    daemon.await_state(study, state, PATIENCE)?;
    let config = daemon.config().to_string_lossy().into_owned();
    let words = Command::new(place::preread()?).args(["queue", "--config", &config, "show", study]).output()?;
    Ok((daemon.show(study)?, String::from_utf8_lossy(&words.stdout).into_owned()))
}

#[test]
fn a_destination_without_comprehensive_3d_gets_the_measurements_as_comprehensive_sr() -> Result<()> {
    let (dir, port) = (tempfile::tempdir()?, Port::free()?);
    let _pacs = storescp(dir.path(), &port, &[uids::BASIC_TEXT_SR_STORAGE, uids::COMPREHENSIVE_SR_STORAGE])?;
    let objects = ["enhanced-text-sr", "measurements-sr"].map(str::to_owned).to_vec();
    let daemon = Daemon::start(&Setup { objects, ..Setup::to("PACS", &port.address()) })?;
    let (json, words) = sent(&daemon, "delivered")?;
    assert_eq!(came(dir.path())?, [uids::BASIC_TEXT_SR_STORAGE, uids::COMPREHENSIVE_SR_STORAGE]);
    let reports = json["reports"].as_array().context("no reports")?;
    let of = |kind: &str| reports.iter().find(|it| it["kind"] == kind).cloned().context("not there");
    for (refused, instead) in [("measurements-sr", "comprehensive-measurements-sr"), ("enhanced-text-sr", "text-sr")] {
        let why = of(refused)?["replaced"][0][1].as_str().unwrap_or_default().to_owned();
        ensure!(why.contains(instead) && why.contains("SOP class"), "{refused}: {why:?}");
        ensure!(of(instead)?["delivered_to"][0] == "pacs", "{instead}: {reports:#?}");
        ensure!(words.contains(&format!("not taken by pacs: {why}")), "{words}");
    }
    Ok(())
}

#[test]
fn a_destination_that_takes_a_document_as_nothing_holds_the_study_with_advice() -> Result<()> {
    let (dir, port) = (tempfile::tempdir()?, Port::free()?);
    let _pacs = storescp(dir.path(), &port, &[uids::BASIC_TEXT_SR_STORAGE])?;
    let objects = ["text-sr", "key-objects"].map(str::to_owned).to_vec();
    let daemon = Daemon::start(&Setup { objects, ..Setup::to("PACS", &port.address()) })?;
    let (_, words) = sent(&daemon, "held")?;
    assert_eq!(came(dir.path())?, [uids::BASIC_TEXT_SR_STORAGE]);
    for part in
        [uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE, "allow that SOP class there", "\"key-objects\"", "\"pacs\""]
    {
        ensure!(words.contains(part), "{words}\ndoes not say {part}");
    }
    Ok(())
}
