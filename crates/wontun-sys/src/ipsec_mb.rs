//! ChaCha20-Poly1305 from Intel's Multi-Buffer Crypto for IPsec (`intel-ipsec-mb`), which has code
//! for AVX-512. Only the part of its interface (`intel-ipsec-mb.h` since 1.4) that single messages
//! need is declared.

use std::ffi::c_int;
use std::sync::OnceLock;

/// `IMB_MGR`: a table of functions for one processor, and queues for other ciphers.
#[repr(C)]
struct Manager {
    opaque: [u8; 0],
}

/// `IMB_CIPHER_DIRECTION`.
#[repr(C)]
enum Direction {
    Encrypt = 1,
    Decrypt = 2,
}

const TAG: usize = 16;

// SAFETY: these are the declarations of intel-ipsec-mb.h.
unsafe extern "C" {
    fn alloc_mb_mgr(flags: u64) -> *mut Manager;
    fn free_mb_mgr(manager: *mut Manager);
    fn init_mb_mgr_avx512(manager: *mut Manager);
    fn imb_get_errno(manager: *mut Manager) -> c_int;
    fn imb_quic_chacha20_poly1305(
        manager: *mut Manager,
        key: *const u8,
        direction: Direction,
        to: *const *mut u8,
        from: *const *const u8,
        lens: *const u64,
        nonces: *const *const u8,
        associated: *const *const u8,
        associated_len: u64,
        tags: *const *mut u8,
        messages: u64,
    );
}

/// The library's implementation for a processor with AVX-512 and its integer multiplication (IFMA).
pub struct ChaCha20Poly1305 {
    manager: *mut Manager,
}

// SAFETY: once created, the manager is only read: `imb_quic_chacha20_poly1305` takes a function and
// the processor's features from it and works on the stack. It writes an error number for null
// pointers and unknown directions, and gets neither.
unsafe impl Send for ChaCha20Poly1305 {}
// SAFETY: as above.
unsafe impl Sync for ChaCha20Poly1305 {}

impl ChaCha20Poly1305 {
    /// Returns the library's cipher; `None` if the processor or the system has no AVX-512 with
    /// IFMA, or if the library's self-tests fail. The first call runs them, which takes some
    /// milliseconds.
    pub fn get() -> Option<&'static Self> {
        static MADE: OnceLock<Option<ChaCha20Poly1305>> = OnceLock::new();
        MADE.get_or_init(Self::new).as_ref()
    }

    fn new() -> Option<Self> {
        // the library also accepts AVX-512 without IFMA, on processors that lower their clock for
        // it
        if !is_x86_feature_detected!("avx512ifma") {
            return None;
        }
        // SAFETY: it takes flags, and returns null if there is no memory.
        let manager = unsafe { alloc_mb_mgr(0) };
        if manager.is_null() {
            return None;
        }
        // SAFETY: the manager was just created, and nothing else refers to it.
        let error = unsafe {
            init_mb_mgr_avx512(manager);
            imb_get_errno(manager)
        };
        if error != 0 {
            // SAFETY: it was created by `alloc_mb_mgr`, and is not used again.
            unsafe { free_mb_mgr(manager) };
            return None;
        }
        Some(Self { manager })
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
        let to = data.as_mut_ptr();
        // SAFETY: one message, so each array has one entry, which outlives the call. Key, nonce and
        // tag have the cipher's sizes, the lengths are those of the slices, and the library works
        // in place if both pointers are the same.
        unsafe {
            imb_quic_chacha20_poly1305(
                self.manager,
                key.as_ptr(),
                direction,
                &raw const to,
                &to.cast_const(),
                &(data.len() as u64),
                &nonce.as_ptr(),
                &associated.as_ptr(),
                associated.len() as u64,
                &tag.as_mut_ptr(),
                1,
            );
        }
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
