//! The parts of a DNS message that forwarding and caching need (RFC 1035, section 4). Everything
//! else is passed on as it is, so that record types of the future work, too.

use std::ops::Range;
use std::time::Duration;

/// Length of the header in bytes.
pub const HEADER: usize = 12;
/// Maximum length of a message over UDP without EDNS(0), in bytes.
pub const MAX_PLAIN_UDP: usize = 512;
/// Maximum length of a name in bytes, and of a label.
const MAX_NAME: usize = 255;
const MAX_LABEL: u8 = 63;
/// Type of EDNS(0)'s pseudo record, which has no time to live (RFC 6891).
const OPT: u16 = 41;
/// Maximum number of records that are read in a message.
const MAX_RECORDS: usize = 1000;

/// Flags of the header.
const RESPONSE: u16 = 1 << 15;
const OPCODE: u16 = 0b1111 << 11;
const TRUNCATED: u16 = 1 << 9;
const RECURSION_DESIRED: u16 = 1 << 8;
const RECURSION_AVAILABLE: u16 = 1 << 7;
const CHECKING_DISABLED: u16 = 1 << 4;

/// A response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ResponseCode {
    /// The query cannot be parsed.
    FormatError = 1,
    /// No name server answers.
    ServerFailure = 2,
    /// The kind of query is not supported.
    NotImplemented = 4,
    /// The client may not ask, or asks too often.
    Refused = 5,
}

/// A query, or the reason why it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Identifier chosen by the client.
    pub id: u16,
    /// The name in lower case, in wire format, without compression.
    pub name: Vec<u8>,
    /// Type of the records.
    pub kind: u16,
    /// Class of the records.
    pub class: u16,
    /// True if the client asks not to validate answers, or for DNSSEC's records.
    pub dnssec: [bool; 2],
    /// Maximum length of the answer over UDP, in bytes.
    pub max_udp: usize,
    /// Range of the question in the message.
    pub question: Range<usize>,
}

/// Reason why a message is no query that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// It has no header of a query: it is not answered.
    Ignored,
    /// It is answered with this code.
    Code(ResponseCode),
}

/// Reads a big-endian number.
fn number(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// Returns the end of the name at `at`. A compressed name ends with its pointer.
fn name_end(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=MAX_LABEL => at += 1 + usize::from(length),
            0xc0.. => return message.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
}

/// A record.
struct Record {
    kind: u16,
    /// Upper 16 bits and lower 16 bits of the class and flags: for EDNS(0), the maximum length.
    class: u16,
    /// Offset of the time to live, four bytes.
    ttl: usize,
    end: usize,
}

fn record(message: &[u8], at: usize) -> Option<Record> {
    let fixed = name_end(message, at)?;
    let length = number(message, fixed + 8)?;
    let end = fixed + 10 + usize::from(length);
    (end <= message.len()).then_some(Record {
        kind: number(message, fixed)?,
        class: number(message, fixed + 2)?,
        ttl: fixed + 4,
        end,
    })
}

/// Returns all records, or `None` if the message is damaged.
fn records(message: &[u8], mut at: usize) -> Option<Vec<Record>> {
    let count: usize =
        [6, 8, 10].into_iter().map(|at| number(message, at).map(usize::from)).sum::<Option<_>>()?;
    if count > MAX_RECORDS {
        return None;
    }
    let mut records = Vec::new();
    for _ in 0..count {
        let record = record(message, at)?;
        at = record.end;
        records.push(record);
    }
    Some(records)
}

impl Query {
    /// Parses a query with one question.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn parse(message: &[u8]) -> Result<Self, QueryError> {
        let (Some(id), Some(flags)) = (number(message, 0), number(message, 2)) else {
            return Err(QueryError::Ignored);
        };
        if message.len() < HEADER || flags & RESPONSE != 0 {
            return Err(QueryError::Ignored);
        }
        if flags & OPCODE != 0 {
            return Err(QueryError::Code(ResponseCode::NotImplemented));
        }
        Self::parse_question(message, id, flags).ok_or(QueryError::Code(ResponseCode::FormatError))
    }

    fn parse_question(message: &[u8], id: u16, flags: u16) -> Option<Self> {
        let is_one = number(message, 4)? == 1 && number(message, 6)? == 0;
        let end = name_end(message, HEADER).filter(|_| is_one)?;
        let name = message.get(HEADER..end)?;
        // a pointer in a question has nothing to point to
        if name.len() > MAX_NAME || name.last() != Some(&0) {
            return None;
        }
        let question = HEADER..end + 4;
        let (kind, class) = (number(message, end)?, number(message, end + 2)?);
        let edns = records(message, question.end)?.into_iter().find(|record| record.kind == OPT);
        let max_udp = edns.as_ref().map_or(0, |edns| usize::from(edns.class)).max(MAX_PLAIN_UDP);
        let wants_dnssec =
            edns.is_some_and(|edns| number(message, edns.ttl + 2).is_some_and(|bits| bits >> 15 == 1));
        Some(Self {
            id,
            name: name.to_ascii_lowercase(),
            kind,
            class,
            dnssec: [flags & CHECKING_DISABLED != 0, wants_dnssec],
            max_udp,
            question,
        })
    }
}

