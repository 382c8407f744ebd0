//! The command line as DESIGN's contract has it: what each command prints, and how it exits.

use std::{fs, path::Path, process::Output};

use anyhow::{Context, Result};
use e2e::{
    daemon::{Daemon, Setup, command, json},
    instance::Instance,
    place, samples,
    scp::Scp,
};
use serde_json::Value;

/// Exit status of a clear failure.
const FAILURE: Option<i32> = Some(1);
/// Exit status of bad usage or configuration.
const USAGE: Option<i32> = Some(2);

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command over several files says of each may stand on either.
fn all_said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(output)
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn help_and_usage() -> Result<()> {
    for arguments in [
        vec!["--help"],
        vec!["--version"],
        vec!["serve", "--help"],
        vec!["read", "--help"],
        vec!["model", "run", "--help"],
        vec!["model", "check", "--help"],
        vec!["pixels", "--help"],
        vec!["queue", "ls", "--help"],
        vec!["queue", "show", "--help"],
        vec!["queue", "retry", "--help"],
        vec!["send", "--help"],
        vec!["echo", "--help"],
        vec!["config", "check", "--help"],
        vec!["config", "example", "--help"],
    ] {
        let output = command(&arguments)?;
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        assert!(!output.stdout.is_empty(), "{arguments:?} prints nothing");
    }
    for arguments in [vec![], vec!["no-such-command"], vec!["echo"], vec!["echo", "not-an-address"]] {
        let output = command(&arguments)?;
        assert_eq!(output.status.code(), USAGE, "{arguments:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
    }
    Ok(())
}

#[test]
fn the_example_configuration_is_valid() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("preread.toml");
    let example = command(&["config", "example"])?;
    assert!(example.status.success(), "{}", stderr(&example));
    let text = String::from_utf8(example.stdout)?;
    fs::write(&file, place::with_model_of_checkout(&text))?;
    let check = command(&["config", "check", "--config", &path(&file)])?;
    assert!(check.status.success(), "{}", stderr(&check));
    for section in ["[listen]", "[spool]", "[study]", "[admin]", "[[peer]]", "[[model]]", "[[destination]]", "[[rule]]"]
    {
        assert!(text.contains(section), "the example lacks {section}");
    }
    Ok(())
}

#[test]
fn a_configuration_error_names_its_line_and_exits_with_two() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("preread.toml");
    let config = path(&file);
    let good =
        format!("[listen]\nae_title = \"PREREAD\"\naddress = \"127.0.0.1:0\"\n[spool]\ndir = {:?}\n", path(dir.path()));
    for (text, key, line) in [
        (format!("{good}colour = \"blue\"\n"), "colour", 6),
        (format!("{good}\n[study]\nquiet_period = \"soon\"\n"), "quiet_period", 8),
        (format!("{good}\n[no_such_section]\n"), "no_such_section", 7),
        (format!("{good}reserve = \n"), "", 6),
    ] {
        fs::write(&file, &text)?;
        for arguments in [["config", "check", "--config", &config].as_slice(), &["serve", "--config", &config]] {
            let output = command(arguments)?;
            let said = stderr(&output);
            assert_eq!(output.status.code(), USAGE, "{arguments:?} of\n{text}\nsaid: {said}");
            assert!(said.contains(key), "{key} is not named: {said}");
            let named = said.contains(&format!("line {line}")) || said.contains(&format!(":{line}"));
            assert!(named, "line {line} is not named: {said}");
        }
    }
    let missing = command(&["serve", "--config", &path(&dir.path().join("absent.toml"))])?;
    assert_eq!(missing.status.code(), USAGE, "{}", stderr(&missing));
    assert!(stderr(&missing).contains("absent.toml"), "{}", stderr(&missing));
    Ok(())
}

#[test]
fn the_environment_overrides_a_key() -> Result<()> {
    let daemon = Daemon::start(&Setup::default())?;
    let check = |value: &str| {
        let mut command = std::process::Command::new(place::preread()?);
        command.args(["config", "check", "--config"]).arg(daemon.config()).env("PREREAD__STUDY__QUIET_PERIOD", value);
        command.output().context("cannot start preread")
    };
    assert!(check("5s")?.status.success());
    let wrong = check("soon")?;
    assert_eq!(wrong.status.code(), USAGE);
    assert!(stderr(&wrong).to_lowercase().contains("quiet_period"), "{}", stderr(&wrong));
    Ok(())
}

