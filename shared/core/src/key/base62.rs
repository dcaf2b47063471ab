//! Numbers in base62 of a fixed width: leading zeros are kept, so that every value has the same length.

/// The width of 32 bytes: 62^43 is just above 2^256.
pub(super) const BYTES_WIDTH: usize = 43;
/// The width of a `u32`: 62^6 is above 2^32, 62^5 is not.
pub(super) const U32_WIDTH: usize = 6;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The bytes as one big-endian number. Every input gives another output, so the secret keeps all its 256 bits.
pub(super) fn encode_bytes(bytes: &[u8; 32]) -> [u8; BYTES_WIDTH] {
    let mut number = *bytes;
    let mut out = [ALPHABET[0]; BYTES_WIDTH];
    for place in out.iter_mut().rev() {
        // Long division by 62, most significant byte first; the number is zero after 43 of them.
        let mut remainder = 0_u16;
        for byte in &mut number {
            let dividend = (remainder << 8) | u16::from(*byte);
            // remainder < 62, so dividend < 62 * 256 and the quotient fits a byte.
            *byte = (dividend / 62).to_le_bytes()[0];
            remainder = dividend % 62;
        }
        *place = ALPHABET[usize::from(remainder)];
    }
    debug_assert_eq!(number, [0; 32]);
    out
}

pub(super) fn encode_u32(mut value: u32) -> [u8; U32_WIDTH] {
    let mut out = [ALPHABET[0]; U32_WIDTH];
    for place in out.iter_mut().rev() {
        *place = ALPHABET[(value % 62) as usize];
        value /= 62;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_is_fixed_from_zero_to_the_maximum() {
        assert_eq!(&encode_u32(0), b"000000");
        assert_eq!(&encode_u32(61), b"00000z");
        assert_eq!(&encode_u32(62), b"000010");
        assert_eq!(&encode_u32(u32::MAX), b"4gfFC3");
        assert_eq!(encode_bytes(&[0; 32]), [b'0'; 43]);
        // 2^256 - 1, as computed with arbitrary-precision arithmetic.
        assert_eq!(
            &encode_bytes(&[0xFF; 32]),
            b"yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1".as_slice()
        );
    }

    #[test]
    fn the_last_byte_is_the_least_significant() {
        let mut bytes = [0; 32];
        bytes[31] = 62;
        assert!(encode_bytes(&bytes).ends_with(b"0010"));
    }
}