/// Returns the header and the question of an answer to `query`, which has the bytes `message`,
/// with this code and no records.
pub fn error(message: &[u8], query: Option<&Query>, code: ResponseCode) -> Vec<u8> {
    let id = number(message, 0).unwrap_or_default();
    let asked = number(message, 2).unwrap_or_default();
    let flags = RESPONSE | RECURSION_AVAILABLE | (asked & (OPCODE | RECURSION_DESIRED)) | code as u16;
    let question = query.and_then(|query| message.get(query.question.clone())).unwrap_or_default();
    header(id, flags, u16::from(!question.is_empty()), question)
}

/// Returns the header and question of `answer`, marked as truncated: the client asks again over
/// TCP.
pub fn truncated(answer: &[u8], query: &Query) -> Vec<u8> {
    let flags = number(answer, 2).unwrap_or_default() | RESPONSE | TRUNCATED;
    let question = answer.get(query.question.clone()).unwrap_or_default();
    header(query.id, flags, u16::from(!question.is_empty()), question)
}

fn header(id: u16, flags: u16, questions: u16, question: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + question.len());
    for field in [id, flags, questions, 0, 0, 0] {
        message.extend(field.to_be_bytes());
    }
    message.extend(question);
    message
}

/// Replaces the identifier.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(field) = message.first_chunk_mut() {
        *field = id.to_be_bytes();
    }
}

/// Returns true if `answer` is one to `query` with the identifier `id`: it has the same question.
pub fn is_answer(answer: &[u8], query: &Query, id: u16) -> bool {
    let is_response = number(answer, 2).is_some_and(|flags| flags & RESPONSE != 0 && flags & OPCODE == 0);
    let question = || {
        let end = query.question.end.checked_sub(4)?;
        let name = answer.get(query.question.start..end)?;
        Some(
            number(answer, 4)? == 1
                && name.eq_ignore_ascii_case(&query.name)
                && number(answer, end)? == query.kind
                && number(answer, end + 2)? == query.class,
        )
    };
    is_response && number(answer, 0) == Some(id) && question() == Some(true)
}

/// Returns true if the answer was truncated.
pub fn is_truncated(answer: &[u8]) -> bool {
    number(answer, 2).is_some_and(|flags| flags & TRUNCATED != 0)
}

/// Returns the code of an answer.
pub fn code(answer: &[u8]) -> u16 {
    number(answer, 2).unwrap_or_default() & 0b1111
}

/// Returns the time for which an answer may be cached: the least of its records, or `None` if it
/// has none or is damaged.
pub fn ttl(answer: &[u8], query: &Query) -> Option<Duration> {
    let records = records(answer, query.question.end)?;
    let ttls = records.iter().filter(|record| record.kind != OPT).map(|record| ttl_of(answer, record));
    let least = ttls.collect::<Option<Vec<_>>>()?.into_iter().min()?;
    Some(Duration::from_secs(u64::from(least)))
}

fn ttl_of(message: &[u8], record: &Record) -> Option<u32> {
    let bytes = message.get(record.ttl..)?.first_chunk()?;
    // RFC 2181, section 8: a value with the highest bit set is 0
    Some(u32::from_be_bytes(*bytes)).map(|ttl| if ttl >> 31 == 0 { ttl } else { 0 })
}

/// Reduces the time to live of each record by `age`.
pub fn reduce_ttls(answer: &mut [u8], query: &Query, age: Duration) {
    let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
    for record in records(answer, query.question.end).unwrap_or_default() {
        if record.kind == OPT {
            continue;
        }
        let ttl = ttl_of(answer, &record).unwrap_or_default().saturating_sub(age);
        if let Some(field) = answer.get_mut(record.ttl..).and_then(<[u8]>::first_chunk_mut) {
            *field = ttl.to_be_bytes();
        }
    }
}
