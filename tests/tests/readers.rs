//! What other programs read in our structured reports: DCMTK's HTML and PixelMed's tree, beside what we put there.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use e2e::{instance::Instance, peers, place, samples, sr::Report};

/// Reads one study by the shipped program into `out`.
fn read(file: &Path, out: &Path) -> Result<()> {
    let output = Command::new(place::preread()?)
        .current_dir(place::root())
        .args(["read", "--out"])
        .args([out, file])
        .output()?;
    ensure!(output.status.success(), "preread read: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn dcmtk_and_pixelmed_show_every_word_of_a_report() -> Result<()> {
    let samples = samples::all()?;
    let with_findings = samples.iter().filter(|sample| !sample.truth.is_empty()).take(2);
    let normal = samples.iter().filter(|sample| sample.truth.is_empty()).take(1);
    let mut compared = 0;
    for sample in with_findings.chain(normal) {
        let dir = tempfile::tempdir()?;
        read(&sample.file, dir.path()).with_context(|| sample.name.clone())?;
        let mut seen = 0;
        for name in ["text-sr", "measurements-sr", "ai-results-sr", "key-objects"] {
            let file = dir.path().join(&sample.instance.study_instance_uid).join(format!("{name}.dcm"));
            if !file.is_file() {
                continue;
            }
            let report = Report::of(&Instance::read(&file)?)?;
            let (html, xml) = (peers::dsr2html(&file)?, peers::pixelmed_xml(&file)?);
            report.root.walk(0, &mut |_, item| {
                let shown = match item.value_type.as_str() {
                    "TEXT" | "NUM" | "CODE" => &item.value,
                    _ => return,
                };
                for (reader, text) in [("dsr2html", &html), ("PixelMed", &xml)] {
                    assert!(text.contains(shown.as_str()), "{}: {name}: {reader} does not show {item:?}", sample.name);
                }
                compared += 1;
            });
            seen += 1;
        }
        ensure!(
            seen >= 2,
            "{}: only {seen} structured reports in {:?}",
            sample.name,
            fs::read_dir(dir.path())?.count()
        );
    }
    ensure!(compared > 60, "only {compared} items were compared");
    Ok(())
}
