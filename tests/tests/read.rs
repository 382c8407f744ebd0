//! `preread read`: a folder of studies in, a folder for each study out, and what is said of them.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use e2e::{instance::Study, place, samples};
use serde_json::Value;

const HELD: Option<i32> = Some(3);
const FAILURE: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);

fn preread(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Result<Command> {
    let mut command = Command::new(place::preread()?);
    command.current_dir(place::root());
    arguments.iter().for_each(|argument| {
        command.arg(argument);
    });
    Ok(command)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The document on standard output; a study that is held makes another exit status of it.
fn json(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| stderr(output))
}

/// A sample under other values, each as bytes.
fn variant(sample: &samples::Sample, values: &[(Tag, VR, &[u8])], to: &Path) -> Result<()> {
    let mut object = dicom_object::open_file(&sample.file)?;
    for (tag, vr, bytes) in values {
        // Latin 1, so that each byte is a character: the object is written in the set that it declares, which is ASCII.
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        object.put(DataElement::new(*tag, *vr, PrimitiveValue::from(text.as_str())));
    }
    object.write_to_file(to)?;
    Ok(())
}

/// Three studies of samples, and one without an image to read.
fn folder() -> Result<(tempfile::TempDir, PathBuf, Vec<samples::Sample>)> {
    let dir = tempfile::tempdir()?;
    let studies = dir.path().join("studies");
    fs::create_dir(&studies)?;
    let samples: Vec<_> = samples::all()?.into_iter().take(3).collect();
    for sample in &samples {
        fs::copy(&sample.file, studies.join(format!("{}.dcm", sample.name)))?;
    }
    fs::write(studies.join("document.dcm"), Study::seeded(7).document(1)?.to_part10()?)?;
    Ok((dir, studies, samples))
}

fn folders(out: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(out)? {
        let entry = entry?;
        if entry.path().is_dir() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn report(folder: &Path) -> Result<Value> {
    let file = folder.join("report.json");
    Ok(serde_json::from_slice(&fs::read(&file).with_context(|| file.display().to_string())?)?)
}

#[test]
fn each_study_has_a_folder_and_a_record_whatever_became_of_it() -> Result<()> {
    let (dir, studies, samples) = folder()?;
    let out = dir.path().join("out");
    let table = dir.path().join("table.csv");
    let output =
        preread(&[&"read", &studies, &"--out", &out, &"--jsonl", &"--table", &table, &"--jobs", &"2"])?.output()?;
    ensure!(output.status.code().is_some_and(|code| code == 3 || code == 0), "{}", stderr(&output));
    let lines: Vec<Value> =
        output.stdout.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_>>()?;
    ensure!(lines.len() == 4, "{} lines", lines.len());
    let uids: BTreeSet<String> =
        lines.iter().filter_map(|line| Some(line["study_instance_uid"].as_str()?.to_owned())).collect();
    ensure!(folders(&out)? == uids, "{:?} for {uids:?}", folders(&out)?);
    for line in &lines {
        let uid = line["study_instance_uid"].as_str().context("no UID")?;
        let kept = report(&out.join(uid))?;
        ensure!(kept == *line, "what is kept is not what was said of {uid}");
        for key in ["software_version", "model_digest", "settings_digest", "inputs_digest", "patient_id"] {
            ensure!(kept[key].is_string(), "no {key} of {uid}: {kept}");
        }
        ensure!(kept["seed"].is_u64() && kept["paths"][0].is_string(), "{kept}");
    }
    for sample in &samples {
        let kept = report(&out.join(&sample.instance.study_instance_uid))?;
        ensure!(kept["state"] == "written", "{}: {}", sample.name, kept["reason"]);
        let findings = kept["findings"].as_array().context("no findings")?.len();
        let rows = fs::read_to_string(&table)?;
        let rows = rows.lines().filter(|row| row.starts_with(&sample.instance.study_instance_uid)).count();
        ensure!(rows == findings.max(1), "{}: {rows} rows for {findings} findings", sample.name);
    }
    let header = fs::read_to_string(&table)?.lines().next().context("no header")?.to_owned();
    ensure!(header.starts_with("study_instance_uid,path,files,patient_id,accession_number,state,reason,rule,model,"));
    Ok(())
}

#[test]
fn two_runs_give_equal_tables_however_many_read_side_by_side() -> Result<()> {
    let (dir, studies, samples) = folder()?;
    // More than the requests that a daemon's model lets wait: with ten at a time most were held as "busy".
    for number in 0..16 {
        let uid = format!("1.2.826.0.1.3680043.8.498.99.{number}");
        let file = studies.join(format!("copy-{number}.dcm"));
        variant(&samples[1], &[(tags::STUDY_INSTANCE_UID, VR::UI, uid.as_bytes())], &file)?;
    }
    let mut tables = Vec::new();
    for jobs in ["1", "16"] {
        let (out, table) = (dir.path().join(format!("out-{jobs}")), dir.path().join(format!("{jobs}.csv")));
        preread(&[&"read", &studies, &"--out", &out, &"--table", &table, &"--jobs", &jobs])?.output()?;
        tables.push(fs::read_to_string(&table)?);
    }
    ensure!(!tables[1].contains("busy"), "{}", tables[1]);
    ensure!(tables[0] == tables[1] && tables[0].lines().count() >= 20, "{tables:#?}");
    Ok(())
}

#[test]
fn results_of_two_runs_are_never_mixed() -> Result<()> {
    let (dir, _, samples) = folder()?;
    let out = dir.path().join("out");
    fs::create_dir(&out)?;
    let run = |sample: &samples::Sample, more: &[&str]| -> Result<Output> {
        let mut command = preread(&[&"read", &sample.file, &"--out", &out])?;
        Ok(command.args(more).output()?)
    };
    let uid = |sample: &samples::Sample| sample.instance.study_instance_uid.clone();
    // A folder that is there and empty is not a used one.
    let first = run(&samples[0], &[])?;
    ensure!(first.status.success(), "{}", stderr(&first));
    ensure!(folders(&out)? == BTreeSet::from([uid(&samples[0])]));
    let refused = run(&samples[1], &[])?;
    ensure!(refused.status.code() == USAGE, "{}", stderr(&refused));
    ensure!(["--resume", "--replace", "--out"].iter().all(|it| stderr(&refused).contains(it)), "{}", stderr(&refused));
    // What is not ours stays, and nothing beside it is removed.
    let note = out.join(uid(&samples[0])).join("my notes.txt");
    fs::write(&note, "seen")?;
    let foreign = run(&samples[1], &["--replace"])?;
    ensure!(foreign.status.code() == USAGE && stderr(&foreign).contains("my notes.txt"), "{}", stderr(&foreign));
    ensure!(out.join(uid(&samples[0])).join("report.json").is_file() && note.is_file());
    fs::remove_file(&note)?;
    let replaced = run(&samples[1], &["--replace"])?;
    ensure!(replaced.status.success(), "{}", stderr(&replaced));
    ensure!(folders(&out)? == BTreeSet::from([uid(&samples[1])]));
    // More studies of the same kind may come to it; other settings may not.
    let resumed = run(&samples[0], &["--resume"])?;
    ensure!(resumed.status.success(), "{}", stderr(&resumed));
    ensure!(folders(&out)? == BTreeSet::from([uid(&samples[0]), uid(&samples[1])]));
    let other = run(&samples[0], &["--resume", "--gen", "{\"max_new_tokens\": 7}"])?;
    ensure!(other.status.code() == USAGE && stderr(&other).contains("settings"), "{}", stderr(&other));
    // A folder that no run made is left alone.
    let strange = dir.path().join("strange");
    fs::create_dir(&strange)?;
    fs::write(strange.join("thesis.txt"), "")?;
    for how in ["--resume", "--replace"] {
        let output = preread(&[&"read", &samples[0].file, &"--out", &strange, &how])?.output()?;
        ensure!(output.status.code() == USAGE, "{how}: {}", stderr(&output));
        ensure!(strange.join("thesis.txt").is_file() && folders(&strange)?.is_empty());
    }
    Ok(())
}

/// As in the daemon: what is the same in another encoding is one image, what differs under one UID waits for a person, and
/// nothing follows from the names of files.
#[test]
fn files_under_one_uid_are_one_image_or_a_question() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let samples: Vec<_> = samples::all()?.into_iter().take(2).collect();
    let of_first = |tag: Tag| -> Result<Vec<u8>> {
        Ok(samples[0].instance.header()?.get(tag).context("no UID")?.to_bytes()?.into_owned())
    };
    let uids = [tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID, tags::SOP_INSTANCE_UID];
    let own: Vec<(Tag, Vec<u8>)> = uids.into_iter().map(|tag| Ok((tag, of_first(tag)?))).collect::<Result<_>>()?;
    let own: Vec<(Tag, VR, &[u8])> = own.iter().map(|(tag, uid)| (*tag, VR::UI, uid.as_slice())).collect();
    let made = |name: &str, sample: &samples::Sample, values: &[(Tag, VR, &[u8])]| -> Result<PathBuf> {
        let path = dir.path().join(name);
        variant(sample, &[&own[..], values].concat(), &path)?;
        Ok(path)
    };
    let original = made("original", &samples[0], &[])?;
    let rle = dir.path().join("rle");
    let (done, said) = e2e::peers::dcmtk("dcmcrle", &[&original.to_string_lossy(), &rle.to_string_lossy()])?;
    ensure!(done, "{said}");
    let named = made("named", &samples[0], &[(tags::PATIENT_NAME, VR::PN, b"ALPHA^CORRECTED")])?;
    let pixels = made("pixels", &samples[1], &[])?;
    let knee = made("knee", &samples[0], &[(tags::BODY_PART_EXAMINED, VR::CS, b"KNEE")])?;
    let hand = made("hand", &samples[0], &[(tags::BODY_PART_EXAMINED, VR::CS, b"HAND")])?;
    for (number, (files, state, says)) in [
        ([&original, &rle], "written", ""),
        ([&original, &named], "held", "PatientName"),
        ([&original, &pixels], "held", "pixels"),
        ([&original, &knee], "held", "BodyPartExamined"),
        ([&hand, &knee], "skipped", "body part"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut records = Vec::new();
        for order in [[0, 1], [1, 0]] {
            let folder = dir.path().join(format!("{number}-{}", order[0]));
            let out = dir.path().join(format!("{number}-{}-out", order[0]));
            fs::create_dir(&folder)?;
            for (name, file) in ["000.dcm", "001.dcm"].into_iter().zip(order) {
                fs::copy(files[file], folder.join(name))?;
            }
            let output = preread(&[&"read", &folder, &"--out", &out, &"--json"])?.output()?;
            let mut record = json(&output)?["studies"][0].clone();
            ensure!(record["state"] == state, "{files:?}: {record}");
            ensure!(record["reason"].to_string().contains(says), "{files:?}: {record}");
            if state == "written" {
                let report =
                    dir.path().join(&out).join(record["folder"].as_str().context("no folder")?).join("text-sr.dcm");
                let report = e2e::sr::Report::of(&e2e::instance::Instance::read(&report)?)?;
                ensure!(report.completion_flag == "COMPLETE", "{files:?}: {record}");
            }
            records.push((record["reason"].take(), record["findings"].take(), record["patient_id"].take()));
        }
        ensure!(records[0] == records[1], "{files:?}: {records:?}");
    }
    Ok(())
}

#[test]
fn a_finished_study_is_not_read_again_and_a_changed_one_is() -> Result<()> {
    let (dir, studies, samples) = folder()?;
    let out = dir.path().join("out");
    let run = || -> Result<Value> {
        let output = preread(&[&"read", &studies, &"--out", &out, &"--resume", &"--json"])?.output()?;
        json(&output).with_context(|| stderr(&output))
    };
    let first = run()?;
    ensure!(first["studies"].as_array().is_some_and(|it| it.len() == 4), "{first}");
    // To the last digit, times too: nothing was read again.
    let second = run()?;
    ensure!(first["studies"] == second["studies"], "{first}\n{second}");
    // The same study with other pixels.
    let uid = samples[0].instance.study_instance_uid.clone();
    let before = report(&out.join(&uid))?;
    variant(
        &samples[1],
        &[(tags::STUDY_INSTANCE_UID, VR::UI, uid.as_bytes())],
        &studies.join(format!("{}.dcm", samples[0].name)),
    )?;
    run()?;
    let after = report(&out.join(&uid))?;
    ensure!(before["inputs_digest"] != after["inputs_digest"] && before["model_text"] != after["model_text"]);
    Ok(())
}

#[test]
fn an_interrupted_run_leaves_whole_folders_and_goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (studies, out) = (dir.path().join("studies"), dir.path().join("out"));
    fs::create_dir(&studies)?;
    let sample = samples::all()?.swap_remove(0);
    for number in 0..40 {
        let uid = format!("1.2.3.{number}");
        variant(
            &sample,
            &[(tags::STUDY_INSTANCE_UID, VR::UI, uid.as_bytes())],
            &studies.join(format!("{number}.dcm")),
        )?;
    }
    let mut child = preread(&[&"read", &studies, &"--out", &out, &"--jsonl"])?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    for _ in 0..2 {
        lines.next().context("it ended early")??;
    }
    let pid = child.id().to_string();
    ensure!(Command::new("kill").args(["-INT", &pid]).status()?.success());
    let told = 2 + lines.map_while(Result::ok).count();
    let mut said = String::new();
    child.stderr.take().context("no errors")?.read_to_string(&mut said)?;
    ensure!(child.wait()?.code() == Some(130), "{said}");
    ensure!(said.contains("--resume"), "{said}");
    let done = folders(&out)?;
    ensure!(done.len() == told && told < 40, "{told} told, {} there", done.len());
    for name in &done {
        ensure!(report(&out.join(name))?["state"] == "written", "{name}");
        ensure!(out.join(name).join("text-sr.dcm").is_file(), "{name}");
    }
    let output = preread(&[&"read", &studies, &"--out", &out, &"--resume"])?.output()?;
    ensure!(output.status.success() && folders(&out)?.len() == 40, "{}", stderr(&output));
    Ok(())
}

#[test]
fn a_held_study_shows_what_the_model_said() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let sample = samples::all()?.into_iter().find(|sample| sample.truth.len() > 1).context("no sample")?;
    let out = dir.path().join("out");
    // Cut in the middle of its text.
    let output =
        preread(&[&"read", &sample.file, &"--out", &out, &"--json", &"--gen", &"{\"max_new_tokens\": 4}"])?.output()?;
    ensure!(output.status.code() == HELD, "{}", stderr(&output));
    let study = &json(&output)?["studies"][0];
    ensure!(study["state"] == "held" && study["reason"].is_string(), "{study}");
    ensure!(study["model_text"].as_str().is_some_and(|text| !text.is_empty()), "{study}");
    let kept = report(&out.join(&sample.instance.study_instance_uid))?;
    ensure!(kept == *study, "{kept}");
    ensure!(stderr(&output).contains(&sample.file.to_string_lossy().into_owned()), "{}", stderr(&output));
    Ok(())
}

#[test]
fn a_study_has_a_name_whatever_its_uid_is() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let sample = samples::all()?.swap_remove(0);
    for (uid, name) in [("1.2.840.00123.007.1", "1.2.840.00123.007.1"), ("1.2.x/../../4", "study-1")] {
        let (file, out) = (dir.path().join("image.dcm"), dir.path().join(name));
        variant(&sample, &[(tags::STUDY_INSTANCE_UID, VR::UI, uid.as_bytes())], &file)?;
        let output = preread(&[&"read", &file, &"--out", &out, &"--json"])?.output()?;
        ensure!(folders(&out)? == BTreeSet::from([name.to_owned()]), "{uid}: {:?} {}", folders(&out)?, stderr(&output));
        let kept = report(&out.join(name))?;
        ensure!(kept["study_instance_uid"] == uid && kept["folder"] == name, "{kept}");
        ensure!(kept["state"] == if name == uid { "written" } else { "held" }, "{kept}");
    }
    Ok(())
}

