//! An attacker has taken over one of the processes of the admin page.

use std::net::Ipv4Addr;
use std::sync::Arc;

use nix::libc;

use super::host_state::{host_state, is_as_before};
use super::inject::TakenOver;
use super::takeover::{
    tries_files, tries_other_numbers, tries_processes, tries_rights, tries_sockets, tries_to_start_others,
};
use crate::admin::Admin;
use crate::lab::Lab;
use crate::processes::helper;
use crate::setup::server::{Server, client};

const AT_FDCWD: u64 = libc::AT_FDCWD as u64;

/// The process that reads requests has no key and no file, and can open nothing. The one that edits
/// the server's file can open this and nothing else, and no socket.
#[test]
fn taken_over_processes_of_the_admin_page_change_nothing_but_the_servers_file() {
    let lab = Arc::new(Lab::new(2));
    let server = Server::new(&lab, 0);
    let mut daemon = server.serve(&["--endpoint", &lab.host(0).v4.to_string(), "--admin"]);
    let mut admin = Admin::first(&server);
    let (phone, _phone) = client(&lab, 1, &admin.add("phone"));
    let address = Ipv4Addr::new(10, 8, 0, 1);
    phone.ping(address);
    let before = host_state(&server.site);
    let processes = daemon.processes();
    let [page, editor] = ["wontun-admin", "wontun-editor"].map(|name| helper(daemon.pid(), name));

    let mut process = TakenOver::new(page);
    tries_sockets(&mut process);
    tries_files(&mut process, server.file().to_str());
    tries_processes(&mut process, processes.supervisor);
    tries_to_start_others(&mut process);
    tries_rights(&mut process);
    tries_other_numbers(&mut process);
    process.release();

    let mut process = TakenOver::new(editor);
    tries_sockets(&mut process);
    tries_files(&mut process, None);
    tries_processes(&mut process, processes.supervisor);
    tries_to_start_others(&mut process);
    tries_rights(&mut process);
    tries_other_numbers(&mut process);
    // the control
    let file = process.text(server.file().to_str().unwrap());
    process.must_succeed("open", libc::SYS_openat, &[AT_FDCWD, file, libc::O_RDONLY as u64]);
    process.release();

    is_as_before(&server.site, &before);
    phone.ping(address);
    assert_eq!(daemon.processes(), processes, "a process was replaced");
    assert!(admin.get("/").body.contains("phone") && daemon.is_running());
}
