//! Size limits of a request.

/// Maximum length of a request in bytes: three hundred thousand IPv6 allowed IPs.
pub(crate) const MAX_REQUEST: usize = 16 << 20;
/// Maximum length of a line in bytes without its end; the longest valid line has about a hundred.
pub(crate) const MAX_LINE: usize = 1024;
