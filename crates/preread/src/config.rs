//! The configuration: parsed once, strictly, into typed structs. Everyone gets the part they need.

use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use dimse::{AeTitle, Destination, Peer};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::route::Rule;

/// The shipped example, documented key by key.
pub(crate) const EXAMPLE: &str = include_str!("../../../deploy/preread.toml");

/// Where the daemon looks when `--config` does not say.
pub(crate) const DEFAULT_PATH: &str = "/etc/preread/preread.toml";

/// The whole configuration, checked.
pub(crate) struct Config {
    pub(crate) listen: Listen,
    pub(crate) spool: SpoolSection,
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
    spool: SpoolSection,
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
    pub(crate) address: SocketAddr,
    #[serde(default = "default_max_associations")]
    pub(crate) max_associations: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpoolSection {
    pub(crate) dir: PathBuf,
    #[serde(default, deserialize_with = "durability")]
    pub(crate) durability: spool::Durability,
    #[serde(default = "default_reserve", deserialize_with = "bytes")]
    pub(crate) reserve: u64,
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
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Device {
    #[serde(deserialize_with = "optional_uid")]
    pub(crate) uid: Option<dataset::Uid>,
    pub(crate) serial_number: String,
}

impl Default for Device {
    fn default() -> Self {
        Self { uid: None, serial_number: "1".to_owned() }
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
    #[serde(deserialize_with = "networks")]
    address: Vec<IpNet>,
    #[serde(default = "any_title")]
    ae_title: String,
    #[serde(default, deserialize_with = "optional_duration")]
    pub(crate) quiet_period: Option<Duration>,
}

impl PeerSection {
    pub(crate) fn peer(&self) -> Peer {
        Peer {
            name: self.name.clone(),
            certificates: Vec::new(),
            addresses: self.address.clone(),
            ae_title: self.ae_title.clone(),
            max_associations: Peer::MAX_ASSOCIATIONS,
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
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DestinationSection {
    pub(crate) name: String,
    #[serde(deserialize_with = "ae_title")]
    ae_title: AeTitle,
    address: String,
    #[serde(default = "default_objects")]
    pub(crate) objects: Vec<ObjectName>,
}

impl DestinationSection {
    /// The destination as the network knows it; we call with the title we listen under.
    pub(crate) fn destination(&self, listen: &Listen) -> Destination {
        Destination {
            name: self.name.clone(),
            ae_title: self.ae_title.clone(),
            calling_ae_title: listen.ae_title.clone(),
            address: self.address.clone(),
            tls: None,
            timeouts: dimse::Timeouts::default(),
        }
    }
}

/// The objects that a destination may ask for.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ObjectName {
    /// The TID 2000 text report.
    TextSr,
    MeasurementsSr,
    Pdf,
    Heatmap,
}

impl ObjectName {
    /// Whether this version writes it. What it does not write is said at start, and the rest is sent.
    pub(crate) fn is_written(self) -> bool {
        self == Self::TextSr
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSection {
    name: String,
    #[serde(default = "always")]
    when: String,
    model: String,
    #[serde(default)]
    destinations: Vec<String>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    priority: Priority,
}

/// What becomes of a report.
#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// It is sent as a draft.
    #[default]
    Draft,
    /// It is kept, and nothing is sent.
    Shadow,
}

/// Which study is read first.
#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Priority {
    #[default]
    Routine,
    /// Overtakes what is routine.
    Stat,
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
            if !file.model.iter().any(|model| model.name == rule.model) {
                bail!(
                    "rule \"{}\" names the model \"{}\", and there is no [[model]] of that name",
                    rule.name,
                    rule.model
                );
            }
            for name in &rule.destinations {
                if !file.destination.iter().any(|destination| &destination.name == name) {
                    bail!(
                        "rule \"{}\" names the destination \"{name}\", and there is no [[destination]] of that name",
                        rule.name
                    );
                }
            }
            rules.push(Rule::new(rule.name, &rule.when, rule.model, rule.destinations, rule.mode, rule.priority)?);
        }
        Ok(Self {
            listen: file.listen,
            spool: file.spool,
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

fn default_reserve() -> u64 {
    1 << 30
}

fn any_title() -> String {
    "*".to_owned()
}

fn always() -> String {
    "true".to_owned()
}

fn default_objects() -> Vec<ObjectName> {
    vec![ObjectName::TextSr]
}

fn ae_title<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AeTitle, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn optional_uid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<dataset::Uid>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| D::Error::custom(format!("{text:?}: {error}; write \"30s\" or \"5m\"")))
}

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Addresses and networks; a bare address stands for itself.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let parse = |text: String| {
        text.parse::<IpNet>().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into())).map_err(|_| {
            D::Error::custom(format!("{text:?} is neither an address nor a network such as \"10.1.2.0/24\""))
        })
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().map(parse).collect()
}

fn durability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<spool::Durability, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        // Every instance on its own is more than an association as a whole asks for.
        "instance" | "association" => Ok(spool::Durability::Instance),
        "none" => Ok(spool::Durability::None),
        other => Err(D::Error::custom(format!(
            "durability {other:?} is not known; use \"instance\", \"association\" or \"none\""
        ))),
    }
}

/// A number of bytes, or one with a unit: `"1GiB"`.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    let text = match Written::deserialize(deserializer)? {
        Written::Number(number) => return Ok(number),
        Written::Text(text) => text,
    };
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match text[digits.len()..].trim() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        "TiB" => Some(1 << 40),
        _ => None,
    };
    let number = digits.trim().parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    number.ok_or_else(|| D::Error::custom(format!("{text:?} is no size; write bytes, or \"512MiB\", \"1GiB\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        format!("{:#}", Config::parse(text).err().expect("it is refused"))
    }

    const LEAST: &str = "[listen]\nae_title = \"PREREAD\"\naddress = \"127.0.0.1:11112\"\n[spool]\ndir = \"spool\"\n";

    #[test]
    fn the_shipped_example_is_valid() {
        let config = Config::parse(EXAMPLE).unwrap();
        assert_eq!(config.rules.len(), 1);
        assert_eq!(config.study.quiet_period, Duration::from_secs(30));
    }

    #[test]
    fn little_is_enough() {
        let config = Config::parse(LEAST).unwrap();
        assert_eq!(config.spool.reserve, 1 << 30);
        assert!(config.peers.is_empty());
    }

    #[test]
    fn a_mistake_is_named_with_its_line_or_its_name() {
        let check = |addition: &str, expected: &[&str]| {
            let refusal = refusal(&format!("{LEAST}{addition}"));
            for part in expected {
                assert!(refusal.contains(part), "{refusal}\ndoes not say {part:?}");
            }
        };
        check("durabilty = \"none\"\n", &["line 6", "durabilty"]);
        check("durability = \"maybe\"\n", &["line 6", "maybe"]);
        check("reserve = \"1 parsec\"\n", &["parsec"]);
        check("[study]\nquiet_period = \"soon\"\n", &["line 7", "soon"]);
        check("[[rule]]\nname = \"a\"\nmodel = \"m\"\n", &["rule \"a\"", "model \"m\""]);
        check(
            "[[model]]\nname = \"m\"\npath = \"x\"\n[[rule]]\nname = \"a\"\nwhen = \"modality = \"\nmodel = \"m\"\n",
            &["rule \"a\"", "when"],
        );
        check(
            "[[model]]\nname = \"m\"\npath = \"x\"\n[[rule]]\nname = \"a\"\nwhen = \"modallity == 'CR'\"\nmodel = \"m\"\n",
            &["rule \"a\"", "modallity"],
        );
        check("[admin]\naddress = \"0.0.0.0:8042\"\n", &["loopback"]);
    }
}
