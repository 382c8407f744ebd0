//! The steps by which a study is decided of, with a power cut at every call of the disk and between any two steps: what is
//! there then is what was there before a step or after it, and going on from there comes to the same end.

use super::{Durability, Fault, Machine, Plan, QUIET, Random, data_set, run, store};
use crate::{Compared, Error, Keep, ObjectKind, ReportFile, Spool, StudyState, Timestamp};

/// What a daemon and a person do one after the other.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// An instance comes; the number is that of its pixels.
    Store(u8),
    /// The study is quiet.
    Settle,
    /// It is read, and gets a report of this version.
    Report(i64),
    /// It is read, and waits for a person.
    Hold,
    /// What is due is sent.
    Deliver,
    BeginComparison,
    Compared,
    Accept,
    AcceptGroup,
    Withdraw,
    Note,
}

impl Step {
    /// In this order; whether a power cut after its answer cannot take it back.
    const ALL: [(Self, bool); 16] = [
        (Self::Store(1), true),
        (Self::Settle, false),
        (Self::Report(1), true),
        (Self::Deliver, false),
        (Self::Store(2), true),
        (Self::BeginComparison, true),
        (Self::Compared, false),
        (Self::Settle, false),
        (Self::Hold, false),
        (Self::Accept, true),
        (Self::Report(2), true),
        (Self::Deliver, false),
        (Self::Withdraw, true),
        (Self::Note, true),
        (Self::Deliver, false),
        (Self::AcceptGroup, true),
    ];

    async fn take(self, spool: &Spool, now: Timestamp) -> Result<(), Error> {
        let study = || Ok::<_, Error>(spool.study("1.2.3")?.study.id);
        match self {
            Self::Store(fill) => {
                // The journal would keep the instance through a power cut that takes back the steps before it.
                spool.checkpoint().await?;
                let association = u64::from(fill);
                spool.association_opened(association, "test");
                let stored = store(spool, association, &data_set("1.2.3", "1.2.3.1", 3_000, fill), now).await;
                let released = spool.flush_association(association).await;
                spool.association_closed(association);
                stored.map(|_| ()).and(released)
            }
            Self::Settle => spool.settle(now).await.map(|_| ()),
            Self::Report(version) => {
                let Some(claim) = spool.claim().await? else { return Ok(()) };
                let report = spool.prepare(vec![object(ObjectKind::TextSr, version)], now).await?;
                let inputs = version.to_string();
                spool.written(&claim, version, inputs, "rule".to_owned(), report, now).await.map(|_| ())
            }
            Self::Hold => {
                let Some(claim) = spool.claim().await? else { return Ok(()) };
                spool.end(&claim, StudyState::Held, "two".to_owned(), None).await.map(|_| ())
            }
            Self::Deliver => {
                let due = spool.due_deliveries("pacs", now, 8)?;
                spool.begin_deliveries(&due).await?;
                for delivery in &due {
                    spool.delivered(delivery, None, now).await?;
                }
                Ok(())
            }
            Self::BeginComparison => {
                for pair in spool.uncompared(9)? {
                    spool.begin_comparison(&pair).await?;
                }
                Ok(())
            }
            Self::Compared => {
                for pair in spool.uncompared(9)? {
                    spool.compared(&pair, Compared::Differs("pixels".to_owned())).await?;
                }
                Ok(())
            }
            Self::Accept => spool.accept(study()?, Keep::Newer).await.map(|_| ()),
            Self::AcceptGroup => spool.accept_group(study()?, "a word".to_owned()).await,
            Self::Withdraw => spool.withdraw(study()?, "wrong".to_owned(), now).await.map(|_| ()),
            Self::Note => {
                for withdrawal in spool.open_withdrawals()? {
                    let note = spool.prepare(vec![object(ObjectKind::RejectionNote, 9)], now).await?;
                    spool.note_withdrawal(&withdrawal, vec![(2, note)], now).await?;
                }
                Ok(())
            }
        }
    }
}

fn object(kind: ObjectKind, number: i64) -> ReportFile {
    ReportFile {
        kind,
        uids: Some([format!("1.2.9.{number}"), "1.2.840".to_owned(), format!("1.2.8.{number}")]),
        bytes: b"an object".to_vec(),
        destinations: vec!["pacs".to_owned()],
    }
}

/// The time of a step, long after all that came before it.
fn time_of(step: usize) -> Timestamp {
    Timestamp::try_from(step + 1).expect("a small number") * 100 * QUIET
}

