//! Epoll tokens: the `u64` that epoll returns for each descriptor.

/// Number of a socket: counted up and never reused, so that events of a closed socket are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId(pub u32);

/// Source of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// The worker's queue of the TUN device for bulk traffic, or its only one.
    Tun,
    /// The worker's queue of the TUN device for other flows.
    SparseTun,
    /// A UDP socket.
    Socket(SocketId),
    /// A UDP socket for small data messages.
    SmallData(SocketId),
    /// The timer.
    Timer,
    /// Signals.
    Signals,
    /// Messages of the supervisor.
    Supervisor,
    /// Health requests.
    Health,
    /// Messages that the engine has to send. Has no descriptor: it is only ever in the ready set.
    Transmit,
    /// Packets of limited peers that may leave now. Has no descriptor either.
    Limited,
    /// A client such as wg(8) whose answer is not completely written; numbered like sockets.
    UapiClient(u32),
    /// Wake eventfd: another worker has posted tokens.
    Wake,
}

/// A number that is not the encoding of any [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("epoll returned the unknown token {0:#x}: this is a bug in wontun")]
pub struct UnknownTokenError(u64);

/// The kind is in the upper half, the number of a socket in the lower.
const SOCKET: u64 = 2;
const UAPI_CLIENT: u64 = 11;
const SMALL_DATA: u64 = 14;

impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        match token {
            Token::Tun => 1 << 32,
            Token::SparseTun => 13 << 32,
            Token::SmallData(SocketId(number)) => SMALL_DATA << 32 | Self::from(number),
            Token::Socket(SocketId(number)) => SOCKET << 32 | Self::from(number),
            Token::Timer => 3 << 32,
            Token::Signals => 4 << 32,
            Token::Supervisor => 5 << 32,
            Token::Health => 7 << 32,
            Token::Transmit => 8 << 32,
            Token::Limited => 9 << 32,
            Token::UapiClient(number) => UAPI_CLIENT << 32 | Self::from(number),
            Token::Wake => 12 << 32,
        }
    }
}

impl TryFrom<u64> for Token {
    type Error = UnknownTokenError;

    fn try_from(code: u64) -> Result<Self, UnknownTokenError> {
        let [_, _, _, kind, number @ ..] = code.to_be_bytes();
        let number = u32::from_be_bytes(number);
        let token = match (kind, number) {
            (1, _) => Self::Tun,
            (2, _) => Self::Socket(SocketId(number)),
            (3, _) => Self::Timer,
            (4, _) => Self::Signals,
            (5, _) => Self::Supervisor,
            (7, _) => Self::Health,
            (8, _) => Self::Transmit,
            (9, _) => Self::Limited,
            (11, _) => Self::UapiClient(number),
            (12, _) => Self::Wake,
            (13, _) => Self::SparseTun,
            (14, _) => Self::SmallData(SocketId(number)),
            _ => return Err(UnknownTokenError(code)),
        };
        // each token has one encoding: reject numbers with other bits set
        if u64::from(token) == code { Ok(token) } else { Err(UnknownTokenError(code)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_token() -> impl Strategy<Value = Token> {
        prop_oneof![
            any::<u32>().prop_map(|number| Token::Socket(SocketId(number))),
            any::<u32>().prop_map(Token::UapiClient),
            any::<u32>().prop_map(|number| Token::SmallData(SocketId(number))),
            prop::sample::select(vec![
                Token::Tun,
                Token::SparseTun,
                Token::Timer,
                Token::Signals,
                Token::Supervisor,
                Token::Health,
                Token::Transmit,
                Token::Limited,
                Token::Wake,
            ]),
        ]
    }

    proptest! {
        #[test]
        fn there_and_back(token in any_token()) {
            prop_assert_eq!(Token::try_from(u64::from(token)), Ok(token));
        }

        #[test]
        fn different_tokens_have_different_codes(a in any_token(), b in any_token()) {
            prop_assert_eq!(a == b, u64::from(a) == u64::from(b));
        }

        #[test]
        fn back_and_there(kind in prop_oneof![0u64..17, any::<u64>()], number in prop_oneof![Just(0u32), any::<u32>()]) {
            let code = kind << 32 | u64::from(number);
            match Token::try_from(code) {
                Ok(token) => prop_assert_eq!(u64::from(token), code),
                Err(UnknownTokenError(unknown)) => prop_assert_eq!(unknown, code),
            }
        }

        #[test]
        fn over_the_whole_range(code: u64) {
            prop_assert!(Token::try_from(code).is_ok_and(|token| u64::from(token) == code) || Token::try_from(code) == Err(UnknownTokenError(code)));
        }
    }

    #[test]
    fn zero_is_no_token() {
        assert_eq!(Token::try_from(0), Err(UnknownTokenError(0)));
    }
}
