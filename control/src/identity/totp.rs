//! Time-based one-time codes (RFC 6238: SHA-1, 30 s, 6 digits, as every authenticator has them) and recovery codes. Pure.
//!
//! On `ring`, which has HMAC-SHA1 for exactly such protocols; what is left is the dozen lines of the standard.

use authsome_core::entropy::{self, Entropy};
use authsome_core::key::Digest;
use data_encoding::BASE32_NOPAD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use time::OffsetDateTime;

/// Seconds of one step.
const STEP: i64 = 30;
/// Steps before and after the present one whose codes are taken: clocks differ.
const DRIFT: i64 = 1;
/// Recovery codes that are given at once.
const RECOVERY_CODES: usize = 10;

/// Bytes of a secret: the length of the hash (RFC 4226, 4).
pub const SECRET: usize = 20;

/// The step that `code` belongs to, if it is right now and newer than `last`.
pub fn step_of(secret: &[u8], code: &str, last: i64, now: OffsetDateTime) -> Option<i64> {
    if code.len() != 6 || !code.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let present = now.unix_timestamp().div_euclid(STEP);
    let given = Digest::of(code.as_bytes());
    // All of them are looked at, so that the time says nothing of which one it was.
    let mut found = None;
    for step in present - DRIFT..=present + DRIFT {
        let right = Digest::of(code_at(secret, step).as_bytes()).same_as(&given);
        if right && step > last {
            found = Some(step);
        }
    }
    found
}

/// The code of a step (RFC 4226, 5.3).
pub fn code_at(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let hash = tag.as_ref();
    let offset = usize::from(hash[hash.len() - 1] & 15);
    let part = [
        hash[offset] & 0x7F,
        hash[offset + 1],
        hash[offset + 2],
        hash[offset + 3],
    ];
    format!("{:06}", u32::from_be_bytes(part) % 1_000_000)
}

/// The secret as people type it.
pub fn written(secret: &[u8]) -> String {
    BASE32_NOPAD.encode(secret)
}

/// What authenticators read from a picture.
pub fn address(secret: &[u8], account: &str) -> String {
    let account = utf8_percent_encode(account, NON_ALPHANUMERIC);
    format!(
        "otpauth://totp/AuthSome%20Cloud:{account}?secret={}&issuer=AuthSome%20Cloud&algorithm=SHA1&digits=6&period=30",
        written(secret)
    )
}

/// New recovery codes: 80 random bits each, as `xxxx-xxxx-xxxx-xxxx`.
pub fn recovery_codes(entropy: &dyn Entropy) -> Vec<String> {
    (0..RECOVERY_CODES)
        .map(|_| {
            let text = BASE32_NOPAD.encode(&entropy::bytes::<10>(entropy)).to_ascii_lowercase();
            [&text[..4], &text[4..8], &text[8..12], &text[12..]].join("-")
        })
        .collect()
}

/// What is kept of a recovery code, however it is typed.
pub fn recovery_digest(code: &str) -> Digest {
    let typed: String = code
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    Digest::of(typed.as_bytes())
}

#[cfg(test)]
mod tests {
    use authsome_core::entropy::SeededEntropy;

    use super::*;

    #[test]
    fn the_codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, cut to six digits.
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code_at(b"12345678901234567890", seconds / STEP), code, "{seconds}");
        }
    }

    #[test]
    fn a_code_is_good_for_its_step_and_its_neighbours_and_once() {
        let secret = [7; SECRET];
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let step = 1_000_000;
        let code = code_at(&secret, step);
        let middle = step * STEP + 15;
        for (shift, good) in [(-60, false), (-30, true), (0, true), (30, true), (60, false)] {
            let found = step_of(&secret, &code, 0, at(middle + shift));
            assert_eq!(found, good.then_some(step), "{shift}");
        }
        assert_eq!(step_of(&secret, &code, step, at(middle)), None);
        for wrong in ["", "12345", "1234567", "abcdef", "１２３４５６"] {
            assert_eq!(step_of(&secret, wrong, 0, at(middle)), None, "{wrong}");
        }
    }

    #[test]
    fn a_recovery_code_is_the_same_however_it_is_typed() {
        let codes = recovery_codes(&SeededEntropy::new(1));
        assert_eq!(codes.len(), RECOVERY_CODES);
        let code = &codes[0];
        assert_eq!(code.len(), 19, "{code}");
        let typed = code.replace('-', " ").to_uppercase();
        assert_eq!(recovery_digest(code), recovery_digest(&typed));
        assert_ne!(recovery_digest(code), recovery_digest(&codes[1]));
    }

    #[test]
    fn authenticators_are_told_everything() {
        let address = address(b"12345678901234567890", "ada+x@example.com");
        assert!(address.starts_with(
            "otpauth://totp/AuthSome%20Cloud:ada%2Bx%40example%2Ecom?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&"
        ));
    }
}
