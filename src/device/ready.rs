//! The ready set: descriptors that may have more to give, though epoll will not say so again.

use std::collections::VecDeque;

use super::token::Token;

/// Tokens in the order in which they wait to be served, each at most once. Whoever was served goes to the end,
/// so the least recently served is first and nobody starves.
#[derive(Debug)]
pub(super) struct ReadySet(VecDeque<Token>);

impl Default for ReadySet {
    fn default() -> Self {
        // more than a tunnel has but for one whose peers come by sockets of their own
        Self(VecDeque::with_capacity(16))
    }
}

impl ReadySet {
    /// Adds `token` at the end, unless it waits already.
    pub(super) fn insert(&mut self, token: Token) {
        if !self.0.contains(&token) {
            self.0.push_back(token);
        }
    }

    /// Adds all of `tokens`.
    pub(super) fn extend(&mut self, tokens: impl IntoIterator<Item = Token>) {
        tokens.into_iter().for_each(|token| self.insert(token));
    }

    /// Takes the one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<Token> {
        self.0.pop_front()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::token::SockId;

    #[test]
    fn nobody_starves_beside_one_that_always_has_more() {
        let mut ready = ReadySet::default();
        let busy = Token::Sock(SockId(1));
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
