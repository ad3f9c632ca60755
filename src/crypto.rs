//! SHA-256 and what is made of it: HMAC, the stretching of a password in slices, and forgetting.
//! A leaf: both ends of a sign-in stand on it. Knows no clock and no source of randomness.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::slice;

/// Bytes of SHA-256's result.
pub const HASH_BYTES: usize = 32;
/// Bytes of a salt that we make ourselves, as many as PostgreSQL's.
pub const SALT_BYTES: usize = 16;

/// SHA-256 of the bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; HASH_BYTES] {
    Sha256::digest(bytes).into()
}

/// Text in base64, as SCRAM's messages travel.
#[must_use]
pub fn encode_text(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// Text from base64; none if it is not base64 of UTF-8.
#[must_use]
pub fn decode_text(text: &str) -> Option<String> {
    String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok()
}

/// A nonce that nobody can foresee and that never comes twice: the secret is known to nobody, the
/// epoch is a server run's own, and `count` goes up.
#[must_use]
pub fn nonce(secret: &[u8; HASH_BYTES], epoch: u32, count: u64) -> String {
    let mac = mac(secret, &[b"nonce", &epoch.to_be_bytes(), &count.to_be_bytes()]);
    BASE64_STANDARD.encode(&mac[..18])
}

/// A salt that never comes twice and tells nothing, made as [`nonce`].
#[must_use]
pub fn salt(secret: &[u8; HASH_BYTES], epoch: u32, count: u64) -> [u8; SALT_BYTES] {
    let mac = mac(secret, &[b"salt", &epoch.to_be_bytes(), &count.to_be_bytes()]);
    std::array::from_fn(|at| mac[at])
}

/// Overwrites a secret that is not needed any more. Copies that the compiler made of it on the
/// stack are beyond reach; this is for the buffers that would lie about for long.
pub fn wipe(secret: &mut [u8]) {
    secret.fill(0);
    // Or the write would be left out, as nobody reads the zeros.
    std::hint::black_box(secret);
}

/// PBKDF2-HMAC-SHA-256 with a result of one block, under way.
///
/// HMAC starts with a block made of the key on either side; both are compressed once, here, so
/// that a round costs two compressions instead of four.
pub struct Stretch {
    /// The hash state behind the key's inner block.
    inner: [u32; 8],
    /// The hash state behind the key's outer block.
    outer: [u32; 8],
    /// The block that goes into each compression: 32 bytes of the round before and the padding,
    /// which never changes.
    block: [u8; BLOCK_BYTES],
    /// The rounds so far, XORed.
    sum: [u32; 8],
    /// Rounds still to do.
    left: u32,
}

/// Bytes of a block of SHA-256.
const BLOCK_BYTES: usize = 64;
/// SHA-256's initial state (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
/// What stands behind a hash in its block: the end mark and the length in bits of one block and
/// one hash.
const PADDING: [u8; BLOCK_BYTES - HASH_BYTES] = {
    let mut padding = [0; BLOCK_BYTES - HASH_BYTES];
    padding[0] = 0x80;
    let bits = 8 * (BLOCK_BYTES + HASH_BYTES);
    padding[30] = (bits >> 8) as u8;
    padding[31] = (bits & 0xff) as u8;
    padding
};

impl Stretch {
    /// Begins; the first of the rounds is done here.
    #[must_use]
    pub fn new(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        // The first round is the only one over a text of any length: the salt and the number of
        // the block, which is 1.
        let first = mac(password, &[salt, &1_u32.to_be_bytes()]);
        let mut key = [0; BLOCK_BYTES];
        if password.len() > BLOCK_BYTES {
            key[..HASH_BYTES].copy_from_slice(&Sha256::digest(password));
        } else {
            key[..password.len()].copy_from_slice(password);
        }
        let half = |pad: u8| {
            let mut state = INITIAL;
            let mut block = key.map(|byte| byte ^ pad);
            compress256(&mut state, &[block]);
            wipe(&mut block);
            state
        };
        let (inner, outer) = (half(0x36), half(0x5c));
        wipe(&mut key);
        let mut block = [0; BLOCK_BYTES];
        block[..HASH_BYTES].copy_from_slice(&first);
        block[HASH_BYTES..].copy_from_slice(&PADDING);
        let (words, _) = first.as_chunks();
        let sum = std::array::from_fn(|i| u32::from_be_bytes(words[i]));
        Self { inner, outer, block, sum, left: iterations.saturating_sub(1) }
    }

    /// Does at most `rounds` rounds; true when none is left.
    pub fn step(&mut self, rounds: u32) -> bool {
        let rounds = rounds.min(self.left);
        for _ in 0..rounds {
            let mut state = self.inner;
            compress256(&mut state, slice::from_ref(&self.block));
            put(&state, &mut self.block);
            state = self.outer;
            compress256(&mut state, slice::from_ref(&self.block));
            put(&state, &mut self.block);
            for (sum, word) in self.sum.iter_mut().zip(state) {
                *sum ^= word;
            }
        }
        self.left -= rounds;
        self.left == 0
    }

    /// The stretched password, once no round is left.
    #[must_use]
    pub fn result(&self) -> [u8; HASH_BYTES] {
        let mut bytes = [0; HASH_BYTES];
        put(&self.sum, &mut bytes);
        bytes
    }

    /// Rounds still to do.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left
    }
}

impl fmt::Debug for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stretch").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        wipe(&mut self.block);
        for state in [&mut self.inner, &mut self.outer, &mut self.sum] {
            state.fill(0);
            std::hint::black_box(state);
        }
    }
}

/// Writes a hash state as bytes to the start of `to`.
fn put(state: &[u32; 8], to: &mut [u8]) {
    for (bytes, word) in to.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
}

/// RFC 5802's ClientKey, from the stretched password.
#[must_use]
pub fn client_key(salted: &[u8; HASH_BYTES]) -> [u8; HASH_BYTES] {
    mac(salted, &[b"Client Key"])
}

/// RFC 5802's StoredKey, from the ClientKey.
#[must_use]
pub fn stored_key(client_key: &[u8; HASH_BYTES]) -> [u8; HASH_BYTES] {
    Sha256::digest(client_key).into()
}

/// RFC 5802's ServerKey, from the stretched password.
#[must_use]
pub fn server_key(salted: &[u8; HASH_BYTES]) -> [u8; HASH_BYTES] {
    mac(salted, &[b"Server Key"])
}

/// HMAC-SHA-256 of `parts`, one behind the other.
#[must_use]
pub fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
