//! DICOM over TLS (PS3.15 annex B): which versions, suites and certificates, from files that can be read again while
//! associations go on.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};

use crate::{
    Error,
    certificate::{Certificate, OF_AN_AUTHORITY, OF_OLD_VERSION},
};

/// A secure transport connection profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsProfile {
    /// BCP 195 (PS3.15 B.12; RFC 9325): TLS 1.2 with ephemeral elliptic curve key exchange and authenticated encryption
    /// only, and TLS 1.3. Nothing older is answered. RSA keys have 2048 bits at least, and nothing is signed with SHA-1.
    #[default]
    Bcp195,
    /// The algorithms that the modified profile allows (PS3.15 B.13), and no others: as [`Self::Bcp195`], without X25519,
    /// whose keys are a little short of 256 bits, and with certificates of RSA keys from 2048 bits or keys of the curves
    /// P-256 and P-384 only. The AES-CCM and Camellia suites, which the profile allows too and asks of a server, are not
    /// offered.
    Bcp195Restricted,
}

/// Where the certificates are, all in PEM form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our own certificate, and the intermediate ones up to the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that issued the certificates of our peers, both those that call us and those that we call.
    pub client_ca: PathBuf,
    /// What is allowed.
    pub profile: TlsProfile,
}

/// The application protocol that a client may ask for (RFC 7301): whoever asks for others only is no DICOM client.
const ALPN: &[u8] = b"dicom";
/// Certificates that expire within this time are spoken of.
const SOON_DAYS: u64 = 30;
/// No certificate file is longer, whatever the path leads to.
const LONGEST_FILE: u64 = 1 << 20;

/// Our certificate and whom we trust, ready to use. Its clones share what is loaded, so that one reload serves all.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    files: TlsFiles,
    loaded: RwLock<Arc<Loaded>>,
}

struct Loaded {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    own: Certificate,
    /// Authorities that are left out.
    expired_authorities: usize,
}

impl Tls {
    /// Reads and checks the files as of `now`. Errors with [`Error::Certificate`]: a file that cannot be read or holds
    /// something else, a key that does not belong to the certificate, a certificate that is expired, not yet valid or too
    /// weak for the profile.
    pub fn load(files: TlsFiles, now: SystemTime) -> Result<Self, Error> {
        let loaded = RwLock::new(Arc::new(Loaded::from_files(&files, now)?));
        Ok(Self(Arc::new(Shared { files, loaded })))
    }

    /// Reads the files again, for connections to come: those that are open go on with what they began with. On an error,
    /// the same as those of [`Self::load`], everything stays as it was.
    pub fn reload(&self, now: SystemTime) -> Result<(), Error> {
        let loaded = Arc::new(Loaded::from_files(&self.0.files, now)?);
        *self.0.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// What a person should look at, though it works today: a certificate that expires within 30 days of `now` or is an
    /// authority's, authorities that have expired.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let (loaded, files) = (self.loaded(), &self.0.files);
        let mut warnings = Vec::new();
        let days = loaded.own.days_left(now);
        if days < SOON_DAYS {
            let file = files.certificate.display();
            warnings.push(format!("{file}: the certificate expires in {days} days: renew it and reload"));
        }
        if loaded.own.is_authority() == Some(true) {
            let file = files.certificate.display();
            warnings.push(format!(
                "{file}: the certificate {OF_AN_AUTHORITY}: some peers will not take it; make one that it signs, with \
                 basicConstraints CA:FALSE (see docs/TLS.md)"
            ));
        }
        if loaded.expired_authorities > 0 {
            let (file, count) = (files.client_ca.display(), loaded.expired_authorities);
            warnings.push(format!("{file}: {count} expired certificates of authorities are left out: remove them"));
        }
        warnings
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.0.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded().server)
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.loaded().client)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.0.files).finish()
    }
}

