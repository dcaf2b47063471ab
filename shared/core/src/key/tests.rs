use proptest::prelude::*;
use regex::Regex;
use uuid::Uuid;

use super::*;
use crate::entropy::SeededEntropy;

fn key_of(seed: u64, key_type: KeyType, mode: KeyMode) -> ApiKey {
    let application = ApplicationId::from_uuid(Uuid::from_u128(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881));
    ApiKey::generate(key_type, mode, &application, &SeededEntropy::new(seed))
}

fn any_key() -> impl Strategy<Value = ApiKey> {
    let key_type = prop_oneof![Just(KeyType::Public), Just(KeyType::Secret)];
    let mode = prop_oneof![Just(KeyMode::Live), Just(KeyMode::Test)];
    (any::<u64>(), key_type, mode).prop_map(|(seed, key_type, mode)| key_of(seed, key_type, mode))
}

#[test]
fn a_key_has_the_published_form() {
    let key = key_of(1, KeyType::Secret, KeyMode::Live);
    assert_eq!(key.expose().len(), LENGTH);
    assert_eq!(LENGTH, 66);
    assert!(key.expose().starts_with("sk_live_3vqjhp41_"));
    assert!(
        key_of(1, KeyType::Public, KeyMode::Test)
            .expose()
            .starts_with("pk_test_3vqjhp41_")
    );
}

#[test]
fn the_masked_form_shows_the_hint_and_the_last_four_characters() {
    let key = key_of(1, KeyType::Secret, KeyMode::Live);
    let last = &key.expose()[62..];
    assert_eq!(key.masked(), format!("sk_live_3vqjhp41_…{last}"));
}

#[test]
fn debug_never_shows_the_secret() {
    let key = key_of(1, KeyType::Secret, KeyMode::Live);
    let secret = &key.expose()[17..60];
    for shown in [format!("{key:?}"), format!("{:?}", key.parsed()), key.masked()] {
        assert!(!shown.contains(&secret[..8]), "{shown}");
        assert!(!shown.contains(&secret[35..]), "{shown}");
    }
}

#[test]
fn two_keys_of_one_application_differ() {
    assert_ne!(
        key_of(1, KeyType::Secret, KeyMode::Live).digest(),
        key_of(2, KeyType::Secret, KeyMode::Live).digest()
    );
}

#[test]
fn the_three_refusals_are_told_apart() {
    let key = key_of(1, KeyType::Secret, KeyMode::Live);
    let good = key.expose();
    for token in [
        "",
        "sk",
        "pk",
        "SK_live_",
        "eyJhbGciOiJIUzI1NiJ9.e30.x",
        "session_sk_live",
    ] {
        assert_eq!(ParsedKey::parse(token).unwrap_err(), KeyError::NotAKey, "{token}");
    }
    let long = format!("{good}x");
    let foreign = good.replace("live", "prod");
    for token in ["sk_", "pk_live", "sk_live_é", &good[..65], &long, &foreign] {
        assert_eq!(ParsedKey::parse(token).unwrap_err(), KeyError::Malformed, "{token}");
    }
    let retyped = good.replacen("sk_live", "sk_test", 1);
    assert_eq!(ParsedKey::parse(&retyped).unwrap_err(), KeyError::Checksum);
}

#[test]
fn a_multibyte_text_of_the_right_length_is_refused() {
    let text = format!("sk_live_{}", "é".repeat(29));
    assert_eq!(text.len(), LENGTH);
    assert_eq!(ParsedKey::parse(&text).unwrap_err(), KeyError::Malformed);
}

#[test]
fn names_and_json_agree() {
    for key_type in [KeyType::Public, KeyType::Secret] {
        assert_eq!(key_type.as_str().parse(), Ok(key_type));
        assert_eq!(serde_json::to_value(key_type).unwrap(), key_type.as_str());
    }
    for mode in [KeyMode::Live, KeyMode::Test] {
        assert_eq!(mode.as_str().parse(), Ok(mode));
        assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
    }
    assert!("Public".parse::<KeyType>().is_err());
    assert!("prod".parse::<KeyMode>().is_err());
}

#[test]
fn only_the_two_markers_look_like_a_key() {
    assert!(looks_like_key("pk_anything") && looks_like_key("sk_"));
    assert!(!looks_like_key("rk_live_") && !looks_like_key(" sk_") && !looks_like_key(""));
}

proptest! {
    #[test]
    fn what_was_generated_parses_to_the_same(key in any_key()) {
        let parsed = ParsedKey::parse(key.expose()).unwrap();
        prop_assert_eq!(parsed.key_type(), key.parsed().key_type());
        prop_assert_eq!(parsed.mode(), key.parsed().mode());
        prop_assert_eq!(parsed.hint(), "3vqjhp41");
        prop_assert_eq!(parsed.digest(), Digest::of(key.expose().as_bytes()));
    }

    #[test]
    fn every_single_character_corruption_is_refused(key in any_key()) {
        for at in 0..LENGTH {
            for replacement in (0x20..0x7F_u8).map(char::from) {
                let mut text: Vec<char> = key.expose().chars().collect();
                if text[at] == replacement {
                    continue;
                }
                text[at] = replacement;
                let text: String = text.into_iter().collect();
                prop_assert!(ParsedKey::parse(&text).is_err(), "accepted with {replacement:?} at {at}");
            }
        }
    }

    #[test]
    fn every_exchange_of_neighbours_is_refused(key in any_key()) {
        for at in 0..LENGTH - 1 {
            let mut text = key.expose().as_bytes().to_vec();
            text.swap(at, at + 1);
            if text != key.expose().as_bytes() {
                prop_assert!(ParsedKey::parse(str::from_utf8(&text).unwrap()).is_err(), "accepted an exchange at {at}");
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*|(pk|sk)_(live|test)_\\PC{0,60}") {
        let _ = ParsedKey::parse(&text);
    }

    #[test]
    fn the_published_pattern_and_the_parser_agree(
        text in "(pk|sk|rk)_(live|test|prod)_[0-9a-z]{8}_[0-9A-Za-z]{49}|(pk|sk)_(live|test)_[0-9a-hjk]{7,9}[_-][0-9A-Za-z]{48,50}|\\PC*"
    ) {
        thread_local!(static PUBLISHED: Regex = Regex::new(PATTERN).unwrap());
        let published = PUBLISHED.with(|pattern| pattern.is_match(&text));
        let parsed = match ParsedKey::parse(&text) {
            Ok(_) | Err(KeyError::Checksum) => true,
            Err(KeyError::NotAKey | KeyError::Malformed) => false,
        };
        prop_assert_eq!(published, parsed);
    }
}
