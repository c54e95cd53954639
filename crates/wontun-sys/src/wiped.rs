//! Memory that is overwritten when its value is dropped.

use std::hint::black_box;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// A value whose bytes are overwritten with zeroes when it is dropped, after its destructor: all of
/// them, including padding and unused variants of an enum, where moves leave copies of stack
/// contents. For values of other crates that do not overwrite themselves. Moving it leaves a copy,
/// as for any value.
pub struct Wiped<T>(ManuallyDrop<T>);

impl<T> Wiped<T> {
    /// Wraps `value`, which will be overwritten when dropped.
    pub const fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }
}

impl<T> Deref for Wiped<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Wiped<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        /// Overwrites the value even if its destructor panics.
        struct Overwrite<'a, T>(&'a mut ManuallyDrop<T>);

        impl<T> Drop for Overwrite<'_, T> {
            fn drop(&mut self) {
                let value = &raw mut *self.0;
                // SAFETY: the value is borrowed mutably. Its destructor has run and nothing uses it
                // again: it is within a `ManuallyDrop` that is being dropped.
                unsafe { value.write_bytes(0, 1) };
                // the compiler must assume that it is read
                black_box(value);
            }
        }

        let value = Overwrite(&mut self.0);
        // SAFETY: this is the only place that drops it, and it is not used afterwards.
        unsafe { ManuallyDrop::drop(value.0) };
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::slice;

    use super::*;

    /// Counts its drops, and asserts the value of its bytes then.
    struct Loud<'a>([u8; 48], &'a std::cell::Cell<u32>);

    impl Drop for Loud<'_> {
        fn drop(&mut self) {
            assert_eq!(self.0, [7; 48]);
            self.1.set(self.1.get() + 1);
        }
    }

    #[test]
    fn a_value_is_dropped_once_and_then_overwritten() {
        let drops = std::cell::Cell::new(0);
        let mut place = MaybeUninit::new(Wiped::new(Loud([7; 48], &drops)));
        // SAFETY: it is initialised, and not used as a value afterwards.
        unsafe { place.assume_init_drop() };
        assert_eq!(drops.get(), 1);
        // SAFETY: all bytes were just written.
        let bytes = unsafe { slice::from_raw_parts(place.as_ptr().cast::<u8>(), size_of::<Loud<'_>>()) };
        assert!(bytes.iter().all(|byte| *byte == 0), "{bytes:?}");
    }

    #[test]
    fn a_destructor_that_panics_keeps_nothing() {
        struct Panics([u8; 32]);
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("{} bytes", self.0.len());
            }
        }
        let mut place = MaybeUninit::new(Wiped::new(Panics([7; 32])));
        let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // SAFETY: it is initialised, and not used as a value afterwards.
            unsafe { place.assume_init_drop() };
        }));
        assert!(dropped.is_err());
        // SAFETY: all bytes were just written.
        let bytes = unsafe { slice::from_raw_parts(place.as_ptr().cast::<u8>(), 32) };
        assert_eq!(bytes, [0; 32]);
    }
}
