//! What the kernel says that processes used: CPU time by kind, and memory. Read from `/proc`: elsewhere they are 0.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// CPU time of a process and of everything below it, since their start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Cpu {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

/// A tick is 10 ms on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Fields of `/proc/PID/stat` after the name in parentheses, which may hold spaces: state, parent, …
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// A process and all that descend from it.
fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(parent) = fields(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.get(&pid).into_iter().flatten());
        next += 1;
    }
    found
}

/// What the processes below (and with) this one have used.
pub(crate) fn cpu(root: u32) -> Cpu {
    let mut sum = Cpu::default();
    for fields in tree(root).into_iter().filter_map(fields) {
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        // utime and stime are the 14th and 15th of the whole line.
        sum.user += TICK * ticks(11);
        sum.system += TICK * ticks(12);
    }
    sum
}

/// Resident bytes of the processes below (and with) this one.
pub(crate) fn resident(root: u32) -> u64 {
    let of = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().split(' ').next()?.parse::<u64>().ok()
    };
    tree(root).into_iter().filter_map(of).sum::<u64>() * 1024
}
