//! DNS messages: arbitrary bytes are a query, an answer to it, or ignored. Shared by the fuzzer and
//! by the ordinary test that replays its corpus.

use std::time::Duration;

use wontun::names::message::{self, HEADER, Query, QueryError};
use wontun::names::{Zone, ZoneAnswer};

fn zone() -> Zone {
    let address = [10, 8, 0, 1].into();
    let network = wontun_proto::allowed_ips::Prefix::of(address, 24);
    let mut zone = Zone::new("vpn".parse().expect("a domain"), vec![address], vec![network]);
    zone.add("phone".to_owned(), vec![[10, 8, 0, 2].into()]);
    zone
}

/// Reads bytes as a query of a client, and as what a name server answers to it.
///
/// # Panics
/// If an answer violates an invariant.
pub(crate) fn run(input: &[u8]) {
    let query = match Query::parse(input) {
        Ok(query) => query,
        Err(QueryError::Ignored) => return,
        Err(QueryError::Code(code)) => {
            let answer = message::error(input, None, code);
            assert_eq!(answer.len(), HEADER);
            assert_eq!(Query::parse(&answer), Err(QueryError::Ignored), "an answer is no query");
            return;
        }
    };
    if let ZoneAnswer::Message(answer) = zone().answer(&query) {
        assert!(message::is_answer(&answer, &query, query.id));
        assert!(message::ttl(&answer, &query).is_some_and(|ttl| !ttl.is_zero()));
        let short = message::truncated(&answer, &query);
        assert!(message::is_truncated(&short) && message::is_answer(&short, &query, query.id));
    }
    // the same bytes as an answer
    let mut answer = input.to_vec();
    message::set_id(&mut answer, query.id);
    let before = message::ttl(&answer, &query);
    message::reduce_ttls(&mut answer, &query, Duration::from_secs(7));
    let after = message::ttl(&answer, &query);
    assert_eq!(after, before.map(|ttl| ttl.saturating_sub(Duration::from_secs(7))));
}
