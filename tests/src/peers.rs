//! Programs by others that preread is tested against. One that is missing is a failure that says how to get it.

use std::{
    collections::BTreeSet,
    env, fs,
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

/// What became of a file that another program was to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sending {
    /// It was sent, and answered with this status.
    Answered(u16),
    /// The program did not send it, for this reason.
    NotSent(String),
}

/// DCMTK's sender: all `files` over one association, each in the transfer syntax it has. `contexts` are the pairs of SOP
/// class and transfer syntax that it proposes.
///
/// # Errors
/// When it is not installed, or does not say what became of a file.
pub fn storescu(
    port: u16,
    called: &str,
    contexts: &BTreeSet<(String, String)>,
    files: &[PathBuf],
) -> Result<Vec<Sending>> {
    let dir = tempfile::tempdir()?;
    let profile = dir.path().join("profile.cfg");
    fs::write(&profile, profile_of(contexts))?;
    let mut command = Command::new(program("storescu", "dcmtk")?);
    command.args(["--verbose", "--no-halt", "-aec", called, "-xf"]).arg(&profile).arg("Default");
    command.args(["127.0.0.1", &port.to_string()]).args(files);
    // Without it each small write waits for the answer to the one before.
    command.env("TCP_NODELAY", "1").stdin(Stdio::null());
    let said = said(&command.output().context("cannot start storescu")?);
    files.iter().map(|file| sending(&said, file)).collect()
}

/// An association negotiation profile with a context of its own for each pair.
fn profile_of(contexts: &BTreeSet<(String, String)>) -> String {
    let name = |uid: &str| uid.replace('.', "_");
    let mut text = String::from("[[TransferSyntaxes]]\n");
    for transfer_syntax in contexts.iter().map(|(_, transfer_syntax)| transfer_syntax).collect::<BTreeSet<_>>() {
        text += &format!("[T{}]\nTransferSyntax1 = {transfer_syntax}\n", name(transfer_syntax));
    }
    text += "[[PresentationContexts]]\n[All]\n";
    for (number, (sop_class, transfer_syntax)) in contexts.iter().enumerate() {
        text += &format!("PresentationContext{} = {sop_class}\\T{}\n", number + 1, name(transfer_syntax));
    }
    text + "[[Profiles]]\n[Default]\nPresentationContexts = All\n"
}

