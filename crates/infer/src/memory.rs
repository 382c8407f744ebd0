//! How much memory a model may still take: what the system has, and what the control groups around this process allow.

use std::{fs, path::Path};

/// Bytes that this process could still use without swapping: `MemAvailable` of `/proc/meminfo`, or less where a control
/// group (version 2: a service's `MemoryMax`, a container's limit) leaves less. None where the system does not say.
pub fn available_memory() -> Option<u64> {
    available_in(Path::new("/"))
}

fn available_in(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let free = value_of(&meminfo, "MemAvailable:")?.checked_mul(1024)?;
    Some(room_of_groups(root).map_or(free, |room| room.min(free)))
}

/// The least that a control group leaves, from this process' own up to the outermost.
fn room_of_groups(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let group = Path::new(own);
    group.ancestors().filter_map(|group| room(&root.join("sys/fs/cgroup").join(group))).min()
}

/// What a control group's limit leaves; file pages that nobody used lately are given back when they are needed.
fn room(group: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let used: u64 = read("memory.current")?.trim().parse().ok()?;
    let reclaimable = value_of(&read("memory.stat").unwrap_or_default(), "inactive_file").unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
}

/// The number of the line that begins with a key.
fn value_of(lines: &str, key: &str) -> Option<u64> {
    lines.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_counts() {
        let check = |files: &[(&str, &str)], expected: Option<u64>| {
            let root = tempfile::tempdir().expect("a folder");
            for (name, content) in files {
                let path = root.path().join(name);
                fs::create_dir_all(path.parent().expect("a parent")).expect("created");
                fs::write(path, content).expect("written");
            }
            assert_eq!(available_in(root.path()), expected, "{files:?}");
        };
        let meminfo = ("proc/meminfo", "MemTotal:       9 kB\nMemAvailable:       8 kB\n");
        let group = ("proc/self/cgroup", "1:name=systemd:/x\n0::/system.slice/preread.service\n");
        let [own, slice] = ["sys/fs/cgroup/system.slice/preread.service", "sys/fs/cgroup/system.slice"];
        let file = |folder: &str, name: &str| format!("{folder}/memory.{name}");
        check(&[], None);
        check(&[meminfo], Some(8192));
        check(&[meminfo, group], Some(8192));
        let own_max = file(own, "max");
        let own_current = file(own, "current");
        check(&[meminfo, group, (&own_max, "max\n"), (&own_current, "5\n")], Some(8192));
        check(&[meminfo, group, (&own_max, "5000\n"), (&own_current, "1000\n")], Some(4000));
        let stat = file(own, "stat");
        let reclaimable = (&stat[..], "anon 400\ninactive_file 600\n");
        check(&[meminfo, group, (&own_max, "5000\n"), (&own_current, "1000\n"), reclaimable], Some(4600));
        let (max, current) = (file(slice, "max"), file(slice, "current"));
        check(
            &[meminfo, group, (&own_max, "5000\n"), (&own_current, "1000\n"), (&max, "900"), (&current, "1000")],
            Some(0),
        );
    }

    #[test]
    fn this_machine_says_what_it_has() {
        assert!(!cfg!(target_os = "linux") || available_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
