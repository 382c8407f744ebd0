//! `preread init`: a short configuration for one PACS and one model.

use std::{
    fs::OpenOptions,
    io::{self, BufRead, ErrorKind, IsTerminal, Write, stderr, stdin},
    net::{IpAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use infer::Bundle;
use ipnet::IpNet;
use serde_json::json;

use crate::{cli::Init, config::Config};

/// Asks for what the flags do not say, and writes a configuration that passes `config check`.
pub(crate) fn run(arguments: &Init) -> Result<ExitCode> {
    let to_standard_output = arguments.out.as_os_str() == "-";
    if !to_standard_output && arguments.out.exists() && !arguments.force {
        let text = format!(
            "{} is there already; name another file with --out, or write over it with --force",
            arguments.out.display()
        );
        return Err(super::usage(text));
    }
    let pacs = match &arguments.pacs {
        Some(pacs) => pacs.clone(),
        None => ask("The PACS, as AE@host:port (such as ORTHANC@10.1.2.3:4242)", None, "--pacs AE@host:port")?,
    };
    let (ae_title, address) =
        pacs.split_once('@').filter(|(ae_title, address)| !ae_title.is_empty() && address.contains(':')).ok_or_else(
            || super::usage(format!("{pacs:?} is no PACS; write AE@host:port, such as ORTHANC@10.1.2.3:4242")),
        )?;
    let model = model(arguments)?;
    let from = senders(arguments, address)?;
    let text = written(arguments, [ae_title, address], &model, &from)?;
    // What does not pass our own check is a flag that cannot be used.
    if let Err(error) = Config::parse(&text) {
        return Err(super::usage(format!("this would make no valid configuration: {}", crate::told::told(&error))));
    }
    if to_standard_output {
        print!("{text}");
    } else {
        write(&arguments.out, &text, arguments.force)?;
        let out = arguments.out.display();
        eprintln!("{out} is written. Look at the machine with: preread doctor --config {out}");
        eprintln!("Then start: preread serve --config {out}");
    }
    Ok(ExitCode::SUCCESS)
}

/// An answer from the terminal.
fn ask(question: &str, default: Option<&str>, flag: &str) -> Result<String> {
    if !stdin().is_terminal() {
        return Err(super::usage(format!("nobody is there to be asked; give {flag}")));
    }
    let hint = default.map(|default| format!(" [{default}]")).unwrap_or_default();
    loop {
        eprint!("{question}{hint}: ");
        stderr().flush()?;
        let mut answer = String::new();
        if stdin().lock().read_line(&mut answer)? == 0 {
            return Err(super::usage(format!("there was no answer; give {flag}")));
        }
        match (answer.trim(), default) {
            ("", Some(default)) => return Ok(default.to_owned()),
            ("", None) => {}
            (answer, _) => return Ok(answer.to_owned()),
        }
    }
}

/// The folder of the model, and what it is.
fn model(arguments: &Init) -> Result<(PathBuf, Bundle)> {
    let folder = match &arguments.model {
        Some(folder) => folder.clone(),
        None => {
            let own = super::read::setup::demonstration_model().ok().map(|path| path.display().to_string());
            match own {
                Some(own) if !stdin().is_terminal() => {
                    eprintln!("without --model: the demonstration model, {own}");
                    own.into()
                }
                own => ask("The model's folder", own.as_deref(), "--model DIR")?.into(),
            }
        }
    };
    let whole = folder.canonicalize().with_context(|| format!("--model {}", folder.display()));
    let whole = whole.map_err(|error| super::usage(crate::told::told(&error)))?;
    let bundle = Bundle::open(&whole).map_err(|error| super::usage(error.to_string()))?;
    Ok((whole, bundle))
}

/// Who may send: what is said, else the PACS's own addresses.
fn senders(arguments: &Init, address: &str) -> Result<Vec<String>> {
    for from in &arguments.from {
        if from.parse::<IpNet>().is_err() && from.parse::<IpAddr>().is_err() {
            return Err(super::usage(format!(
                "--from {from:?} is neither an address nor a network such as \"10.1.2.0/24\""
            )));
        }
    }
    if !arguments.from.is_empty() {
        return Ok(arguments.from.clone());
    }
    let found = address.to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    let mut addresses: Vec<String> = found.iter().map(|it| it.ip().to_string()).collect();
    addresses.dedup();
    if addresses.is_empty() {
        let text = format!(
            "{address:?} is no address that this machine can find; give host:port that it can, or say who sends with --from"
        );
        return Err(super::usage(text));
    }
    Ok(addresses)
}

fn written(
    arguments: &Init,
    [ae_title, address]: [&str; 2],
    model: &(PathBuf, Bundle),
    from: &[String],
) -> Result<String> {
    // JSON's texts and lists are TOML's.
    let quoted = |text: &str| json!(text).to_string();
    let path = |path: &Path| quoted(&path.to_string_lossy());
    let (folder, bundle) = model;
    let manifest = &bundle.manifest;
    let mut when = Vec::new();
    if !manifest.modality.is_empty() {
        when.push(format!("modality in {}", json!(manifest.modality)));
    }
    if !manifest.body_part.is_empty() {
        let parts: Vec<&str> = std::iter::once("").chain(manifest.body_part.iter().map(String::as_str)).collect();
        when.push(format!("body_part in {}", json!(parts)));
    }
    let when = if when.is_empty() { "true".to_owned() } else { when.join(" && ") };
    let name = quoted(&bundle.name());
    let mode = if arguments.shadow { "shadow" } else { "draft" };
    Ok(format!(
        r#"# Written by `preread init`. `preread config example` explains every key.
[listen]
ae_title = {own}
address = "{listen}"

[spool]
dir = {spool}

[admin]
address = "127.0.0.1:11180"

[[peer]]                # who may send
name = "pacs"
address = {from}

[[model]]
name = {name}
path = {folder}

[[destination]]         # where reports go
name = "pacs"
ae_title = {ae_title}
address = {address}

[[rule]]                # what the model reads
name = "all that the model reads"
when = '{when}'
model = {name}
destinations = ["pacs"]
mode = "{mode}"          # "shadow" reads and sends nothing
unstated = "hold"        # images that do not say what they show; or "read"
"#,
        own = quoted(&arguments.ae_title),
        listen = arguments.listen,
        spool = path(&arguments.spool),
        from = json!(from),
        folder = path(folder),
        ae_title = quoted(ae_title),
        address = quoted(address),
    ))
}

fn write(path: &Path, text: &str, force: bool) -> Result<()> {
    let context = || path.display().to_string();
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let file = options.open(path);
    if file.as_ref().is_err_and(|error: &io::Error| error.kind() == ErrorKind::AlreadyExists) {
        return Err(super::usage(format!("{} is there already", path.display())));
    }
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(context)
}
