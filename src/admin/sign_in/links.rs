//! One-time links, by which a person signs in without a password.

use std::time::Duration;

use super::super::principal::Principal;
use super::token::Token;
use wontun_proto::time::Instant;
use wontun_proto::wireguard::Random;

/// Validity of a link.
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Maximum number of links; a further one replaces the oldest.
const MAX_LINKS: usize = 100;

/// The links that were not used yet, the oldest first: at most one of a person.
#[derive(Debug, Default)]
pub(in crate::admin) struct Links(Vec<Link>);

#[derive(Debug)]
struct Link {
    principal: Principal,
    token: Token,
    end: Instant,
}

impl Links {
    /// Makes a link, which replaces an earlier one of the same person.
    pub(in crate::admin) fn make(
        &mut self,
        principal: Principal,
        now: Instant,
        random: &mut dyn Random,
    ) -> Token {
        self.0.retain(|link| now < link.end && link.principal != principal);
        if self.0.len() >= MAX_LINKS {
            self.0.remove(0);
        }
        let token = Token::random(random);
        self.0.push(Link { principal, token: token.clone(), end: now + LIFETIME });
        token
    }

    /// Returns the person whose link has this token, which is void from then on.
    pub(in crate::admin) fn take(&mut self, typed: &Token, now: Instant) -> Option<Principal> {
        // all are compared, in constant time each
        let mut found = None;
        for (index, link) in self.0.iter().enumerate() {
            if link.token.is_same(typed) && now < link.end {
                found = Some(index);
            }
        }
        found.map(|index| self.0.remove(index).principal)
    }

    /// Makes the link of a person void.
    pub(in crate::admin) fn remove(&mut self, principal: &Principal) {
        self.0.retain(|link| link.principal != *principal);
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
    fn a_link_is_of_one_person_and_the_number_bounded() {
        let mut random = SystemRandom::open().unwrap();
        let mut links = Links::default();
        let owner = |number: usize| Principal::Owner(format!("o{number}").parse().unwrap());
        let tokens: Vec<_> =
            (0..=MAX_LINKS).map(|number| links.make(owner(number), at(0), &mut random)).collect();
        assert_eq!(links.take(&tokens[0], at(1)), None, "the oldest made room");
        assert_eq!(links.take(&tokens[5], at(1)), Some(owner(5)));
        assert_eq!(links.take(&tokens[5], at(1)), None, "used");
        links.remove(&owner(6));
        assert_eq!(links.take(&tokens[6], at(1)), None, "removed");
        let again = links.make(owner(7), at(1), &mut random);
        assert_eq!((links.take(&tokens[7], at(2)), links.take(&again, at(2))), (None, Some(owner(7))));
        assert_eq!(links.take(&tokens[8], at(15 * 60)), None, "too late");
    }
}
