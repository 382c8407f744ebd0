//! Reports on their way: destinations that are slow, away or of another opinion, and the order in which reports arrive.

use std::{collections::HashMap, fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use dicom_dictionary_std::uids;
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance::{Instance, Study},
    port::Port,
    scp::{Answer, Scp},
    scu::Scu,
    wait,
};
use serde_json::Value;

mod withdrawal;

const PATIENCE: Duration = Duration::from_secs(240);

fn send(daemon: &Daemon, instances: &[Instance]) -> Result<()> {
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, instances)?;
    for instance in instances {
        ensure!(scu.store(instance)? == 0);
    }
    scu.release()
}

/// Sends an image each of some studies of their own; their UIDs.
fn send_studies(daemon: &Daemon, seeds: std::ops::Range<u64>) -> Result<Vec<String>> {
    let mut studies: Vec<Study> = seeds.map(Study::seeded).collect();
    let images = studies.iter_mut().map(|study| study.image(1)).collect::<Result<Vec<_>>>()?;
    send(daemon, &images)?;
    Ok(studies.into_iter().map(|study| study.uid).collect())
}

fn words(daemon: &Daemon, arguments: &[&str]) -> Result<String> {
    Ok(String::from_utf8(daemon.command(arguments)?.stdout)?)
}

/// More destinations, and a rule that sends to all of them.
fn destinations(named: &[(&str, String)]) -> String {
    let section = |(name, address): &(&str, String)| {
        format!("[[destination]]\nname = \"{name}\"\nae_title = \"PACS\"\naddress = \"{address}\"\n")
    };
    let sections: String = named.iter().map(section).collect();
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    format!(
        "{sections}\n[[rule]]\nname = \"everywhere\"\nwhen = 'modality == \"CR\"'\nmodel = \"phantom-cxr\"\n\
         destinations = {names:?}\n"
    )
}

#[test]
fn a_destination_that_is_slow_hangs_aborts_or_is_away_delays_no_other() -> Result<()> {
    let [slow, hanging, aborting, healthy] = [(); 4].map(|()| Scp::start("PACS"));
    let (slow, hanging, aborting, healthy) = (slow?, hanging?, aborting?, healthy?);
    slow.script(|_, _| {
        thread::sleep(Duration::from_secs(40));
        Answer::Status(0)
    });
    hanging.script(|_, _| {
        thread::sleep(Duration::from_secs(3600));
        Answer::Abort
    });
    aborting.script(|_, _| Answer::Abort);
    let nobody = Port::free()?;
    let more = destinations(&[
        ("slow", slow.address()),
        ("hanging", hanging.address()),
        ("aborting", aborting.address()),
        ("away", nobody.address()),
        ("healthy", healthy.address()),
    ]);
    let daemon = Daemon::start(&Setup { when: "false".into(), more, ..Setup::default() })?;
    const STUDIES: usize = 6;
    let studies = send_studies(&daemon, 300..300 + STUDIES as u64)?;
    wait::until("every report at the healthy destination", PATIENCE, || {
        Ok((healthy.received().len() == STUDIES).then_some(()))
    })?;
    assert!(slow.received().len() < STUDIES, "the slow one was not slower: nothing was tested");
    assert!(hanging.received().is_empty());

    // Each of the others is named where people look, with what is wrong with it.
    let waiting = wait::until("what the studies wait for", PATIENCE, || {
        let entry = daemon.study(&studies[STUDIES - 1])?.context("no study")?;
        let waiting = entry["waiting"].as_array().cloned().unwrap_or_default();
        let said = |name: &str| waiting.iter().any(|it| it["destination"] == name && it["last_error"].is_string());
        Ok((said("away") && said("aborting")).then_some(waiting))
    })?;
    let of = |name: &str| waiting.iter().find(|it| it["destination"] == name).cloned().unwrap_or_default();
    ensure!(of("away")["last_error"].as_str().unwrap_or_default().contains("connection refused"), "{waiting:#?}");
    ensure!(of("aborting")["last_error"].as_str().unwrap_or_default().contains("aborted"), "{waiting:#?}");
    ensure!(of("healthy").is_null() && of("slow")["given_up"] == false, "{waiting:#?}");
    let list = words(&daemon, &["queue", "ls"])?;
    ensure!(list.contains("away lacks 1 object") && list.contains("connection refused"), "{list}");
    Ok(())
}