/// What a person sees, and what is to be done.
fn shown(machine: &Machine, spool: &Spool) -> String {
    let Ok(detail) = spool.study("1.2.3") else { return "nothing".to_owned() };
    let fill = |path: &std::path::Path| {
        let bytes = machine.disk.bytes(path).unwrap_or_default();
        [1, 2].into_iter().find(|fill| bytes.ends_with(&data_set("1.2.3", "1.2.3.1", 3_000, *fill)))
    };
    let instances: Vec<_> = detail.instances.iter().map(|it| fill(&it.path)).collect();
    let quarantined: Vec<_> = detail.quarantined.iter().map(|it| (fill(&it.path), it.decision)).collect();
    let objects: Vec<_> = detail
        .reports
        .iter()
        .map(|it| {
            assert!(machine.disk.bytes(&it.path).is_some(), "the file of an object is gone");
            let state = it.deliveries.first().map(|delivery| delivery.state.as_str());
            (it.version, it.kind.clone(), it.withdrawn.clone(), state)
        })
        .collect();
    let (withdrawals, accepted) = (spool.open_withdrawals().expect("they are read").len(), spool.accepted(1));
    let accepted = accepted.expect("it is read");
    format!("{} {instances:?} {quarantined:?} {objects:?} {withdrawals} {accepted:?}", detail.study.state)
}

/// What is shown after so many steps and a start.
fn after(steps: usize) -> String {
    let machine = Machine::new(Durability::Instance);
    run(async {
        let spool = machine.open(0).expect("it opens");
        for (number, (step, _)) in Step::ALL.iter().take(steps).enumerate() {
            step.take(&spool, time_of(number)).await.unwrap_or_else(|error| panic!("{step:?}: {error}"));
        }
    });
    let spool = machine.open(time_of(steps)).expect("it opens again");
    shown(&machine, &spool)
}

/// The power goes after so many steps, or earlier by the plan; answers at which call of the disk that was.
fn cut(expected: &[String], steps: usize, plan: Option<Plan>, seed: u64) -> Option<u64> {
    let mut random = Random(seed);
    let machine = Machine::new(Durability::Instance);
    machine.disk.plan(plan);
    let mut done = 0;
    run(async {
        let Ok(spool) = machine.open(0) else { return };
        for (number, (step, _)) in Step::ALL.iter().take(steps).enumerate() {
            // What needs no disk would go on without power.
            if step.take(&spool, time_of(number)).await.is_err() || machine.disk.was_hit() {
                break;
            }
            done = number + 1;
        }
    });
    let hit = machine.disk.was_hit().then(|| machine.disk.calls());
    machine.disk.plan(None);
    let machine = machine.after_power_cut(&mut random);
    run(async {
        let spool = machine.open(time_of(done)).expect("it opens again");
        let found = shown(&machine, &spool);
        let lasting = Step::ALL.iter().take(done).rposition(|(_, lasting)| *lasting).map_or(0, |last| last + 1);
        // A step that was under way may have been taken.
        let latest = if hit.is_some() { (done + 1).min(Step::ALL.len()) } else { done };
        let at = (lasting..=latest).rev().find(|number| expected[*number] == found);
        let Some(at) = at else {
            panic!("{plan:?}, seed {seed}, after {done} steps: {found}\nis none of {:#?}", &expected[lasting..=latest])
        };
        for (number, (step, _)) in Step::ALL.iter().enumerate().skip(at) {
            let taken = step.take(&spool, time_of(number + Step::ALL.len())).await;
            taken.unwrap_or_else(|error| panic!("{plan:?}, seed {seed}, {step:?} after a start: {error}"));
        }
        assert_eq!(shown(&machine, &spool), expected[Step::ALL.len()], "{plan:?}, seed {seed}: another end");
    });
    hit
}

#[test]
fn a_power_cut_leaves_a_decision_taken_or_not_taken() {
    let expected: Vec<String> = (0..=Step::ALL.len()).map(after).collect();
    let different: std::collections::BTreeSet<&String> = expected.iter().collect();
    // All but the note that a comparison begins are seen.
    assert!(different.len() >= Step::ALL.len(), "{expected:#?}");
    for steps in 0..=Step::ALL.len() {
        for seed in 0..4 {
            cut(&expected, steps, None, seed);
        }
    }
    let (mut at, mut hits) = (1, 0);
    while let Some(hit) = cut(&expected, Step::ALL.len(), Some(Plan { fault: Fault::PowerCut, at }), at) {
        at = hit + 1;
        hits += 1;
    }
    assert!(hits > 10, "{hits} calls only");
}
