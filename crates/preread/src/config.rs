//! The configuration: parsed once, strictly, into typed structs. Everyone gets the part they need.

mod rule;
#[cfg(test)]
mod tests;
mod values;

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use dimse::{
    AeTitle, CertificatePattern, Destination, DestinationTls, Peer, SopClassPattern, Tls, TlsFiles, TlsProfile,
};
use infer::Provider;
use ipnet::IpNet;
use serde::Deserialize;
use spool::ObjectKind;

use crate::{clock, route::Rule};
use rule::RuleSection;
pub(crate) use rule::{EvidenceSection, Mode, Priority, Settings, Unstated};
use values::{
    ae_title, bytes, certificates, durability, duration, networks, optional_bytes, optional_duration, optional_uid,
    sop_classes, tls_profile,
};

/// The shipped example, documented key by key.
pub(crate) const EXAMPLE: &str = include_str!("../../../deploy/preread.toml");

/// Where the daemon looks when `--config` does not say.
pub(crate) const DEFAULT_PATH: &str = "/etc/preread/preread.toml";

/// The whole configuration, checked.
pub(crate) struct Config {
    pub(crate) listen: Listen,
    pub(crate) tls: Option<TlsSection>,
    pub(crate) spool: SpoolSection,
    pub(crate) retention: RetentionSection,
    pub(crate) study: Study,
    pub(crate) runtime: Runtime,
    pub(crate) device: Device,
    pub(crate) admin: Option<Admin>,
    pub(crate) log: Log,
    pub(crate) peers: Vec<PeerSection>,
    pub(crate) models: Vec<ModelSection>,
    pub(crate) destinations: Vec<DestinationSection>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Listen,
    tls: Option<TlsSection>,
    spool: SpoolSection,
    #[serde(default)]
    retention: RetentionSection,
    #[serde(default)]
    study: Study,
    #[serde(default)]
    runtime: Runtime,
    #[serde(default)]
    device: Device,
    admin: Option<Admin>,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    peer: Vec<PeerSection>,
    #[serde(default)]
    model: Vec<ModelSection>,
    #[serde(default)]
    destination: Vec<DestinationSection>,
    #[serde(default)]
    rule: Vec<RuleSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    #[serde(deserialize_with = "ae_title")]
    pub(crate) ae_title: AeTitle,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) tls_address: Option<SocketAddr>,
    #[serde(default = "default_max_associations")]
    pub(crate) max_associations: usize,
    #[serde(default = "every_private_sop_class", deserialize_with = "sop_classes")]
    pub(crate) private_sop_classes: Vec<SopClassPattern>,
}

/// Our certificate and whose certificates we trust, for the TLS listener and for destinations.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
    #[serde(default, deserialize_with = "tls_profile")]
    profile: TlsProfile,
}

