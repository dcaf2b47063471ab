//! A stale fill against a revocation: every order of their steps, and then real threads.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::fence::Ticket;
use super::tests::{NOW, app, app_change, key, key_change, table};
use super::*;

/// Who takes the next step. Each has the steps that its comment names, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Actor {
    /// Draws a ticket and reads, from a source that may be behind; then settles what it read.
    StaleFill,
    /// The same with what is committed when it reads.
    Fill,
    /// Commits the revocation, then delivers it by the feed, then delivers it once more.
    Revocation,
    /// moka forgets the key.
    Eviction,
}

const STEPS: [(Actor, usize); 4] = [
    (Actor::StaleFill, 2),
    (Actor::Fill, 2),
    (Actor::Revocation, 3),
    (Actor::Eviction, 1),
];

/// Calls `each` with every order of all steps.
fn orders(left: &mut [(Actor, usize)], order: &mut Vec<Actor>, each: &mut impl FnMut(&[Actor])) {
    if left.iter().all(|(_, steps)| *steps == 0) {
        return each(order);
    }
    for index in 0..left.len() {
        if left[index].1 > 0 {
            left[index].1 -= 1;
            order.push(left[index].0);
            orders(left, order, each);
            order.pop();
            left[index].1 += 1;
        }
    }
}

fn settle(table: &Table, ticket: &Ticket, row: u64) {
    if let Settled::Accepted(slot) = table.settle_app(ticket, app(1)) {
        table.settle_key(ticket, key(row), slot);
    }
}

/// Version 1 is alive and version 2 revoked. After the delivery, version 1 must not be found in the table.
fn run(order: &[Actor], table: &Table, whole: bool, lags: bool) {
    let (mut committed, mut delivered) = (1, false);
    let (mut stale, mut fill, mut revocation) = (None, None, 0);
    for actor in order {
        match actor {
            Actor::StaleFill => match stale.take() {
                None => stale = Some((table.ticket(NOW), if lags { 1 } else { committed })),
                Some((ticket, row)) => settle(table, &ticket, row),
            },
            Actor::Fill => match fill.take() {
                None => fill = Some((table.ticket(NOW), committed)),
                Some((ticket, row)) => settle(table, &ticket, row),
            },
            Actor::Revocation => {
                revocation += 1;
                if revocation == 1 {
                    committed = 2;
                } else {
                    table.apply(key_change(2, true), NOW, whole);
                    delivered = true;
                }
            }
            Actor::Eviction => table.keys.invalidate(&key(1).digest),
        }
        let held = table
            .keys
            .find(&key(1).digest, NOW)
            .map(|entry| entry.record.version().row);
        assert!(
            !delivered || held.is_none_or(|row| row == 2),
            "{held:?} is held after {order:?}"
        );
    }
}

#[test]
fn in_every_order_of_steps_the_old_record_never_returns_after_a_revocation() {
    let mut count = 0;
    for (whole, lags) in [(true, true), (true, false), (false, true), (false, false)] {
        // A source that is behind is told by what the feed said before, which the table remembers as floors.
        let table = table(if lags { 100 } else { 0 });
        table.apply(app_change(1, true), NOW, true);
        orders(&mut STEPS.clone(), &mut Vec::new(), &mut |order| {
            let digest = key(1).digest;
            table.keys.invalidate(&digest);
            table.key_floors.invalidate(&digest);
            run(order, &table, whole, lags);
            count += 1;
        });
    }
    assert_eq!(count, 4 * 1_680, "8! / (2! 2! 3! 1!)");
}

#[test]
fn real_threads_never_bring_the_old_record_back() {
    let table = table(100);
    table.apply(app_change(1, true), NOW, true);
    let (committed, delivered) = (AtomicU64::new(1), AtomicU64::new(0));
    let rounds = 3_000;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while delivered.load(Ordering::SeqCst) < rounds {
                    let ticket = table.ticket(NOW);
                    let row = committed.load(Ordering::SeqCst);
                    settle(&table, &ticket, row);
                    table.keys.invalidate(&key(1).digest);
                    let ticket = table.ticket(NOW);
                    let row = committed.load(Ordering::SeqCst);
                    settle(&table, &ticket, row);
                }
            });
        }
        scope.spawn(|| {
            for row in 2..=rounds {
                committed.store(row, Ordering::SeqCst);
                table.apply(key_change(row, true), NOW, row % 2 == 0);
                delivered.store(row, Ordering::SeqCst);
            }
        });
        let mut told = 0;
        while told < rounds {
            told = delivered.load(Ordering::SeqCst);
            if let Some(entry) = table.keys.find(&key(1).digest, NOW) {
                let held = entry.record.version().row;
                assert!(held >= told, "{held} after {told}");
            }
        }
    });
}
