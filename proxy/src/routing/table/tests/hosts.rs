//! Hosts obey the rules of keys.

use authsome_contract::model::HostRecord;

use super::*;
use crate::routing::fence::Ticket;
use crate::routing::host::HostEntry;

const NAME: &str = "login.shop.example";

fn host(row: u64) -> HostRecord {
    HostRecord {
        host: NAME.to_owned(),
        application_id: id(),
        version: version(row),
    }
}

fn change(row: u64, record: bool) -> Change {
    Change::Host(
        NAME.to_owned(),
        Versioned {
            version: version(row),
            record: record.then(|| host(row)),
        },
    )
}

fn settle(table: &Table, row: u64, ticket: &Ticket) -> Settled<Arc<HostEntry>> {
    let Settled::Accepted(slot) = table.settle_app(ticket, app(1)) else {
        panic!("nothing newer is known")
    };
    table.settle_host(ticket, host(row), slot)
}

#[test]
fn a_host_leads_to_its_application_as_that_now_stands() {
    let table = table(100);
    settle(&table, 1, &table.ticket(NOW));
    let Lookup::Hit(entry) = table.host(NAME, NOW) else {
        panic!("it is held")
    };
    assert_eq!(entry.app.load().unwrap().record.version, version(1));
    table.apply(app_change(2, true), NOW, false);
    assert_eq!(entry.app.load().unwrap().record.version, version(2));
    assert!(matches!(table.host("other.example", NOW), Lookup::Unknown));
    assert!(
        matches!(table.host(NAME, NOW + 10_000), Lookup::Unknown),
        "the feed is silent"
    );
    assert!(table.last_known_host(NAME, NOW + 10_000).is_some());
    table.tidy();
    assert!(table.sizes().hosts_bytes >= 2 * NAME.len() as u64);
}

#[test]
fn a_host_that_came_before_its_application_is_no_hit() {
    let table = table(100);
    assert_eq!(table.apply(change(1, true), NOW, true), Applied::Updated);
    assert!(matches!(table.host(NAME, NOW), Lookup::Unknown));
    table.apply(app_change(1, true), NOW, true);
    table.pulse().beat(NOW, BEAT, 1, 1);
    table.apply(change(2, true), NOW, true);
    table.apply(app_change(2, true), NOW, true);
    let Lookup::Hit(entry) = table.host(NAME, NOW) else {
        panic!("both are here")
    };
    assert_eq!(entry.record.version, version(2));
}

#[test]
fn a_host_that_was_taken_away_does_not_come_back_with_an_older_record() {
    let table = table(100);
    let before = table.ticket(NOW);
    settle(&table, 1, &before);
    assert_eq!(table.apply(change(3, false), NOW, true), Applied::Updated);
    assert!(matches!(table.host(NAME, NOW), Lookup::Unknown));
    // From the feed, from a snapshot, and from a source that is behind.
    assert_eq!(table.apply(change(2, true), NOW, true), Applied::NotHeld);
    table.restore_host(host(2), NOW);
    assert!(matches!(settle(&table, 2, &table.ticket(NOW + 1)), Settled::Behind));
    assert_eq!(table.host_version(NAME), None);
    // A fill that began before the change brings what is acted on once and not kept.
    assert!(matches!(settle(&table, 4, &before), Settled::Accepted(_)));
    assert_eq!(table.host_version(NAME), None);
    // Given again.
    assert!(matches!(
        settle(&table, 4, &table.ticket(NOW + 1)),
        Settled::Accepted(_)
    ));
    assert_eq!(table.host_version(NAME), Some(version(4)));
}

#[test]
fn a_host_may_be_given_to_another_application() {
    let table = table(100);
    settle(&table, 1, &table.ticket(NOW));
    let other = ApplicationId::from_uuid(Uuid::from_u128(8));
    let moved = HostRecord {
        application_id: other,
        ..host(2)
    };
    let moved = Change::Host(
        NAME.to_owned(),
        Versioned {
            version: version(2),
            record: Some(moved),
        },
    );
    assert_eq!(table.apply(moved, NOW, false), Applied::Updated);
    assert_eq!(
        table.last_known_host(NAME, NOW).map(|entry| entry.app.id()),
        None,
        "nobody vouches for it yet"
    );
    assert_eq!(table.host_version(NAME), Some(version(2)));
}

#[test]
fn a_host_that_does_not_exist_is_remembered_until_it_does() {
    let table = table(100);
    let name = Arc::from(NAME);
    assert_eq!(table.settle_absent_host(&table.ticket(NOW), &name), Absence::Kept);
    assert!(matches!(table.host(NAME, NOW), Lookup::Absent));
    let drawn = table.ticket(NOW);
    table.apply(change(1, true), NOW, false);
    assert!(matches!(table.host(NAME, NOW), Lookup::Unknown));
    assert_eq!(table.settle_absent_host(&drawn, &name), Absence::Overtaken);
}

#[test]
fn a_record_under_another_name_is_not_taken() {
    let table = table(100);
    let wrong = Change::Host(
        "other.example".to_owned(),
        Versioned {
            version: version(1),
            record: Some(host(1)),
        },
    );
    assert_eq!(table.apply(wrong, NOW, true), Applied::NotHeld);
    assert_eq!(table.sizes().hosts, 0);
}
