//! What of a configuration can never work, and what is probably not meant.

use std::{
    collections::{BTreeSet, HashSet},
    net::SocketAddr,
    time::Duration,
};

use super::{DestinationSection, File, Listen, ObjectName, lines::Lines};

/// What was found, each with its line where that is known.
pub(super) struct Findings<'a> {
    lines: &'a Lines,
    /// Sections that have mistakes already, from which more would only follow.
    damaged: &'a BTreeSet<String>,
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// A section of the file: its name, which of that name from 0, and a key in it.
type Place<'a> = (&'a str, usize, &'a str);

impl<'a> Findings<'a> {
    pub(super) fn new(lines: &'a Lines, damaged: &'a BTreeSet<String>) -> Self {
        Self { lines, damaged, errors: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn error(&mut self, at: Place<'_>, text: impl Into<String>) {
        if !self.is_damaged(at.0) {
            let text = self.located(at, text.into());
            self.errors.push(text);
        }
    }

    pub(super) fn is_damaged(&self, section: &str) -> bool {
        self.damaged.contains(section)
    }

    pub(super) fn warning(&mut self, at: Place<'_>, text: impl Into<String>) {
        let text = self.located(at, text.into());
        self.warnings.push(text);
    }

    fn located(&self, (section, index, key): Place<'_>, text: String) -> String {
        match self.lines.at(section, index, key) {
            Some(line) => format!("line {line}: {text}"),
            None => text,
        }
    }
}

/// Everything but the rules.
pub(super) fn check(file: &File, found: &mut Findings<'_>) {
    names(file, found);
    listeners(file, found);
    spool_folder(file, found);
    durations(file, found);
    log_level(file, found);
    peers(file, found);
    destinations(file, found);
    use_of_names(file, found);
}

fn names(file: &File, found: &mut Findings<'_>) {
    let mut unique = |section: &str, names: Vec<&str>| {
        let mut seen = HashSet::new();
        for (index, name) in names.into_iter().enumerate() {
            if name.trim().is_empty() {
                found.error((section, index, "name"), format!("a [[{section}]] has an empty name"));
            } else if !seen.insert(name) {
                let text = format!("two [[{section}]] are named \"{name}\"; each needs a name of its own");
                found.error((section, index, "name"), text);
            }
        }
    };
    unique("peer", file.peer.iter().map(|peer| peer.name.as_str()).collect());
    unique("model", file.model.iter().map(|model| model.name.as_str()).collect());
    unique("destination", file.destination.iter().map(|destination| destination.name.as_str()).collect());
    unique("rule", file.rule.iter().map(|rule| rule.name.as_str()).collect());
}

/// Whether the spool has a folder of its own, and the same one wherever the daemon is started.
fn spool_folder(file: &File, found: &mut Findings<'_>) {
    let dir = &file.spool.dir;
    let at = ("spool", 0, "dir");
    if dir.as_os_str().is_empty() || dir.parent().is_none() {
        let text = format!(
            "spool.dir = \"{}\" is no folder of its own: name one, such as \"/var/lib/preread\"",
            dir.display()
        );
        found.error(at, text);
    } else if dir.is_relative() {
        let text = format!(
            "spool.dir = \"{}\" is looked for below the folder that the daemon is started in, which is / under systemd: write \
             the whole path",
            dir.display()
        );
        found.warning(at, text);
    }
}

/// Whether somebody can reach us, and each port be ours.
fn listeners(file: &File, found: &mut Findings<'_>) {
    let Listen { address, tls_address, max_associations, .. } = &file.listen;
    if address.is_none() && tls_address.is_none() {
        let text = "[listen] has neither address nor tls_address: name at least one, such as \"0.0.0.0:11112\"";
        found.error(("listen", 0, ""), text);
    }
    if tls_address.is_some() && file.tls.is_none() {
        let text = "listen.tls_address needs a [tls] section with certificate, key and client_ca";
        found.error(("listen", 0, "tls_address"), text);
    }
    if *max_associations == 0 {
        found.error(("listen", 0, "max_associations"), "listen.max_associations = 0: nobody could ever call");
    }
    if let Some(admin) = &file.admin
        && !admin.address.ip().is_loopback()
    {
        let text = format!(
            "admin.address {} is not loopback: there is no login yet, so it must be 127.0.0.1 or [::1]",
            admin.address
        );
        found.error(("admin", 0, "address"), text);
    }
    let ports = [
        ("listen", "address", *address),
        ("listen", "tls_address", *tls_address),
        ("admin", "address", file.admin.as_ref().map(|admin| admin.address)),
    ];
    for (index, (section, key, other)) in ports.iter().enumerate().skip(1) {
        for (first, named, one) in &ports[..index] {
            if let Some((one, other)) = one.zip(*other)
                && both_want(one, other)
            {
                let text = format!(
                    "{section}.{key} and {first}.{named} both want port {}; give each one of its own",
                    one.port()
                );
                found.error((section, 0, key), text);
            }
        }
    }
}

/// Whether only one of two addresses can be listened on. Port 0 is any that is free.
fn both_want(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && overlap
}

fn durations(file: &File, found: &mut Findings<'_>) {
    let mut positive = |at: Place<'_>, what: String, duration: Option<Duration>, why: &str| {
        if duration == Some(Duration::ZERO) {
            found.error(at, format!("{what} = \"0s\": {why}"));
        }
    };
    let quiet = "a study would be read before its second image comes; write \"30s\"";
    positive(("study", 0, "quiet_period"), "study.quiet_period".to_owned(), Some(file.study.quiet_period), quiet);
    let late = "every reading would be given up at once; write \"10m\"";
    positive(("study", 0, "deadline"), "study.deadline".to_owned(), Some(file.study.deadline), late);
    for (index, peer) in file.peer.iter().enumerate() {
        let what = format!("peer \"{}\" has quiet_period", peer.name);
        positive(("peer", index, "quiet_period"), what, peer.quiet_period, quiet);
    }
    if file.runtime.memory == Some(0) {
        found.error(("runtime", 0, "memory"), "runtime.memory = 0: no model could be loaded; write \"12GiB\"");
    }
    if file.spool.options(file.study.patience()).quota_bytes == 0 {
        found.error(
            ("spool", 0, "quota"),
            "spool.quota = 0: nothing could be received; write \"500GiB\", or leave it out",
        );
    }
}

fn log_level(file: &File, found: &mut Findings<'_>) {
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&file.log.level) {
        let text = format!(
            "log.level = {:?}: {error}; write error, warn, info, debug or trace, or directives such as \"info,dimse=debug\"",
            file.log.level
        );
        found.error(("log", 0, "level"), text);
    }
}

