//! `preread queue withdraw`: what was sent and is wrong is called back.

use anyhow::Result;
use spool::Spool;

use super::queue::block_on;
use crate::clock;

/// Withdraws the reports of a study, and says what happens next.
pub(super) fn run(spool: &Spool, id: &str, reason: &str) -> Result<()> {
    let reason: String = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(MOST_REASON).collect();
    if reason.is_empty() {
        return Err(super::usage("--reason is empty: say why, for those who read it where the report was sent to"));
    }
    let study = spool.study(id)?.study.id;
    let withdrawn = block_on(spool.withdraw(study, reason, clock::now()))?;
    let versions = if withdrawn.versions == 1 {
        "its report".to_owned()
    } else {
        format!("its report, in {} versions,", withdrawn.versions)
    };
    if withdrawn.destinations.is_empty() {
        println!("study {study}: {versions} is withdrawn; nothing of it was sent, and nothing will be");
        return Ok(());
    }
    println!(
        "study {study}: {versions} is withdrawn. The daemon sends a rejection note to {}; `preread queue show {study}` says \
         who has it, and what a person must do where it is not taken.",
        withdrawn.destinations.join(", ")
    );
    println!("A late image makes a new report; `preread queue hold {study}` prevents that.");
    Ok(())
}

/// Characters of a reason: more than a note's reader would read.
const MOST_REASON: usize = 1000;
