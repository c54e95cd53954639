//! Retries of system calls that a signal interrupted.

use std::io;

/// Repeats `call` while it is interrupted by a signal. This also happens to a process without
/// handlers: the kernel does not restart a read with a timeout when the process was stopped and
/// continued, as by a shell's ^Z (signal(7)).
///
/// # Errors
/// Any other error of `call`.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_calls_are_repeated() {
        let mut left = 3;
        let outcome = retry(|| {
            left -= 1;
            if left > 0 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(left) }
        });
        assert_eq!(outcome.unwrap(), 0);
    }
}
