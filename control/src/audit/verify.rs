//! Checking the audit trail: every hash is computed again here, not in the database, and what was kept elsewhere is compared.
//!
//! What it finds: an event whose text was altered, a number that is missing or twice, a link to another past, a head that is not
//! the last event's, a checkpoint that is not genuine or does not fit, and a head from outside that the chain does not hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use authsome_db::DbError;
use futures::StreamExt;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use tokio::pin;

use super::checkpoint::is_genuine;
use crate::db::audit_trail::{self, Chain, Checkpoint, Hashed};

/// The most findings that are told of one chain.
const FINDINGS_MAX: usize = 20;

/// A head, as it is exported and given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The workspace, or `platform`.
    pub chain: String,
    /// The number of its last event.
    pub seq: i64,
    /// The hash of that, in hex.
    pub hash: String,
}

/// What was checked, and what was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Chains that were checked.
    pub chains: usize,
    /// Events that were checked.
    pub events: u64,
    /// Checkpoints that were checked.
    pub checkpoints: usize,
    /// What is wrong. Empty: nothing.
    pub findings: Vec<Finding>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In which chain.
    pub chain: String,
    /// At which event, if at one.
    pub seq: Option<i64>,
    /// What.
    pub problem: String,
}

/// The heads of all chains as they are now.
pub async fn heads(connection: &mut PgConnection) -> Result<Vec<Head>, DbError> {
    let chains = audit_trail::chains(connection).await?;
    Ok(chains.iter().map(head).collect())
}

/// The head of one chain.
pub fn head(chain: &Chain) -> Head {
    Head {
        chain: chain.chain.clone(),
        seq: chain.seq,
        hash: hex(&chain.hash),
    }
}

/// Checks all chains, or one, and that `known` heads are part of them. `trusted` are public keys that checkpoints may be signed
/// with; where there are none, any key that fits is accepted. The connection is to be in a transaction that sees one moment.
pub async fn verify(
    connection: &mut PgConnection,
    only: Option<&str>,
    known: &[Head],
    trusted: &[Vec<u8>],
) -> Result<Report, DbError> {
    let mut report = Report::default();
    let mut chains = audit_trail::chains(connection).await?;
    if let Some(only) = only {
        chains.retain(|chain| chain.chain == only);
    }
    for head in known {
        if !chains.iter().any(|chain| chain.chain == head.chain) {
            report.findings.push(Finding {
                chain: head.chain.clone(),
                seq: Some(head.seq),
                problem: "the chain of a known head is gone".to_owned(),
            });
        }
    }
    if only.is_none() {
        let strays = audit_trail::strays(connection).await?;
        report.findings.extend(strays.into_iter().map(|(chain, seq)| Finding {
            chain,
            seq: Some(seq),
            problem: "an event of a chain that does not exist".to_owned(),
        }));
    }
    for chain in &chains {
        let checkpoints = audit_trail::checkpoints(connection, &chain.chain).await?;
        let mut walk = Walk::new(chain, &checkpoints, known, trusted);
        {
            let events = audit_trail::hashed(connection, &chain.chain);
            pin!(events);
            while let Some(event) = events.next().await {
                walk.event(&event?);
                report.events += 1;
            }
        }
        report.chains += 1;
        report.checkpoints += checkpoints.len();
        report.findings.extend(walk.end());
    }
    Ok(report)
}

/// One chain on its way from its beginning to its end. Pure.
struct Walk<'a> {
    chain: &'a Chain,
    seq: i64,
    hash: Vec<u8>,
    /// Hashes that must stand at a number, and who says so.
    expected: BTreeMap<i64, Vec<(Vec<u8>, &'static str)>>,
    findings: Vec<Finding>,
}

