use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::entropy::SeededEntropy;

const PLACE: Aad<'_> = Aad {
    table_column: "applications.database_url",
    row: "app_1",
};

// 32 bytes each, in base64.
const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";

fn ring(text: &str) -> PlatformRing {
    PlatformRing::parse(text).unwrap()
}

fn entropy() -> SeededEntropy {
    SeededEntropy::new(1)
}

#[test]
fn a_sealed_value_opens_in_its_place_only() {
    let ring = ring(OLD);
    let sealed = ring.seal(PLACE, b"postgres://u:p@h/d", &entropy());
    assert_eq!(
        ring.open(PLACE, &sealed).unwrap().expose_secret(),
        b"postgres://u:p@h/d"
    );
    assert_eq!(
        ring.open_text(PLACE, &sealed).unwrap().expose_secret(),
        "postgres://u:p@h/d"
    );
    for place in [
        Aad { row: "app_2", ..PLACE },
        Aad {
            table_column: "applications.redis_url",
            ..PLACE
        },
        Aad {
            table_column: "applications.database_urlapp_1",
            row: "",
        },
        Aad {
            table_column: "applications.database_urla",
            row: "pp_1",
        },
    ] {
        assert_eq!(ring.open(place, &sealed).unwrap_err(), SealError::Refused, "{place:?}");
    }
}

#[test]
fn a_ring_of_another_purpose_does_not_open_it_even_with_the_same_key() {
    let sealed = ring(OLD).seal(PLACE, b"secret", &entropy());
    assert_eq!(
        EdgeRing::parse(OLD).unwrap().open(PLACE, &sealed).unwrap_err(),
        SealError::Refused
    );
}

#[test]
fn rotation_opens_old_values_and_seals_with_the_new_key() {
    let before = ring(OLD);
    let rotated = ring(&format!("2:{NEW}, 1:{OLD}"));
    let after = ring(&format!("2:{NEW}"));
    let old_value = before.seal(PLACE, b"secret", &entropy());

    assert!(!before.needs_reseal(&old_value));
    assert!(rotated.needs_reseal(&old_value));
    let plaintext = rotated.open(PLACE, &old_value).unwrap();
    let new_value = rotated.seal(PLACE, plaintext.expose_secret(), &entropy());

    assert!(!rotated.needs_reseal(&new_value));
    assert_eq!(after.open(PLACE, &new_value).unwrap().expose_secret(), b"secret");
    assert_eq!(after.open(PLACE, &old_value).unwrap_err(), SealError::UnknownKey(1));
}

#[test]
fn an_empty_value_has_a_tag_too() {
    let ring = ring(OLD);
    let sealed = ring.seal(PLACE, b"", &entropy());
    assert_eq!(sealed.len(), PlatformRing::OVERHEAD);
    assert!(ring.open(PLACE, &sealed).unwrap().expose_secret().is_empty());
    assert!(ring.open(Aad { row: "", ..PLACE }, &sealed).is_err());
}

#[test]
fn the_same_value_is_never_sealed_the_same_way_twice() {
    let (ring, entropy) = (ring(OLD), entropy());
    assert_ne!(
        ring.seal(PLACE, b"secret", &entropy),
        ring.seal(PLACE, b"secret", &entropy)
    );
}

#[test]
fn keys_in_configuration_are_checked_and_never_repeated() {
    let message = |text: &str| PlatformRing::parse(text).unwrap_err();
    assert_eq!(message(""), RingError::Empty);
    assert_eq!(message(" , "), RingError::Empty);
    assert_eq!(message("hunter2"), RingError::Key(1));
    assert_eq!(message(&format!("{OLD},2:aHVudGVyMg==")), RingError::Key(2));
    assert_eq!(message(&format!("x:{OLD}")), RingError::Id(1));
    assert_eq!(message(&format!("{OLD},1:{NEW}")), RingError::Duplicate(1));
    assert!(!message("hunter2").to_string().contains("hunter2"));
}

#[test]
fn debug_shows_key_ids_only() {
    assert_eq!(
        format!("{:?}", ring(&format!("7:{NEW},1:{OLD}"))),
        "SealRing<platform>(keys [7, 1])"
    );
    assert_eq!(format!("{:?}", SealKey::new(3, &[9; 32])), "SealKey(3)");
}

#[test]
fn a_derived_key_depends_on_secret_and_context() {
    let reply = |secret: &[u8], context: &[u8]| ReplyRing::single(derive_key(secret, context));
    let sealed = reply(b"idempotency-1", b"ws_1").seal(PLACE, b"sk_live_x", &entropy());
    assert_eq!(
        reply(b"idempotency-1", b"ws_1")
            .open(PLACE, &sealed)
            .unwrap()
            .expose_secret(),
        b"sk_live_x"
    );
    assert!(reply(b"idempotency-2", b"ws_1").open(PLACE, &sealed).is_err());
    assert!(reply(b"idempotency-1", b"ws_2").open(PLACE, &sealed).is_err());
}

#[test]
fn a_value_that_is_not_text_says_so() {
    let ring = ring(OLD);
    let sealed = ring.seal(PLACE, &[0xFF], &entropy());
    assert_eq!(ring.open_text(PLACE, &sealed).unwrap_err(), SealError::NotText);
}

#[test]
fn an_unknown_version_is_named() {
    let ring = ring(OLD);
    let mut sealed = ring.seal(PLACE, b"secret", &entropy());
    sealed[0] = 9;
    assert_eq!(ring.open(PLACE, &sealed).unwrap_err(), SealError::Version(9));
    assert!(ring.needs_reseal(&sealed));
}

proptest! {
    #[test]
    fn whatever_was_sealed_opens_again(plaintext: Vec<u8>, row: String, seed: u64) {
        let place = Aad { row: &row, ..PLACE };
        let sealed = ring(OLD).seal(place, &plaintext, &SeededEntropy::new(seed));
        let opened = ring(OLD).open(place, &sealed).unwrap();
        prop_assert_eq!(opened.expose_secret(), plaintext.as_slice());
    }

    #[test]
    fn another_row_never_opens_it(row: String, other: String) {
        prop_assume!(row != other);
        let sealed = ring(OLD).seal(Aad { row: &row, ..PLACE }, b"secret", &entropy());
        let elsewhere = Aad { row: &other, ..PLACE };
        prop_assert!(ring(OLD).open(elsewhere, &sealed).is_err());
    }

    #[test]
    fn every_flipped_bit_is_noticed(plaintext in prop::collection::vec(any::<u8>(), 0..40), bit in 0_usize..512) {
        let mut sealed = ring(OLD).seal(PLACE, &plaintext, &entropy());
        prop_assume!(bit / 8 < sealed.len());
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(ring(OLD).open(PLACE, &sealed).is_err());
    }

    #[test]
    fn every_cut_is_noticed(keep in 0_usize..39) {
        let sealed = ring(OLD).seal(PLACE, b"secret", &entropy());
        prop_assert!(ring(OLD).open(PLACE, &sealed[..keep]).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes: Vec<u8>) {
        let _ = ring(OLD).open(PLACE, &bytes);
        if bytes.len() > 5 {
            bytes[..5].copy_from_slice(&[1, 0, 0, 0, 1]);
            prop_assert!(ring(OLD).open(PLACE, &bytes).is_err());
        }
    }
}
