//! Random passwords for servers that live on one machine.

use std::fs::File;
use std::io::Read;

use crate::error::Error;

/// 160 random bits as 40 hexadecimal digits: safe in every URL, SQL literal and configuration file.
///
/// # Errors
/// [`Error::Io`] when `/dev/urandom` cannot be read.
pub fn random_password() -> Result<String, Error> {
    let mut bytes = [0_u8; 20];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(Error::io("read /dev/urandom"))?;
    Ok(bytes
        .iter()
        .fold(String::with_capacity(40), |text, byte| text + &format!("{byte:02x}")))
}
