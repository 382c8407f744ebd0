//! What a program does that somebody outside could notice: whom it speaks to, whose address it looks up, which files it writes.
//! strace tells, and the calls are read here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    daemon::{AE_TITLE, Daemon, Setup},
    place, samples,
    scp::Scp,
    scu::Scu,
    wait,
};

/// What strace is asked for: everything about sockets, and everything that takes a path.
const CALLS: &str = "trace=%network,%file";

/// What a traced program may do.
#[derive(Debug, Default)]
pub struct Allowed {
    /// Whom it may speak to and where it may listen, as `host:port`.
    pub peers: Vec<String>,
    /// Folders and files that it may write.
    pub folders: Vec<PathBuf>,
}

/// The program under strace, which writes what it saw to `trace`. The tracer is a child of the program, whose process id is
/// that of what is started. The caller's home is not the program's: `home` is.
pub fn traced(trace: &Path, home: &Path, program: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-q", "-y", "-s", "512", "-e", CALLS, "-e", "signal=none", "-o"]).arg(trace).arg(program);
    // What a user's environment keeps, and neither the unit's nor cargo's, which would hide what the program sees to itself.
    for name in ["ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
        strace.env_remove(name);
    }
    strace.env("HOME", home);
    strace
}

/// Whether strace is there and may trace; else a line says what to install.
pub fn can_trace() -> bool {
    let traces = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    let can = traces.is_ok_and(|status| status.success());
    if !can {
        eprintln!("skipped: strace is not here or may not trace; `cargo xtask setup --peers` installs it");
    }
    can
}

/// Fails with every call of a trace that is not allowed, and with everything that lies in `home`, which was empty.
///
/// # Errors
/// With the calls; and when the trace cannot be read, or shows so little that nothing was traced.
pub fn check(trace: &Path, home: &Path, cwd: &Path, allowed: &Allowed) -> Result<()> {
    // The tracer is no child of ours: it has written everything when it has written how the program ended.
    let text = wait::until("the end of the trace", Duration::from_secs(60), || {
        let text = fs::read(trace).with_context(|| trace.display().to_string())?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let ended = text.lines().last().is_some_and(|line| line.contains("+++ exited") || line.contains("+++ killed"));
        Ok(ended.then_some(text))
    })?;
    if !text.contains("libonnxruntime") {
        bail!("{}: ONNX Runtime was not loaded in it: nothing was tested", trace.display());
    }
    let mut found: BTreeSet<String> = text.lines().filter_map(|line| objection(line, cwd, allowed)).collect();
    for entry in fs::read_dir(home)? {
        found.insert(format!("{} was made", entry?.path().display()));
    }
    if found.is_empty() {
        return Ok(());
    }
    bail!("{}:\n{}", trace.display(), found.into_iter().take(40).collect::<Vec<_>>().join("\n"))
}

/// A daemon from its start over three studies and their reports through `idle` without work: it speaks to nobody but its peers
/// and writes nothing but its spool.
///
/// # Errors
/// As [`check`], and when the studies are not read.
pub fn of_a_daemon(idle: Duration) -> Result<()> {
    let (home, traces) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let trace = traces.path().join("daemon.strace");
    let pacs = Scp::start("PACS")?;
    let mut strace = traced(&trace, home.path(), &place::preread()?);
    strace.current_dir(place::root());
    let mut daemon = Daemon::start_by(&Setup::to("PACS", &pacs.address()), strace)?;
    let samples: Vec<_> = samples::all()?.into_iter().take(3).map(|sample| sample.instance).collect();
    let mut scu = Scu::for_instances(&daemon.address(), "MODALITY", AE_TITLE, &samples)?;
    for instance in &samples {
        anyhow::ensure!(scu.store(instance)? == 0, "the daemon did not take a sample");
    }
    scu.release()?;
    for instance in &samples {
        pacs.text_report(&instance.study_instance_uid, Duration::from_secs(180))?;
    }
    thread::sleep(idle);
    daemon.terminate()?;
    let peers = vec![daemon.address(), daemon.admin_address(), pacs.address()];
    let allowed = Allowed { peers, folders: vec![daemon.dir().join("spool")] };
    check(&trace, home.path(), &place::root(), &allowed)
}

