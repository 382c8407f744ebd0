//! docs/TLS.md as a reader follows it: its certificates are made and its lines run as they are printed, between preread and
//! DCMTK, in both directions. Only hosts, ports and folders are others than the printed ones.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::{
    child::Child,
    daemon::{Daemon, Setup},
    peers, place,
    port::Port,
    readme::{self, Block},
    samples, wait,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// The page's blocks: what makes the certificates, what configures preread, what the other side runs.
fn blocks() -> Result<[Block; 3]> {
    let blocks = readme::blocks(&place::root().join("docs/TLS.md"))?;
    let languages: Vec<_> = blocks.iter().map(|block| block.language.as_str()).collect();
    ensure!(languages == ["sh", "toml", "sh"], "nobody tries all of these blocks: {languages:?}");
    blocks.try_into().ok().context("three blocks")
}

/// Runs what a person would type in `folder`; all that it printed.
fn type_in(folder: &Path, text: &str) -> Result<String> {
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", text]).current_dir(folder).stdin(Stdio::null());
    let output = shell.output().context("cannot start bash")?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "`{text}` ended with {}:\n{said}", output.status);
    Ok(said)
}

#[test]
fn the_recipe_of_the_page_on_tls_works_in_both_directions() -> Result<()> {
    peers::program("openssl", "openssl")?;
    peers::program("echoscu", "dcmtk")?;
    let [certificates, configuration, echo] = blocks()?;
    let folder = tempfile::Builder::new().prefix("preread-e2e-recipe-").tempdir()?;
    let dir = folder.path();
    let said = type_in(dir, &certificates.text)?;
    ensure!(said.contains("preread.crt: OK") && said.contains("pacs.crt: OK"), "{said}");
    let fingerprint = said.lines().find(|line| line.to_lowercase().starts_with("sha256 fingerprint="));
    let fingerprint = fingerprint.context("the last line prints no fingerprint")?;

    let (tls, pacs) = (Port::free()?, Port::free()?);
    fs::create_dir(dir.join("received"))?;
    let mut storescp = Command::new(peers::program("storescp", "dcmtk")?);
    storescp.args(["-aet", "PACS", "+tls", "pacs.key", "pacs.crt", "+cf", "ca.crt", "-od", "received"]);
    storescp.arg(pacs.number().to_string()).current_dir(dir);
    let _storescp = Child::start(&mut storescp, &dir.join("storescp.log"))?;

    let placed = configuration
        .text
        .replace("0.0.0.0:2762", &tls.address())
        .replace("\"pacs:2762\"", &format!("\"localhost:{}\"", pacs.number()))
        .replace("/etc/preread/tls/", &format!("{}/", dir.display()));
    let (listen, more) = placed.split_once("\n\n").context("the configuration has one section only")?;
    let listen = listen.strip_prefix("[listen]\n").context("the configuration does not begin with [listen]")?;
    let rule = "[[rule]]\nname = \"to the pacs\"\nwhen = 'modality == \"CR\" || modality == \"DX\"'\nmodel = \
                \"phantom-cxr\"\ndestinations = [\"pacs\"]\n";
    let start = |more: &str| {
        let (listen, more) = (listen.to_owned(), format!("{more}\n{rule}"));
        Daemon::start(&Setup { when: "false".into(), address: "127.0.0.1".into(), listen, more, ..Setup::default() })
    };
    let daemon = start(more)?;
    let from_outside = echo.text.replace("preread 2762", &format!("localhost {}", tls.number()));
    ensure!(from_outside != echo.text, "the page calls another host or port: {from_outside}");
    type_in(dir, &from_outside)?;
    let sample = samples::all()?.swap_remove(0);
    let with_file = |daemon: &Daemon| {
        let sent = from_outside.trim().replace("echoscu", "storescu");
        type_in(dir, &format!("{sent} {:?}", sample.file))?;
        // It is known by its certificate, though its address has a row too.
        wait::until("an instance of the peer", PATIENCE, || {
            let log = daemon.log();
            let line = log.lines().find(|line| line.contains("association released: 1 instance of 1 study"));
            Ok(line.filter(|line| line.contains("pacs")).map(|_| ()))
        })
        .with_context(|| daemon.log())
    };
    with_file(&daemon)?;
    daemon.await_state(&sample.instance.study_instance_uid, "delivered", PATIENCE)?;
    ensure!(fs::read_dir(dir.join("received"))?.count() > 0, "the PACS has nothing");
    let doctor = daemon.command(&["doctor"])?;
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let answers = said.lines().any(|line| line.contains("destination pacs") && line.contains("answers"));
    ensure!(answers, "{said}");
    drop(daemon);

    // The other way to name the certificate.
    let by_fingerprint = more.replace("\"CN=pacs,O=Hospital\"", &format!("{fingerprint:?}"));
    ensure!(by_fingerprint != more, "the page knows the peer by another subject");
    with_file(&start(&by_fingerprint)?)
}
