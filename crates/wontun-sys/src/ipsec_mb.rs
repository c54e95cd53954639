//! ChaCha20-Poly1305 from Intel's Multi-Buffer Crypto for IPsec (`intel-ipsec-mb`), which has code
//! for AVX-512.
//!
//! The library is meant to be used through its manager (`IMB_MGR`), which refers to all its ciphers
//! for all processors: 13 MB. This calls the function that such a manager has for this cipher on a
//! processor with AVX-512 (`chacha20_poly1305_quic`), so that only this cipher is linked. Its
//! parameters are two public structures, of which the fields that it uses have been at the same
//! offsets in all versions that build.rs accepts.

use std::ffi::c_int;
use std::ptr;

/// The beginning of `IMB_MGR`, of which the function reads `features`.
#[repr(C)]
struct Manager {
    flags: u64,
    features: u64,
}

/// `IMB_FEATURE_AVX512_IFMA`: Poly1305 by integer multiplication.
const AVX512_IFMA: u64 = 1 << 17;

static MANAGER: Manager = Manager { flags: 0, features: AVX512_IFMA };

/// `IMB_CIPHER_DIRECTION`.
#[derive(Clone, Copy)]
#[repr(C)]
enum Direction {
    Encrypt = 1,
    Decrypt = 2,
}

/// The beginning of `IMB_JOB`, with its member for this cipher of the union `u`. The function reads
/// nothing of the rest.
#[repr(C)]
struct Job {
    enc_keys: *const u8,
    dec_keys: *const u8,
    key_len: u64,
    src: *const u8,
    dst: *mut u8,
    cipher_start: u64,
    cipher_len: u64,
    hash_start: u64,
    hash_len: u64,
    iv: *const u8,
    iv_len: u64,
    tag: *mut u8,
    tag_len: u64,
    aad: *const u8,
    aad_len: u64,
    context: *mut u8,
    status: c_int,
    cipher_mode: c_int,
    cipher_direction: Direction,
    /// At least the size that the versions have, up to 240 bytes.
    rest: [u32; 29],
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Manager, features) == 8);
    assert!(offset_of!(Job, src) == 24 && offset_of!(Job, hash_len) == 64 && offset_of!(Job, tag_len) == 96);
    assert!(offset_of!(Job, aad) == 104 && offset_of!(Job, status) == 128 && size_of::<Job>() == 256);
    assert!(offset_of!(Job, cipher_direction) == 136);
};

const TAG: usize = 16;

// SAFETY: the type is that of `chacha20_poly1305_quic_t` in intel-ipsec-mb.h.
unsafe extern "C" {
    fn aead_chacha20_poly1305_avx512(manager: *const Manager, job: *mut Job) -> *mut Job;
}

/// The library's implementation for a processor with AVX-512 and its integer multiplication (IFMA).
#[derive(Clone, Copy)]
pub struct ChaCha20Poly1305 {
    _processor_has_it: (),
}

impl ChaCha20Poly1305 {
    /// Returns the library's cipher; `None` if the processor or the system does not support the
    /// instructions that it uses: AVX-512 with IFMA.
    pub fn get() -> Option<Self> {
        // IFMA came after processors that lower their clock for AVX-512
        let is_supported = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512ifma");
        is_supported.then_some(Self { _processor_has_it: () })
    }

    /// Encrypts `data` in place and returns its tag.
    pub fn encrypt(&self, key: &[u8; 32], nonce: &[u8; 12], associated: &[u8], data: &mut [u8]) -> [u8; TAG] {
        self.work(Direction::Encrypt, key, nonce, associated, data)
    }

    /// Decrypts `data` in place, authentic or not, and returns the expected tag.
    pub fn decrypt(&self, key: &[u8; 32], nonce: &[u8; 12], associated: &[u8], data: &mut [u8]) -> [u8; TAG] {
        self.work(Direction::Decrypt, key, nonce, associated, data)
    }

