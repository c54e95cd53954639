//! Sessions: each ends after a time without use, and at the latest half a day after it began.

use std::time::Duration;

use super::token::{Token, TokenHash};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::Random;

/// Time without use after which a session ends.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// Time after which a session ends in any case.
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// Maximum number of sessions; a further one ends the one that was idle the longest.
const MAX_SESSIONS: usize = 32;

/// A session.
#[derive(Clone, Debug)]
pub(in crate::admin) struct Session {
    hash: TokenHash,
    /// Token that every form of this session contains.
    csrf: Token,
    began: Instant,
    used: Instant,
    /// True if it was begun by a link, so that a new password can be set without the old one.
    pub(in crate::admin) is_by_link: bool,
}

/// The sessions.
#[derive(Debug, Default)]
pub(in crate::admin) struct Sessions(Vec<Session>);

impl Session {
    /// Returns the token of this session's forms.
    pub(in crate::admin) const fn csrf(&self) -> &Token {
        &self.csrf
    }

    /// Returns true if `text` is the token of this session's forms.
    pub(in crate::admin) fn is_own_form(&self, text: &str) -> bool {
        Token::parse(text).is_some_and(|token| self.csrf.hash().is_of(&token))
    }

    fn end(&self) -> Instant {
        (self.used + IDLE).min(self.began + LONGEST)
    }
}

impl Sessions {
    /// Begins a session, and returns the token that identifies it.
    pub(in crate::admin) fn begin(
        &mut self,
        is_by_link: bool,
        now: Instant,
        random: &mut dyn Random,
    ) -> Token {
        self.remove_ended(now);
        if self.0.len() >= MAX_SESSIONS
            && let Some((oldest, _)) = self.0.iter().enumerate().min_by_key(|(_, each)| each.used)
        {
            self.0.remove(oldest);
        }
        let token = Token::random(random);
        let csrf = Token::random(random);
        self.0.push(Session { hash: token.hash(), csrf, began: now, used: now, is_by_link });
        token
    }

    /// Returns the session of a token, and records its use.
    pub(in crate::admin) fn use_of(&mut self, token: &Token, now: Instant) -> Option<&Session> {
        let found = self.0.iter_mut().find(|each| each.hash.is_of(token) && now < each.end())?;
        found.used = now;
        Some(found)
    }

    /// Returns the time at which the session of a token ends, if it is not used until then.
    pub(in crate::admin) fn end_of(&self, token: &Token, now: Instant) -> Option<Instant> {
        let found = self.0.iter().find(|each| each.hash.is_of(token))?;
        Some(found.end()).filter(|end| now < *end)
    }

    /// Ends the session of a token.
    pub(in crate::admin) fn end(&mut self, token: &Token) {
        self.0.retain(|each| !each.hash.is_of(token));
    }

    /// Ends all sessions: the password is another.
    pub(in crate::admin) fn end_all(&mut self) {
        self.0.clear();
    }

    fn remove_ended(&mut self, now: Instant) {
        self.0.retain(|each| now < each.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::random::SystemRandom;

    fn at(seconds: u64) -> Instant {
        Instant::from_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn a_session_ends_without_use_and_in_any_case() {
        let mut random = SystemRandom::open().unwrap();
        let mut sessions = Sessions::default();
        let token = sessions.begin(false, at(0), &mut random);
        assert!(sessions.use_of(&token, at(1799)).is_some());
        assert_eq!(sessions.end_of(&token, at(1800)), Some(at(1799 + 1800)));
        assert!(sessions.use_of(&token, at(1799 + 1800)).is_none(), "idle");
        let token = sessions.begin(false, at(10_000), &mut random);
        for time in (10_000..10_000 + 12 * 3600).step_by(600) {
            assert!(sessions.use_of(&token, at(time)).is_some(), "{time}");
        }
        assert!(sessions.use_of(&token, at(10_000 + 12 * 3600)).is_none(), "half a day");
    }

    #[test]
    fn sessions_are_told_apart_and_bounded() {
        let mut random = SystemRandom::open().unwrap();
        let mut sessions = Sessions::default();
        let tokens: Vec<_> =
            (0..=MAX_SESSIONS as u64).map(|n| sessions.begin(n == 5, at(n), &mut random)).collect();
        assert!(sessions.use_of(&tokens[0], at(100)).is_none(), "the oldest made room");
        let forms = sessions.use_of(&tokens[5], at(100)).unwrap().clone();
        assert!(forms.is_by_link && forms.is_own_form(&forms.csrf().to_hex()));
        assert!(!forms.is_own_form("") && !forms.is_own_form(&tokens[5].to_hex()));
        let other = sessions.use_of(&tokens[6], at(100)).unwrap();
        assert!(!other.is_by_link && !other.is_own_form(&forms.csrf().to_hex()));
        sessions.end(&tokens[6]);
        assert!(sessions.use_of(&tokens[6], at(100)).is_none());
        sessions.end_all();
        assert!(sessions.use_of(&tokens[5], at(100)).is_none());
    }
}
