//! The form of a snapshot file: blocks, each with its length and checksum, the last of which says that it is complete.
//!
//! ```text
//! "AUTHEDG1"  then blocks: kind (1) | length (4, little endian) | CRC-32 of kind, length and payload (4) | payload
//! H  JSON of Head, first       A, K, N  records of applications, keys, host names: length (4) | confirmed at (8) | JSON
//! E  JSON of Counts, last
//! ```
//! Blocks are read one after another and can be decoded at once, so loading uses every core. Pure but for the reader and the
//! writer that it is given.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

const MAGIC: &[u8; 8] = b"AUTHEDG1";
/// A block is closed once it is this long.
const BLOCK: usize = 256 * 1024;
/// Far above any block that is written: what is longer was not written here.
const BLOCK_MAX: u32 = 64 * 1024 * 1024;

/// The first block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    /// Restore epoch of the last position.
    pub(super) epoch: u64,
    /// Outbox position up to which everything was applied.
    pub(super) position: u64,
    /// The stream's creation time, nanoseconds since the Unix epoch; 0 if no stream was followed.
    pub(super) incarnation: i64,
    /// Stream sequence of the last change that was applied.
    pub(super) sequence: u64,
    /// Milliseconds since the Unix epoch.
    pub(super) written_ms: i64,
}

/// The last block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::routing) struct Counts {
    /// Applications in the file.
    pub(in crate::routing) apps: u64,
    /// Keys in the file.
    pub(in crate::routing) keys: u64,
    /// Hosts in the file. An earlier release wrote none.
    #[serde(default)]
    pub(in crate::routing) hosts: u64,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Head = b'H' as isize,
    Apps = b'A' as isize,
    Keys = b'K' as isize,
    Hosts = b'N' as isize,
    End = b'E' as isize,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Head, Self::Apps, Self::Keys, Self::Hosts, Self::End];

    const fn byte(self) -> u8 {
        self as u8
    }
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not a snapshot of this form.
    #[error("not a snapshot that this release can read")]
    Form,
    /// A block does not match its checksum, or ends early.
    #[error("damaged in block {block}")]
    Damaged {
        /// Counted from 0.
        block: u64,
    },
    /// The last block is missing, or counts what is not there.
    #[error("incomplete")]
    Incomplete,
    /// Nothing in it may be acted on any more.
    #[error("older than the staleness bound")]
    TooOld,
    /// A record does not decode.
    #[error("record: {0}")]
    Record(#[from] serde_json::Error),
}

/// Writes blocks.
pub(super) struct Writer<W: Write> {
    out: W,
    kind: Kind,
    block: Vec<u8>,
    counts: Counts,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(mut out: W, head: &Head) -> Result<Self, FileError> {
        out.write_all(MAGIC)?;
        let mut writer = Self {
            out,
            kind: Kind::Head,
            block: serde_json::to_vec(head)?,
            counts: Counts::default(),
        };
        writer.close()?;
        Ok(writer)
    }

    /// Adds a record of `kind` that was last known to be the truth at `confirmed_ms`.
    pub(super) fn add(&mut self, kind: Kind, record: &impl Serialize, confirmed_ms: i64) -> Result<(), FileError> {
        if self.kind != kind || self.block.len() >= BLOCK {
            self.close()?;
            self.kind = kind;
        }
        match kind {
            Kind::Apps => self.counts.apps += 1,
            Kind::Keys => self.counts.keys += 1,
            Kind::Hosts => self.counts.hosts += 1,
            Kind::Head | Kind::End => {}
        }
        let start = self.block.len();
        self.block.extend_from_slice(&[0; 4]);
        self.block.extend_from_slice(&confirmed_ms.to_le_bytes());
        serde_json::to_writer(&mut self.block, record)?;
        let length = u32::try_from(self.block.len() - start - 12).map_err(|_| FileError::Form)?;
        self.block[start..start + 4].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// Writes the last block and gives back what was written to.
    pub(super) fn end(mut self) -> Result<(W, Counts), FileError> {
        self.close()?;
        self.kind = Kind::End;
        self.block = serde_json::to_vec(&self.counts)?;
        self.close()?;
        Ok((self.out, self.counts))
    }

    fn close(&mut self) -> Result<(), FileError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let length = u32::try_from(self.block.len()).map_err(|_| FileError::Form)?;
        let sum = checksum(self.kind.byte(), length, &self.block);
        self.out.write_all(&[self.kind.byte()])?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&sum.to_le_bytes())?;
        self.out.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

fn checksum(kind: u8, length: u32, payload: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&[kind]);
    sum.update(&length.to_le_bytes());
    sum.update(payload);
    sum.finalize()
}