impl Loaded {
    fn from_files(files: &TlsFiles, now: SystemTime) -> Result<Self, Error> {
        let chain = certificates(&files.certificate)?;
        let own = check_own(&chain, files, now)?;
        let key = private_key(&files.key)?;
        let (roots, expired_authorities) = authorities(files, now)?;
        let provider = Arc::new(provider(files.profile));
        let versions = [&TLS13, &TLS12];
        let unusable = |error: rustls::Error| mismatch(files, &error);
        let broken = |error: rustls::server::VerifierBuilderError| wrong(&files.client_ca, error);

        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let clients = Strict { verifier: clients.build().map_err(broken)?, profile: files.profile };
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::new(clients))
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unusable)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.ignore_client_order = true;
        // An association lasts. Nothing is kept of a connection that ended, and each shows its certificate again.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        let servers = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let servers = Strict { verifier: servers.build().map_err(broken)?, profile: files.profile };
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(unusable)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(servers))
            .with_client_auth_cert(chain, key)
            .map_err(unusable)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        Ok(Self { server: Arc::new(server), client: Arc::new(client), own, expired_authorities })
    }
}

/// What the profile allows of what there is. rustls has no version older than 1.2, no suite without ephemeral key exchange
/// and authenticated encryption, and no signature with SHA-1 or an RSA key shorter than 2048 bits.
fn provider(profile: TlsProfile) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if profile == TlsProfile::Bcp195Restricted {
        provider.kx_groups = vec![ring::kx_group::SECP256R1, ring::kx_group::SECP384R1];
    }
    provider
}

/// The first certificate of the chain, if it can be shown to anybody.
fn check_own(chain: &[CertificateDer<'_>], files: &TlsFiles, now: SystemTime) -> Result<Certificate, Error> {
    let mut own = None;
    for (at, der) in chain.iter().enumerate() {
        let which = if at == 0 { "the certificate".to_owned() } else { format!("certificate {}", at + 1) };
        let certificate = Certificate::parse(der)
            .ok_or_else(|| wrong(&files.certificate, format_args!("{which} in it is no X.509 certificate")))?;
        // An authority's behind it may be of any version.
        if at == 0
            && let Some(problem) = certificate.form_problem()
        {
            return Err(wrong(
                &files.certificate,
                format_args!(
                    "{which} {problem}: make one of version 3, which openssl does where it is given extensions (see \
                     docs/TLS.md)"
                ),
            ));
        }
        if let Some(problem) = certificate.period_problem(now) {
            return Err(wrong(&files.certificate, format_args!("{which} {problem}: get a new one")));
        }
        if let Some(problem) = certificate.key_problem(files.profile) {
            return Err(wrong(&files.certificate, format_args!("{which} {problem}: get a new one")));
        }
        own.get_or_insert(certificate);
    }
    own.ok_or_else(|| no_certificate(&files.certificate, &[]))
}

fn authorities(files: &TlsFiles, now: SystemTime) -> Result<(Arc<RootCertStore>, usize), Error> {
    let file = &files.client_ca;
    let (mut roots, mut expired) = (RootCertStore::empty(), 0);
    for (at, der) in certificates(file)?.into_iter().enumerate() {
        let certificate = Certificate::parse(&der)
            .ok_or_else(|| wrong(file, format_args!("certificate {} in it is no X.509 certificate", at + 1)))?;
        // The verifier looks at the periods of all certificates except an authority's.
        if certificate.period_problem(now).is_some() {
            expired += 1;
            continue;
        }
        if let Some(problem) = certificate.key_problem(files.profile) {
            return Err(wrong(file, format_args!("certificate {} {problem}: remove it", at + 1)));
        }
        roots.add(der).map_err(|error| {
            wrong(
                file,
                format_args!("certificate {} in it cannot be trusted: {error}: get the authority's own", at + 1),
            )
        })?;
    }
    if roots.is_empty() {
        return Err(wrong(
            file,
            "every certificate in it is expired or not yet valid: get the authority's present one",
        ));
    }
    Ok((Arc::new(roots), expired))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read(file)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(file, format_args!("it is damaged: {}; copy it again", plain(&error))))?;
    if found.is_empty() { Err(no_certificate(file, &bytes)) } else { Ok(found) }
}

