//! What the systemd unit lets the service do, where it is installed.

use std::{fs, path::Path};

use super::{Finding, problem};
use crate::config::Config;

const PLACES: &[&str] =
    &["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// The settings of the unit and its drop-ins, in order; nothing where there is no unit.
pub(super) struct Unit(Vec<(String, String)>);

impl Unit {
    /// The installed one.
    pub(super) fn installed() -> Option<Self> {
        let text = PLACES.iter().find_map(|place| fs::read_to_string(Path::new(place).join("preread.service")).ok())?;
        let mut texts = vec![text];
        for place in PLACES.iter().rev() {
            let drop_ins = fs::read_dir(Path::new(place).join("preread.service.d")).into_iter().flatten().flatten();
            let mut paths: Vec<_> = drop_ins.map(|entry| entry.path()).collect();
            paths.retain(|path| path.extension().is_some_and(|it| it == "conf"));
            paths.sort();
            texts.extend(paths.iter().filter_map(|path| fs::read_to_string(path).ok()));
        }
        Some(Self::of(&texts.join("\n")))
    }

    fn of(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '[']));
        let setting =
            |line: &str| line.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
        Self(lines.filter_map(setting).collect())
    }

    /// The values of a setting; an empty one takes back those before it.
    fn all(&self, key: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for (_, value) in self.0.iter().filter(|(name, _)| name == key) {
            if value.is_empty() {
                values.clear();
            }
            values.extend(value.split_whitespace());
        }
        values
    }

    /// The last value of a setting.
    pub(super) fn last(&self, key: &str) -> Option<&str> {
        self.0.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether the service sees a folder as one that it may write.
    fn lets_write(&self, folder: &Path) -> bool {
        if self.last("ProtectSystem") != Some("strict") {
            return true;
        }
        let state = self.all("StateDirectory").into_iter().map(|name| Path::new("/var/lib").join(name));
        let writable = self
            .all("ReadWritePaths")
            .into_iter()
            .map(|path| Path::new(path.trim_start_matches(['-', '+'])).to_owned());
        state.chain(writable).any(|path| folder.starts_with(path))
    }

    /// Whether the service may open ports below 1024.
    fn lets_bind(&self) -> bool {
        let has = |key| self.all(key).iter().any(|it| it.eq_ignore_ascii_case("CAP_NET_BIND_SERVICE"));
        let bounded = self.0.iter().any(|(name, _)| name == "CapabilityBoundingSet");
        has("AmbientCapabilities")
            && (!bounded || has("CapabilityBoundingSet"))
            && self.last("PrivateUsers") != Some("yes")
    }
}

/// What the unit forbids that the configuration asks for.
pub(super) fn findings(config: &Config, unit: Option<&Unit>) -> Vec<Finding> {
    let Some(unit) = unit else { return Vec::new() };
    let mut found = Vec::new();
    let spool = &config.spool.dir;
    if spool.is_absolute() && !unit.lets_write(spool) {
        let text = format!(
            "preread.service may not write {} (ProtectSystem=strict): add a drop-in with `systemctl edit preread`: [Service] and \
             ReadWritePaths={}",
            spool.display(),
            spool.display()
        );
        found.push(problem("unit", text));
    }
    let ports = [config.listen.address, config.listen.tls_address].into_iter().flatten().map(|address| address.port());
    for port in ports.filter(|port| (1..1024).contains(port)) {
        if !unit.lets_bind() {
            let text = format!(
                "preread.service may not open port {port}: add a drop-in with `systemctl edit preread`: [Service], \
                 AmbientCapabilities=CAP_NET_BIND_SERVICE, CapabilityBoundingSet=CAP_NET_BIND_SERVICE and PrivateUsers=no"
            );
            found.push(problem("unit", text));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_unit_keeps_the_spool_where_it_is_and_ports_high_unless_a_drop_in_says_otherwise() {
        const SHIPPED: &str = include_str!("../../../../../deploy/systemd/preread.service");
        let with = |more: &str| Unit::of(&format!("{SHIPPED}\n{more}"));
        assert!(with("").lets_write(Path::new("/var/lib/preread")) && !with("").lets_write(Path::new("/data/preread")));
        assert!(with("ReadWritePaths=/data").lets_write(Path::new("/data/preread")));
        assert!(!with("").lets_bind());
        let capability = "AmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE";
        assert!(!with(capability).lets_bind() && with(&format!("{capability}\nPrivateUsers=no")).lets_bind());
        assert_eq!(with("").last("User"), Some("preread"));
    }
}
