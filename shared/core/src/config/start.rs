//! How a program gets its configuration, or ends because of it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{ConfigErrors, Environment, Reader};

/// The exit code of a program whose configuration is wrong.
pub const BAD_CONFIG: u8 = 2;

/// What the command line says about configuration.
#[derive(Debug, Clone, Default)]
pub struct ConfigArgs {
    /// `--config`: the file, if there is one.
    pub file: Option<PathBuf>,
    /// `--check-config`: say whether the configuration is right, and end.
    pub check: bool,
}

impl ConfigArgs {
    /// Reads the configuration of the process. `Err` is how the process is to end: 2 after the problems were printed to
    /// standard error, or 0 after `--check-config` found none and said so on standard output.
    pub fn load<T>(&self, read: impl FnOnce(&mut Reader) -> Option<T>) -> Result<T, ExitCode> {
        let result = Reader::new(self.file.as_deref(), Environment::of_process()).finish(read);
        self.conclude(result, &mut std::io::stdout().lock(), &mut std::io::stderr().lock())
    }

    // A closed pipe must not turn the verdict into another one, so failed writes change nothing.
    pub(super) fn conclude<T>(
        &self,
        result: Result<T, ConfigErrors>,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<T, ExitCode> {
        match result {
            Ok(config) if !self.check => Ok(config),
            Ok(_) => {
                let _ = writeln!(out, "configuration OK");
                Err(ExitCode::SUCCESS)
            }
            Err(errors) => {
                let _ = writeln!(err, "configuration error\n{errors}");
                Err(ExitCode::from(BAD_CONFIG))
            }
        }
    }
}
