//! Other people's validators, and what each must say about a clean document.

use std::{path::Path, process::Command};

use report::Kind;

use crate::readings::iod;

/// Runs a tool; both its streams as lines, and whether it ended with 0.
fn run(tool: &str, package: &str, arguments: &[&str], files: &[&Path]) -> (bool, Vec<String>) {
    let output = Command::new(tool).args(arguments).args(files).output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}; install it: apt-get install {package}"));
    let text = [output.stdout, output.stderr].concat();
    let lines = String::from_utf8_lossy(&text).lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
    (output.status.success(), lines)
}

/// The attributes of a source that dciodvfy finds something wrong with: what is taken over of them is wrong there too.
pub(crate) fn faults(source: &Path) -> Vec<String> {
    let (_, lines) = run("dciodvfy", "dicom3tools", &["-new"], &[source]);
    lines.iter().filter_map(|line| attribute(line)).map(str::to_owned).collect()
}

/// Everything but the one line that names the IOD and what it finds wrong with the same attribute of the source, which
/// the document takes over as it is.
pub(crate) fn dciodvfy(of_source: &[String], path: &Path, kind: Kind) -> Vec<String> {
    let (_, mut lines) = run("dciodvfy", "dicom3tools", &["-new"], &[path]);
    let named = lines.iter().any(|line| line == iod(kind));
    lines.retain(|line| {
        let taken_over = attribute(line).is_some_and(|name| of_source.iter().any(|fault| fault == name));
        // Where the source does not tell the side, it is unknown, which is what an empty value says.
        let unknown = line.contains("Laterality") && line.contains("only permitted to be empty when actually unknown");
        line != iod(kind) && !taken_over && !unknown
    });
    if !named {
        lines.push("the IOD was not recognised".to_owned());
    }
    lines.into_iter().map(|line| format!("dciodvfy: {line}")).collect()
}

/// The keyword in `Error - </Sequence(gggg,eeee)[1]/Keyword(gggg,eeee)[1]> - ...`.
fn attribute(line: &str) -> Option<&str> {
    let path = line.split_once("</")?.1.split_once("> ")?.0;
    Some(path.rsplit('/').next()?.split_once('(')?.0)
}

/// Errors; that it does not know every character set is its own limit.
pub(crate) fn dsrdump(path: &Path) -> Vec<String> {
    let (good, mut lines) = run("dsrdump", "dcmtk", &[], &[path]);
    lines.retain(|line| {
        let own_limit = line.starts_with("W: ")
            && ["does not support", "unsupported SpecificCharacterSet", "template constraints not yet supported"]
                .iter()
                .any(|part| line.contains(part));
        ["E: ", "F: ", "W: "].iter().any(|start| line.starts_with(start)) && !own_limit
    });
    if !good {
        lines.push("exit status is not 0".to_owned());
    }
    lines.into_iter().map(|line| format!("dsrdump: {line}")).collect()
}

/// Differences between the patient and study of an image and of the report on it, which it calls errors; nothing about
/// an image that it cannot read. Its warnings are about what one of the two does not have.
pub(crate) fn dcentvfy(source: &Path, path: &Path) -> Vec<String> {
    let (good, mut lines) = run("dcentvfy", "dicom3tools", &[], &[source, path]);
    if lines.iter().any(|line| line.contains("dataset read failed")) {
        return Vec::new();
    }
    lines.retain(|line| line.starts_with("Error"));
    if !good {
        lines.push("exit status is not 0".to_owned());
    }
    lines.into_iter().map(|line| format!("dcentvfy: {line}")).collect()
}

/// Everything but what a clean report gets. It always ends with 0, so its lines count.
pub(crate) fn pixelmed(path: &Path, template: &str) -> Vec<String> {
    let (_, lines) = run(
        "java",
        "openjdk-17-jre-headless libpixelmed-java",
        &[
            // Without these, Java 17 refuses the validator's own style sheet.
            "-Djdk.xml.xpathExprOpLimit=0",
            "-Djdk.xml.xpathExprGrpLimit=0",
            "-Djdk.xml.xpathTotalOpLimit=0",
            "-cp",
            "/usr/share/java/pixelmed.jar",
            "com.pixelmed.validate.DicomSRValidator",
        ],
        &[path],
    );
    let expected = ["IOD", "Found Root Template", "Root Template Validation Complete", "IOD validation complete"];
    let found = lines.iter().any(|line| line.contains(&format!("Found Root Template {template}")));
    // Its list of headings (CID 7001) is from before LOINC.
    let known = |line: &&String| {
        expected.iter().any(|part| line.contains(part)) || line.contains("Content Item not in template")
    };
    let mut complaints: Vec<String> = lines.iter().filter(|line| !known(line)).cloned().collect();
    if !found {
        complaints.push(format!("the template was not found: {lines:#?}"));
    }
    complaints
}