/// Reads blocks whose checksum is right.
pub(super) struct Reader<R: Read> {
    input: R,
    blocks: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(mut input: R) -> Result<(Self, Head), FileError> {
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic).map_err(|_| FileError::Form)?;
        if &magic != MAGIC {
            return Err(FileError::Form);
        }
        let mut reader = Self { input, blocks: 0 };
        match reader.block()? {
            (Kind::Head, payload) => Ok((reader, serde_json::from_slice(&payload)?)),
            _ => Err(FileError::Form),
        }
    }

    /// The next block. A file that ends here instead is damaged: its last block says that it is the last.
    pub(super) fn block(&mut self) -> Result<(Kind, Vec<u8>), FileError> {
        let damaged = FileError::Damaged { block: self.blocks };
        let mut front = [0; 9];
        if let Err(error) = self.input.read_exact(&mut front) {
            return Err(ended(error, FileError::Incomplete));
        }
        let [kind, l0, l1, l2, l3, c0, c1, c2, c3] = front;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length > BLOCK_MAX {
            return Err(damaged);
        }
        let mut payload = vec![0; length as usize];
        if let Err(error) = self.input.read_exact(&mut payload) {
            return Err(ended(error, damaged));
        }
        let known = Kind::ALL.into_iter().find(|known| known.byte() == kind);
        if checksum(kind, length, &payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(damaged);
        }
        self.blocks += 1;
        Ok((known.ok_or(FileError::Form)?, payload))
    }
}

fn ended(error: io::Error, otherwise: FileError) -> FileError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        otherwise
    } else {
        error.into()
    }
}

/// The records of a block, each with the time at which it was last known to be the truth.
pub(super) fn records<T: DeserializeOwned>(mut payload: &[u8]) -> impl Iterator<Item = Result<(T, i64), FileError>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        let mut next = || {
            let (length, rest) = payload.split_first_chunk::<4>()?;
            let (confirmed, rest) = rest.split_first_chunk::<8>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            let (record, rest) = rest.split_at_checked(length)?;
            payload = rest;
            Some((record, i64::from_le_bytes(*confirmed)))
        };
        let Some((record, confirmed_ms)) = next() else {
            payload = &[];
            return Some(Err(FileError::Form));
        };
        let decoded = serde_json::from_slice(record).map(|record| (record, confirmed_ms));
        Some(decoded.map_err(FileError::from))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            epoch: 2,
            position: 9,
            incarnation: 7,
            sequence: 11,
            written_ms: 1_000,
        }
    }

    const COUNTS: Counts = Counts {
        apps: 3,
        keys: 20_000,
        hosts: 2,
    };

    fn file() -> Vec<u8> {
        let mut writer = Writer::begin(Vec::new(), &head()).unwrap();
        for n in 0..3_u32 {
            writer.add(Kind::Apps, &n, i64::from(n)).unwrap();
        }
        for n in 0..20_000_u32 {
            writer.add(Kind::Keys, &n, -5).unwrap();
        }
        for n in 0..2_u32 {
            writer.add(Kind::Hosts, &n, 7).unwrap();
        }
        let (file, counts) = writer.end().unwrap();
        assert_eq!(counts, COUNTS);
        file
    }

    fn read(file: &[u8]) -> Result<Counts, FileError> {
        let (mut reader, found) = Reader::begin(file)?;
        assert_eq!(found, head());
        let mut counts = Counts::default();
        loop {
            match reader.block()? {
                (Kind::Apps, payload) => counts.apps += records::<u32>(&payload).map(Result::unwrap).count() as u64,
                (Kind::Keys, payload) => counts.keys += records::<u32>(&payload).map(Result::unwrap).count() as u64,
                (Kind::Hosts, payload) => counts.hosts += records::<u32>(&payload).map(Result::unwrap).count() as u64,
                (Kind::End, payload) => {
                    assert_eq!(serde_json::from_slice::<Counts>(&payload).unwrap(), counts);
                    return Ok(counts);
                }
                (Kind::Head, _) => panic!("one head"),
            }
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        assert_eq!(read(&file()).unwrap(), COUNTS);
        let before: Counts = serde_json::from_str(r#"{"apps":3,"keys":4}"#).unwrap();
        assert_eq!(before.hosts, 0, "the file of an earlier release");
    }

    #[test]
    fn any_flipped_bit_and_any_early_end_is_noticed() {
        let file = file();
        for at in (0..file.len()).step_by(4_001) {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert!(read(&damaged).is_err(), "byte {at}");
            assert!(read(&file[..at]).is_err(), "cut at {at}");
        }
    }
}
