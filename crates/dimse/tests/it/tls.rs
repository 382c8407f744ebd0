//! DICOM over TLS: which certificates come in, which do not, and what is said of it. Certificates are made by the tests.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use dimse::{
    CertificatePattern, Destination, DestinationTls, Error, Peer, ServerConfig, Tls, TlsFiles, TlsListener, TlsProfile,
    echo, store,
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SignatureAlgorithm,
    date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, SupportedKxGroup, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    hostile::{Lines, connect, knock, request},
    support::{Memory, Running, config, dcmtk, file, run, split},
};

/// Seconds from 1970 to the first of January of 2021, when the certificates that are expired now were not.
const IN_2021: u64 = 1_609_459_200;
/// And of 2040, when those that are valid now expire.
const IN_2040: u64 = 2_208_988_800;
/// And of 2042, when those that are not valid yet are.
const IN_2042: u64 = 2_272_147_200;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// What a certificate says.
#[derive(Clone, Copy)]
struct Wanted {
    common_name: &'static str,
    organization: &'static str,
    /// The first of January of these years.
    years: (i32, i32),
    algorithm: &'static SignatureAlgorithm,
}

const USUAL: Wanted = Wanted {
    common_name: "pacs",
    organization: "Hospital",
    years: (2020, 2040),
    algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
};

impl Wanted {
    fn params(self) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "preread.test".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, self.common_name);
        params.distinguished_name.push(DnType::OrganizationName, self.organization);
        params.not_before = date_time_ymd(self.years.0, 1, 1);
        params.not_after = date_time_ymd(self.years.1, 1, 1);
        params
    }
}

