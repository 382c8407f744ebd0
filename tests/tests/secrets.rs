//! No patient's data in what the daemon prints.

use std::time::Duration;

use anyhow::Result;
use e2e::{
    daemon::{AE_TITLE, Daemon, Setup},
    instance::Study,
    scp::Scp,
    scu::Scu,
};

#[test]
fn a_patients_name_is_in_no_log_line_and_in_no_list() -> Result<()> {
    const PLANTED: &str = "Xylophonist^Quintessa";
    let pacs = Scp::start("PACS")?;
    let mut daemon = Daemon::start(&Setup::to("PACS", &pacs.address()))?;
    let mut readable = Study::seeded(71);
    let mut held = Study::seeded(72);
    let mut nowhere = Study::seeded(73);
    for study in [&mut readable, &mut held, &mut nowhere] {
        study.patient_name = PLANTED.into();
    }
    let instances = [readable.image(1)?, held.document(1)?, nowhere.image_without_study(1)?];
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, &instances)?;
    for instance in &instances {
        // Whether it is taken is another test's matter; what is said about it is this one's.
        let _ = scu.store(instance);
    }
    let _ = scu.release();
    pacs.text_report(&readable.uid, Duration::from_secs(60))?;
    daemon.terminate()?;
    daemon.start_again()?;

    let shown = String::from_utf8(daemon.command(&["queue", "ls", "--json"])?.stdout)?;
    for (what, text) in [("the log", daemon.log()), ("queue ls", shown)] {
        let text = text.to_lowercase();
        assert!(!text.is_empty(), "{what} is empty: nothing was tested");
        for secret in ["xylophonist", "quintessa", "madeup000071", "madeup000072", "madeup000073"] {
            assert!(!text.contains(secret), "{what} has {secret}");
        }
    }
    Ok(())
}