    fn work(
        &self,
        direction: Direction,
        key: &[u8; 32],
        nonce: &[u8; 12],
        associated: &[u8],
        data: &mut [u8],
    ) -> [u8; TAG] {
        let mut tag = [0; TAG];
        let (dst, len) = (data.as_mut_ptr(), data.len() as u64);
        let mut job = Job {
            enc_keys: key.as_ptr(),
            dec_keys: ptr::null(),
            key_len: 32,
            src: dst,
            dst,
            cipher_start: 0,
            cipher_len: len,
            hash_start: 0,
            hash_len: len,
            iv: nonce.as_ptr(),
            iv_len: 12,
            tag: tag.as_mut_ptr(),
            tag_len: TAG as u64,
            aad: associated.as_ptr(),
            aad_len: associated.len() as u64,
            context: ptr::null_mut(),
            status: 0,
            cipher_mode: 0,
            cipher_direction: direction,
            rest: [0; 29],
        };
        // SAFETY: the processor has the instructions, as `get` made sure. All pointers that the
        // function uses outlive the call and refer to as many bytes as it is told; it works in
        // place if source and destination are the same, keeps nothing, and only reads the manager.
        unsafe { aead_chacha20_poly1305_avx512(&raw const MANAGER, &raw mut job) };
        tag
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use nix::libc;

    use super::*;

    /// Two pages of memory between two inaccessible ones.
    struct Fenced(*mut u8);

    const PAGE: usize = 4096;

    impl Fenced {
        fn new() -> Self {
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: new memory, at an address that the kernel chooses.
            let memory = unsafe { libc::mmap(ptr::null_mut(), 4 * PAGE, protection, flags, -1, 0) };
            assert_ne!(memory, libc::MAP_FAILED);
            for page in [0, 3] {
                // SAFETY: a page of the memory that was just mapped.
                let code = unsafe { libc::mprotect(memory.byte_add(page * PAGE), PAGE, libc::PROT_NONE) };
                assert_eq!(code, 0);
            }
            Self(memory.cast())
        }

        /// Returns a copy of `bytes` that ends at the second inaccessible page, or begins after the
        /// first.
        fn place(&mut self, bytes: &[u8], at_end: bool) -> &mut [u8] {
            assert!(bytes.len() <= 2 * PAGE);
            let at = if at_end { 3 * PAGE - bytes.len() } else { PAGE };
            // SAFETY: within the two pages, which are initialised and borrowed with `self`.
            let place = unsafe { std::slice::from_raw_parts_mut(self.0.add(at), bytes.len()) };
            place.copy_from_slice(bytes);
            place
        }
    }

    impl Drop for Fenced {
        fn drop(&mut self) {
            // SAFETY: it was mapped with this length, and slices of it do not outlive it.
            unsafe { libc::munmap(self.0.cast(), 4 * PAGE) };
        }
    }

    /// The library neither reads nor writes outside of the message's buffers; a fault ends the test
    /// program.
    #[test]
    fn stays_within_what_it_is_given() {
        // without AVX-512 there is nothing to test
        let Some(cipher) = ChaCha20Poly1305::get() else { return };
        let [mut key, mut nonce, mut associated, mut data] = std::array::from_fn(|_| Fenced::new());
        for at_end in [true, false] {
            let key: &[u8; 32] = (&*key.place(&[1; 32], at_end)).try_into().unwrap();
            let nonce: &[u8; 12] = (&*nonce.place(&[2; 12], at_end)).try_into().unwrap();
            for len in (0..=2200).chain([2 * PAGE]) {
                let associated = &*associated.place(&[3; 40][..len % 41], at_end);
                let plain = vec![4; len];
                let data = data.place(&plain, at_end);
                let tag = cipher.encrypt(key, nonce, associated, data);
                assert!(len < 16 || data != plain);
                assert_eq!(cipher.decrypt(key, nonce, associated, data), tag, "{len} bytes");
                assert!(data == plain, "{len} bytes");
            }
        }
    }
}
