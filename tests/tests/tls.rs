//! DICOM over TLS with other people's programs: DCMTK as sender and receiver, OpenSSL as a client that wants what is not
//! offered. The certificates are made here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use e2e::{
    child::Child,
    daemon::{self, AE_TITLE, Daemon, Setup},
    peers,
    port::Port,
    samples, wait,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

const PATIENCE: Duration = Duration::from_secs(20);

/// An authority, and a folder of what it issued.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new(name: &str) -> Result<Self> {
        let mut params = params(name, 2090)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("ca.crt"), issuer.pem())?;
        Ok(Self { issuer, folder })
    }

    fn ca(&self) -> String {
        text(&self.folder.path().join("ca.crt"))
    }

    /// Issues a certificate of that name for this machine, until the first of January of a year.
    fn issue(&self, name: &str, until: i32) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let certificate = params(name, until)?.signed_by(&key, &self.issuer)?;
        let path = |ending: &str| self.folder.path().join(format!("{name}.{ending}"));
        fs::write(path("crt"), certificate.pem())?;
        fs::write(path("key"), key.serialize_pem())?;
        Ok(Identity { certificate: text(&path("crt")), key: text(&path("key")) })
    }
}

/// The files of a certificate and its key.
struct Identity {
    certificate: String,
    key: String,
}

impl Identity {
    /// As `openssl x509` prints it.
    fn fingerprint(&self) -> Result<String> {
        let (_, said) = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", &self.certificate])?;
        let (_, digits) = said.trim().rsplit_once('=').context("no fingerprint")?;
        Ok(digits.to_owned())
    }
}

fn params(name: &str, until: i32) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, "Hospital");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    Ok(params)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A daemon that reads nothing and listens on both ports.
struct Secure {
    daemon: Daemon,
    authority: Authority,
    own: Identity,
    tls: Port,
}

impl Secure {
    fn start(peers: &str) -> Result<Self> {
        Self::start_known_from("127.0.0.0/8", peers)
    }

    /// As [`Self::start`], and by its address only who calls from `address` is known.
    fn start_known_from(address: &str, peers: &str) -> Result<Self> {
        let (authority, tls) = (Authority::new("authority")?, Port::free()?);
        let own = authority.issue("preread", 2080)?;
        let more = format!(
            "[tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n{peers}",
            own.certificate,
            own.key,
            authority.ca()
        );
        let listen = format!("tls_address = {:?}", tls.address());
        let (when, address) = ("false".into(), address.into());
        let daemon = Daemon::start(&Setup { when, listen, address, more, ..Setup::default() })?;
        Ok(Self { daemon, authority, own, tls })
    }

    /// Waits until the log says it, from `start` on.
    fn await_log(&self, start: usize, what: &str) -> Result<()> {
        let found = wait::until(what, PATIENCE, || Ok(self.daemon.log()[start..].contains(what).then_some(())));
        found.with_context(|| self.daemon.log()[start..].to_owned())
    }

    /// `openssl s_client` with an identity; its answer to the end of standard input.
    fn s_client(&self, identity: &Identity, more: &[&str]) -> Result<(bool, String)> {
        let (address, ca) = (self.tls.address(), self.authority.ca());
        let mut arguments = vec!["s_client", "-connect", &address, "-CAfile", &ca, "-verify_return_error"];
        arguments.extend(["-cert", &identity.certificate, "-key", &identity.key]);
        arguments.extend(more);
        openssl(&arguments)
    }
}