/// What speaks against a line of a trace, such as `123 openat(AT_FDCWD</cwd>, "a", O_WRONLY|O_CREAT, 0600) = 3</cwd/a>`.
fn objection(line: &str, cwd: &Path, allowed: &Allowed) -> Option<String> {
    let call = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let (name, arguments) = call.split_once('(')?;
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let because = |why: &str| Some(format!("{why}: {call}"));
    if let Some(family) = arguments.split("sa_family=").nth(1) {
        let speaks = matches!(name, "connect" | "bind" | "sendto" | "sendmsg" | "sendmmsg");
        return match address(family) {
            _ if !speaks => None,
            Some(address) if allowed.peers.contains(&address) => None,
            Some(_) => because("a socket to somebody who is not configured"),
            None => because("a socket of another kind"),
        };
    }
    if name == "socket" {
        let speaks = arguments.starts_with("AF_INET");
        let is_datagram = arguments.contains("SOCK_DGRAM");
        return match speaks && !allowed.peers.is_empty() && !is_datagram {
            true => None,
            // A pipe between threads of the program itself.
            false if arguments.starts_with("AF_UNIX") && !arguments.contains("SOCK_DGRAM") => None,
            false => because("a socket"),
        };
    }
    let paths = paths(arguments, cwd);
    let looks_up = |path: &PathBuf| {
        const OF_NAMES: [&str; 6] = ["resolv.conf", "/etc/hosts", "host.conf", "gai.conf", "nscd", "nss-resolve"];
        OF_NAMES.iter().any(|part| path.to_string_lossy().contains(part))
    };
    if paths.iter().any(looks_up) {
        return because("a name is looked up");
    }
    let makes = match name {
        "open" | "openat" | "openat2" => {
            ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_TMPFILE"].iter().any(|flag| arguments.contains(flag))
        }
        "creat" | "truncate" => true,
        _ => {
            ["mkdir", "mknod", "rename", "link", "symlink", "unlink", "rmdir", "chmod", "fchmodat", "chown", "setxattr"]
                .iter()
                .any(|start| name.starts_with(start))
        }
    };
    let is_allowed = |path: &PathBuf| {
        let nowhere = ["/dev/null", "/dev/tty", "/proc/self/", "/proc/thread-self/"];
        nowhere.iter().any(|start| path.to_string_lossy().starts_with(start))
            || allowed.folders.iter().any(|folder| path.starts_with(folder))
    };
    if makes && !paths.iter().all(is_allowed) {
        return because("a file is written that was not named");
    }
    None
}

/// `host:port` of an address as strace writes it; none for one that is neither IPv4 nor IPv6.
fn address(text: &str) -> Option<String> {
    let port = text.split("htons(").nth(1)?.split(')').next()?;
    let quoted = |after: &str| text.split(after).nth(1)?.split('"').nth(1);
    match text {
        _ if text.starts_with("AF_INET6") => Some(format!("[{}]:{port}", quoted("inet_pton(")?)),
        _ if text.starts_with("AF_INET") => Some(format!("{}:{port}", quoted("inet_addr(")?)),
        _ => None,
    }
}

/// The paths among the arguments of a call; relative ones in the folder of the descriptor before them, or in `cwd`.
fn paths(arguments: &str, cwd: &Path) -> Vec<PathBuf> {
    let arguments = arguments.split(") = ").next().unwrap_or(arguments);
    let mut found = Vec::new();
    let mut folder = cwd.to_owned();
    let mut rest = arguments;
    while let Some(at) = rest.find(['<', '"']) {
        let is_path = rest.as_bytes()[at] == b'"';
        let inside = &rest[at + 1..];
        let Some(end) = inside.find(if is_path { '"' } else { '>' }) else { break };
        if is_path {
            found.push(folder.join(&inside[..end]));
        } else {
            folder = PathBuf::from(&inside[..end]);
        }
        rest = &inside[end + 1..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_trace_shows_is_judged() {
        let allowed = Allowed { peers: vec!["127.0.0.1:104".into(), "[::1]:104".into()], folders: vec!["/out".into()] };
        let check = |line: &str, expected: Option<&str>| {
            let found = objection(line, Path::new("/cwd"), &allowed);
            assert_eq!(found.as_deref().and_then(|it| it.split(':').next()), expected, "{line}");
        };
        let stranger = Some("a socket to somebody who is not configured");
        check(
            r#"7 connect(3<socket:[1]>, {sa_family=AF_INET, sin_port=htons(104), sin_addr=inet_addr("127.0.0.1")}, 16) = 0"#,
            None,
        );
        check(
            r#"7 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.1")}, 16) = 0"#,
            stranger,
        );
        check(
            r#"7 sendto(3, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(104), sin_addr=inet_addr("8.8.8.8")}, 16 <unfinished ...>"#,
            stranger,
        );
        check(
            r#"7 bind(3, {sa_family=AF_INET6, sin6_port=htons(104), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 0"#,
            None,
        );
        check(
            r#"7 connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT"#,
            Some("a socket of another kind"),
        );
        check("7 socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 3", None);
        check("7 socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, IPPROTO_IP) = 3", Some("a socket"));
        check("7 socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE) = 3", Some("a socket"));
        let name = Some("a name is looked up");
        check(r#"7 openat(AT_FDCWD</cwd>, "/etc/resolv.conf", O_RDONLY|O_CLOEXEC) = 4</etc/resolv.conf>"#, name);
        let file = Some("a file is written that was not named");
        check(r#"7 openat(AT_FDCWD</cwd>, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 4"#, None);
        check(r#"7 openat(AT_FDCWD</cwd>, "/out/a", O_WRONLY|O_CREAT, 0600) = 4"#, None);
        check(r#"7 openat(5</out>, "a", O_WRONLY|O_CREAT, 0600) = 4"#, None);
        check(r#"7 openat(AT_FDCWD</cwd>, "a", O_WRONLY|O_CREAT, 0600) = 4"#, file);
        check(r#"7 openat(AT_FDCWD</cwd>, "/home/x/.cache/b", O_RDWR|O_CREAT, 0600 <unfinished ...>"#, file);
        check(r#"7 mkdir("/home/x/.cache", 0777) = -1 EEXIST"#, file);
        check(r#"7 rename("/out/a", "/elsewhere/b") = 0"#, file);
        check(r#"7 openat(AT_FDCWD</cwd>, "/dev/null", O_RDWR) = 4"#, None);
        check("7 <... openat resumed>) = 4", None);
    }
}
