//! What is still to be told: the counters whose values the stream has not acknowledged, and the final ones that the
//! aggregator has not confirmed. No I/O: time comes in as a count of rounds, one a second.
//!
//! Values are absolute, so telling too often is harmless; a counter is forgotten only when its final value is in Postgres.

use std::collections::HashMap;
use std::sync::Arc;

use authsome_contract::wire::{UsageConfirmation, UsageCounter, UsageReport};
use authsome_core::id::ApplicationId;
use uuid::Uuid;

use super::cell::Tally;
use super::file::Predecessor;
use super::ledger::{Ledger, Place};

/// Rounds after the end of an hour before its values count as final, and after that before a cell is given to another: a
/// request that was about to be counted when its thread was stopped has this long to do it.
const SETTLING: u64 = 10;
/// Rounds after which an unconfirmed final value is sent again.
const REPEAT: u64 = 5;

/// What was last acknowledged of a counter.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    tally: Tally,
    is_final: bool,
    round: u64,
    /// The round in which it was first sent as final.
    final_since: Option<u64>,
}

#[derive(Debug)]
struct Bequest {
    predecessor: Predecessor,
    told: HashMap<(ApplicationId, u32), Told>,
}

/// The publisher's memory.
#[derive(Debug)]
pub(super) struct Outstanding {
    ledger: Arc<Ledger>,
    round: u64,
    told: HashMap<Place, Told>,
    bequests: Vec<Bequest>,
    /// (closed hour, round in which it was closed); the greatest settled hour is in `settled`.
    closing: Option<(u32, u64)>,
    settled: u32,
}

impl Outstanding {
    pub(super) fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            ledger,
            round: 0,
            told: HashMap::new(),
            bequests: Vec::new(),
            closing: None,
            settled: 0,
        }
    }

    /// A new round, in which the hours up to `over` are over.
    pub(super) fn next_round(&mut self, over: u32) {
        self.round += 1;
        if let Some((hour, since)) = self.closing
            && self.round >= since + SETTLING
        {
            self.settled = hour;
            self.closing = None;
        }
        if self.closing.is_none() && over > self.ledger.closed() {
            self.ledger.close(over);
            self.closing = Some((over, self.round));
        }
    }

    /// A predecessor's counters are now ours to tell. True when it had any.
    pub(super) fn inherit(&mut self, predecessor: Predecessor) -> bool {
        if predecessor.counters.is_empty() {
            predecessor.remove();
            return false;
        }
        self.bequests.push(Bequest {
            predecessor,
            told: HashMap::new(),
        });
        true
    }

    /// Everyone whose confirmations matter.
    pub(super) fn writers(&self) -> Vec<Uuid> {
        let own = self.ledger.segments().map(|segment| segment.writer);
        own.chain(self.bequests.iter().map(|bequest| bequest.predecessor.writer))
            .collect()
    }

    /// What is to be sent now, in messages.
    pub(super) fn due(&self) -> Vec<UsageReport> {
        let mut reports = Vec::new();
        for (number, segment) in self.ledger.numbered() {
            let mut counters = Vec::new();
            for (index, cell) in (0..).zip(segment.touched()) {
                let Some((app, hour)) = cell.owner() else { continue };
                let is_final = hour <= self.settled;
                let tally = cell.tally();
                let told = self.told.get(&Place {
                    segment: number,
                    cell: index,
                });
                if self.is_due(told, &tally, is_final) {
                    counters.push(tally.counter(app, hour, is_final));
                }
            }
            split(segment.writer, &counters, &mut reports);
        }
        for bequest in &self.bequests {
            let due = |counter: &&UsageCounter| {
                let told = bequest.told.get(&(counter.application_id, counter.hour));
                self.is_due(told, &Tally::from(*counter), true)
            };
            let counters: Vec<_> = bequest.predecessor.counters.iter().filter(due).copied().collect();
            split(bequest.predecessor.writer, &counters, &mut reports);
        }
        reports
    }

    fn is_due(&self, told: Option<&Told>, tally: &Tally, is_final: bool) -> bool {
        match told {
            None => is_final || *tally != Tally::default(),
            Some(told) => {
                told.tally != *tally || (is_final && !told.is_final) || (is_final && self.round >= told.round + REPEAT)
            }
        }
    }

    /// The stream has a report.
    pub(super) fn acknowledged(&mut self, report: &UsageReport) {
        for counter in &report.counters {
            let (app, hour) = (counter.application_id, counter.hour);
            let round = self.round;
            let told = if let Some(bequest) = self
                .bequests
                .iter_mut()
                .find(|bequest| bequest.predecessor.writer == report.writer)
            {
                bequest.told.entry((app, hour)).or_default()
            } else {
                let Some(place) = self.place(report.writer, app, hour) else {
                    continue;
                };
                self.told.entry(place).or_default()
            };
            told.tally = counter.into();
            told.is_final |= counter.is_final;
            told.round = round;
            if counter.is_final {
                told.final_since.get_or_insert(round);
            }
        }
    }

    /// Postgres has these values of a writer. Frees the counters that are settled with it; returns how many.
    pub(super) fn confirmed(&mut self, writer: Uuid, confirmation: &UsageConfirmation) -> usize {
        if let Some(index) = self
            .bequests
            .iter()
            .position(|bequest| bequest.predecessor.writer == writer)
        {
            return self.bequest_confirmed(index, confirmation);
        }
        let mut freed = 0;
        for counter in &confirmation.counters {
            let Some(place) = self.place(writer, counter.application_id, counter.hour) else {
                continue;
            };
            let Some(cell) = self.ledger.cell(place) else { continue };
            let settled = self
                .told
                .get(&place)
                .and_then(|told| told.final_since)
                .is_some_and(|since| self.round >= since + SETTLING);
            if settled && Tally::from(counter).covers(&cell.tally()) {
                self.ledger.free(place);
                self.told.remove(&place);
                freed += 1;
            }
        }
        freed
    }

    fn bequest_confirmed(&mut self, index: usize, confirmation: &UsageConfirmation) -> usize {
        let bequest = &mut self.bequests[index];
        let before = bequest.predecessor.counters.len();
        bequest.predecessor.counters.retain(|counter| {
            !confirmation.counters.iter().any(|confirmed| {
                (confirmed.application_id, confirmed.hour) == (counter.application_id, counter.hour)
                    && Tally::from(confirmed).covers(&counter.into())
            })
        });
        let freed = before - bequest.predecessor.counters.len();
        if bequest.predecessor.counters.is_empty() {
            self.bequests.swap_remove(index).predecessor.remove();
        }
        freed
    }

    fn place(&self, writer: Uuid, app: ApplicationId, hour: u32) -> Option<Place> {
        let place = self.ledger.place_of(app, hour)?;
        let segment = self.ledger.segments().nth(place.segment as usize)?;
        (segment.writer == writer).then_some(place)
    }

    /// Counters of dead writers that are not confirmed.
    pub(super) fn inherited(&self) -> usize {
        self.bequests
            .iter()
            .map(|bequest| bequest.predecessor.counters.len())
            .sum()
    }
}

fn split(writer: Uuid, counters: &[UsageCounter], reports: &mut Vec<UsageReport>) {
    let messages = counters.chunks(UsageReport::MAX_COUNTERS);
    reports.extend(messages.map(|counters| UsageReport {
        writer,
        counters: counters.to_vec(),
    }));
}
