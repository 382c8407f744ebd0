//! The instruments themselves: what is measured with must not err.

use anyhow::Result;
use e2e::{instance::Study, peers, samples, scp::Scp, scu::Scu};

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
