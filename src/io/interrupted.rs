//! System calls that a signal interrupted.

use std::io;

/// Makes `call` again while a signal interrupts it. It happens to a process without handlers too: a read with a time-out is
/// not begun anew by the kernel when the process was stopped and continued, as a shell's ^Z does it (signal(7)).
///
/// # Errors
/// Any other of `call`.
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
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