#[test]
fn a_temporary_failure_is_tried_until_it_is_over() -> Result<()> {
    // More often than what is given up.
    const FAILURES: usize = 5;
    let pacs = Scp::start("PACS")?;
    let daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let mut studies: Vec<Study> = (320..325).map(Study::seeded).collect();
    let answers =
        [Answer::Status(0x0110), Answer::Status(0xC001), Answer::Status(0xA700), Answer::Abort, Answer::Status(0x0ABC)];
    let by_study: HashMap<String, Answer> = studies.iter().map(|study| study.uid.clone()).zip(answers).collect();
    pacs.script(move |instance, before| match by_study.get(&instance.study_instance_uid) {
        Some(answer) if before < FAILURES => *answer,
        _ => Answer::Status(0),
    });
    let images = studies.iter_mut().map(|study| study.image(1)).collect::<Result<Vec<_>>>()?;
    send(&daemon, &images)?;

    // Visible meanwhile, with what was said, how often it was tried, and when it is next.
    let first = &studies[0].uid;
    let entry = wait::until("a second attempt", PATIENCE, || {
        Ok(daemon.study(first)?.filter(|entry| entry["waiting"][0]["attempts"].as_i64() >= Some(2)))
    })?;
    let waiting = &entry["waiting"][0];
    assert_eq!((&entry["state"], &waiting["given_up"]), (&Value::from("written"), &Value::from(false)), "{entry:#}");
    ensure!(waiting["next_try_at"].is_i64(), "{entry:#}");
    for study in &studies {
        let ended = daemon.await_state(&study.uid, "delivered", PATIENCE)?;
        ensure!(ended["reason"].is_null() && ended["waiting"].is_null(), "{ended:#}");
        let sent = pacs.received().into_iter().filter(|one| one.instance.study_instance_uid == study.uid).count();
        ensure!(sent == FAILURES + 1, "{} was sent {sent} times", study.uid);
    }
    // It is said of each study and of the destination when something is new: not at each of the 25 attempts, which are 50 lines.
    let log = daemon.log();
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains("deliver")).count();
    ensure!((1..=18).contains(&warnings), "{warnings} warnings:\n{log}");
    ensure!(log.contains("0x0110 (processing failure)"), "{log}");
    Ok(())
}

#[test]
fn what_an_archive_has_by_our_own_earlier_attempt_is_delivered() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    // It stores the report and goes away before it has answered.
    pacs.script(|_, before| if before == 0 { Answer::Abort } else { Answer::Status(0x0111) });
    let daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let study = send_studies(&daemon, 330..331)?.remove(0);
    daemon.await_state(&study, "delivered", PATIENCE)?;
    assert_eq!(pacs.received().len(), 2);
    let shown = words(&daemon, &["queue", "show", "1"])?;
    ensure!(shown.contains("delivered to pacs: it has it already"), "{shown}");
    Ok(())
}