/// An authority that issues certificates, and a folder for them.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("authority")
    }

    fn named(common_name: &'static str) -> Self {
        let wanted = Wanted { common_name, years: (2000, 2090), ..USUAL };
        let mut params = wanted.params();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// A server with a certificate of this authority, on both ports, for this machine.
    pub(crate) fn both_listeners(&self) -> ServerConfig {
        let (server, _) = self.load("preread", USUAL);
        ServerConfig { address: Some("127.0.0.1:0".parse().unwrap()), ..secure(&server, vec![]) }
    }

    fn issue(&self, wanted: Wanted) -> (Certificate, KeyPair) {
        let key = KeyPair::generate_for(wanted.algorithm).unwrap();
        (wanted.params().signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Issues a certificate into files of that name, over those that are there.
    fn issue_files(&self, name: &str, wanted: Wanted) -> (TlsFiles, Certificate) {
        let path = |ending: &str| self.folder.path().join(format!("{name}.{ending}"));
        let (certificate, key) = self.issue(wanted);
        fs::write(path("crt"), certificate.pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        let client_ca = self.folder.path().join("ca.crt");
        let files = TlsFiles { certificate: path("crt"), key: path("key"), client_ca, profile: TlsProfile::Bcp195 };
        (files, certificate)
    }

    fn load(&self, name: &str, wanted: Wanted) -> (Tls, Certificate) {
        let (files, certificate) = self.issue_files(name, wanted);
        (Tls::load(files, valid_in(wanted)).unwrap(), certificate)
    }
}

/// A moment when a certificate is valid.
fn valid_in(wanted: Wanted) -> SystemTime {
    match wanted.years {
        (2020, 2022) => at(IN_2021),
        (2041, _) => at(IN_2042),
        _ => SystemTime::now(),
    }
}

fn fingerprint(certificate: &Certificate) -> CertificatePattern {
    let digits: Vec<_> = Sha256::digest(certificate.der()).iter().map(|byte| format!("{byte:02X}")).collect();
    format!("sha256:{}", digits.join(":")).parse().unwrap()
}

fn known_by(certificates: &[CertificatePattern]) -> Peer {
    Peer { name: "pacs".to_owned(), certificates: certificates.to_vec(), addresses: vec![], ..Peer::loopback() }
}

fn secure(tls: &Tls, peers: Vec<Peer>) -> ServerConfig {
    let tls = TlsListener { address: "127.0.0.1:0".parse().unwrap(), tls: tls.clone() };
    ServerConfig { address: None, tls: Some(tls), peers, ..config() }
}

fn over_tls(running: &Running, tls: &Tls) -> Destination {
    Destination { tls: Some(DestinationTls { tls: tls.clone(), server_name: None }), ..running.destination() }
}

/// What a client without certificate, or with other algorithms, gets: the first answer to an association request.
async fn raw_client(
    running: &Running,
    authority: &Authority,
    groups: &[&'static dyn SupportedKxGroup],
) -> std::io::Result<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let mut provider = ring::default_provider();
    if !groups.is_empty() {
        provider = CryptoProvider { kx_groups: groups.to_vec(), ..provider };
    }
    let (certificate, key) = authority.issue(USUAL);
    let client = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots);
    let client = if groups.is_empty() {
        client.with_no_client_auth()
    } else {
        let key = key.serialize_der().try_into().unwrap();
        client.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
    };
    let socket = TcpStream::connect(running.address).await.unwrap();
    let name = ServerName::try_from("preread.test").unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, socket).await?;
    stream.write_all(&request()).await?;
    stream.read_u8().await
}

// One thread, so that the subscriber of this thread sees every task.
#[tokio::test]
async fn who_comes_in_is_a_matter_of_the_certificate() {
    let (lines, _guard) = Lines::collect();
    let (authority, stranger, impostor) = (Authority::new(), Authority::named("stranger"), Authority::new());
    let (server, _) = authority.load("preread", Wanted { common_name: "preread", ..USUAL });
    let (pacs, pacs_certificate) = authority.load("pacs", USUAL);
    let subject = |text: &str| text.parse::<CertificatePattern>().unwrap();
    let of_another = || {
        let (certificate, _) = authority.issue(Wanted { common_name: "ct", ..USUAL });
        fingerprint(&certificate)
    };
    let titled = |ae_title: &str, peer: Peer| Peer { ae_title: ae_title.to_owned(), ..peer };
    let elsewhere = vec!["10.1.2.0/24".parse().unwrap()];
    let ca_of = |tls: &Authority, wanted| {
        // Trusts the server's authority, so that it is the server that objects.
        let (files, _) = tls.issue_files("client", wanted);
        let client_ca = authority.folder.path().join("ca.crt");
        Tls::load(TlsFiles { client_ca, ..files }, valid_in(wanted)).unwrap()
    };
    let expired = ca_of(&authority, Wanted { years: (2020, 2022), ..USUAL });
    let early = ca_of(&authority, Wanted { years: (2041, 2043), ..USUAL });
    let (foreign, false_name) = (ca_of(&stranger, USUAL), ca_of(&impostor, USUAL));
    let rejected = "calling AE title not recognised";
    // The certificate, the peers, what the client is told if it does not come in, and what the log says.
    let cases: Vec<(&str, &Tls, Vec<Peer>, &str, &str)> = vec![
        ("nobody configured", &pacs, vec![], "", "association released: 1 instance"),
        (
            "by fingerprint",
            &pacs,
            vec![known_by(&[fingerprint(&pacs_certificate)])],
            "",
            "association released: 1 instance",
        ),
        (
            "one of several",
            &pacs,
            vec![known_by(&[of_another(), fingerprint(&pacs_certificate)])],
            "",
            "released: 1 instance",
        ),
        ("by a part of the subject", &pacs, vec![known_by(&[subject("O=Hospital")])], "", "released: 1 instance"),
        ("by the subject", &pacs, vec![known_by(&[subject("CN=pacs,O=Hospital")])], "", "released: 1 instance"),
        ("by the address", &pacs, vec![Peer { name: "by address".to_owned(), ..Peer::loopback() }], "", "by address"),
        (
            "the second row of a certificate",
            &pacs,
            vec![titled("CT*", known_by(&[subject("CN=pacs")])), titled("PRE*", known_by(&[subject("CN=pacs")]))],
            "",
            "released: 1 instance",
        ),
        ("another fingerprint", &pacs, vec![known_by(&[of_another()])], rejected, "with this certificate"),
        ("another subject", &pacs, vec![known_by(&[subject("CN=pacs,O=Other")])], rejected, "with this certificate"),
        ("letter by letter", &pacs, vec![known_by(&[subject("CN=PACS")])], rejected, "with this certificate"),
        (
            "another title, though the address has a row",
            &pacs,
            vec![titled("CT*", known_by(&[subject("CN=pacs")])), Peer::loopback()],
            rejected,
            "the peer of this certificate has another AE title",
        ),
        (
            "another address",
            &pacs,
            vec![Peer { addresses: elsewhere, ..known_by(&[subject("CN=pacs")]) }],
            rejected,
            "the peer of this certificate has another address",
        ),
        ("another authority", &foreign, vec![], "does not trust the authority", "not issued by an authority"),
        (
            "another authority of that name",
            &false_name,
            vec![],
            "does not take our certificate",
            "another authority of",
        ),
        ("expired", &expired, vec![], "out of its period", "the peer's certificate has expired"),
        ("not valid yet", &early, vec![], "out of its period", "is not valid yet"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let files = [file(folder.path(), "1.2.3.1", 1000)];
    for (name, client, peers, told, logged) in cases {
        let running = Running::start(secure(&server, peers), Memory::default()).await;
        tokio::task::yield_now().await;
        lines.take();
        match store(&over_tls(&running, client), &files).await {
            Ok(_) => assert_eq!(told, "", "{name}"),
            Err(error) => {
                let said = error.to_string();
                assert!(!told.is_empty() && said.contains(told), "{name}: {said}");
            }
        }
        running.all_closed(0).await;
        let said = lines.take();
        assert!(said.len() == 1 && said[0].contains(logged), "{name}: {said:?}");
    }
}

#[tokio::test]
async fn what_does_not_belong_on_the_tls_port_costs_one_log_line() {
    let (lines, _guard) = Lines::collect();
    let authority = Authority::new();
    let (server, _) = authority.load("preread", USUAL);
    let mut config = secure(&server, vec![]);
    config.deadlines.association_request = Duration::from_millis(300);
    let running = Running::start(config, Memory::default()).await;
    // Version 1.1, one suite with CBC, no compression, no extensions.
    let hello = [&[3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0]].concat();
    let old = [&[0x16, 3, 1, 0, 45, 1, 0, 0, 41][..], &hello].concat();
    let knocks: [(&[u8], &str); 7] = [
        (&request(), "a plain DICOM client on the TLS port"),
        (b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n", "text, perhaps HTTP"),
        (&[0xff; 300], "unknown bytes"),
        (&[], "no TLS handshake came in time"),
        (&[0x16, 3, 1, 2, 0], "no TLS handshake came in time"),
        (&[0x16; 600], "what came is no TLS"),
        (&old, "the peer knows no TLS from version 1.2 on"),
    ];
    tokio::task::yield_now().await;
    lines.take();
    for (bytes, expected) in knocks {
        let answer = knock(&running, bytes).await;
        // Nothing, or an alert.
        assert!(answer.is_empty() || answer[0] == 0x15, "{expected}: {answer:?}");
        if bytes == old {
            assert_eq!(answer, [0x15, 3, 3, 0, 2, 2, 40], "a fatal alert: handshake failure");
        }
        let said = lines.take();
        assert!(said.len() == 1 && said[0].contains(expected), "{expected}: {said:?}");
    }
    assert!(raw_client(&running, &authority, &[]).await.is_err());
    let said = lines.take();
    assert!(said.len() == 1 && said[0].contains("the peer presents no certificate"), "{said:?}");
    // A health check that connects and closes is no event, and after all that the next peer is served.
    drop(TcpStream::connect(running.address).await.unwrap());
    drop(connect(running.address, 1).await);
    echo(&over_tls(&running, &server)).await.unwrap();
    assert_eq!(lines.take(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_a_destination_must_be_for_its_name_and_of_a_known_authority() {
    let (authority, stranger) = (Authority::new(), Authority::named("stranger"));
    let (server, _) = authority.load("preread", USUAL);
    let (foreign, _) = stranger.load("preread", USUAL);
    let running = Running::start(secure(&server, vec![]), Memory::default()).await;
    let check = async |tls: &Tls, server_name: Option<&str>, expected: &str| {
        let tls = DestinationTls { tls: tls.clone(), server_name: server_name.map(str::to_owned) };
        match echo(&Destination { tls: Some(tls), ..running.destination() }).await {
            Ok(()) => assert_eq!(expected, "", "{server_name:?}"),
            Err(error) => {
                let said = error.to_string();
                assert!(!expected.is_empty() && said.contains(expected), "{server_name:?}: {said}");
            }
        }
    };
    check(&server, None, "").await;
    check(&server, Some("preread.test"), "").await;
    check(&server, Some("other.test"), "the peer's certificate is not for other.test").await;
    check(&server, Some("not a name"), "\"not a name\" is no name").await;
    check(&foreign, None, "was not issued by an authority that is trusted here").await;
    // The way round: a TLS requestor on a plain port, and a plain one on the TLS port.
    let plain = Running::usual().await;
    let said = echo(&over_tls(&plain, &server)).await.unwrap_err().to_string();
    assert!(said.contains("no TLS with 127.0.0.1"), "{said}");
    assert!(matches!(echo(&running.destination()).await, Err(Error::Association { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_server_listens_for_both_and_shares_the_places() {
    let authority = Authority::new();
    let mut both = authority.both_listeners();
    both.max_associations = 1;
    let (client, _) = authority.load("pacs", USUAL);
    let running = Running::start(both, Memory::default()).await;
    let tls = running.tls_address.unwrap();
    let mut over_tls = over_tls(&running, &client);
    over_tls.address = tls.to_string();
    echo(&over_tls).await.unwrap();
    running.all_closed(1).await;
    echo(&running.destination()).await.unwrap();
    running.all_closed(2).await;
    let mut held = TcpStream::connect(running.address).await.unwrap();
    held.write_all(&request()).await.unwrap();
    assert_eq!(held.read_u8().await.unwrap(), 2);
    assert!(matches!(echo(&over_tls).await, Err(Error::Busy { .. })));
    drop(held);
    running.all_closed(3).await;
    echo(&over_tls).await.unwrap();
    // Not to listen at all is a mistake.
    let nowhere = ServerConfig { address: None, ..config() };
    assert!(matches!(dimse::Server::bind(nowhere).await, Err(Error::Configuration(_))));
}

/// Whether a connection was closed by the other side.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_keep_no_peer_out_that_is_known_by_its_certificate() {
    let authority = Authority::new();
    let (server, _) = authority.load("preread", USUAL);
    let roaming = known_by(&["CN=pacs".parse().unwrap()]);
    let running = Running::start(secure(&server, vec![roaming]), Memory::default()).await;
    // How many addresses, and how many connections of each; then how many of all are still open.
    let check = async |hosts: u8, of_each: usize, open: usize| {
        let mut silent = Vec::new();
        for host in 2..2 + hosts {
            for _ in 0..of_each {
                silent.push(connect(running.address, host).await);
            }
            echo(&over_tls(&running, &server)).await.unwrap();
        }
        // Those that were sent away are so as soon as they are told.
        let mut found = 0;
        for _ in 0..200 {
            found = 0;
            for stream in &mut silent {
                found += usize::from(!is_closed(stream).await);
            }
            if found == open {
                break;
            }
        }
        assert_eq!(found, open, "{hosts} addresses with {of_each} connections each");
        drop(silent);
        running.all_closed(1).await;
    };
    // One address has 32 at most, all together 512.
    check(1, 5, 5).await;
    check(4, 34, 128).await;
    // The last one who came in took a place for a moment.
    check(100, 8, 511).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_shown_a_certificate_is_not_sent_away_for_others_and_has_bounds_of_its_own() {
    let authority = Authority::new();
    let (server, _) = authority.load("preread", USUAL);
    let roaming = known_by(&["CN=pacs".parse().unwrap()]);
    let running = Running::start(secure(&server, vec![roaming]), Memory::default()).await;
    let (stranger, _) = authority.issue_files("stranger", Wanted { common_name: "stranger", ..USUAL });
    let (known, _) = authority.issue_files("known", USUAL);
    // Connections with a finished handshake, and no request yet.
    let shown = async |files: &TlsFiles| {
        let read = |path: &Path| fs::read(path).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let client = client.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let chain = vec![CertificateDer::from_pem_slice(&read(&files.certificate)).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key)).unwrap();
        let client = client.with_client_auth_cert(chain, key).unwrap();
        let socket = TcpStream::connect(running.address).await.unwrap();
        let name = ServerName::try_from("preread.test").unwrap();
        TlsConnector::from(Arc::new(client)).connect(name, socket).await.unwrap()
    };
    let mut first = shown(&known).await;
    // A certificate that no peer has makes a stranger, of whom eight may wait, whatever else they hold.
    let mut strangers = Vec::new();
    for _ in 0..40 {
        strangers.push(shown(&stranger).await);
    }
    // Silent ones of this address, more than it may have: the first one stays.
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(connect(running.address, 1).await);
    }
    echo(&over_tls(&running, &server)).await.unwrap();
    first.write_all(&request()).await.unwrap();
    assert_eq!(first.read_u8().await.unwrap(), 2);
    let mut waiting = 0;
    for stranger in &mut strangers {
        let answer = tokio::time::timeout(Duration::from_millis(300), stranger.read_u8()).await;
        waiting += usize::from(answer.is_err());
    }
    assert_eq!(waiting, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_many_wait_a_handshake_has_a_third_of_the_time() {
    let authority = Authority::new();
    let (server, _) = authority.load("preread", USUAL);
    let mut config = secure(&server, vec![known_by(&["CN=pacs".parse().unwrap()])]);
    config.deadlines.association_request = Duration::from_secs(9);
    let running = Running::start(config, Memory::default()).await;
    let mut early = connect(running.address, 2).await;
    let mut silent = Vec::new();
    for host in 3..=130 {
        for _ in 0..2 {
            silent.push(connect(running.address, host).await);
        }
    }
    let mut late = connect(running.address, 131).await;
    let read = tokio::time::timeout(Duration::from_secs(8), late.read(&mut [0])).await;
    assert_eq!(read.expect("it is closed before 9 s").unwrap_or(0), 0);
    assert!(!is_closed(&mut early).await, "who came when there was room has all the time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_address_is_not_kept_out_by_those_who_only_might_be_a_peer() {
    let authority = Authority::new();
    let (server, _) = authority.load("preread", USUAL);
    let anywhere = known_by(&["CN=roaming".parse().unwrap()]);
    let here = Peer { addresses: vec!["127.0.0.1/32".parse().unwrap()], ..Peer::loopback() };
    let running = Running::start(secure(&server, vec![anywhere, here]), Memory::default()).await;
    let mut silent = Vec::new();
    // Nobody who comes from elsewhere takes one of its places.
    for _ in 0..16 {
        silent.push(connect(running.address, 1).await);
    }
    for host in 2..80 {
        for _ in 0..8 {
            silent.push(connect(running.address, host).await);
        }
    }
    echo(&over_tls(&running, &server)).await.unwrap();
    for stream in silent.iter_mut().take(16) {
        assert!(!is_closed(stream).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_for_new_connections_and_bad_ones_change_nothing() {
    let authority = Authority::new();
    let (files, _) = authority.issue_files("preread", USUAL);
    let server = Tls::load(files.clone(), SystemTime::now()).unwrap();
    let (client, _) = authority.load("pacs", USUAL);
    let running = Running::start(secure(&server, vec![]), Memory::default()).await;
    let destination = over_tls(&running, &client);
    echo(&destination).await.unwrap();

    fs::write(&files.certificate, "nothing").unwrap();
    let error = server.reload(SystemTime::now()).unwrap_err().to_string();
    assert!(error.contains("preread.crt: it holds no certificate"), "{error}");
    echo(&destination).await.unwrap();

    // An association that is open, from before another authority is trusted.
    let folder = tempfile::tempdir().unwrap();
    let instances: Vec<PathBuf> = (0..2).map(|at| file(folder.path(), &format!("1.2.3.{at}"), 1 << 20)).collect();
    let gated = Memory { gate: Some(tokio::sync::Semaphore::new(0)), ..Memory::default() };
    let slow = Running::start(secure(&server, vec![]), gated).await;
    let sending = tokio::spawn({
        let destination = over_tls(&slow, &client);
        async move { store(&destination, &instances).await }
    });
    while slow.memory.opened.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let next = Authority::new();
    let (renewed, _) = next.issue_files("preread", USUAL);
    for (from, to) in
        [(&renewed.certificate, &files.certificate), (&renewed.key, &files.key), (&renewed.client_ca, &files.client_ca)]
    {
        fs::copy(from, to).unwrap();
    }
    server.reload(SystemTime::now()).unwrap();
    slow.memory.gate.as_ref().unwrap().add_permits(1 << 20);
    let outcomes = sending.await.unwrap().unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome.status, dimse::StoreStatus::Success)), "{outcomes:?}");

    assert!(echo(&destination).await.is_err(), "the old authority is not trusted any more");
    let (client, _) = next.load("pacs", USUAL);
    echo(&over_tls(&running, &client)).await.unwrap();
}

#[tokio::test]
async fn the_restricted_profile_takes_fewer_algorithms() {
    let authority = Authority::new();
    let (files, _) = authority.issue_files("preread", USUAL);
    let (edwards, _) = authority.load("edwards", Wanted { algorithm: &rcgen::PKCS_ED25519, ..USUAL });
    let (larger, _) = authority.load("larger", Wanted { algorithm: &rcgen::PKCS_ECDSA_P384_SHA384, ..USUAL });
    for profile in [TlsProfile::Bcp195, TlsProfile::Bcp195Restricted] {
        let usual = profile == TlsProfile::Bcp195;
        let server = Tls::load(TlsFiles { profile, ..files.clone() }, SystemTime::now()).unwrap();
        let running = Running::start(secure(&server, vec![]), Memory::default()).await;
        echo(&over_tls(&running, &server)).await.unwrap();
        echo(&over_tls(&running, &larger)).await.unwrap();
        assert_eq!(echo(&over_tls(&running, &edwards)).await.is_ok(), usual, "{profile:?}: Ed25519");
        let accepted = async |group| raw_client(&running, &authority, &[group]).await.is_ok_and(|answer| answer == 2);
        assert_eq!(accepted(ring::kx_group::X25519).await, usual, "{profile:?}: X25519");
        assert!(accepted(ring::kx_group::SECP256R1).await, "{profile:?}: P-256");
        assert!(accepted(ring::kx_group::SECP384R1).await, "{profile:?}: P-384");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn storescu_that_leaves_nagle_on_is_not_held_up_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    // Small: the command and the data set go out in one segment each, and the second waits for the first one's
    // acknowledgement.
    let files: Vec<PathBuf> = (0..4).map(|at| file(folder.path(), &format!("1.2.3.{at}"), 1000)).collect();
    let authority = Authority::new();
    let (server, _) = authority.load("preread", USUAL);
    let (client, _) = authority.issue_files("pacs", USUAL);
    let running = Running::start(secure(&server, vec![]), Memory::default()).await;
    let mut program = dcmtk("storescu");
    program
        .arg("+tls")
        .args([&client.key, &client.certificate])
        .arg("+cf")
        .arg(&client.client_ca)
        .args(["-R", "-aec", "PREREAD", "127.0.0.1", &running.address.port().to_string()])
        // Linux does not delay the first acknowledgements of a connection.
        .args(std::iter::repeat_n(&files, 50).flatten());
    let start = std::time::Instant::now();
    let (success, output) = run(program).await;
    let (elapsed, count) = (start.elapsed(), running.memory.stored.lock().unwrap().instances.len());
    assert!(success, "{output}");
    println!("{count} instances in {elapsed:?}: {:?} each", elapsed / u32::try_from(count).unwrap());
    // A wait for a delayed acknowledgement at each instance would cost 40 ms; the rest is room for a busy machine.
    assert!(elapsed / u32::try_from(count).unwrap() < Duration::from_millis(30));
    // And what we send is received as it is in the file.
    let (tls, _) = authority.load("preread", USUAL);
    store(&over_tls(&running, &tls), &files).await.unwrap();
    let stored = &running.memory.stored.lock().unwrap().instances[count..];
    assert_eq!(stored.len(), files.len());
    assert!(stored.iter().zip(&files).all(|((_, data), file)| split(file).1 == *data), "changed on the way");
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_to_do() {
    let authority = Authority::new();
    let (good, certificate) = authority.issue_files("good", USUAL);
    let (other, _) = authority.issue_files("other", USUAL);
    let (expired, _) = authority.issue_files("expired", Wanted { years: (2020, 2022), ..USUAL });
    let (early, _) = authority.issue_files("early", Wanted { years: (2041, 2043), ..USUAL });
    let written = |name: &str, bytes: &[u8]| {
        let path = authority.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let pem = fs::read_to_string(&good.certificate).unwrap();
    let key = fs::read_to_string(&good.key).unwrap();
    let cut = written("cut.crt", &pem.as_bytes()[..pem.len() / 2]);
    let no_base64 = written("no-base64.key", key.replacen("\nM", "\n!", 1).as_bytes());
    let encrypted = written("encrypted.key", key.replace("PRIVATE", "ENCRYPTED PRIVATE").as_bytes());
    let weak = openssl_rsa_1024(authority.folder.path());
    let version_1 = of_version_1(certificate.der(), authority.folder.path());
    type Change = fn(&mut TlsFiles, PathBuf);
    let certificate_of: Change = |files, path| files.certificate = path;
    let key_of: Change = |files, path| files.key = path;
    let authority_of: Change = |files, path| files.client_ca = path;
    let check = |change: Change, path: &Path, expected: &str| {
        let mut files = good.clone();
        change(&mut files, path.to_owned());
        let error = Tls::load(files, SystemTime::now()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\ndoes not say {expected:?}");
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(error.contains(&*name), "{error}\ndoes not name {name}");
        assert!(!key.lines().any(|line| !line.contains("-----") && error.contains(line)), "{error}");
    };
    assert!(Tls::load(good.clone(), SystemTime::now()).is_ok());
    let absent = authority.folder.path().join("absent.crt");
    for change in [certificate_of, key_of, authority_of] {
        check(change, &absent, "there is no such file");
        check(change, authority.folder.path(), "it cannot be read: is a directory");
        check(change, &written("long", &vec![b'a'; (1 << 20) + 1]), "longer than 1 MiB");
    }
    for change in [certificate_of, authority_of] {
        check(change, &written("empty.crt", b""), "it is empty");
        check(change, &written("good.der", certificate.der()), "convert it with `openssl x509 -inform der`");
        check(change, &written("text.crt", b"hello"), "-----BEGIN CERTIFICATE-----");
        check(change, &good.key, "it holds a private key and no certificate");
        check(change, &cut, "it ends before its -----END line");
        check(change, &weak, "has an RSA key of 1024 bits, and 2048 is the least");
    }
    check(key_of, &good.certificate, "it holds a certificate and no private key");
    check(key_of, &written("text.key", b"hello"), "-----BEGIN PRIVATE KEY-----");
    check(key_of, &encrypted, "the private key is encrypted");
    check(key_of, &no_base64, "no base64");
    check(key_of, &other.key, "the key does not belong to the certificate in");
    check(key_of, &other.key, "take the two that were made together");
    let chain = pem.clone() + &fs::read_to_string(&version_1).unwrap();
    let certificate = written("chain.crt", chain.as_bytes());
    assert!(
        Tls::load(TlsFiles { certificate, ..good.clone() }, SystemTime::now()).is_ok(),
        "an authority of version 1"
    );
    check(certificate_of, &version_1, "X.509 version 1, which has no extensions: make one of version 3");
    check(certificate_of, &expired.certificate, "expired on 2022-01-01: get a new one");
    check(certificate_of, &early.certificate, "is not valid before 2041-01-01");
    check(authority_of, &expired.certificate, "every certificate in it is expired or not yet valid");
}

/// A certificate of an RSA key that is too short, which ring would not make.
fn openssl_rsa_1024(folder: &Path) -> PathBuf {
    let path = folder.join("weak.crt");
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:1024", "-noenc", "-days", "30", "-subj", "/CN=weak", "-keyout"]);
    let output = openssl.arg(folder.join("weak.key")).arg("-out").arg(&path).output();
    let output = output.expect("openssl is not installed: run `apt-get install openssl`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

/// A certificate as one of X.509 version 1 says the same: without its version and its extensions. It is refused before
/// anybody looks at the signature, which does not fit any more.
fn of_version_1(certificate: &[u8], folder: &Path) -> PathBuf {
    /// The first value's tag, its content, and what follows.
    fn first(der: &[u8]) -> (u8, &[u8], &[u8]) {
        let (head, length) = match der[1] {
            0x82 => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
            0x81 => (3, usize::from(der[2])),
            short => (2, usize::from(short)),
        };
        (der[0], &der[head..head + length], &der[head + length..])
    }
    let sequence =
        |content: &[u8]| [&[0x30, 0x82], &u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat();
    let (_, whole, _) = first(certificate);
    let (_, mut fields, signature) = first(whole);
    let mut kept = Vec::new();
    while !fields.is_empty() {
        let (tag, _, rest) = first(fields);
        if !matches!(tag, 0xa0 | 0xa3) {
            kept.extend_from_slice(&fields[..fields.len() - rest.len()]);
        }
        fields = rest;
    }
    fs::write(folder.join("version-1.der"), sequence(&[&sequence(&kept), signature].concat())).unwrap();
    let path = folder.join("version-1.crt");
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["x509", "-inform", "der", "-in"]).arg(folder.join("version-1.der")).arg("-out").arg(&path);
    let output = openssl.output().expect("openssl is not installed: run `apt-get install openssl`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    path
}

#[test]
fn an_authoritys_certificate_shown_as_our_own_is_spoken_of() {
    let authority = Authority::new();
    let path = authority.folder.path().join("ca.key");
    fs::write(&path, authority.issuer.key().serialize_pem()).unwrap();
    let certificate = authority.folder.path().join("ca.crt");
    let files =
        TlsFiles { certificate: certificate.clone(), key: path, client_ca: certificate, profile: TlsProfile::Bcp195 };
    let said = Tls::load(files, SystemTime::now()).unwrap().warnings(SystemTime::now());
    assert!(said.len() == 1 && said[0].contains("ca.crt: the certificate is an authority's (CA:TRUE)"), "{said:?}");
}

#[test]
fn what_will_expire_is_said_before_it_does() {
    let authority = Authority::new();
    let (mut files, _) = authority.issue_files("preread", USUAL);
    let (expired, _) = authority.issue_files("old-authority", Wanted { years: (2020, 2022), ..USUAL });
    let check = |files: &TlsFiles, days_before: u64, expected: &[&str]| {
        let now = at(IN_2040 - days_before * 24 * 3600);
        let warnings = Tls::load(files.clone(), now).unwrap().warnings(now);
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        assert!(warnings.iter().zip(expected).all(|(said, part)| said.contains(part)), "{warnings:?}");
    };
    check(&files, 30, &[]);
    check(&files, 29, &["preread.crt: the certificate expires in 29 days"]);
    let pem = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let mixed = authority.folder.path().join("mixed.crt");
    fs::write(&mixed, pem(&expired.certificate) + &pem(&files.client_ca)).unwrap();
    files.client_ca = mixed;
    check(&files, 100, &["mixed.crt: 1 expired"]);
}