/// What storescu said about one of its files.
fn sending(said: &str, file: &Path) -> Result<Sending> {
    let path = file.to_string_lossy();
    let mut about = said.lines().skip_while(|line| *line != format!("I: Sending file: {path}"));
    if about.next().is_none() {
        let refused = said.lines().find(|line| line.contains(&*path));
        let refused = refused.with_context(|| format!("storescu says nothing of {path}: {said}"))?;
        return Ok(Sending::NotSent(refused.replace(&*path, "")));
    }
    let about: Vec<&str> = about.take_while(|line| !line.starts_with("I: Sending file: ")).collect();
    if let Some(status) = about.iter().find_map(|line| line.strip_prefix("I: Received Store Response (")) {
        let number = status.rsplit_once("0x").and_then(|(_, digits)| digits.split(')').next());
        let status = match number.and_then(|digits| u16::from_str_radix(digits.trim(), 16).ok()) {
            Some(number) => number,
            None if status.starts_with("Success") => 0x0000,
            None if status.starts_with("Refused: OutOfResources") => 0xA700,
            None if status.starts_with("Error: DataSetDoesNotMatchSOPClass") => 0xA900,
            None if status.starts_with("Error: CannotUnderstand") => 0xC000,
            None => bail!("storescu names an unknown status: {status}"),
        };
        return Ok(Sending::Answered(status));
    }
    let reasons: Vec<&str> = about.into_iter().filter(|line| line.starts_with("E: ")).collect();
    Ok(Sending::NotSent(reasons.join(" ").replace(&*path, "")))
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

/// DCMTK's rendering of a structured report as HTML, with entities turned back into characters.
///
/// # Errors
/// When it cannot read the document, or is not installed.
pub fn dsr2html(file: &Path) -> Result<String> {
    let html = file.with_extension("html");
    let (success, said) = dcmtk("dsr2html", &["+U8", &file.to_string_lossy(), &html.to_string_lossy()])?;
    if !success || said.lines().any(|line| line.starts_with("E:") || line.starts_with("F:")) {
        bail!("dsr2html: {said}");
    }
    plain(&html)
}

/// PixelMed's reading of a structured report, the one that its viewer shows, as XML with entities turned back.
///
/// # Errors
/// When it cannot read the document, or is not installed.
pub fn pixelmed_xml(file: &Path) -> Result<String> {
    let xml = file.with_extension("xml");
    let mut command = Command::new(program("java", "default-jre-headless")?);
    command.args(["-Dfile.encoding=UTF-8", "-cp", PIXELMED]);
    command.args(["com.pixelmed.dicom.XMLRepresentationOfStructuredReportObjectFactory", "toXML"]).arg(file);
    let output = command.stdin(Stdio::null()).output().context("cannot start java")?;
    if !output.status.success() || !output.stdout.starts_with(b"<?xml") {
        bail!("PixelMed: {}", said(&output));
    }
    fs::write(&xml, output.stdout)?;
    plain(&xml)
}

/// A file of HTML or XML with its entities turned back into characters.
fn plain(file: &Path) -> Result<String> {
    let text = String::from_utf8_lossy(&fs::read(file)?).into_owned();
    let text = text.replace("&quot;", "\"").replace("&#34;", "\"").replace("&apos;", "'").replace("&#39;", "'");
    Ok(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

const PIXELMED: &str = "/usr/share/java/pixelmed.jar";

/// PixelMed's check of a structured report against its IOD and template. It always exits with 0: its output tells.
///
/// # Errors
/// When it found anything that is not allowed, did not find the template, or is not installed.
pub fn pixelmed(file: &Path, template: &str) -> Result<()> {
    let jar = PIXELMED;
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

/// OHIF, a Chromium to show it in, and a Node.js to drive that.
pub struct Ohif {
    node: PathBuf,
    chromium: PathBuf,
    folder: PathBuf,
}

impl Ohif {
    /// What `cargo xtask setup --peers` installed; none, and a line that says what is missing, where it could not.
    pub fn installed() -> Option<Self> {
        let folder = place::root().join("target/peers/ohif");
        let dicomweb = Path::new(crate::orthanc::DICOMWEB);
        let found = program("node", "nodejs").ok().zip(program("chromium", "chromium").ok());
        let there = folder.join("installed.txt").is_file() && dicomweb.is_file();
        let Some((node, chromium)) = found.filter(|_| there) else {
            eprintln!(
                "skipped: the tests in OHIF need chromium, nodejs, npm and orthanc-dicomweb. Install them: sudo apt-get \
                 install chromium nodejs npm orthanc-dicomweb && cargo xtask setup --peers"
            );
            return None;
        };
        Some(Self { node, chromium, folder })
    }

    /// Opens series of a study, each as `NUMBER=NAME`, and writes a screenshot of each to `out`. What `ohif.mjs` says.
    ///
    /// # Errors
    /// When the viewer does not come up, or a series is not in its list.
    pub fn look(&self, orthanc: &str, study: &str, series: &[&str], out: &Path) -> Result<Value> {
        let script = place::root().join("tests/peers/ohif.mjs");
        let mut command = Command::new(&self.node);
        command.arg(script).arg(self.folder.join("package/dist")).arg(self.folder.join("node_modules"));
        command.arg(&self.chromium).arg(orthanc).arg(out).arg(study).args(series);
        let output = command.stdin(Stdio::null()).output().context("cannot start node")?;
        if !output.status.success() {
            bail!("ohif.mjs: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
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
