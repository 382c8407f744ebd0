//! What `preread queue` says of deliveries.

use spool::{DeliveryState, ObjectView, StudyView, Timestamp};

use crate::clock;

/// Whom a study waits for, behind its line in a list; empty when for nobody.
pub(super) fn waiting(study: &StudyView) -> String {
    let said = study.reason.as_deref().unwrap_or_default();
    // While its rejection note is on its way, the reason is what that meets.
    let withdrawn = study.withdrawn.as_ref().map(|why| format!("withdrawn: {why}"));
    let withdrawn = withdrawn.filter(|it| !said.contains(it)).map(|it| format!("  {it}"));
    let parts = study.waiting.iter().map(|it| {
        let objects = if it.objects == 1 { "1 object".to_owned() } else { format!("{} objects", it.objects) };
        let tries = match (it.given_up, it.attempts) {
            (true, attempts) => format!("given up after {attempts} tries"),
            (false, 0) => "not tried yet".to_owned(),
            (false, attempts) => format!("{attempts} tries{}", next(it.next_try_at)),
        };
        // The reason of the study has what its last attempt ended with.
        let error = it.last_error.as_deref().filter(|error| !said.contains(error));
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        format!("  {} lacks {objects}, {tries}{error}", it.destination)
    });
    withdrawn.into_iter().chain(parts).collect()
}

fn next(at: Option<Timestamp>) -> String {
    match at {
        Some(at) if at <= clock::now() => ", next now".to_owned(),
        Some(at) => format!(", next at {}", clock::time_of_day(at)),
        None => String::new(),
    }
}

/// Where an object is, and where not yet, a line each.
pub(super) fn show(object: &ObjectView) {
    for it in &object.deliveries {
        let to = &it.destination;
        let error = it.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        let tries = format!("{} tries{}", it.attempts, next(it.next_try_at));
        match it.state {
            DeliveryState::Delivered => println!("    delivered to {to}{error}"),
            DeliveryState::Replaced => println!("    not taken by {to}{error}"),
            DeliveryState::Superseded => {
                println!("    not sent to {to}: a newer version, or a verified report, was there before")
            }
            DeliveryState::Withdrawn => println!("    not sent to {to}: it was withdrawn before"),
            DeliveryState::Failed => println!("    given up at {to}, {} tries{error}", it.attempts),
            DeliveryState::Pending => println!("    not yet at {to}, {tries}{error}"),
        }
        if let Some(comment) = &it.comment {
            println!("      {to} says: {comment}");
        }
    }
}
