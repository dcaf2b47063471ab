//! Finds the executables of servers that a distribution installed: on PATH, and where Debian and Homebrew put them.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Directories that are searched after PATH. A `*` stands for any version; the highest one wins.
const PLACES: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/bin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
];

/// The executable of this name.
///
/// # Errors
/// [`Error::MissingProgram`] with the places searched and how to install it.
pub fn find(program: &str) -> Result<PathBuf, Error> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| executable(file));
    on_path
        .or_else(|| {
            PLACES
                .iter()
                .flat_map(|place| expand(place))
                .map(|dir| dir.join(program))
                .find(|f| executable(f))
        })
        .ok_or_else(|| Error::MissingProgram {
            program: program.to_owned(),
            searched: PLACES.join(", "),
            install: install_hint(program),
        })
}

fn install_hint(program: &str) -> String {
    let (apt, brew) = match program {
        "postgres" | "initdb" => ("postgresql", "postgresql@17"),
        other => (other, if other == "redis-server" { "redis" } else { other }),
    };
    format!(
        "Install it with `apt-get install {apt}` (Debian, Ubuntu) or `brew install {brew}` (macOS), or use `./dev up`."
    )
}

fn executable(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The directories that a place with at most one `*` stands for, highest version first.
fn expand(place: &str) -> Vec<PathBuf> {
    let Some((before, after)) = place.split_once('*') else {
        return vec![PathBuf::from(place)];
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let entries = std::fs::read_dir(Path::new(parent))
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix(prefix)?;
            let version = rest
                .trim_start_matches('@')
                .split('.')
                .next()
                .and_then(|v| v.parse().ok())
                .unwrap_or(0);
            Some((version, entry.path().join(after.trim_start_matches('/'))))
        })
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, directory)| directory).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_installed_is_named_with_a_way_to_install_it() {
        let error = find("surely-not-installed-anywhere").unwrap_err().to_string();
        assert!(
            error.contains("surely-not-installed-anywhere is not installed"),
            "{error}"
        );
        assert!(
            error.contains("apt-get install surely-not-installed-anywhere"),
            "{error}"
        );
        assert!(error.contains("/usr/lib/postgresql/*/bin"), "{error}");
    }

    #[test]
    fn a_program_outside_path_is_found_where_the_distribution_puts_it() {
        assert!(find("initdb").unwrap().ends_with("initdb"));
    }

    #[test]
    fn the_highest_version_of_several_comes_first() {
        let parent = tempfile::tempdir().unwrap();
        for version in ["9.6", "14", "17"] {
            std::fs::create_dir_all(parent.path().join(version).join("bin")).unwrap();
        }
        let found = expand(&format!("{}/*/bin", parent.path().display()));
        let names: Vec<_> = found
            .iter()
            .map(|dir| dir.parent().unwrap().file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["17", "14", "9.6"]);
    }
}
