//! Implements `MurmurHash3` in the two forms the service uses: x86 32 and x64 128.
//!
//! Reference: Austin Appleby, `MurmurHash3.cpp`, public domain. Keys are hashed
//! as they are: no normalisation, no terminator. These numbers decide variants
//! and stored user ids, so they can never change. Not a defence against a
//! caller who picks keys in order to collide.

/// Computes `MurmurHash3` x86 32 of `key`.
///
/// Every key and seed has a hash; the empty key with seed 0 hashes to 0.
///
/// ```
/// # use trialog_model::murmur3::murmur3_x86_32;
/// assert_eq!(murmur3_x86_32(b"ab", 0), 2_613_040_991);
/// ```
pub fn murmur3_x86_32(key: &[u8], seed: u32) -> u32 {
    let mut hasher = X86Hash32::new(seed);
    hasher.write(key);
    hasher.finish()
}

/// Computes `MurmurHash3` x64 128 of `key` and returns its two 64-bit halves `(h1, h2)`.
///
/// The first eight bytes of the digest are `h1`, little endian. The empty key
/// with seed 0 hashes to `(0, 0)`.
///
/// ```
/// # use trialog_model::murmur3::murmur3_x64_128;
/// assert_eq!(murmur3_x64_128(b"", 0), (0, 0));
/// assert_eq!(murmur3_x64_128(b"hello", 0).0, 0xcbd8_a7b3_41bd_9b02);
/// ```
pub fn murmur3_x64_128(key: &[u8], seed: u32) -> (u64, u64) {
    let mut h1 = u64::from(seed);
    let mut h2 = u64::from(seed);
    let (blocks, tail) = key.as_chunks::<16>();
    for block in blocks {
        let (k1, k2) = lanes(block);
        h1 ^= mix_k1(k1);
        h1 = h1
            .rotate_left(27)
            .wrapping_add(h2)
            .wrapping_mul(5)
            .wrapping_add(0x52dc_e729);
        h2 ^= mix_k2(k2);
        h2 = h2
            .rotate_left(31)
            .wrapping_add(h1)
            .wrapping_mul(5)
            .wrapping_add(0x3849_5ab5);
    }

    // A lane of zeros mixes to zero, so a padded tail equals the reference's
    // byte-by-byte one, and an empty tail changes nothing.
    let mut last = [0; 16];
    last[..tail.len()].copy_from_slice(tail);
    let (k1, k2) = lanes(&last);
    h1 ^= mix_k1(k1) ^ key.len() as u64;
    h2 ^= mix_k2(k2) ^ key.len() as u64;

    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = fmix64(h1);
    h2 = fmix64(h2);
    h1 = h1.wrapping_add(h2);
    (h1, h2.wrapping_add(h1))
}

/// Computes `MurmurHash3` x86 32 of a key that arrives in parts, without joining them.
#[derive(Clone, Copy)]
pub(crate) struct X86Hash32 {
    h1: u32,
    /// Bytes that do not fill a block yet, the first one lowest.
    pending: u32,
    /// How many bytes `pending` holds: 0 to 3.
    n_pending: u32,
    /// Length so far; the reference implementation takes it modulo 2^32.
    len: u32,
}

impl X86Hash32 {
    pub(crate) fn new(seed: u32) -> Self {
        Self {
            h1: seed,
            pending: 0,
            n_pending: 0,
            len: 0,
        }
    }

    pub(crate) fn write(&mut self, mut part: &[u8]) {
        self.len = self.len.wrapping_add(part.len() as u32);
        while self.n_pending != 0 {
            let Some((&byte, rest)) = part.split_first() else {
                return;
            };
            self.push(byte);
            part = rest;
        }
        let (blocks, tail) = part.as_chunks::<4>();
        for block in blocks {
            self.mix_in(u32::from_le_bytes(*block));
        }
        for &byte in tail {
            self.push(byte);
        }
    }

    pub(crate) fn finish(self) -> u32 {
        fmix32(self.h1 ^ mix_k32(self.pending) ^ self.len)
    }

    fn push(&mut self, byte: u8) {
        self.pending |= u32::from(byte) << (8 * self.n_pending);
        self.n_pending += 1;
        if self.n_pending == 4 {
            self.mix_in(self.pending);
            self.pending = 0;
            self.n_pending = 0;
        }
    }

    fn mix_in(&mut self, block: u32) {
        self.h1 ^= mix_k32(block);
        self.h1 = self
            .h1
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
}

fn mix_k32(k1: u32) -> u32 {
    k1.wrapping_mul(0xcc9e_2d51)
        .rotate_left(15)
        .wrapping_mul(0x1b87_3593)
}

fn fmix32(mut h: u32) -> u32 {
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

fn lanes(block: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_le_bytes(*block);
    (both as u64, (both >> 64) as u64)
}

fn mix_k1(k1: u64) -> u64 {
    k1.wrapping_mul(0x87c3_7b91_1142_53d5)
        .rotate_left(31)
        .wrapping_mul(0x4cf5_ad43_2745_937f)
}

fn mix_k2(k2: u64) -> u64 {
    k2.wrapping_mul(0x4cf5_ad43_2745_937f)
        .rotate_left(33)
        .wrapping_mul(0x87c3_7b91_1142_53d5)
}

fn fmix64(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn x64_128_agrees_with_published_digests() {
        // mmh3.hash64(key, seed, signed=False)
        let known: [(&str, u32, (u64, u64)); 4] = [
            ("", 1, (0x4610_abe5_6eff_5cb5, 0x5162_2daa_78f8_3583)),
            ("hello", 0, (0xcbd8_a7b3_41bd_9b02, 0x5b1e_906a_48ae_1d19)),
            (
                "hello, world",
                0,
                (0x342f_ac62_3a5e_bc8e, 0x4cdc_bc07_9642_414d),
            ),
            (
                "The quick brown fox jumps over the lazy dog.",
                0,
                (0xcd99_481f_9ee9_02c9, 0x695d_a1a3_8987_b6e7),
            ),
        ];
        for (key, seed, digest) in known {
            assert_eq!(
                murmur3_x64_128(key.as_bytes(), seed),
                digest,
                "{key:?} seed {seed}"
            );
        }
    }

    proptest! {
        #[test]
        fn parts_hash_as_their_concatenation(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..11), 0..6),
            seed: u32,
        ) {
            let mut hasher = X86Hash32::new(seed);
            for part in &parts {
                hasher.write(part);
            }
            prop_assert_eq!(hasher.finish(), murmur3_x86_32(&parts.concat(), seed));
        }
    }
}
