//! CRC-64 as TiKV computes checksums: the polynomial of ECMA-182, bits reflected, inverted at both
//! ends (known as CRC-64/XZ).

const POLYNOMIAL: u64 = 0xC96C_5795_D787_0F42;

const TABLE: [u64; 256] = table();

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = match crc & 1 {
                1 => (crc >> 1) ^ POLYNOMIAL,
                _ => crc >> 1,
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// The checksum of the parts, one behind the other.
pub(super) fn crc64(parts: [&[u8]; 2]) -> u64 {
    let step = |crc: u64, byte: &u8| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    !parts.into_iter().flatten().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_value() {
        assert_eq!(crc64([b"123456789", b""]), 0x995D_C9BB_DF19_39FA);
        assert_eq!(crc64([b"1234", b"56789"]), 0x995D_C9BB_DF19_39FA);
        assert_eq!(crc64([b"", b""]), 0);
    }
}
