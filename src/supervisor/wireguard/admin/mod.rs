//! The admin page (`--admin`): its processes, and what they ask for. `wontun-admin` may be taken
//! over by whom it serves: each of its messages is checked, and their number is limited.

mod changes;
mod handle;
mod listeners;
mod page;
mod peers;
mod pending;
mod processes;
mod restart;

pub(super) use page::{Admin, editor_start};
pub(super) use processes::{Editor, Helper};