fn no_certificate(file: &Path, bytes: &[u8]) -> Error {
    let held = if bytes.is_empty() {
        "it is empty"
    } else if bytes[0] == 0x30 {
        "it is in DER form: convert it with `openssl x509 -inform der`"
    } else if contains(bytes, "PRIVATE KEY-----") {
        "it holds a private key and no certificate"
    } else {
        "it holds no certificate: PEM is wanted, which begins with -----BEGIN CERTIFICATE-----"
    };
    wrong(file, held)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let bytes = read(file)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        if contains(&bytes, "ENCRYPTED") {
            return wrong(file, "the private key is encrypted, and nobody is there to type its password: decrypt it with `openssl pkey`, readable for preread only");
        }
        match error {
            pem::Error::NoItemsFound if contains(&bytes, "BEGIN CERTIFICATE") => {
                wrong(file, "it holds a certificate and no private key")
            }
            pem::Error::NoItemsFound => {
                wrong(file, "it holds no private key: PEM is wanted, which begins with -----BEGIN PRIVATE KEY-----")
            }
            error => wrong(file, format_args!("it is damaged: {}; copy it again", plain(&error))),
        }
    })
}

/// What is wrong with a PEM file, without a line of it: it may be a line of a key.
fn plain(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "it ends before its -----END line",
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "what stands between the -----BEGIN and -----END lines is no base64",
        _ => "it cannot be read",
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(LONGEST_FILE + 1).read_to_end(&mut bytes));
    match read.map_err(|error| error.kind()) {
        Ok(_) if bytes.len() as u64 > LONGEST_FILE => {
            Err(wrong(file, "it is longer than 1 MiB, so it is another file"))
        }
        Ok(_) => Ok(bytes),
        Err(io::ErrorKind::NotFound) => Err(wrong(file, "there is no such file")),
        Err(io::ErrorKind::PermissionDenied) => Err(wrong(
            file,
            "it may not be read: let the user that preread runs as read it, for instance with `chgrp preread` and `chmod 640`",
        )),
        Err(kind) => Err(wrong(file, format_args!("it cannot be read: {kind}"))),
    }
}

fn wrong(file: &Path, problem: impl fmt::Display) -> Error {
    Error::Certificate { file: file.to_owned(), problem: problem.to_string() }
}

/// What stands against using a certificate with a key.
fn mismatch(files: &TlsFiles, error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            let certificate = files.certificate.display();
            wrong(
                &files.key,
                format_args!(
                    "the key does not belong to the certificate in {certificate}: take the two that were made together, or \
                     make both anew"
                ),
            )
        }
        other => wrong(&files.key, format_args!("the key cannot be used: {other}")),
    }
}

/// Verifies a peer's certificate as [`WebPkiClientVerifier`] and [`WebPkiServerVerifier`] do, and that the profile allows
/// it.
#[derive(Debug)]
struct Strict<V: ?Sized> {
    profile: TlsProfile,
    verifier: Arc<V>,
}

impl<V: ?Sized> Strict<V> {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        if self.profile == TlsProfile::Bcp195 {
            return Ok(());
        }
        for der in std::iter::once(end_entity).chain(intermediates) {
            let certificate = Certificate::parse(der).ok_or(CertificateError::BadEncoding)?;
            if let Some(problem) = certificate.key_problem(self.profile) {
                return Err(CertificateError::Other(OtherError(Arc::new(NotAllowed(problem)))).into());
            }
        }
        Ok(())
    }

    fn allowed(&self, schemes: Vec<SignatureScheme>) -> Vec<SignatureScheme> {
        let allowed = |scheme: &SignatureScheme| {
            self.profile == TlsProfile::Bcp195 || !matches!(scheme, SignatureScheme::ED25519 | SignatureScheme::ED448)
        };
        schemes.into_iter().filter(allowed).collect()
    }
}

