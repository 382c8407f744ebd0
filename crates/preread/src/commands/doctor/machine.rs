//! What of the machine the daemon needs: that it runs, its ports, what its user may read and write.

use std::{
    fs,
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Finding, ok, problem, unit::Unit, warning};
use crate::{config::Config, models::find_library};

/// Whether `preread serve` runs with this spool; nothing where nobody can say.
pub(super) fn daemon(running: Option<bool>) -> Finding {
    match running {
        Some(true) => ok("daemon", "preread serve runs, and has this spool open"),
        Some(false) => warning("daemon", "preread serve does not run; start it: `systemctl start preread`"),
        None => warning(
            "daemon",
            "whether preread serve runs cannot be seen: there is no spool yet, or this user may not look",
        ),
    }
}

/// Whether each port is free, or who has it.
pub(super) fn ports(config: &Config, running: Option<bool>) -> Vec<Finding> {
    let wanted = [
        ("listen.address", config.listen.address),
        ("listen.tls_address", config.listen.tls_address),
        ("admin.address", config.admin.as_ref().map(|admin| admin.address)),
    ];
    let wanted = wanted.into_iter().filter_map(|(key, address)| Some((key, address?)));
    wanted.filter(|(_, address)| address.port() != 0).map(|(key, address)| port(key, address, running)).collect()
}

fn port(key: &str, address: SocketAddr, running: Option<bool>) -> Finding {
    let what = format!("port {}", address.port());
    let error = match TcpListener::bind(address) {
        Ok(_) if running == Some(true) => {
            let text = format!(
                "{address} ({key}) is free although preread serve runs: it was started with another configuration; restart it"
            );
            return warning(what, text);
        }
        Ok(_) => return ok(what, format!("{address} ({key}) is free")),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::AddrInUse => match holder(address.port()) {
            Some((_, name)) if name == "preread" => ok(what, format!("preread serve listens on {address} ({key})")),
            Some((id, name)) => problem(
                what,
                format!("{address} ({key}) is held by {name} (process {id}); stop that, or write another port"),
            ),
            None if running == Some(true) => {
                ok(what, format!("{address} ({key}) is in use, by preread serve as it seems"))
            }
            None => problem(
                what,
                format!(
                    "{address} ({key}) is held by another program; see which with `ss -ltnp`, or write another port"
                ),
            ),
        },
        ErrorKind::PermissionDenied => problem(
            what,
            format!(
                "{address} ({key}): this user may not open a port below 1024; the service needs \
                 AmbientCapabilities=CAP_NET_BIND_SERVICE and CapabilityBoundingSet=CAP_NET_BIND_SERVICE with PrivateUsers=no, \
                 or write 11112"
            ),
        ),
        ErrorKind::AddrNotAvailable => problem(
            what,
            format!("{address} ({key}): this machine does not have that address; see `ip address`, or write 0.0.0.0"),
        ),
        _ => problem(what, format!("{address} ({key}): {error}")),
    }
}

/// Process and name of who listens on a TCP port; nothing where this user may not see it.
fn holder(port: u16) -> Option<(u32, String)> {
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let is_it = columns
                .get(1)
                .and_then(|it| it.rsplit_once(':'))
                .is_some_and(|(_, it)| u16::from_str_radix(it, 16).is_ok_and(|it| it == port));
            // 0A is LISTEN.
            if is_it && columns.get(3) == Some(&"0A") {
                sockets.extend(columns.get(9).map(|inode| format!("socket:[{inode}]")));
            }
        }
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let Some(id) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let mut links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        if links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str())) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((id, name.trim().to_owned()));
        }
    }
    None
}

/// A user whose rights are looked at.
struct User {
    name: String,
    id: u32,
    groups: Vec<u32>,
}