impl<'a> Walk<'a> {
    fn new(chain: &'a Chain, checkpoints: &[Checkpoint], known: &[Head], trusted: &[Vec<u8>]) -> Self {
        let mut walk = Self {
            chain,
            seq: chain.dropped_seq,
            hash: chain.dropped_hash.clone(),
            expected: BTreeMap::new(),
            findings: Vec::new(),
        };
        if chain.dropped_seq == 0 {
            walk.hash = Context::new(&SHA256).finish_with(b"authsome.audit.v1");
            if walk.hash != chain.dropped_hash {
                walk.find(None, "the chain does not begin where chains begin");
            }
        } else if !checkpoints
            .iter()
            .any(|point| point.seq == chain.dropped_seq && point.hash == chain.dropped_hash)
        {
            walk.find(Some(chain.dropped_seq), "events were dropped without a checkpoint");
        }
        for point in checkpoints {
            if !is_genuine(point) {
                walk.find(Some(point.seq), "a checkpoint is not genuine");
            } else if !trusted.is_empty() && !trusted.contains(&point.public_key) {
                walk.find(Some(point.seq), "a checkpoint is signed with a key that is not trusted");
            }
            walk.expect(
                point.seq,
                point.hash.clone(),
                "the event is not the one that was signed",
            );
        }
        for head in known.iter().filter(|head| head.chain == chain.chain) {
            match unhex(&head.hash) {
                Some(hash) => walk.expect(head.seq, hash, "the event is not the one of the known head"),
                None => walk.find(Some(head.seq), "the known head is not a hash"),
            }
        }
        walk
    }

    fn expect(&mut self, seq: i64, hash: Vec<u8>, otherwise: &'static str) {
        match seq.cmp(&self.chain.dropped_seq) {
            // Its checkpoint stands for it.
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal if hash == self.hash => {}
            std::cmp::Ordering::Equal => self.find(Some(seq), otherwise),
            std::cmp::Ordering::Greater => self.expected.entry(seq).or_default().push((hash, otherwise)),
        }
    }

    fn event(&mut self, event: &Hashed) {
        if event.seq != self.seq + 1 {
            let problem = format!("events are missing between {} and {}", self.seq, event.seq);
            self.find(Some(event.seq), problem);
        }
        let hash = hash_of(&self.hash, &event.fields);
        if hash != event.hash {
            self.find(
                Some(event.seq),
                format!("event {} was altered, put in, or follows another past", event.id),
            );
        }
        for (wanted, otherwise) in self.expected.remove(&event.seq).unwrap_or_default() {
            if wanted != hash {
                self.find(Some(event.seq), otherwise);
            }
        }
        self.seq = event.seq;
        // What stands there, so that one altered event is one finding.
        self.hash.clone_from(&event.hash);
    }

    fn end(mut self) -> Vec<Finding> {
        if self.seq != self.chain.seq {
            let problem = format!(
                "the last event is {} and the chain ends at {}",
                self.seq, self.chain.seq
            );
            self.find(Some(self.chain.seq), problem);
        } else if self.hash != self.chain.hash {
            self.find(Some(self.seq), "the last event is not the one that the chain ends with");
        }
        let unseen: Vec<i64> = self.expected.keys().copied().collect();
        for seq in unseen {
            self.find(Some(seq), "an event that was signed or known is gone");
        }
        self.findings
    }

    fn find(&mut self, seq: Option<i64>, problem: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                chain: self.chain.chain.clone(),
                seq,
                problem: problem.into(),
            });
        }
    }
}

/// As `audit_hash` of the database computes it.
fn hash_of(before: &[u8], fields: &[Option<String>]) -> Vec<u8> {
    let mut text = String::new();
    for field in fields {
        // Writing into a string cannot fail.
        let _ = match field {
            Some(value) => write!(text, "{}:{value},", value.len()),
            None => write!(text, "~,"),
        };
    }
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(text.as_bytes());
    context.finish().as_ref().to_vec()
}

trait FinishWith {
    fn finish_with(self, bytes: &[u8]) -> Vec<u8>;
}

impl FinishWith for Context {
    fn finish_with(mut self, bytes: &[u8]) -> Vec<u8> {
        self.update(bytes);
        self.finish().as_ref().to_vec()
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let sound = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    sound.then(|| {
        (0..text.len())
            .step_by(2)
            .filter_map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
            .collect()
    })
}