#[test]
fn a_refusal_for_good_holds_with_advice_and_the_destinations_own_words_stay_out_of_log_and_list() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    pacs.script(|_, _| Answer::Comment(0xA900, "\u{1b}[2Jno such patient: XYLO^QUINT\u{7}\n"));
    let mut daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let study = send_studies(&daemon, 340..341)?.remove(0);
    let held = daemon.await_state(&study, "held", PATIENCE)?;
    let reason = held["reason"].as_str().unwrap_or_default();
    for part in ["pacs: refused with status 0xa900 (data set does not match SOP class)", "[[destination]] \"pacs\""] {
        ensure!(reason.contains(part), "{reason}\ndoes not say {part}");
    }
    assert_eq!(pacs.received().len(), 4, "a few attempts");
    let shown = words(&daemon, &["queue", "show", "1"])?;
    ensure!(shown.contains("pacs says: [2Jno such patient: XYLO^QUINT\n"), "{shown}");
    daemon.terminate()?;
    let lists = [words(&daemon, &["queue", "ls"])?, words(&daemon, &["queue", "ls", "--json"])?, daemon.log()];
    ensure!(lists.iter().all(|text| !text.is_empty() && !text.contains("XYLO")), "{lists:#?}");
    ensure!(lists.iter().chain([&shown]).all(|text| !text.contains('\u{1b}')), "an escape reached the terminal");
    Ok(())
}

#[test]
fn a_report_never_comes_after_its_successor_and_an_outdated_one_not_at_all() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    pacs.answer(0x0110);
    let objects = ["pdf", "text-sr"].map(str::to_owned).to_vec();
    let mut daemon = Daemon::start(&Setup { objects, ..Setup::to("PACS", &pacs.address()) })?;
    let mut study = Study::seeded(350);
    let uid = study.uid.clone();
    send(&daemon, &[study.image(5)?])?;
    let version = |daemon: &Daemon, wanted: i64| {
        wait::until("a version of the report", PATIENCE, || {
            let Some(entry) = daemon.study(&uid)? else { return Ok(None) };
            let shown = daemon.show(&uid)?;
            let reports = shown["reports"].as_array().cloned().unwrap_or_default();
            let made = reports.iter().any(|it| it["version"] == wanted && it["kind"] == "text-sr");
            Ok((made && entry["state"] == "written").then_some(reports))
        })
    };
    let first = version(&daemon, 1)?;
    // One that stands before it, so that it is what the model reads.
    send(&daemon, &[study.image(1)?])?;
    version(&daemon, 2)?;
    daemon.kill()?;
    daemon.start_again()?;
    pacs.answer(0);
    daemon.await_state(&study.uid, "delivered", PATIENCE)?;

    let stored = pacs.stored_in(&study.uid);
    let classes: Vec<&str> = stored.iter().map(|one| one.instance.sop_class_uid.as_str()).collect();
    assert_eq!(classes, [uids::BASIC_TEXT_SR_STORAGE, uids::ENCAPSULATED_PDF_STORAGE], "the text report first");
    let outdated: Vec<&str> = first.iter().filter_map(|it| it["sop_instance_uid"].as_str()).collect();
    ensure!(outdated.len() == 2, "{first:#?}");
    ensure!(stored.iter().all(|one| !outdated.contains(&one.instance.sop_instance_uid.as_str())), "version 1 was sent");
    let shown = words(&daemon, &["queue", "show", "1"])?;
    ensure!(shown.contains("not sent to pacs: a newer version, or a verified report, was there before"), "{shown}");
    Ok(())
}

#[test]
fn what_waits_for_a_destination_that_is_not_configured_any_more_is_held_in_words() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    pacs.answer(0x0110);
    let mut daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let study = send_studies(&daemon, 360..361)?.remove(0);
    daemon.await_state(&study, "written", PATIENCE)?;
    daemon.terminate()?;
    let config = fs::read_to_string(daemon.config())?;
    fs::write(daemon.config(), config.replace("\"pacs\"", "\"archive\""))?;
    daemon.start_again()?;
    let held = daemon.await_state(&study, "held", PATIENCE)?;
    let reason = held["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("pacs: there is no [[destination]]") && reason.contains("queue retry 1"), "{reason}");
    // As it says: once it is there again, and somebody asks.
    daemon.terminate()?;
    fs::write(daemon.config(), config)?;
    daemon.start_again()?;
    pacs.answer(0);
    ensure!(daemon.command(&["queue", "retry", "1"])?.status.success());
    daemon.await_state(&study, "delivered", PATIENCE)?;
    Ok(())
}