fn peers(file: &File, found: &mut Findings<'_>) {
    let tls_address = file.listen.tls_address;
    for (index, peer) in file.peer.iter().enumerate() {
        let name = &peer.name;
        match (peer.certificate.is_empty(), peer.address.is_empty()) {
            (true, true) => {
                let text = format!("peer \"{name}\" has neither certificate nor address: nobody could be known as it");
                found.error(("peer", index, ""), text);
            }
            (false, _) if tls_address.is_none() => {
                let text = format!(
                    "peer \"{name}\" is known by its certificate, and without listen.tls_address nobody shows one"
                );
                found.error(("peer", index, "certificate"), text);
            }
            _ => {}
        }
        if let Some(address) = &peer.commitment_address
            && !has_port(address)
        {
            let text = format!(
                "peer \"{name}\" has commitment_address = {address:?}; write host and port, as in \"10.1.2.4:104\""
            );
            found.error(("peer", index, "commitment_address"), text);
        }
        if peer.max_associations == 0 {
            let text = format!(
                "peer \"{name}\" has max_associations = 0: it could never call; take the [[peer]] away instead"
            );
            found.error(("peer", index, "max_associations"), text);
        }
        for network in peer.address.iter().filter(|network| network.addr() != network.network()) {
            let text = format!(
                "peer \"{name}\" has the address {network}, which means the whole network {}; write that, or {} for one \
                 machine",
                network.trunc(),
                network.addr()
            );
            found.warning(("peer", index, "address"), text);
        }
    }
    shares(file, found);
}

