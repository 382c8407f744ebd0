use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use spool::{CommitmentView, Spool, StudyDetail, StudyView};

use super::{accept::Whose, deliveries};
use crate::cli::{Queue, QueueCommand};

/// Looks at the spool beside a running daemon, and steers it.
pub(crate) fn run(arguments: &Queue) -> Result<ExitCode> {
    let config = super::load_config(&arguments.config.config)?;
    let spool = Spool::open_beside(&config.spool.dir)?;
    match &arguments.command {
        QueueCommand::Ls { json: true } => super::print_json(&spool.studies()?)?,
        QueueCommand::Ls { json: false } => list(&spool.studies()?),
        QueueCommand::Show { id, json: true } => {
            let detail = spool.study(id)?;
            let whose = super::accept::groups(&spool, &detail)?;
            super::print_json(&Shown { detail, whose })?;
        }
        QueueCommand::Show { id, json: false } => {
            let detail = spool.study(id)?;
            show(&detail);
            let decided = spool.accepted(detail.study.id)?.is_some();
            super::accept::show_groups(&detail, decided);
        }
        QueueCommand::Commitments { json: true } => super::print_json(&spool.open_commitments()?)?,
        QueueCommand::Commitments { json: false } => commitments(&spool.open_commitments()?),
        QueueCommand::Retry { id } => {
            let study = spool.study(id)?.study.id;
            let state = block_on(spool.retry(study))?;
            println!("study {study} is {state} again");
        }
        QueueCommand::Accept { id, older, group } => super::accept::run(&spool, id, *older, *group)?,
        QueueCommand::Hold { id } => {
            let study = spool.study(id)?.study.id;
            block_on(spool.hold(study, "stopped by a person with `preread queue hold`".to_owned()))?;
            println!("study {study} is held until it is retried");
        }
        QueueCommand::Withdraw { id, reason } => super::withdraw::run(&spool, id, reason)?,
        QueueCommand::Drop { id } => {
            let study = spool.study(id)?.study.id;
            block_on(spool.drop_study(study, "ended by a person with `preread queue drop`".to_owned()))?;
            let state = spool.study(id)?.study.state;
            println!("study {study} is {state}; its instances stay");
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn block_on<T>(work: impl Future<Output = Result<T, spool::Error>>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?.block_on(work)?)
}

fn list(studies: &[StudyView]) {
    println!("{:>6}  {:<10} {:>9}  {:<24} study, reason", "id", "state", "instances", "rule");
    for study in studies {
        println!(
            "{:>6}  {:<10} {:>9}  {:<24} {}{}{}{}",
            study.id,
            study.state,
            study.instances.unwrap_or(0),
            study.rule.as_deref().unwrap_or("-"),
            study.study_instance_uid,
            study.reason.as_ref().map(|reason| format!("  {reason}")).unwrap_or_default(),
            deliveries::waiting(study),
            if study.conflicts > 0 { format!("  {} quarantined", study.conflicts) } else { String::new() }
        );
    }
}

fn commitments(open: &[CommitmentView]) {
    println!(
        "{:>6}  {:<8} {:>9}  {:<24} {:<16} transaction, last error",
        "id", "state", "instances", "peer", "AE title"
    );
    for it in open {
        println!(
            "{:>6}  {:<8} {:>9}  {:<24} {:<16} {}{}",
            it.id,
            it.state,
            it.instances,
            it.peer,
            it.ae_title,
            it.transaction_uid,
            it.last_error.as_ref().map(|error| format!("  {error}")).unwrap_or_default()
        );
    }
}

/// A study for a program: what the spool says of it, and whose images it has.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    detail: StudyDetail,
    #[serde(flatten)]
    whose: Option<Whose>,
}

fn show(detail: &StudyDetail) {
    println!("study {} {}", detail.study.id, detail.study.study_instance_uid);
    println!("  state {}", detail.study.state);
    if let Some(reason) = &detail.study.reason {
        println!("  reason {reason}");
    }
    for instance in &detail.instances {
        let decision = instance.decision.map(|it| format!("  of a UID that another study has: {}", it.as_str()));
        println!(
            "  instance {} {}{}",
            instance.sop_instance_uid,
            instance.path.display(),
            decision.unwrap_or_default()
        );
    }
    for conflict in &detail.quarantined {
        println!(
            "  quarantined {} {}  {}{}",
            conflict.sop_instance_uid,
            conflict.path.display(),
            conflict.decision.map_or("not compared yet", |it| it.as_str()),
            conflict.differs.as_ref().map(|names| format!(", differs in {names}")).unwrap_or_default()
        );
    }
    for object in &detail.reports {
        let withdrawn = object.withdrawn.as_ref().map(|why| format!(" (withdrawn: {why})")).unwrap_or_default();
        println!("  report version {} {} {}{withdrawn}", object.version, object.kind, object.path.display());
        deliveries::show(object);
    }
}