#[test]
fn echo_and_send_try_a_destination() -> Result<()> {
    let pacs = Scp::start("PACS")?;
    let to = format!("PACS@{}", pacs.address());
    let echo = command(&["echo", &to])?;
    assert!(echo.status.success(), "{}", stderr(&echo));

    let samples = samples::all()?;
    let files: Vec<String> = samples.iter().take(5).map(|sample| path(&sample.file)).collect();
    let mut arguments = vec!["send"];
    arguments.extend(files.iter().map(String::as_str));
    arguments.extend(["--to", &to]);
    let send = command(&arguments)?;
    assert!(send.status.success(), "{}", stderr(&send));
    let received: Vec<Instance> = pacs.received().into_iter().map(|one| one.instance).collect();
    let sent: Vec<Instance> = samples.iter().take(5).map(|sample| sample.instance.clone()).collect();
    assert_eq!(received.len(), 5);
    for instance in sent {
        assert!(received.contains(&instance), "{} did not arrive as it was", instance.sop_instance_uid);
    }

    pacs.answer(0xA700);
    let refused = command(&["send", &files[0], "--to", &to])?;
    assert_eq!(refused.status.code(), FAILURE, "{}", stderr(&refused));
    assert!(all_said(&refused).to_uppercase().contains("A700"), "{}", all_said(&refused));

    drop(pacs);
    for arguments in [vec!["echo", to.as_str()], vec!["send", &files[0], "--to", &to]] {
        let nobody = command(&arguments)?;
        assert_eq!(nobody.status.code(), FAILURE, "{}", stderr(&nobody));
        assert!(!nobody.stderr.is_empty());
    }
    let dir = tempfile::tempdir()?;
    let text = dir.path().join("text.txt");
    fs::write(&text, "This is no DICOM file.\n")?;
    let send = command(&["send", &path(&text), "--to", &to])?;
    assert_eq!(send.status.code(), FAILURE, "{}", stderr(&send));
    assert!(all_said(&send).contains("text.txt"), "{}", all_said(&send));
    Ok(())
}

#[test]
fn read_writes_report_and_heat_map() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let sample = samples::all()?.swap_remove(2);
    let out = path(&dir.path().join("out"));
    let model = path(&place::model());
    let read = command(&["read", &path(&sample.file), "--model", &model, "--out", &out, "--json"])?;
    let answer = json(&read)?;
    for sentence in &sample.truth {
        assert!(answer.to_string().contains(sentence.trim_end_matches('.')), "{sentence} is not in {answer}");
    }
    let mut names = Vec::new();
    collect(Path::new(&out), &mut names)?;
    for wanted in ["report.json", "heatmap.png"] {
        let file = names.iter().find(|file| file.ends_with(wanted));
        let file = file.with_context(|| format!("{wanted} is not among {names:?}"))?;
        let bytes = fs::read(file)?;
        if wanted == "heatmap.png" {
            assert!(bytes.starts_with(b"\x89PNG"), "heatmap.png is no PNG");
        } else {
            serde_json::from_slice::<Value>(&bytes)?;
        }
    }
    assert_eq!(crate::conform::find_sr(Path::new(&out))?.len(), 1, "{names:?}");
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| path(folder))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[test]
fn read_says_what_is_wrong_with_a_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let text = dir.path().join("text.txt");
    fs::write(&text, "This is no DICOM file.\n")?;
    let (model, out) = (path(&place::model()), path(&dir.path().join("out")));
    for (file, said) in [(text, "text.txt"), (dir.path().join("absent.dcm"), "absent.dcm")] {
        let read = command(&["read", &path(&file), "--model", &model, "--out", &out])?;
        assert_eq!(read.status.code(), FAILURE, "{}", stderr(&read));
        assert!(stderr(&read).contains(said), "{}", stderr(&read));
    }
    Ok(())
}

#[test]
fn model_check_and_run() -> Result<()> {
    let model = path(&place::model());
    let check = command(&["model", "check", &model])?;
    assert!(check.status.success(), "{}", stderr(&check));
    let absent = command(&["model", "check", "no/such/folder"])?;
    assert_eq!(absent.status.code(), FAILURE, "{}", stderr(&absent));

    let sample = samples::all()?.swap_remove(5);
    let run = json(&command(&["model", "run", &model, "--image", &path(&sample.file), "--json"])?)?;
    for key in
        ["family", "input_ids", "generated_ids", "text", "logprobs", "pixel_values", "timings_ms", "tokens_per_second"]
    {
        assert!(!run[key].is_null(), "no {key} in {run}");
    }
    for key in ["load", "preprocess", "vision", "prefill", "decode"] {
        assert!(run["timings_ms"][key].is_number(), "no timings_ms.{key} in {run}");
    }
    for sentence in &sample.truth {
        assert!(run["text"].to_string().contains(sentence), "{sentence} is not in {}", run["text"]);
    }
    Ok(())
}

