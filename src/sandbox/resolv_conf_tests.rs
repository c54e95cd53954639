//! The filter of the `dns` process: it opens and removes one path, wherever the bytes of another
//! path are.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;

use nix::libc::{self, c_int, c_long};
use wontun_sys::trap::raw_call;

use super::attacks::ATTACKS;
use super::numbers::MMAP;
use super::resolv_conf_calls::RESOLV_CONF_PATH;
use super::tests::Stage;

const OTHER: &CStr = c"/etc/shadow";
/// The same text at another address, which could be changed.
const SAME_TEXT: &[u8] = b"/etc/resolv.conf\0";
const CALLS: [(&str, c_long); 7] = [
    ("write another file", libc::SYS_openat),
    ("read another file", libc::SYS_openat),
    ("open a copy of the path", libc::SYS_openat),
    ("remove another file", libc::SYS_unlinkat),
    ("make the path writable", libc::SYS_mprotect),
    ("unmap the path", libc::SYS_munmap),
    ("map something over the path", MMAP),
];

type Act = Box<dyn Fn() -> io::Result<()>>;

fn address(path: &CStr) -> c_long {
    path.as_ptr().addr() as c_long
}

/// The attempts to reach another path, and the opening of the right one.
pub(super) fn acts() -> HashMap<&'static str, Act> {
    let at = c_long::from(libc::AT_FDCWD);
    let page = address(RESOLV_CONF_PATH) & !4095;
    let writable = c_long::from(libc::PROT_READ | libc::PROT_WRITE);
    let fixed = c_long::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED);
    let open = |path: c_long, flags: c_int| [at, path, c_long::from(flags), 0, 0, 0];
    let call = |number: c_long, arguments: [c_long; 6]| -> Act {
        Box::new(move || raw_call(number, arguments).map(drop))
    };
    let copy = SAME_TEXT.to_vec().leak().as_ptr().addr() as c_long;
    HashMap::from([
        ("write another file", call(libc::SYS_openat, open(address(OTHER), libc::O_WRONLY))),
        ("read another file", call(libc::SYS_openat, open(address(OTHER), libc::O_RDONLY))),
        ("open a copy of the path", call(libc::SYS_openat, open(copy, libc::O_RDONLY))),
        ("open the path", call(libc::SYS_openat, open(address(RESOLV_CONF_PATH), libc::O_RDONLY))),
        ("remove another file", call(libc::SYS_unlinkat, [at, address(OTHER), 0, 0, 0, 0])),
        ("make the path writable", call(libc::SYS_mprotect, [page, 4096, writable, 0, 0, 0])),
        (
            "make memory before the path writable",
            call(libc::SYS_mprotect, [page - 8192, 65536, writable, 0, 0, 0]),
        ),
        ("unmap the path", call(libc::SYS_munmap, [page, 4096, 0, 0, 0, 0])),
        ("map something over the path", call(MMAP, [page, 4096, writable, fixed, -1, 0])),
    ])
}

#[test]
fn no_other_path_can_be_opened() {
    let stage = Stage::new("resolv-conf");
    for (name, number) in CALLS {
        stage.dies("resolv-conf", name, number);
    }
    stage.dies("resolv-conf", "make memory before the path writable", libc::SYS_mprotect);
    for (name, number, _) in ATTACKS {
        stage.dies("resolv-conf", name, *number);
    }
    let outcome = stage.outcome("resolv-conf", "open the path");
    assert!(outcome == "Ok(())" || outcome.contains("NotFound"), "{outcome}");
}
