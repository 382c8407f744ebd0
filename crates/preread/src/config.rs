//! The configuration: parsed once, strictly, into typed structs. Everyone gets the part they need.

mod check;
mod lines;
mod parse;
mod reach;
mod rule;
#[cfg(test)]
mod tests;
mod values;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use dimse::{
    AeTitle, CertificatePattern, Destination, DestinationTls, Peer, SopClassPattern, Tls, TlsFiles, TlsProfile,
};
use infer::Provider;
use ipnet::IpNet;
use serde::Deserialize;
use spool::ObjectKind;

use crate::{clock, route::Rule};
use check::Findings;
use lines::Lines;
pub(crate) use reach::{wider, wider_than_second};
use rule::RuleSection;
pub(crate) use rule::{EvidenceSection, Mode, Priority, Settings, Unstated};
use values::{
    ae_title, all_roles, bytes, certificates, durability, duration, networks, no_web, optional_bytes,
    optional_duration, optional_uid, sop_classes, tls_profile,
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
    /// What works and is probably not meant.
    pub(crate) warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Whatever is read, it is refused unless it is what a daemon by itself does.
    #[serde(default, deserialize_with = "all_roles", rename = "roles")]
    _roles: (),
    #[serde(default, deserialize_with = "no_web", rename = "web")]
    _web: (),
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
    /// Its files by their keys.
    pub(crate) fn files(&self) -> [(&'static str, &Path); 3] {
        [("certificate", &self.certificate), ("key", &self.key), ("client_ca", &self.client_ca)]
    }

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
    pub(crate) fn options(&self, patience: spool::Patience) -> spool::Options {
        spool::Options {
            durability: self.durability,
            reserve_bytes: self.reserve,
            reserve_files: self.reserve_files,
            quota_bytes: self.quota,
            journal_bytes: self.journal,
            patience,
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
    /// How long an association that stays open keeps a study waiting; without it, four quiet periods.
    #[serde(deserialize_with = "optional_duration")]
    open_association: Option<Duration>,
}

impl Default for Study {
    fn default() -> Self {
        Self { quiet_period: Duration::from_secs(30), deadline: Duration::from_secs(600), open_association: None }
    }
}

impl Study {
    pub(crate) fn patience(&self) -> spool::Patience {
        spool::Patience { always: self.open_association }
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
        let text = crate::text_file::read(path).with_context(|| {
            format!(
                "cannot read the configuration {}; `preread config example` prints one to start from",
                path.display()
            )
        })?;
        Self::parse(&text).with_context(|| format!("configuration {}", path.display()))
    }

    /// Parses a text and the environment over it. The error has everything that is wrong, each with its line where there is
    /// one.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let parse::Parsed { file, mut errors, damaged } = parse::parse(text);
        let lines = Lines::of(text);
        let mut found = Findings::new(&lines, &damaged);
        let mut config = None;
        if let Some(file) = file {
            // Only a file that can be read is overridden: the first parser alone knows lines.
            let file = if errors.is_empty() { with_environment(text) } else { Ok(file) };
            match file {
                Ok(file) => config = Self::check(file, &mut found),
                Err(error) => errors.push(error),
            }
        }
        errors.append(&mut found.errors);
        match (config, errors.as_slice()) {
            (Some(config), []) => Ok(Self { warnings: found.warnings, ..config }),
            (_, [only]) => Err(anyhow!("{only}")),
            (_, all) => Err(anyhow!("{} mistakes\n\n{}", all.len(), all.join("\n\n"))),
        }
    }

    /// Says what is wrong with a file; nothing when a rule of it cannot be made.
    fn check(file: File, found: &mut Findings<'_>) -> Option<Self> {
        check::check(&file, found);
        let mut rules = Vec::with_capacity(file.rule.len());
        let due = file.rule.len();
        for (index, rule) in file.rule.into_iter().enumerate() {
            rules.extend(rule.rule(index, &file.model, &file.destination, found));
        }
        let sources: Vec<&str> = file.peer.iter().map(|peer| peer.name.as_str()).collect();
        for (index, text) in reach::shadowed(&rules, &sources) {
            found.warning(("rule", index, "name"), text);
        }
        (rules.len() == due).then_some(Self {
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
            warnings: Vec::new(),
        })
    }
}

/// The file with the environment over it, or what is wrong with that.
fn with_environment(text: &str) -> Result<File, String> {
    let environment = config::Environment::with_prefix("PREREAD").prefix_separator("__").separator("__");
    let built = config::Config::builder()
        .add_source(config::File::from_str(text, config::FileFormat::Toml))
        .add_source(environment.try_parsing(true))
        .build();
    let file = built.and_then(config::Config::try_deserialize);
    file.map_err(|error| {
        format!("with the PREREAD__ variables of the environment over it: {}", parse::words(&error.to_string()))
    })
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