/// Names in Latin 1, as CDs and shares have them, ended the whole run; a link to nothing was passed over without a word.
#[test]
fn a_name_that_is_no_utf_8_and_a_link_to_nothing_are_told() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let studies = dir.path().join("studies");
    let latin = |name: &[u8]| std::ffi::OsStr::from_bytes(name).to_owned();
    let folder = studies.join(latin(b"Ord\xf6ner"));
    fs::create_dir_all(&folder)?;
    let samples = samples::all()?;
    fs::copy(&samples[0].file, folder.join(latin(b"R\xf6ntgen.dcm")))?;
    fs::copy(&samples[1].file, studies.join("z.dcm"))?;
    fs::write(studies.join(latin(b"B\xf6se.txt")), "no DICOM")?;
    symlink(studies.join("absent.dcm"), studies.join("absent-link.dcm"))?;
    symlink("/dev/zero", studies.join("endless"))?;
    let out = dir.path().join(latin(b"\xf6ut"));
    for way in [&["--json"][..], &["--jsonl", "--resume"], &["--json", "--replace"]] {
        let mut command = preread(&[&"read", &studies, &"--out", &out])?;
        let output = command.args(way).output()?;
        ensure!(output.status.success(), "{way:?}: {:?} {}", output.status, stderr(&output));
        ensure!(folders(&out)?.len() == 2, "{way:?}: {:?}", folders(&out)?);
        if way[0] == "--json" {
            let said = json(&output)?;
            let told = |list: &str, name: &str| said[list].to_string().contains(name);
            ensure!(told("unreadable", "absent-link.dcm") && told("unreadable", "se.txt"), "{said}");
            ensure!(told("passed_over", "endless"), "{said}");
        }
    }
    Ok(())
}