fn openssl(arguments: &[&str]) -> Result<(bool, String)> {
    let openssl = peers::program("openssl", "openssl")?;
    let output = Command::new(openssl).args(arguments).stdin(Stdio::null()).output()?;
    Ok((output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
}

#[test]
fn storescu_comes_in_with_the_right_certificate_and_with_no_other() -> Result<()> {
    let peer = "[[peer]]\nname = \"ct\"\ncertificate = [\"CN=ct,O=Hospital\"]\nae_title = \"CT*\"\n";
    let secure = Secure::start(peer)?;
    let stranger = Authority::new("stranger")?;
    let right = secure.authority.issue("ct", 2080)?;
    let expired = secure.authority.issue("expired", 2022)?;
    let wrong = stranger.issue("ct", 2080)?;
    let (ca, other_ca, port) = (secure.authority.ca(), stranger.ca(), secure.tls.number().to_string());
    let samples = samples::all()?;
    let file = text(&samples[0].file);
    // Whose certificate, whom it trusts, its title, whether it comes in, and what the daemon says of it.
    let check = |identity: Option<&Identity>, trusts: &str, title: &str, comes_in: bool, logged: &str| {
        let start = secure.daemon.log().len();
        let mut arguments = vec!["-aet", title, "-aec", AE_TITLE, "+cf", trusts];
        match identity {
            Some(Identity { certificate, key }) => arguments.extend(["+tls", key, certificate]),
            None => arguments.push("+tla"),
        }
        arguments.extend(["127.0.0.1", &port, &file]);
        let (success, said) = peers::dcmtk("storescu", &arguments)?;
        ensure!(success == comes_in, "{logged}: {said}");
        secure.await_log(start, logged)
    };
    check(Some(&right), &ca, "CT1", true, "association released: 1 instance of 1 study")?;
    let study = &samples[0].instance.study_instance_uid;
    secure.daemon.await_state(study, "skipped", PATIENCE)?;
    check(Some(&right), &ca, "MR1", false, "the peer of this certificate has another AE title")?;
    check(Some(&wrong), &ca, "CT1", false, "was not issued by an authority that is trusted here")?;
    check(Some(&expired), &ca, "CT1", false, "the peer's certificate has expired")?;
    check(None, &ca, "CT1", false, "the peer presents no certificate")?;
    // The peer does not trust us.
    check(Some(&right), &other_ca, "CT1", false, "the peer does not trust the authority that issued our certificate")?;
    // Known by its address, with a certificate that no row names.
    check(Some(&secure.own), &ca, "CT1", true, "association released")?;
    check(Some(&right), &ca, "CT1", true, "association released")
}

#[test]
fn silent_connections_keep_nobody_out_who_is_known_by_its_certificate_alone() -> Result<()> {
    let peer = "[[peer]]\nname = \"ct\"\ncertificate = [\"CN=ct,O=Hospital\"]\nae_title = \"CT*\"\n";
    let mut secure = Secure::start_known_from("127.0.0.1", peer)?;
    let Identity { certificate, key } = secure.authority.issue("ct", 2080)?;
    let (port, ca) = (secure.tls.number().to_string(), secure.authority.ca());
    // Addresses, connections of each, and how many of all may stay: 32 of an address, 512 in all.
    let mut check = |addresses: u8, of_each: usize, open: std::ops::RangeInclusive<u64>| {
        let (addresses, of_each) = (addresses.to_string(), of_each.to_string());
        let arguments = [&port, AE_TITLE, "CT1", &key, &certificate, &ca, &addresses, &of_each];
        let said = peers::python("crowd.py", &arguments)?;
        let echoes = said["echo"].as_array().context("no answers")?;
        ensure!(echoes.iter().all(|status| status == 0), "{said}\n{}", secure.daemon.log());
        ensure!(said["open"].as_u64().is_some_and(|found| open.contains(&found)), "{said}");
        secure.daemon.check_alive()
    };
    check(4, 34, 128..=128)?;
    // The last one who came in took a place for a moment.
    check(24, 30, 510..=512)
}

#[test]
fn tls_from_version_1_2_on_and_nothing_else_on_either_port() -> Result<()> {
    let mut secure = Secure::start("")?;
    for (version, suite) in [("-tls1_2", "ECDHE-ECDSA-AES128-GCM-SHA256"), ("-tls1_2", "ECDHE-ECDSA-AES256-GCM-SHA384")]
    {
        let (success, said) = secure.s_client(&secure.own, &[version, "-cipher", suite])?;
        ensure!(success && said.contains(suite), "{said}");
    }
    let (success, said) = secure.s_client(&secure.own, &["-tls1_3"])?;
    ensure!(success && said.contains("TLSv1.3"), "{said}");
    // Both versions that are refused need OpenSSL's own consent.
    for refused in [
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"].as_slice(),
        &["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
        // No forward secrecy, and CBC.
        &["-tls1_2", "-cipher", "AES256-GCM-SHA384"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384"],
    ] {
        let start = secure.daemon.log().len();
        let (success, said) = secure.s_client(&secure.own, refused)?;
        ensure!(!success, "{refused:?} is taken: {said}");
        let why = if refused.len() == 3 && refused[0] != "-tls1_2" {
            "knows no TLS from version 1.2 on"
        } else {
            "knows none of the cipher suites"
        };
        secure.await_log(start, why)?;
    }
    let file = text(&samples::all()?[0].file);
    let (plain, tls) = (secure.daemon.port().to_string(), secure.tls.number().to_string());
    let start = secure.daemon.log().len();
    let (success, said) = peers::dcmtk("storescu", &["-aec", AE_TITLE, "127.0.0.1", &tls, &file])?;
    ensure!(!success, "{said}");
    secure.await_log(start, "a plain DICOM client on the TLS port")?;
    let start = secure.daemon.log().len();
    let Identity { certificate, key } = &secure.own;
    let over_tls = ["+tls", key, certificate, "+cf", &secure.authority.ca(), "127.0.0.1", &plain, &file];
    let (success, said) = peers::dcmtk("storescu", &over_tls)?;
    ensure!(!success, "{said}");
    secure.await_log(start, "a TLS handshake")?;
    secure.daemon.check_alive()
}

#[test]
fn certificates_are_renewed_without_a_restart() -> Result<()> {
    let mut secure = Secure::start("")?;
    let client = secure.authority.issue("ct", 2080)?;
    let shown = |secure: &Secure| {
        let (success, said) = secure.s_client(&client, &["-showcerts"])?;
        ensure!(success, "{said}");
        let at = said.find("-----BEGIN").context("no certificate")?;
        let file = secure.authority.folder.path().join("shown.crt");
        fs::write(&file, &said[at..])?;
        Identity { certificate: text(&file), key: String::new() }.fingerprint()
    };
    let first = secure.own.fingerprint()?;
    ensure!(shown(&secure)? == first);

    fs::write(&secure.own.key, "nothing")?;
    let start = secure.daemon.log().len();
    secure.daemon.hang_up()?;
    secure.await_log(start, "certificates stay as they were")?;
    ensure!(secure.daemon.log()[start..].contains("preread.key: it holds no private key"), "{}", secure.daemon.log());
    ensure!(shown(&secure)? == first);

    let second = secure.authority.issue("preread", 2080)?.fingerprint()?;
    ensure!(shown(&secure)? == first, "it is new before anybody said so");
    let start = secure.daemon.log().len();
    secure.daemon.hang_up()?;
    secure.await_log(start, "certificates read again")?;
    ensure!(shown(&secure)? == second && second != first);
    secure.daemon.check_alive()?;

    // Without TLS the signal changes nothing, and does not end the daemon.
    let mut plain = Daemon::start(&Setup::default())?;
    plain.hang_up()?;
    wait::until("the signal to be noticed", PATIENCE, || {
        Ok(plain.log().contains("nothing to read again").then_some(()))
    })?;
    plain.check_alive()
}

#[test]
fn send_and_echo_call_over_tls() -> Result<()> {
    let (pacs, authority) = (Port::free()?, Authority::new("authority")?);
    let theirs = authority.issue("pacs", 2080)?;
    let received = authority.folder.path().join("received");
    fs::create_dir(&received)?;
    let mut storescp = Command::new(peers::program("storescp", "dcmtk")?);
    storescp.args(["-aet", "PACS", "+tls", &theirs.key, &theirs.certificate, "+cf", &authority.ca(), "-od"]);
    storescp.arg(&received).arg(pacs.number().to_string());
    let _storescp = Child::start(&mut storescp, &authority.folder.path().join("storescp.log"))?;

    let ours = authority.issue("preread", 2080)?;
    let stranger = Authority::new("stranger")?;
    let foreign = stranger.issue("preread", 2080)?;
    let config = |own: &Identity, name: &str, more: &str| -> Result<String> {
        let path = authority.folder.path().join(name);
        let toml = format!(
            "[listen]\nae_title = \"PREREAD\"\naddress = \"127.0.0.1:0\"\n[spool]\ndir = \"spool\"\n[tls]\ncertificate = \
             {:?}\nkey = {:?}\nclient_ca = {:?}\n[[destination]]\nname = \"pacs\"\nae_title = \"PACS\"\naddress = {:?}\ntls = \
             true\n{more}",
            own.certificate,
            own.key,
            authority.ca(),
            pacs.address()
        );
        fs::write(&path, toml)?;
        Ok(text(&path))
    };
    let good = config(&ours, "good.toml", "")?;
    wait::until("storescp to answer", PATIENCE, || {
        Ok(daemon::command(&["echo", "pacs", "--config", &good])?.status.success().then_some(()))
    })?;
    let sample = samples::all()?.swap_remove(0);
    let sent = daemon::command(&["send", &text(&sample.file), "--to", "pacs", "--config", &good])?;
    ensure!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let files: Vec<PathBuf> = fs::read_dir(&received)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    ensure!(files.len() == 1, "{files:?}");
    ensure!(e2e::instance::data_set(&fs::read(&files[0])?)? == sample.instance.data_set);

    let to = format!("PACS@{}", pacs.address());
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let output = daemon::command(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code) && said.contains(expected), "{arguments:?}: {said}");
        Ok(())
    };
    check(&["echo", &to, "--tls", "--config", &good], 0, "")?;
    check(&["echo", &to], 1, "failed")?;
    check(&["echo", "elsewhere", "--config", &good], 2, "a [[destination]] of")?;
    let other_name = config(&ours, "name.toml", "tls_server_name = \"pacs.test\"\n")?;
    check(&["echo", "pacs", "--config", &other_name], 1, "is not for pacs.test")?;
    let wrong_key = Identity { certificate: ours.certificate.clone(), key: foreign.key.clone() };
    let mixed = config(&wrong_key, "mixed.toml", "")?;
    for arguments in [["echo", "pacs", "--config", &mixed].as_slice(), &["config", "check", "--config", &mixed]] {
        check(arguments, 1, "the key does not belong to the certificate")?;
    }
    let foreign = config(&foreign, "foreign.toml", "")?;
    check(&["echo", "pacs", "--config", &foreign], 1, "does not trust the authority that issued our certificate")?;
    check(&["config", "check", "--config", &good], 0, "")
}
