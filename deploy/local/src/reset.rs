//! `authsome-local reset`: removes everything that `up` made, the data included.

use std::path::Path;
use std::process::ExitCode;

use crate::bringup::await_predecessors;
use crate::console;
use crate::error::LocalError;
use crate::state::State;

/// Removes the state directory and the servers' data.
///
/// # Errors
/// [`LocalError::AlreadyRunning`] while the platform runs, [`LocalError::Io`].
pub(crate) async fn reset(directory: &Path) -> Result<ExitCode, LocalError> {
    if !directory.exists() {
        console::say("There is nothing to remove.");
        return Ok(ExitCode::SUCCESS);
    }
    let state = State::open(directory)?;
    await_predecessors(&state).await?;
    for path in [state.postgres_directory()?, state.file("")] {
        if path.exists() {
            std::fs::remove_dir_all(&path).map_err(LocalError::io(format!("remove {}", path.display())))?;
        }
    }
    console::say("Removed everything that the platform kept here.");
    Ok(ExitCode::SUCCESS)
}
