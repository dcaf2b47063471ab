//! Signals to a process, and who its children are. A process that has ended already is left alone.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::Error;

pub(super) fn send(pid: u32, signal: Signal) -> Result<(), std::io::Error> {
    let pid = i32::try_from(pid).map_err(std::io::Error::other)?;
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The direct children of a process: from `/proc` where there is one, else from `ps`.
pub(super) fn children_of(parent: u32) -> Result<Vec<u32>, Error> {
    let listing = Error::io("list processes");
    if Path::new("/proc/self/stat").exists() {
        let entries = std::fs::read_dir("/proc").map_err(listing)?;
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        return Ok(pids.filter(|pid| parent_in_proc(*pid) == Some(parent)).collect());
    }
    let output = Command::new("ps")
        .args(["-A", "-o", "pid=,ppid="])
        .output()
        .map_err(listing)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let pairs = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?))
    });
    Ok(pairs.filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| pid).collect())
}

fn parent_in_proc(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and brackets: the fields begin after the last bracket (state, then parent).
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