impl TlsSection {
    /// Reads the files. Errors name the file that cannot be used.
    pub(crate) fn load(&self) -> Result<Tls> {
        let files = TlsFiles {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
            profile: self.profile,
        };
        Tls::load(files, clock::system_time()).context("[tls]")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpoolSection {
    pub(crate) dir: PathBuf,
    #[serde(default, deserialize_with = "durability")]
    pub(crate) durability: spool::Durability,
    #[serde(default = "default_reserve", deserialize_with = "bytes")]
    pub(crate) reserve: u64,
    reserve_files: Option<u64>,
    #[serde(default = "default_quota", deserialize_with = "bytes")]
    quota: u64,
    #[serde(default = "default_journal", deserialize_with = "bytes")]
    journal: u64,
}

impl SpoolSection {
    pub(crate) fn options(&self) -> spool::Options {
        spool::Options {
            durability: self.durability,
            reserve_bytes: self.reserve,
            reserve_files: self.reserve_files,
            quota_bytes: self.quota,
            journal_bytes: self.journal,
        }
    }
}

/// How long the instances of ended studies stay; without a duration, for ever.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetentionSection {
    #[serde(deserialize_with = "optional_duration")]
    delivered: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    skipped: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    held: Option<Duration>,
}

impl RetentionSection {
    pub(crate) fn retention(&self) -> spool::Retention {
        spool::Retention { delivered: self.delivered, skipped: self.skipped, held: self.held }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Study {
    #[serde(deserialize_with = "duration")]
    pub(crate) quiet_period: Duration,
    #[serde(deserialize_with = "duration")]
    pub(crate) deadline: Duration,
}

impl Default for Study {
    fn default() -> Self {
        Self { quiet_period: Duration::from_secs(30), deadline: Duration::from_secs(600) }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Runtime {
    pub(crate) library: Option<PathBuf>,
    pub(crate) threads: usize,
    /// What runs the graphs of every model that does not say.
    pub(crate) provider: Provider,
    /// What loaded models may take in all, in bytes; without it, what is free counts.
    #[serde(deserialize_with = "optional_bytes")]
    pub(crate) memory: Option<u64>,
    /// Whether a model keeps what it read of a prompt up to its images, for the next one about the same.
    pub(crate) reuse_prompts: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Device {
    #[serde(deserialize_with = "optional_uid")]
    pub(crate) uid: Option<dataset::Uid>,
    pub(crate) serial_number: String,
    pub(crate) udi: Option<String>,
}

impl Default for Device {
    fn default() -> Self {
        Self { uid: None, serial_number: "1".to_owned(), udi: None }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Auto,
    Human,
    Json,
    Journald,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerSection {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "certificates")]
    certificate: Vec<CertificatePattern>,
    #[serde(default, deserialize_with = "networks")]
    address: Vec<IpNet>,
    #[serde(default = "any_title")]
    ae_title: String,
    #[serde(default = "default_max_associations_of_peer")]
    max_associations: usize,
    #[serde(default, deserialize_with = "optional_duration")]
    pub(crate) quiet_period: Option<Duration>,
    commitment_address: Option<String>,
}

impl PeerSection {
    /// Where results of storage commitment go when the association that asked for them is over: over TLS where the peer
    /// is known by its certificate. Who is called there is who asked.
    pub(crate) fn commitment_destination(&self, listen: &Listen, tls: Option<&Tls>) -> Option<Destination> {
        let tls = tls.filter(|_| !self.certificate.is_empty());
        Some(Destination {
            name: self.name.clone(),
            ae_title: listen.ae_title.clone(),
            calling_ae_title: listen.ae_title.clone(),
            address: self.commitment_address.clone()?,
            tls: tls.map(|tls| DestinationTls { tls: tls.clone(), server_name: None }),
            timeouts: dimse::Timeouts::default(),
        })
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer {
            name: self.name.clone(),
            certificates: self.certificate.clone(),
            addresses: self.address.clone(),
            ae_title: self.ae_title.clone(),
            max_associations: self.max_associations,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelSection {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    #[serde(default)]
    pub(crate) preload: bool,
    pub(crate) provider: Option<Provider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DestinationSection {
    pub(crate) name: String,
    #[serde(deserialize_with = "ae_title")]
    ae_title: AeTitle,
    address: String,
    #[serde(default)]
    tls: bool,
    tls_server_name: Option<String>,
    #[serde(default = "default_objects")]
    pub(crate) objects: Vec<ObjectName>,
}

impl DestinationSection {
    /// The destination as the network knows it; we call with the title we listen under.
    pub(crate) fn destination(&self, listen: &Listen, tls: Option<&Tls>) -> Destination {
        let tls = tls.filter(|_| self.tls);
        Destination {
            name: self.name.clone(),
            ae_title: self.ae_title.clone(),
            calling_ae_title: listen.ae_title.clone(),
            address: self.address.clone(),
            tls: tls.map(|tls| DestinationTls { tls: tls.clone(), server_name: self.tls_server_name.clone() }),
            timeouts: dimse::Timeouts::default(),
        }
    }
}

/// The objects that a destination may ask for.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ObjectName {
    /// The TID 2000 text report, as Basic Text SR: written always.
    TextSr,
    /// The same as Enhanced SR.
    EnhancedTextSr,
    /// The TID 1500 measurement report, as Comprehensive 3D SR.
    MeasurementsSr,
    /// The same as Comprehensive SR.
    ComprehensiveMeasurementsSr,
    /// Study-level results in TID 1501 groups.
    AiResultsSr,
    /// The report as a PDF.
    Pdf,
    /// What the model attended to, as a Secondary Capture image.
    Heatmap,
    /// A Key Object Selection.
    KeyObjects,
    /// The regions as a Grayscale Softcopy Presentation State.
    PresentationState,
}

impl ObjectName {
    /// Every object in its default class.
    pub(crate) const ONE_OF_EACH: [Self; 7] = [
        Self::TextSr,
        Self::MeasurementsSr,
        Self::AiResultsSr,
        Self::Pdf,
        Self::Heatmap,
        Self::KeyObjects,
        Self::PresentationState,
    ];

    /// The name in the configuration, which is also that of the file that `preread read` writes.
    pub(crate) fn as_str(self) -> &'static str {
        ObjectKind::from(self).as_str()
    }
}

impl From<ObjectName> for ObjectKind {
    fn from(name: ObjectName) -> Self {
        match name {
            ObjectName::TextSr => Self::TextSr,
            ObjectName::EnhancedTextSr => Self::EnhancedTextSr,
            ObjectName::MeasurementsSr => Self::MeasurementsSr,
            ObjectName::ComprehensiveMeasurementsSr => Self::ComprehensiveMeasurementsSr,
            ObjectName::AiResultsSr => Self::AiResultsSr,
            ObjectName::Pdf => Self::Pdf,
            ObjectName::Heatmap => Self::Heatmap,
            ObjectName::KeyObjects => Self::KeyObjects,
            ObjectName::PresentationState => Self::PresentationState,
        }
    }
}

impl Config {
    /// Reads a file and the environment over it. Errors name the file, and the line where there is one.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read the configuration {}; `preread config example` prints one to start from",
                path.display()
            )
        })?;
        Self::parse(&text).with_context(|| format!("configuration {}", path.display()))
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        // The file alone first: only this parser knows the line of a mistake.
        toml::from_str::<File>(text)?;
        let environment = config::Environment::with_prefix("PREREAD").prefix_separator("__").separator("__");
        let file: File = config::Config::builder()
            .add_source(config::File::from_str(text, config::FileFormat::Toml))
            .add_source(environment.try_parsing(true))
            .build()?
            .try_deserialize()
            .context("with the PREREAD__ variables of the environment over it")?;
        Self::check(file)
    }

    fn check(file: File) -> Result<Self> {
        unique("peer", file.peer.iter().map(|peer| peer.name.as_str()))?;
        unique("model", file.model.iter().map(|model| model.name.as_str()))?;
        unique("destination", file.destination.iter().map(|destination| destination.name.as_str()))?;
        unique("rule", file.rule.iter().map(|rule| rule.name.as_str()))?;
        check_network(&file)?;
        if let Some(admin) = &file.admin
            && !admin.address.ip().is_loopback()
        {
            bail!(
                "admin.address {} is not loopback: there is no login yet, so it must be 127.0.0.1 or [::1]",
                admin.address
            );
        }
        let mut rules = Vec::with_capacity(file.rule.len());
        for rule in file.rule {
            rules.push(rule.rule(&file.model, &file.destination)?);
        }
        Ok(Self {
            listen: file.listen,
            tls: file.tls,
            spool: file.spool,
            retention: file.retention,
            study: file.study,
            runtime: file.runtime,
            device: file.device,
            admin: file.admin,
            log: file.log,
            peers: file.peer,
            models: file.model,
            destinations: file.destination,
            rules,
        })
    }
}

/// Whether somebody can reach us, and each peer and destination be known or reached.
fn check_network(file: &File) -> Result<()> {
    let Listen { address, tls_address, .. } = &file.listen;
    if address.is_none() && tls_address.is_none() {
        bail!("[listen] has neither address nor tls_address: name at least one, such as \"0.0.0.0:11112\"");
    }
    if tls_address.is_some() && file.tls.is_none() {
        bail!("listen.tls_address needs a [tls] section with certificate, key and client_ca");
    }
    for peer in &file.peer {
        let name = &peer.name;
        match (peer.certificate.is_empty(), peer.address.is_empty()) {
            (true, true) => bail!("peer \"{name}\" has neither certificate nor address: nobody could be known as it"),
            (false, _) if tls_address.is_none() => {
                bail!("peer \"{name}\" is known by its certificate, and without listen.tls_address nobody shows one")
            }
            _ => {}
        }
        if let Some(address) = &peer.commitment_address
            && !address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        {
            bail!("peer \"{name}\" has commitment_address = {address:?}; write host and port, as in \"10.1.2.4:104\"");
        }
        if peer.max_associations == 0 {
            bail!("peer \"{name}\" has max_associations = 0: it could never call; take the [[peer]] away instead");
        }
    }
    for DestinationSection { name, tls, tls_server_name, objects, .. } in &file.destination {
        let has = |object| objects.contains(&object);
        if has(ObjectName::AiResultsSr) && !has(ObjectName::TextSr) && !has(ObjectName::EnhancedTextSr) {
            bail!(
                "destination \"{name}\" has \"ai-results-sr\" in objects and no text report: some viewers show it blank, so \
                 add \"text-sr\" or \"enhanced-text-sr\""
            );
        }
        if *tls && file.tls.is_none() {
            bail!("destination \"{name}\" has tls = true, which needs a [tls] section with our certificate");
        }
        if !tls && tls_server_name.is_some() {
            bail!("destination \"{name}\" has tls_server_name without tls = true");
        }
    }
    Ok(())
}

fn unique<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            bail!("two [[{kind}]] are named \"{name}\"; each needs a name of its own");
        }
    }
    Ok(())
}

fn default_max_associations() -> usize {
    64
}

fn every_private_sop_class() -> Vec<SopClassPattern> {
    vec![SopClassPattern::any()]
}

fn default_max_associations_of_peer() -> usize {
    Peer::MAX_ASSOCIATIONS
}

fn default_reserve() -> u64 {
    1 << 30
}

fn default_quota() -> u64 {
    spool::Options::default().quota_bytes
}

fn default_journal() -> u64 {
    spool::Options::default().journal_bytes
}

fn any_title() -> String {
    "*".to_owned()
}

fn default_objects() -> Vec<ObjectName> {
    vec![ObjectName::TextSr]
}
