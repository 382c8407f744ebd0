//! Debian's Orthanc as the PACS: it routes to us whatever it stores, our own reports as well.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance::Instance,
    orthanc::{ORTHANC, Orthanc},
    peers, place, wait,
};

use crate::conform;

#[test]
fn every_radiograph_that_orthanc_routes_comes_back_as_one_report() -> Result<()> {
    let Some(shared) = place::shared() else { return Ok(()) };
    let mut files = place::dicom_files(&shared.join("dicom/cr"))?;
    files.extend(place::dicom_files(&shared.join("dicom/cxr_hannover"))?);
    let ready = Orthanc::prepare()?;
    // Some are knees, and some do not say.
    let folder = tempfile::tempdir()?;
    let model = place::model_made_for(folder.path(), "")?;
    // What it says of a chest is not in view on a knee, which would hold the report.
    let more = "\n[rule.checks]\nnot-in-view = \"note\"\n".into();
    let mut daemon = Daemon::start(&Setup { model, more, ..Setup::to(ORTHANC, &ready.address()) })?;
    let orthanc = ready.route_to(daemon.port())?;

    // All of them are tried, so that one that fails does not hide the next.
    let (mut failures, mut reported) = (Vec::new(), Vec::new());
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let began = Instant::now();
        match one_report(&orthanc, &daemon, file) {
            Ok(study) => {
                eprintln!("{name}: {:.1} s", began.elapsed().as_secs_f64());
                reported.push(study);
            }
            Err(error) => failures.push(format!("{name}: {error:#}")),
        }
    }

    // Said now: what follows may fail for the same reason.
    failures.iter().for_each(|failure| eprintln!("{failure}"));

    // Every report was routed to us by the same rule. Longer than a quiet period and a reading: nothing follows.
    let idle = || Ok((!orthanc.is_busy()?).then_some(()));
    wait::until("Orthanc to have sent everything", Duration::from_secs(30), idle)?;
    thread::sleep(Duration::from_secs(6));
    daemon.check_alive()?;
    let mut came = BTreeMap::<String, usize>::new();
    for uid in orthanc.came_by_store() {
        *came.entry(uid).or_default() += 1;
    }
    assert!(came.values().all(|times| *times == 1), "something was sent twice: {came:?}");
    assert_eq!(came.len(), reported.len(), "one report for each study: {came:?}");
    let routed = orthanc.routed();
    for report in came.keys() {
        assert!(routed.contains(report), "Orthanc did not route the report {report}: nothing was tested");
    }
    for study in &reported {
        let series = orthanc.sr_series(study)?;
        assert_eq!(series.iter().map(Vec::len).collect::<Vec<_>>(), [1], "{study}");
        let shown = daemon.show(study)?;
        assert_eq!(shown["state"], "delivered", "{shown:#}");
        let reports = shown["reports"].as_array().context("no reports")?;
        assert_eq!(reports.iter().filter(|report| report["kind"] == "text-sr").count(), 1, "{shown:#}");
    }
    assert_eq!(daemon.queue()?.len(), files.len(), "a study for each file, and none for a report");
    ensure!(failures.is_empty(), "{failures:#?}");
    Ok(())
}

/// Uploads a file to Orthanc and awaits the report in its study, which must be the only one and valid. Returns the study's UID.
fn one_report(orthanc: &Orthanc, daemon: &Daemon, file: &Path) -> Result<String> {
    let instance = Instance::read(file)?;
    let study = &instance.study_instance_uid;
    orthanc.upload(file)?;
    // Orthanc 1.10.1 cannot send it by C-STORE: its DICOM library is older than this transfer syntax.
    if instance.transfer_syntax_uid == conform::HTJ2K {
        let port = daemon.port().to_string();
        let answer = peers::python("store.py", &["127.0.0.1", &port, AE_TITLE, "OTHERPACS", &file.to_string_lossy()])?;
        ensure!(answer["store"][0] == 0, "{answer}");
    }
    // The quiet period of two seconds, and fifteen more.
    let series = wait::until("a report in Orthanc", Duration::from_secs(2 + 15), || {
        Ok(Some(orthanc.sr_series(study)?).filter(|series| !series.is_empty()))
    });
    let series =
        series.with_context(|| format!("preread says {}", daemon.study(study).ok().flatten().unwrap_or_default()))?;
    let [documents] = series.as_slice() else { bail!("{} SR series", series.len()) };
    let [(_, id)] = documents.as_slice() else { bail!("{} documents", documents.len()) };
    let sr = daemon.dir().join(format!("{study}.sr.dcm"));
    fs::write(&sr, orthanc.file(id)?)?;
    conform::check(file, &sr)?;
    Ok(instance.study_instance_uid)
}
