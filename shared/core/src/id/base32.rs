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

/// Of a word's characters: 60 bits, so that no digit lies across two words. Ids are written and read several times a request,
/// and in words that takes half of what it takes with 128 bits.
const OF_A_WORD: usize = 12;
const WORD_BITS: u32 = 60;

#[expect(clippy::cast_possible_truncation, reason = "words of the value")]
pub(super) fn encode(value: u128, out: &mut [u8; LENGTH]) {
    let words = [
        value as u64,
        (value >> WORD_BITS) as u64,
        (value >> (2 * WORD_BITS)) as u64,
    ];
    for (places, mut word) in out.rchunks_mut(OF_A_WORD).zip(words) {
        for place in places.iter_mut().rev() {
            *place = ALPHABET[(word & 31) as usize];
            word >>= 5;
        }
    }
}

/// `None` for another length, another character (upper case included), or a value above 128 bits.
pub(super) fn decode(text: &[u8]) -> Option<u128> {
    let text: &[u8; LENGTH] = text.try_into().ok()?;
    // 26 characters hold 130 bits: a first character above '7' would overflow.
    if VALUES[usize::from(text[0])] > 7 {
        return None;
    }
    // `REFUSED` is the only value that has the highest bit, and of the others none has more than five.
    let (mut seen, mut value) = (0, 0);
    for (characters, at) in text.rchunks(OF_A_WORD).zip([0, WORD_BITS, 2 * WORD_BITS]) {
        let mut word = 0_u64;
        for &character in characters {
            let digit = VALUES[usize::from(character)];
            seen |= digit;
            word = (word << 5) | u64::from(digit & 31);
        }
        value |= u128::from(word) << at;
    }
    (seen & 0x80 == 0).then_some(value)
}
