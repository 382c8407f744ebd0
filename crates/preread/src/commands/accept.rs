//! `preread queue accept`: a person says which images of a study count.

use anyhow::{Result, bail};
use dataset::{Header, Limits, tags};
use serde::Serialize;
use spool::{Keep, Spool, StudyDetail};

use super::queue::block_on;
use crate::{
    clock,
    pipeline::{Acceptance, Group, accepted_groups, groups_of},
};

pub(super) fn run(spool: &Spool, id: &str, older: bool, group: Option<usize>) -> Result<()> {
    let detail = spool.study(id)?;
    let study = detail.study.id;
    if let Some(number) = group {
        let (groups, identities) = groups_of(&detail, &Limits::default())?;
        let Some(chosen) = number.checked_sub(1).filter(|index| *index < groups.len()) else {
            bail!("study {study} has {}; `preread queue show {study}` lists them", patients(groups.len()));
        };
        if groups.len() == 1 && spool.accepted(study)?.is_none() {
            bail!("study {study} has the images of one patient: there is nothing to choose");
        }
        block_on(spool.accept_group(study, Acceptance::of(&identities, chosen).to_string()))?;
        let images = groups[chosen].members.len();
        println!("study {study} is read again: the {images} of group {number} count, the others are left out");
        return Ok(());
    }
    let decided = match block_on(spool.accept(study, if older { Keep::Older } else { Keep::Newer })) {
        Ok(decided) => decided,
        Err(error) => {
            let groups = groups_of(&detail, &Limits::default()).map_or(0, |(groups, _)| groups.len());
            if groups > 1 {
                bail!("{error:#}; it has {}: `preread queue accept {study} --group N`", patients(groups));
            }
            return Err(error);
        }
    };
    let which = if older { "what came first counts" } else { "what came last counts" };
    println!("study {study} is read again: {which}, for {decided} of its instances");
    Ok(())
}

fn patients(count: usize) -> String {
    if count == 1 { "images of one patient".to_owned() } else { format!("images of {count} patients") }
}

/// Whose images a study has, where they are of several patients, for a program. It says of nobody who it is.
#[derive(Serialize)]
pub(super) struct Whose {
    /// As `preread queue accept --group` counts them.
    groups: Vec<GroupJson>,
    /// Whether a person has to say which of them counts before the study is read.
    decision_needed: bool,
}

#[derive(Serialize)]
struct GroupJson {
    /// From 1.
    number: usize,
    /// How many images it has.
    images: usize,
    /// SOP Instance UIDs of these.
    instances: Vec<String>,
    /// Whether a person said that it counts.
    accepted: bool,
}

/// Nothing for a study whose images are of one patient, of which nobody decided, or cannot be read.
pub(super) fn groups(spool: &Spool, detail: &StudyDetail) -> Result<Option<Whose>> {
    let Ok((groups, identities)) = groups_of(detail, &Limits::default()) else { return Ok(None) };
    let accepted = spool.accepted(detail.study.id)?.and_then(|word| word.parse().ok());
    if groups.len() < 2 && accepted.is_none() {
        return Ok(None);
    }
    let accepted = accepted_groups(&groups, &identities, accepted.as_ref());
    let decision_needed = accepted.is_none();
    let accepted = accepted.unwrap_or_default();
    let group = |(index, group): (usize, &Group)| GroupJson {
        number: index + 1,
        images: group.members.len(),
        instances: group.members.iter().map(|member| detail.instances[*member].sop_instance_uid.clone()).collect(),
        accepted: accepted.contains(&index),
    };
    Ok(Some(Whose { groups: groups.iter().enumerate().map(group).collect(), decision_needed }))
}

/// Says whose images a study has, where they are of several patients, or a person `decided` whose count. Read from the
/// files, for the person who asks.
pub(super) fn show_groups(study: &StudyDetail, decided: bool) {
    let Ok((groups, _)) = groups_of(study, &Limits::default()) else { return };
    if groups.len() < 2 && !decided {
        return;
    }
    for (number, Group { members, first }) in (1..).zip(&groups) {
        println!("  group {number}: {} images; {}", members.len(), whose(first));
        for &index in members {
            let instance = &study.instances[index];
            println!(
                "    instance {} from {}, {}",
                instance.sop_instance_uid,
                instance.source,
                clock::in_words(instance.received_at)
            );
        }
    }
}

/// What an image states of its patient, without characters that a terminal would obey.
fn whose(header: &Header) -> String {
    let stated = |name: &str, tag| {
        let text = header.text(tag).unwrap_or_default();
        let text: String = text.chars().filter(|it| !it.is_control()).collect();
        format!("{name} {}", if text.is_empty() { "not stated" } else { &text })
    };
    [
        stated("patient", tags::PATIENT_NAME),
        stated("id", tags::PATIENT_ID),
        stated("issuer", tags::ISSUER_OF_PATIENT_ID),
        stated("born", tags::PATIENT_BIRTH_DATE),
        stated("sex", tags::PATIENT_SEX),
    ]
    .join(", ")
}
