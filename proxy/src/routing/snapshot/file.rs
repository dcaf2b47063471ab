//! The form of a snapshot file: blocks, each with its length and checksum, the last of which says that it is complete.
//!
//! ```text
//! "AUTHEDG2"  then blocks: kind (1) | length (4, little endian) | CRC-32 of kind, length and payload (4) | payload
//! H  JSON of Head, first
//! A, N  applications, host names: length (4) | confirmed at (8) | JSON of the record
//! K  keys: likewise, but as `key::form` has them
//! E  JSON of Counts, last
//! ```
//! A reader that finds another magic refuses the file, whether it is older or newer, and the table comes from elsewhere. The
//! fronts of the blocks lead from one to the next, so the file is [indexed](index) at once and its blocks are then read,
//! checked and decoded in any order by as many threads as there are.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"AUTHEDG2";
/// A block is closed once it is this long.
const BLOCK: usize = 256 * 1024;
/// Far above any block that is written: what is longer was not written here.
const BLOCK_MAX: u32 = 64 * 1024 * 1024;
/// Kind, length and checksum.
const FRONT: u64 = 9;

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
    /// Hosts in the file.
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

    /// Adds a record of `kind`, which `write` appends, that was last known to be the truth at `confirmed_ms`.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        confirmed_ms: i64,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
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
        write(&mut self.block)?;
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

/// A block of a file: where it is and what its checksum must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    number: u64,
    pub(super) kind: Kind,
    at: u64,
    length: u32,
    sum: u32,
}

impl Block {
    /// The front of a block at `at`, in a file of `size` bytes.
    fn find(file: &File, at: u64, size: u64, number: u64) -> Result<Self, FileError> {
        let mut front = [0; 9];
        if let Err(error) = file.read_exact_at(&mut front, at) {
            return Err(ended(error, FileError::Incomplete));
        }
        let [kind, l0, l1, l2, l3, c0, c1, c2, c3] = front;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let at = at + FRONT;
        // A front is proved by its payload, and every payload is read: a flipped bit that leads astray is found out, and
        // called damage even where it made an unknown kind.
        let kind = Kind::ALL.into_iter().find(|known| known.byte() == kind);
        match kind {
            Some(kind) if length <= BLOCK_MAX && at + u64::from(length) <= size => Ok(Self {
                number,
                kind,
                at,
                length,
                sum: u32::from_le_bytes([c0, c1, c2, c3]),
            }),
            _ => Err(FileError::Damaged { block: number }),
        }
    }

    /// Its payload, in place of what `payload` held.
    pub(super) fn read(&self, file: &File, payload: &mut Vec<u8>) -> Result<(), FileError> {
        let damaged = FileError::Damaged { block: self.number };
        payload.resize(self.length as usize, 0);
        if let Err(error) = file.read_exact_at(payload, self.at) {
            return Err(ended(error, damaged));
        }
        if checksum(self.kind.byte(), self.length, payload) == self.sum {
            Ok(())
        } else {
            Err(damaged)
        }
    }
}

fn ended(error: io::Error, otherwise: FileError) -> FileError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        otherwise
    } else {
        error.into()
    }
}

/// What a file says of itself, and where its records are.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) head: Head,
    pub(super) counts: Counts,
    /// Those between the first and the last.
    pub(super) blocks: Vec<Block>,
}

/// Goes from block to block. A file whose last block does not say that it is the last is incomplete.
pub(super) fn index(file: &File) -> Result<Index, FileError> {
    let mut magic = [0; MAGIC.len()];
    file.read_exact_at(&mut magic, 0).map_err(|_| FileError::Form)?;
    if &magic != MAGIC {
        return Err(FileError::Form);
    }
    let size = file.metadata()?.len();
    let (mut payload, mut blocks) = (Vec::new(), Vec::new());
    let (mut at, mut head) = (MAGIC.len() as u64, None);
    for number in 0.. {
        let block = Block::find(file, at, size, number)?;
        at = block.at + u64::from(block.length);
        match (block.kind, &head) {
            (Kind::Head, None) => {
                block.read(file, &mut payload)?;
                head = Some(serde_json::from_slice(&payload)?);
            }
            (Kind::End, Some(_)) => {
                block.read(file, &mut payload)?;
                break;
            }
            (Kind::Head, Some(_)) | (_, None) => return Err(FileError::Damaged { block: number }),
            (_, Some(_)) => blocks.push(block),
        }
    }
    Ok(Index {
        head: head.ok_or(FileError::Form)?,
        counts: serde_json::from_slice(&payload)?,
        blocks,
    })
}

/// The records of a block, each with the time at which it was last known to be the truth.
pub(super) fn records(mut payload: &[u8]) -> impl Iterator<Item = Result<(&[u8], i64), FileError>> {
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
        let next = next();
        if next.is_none() {
            payload = &[];
        }
        Some(next.ok_or(FileError::Form))
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
        keys: 40_000,
        hosts: 2,
    };

    fn file() -> Vec<u8> {
        let mut writer = Writer::begin(Vec::new(), &head()).unwrap();
        let mut add = |kind, n: u32| {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(&n.to_le_bytes());
                Ok(())
            };
            writer.add(kind, i64::from(n) - 5, write).unwrap();
        };
        (0..3).for_each(|n| add(Kind::Apps, n));
        (0..40_000).for_each(|n| add(Kind::Keys, n));
        (0..2).for_each(|n| add(Kind::Hosts, n));
        let (file, counts) = writer.end().unwrap();
        assert_eq!(counts, COUNTS);
        file
    }

    fn read(bytes: &[u8]) -> Result<Counts, FileError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let index = index(&file)?;
        assert_eq!(index.head, head());
        let (mut counts, mut payload) = (Counts::default(), Vec::new());
        for block in index.blocks {
            block.read(&file, &mut payload)?;
            let count = match block.kind {
                Kind::Apps => &mut counts.apps,
                Kind::Keys => &mut counts.keys,
                Kind::Hosts => &mut counts.hosts,
                Kind::Head | Kind::End => panic!("not a block of records"),
            };
            for record in records(&payload) {
                let (record, confirmed_ms) = record?;
                let n = u32::from_le_bytes(record.try_into().unwrap());
                assert_eq!((u64::from(n), i64::from(n) - 5), (*count, confirmed_ms));
                *count += 1;
            }
        }
        assert_eq!(counts, index.counts);
        Ok(counts)
    }

    #[test]
    fn what_was_written_is_read_again() {
        assert_eq!(read(&file()).unwrap(), COUNTS);
    }

    #[test]
    fn any_flipped_bit_and_any_early_end_is_noticed() {
        let file = file();
        for at in (0..file.len())
            .step_by(9_001)
            .chain(0..40)
            .chain(file.len() - 40..file.len())
        {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert!(read(&damaged).is_err(), "byte {at}");
            assert!(read(&file[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_file_of_an_earlier_or_a_later_release_is_refused_and_not_called_damaged() {
        for release in [b'1', b'3'] {
            let mut other = file();
            other[7] = release;
            assert!(matches!(read(&other), Err(FileError::Form)));
        }
    }
}