/// Why the profile does not allow a certificate that is valid otherwise.
#[derive(Debug, thiserror::Error)]
#[error("it {0}")]
struct NotAllowed(String);

impl ClientCertVerifier for Strict<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        self.check(end_entity, intermediates).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.allowed(self.verifier.supported_verify_schemes())
    }
}

impl ServerCertVerifier for Strict<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.check(end_entity, intermediates).map(|()| verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.allowed(self.verifier.supported_verify_schemes())
    }
}

/// What went wrong on a connection, in words for the person who looks after it.
pub(crate) fn problem(error: &io::Error) -> String {
    use rustls::{AlertDescription as Alert, Error as Tls, PeerIncompatible as Incompatible};
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "the peer closed the connection in the middle of the TLS handshake".to_owned()
            }
            io::ErrorKind::TimedOut => "the TLS handshake was not over in time".to_owned(),
            _ => error.to_string(),
        };
    };
    let said = match tls {
        Tls::NoCertificatesPresented => "the peer presents no certificate",
        Tls::InvalidCertificate(invalid) => return certificate_problem(invalid),
        Tls::PeerIncompatible(
            Incompatible::Tls12NotOffered
            | Incompatible::Tls12NotOfferedOrEnabled
            | Incompatible::ServerDoesNotSupportTls12Or13
            | Incompatible::SupportedVersionsExtensionRequired
            // Which every client of version 1.2 sends, and no older one.
            | Incompatible::SignatureAlgorithmsExtensionRequired
            | Incompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "the peer knows no TLS from version 1.2 on",
        Tls::PeerIncompatible(Incompatible::NoCipherSuitesInCommon | Incompatible::NoKxGroupsInCommon) => {
            "the peer knows none of the cipher suites and key exchanges that the profile allows"
        }
        Tls::NoApplicationProtocol => "the peer wants to speak something other than DICOM",
        Tls::InvalidMessage(_) => "what came is no TLS",
        Tls::AlertReceived(Alert::ProtocolVersion) => "the peer wants another version of TLS",
        Tls::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity) => {
            "the peer found no cipher suite or certificate that it takes"
        }
        Tls::AlertReceived(Alert::CertificateRequired) => "the peer wants a certificate of ours",
        Tls::AlertReceived(Alert::UnknownCA) => "the peer does not trust the authority that issued our certificate",
        Tls::AlertReceived(Alert::CertificateExpired) => "our certificate is out of its period, or the peer's clock is wrong",
        Tls::AlertReceived(
            Alert::BadCertificate
            | Alert::DecryptError
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::AccessDenied,
        ) => "the peer does not take our certificate",
        other => return format!("TLS: {other}"),
    };
    said.to_owned()
}

fn certificate_problem(error: &CertificateError) -> String {
    let what = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet (or this machine's clock is wrong)"
        }
        CertificateError::UnknownIssuer => "was not issued by an authority that is trusted here",
        CertificateError::BadSignature => "is signed by another authority of the name of one that is trusted here",
        CertificateError::BadEncoding => "is no X.509 certificate",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for this purpose (extended key usage)"
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented = presented.join(", ");
            return format!("the peer's certificate is not for {}, but for: {presented}", expected.to_str());
        }
        CertificateError::Other(OtherError(problem)) => match problem.to_string().as_str() {
            // What webpki says where rustls has no word of its own.
            "CaUsedAsEndEntity" => {
                return format!(
                    "the peer's certificate {OF_AN_AUTHORITY}: the peer needs one of its own, signed by that authority, with \
                     basicConstraints CA:FALSE (see docs/TLS.md)"
                );
            }
            "UnsupportedCertVersion" => {
                return format!(
                    "the peer's certificate {OF_OLD_VERSION}: the peer needs one of version 3, which openssl makes where it \
                     is given extensions (see docs/TLS.md)"
                );
            }
            problem => return format!("the peer's certificate is not allowed: {problem}"),
        },
        other => return format!("the peer's certificate is not accepted: {other}"),
    };
    format!("the peer's certificate {what}")
}
