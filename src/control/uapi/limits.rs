//! How long a request may be.

/// Bytes that a request may have: three hundred thousand allowed IPs of IPv6.
pub const MAX_REQUEST: usize = 16 << 20;
/// Bytes that a line may have, without its end; the longest that has a meaning has about a hundred.
pub const MAX_LINE: usize = 1024;
