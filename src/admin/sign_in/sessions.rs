//! Sessions: each ends after a time without use, and at the latest half a day after it began.

use std::time::Duration;

use super::super::principal::Principal;
use super::token::{Token, TokenHash};
use wontun_proto::time::Instant;
use wontun_proto::wireguard::Random;

/// Time without use after which a session ends.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// Time after which a session ends in any case.
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// Maximum number of sessions of a person; a further one ends the one that was idle the longest.
const MAX_SESSIONS: usize = 32;

/// A session.
#[derive(Clone, Debug)]
pub(in crate::admin) struct Session {
    hash: TokenHash,
    /// The person who signed in.
    principal: Principal,
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

    /// Returns the person who signed in.
    pub(in crate::admin) const fn principal(&self) -> &Principal {
        &self.principal
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
        principal: Principal,
        is_by_link: bool,
        now: Instant,
        random: &mut dyn Random,
    ) -> Token {
        self.remove_ended(now);
        let own = self.0.iter().enumerate().filter(|(_, each)| each.principal == principal);
        if own.clone().count() >= MAX_SESSIONS
            && let Some((oldest, _)) = own.min_by_key(|(_, each)| each.used)
        {
            self.0.remove(oldest);
        }
        let token = Token::random(random);
        let csrf = Token::random(random);
        self.0.push(Session { hash: token.hash(), principal, csrf, began: now, used: now, is_by_link });
        token
    }

    /// Returns the session of a token, and records its use.
    pub(in crate::admin) fn use_of(&mut self, token: &Token, now: Instant) -> Option<&Session> {
        let hash = token.hash();
        let found = self.0.iter_mut().find(|each| each.hash.is_same(&hash) && now < each.end())?;
        found.used = now;
        Some(found)
    }

    /// Returns true if a session has not ended.
    pub(in crate::admin) fn has(&self, session: &Session, now: Instant) -> bool {
        self.0.iter().any(|each| each.hash == session.hash && now < each.end())
    }

    /// Ends a session.
    pub(in crate::admin) fn end(&mut self, session: &Session) {
        self.0.retain(|each| each.hash != session.hash);
    }

    /// Ends all sessions of a person.
    pub(in crate::admin) fn end_all_of(&mut self, principal: &Principal) {
        self.0.retain(|each| each.principal != *principal);
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
        let token = sessions.begin(Principal::Admin, false, at(0), &mut random);
        assert!(sessions.use_of(&token, at(1799)).is_some());
        let session = sessions.use_of(&token, at(1799)).unwrap().clone();
        assert!(sessions.has(&session, at(1799 + 1799)) && !sessions.has(&session, at(1799 + 1800)));
        assert!(sessions.use_of(&token, at(1799 + 1800)).is_none(), "idle");
        let token = sessions.begin(Principal::Admin, false, at(10_000), &mut random);
        for time in (10_000..10_000 + 12 * 3600).step_by(600) {
            assert!(sessions.use_of(&token, at(time)).is_some(), "{time}");
        }
        assert!(sessions.use_of(&token, at(10_000 + 12 * 3600)).is_none(), "half a day");
    }

    #[test]
    fn sessions_are_told_apart_and_bounded() {
        let mut random = SystemRandom::open().unwrap();
        let mut sessions = Sessions::default();
        let tokens: Vec<_> = (0..=MAX_SESSIONS as u64)
            .map(|n| sessions.begin(Principal::Admin, n == 5, at(n), &mut random))
            .collect();
        assert!(sessions.use_of(&tokens[0], at(100)).is_none(), "the oldest made room");
        let forms = sessions.use_of(&tokens[5], at(100)).unwrap().clone();
        assert!(forms.is_by_link && forms.is_own_form(&forms.csrf().to_hex()));
        assert!(!forms.is_own_form("") && !forms.is_own_form(&tokens[5].to_hex()));
        let other = sessions.use_of(&tokens[6], at(100)).unwrap();
        assert!(!other.is_by_link && !other.is_own_form(&forms.csrf().to_hex()));
        let other = other.clone();
        sessions.end(&other);
        assert!(sessions.use_of(&tokens[6], at(100)).is_none() && !sessions.has(&other, at(100)));
        // those of another person neither make room nor end with them
        let owner = Principal::Owner("anna".parse().unwrap());
        let own: Vec<_> =
            (0..=MAX_SESSIONS).map(|_| sessions.begin(owner.clone(), false, at(101), &mut random)).collect();
        assert!(
            sessions.use_of(&tokens[5], at(102)).is_some() && sessions.use_of(&own[0], at(102)).is_none()
        );
        sessions.end_all_of(&Principal::Admin);
        assert!(
            sessions.use_of(&tokens[5], at(102)).is_none() && sessions.use_of(&own[5], at(102)).is_some()
        );
    }
}