/// Whether the peers' own bounds leave others a fair share of the associations. One is kept for each peer that has none.
fn shares(file: &File, found: &mut Findings<'_>) {
    let places = file.listen.max_associations;
    let count = file.peer.len();
    if count > places && places > 0 {
        let text = format!(
            "there are {count} [[peer]] and {places} associations (listen.max_associations), so that none can be kept for each \
             peer; raise that to {count} and more"
        );
        found.warning(("listen", 0, "max_associations"), text);
    }
    let lines = found.lines;
    let said = |index| lines.has("peer", index, "max_associations");
    for (index, peer) in file.peer.iter().enumerate() {
        for (before, other) in file.peer[..index].iter().enumerate() {
            let together = peer.max_associations.saturating_add(other.max_associations);
            // Two alone leave nobody less, unless somebody wrote that they may.
            if together >= places && (count > 2 || said(index) || said(before)) {
                let text = format!(
                    "peers \"{}\" and \"{}\" together may hold all {places} associations (listen.max_associations) but the \
                     one that is kept for each other peer; raise that, or lower max_associations of one",
                    other.name, peer.name
                );
                found.warning(("peer", index, "max_associations"), text);
            }
        }
        if count > 1 && peer.max_associations >= places {
            let text = format!(
                "peer \"{}\" alone may hold all {places} associations (listen.max_associations) but the one that is kept for \
                 each other peer; lower its max_associations",
                peer.name
            );
            found.warning(("peer", index, "max_associations"), text);
        }
    }
}

fn destinations(file: &File, found: &mut Findings<'_>) {
    for (index, destination) in file.destination.iter().enumerate() {
        let DestinationSection { name, address, tls, tls_server_name, objects, .. } = destination;
        if !has_port(address) {
            let text = format!(
                "destination \"{name}\" has address = {address:?}; write host and port, as in \"10.1.2.3:104\""
            );
            found.error(("destination", index, "address"), text);
        }
        let has = |object| objects.contains(&object);
        if objects.is_empty() {
            let text = format!("destination \"{name}\" has objects = []: nothing would be sent; write [\"text-sr\"]");
            found.error(("destination", index, "objects"), text);
        }
        if has(ObjectName::AiResultsSr) && !has(ObjectName::TextSr) && !has(ObjectName::EnhancedTextSr) {
            let text = format!(
                "destination \"{name}\" has \"ai-results-sr\" in objects and no text report: some viewers show it blank, so \
                 add \"text-sr\" or \"enhanced-text-sr\""
            );
            found.error(("destination", index, "objects"), text);
        }
        if *tls && file.tls.is_none() {
            let text =
                format!("destination \"{name}\" has tls = true, which needs a [tls] section with our certificate");
            found.error(("destination", index, "tls"), text);
        }
        if !tls && tls_server_name.is_some() {
            let text = format!("destination \"{name}\" has tls_server_name without tls = true");
            found.error(("destination", index, "tls_server_name"), text);
        }
    }
}

/// A host and a port that somebody can listen on.
fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, port)| {
        let host_is_one = !host.is_empty() && (!host.contains(':') || host.starts_with('[') && host.ends_with(']'));
        host_is_one && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

fn use_of_names(file: &File, found: &mut Findings<'_>) {
    if file.rule.is_empty() {
        found.warning(
            ("rule", 0, ""),
            "there is no [[rule]], so that no study is read: studies are received, kept and skipped",
        );
        return;
    }
    for (index, model) in file.model.iter().enumerate() {
        if !file.rule.iter().any(|rule| rule.uses_model(&model.name)) {
            let text = format!("no rule uses the model \"{}\"", model.name);
            found.warning(("model", index, "name"), text);
        }
    }
    for (index, destination) in file.destination.iter().enumerate() {
        if !file.rule.iter().any(|rule| rule.sends_to(&destination.name)) {
            let text = format!("no rule sends anything to the destination \"{}\"", destination.name);
            found.warning(("destination", index, "name"), text);
        }
    }
}
