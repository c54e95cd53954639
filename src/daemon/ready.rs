//! The ready set: descriptors that may have more input, which epoll does not report again.

use std::collections::VecDeque;

use super::token::Token;

/// Tokens in the order in which they are served, each at most once. A served token goes to the end,
/// so that the least recently served is first and none starves.
#[derive(Debug)]
pub(super) struct ReadySet(VecDeque<Token>);

impl Default for ReadySet {
    fn default() -> Self {
        // sufficient for a tunnel whose peers have no connected sockets
        Self(VecDeque::with_capacity(16))
    }
}

impl ReadySet {
    /// Appends `token`, unless it is in the set already.
    pub(super) fn insert(&mut self, token: Token) {
        if !self.0.contains(&token) {
            self.0.push_back(token);
        }
    }

    /// Puts `token` before the others, unless it is in the set already.
    pub(super) fn insert_first(&mut self, token: Token) {
        if !self.0.contains(&token) {
            self.0.push_front(token);
        }
    }

    /// Appends all of `tokens`.
    pub(super) fn extend(&mut self, tokens: impl IntoIterator<Item = Token>) {
        tokens.into_iter().for_each(|token| self.insert(token));
    }

    /// Removes and returns the first token.
    pub(super) fn pop(&mut self) -> Option<Token> {
        self.0.pop_front()
    }

    /// Returns the number of tokens.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if the set is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::token::SocketId;

    #[test]
    fn a_busy_token_does_not_starve_others() {
        let mut ready = ReadySet::default();
        let busy = Token::Socket(SocketId(1));
        for token in [busy, Token::Tun, busy] {
            ready.insert(token);
        }
        assert_eq!(ready.len(), 2);
        let mut served = Vec::new();
        for _ in 0..4 {
            let token = ready.pop().unwrap();
            served.push(token);
            ready.insert(busy);
            ready.insert(token);
        }
        assert_eq!(served, [busy, Token::Tun, busy, Token::Tun]);
    }
}