#[test]
fn nothing_that_a_terminal_obeys_comes_from_a_file() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let sample = samples::all()?.swap_remove(1);
    let studies = dir.path().join("studies");
    fs::create_dir(&studies)?;
    let hostile = |name: &[u8]| studies.join(std::ffi::OsStr::from_bytes(name));
    let text: &[u8] = b"A\x1b[2J\x1b]0;own\x07\nforged";
    let image = hostile(b"image\x1b[2J\x1b]0;own\x07\nforged.dcm");
    variant(
        &sample,
        &[
            (tags::PATIENT_NAME, VR::PN, text),
            (tags::PATIENT_ID, VR::LO, text),
            (tags::STUDY_DESCRIPTION, VR::LO, text),
            (tags::ACCESSION_NUMBER, VR::SH, b"A\x1b[2J\x07"),
            (tags::STATION_NAME, VR::SH, b"A\x1b[2J\x07"),
        ],
        &image,
    )?;
    let junk = hostile("junk\u{9b}31m\u{202e}\nforged line".as_bytes());
    fs::write(&junk, "no DICOM")?;
    fs::write(hostile(b"studies.zip"), b"PK\x03\x04rest")?;
    symlink(place::root().join("docs"), hostile(b"link\x1b[31m"))?;
    let config = dir.path().join("preread.toml");
    fs::write(&config, place::with_model_of_checkout(&fs::read_to_string(place::root().join("deploy/preread.toml"))?))?;
    let out = dir.path().join("out");
    let mut seen = String::new();
    for arguments in [
        vec![&"read" as &dyn AsRef<std::ffi::OsStr>, &studies, &"--out", &out],
        vec![&"read", &studies, &"--out", &out, &"--resume", &"--json"],
        vec![&"read", &studies, &"--out", &out, &"--resume", &"--jsonl"],
        vec![&"read", &junk, &"--out", &out, &"--resume"],
        vec![&"pixels", &studies],
        vec![&"pixels", &image],
        vec![&"pixels", &junk],
        vec![&"pixels", &studies, &"--json"],
        vec![&"route", &"explain", &studies, &"--config", &config],
        vec![&"model", &"run", &studies, &"--image", &junk],
        vec![&"report", &"validate", &junk, &image],
        vec![&"report", &"check", &junk],
        vec![&"send", &junk, &"--to", &"NOBODY@127.0.0.1:1"],
    ] {
        let output = preread(&arguments)?.output()?;
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        let shown: Vec<_> = arguments.iter().map(|it| it.as_ref().to_string_lossy().into_owned()).collect();
        let said = String::from_utf8_lossy(&said).into_owned();
        let raw = |c: char| c.is_control() && !matches!(c, '\n' | '\t') || c == '\u{202e}';
        ensure!(!said.contains(raw), "{shown:?}: {said:?}");
        ensure!(!said.lines().any(|line| line.starts_with("forged")), "{shown:?}: {said}");
        seen += &said;
    }
    ensure!(seen.contains("ZIP archive") && seen.contains("a link to a folder is not followed"), "{seen}");
    for file in place::dicom_files(&out.join(&sample.instance.study_instance_uid))? {
        let bytes = fs::read(&file)?;
        for raw in [b"\x1b[2J".as_slice(), b"\x1b]0;", b"own\x07"] {
            ensure!(!bytes.windows(raw.len()).any(|window| window == raw), "{} has {raw:?}", file.display());
        }
    }
    let kept = report(&out.join(&sample.instance.study_instance_uid))?;
    ensure!(kept["state"] == "written", "{}", kept["reason"]);
    let notes = kept["notes"].to_string();
    ensure!(["PatientName", "PatientID", "StudyDescription", "AccessionNumber"].iter().all(|it| notes.contains(it)));
    Ok(())
}