#[test]
fn the_library_that_is_not_there_is_one_clear_error() -> Result<()> {
    let output = std::process::Command::new(place::preread()?)
        .args(["model", "check", &path(&place::model())])
        .env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")
        .output()?;
    assert_eq!(output.status.code(), FAILURE);
    let said = stderr(&output);
    assert!(said.contains("/nowhere/libonnxruntime.so") && said.contains("cargo xtask setup"), "{said}");
    Ok(())
}

#[test]
fn pixels_are_what_pydicom_decodes() -> Result<()> {
    let Some(shared) = place::shared() else { return Ok(()) };
    let dicom = shared.join("dicom");
    for folder in ["cr", "cxr_hannover"] {
        for file in place::dicom_files(&dicom.join(folder))? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let reference = fs::read(dicom.join("refs").join(folder).join(format!("{name}.json")))?;
            let reference: Value = serde_json::from_slice(&reference)?;
            let pixels = json(&command(&["pixels", &path(&file), "--json"])?).with_context(|| name.clone())?;
            assert_eq!(pixels["array"]["shape"], reference["array"]["shape"], "{name}");
            if reference["lossy_codec"] == false {
                for key in ["min", "max", "sha256_le"] {
                    assert_eq!(pixels["array"][key], reference["array"][key], "{name}: array.{key}");
                }
            }
            assert_eq!(pixels["voi8"]["display_inverted"], reference["voi8"]["display_inverted"], "{name}");
            let mean = |value: &Value| value["voi8"]["mean"].as_f64().with_context(|| format!("{name}: no voi8.mean"));
            let difference = (mean(&pixels)? - mean(&reference)?).abs();
            assert!(difference < 0.5, "{name}: voi8.mean differs by {difference}");
        }
    }
    Ok(())
}

#[test]
fn pixels_writes_a_picture() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let png = dir.path().join("image.png");
    let sample = samples::all()?.swap_remove(0);
    let output = command(&["pixels", &path(&sample.file), "--out", &path(&png)])?;
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(fs::read(&png)?.starts_with(b"\x89PNG"));
    Ok(())
}

#[test]
fn pixels_of_a_folder_are_a_choice_and_a_contact_sheet() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let png = dir.path().join("sheet.png");
    let samples = samples::all()?;
    let folder = samples[0].file.parent().context("a folder of samples")?;
    let output = command(&["pixels", &path(folder), "--out", &path(&png), "--json"])?;
    let choice = json(&output)?;
    let studies = choice["studies"].as_array().context("studies")?;
    assert_eq!(studies.len(), samples.len());
    for study in studies {
        assert_eq!(study["chosen"].as_array().map(Vec::len), Some(1), "{study}");
        assert_eq!(study["stacks"][0]["kind"], "picture", "{study}");
    }
    assert!(fs::read(&png)?.starts_with(b"\x89PNG"));
    let said = command(&["pixels", &path(folder)])?;
    assert!(said.status.success(), "{}", stderr(&said));
    assert!(all_said(&said).contains("1 images for reading"), "{}", all_said(&said));
    for output in [&output, &said] {
        assert!(!all_said(output).contains("PHANTOM^"), "a patient's name: {}", all_said(output));
    }
    let framed = command(&["pixels", &path(folder), "--frame", "2"])?;
    assert_eq!(framed.status.code(), USAGE, "{}", stderr(&framed));
    let empty = command(&["pixels", &path(&dir.path().join("nothing"))])?;
    assert_eq!(empty.status.code(), FAILURE, "{}", stderr(&empty));

    let Some(shared) = place::shared() else { return Ok(()) };
    let series = json(&command(&["pixels", &path(&shared.join("dicom/series_ct_liver")), "--json"])?)?;
    let study = &series["studies"][0];
    assert_eq!(study["stacks"][0]["frames"], 3, "{study}");
    assert_eq!(study["stacks"][0]["order"], "position", "{study}");
    let left_out = study["left_out"].as_array().context("left_out")?;
    assert_eq!(left_out.len(), 1, "{study}");
    assert!(left_out[0]["reason"].to_string().contains("segmentation"), "{study}");
    Ok(())
}

#[test]
fn an_empty_queue_and_a_study_that_is_not_in_it() -> Result<()> {
    let daemon = Daemon::start(&Setup::default())?;
    assert_eq!(daemon.queue()?.len(), 0);
    for arguments in [["queue", "show", "999999", "--json"].as_slice(), &["queue", "retry", "999999"]] {
        let output = daemon.command(arguments)?;
        assert_eq!(output.status.code(), FAILURE, "{}", stderr(&output));
        assert!(stderr(&output).contains("999999"), "{}", stderr(&output));
    }
    Ok(())
}

#[test]
fn the_daemon_ends_when_it_is_asked_to() -> Result<()> {
    let mut daemon = Daemon::start(&Setup::default())?;
    let status = daemon.terminate()?;
    assert!(status.success(), "{status}");
    Ok(())
}
