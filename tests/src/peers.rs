//! Programs by others that preread is tested against. One that is missing is a failure that says how to get it.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::place;

/// Finds a program of a Debian package.
///
/// # Errors
/// When it is not installed.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps Orthanc in /usr/sbin, where a user's path may not lead.
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.with_context(|| {
        format!("{name} is not installed. Install it: cargo xtask setup --peers (Debian's package {package})")
    })
}

fn run(program: &Path, arguments: &[&str]) -> Result<Output> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    output.with_context(|| format!("cannot start {}", program.display()))
}

/// Everything a program printed.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A tool of DCMTK; its exit status and all it printed.
///
/// # Errors
/// When it is not installed.
pub fn dcmtk(tool: &str, arguments: &[&str]) -> Result<(bool, String)> {
    let output = run(&program(tool, "dcmtk")?, arguments)?;
    Ok((output.status.success(), said(&output)))
}

/// dicom3tools' check of one object against its IOD: the errors it found, a line each.
///
/// # Errors
/// When it is not installed.
pub fn dciodvfy(file: &Path) -> Result<Vec<String>> {
    let output = run(&program("dciodvfy", "dicom3tools")?, &["-new", &file.to_string_lossy()])?;
    let said = said(&output);
    let errors: Vec<String> = said.lines().filter(|line| line.contains("Error")).map(str::to_owned).collect();
    if errors.is_empty() && !output.status.success() {
        bail!("dciodvfy ended with {}: {said}", output.status);
    }
    Ok(errors)
}

/// dicom3tools' check that objects of one study agree on patient and study.
///
/// # Errors
/// When it found that they do not, or is not installed.
pub fn dcentvfy(files: &[&Path]) -> Result<()> {
    let arguments: Vec<String> = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = run(&program("dcentvfy", "dicom3tools")?, &arguments)?;
    let said = said(&output);
    if !output.status.success() || said.contains("Error") {
        bail!("dcentvfy: {said}");
    }
    Ok(())
}

/// DCMTK's reader of structured reports.
///
/// # Errors
/// When it cannot read the document, or is not installed.
pub fn dsrdump(file: &Path) -> Result<String> {
    let (success, said) = dcmtk("dsrdump", &["+Pf", &file.to_string_lossy()])?;
    if !success || said.lines().any(|line| line.starts_with("E:") || line.starts_with("F:")) {
        bail!("dsrdump: {said}");
    }
    Ok(said)
}

/// PixelMed's check of a structured report against its IOD and template. It always exits with 0: its output tells.
///
/// # Errors
/// When it found anything that is not allowed, did not find the template, or is not installed.
pub fn pixelmed(file: &Path, template: &str) -> Result<()> {
    let jar = "/usr/share/java/pixelmed.jar";
    if !Path::new(jar).is_file() {
        bail!("{jar} is missing. Install it: cargo xtask setup --peers (Debian's package libpixelmed-java)");
    }
    let mut command = Command::new(program("java", "default-jre-headless")?);
    // The limits that newer Java sets on XPath are below what the validator's style sheets need.
    command.args(
        ["jdk.xml.xpathExprOpLimit", "jdk.xml.xpathExprGrpLimit", "jdk.xml.xpathTotalOpLimit"]
            .map(|limit| format!("-D{limit}=0")),
    );
    command.args(["-cp", jar, "com.pixelmed.validate.DicomSRValidator"]).arg(file);
    let said = said(&command.stdin(Stdio::null()).output().context("cannot start java")?);
    let expected = |line: &str| {
        let line = line.trim();
        line.is_empty()
            || line.starts_with("Found ")
            || line.ends_with("validation complete")
            || line.ends_with("Validation Complete")
            // Its context group 7001 is older than the LOINC headings that the standard has now.
            || line.contains("Content Item not in template")
    };
    if !said.contains(&format!("Found Root Template {template}")) {
        bail!("DicomSRValidator did not find {template}: {said}");
    }
    if let Some(line) = said.lines().find(|line| !expected(line)) {
        bail!("DicomSRValidator: {line}\nall it said: {said}");
    }
    Ok(())
}

/// The Python that has pynetdicom and pydicom.
///
/// # Errors
/// When the environment is missing.
pub fn python_program() -> Result<PathBuf> {
    let python = place::root().join("target/peers/venv/bin/python");
    if !python.is_file() {
        bail!("{} is missing. Get it: cargo xtask setup --peers", python.display());
    }
    Ok(python)
}

/// Runs one of the scripts under `tests/peers` in the environment that has pynetdicom and pydicom; it prints JSON.
///
/// # Errors
/// When the environment is missing, or the script fails.
pub fn python(script: &str, arguments: &[&str]) -> Result<Value> {
    let python = python_program()?;
    let script = place::root().join("tests/peers").join(script);
    let mut all = vec![script.to_str().context("the checkout's path is not UTF-8")?];
    all.extend(arguments);
    let output = run(&python, &all)?;
    if !output.status.success() {
        bail!("{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
