//! wontun
#![deny(unsafe_code)]

pub mod io;
pub mod control;
pub mod config;
pub mod counters;
pub mod link;
pub mod logging;
pub mod packet;
pub mod privileges;
pub mod resolver;
pub mod sys;
pub mod time;
pub mod tunnel;
