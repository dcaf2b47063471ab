//! Crockford base32, lower case only, of exactly 128 bits in 26 characters.

pub(super) const LENGTH: usize = 26;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const REFUSED: u8 = 0xFF;

const VALUES: [u8; 256] = {
    let mut values = [REFUSED; 256];
    let mut value = 0_u8;
    while (value as usize) < ALPHABET.len() {
        values[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    values
};

pub(super) fn encode(mut value: u128, out: &mut [u8; LENGTH]) {
    for place in out.iter_mut().rev() {
        *place = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
}

/// `None` for another length, another character (upper case included), or a value above 128 bits.
pub(super) fn decode(text: &[u8]) -> Option<u128> {
    let text: &[u8; LENGTH] = text.try_into().ok()?;
    // 26 characters hold 130 bits: a first character above '7' would overflow.
    if VALUES[usize::from(text[0])] > 7 {
        return None;
    }
    let mut value = 0_u128;
    for &character in text {
        let digit = VALUES[usize::from(character)];
        if digit == REFUSED {
            return None;
        }
        value = (value << 5) | u128::from(digit);
    }
    Some(value)
}
