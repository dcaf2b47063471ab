use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::entropy::SeededEntropy;

const EXAMPLE: &str = "app_01h2xcejqtf2nbrexx3vqjhp41";

#[test]
fn the_example_of_the_typeid_specification_reads_and_prints() {
    let id: ApplicationId = EXAMPLE.parse().unwrap();
    assert_eq!(id.uuid(), uuid::uuid!("0188bac7-4afa-78aa-bc3b-bd1eef28d881"));
    assert_eq!(id.to_string(), EXAMPLE);
    assert_eq!(format!("{id:?}"), EXAMPLE);
    assert_eq!(&*id.text(), EXAMPLE);
    assert_eq!(&*id.suffix(), "01h2xcejqtf2nbrexx3vqjhp41");
    assert_eq!(ApplicationId::from_suffix(&id.suffix()).unwrap(), id);
}

#[test]
fn the_limits_of_the_specification_hold() {
    let text = |uuid| Id::<Workspace>::from_uuid(uuid).to_string();
    assert_eq!(text(Uuid::nil()), "ws_00000000000000000000000000");
    assert_eq!(text(Uuid::max()), "ws_7zzzzzzzzzzzzzzzzzzzzzzzzz");
    assert!("ws_8zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<WorkspaceId>().is_err());
}

#[test]
fn an_id_is_sixteen_bytes() {
    assert_eq!(size_of::<ApplicationId>(), 16);
    assert_eq!(size_of::<IdSuffix>(), 26);
}

#[test]
fn only_the_exact_form_is_accepted() {
    for text in [
        "",
        "app",
        "app_",
        "_01h2xcejqtf2nbrexx3vqjhp41",
        "01h2xcejqtf2nbrexx3vqjhp41",
        "app-01h2xcejqtf2nbrexx3vqjhp41",
        "App_01h2xcejqtf2nbrexx3vqjhp41",
        "app_01H2XCEJQTF2NBREXX3VQJHP41",
        "app_01h2xcejqtf2nbrexx3vqjhp4",
        "app_01h2xcejqtf2nbrexx3vqjhp411",
        "app_01h2xcejqtf2nbrexx3vqjhp4i",
        "app_01h2xcejqtf2nbrexx3vqjhp4l",
        "app_01h2xcejqtf2nbrexx3vqjhp4o",
        "app_01h2xcejqtf2nbrexx3vqjhp4u",
        " app_01h2xcejqtf2nbrexx3vqjhp41",
        "app_01h2xcejqtf2nbrexx3vqjhp41\n",
        "ws_01h2xcejqtf2nbrexx3vqjhp41",
        "app_app_01h2xcejqtf2nbrexx3vqjhp41",
    ] {
        assert!(text.parse::<ApplicationId>().is_err(), "{text:?} was accepted");
    }
}

#[test]
fn an_error_names_the_kind_and_not_the_text() {
    let error = "usr_hunter2".parse::<ApplicationId>().unwrap_err();
    assert_eq!(error.to_string(), "not an application id: it must begin with \"app_\"");
    let error = "usr_hunter2".parse::<UserId>().unwrap_err();
    assert!(!error.to_string().contains("hunter2"));
}

#[test]
fn a_generated_id_is_a_uuid_v7_of_the_clock() {
    let clock = ManualClock::at_millis(1_700_000_000_123);
    let id = EventId::generate(&clock, &SeededEntropy::new(1));
    assert_eq!(id.uuid().get_version_num(), 7);
    assert_eq!(id.uuid().get_variant(), uuid::Variant::RFC4122);
    assert_eq!(id.uuid().as_u128() >> 80, 1_700_000_000_123);
}

#[test]
fn a_clock_before_the_epoch_still_gives_an_id() {
    let id = KeyId::generate(&ManualClock::at_millis(-5), &SeededEntropy::new(1));
    assert_eq!(id.uuid().as_u128() >> 80, 0);
}

#[test]
fn ids_of_one_millisecond_differ() {
    let (clock, entropy) = (ManualClock::default(), SeededEntropy::new(3));
    let ids: HashSet<_> = (0..10_000).map(|_| RequestId::generate(&clock, &entropy)).collect();
    assert_eq!(ids.len(), 10_000);
}

#[test]
fn json_is_the_text_and_a_foreign_id_is_refused() {
    let id: ApplicationId = EXAMPLE.parse().unwrap();
    assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{EXAMPLE}\""));
    assert_eq!(
        serde_json::from_str::<ApplicationId>(&format!("\"{EXAMPLE}\"")).unwrap(),
        id
    );
    assert!(serde_json::from_str::<UserId>(&format!("\"{EXAMPLE}\"")).is_err());
    assert!(serde_json::from_str::<ApplicationId>("7").is_err());
}

#[test]
fn width_in_a_format_string_is_honoured() {
    let id: OperationId = "op_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap();
    assert_eq!(format!("{id:>31}"), format!("  {id}"));
}

proptest! {
    #[test]
    fn text_and_id_convert_both_ways(value: u128) {
        let id = MemberId::from_uuid(Uuid::from_u128(value));
        prop_assert_eq!(id.to_string().parse::<MemberId>(), Ok(id));
    }

    #[test]
    fn ids_sort_as_their_text_does(a: u128, b: u128) {
        let (a, b) = (InvitationId::from_uuid(Uuid::from_u128(a)), InvitationId::from_uuid(Uuid::from_u128(b)));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }

    #[test]
    fn whatever_parses_prints_as_it_was_written(text in "(app_)?[0-9a-zA-Z_]{20,30}|\\PC*") {
        if let Ok(id) = text.parse::<ApplicationId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