#[test]
fn a_reader_that_has_gone_ends_a_command_quietly() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (_folder, studies, samples) = folder()?;
    let (out, model) = (dir.path().join("out"), place::model());
    for arguments in [
        vec![&"--help" as &dyn AsRef<std::ffi::OsStr>],
        vec![&"config", &"example"],
        vec![&"report", &"schema"],
        vec![&"pixels", &studies],
        vec![&"pixels", &samples[0].file, &"--json"],
        vec![&"model", &"check", &model],
        vec![&"model", &"run", &model, &"--image", &samples[0].file, &"--json"],
        vec![&"read", &studies, &"--out", &out],
        vec![&"read", &studies, &"--out", &out, &"--resume", &"--jsonl"],
    ] {
        let mut child = preread(&arguments)?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().context("no errors")?.read_to_string(&mut said)?;
        let code = child.wait()?.code();
        let shown: Vec<_> = arguments.iter().map(|it| it.as_ref().to_string_lossy().into_owned()).collect();
        ensure!(!said.contains("panicked") && !said.contains("Broken pipe"), "{shown:?}: {said}");
        ensure!(code != Some(101) && code != FAILURE, "{shown:?}: {code:?} {said}");
        // What is left undone is no success.
        let undone = shown[0] == "read" && said.contains("stopped after");
        ensure!((code == Some(141)) == undone, "{shown:?}: {code:?} {said}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_is_said_before_anything_is_read() -> Result<()> {
    let sample = samples::all()?.swap_remove(0);
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("out");
    for (more, said) in [
        (["--table", "t.parquet"], "Parquet"),
        (["--table", "t.txt"], "CSV"),
        (["--prior", "x"], "--prior"),
        (["--jobs", "0"], "--jobs"),
    ] {
        let mut command = preread(&[&"read", &sample.file, &"--out", &out])?;
        let output = command.args(more).output()?;
        ensure!(output.status.code() == USAGE && stderr(&output).contains(said), "{more:?}: {}", stderr(&output));
        ensure!(!out.exists(), "{more:?}");
    }
    Ok(())
}
