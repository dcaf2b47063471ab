//! Random passwords and keys for servers that live on one machine.

use std::fs::File;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;

/// 160 random bits as 40 hexadecimal digits: safe in every URL, SQL literal and configuration file.
///
/// # Errors
/// [`Error::Io`] when `/dev/urandom` cannot be read.
pub fn random_password() -> Result<String, Error> {
    let bytes = random_bytes::<20>()?;
    Ok(bytes
        .iter()
        .fold(String::with_capacity(40), |text, byte| text + &format!("{byte:02x}")))
}

/// 32 random bytes in standard base64, the form of the platform's sealing keys.
///
/// # Errors
/// [`Error::Io`] when `/dev/urandom` cannot be read.
pub fn random_key() -> Result<String, Error> {
    Ok(STANDARD.encode(random_bytes::<32>()?))
}

fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0_u8; N];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(Error::io("read /dev/urandom"))?;
    Ok(bytes)
}
