//! The instruments themselves: what is measured with must not err.

use std::time::Duration;

use anyhow::Result;
use e2e::{
    instance::{Instance, Study},
    orthanc::{ORTHANC, Orthanc},
    peers, place, samples,
    scp::Scp,
    scu::Scu,
    sr::Report,
    wait,
};

#[test]
fn our_scu_and_scp_carry_a_data_set_byte_for_byte() -> Result<()> {
    let scp = Scp::start("ARCHIVE")?;
    let mut study = Study::seeded(1);
    let instances = [study.image(1)?, study.document(2)?, samples::all()?.swap_remove(4).instance];
    let mut scu = Scu::for_instances(&scp.address(), "E2E", "ARCHIVE", &instances)?;
    assert_eq!(scu.echo()?, 0);
    for instance in &instances {
        assert_eq!(scu.store(instance)?, 0);
    }
    scp.answer(0xA700);
    assert_eq!(scu.store(&instances[0])?, 0xA700);
    scu.release()?;
    let received: Vec<_> = scp.received().into_iter().filter(|one| one.status == 0).map(|one| one.instance).collect();
    assert_eq!(received, instances);
    assert_eq!(scp.stored_in(&study.uid).len(), 2);
    Ok(())
}

#[test]
fn our_scp_takes_what_dcmtk_and_pynetdicom_send() -> Result<()> {
    let scp = Scp::start("ARCHIVE")?;
    let sample = samples::all()?.swap_remove(0);
    let file = sample.file.to_string_lossy();
    let (host, port) = scp.address().split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap_or_default();
    let (success, said) = peers::dcmtk("storescu", &["-aec", "ARCHIVE", &host, &port, &file])?;
    assert!(success, "{said}");
    let answer = peers::python("store.py", &[&host, &port, "ARCHIVE", "PYNETDICOM", &file])?;
    assert_eq!(answer, serde_json::json!({"echo": 0, "store": [0]}));
    for received in scp.received() {
        assert_eq!(received.instance.data_set, sample.instance.data_set, "from {}", received.calling_ae_title);
    }
    assert_eq!(scp.received().len(), 2);
    Ok(())
}

#[test]
fn made_up_images_are_valid_for_dicom3tools() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("image.dcm");
    std::fs::write(&file, Study::seeded(2).image(1)?.to_part10()?)?;
    let errors = peers::dciodvfy(&file)?;
    assert!(!errors.iter().any(|error| error.contains("PixelData")), "{errors:#?}");
    Ok(())
}

#[test]
fn orthanc_routes_whatever_it_stores() -> Result<()> {
    let scp = Scp::start("PREREAD")?;
    let port = scp.address().rsplit(':').next().unwrap_or_default().parse()?;
    let orthanc = Orthanc::prepare()?.route_to(port)?;
    let sample = samples::all()?.swap_remove(0);
    orthanc.upload(&sample.file)?;
    wait::until("what Orthanc routes", Duration::from_secs(20), || Ok((!scp.received().is_empty()).then_some(())))?;
    assert_eq!(scp.received()[0].instance.data_set, sample.instance.data_set);
    assert_eq!(orthanc.routed(), std::slice::from_ref(&sample.instance.sop_instance_uid));

    // What comes by C-STORE is noted and sent on, also when Orthanc has it already.
    let image = Study::seeded(3).image(1)?;
    let mut scu = Scu::for_instances(&orthanc.address(), "E2E", ORTHANC, std::slice::from_ref(&image))?;
    assert_eq!(scu.store(&image)?, 0);
    assert_eq!(scu.store(&image)?, 0);
    scu.release()?;
    wait::until("the others", Duration::from_secs(20), || Ok((scp.received().len() == 3).then_some(())))?;
    assert_eq!(orthanc.came_by_store(), vec![image.sop_instance_uid.clone(); 2]);
    assert_eq!(orthanc.routed().len(), 3);
    assert!(orthanc.sr_series(&image.study_instance_uid)?.is_empty());
    Ok(())
}

#[test]
fn a_report_in_orthanc_is_found_and_read() -> Result<()> {
    let Some(shared) = place::shared() else { return Ok(()) };
    let file = shared.join("sr_samples/GOLD_text_tid2000_basictext.dcm");
    let gold = Instance::read(&file)?;
    let orthanc = Orthanc::prepare()?.route_to(9)?;
    orthanc.upload(&file)?;
    let series = orthanc.sr_series(&gold.study_instance_uid)?;
    assert_eq!(series.len(), 1);
    assert_eq!(series[0][0].0, gold.sop_instance_uid);
    let fetched = Instance::from_part10(&orthanc.file(&series[0][0].1)?)?;
    assert_eq!(fetched.data_set, gold.data_set);
    let report = Report::of(&fetched)?;
    eprintln!("{}", report.to_text());
    assert_eq!(report.template, "2000");
    assert_eq!(report.preliminary_flag, "PRELIMINARY");
    assert!(!report.findings().is_empty());
    assert!(peers::dciodvfy(&file)?.is_empty());
    peers::dsrdump(&file)?;
    peers::pixelmed(&file, "TID_2000")?;
    Ok(())
}
