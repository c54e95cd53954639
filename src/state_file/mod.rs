//! The state file: what a tunnel has to know of its peers after a restart. It contains public keys,
//! addresses, timestamps and counters, and no secrets.
//!
//! The file is opened at the start and written in place afterwards: the process that writes it has
//! no right to create or rename files by then. It consists of pages of 4096 bytes, each of which is
//! there twice, with a sequence number and a checksum. A page is written over its older copy, so
//! that an interrupted write leaves the newer one: `page` has the format. What is read is checked
//! like anything from outside; a file that is lost or damaged costs what it has kept and nothing
//! else.

mod file;
mod page;
mod record;
mod sync;
mod table;

pub(crate) use file::{Access, prepare_folder};
pub use file::{OpenError, StateFile};
pub use page::{PAGE_LEN, RECORDS_PER_PAGE, seal};
pub use record::{SavedEndpoint, SavedPeer};
pub use table::{Defects, PageWrite, StateTable};

#[cfg(test)]
mod tests;
