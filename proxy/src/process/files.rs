//! How many files the process may open: every connection is one.
//!
//! Owns that the limit is raised as far as the process may raise it by itself (shells and service managers begin low, for the
//! sake of programs that use `select(2)`), and how many connections may wait idle for it: those must never be what keeps a client
//! or an instance from being connected. Where the limit cannot be told or raised, the edge runs with what there is.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Forwarding paths, each with idle connections of its own.
const PATHS: u64 = 2;

/// Raises the limit to what the process may have; how many files it may open now. `None`: as many as it likes.
pub(super) fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current == limit.maximum || setrlimit(Resource::Nofile, raised).is_err() {
        return limit.current;
    }
    limit.maximum
}

/// Idle connections to instances that each of `threads` may keep on each path, if `wanted` are configured and the process may
/// open so many `files`: all together at most half of those.
pub(super) fn idle(wanted: usize, threads: usize, files: Option<u64>) -> usize {
    let Some(files) = files else { return wanted };
    let threads = u64::try_from(threads.max(1)).unwrap_or(u64::MAX);
    let each = files / 2 / PATHS.saturating_mul(threads);
    wanted.min(usize::try_from(each).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_never_take_more_than_half_of_the_files() {
        assert_eq!(idle(1024, 4, None), 1024);
        assert_eq!(idle(1024, 4, Some(1_048_576)), 1024);
        assert_eq!(idle(1024, 16, Some(20_000)), 312);
        assert_eq!(idle(1024, 1, Some(1024)), 256);
        assert_eq!(idle(1024, 64, Some(64)), 1, "one is always kept");
        for files in [1_000, 4_096, 65_536] {
            for threads in 1..64 {
                let all = idle(1024, threads, Some(files)) * threads * 2;
                assert!(all as u64 <= files / 2, "{threads} threads, {files} files");
            }
        }
    }

    #[test]
    fn the_limit_is_raised_to_what_the_process_may_have() {
        assert_eq!(raise(), getrlimit(Resource::Nofile).maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
    }
}
