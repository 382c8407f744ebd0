//! How values are written in the configuration: durations, sizes, networks, titles.

use std::time::Duration;

use dimse::{AeTitle, CertificatePattern, SopClassPattern, TlsProfile};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _, de::IgnoredAny};

use super::Mode;

pub(super) fn ae_title<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AeTitle, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

pub(super) fn sop_classes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SopClassPattern>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")))).collect()
}

pub(super) fn optional_uid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<dataset::Uid>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| D::Error::custom(format!("{text:?}: {error}; write \"30s\" or \"5m\"")))
}

pub(super) fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// Addresses and networks; a bare address stands for itself.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let parse = |text: String| {
        text.parse::<IpNet>().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into())).map_err(|_| {
            D::Error::custom(format!("{text:?} is neither an address nor a network such as \"10.1.2.0/24\""))
        })
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().map(parse).collect()
}

pub(super) fn certificates<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<CertificatePattern>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.into_iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

pub(super) fn tls_profile<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TlsProfile, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "bcp195" => Ok(TlsProfile::Bcp195),
        "bcp195-restricted" => Ok(TlsProfile::Bcp195Restricted),
        other => Err(D::Error::custom(format!(
            "the profile {other:?} is not known; use \"bcp195\" or \"bcp195-restricted\""
        ))),
    }
}

pub(super) fn durability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<spool::Durability, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "instance" => Ok(spool::Durability::Instance),
        "association" => Ok(spool::Durability::Association),
        "none" => Ok(spool::Durability::None),
        "machine" => Err(D::Error::custom(
            "durability \"machine\" is for several machines, and preread runs on one so far; use \"instance\"",
        )),
        other => Err(D::Error::custom(format!(
            "durability {other:?} is not known; use \"instance\", \"association\" or \"none\""
        ))),
    }
}

pub(super) fn optional_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    bytes(deserializer).map(Some)
}

/// A number of bytes, or one with a unit: `"1GiB"`.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
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
        "KB" | "MB" | "GB" | "TB" | "K" | "M" | "G" | "T" => {
            return Err(D::Error::custom(format!(
                "{text:?} is not clear, by 1000 or by 1024; write it with KiB, MiB, GiB or TiB, such as \"1GiB\""
            )));
        }
        _ => None,
    };
    let number = digits.trim().parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    number
        .ok_or_else(|| D::Error::custom(format!("{text:?} is no size; write bytes, or \"512MiB\", \"1GiB\", \"2TiB\"")))
}

/// What becomes of a report.
pub(super) fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "draft" => Ok(Mode::Draft),
        "shadow" => Ok(Mode::Shadow),
        "off" => Ok(Mode::Off),
        "withheld" => Err(D::Error::custom(
            "mode \"withheld\" (sent when the radiologist has signed) is not built yet; use \"shadow\" to read and send nothing",
        )),
        other => {
            Err(D::Error::custom(format!("the mode {other:?} is not known; use \"draft\", \"shadow\" or \"off\"")))
        }
    }
}

/// All roles, which is what one machine does; fewer come when there can be several.
pub(super) fn all_roles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    const ALL: [&str; 4] = ["receive", "read", "deliver", "web"];
    let roles = Vec::<String>::deserialize(deserializer)?;
    if let Some(unknown) = roles.iter().find(|role| !ALL.contains(&role.as_str())) {
        return Err(D::Error::custom(format!("the role {unknown:?} is not known; there are {}", ALL.join(", "))));
    }
    if ALL.iter().all(|role| roles.iter().any(|it| it == role)) {
        return Ok(());
    }
    Err(D::Error::custom(
        "other than all four roles are not built yet: leave `roles` out, and this machine does everything",
    ))
}

/// A section that is not built yet.
pub(super) fn no_web<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    IgnoredAny::deserialize(deserializer)?;
    Err(D::Error::custom("[web], the console and DICOMweb, is not built yet; take the section out"))
}

/// A key that is not built yet.
pub(super) fn no_unless<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    IgnoredAny::deserialize(deserializer)?;
    Err(D::Error::custom("`unless` is not built yet; say it in `when`, or put the other rule first"))
}
