//! The code of an invitation on the command line.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

/// The code, or `-` for standard input. It is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeArgument(pub Zeroizing<String>);

impl FromStr for CodeArgument {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for CodeArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeArgument(…)")
    }
}
