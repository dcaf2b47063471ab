//! Which core does what. The contender has its cores for itself; the upstream, the generator and the servers share the rest.
//! Where the system cannot pin (or has one core) everything runs where the kernel puts it, and the report says so.

use std::path::PathBuf;

/// A division of the machine.
#[derive(Debug, Clone)]
pub(crate) struct Cores {
    /// Of the contender.
    pub(crate) contender: Vec<usize>,
    /// Of the upstream.
    pub(crate) upstream: Vec<usize>,
    /// Of the generator and of everything else.
    pub(crate) generator: Vec<usize>,
    /// Whether processes can be held to them.
    pub(crate) pinned: bool,
}

impl Cores {
    /// So many for the contender, as far as there are enough.
    pub(crate) fn divide(contender: usize) -> Self {
        let all = allowed();
        let taskset = authsome_testkit::installed::find("taskset").is_ok();
        if all.len() < 2 || !taskset {
            return Self {
                contender: all.clone(),
                upstream: all.clone(),
                generator: all,
                pinned: false,
            };
        }
        let (contender, rest) = all.split_at(contender.clamp(1, all.len() - 1));
        // The generator reads more than the upstream writes: it has two thirds.
        let (upstream, generator) = rest.split_at(rest.len() / 3);
        let upstream = if upstream.is_empty() { rest } else { upstream };
        Self {
            contender: contender.to_vec(),
            upstream: upstream.to_vec(),
            generator: generator.to_vec(),
            pinned: true,
        }
    }

    /// What goes before a command so that it runs on these cores only.
    pub(crate) fn command(&self, cores: &[usize], program: PathBuf) -> (PathBuf, Vec<String>) {
        if !self.pinned {
            return (program, Vec::new());
        }
        let arguments = vec!["-c".to_owned(), list(cores), program.display().to_string()];
        (PathBuf::from("taskset"), arguments)
    }
}

fn list(cores: &[usize]) -> String {
    let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
    cores.join(",")
}

/// The cores that this process may use.
#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use nix::sched::{CpuSet, sched_getaffinity};
    let Ok(set) = sched_getaffinity(nix::unistd::Pid::from_raw(0)) else {
        return vec![0];
    };
    (0..CpuSet::count())
        .filter(|core| set.is_set(*core) == Ok(true))
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get)).collect()
}

/// Holds this thread, and those that it starts, to these cores.
#[cfg(target_os = "linux")]
pub(crate) fn stay_on(cores: &[usize]) {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    if cores.iter().all(|core| set.set(*core).is_ok()) {
        // Refused where a container forbids it: everything then runs where the kernel puts it.
        let _ = sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn stay_on(_cores: &[usize]) {}

/// As many files as the system lets a process open; children inherit it.
pub(crate) fn open_many_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Refused: there are fewer connections then, see `connections`.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// So many connections, or as many as a contender can have that needs another one to the upstream for each.
pub(crate) fn connections(wanted: usize) -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    /// Listeners, logs, counters, connections to servers.
    const OTHERS: u64 = 500;
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(files.saturating_sub(OTHERS) / 2).map_or(wanted, |most| wanted.min(most))
}