impl User {
    /// The one that the daemon runs as: ourselves, or the service's when we are root.
    fn of_daemon(spool: &Path, unit: Option<&Unit>) -> Option<Self> {
        let own = fs::metadata("/proc/self").ok()?.uid();
        if own != 0 {
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            let groups = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            let groups = [groups("Gid:"), groups("Groups:")].join(" ");
            let groups = groups.split_whitespace().filter_map(|id| id.parse().ok()).collect();
            return Some(Self { name: "this user".to_owned(), id: own, groups });
        }
        let owner = fs::metadata(spool).ok().map(|folder| folder.uid());
        let named = unit.and_then(|unit| unit.last("User"));
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|user| user.len() > 3);
        let user = users.find(|user| match (named, owner) {
            (Some(name), _) => user[0] == name,
            (None, Some(id)) => user[2].parse() == Ok(id),
            (None, None) => false,
        })?;
        let name = user[0].to_owned();
        let group_file = fs::read_to_string("/etc/group").unwrap_or_default();
        let member = |line: &str| {
            let columns: Vec<&str> = line.split(':').collect();
            let is_member = columns.get(3)?.split(',').any(|it| it == name);
            if is_member { columns[2].parse().ok() } else { None }
        };
        let groups = user[3].parse().into_iter().chain(group_file.lines().filter_map(member)).collect();
        Some(Self { id: user[2].parse().ok()?, groups, name })
    }

    /// Whether the bits of a file give it what is wanted: 4 reads, 2 writes, 1 goes through.
    fn may(&self, file: &fs::Metadata, wanted: u32) -> bool {
        let bits = if self.id == 0 {
            7
        } else if file.uid() == self.id {
            file.mode() >> 6
        } else if self.groups.contains(&file.gid()) {
            file.mode() >> 3
        } else {
            file.mode()
        };
        bits & wanted == wanted
    }

    /// The first place on the way to a path, itself included, that keeps the user out.
    fn kept_out(&self, path: &Path, wanted: u32) -> Option<PathBuf> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut way: Vec<&Path> = path.ancestors().collect();
        way.reverse();
        let last = way.len().saturating_sub(1);
        let closed = |(index, place): &(usize, &Path)| {
            let wanted = if *index == last { wanted } else { 1 };
            fs::metadata(place).is_ok_and(|file| !self.may(&file, wanted))
        };
        way.iter().copied().enumerate().find(closed).map(|(_, place)| place.to_owned())
    }
}

const READ: u32 = 4;
const READ_FOLDER: u32 = 5;
const WRITE_FOLDER: u32 = 7;

/// What the daemon's user may not read or write, and what others may who should not.
pub(super) fn rights(path: &Path, config: &Config, unit: Option<&Unit>) -> Vec<Finding> {
    let mut findings = exposed(path, config);
    let spool = &config.spool.dir;
    let Some(user) = User::of_daemon(spool, unit) else {
        let text = "which user the daemon runs as cannot be seen (no unit file, no spool): look again as that user";
        findings.push(warning("rights", text));
        return findings;
    };
    let library = find_library(config.runtime.library.as_deref()).ok();
    let mut wanted: Vec<(String, PathBuf, u32)> = vec![("the configuration".to_owned(), path.to_owned(), READ)];
    wanted.extend(library.map(|library| ("ONNX Runtime's library".to_owned(), library, READ)));
    wanted.extend(
        config.tls.iter().flat_map(|tls| tls.files()).map(|(key, file)| (format!("tls.{key}"), file.to_owned(), READ)),
    );
    for model in &config.models {
        wanted.push((format!("model {}", model.name), model.path.clone(), READ_FOLDER));
        let files = fs::read_dir(&model.path).into_iter().flatten().flatten();
        wanted.extend(files.map(|file| (format!("model {}", model.name), file.path(), READ)));
    }
    // The folder that the spool is made in, while there is none.
    let there = spool.ancestors().find(|folder| folder.exists()).unwrap_or(spool);
    if !there.is_dir() {
        let text = format!("{} (spool.dir) is no folder: name one that is, or is not there yet", there.display());
        findings.push(problem("rights", text));
        return findings;
    }
    wanted.push(("spool.dir".to_owned(), there.to_owned(), WRITE_FOLDER));
    let before = findings.len();
    for (what, path, wanted) in wanted {
        let Some(place) = user.kept_out(&path, wanted) else { continue };
        let (name, path, place) = (&user.name, path.display(), place.display());
        let does = if wanted == WRITE_FOLDER { "write" } else { "read" };
        let text = format!(
            "{name} may not {does} {path} ({what}): {place} does not let it; see its owner and mode with `ls -ld {place}`, and \
             change them with chown or chmod"
        );
        findings.push(problem("rights", text));
        if findings.len() > 16 {
            break;
        }
    }
    if findings.len() == before {
        findings.push(ok("rights", format!("{} may read what is configured, and write the spool", user.name)));
    }
    findings
}

/// Files whose bits let others in.
fn exposed(path: &Path, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut look = |what: &str, path: &Path, bits: u32, others: &str, chmod: &str| {
        if let Ok(file) = fs::metadata(path)
            && file.mode() & bits != 0
        {
            let text = format!(
                "{} ({what}) has mode {:04o}: {others}; `chmod {chmod} {}`",
                path.display(),
                file.mode() & 0o7777,
                path.display()
            );
            findings.push(warning("permissions", text));
        }
    };
    for (key, file) in config.tls.iter().flat_map(|tls| tls.files()) {
        if key == "key" {
            look("tls.key", file, 0o077, "others than its owner can read the private key", "600");
        }
    }
    look("the configuration", path, 0o022, "others than its owner can write it", "go-w");
    // Only what a daemon made: of another folder, or a file, nobody is told to change the mode.
    if config.spool.dir.join("state.sqlite").is_file() {
        look("spool.dir", &config.spool.dir, 0o077, "others than its owner can look into patients' images", "700");
    }
    findings
}
