//! Tests of folders with and without a file.

use super::*;
use crate::server::testing::TestFolder;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

fn folder(place: &TestFolder, name: &str) -> Folder {
    Folder::new(place.path().join(name), TunName::default())
}

/// Returns no addresses, as of a host without a network.
fn quiet() -> Vec<(String, Cidr)> {
    Vec::new()
}

fn unused() -> InitOptions {
    InitOptions {
        subnets: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()],
        ..InitOptions::default()
    }
}

#[test]
fn an_empty_folder_gets_a_key_and_a_file() {
    let place = TestFolder::new();
    let folder = folder(&place, "a/b");
    let wanted = InitOptions { endpoint: Some("vpn.example.com:443".parse().unwrap()), ..unused() };
    let made = folder.prepare_with_host(&wanted, quiet).unwrap();
    assert!(made.is_new && matches!(made.updated, Ok(true)));
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&folder.file()), mode(folder.path())), (0o600, 0o700));
    let interface = &made.file.configuration().interface;
    assert_eq!(joined(&interface.addresses), "192.0.2.1/24, 2001:db8::1/64");
    assert_eq!(interface.listen_port.map(u16::from), Some(443));
    assert_eq!(made.file.endpoint().unwrap(), wanted.endpoint);
    assert_eq!(folder.read().unwrap().text(), made.file.text());
    let other = Folder::new(folder.path().to_owned(), "wg1".parse().unwrap())
        .prepare_with_host(&unused(), quiet)
        .unwrap();
    assert_ne!(other.file.public_key(), made.file.public_key());
    assert_eq!(other.file.configuration().interface.listen_port.map(u16::from), Some(DEFAULT_WIREGUARD_PORT));
}

#[test]
fn a_file_that_is_there_keeps_its_key() {
    let place = TestFolder::new();
    let folder = folder(&place, "d");
    let first = folder.prepare_with_host(&unused(), quiet).unwrap().file;
    let again = folder.prepare_with_host(&unused(), quiet).unwrap();
    assert!(!again.is_new && matches!(again.updated, Ok(false)));
    assert_eq!(again.file.text(), first.text());
    // another endpoint is written, once
    let wanted = InitOptions {
        endpoint: Some("192.0.2.9".parse().unwrap()),
        dns: Some(ClientDns::none()),
        ..unused()
    };
    let updated = folder.prepare_with_host(&wanted, quiet).unwrap();
    assert!(!updated.is_new && matches!(updated.updated, Ok(true)));
    assert_eq!(updated.file.public_key(), first.public_key());
    assert!(matches!(folder.prepare_with_host(&wanted, quiet).unwrap().updated, Ok(false)));
    // an invalid one is replaced
    let text = String::from_utf8(folder.read().unwrap().text().to_vec()).unwrap();
    fs::write(folder.file(), text.replace("192.0.2.9:51820", "x y")).unwrap();
    assert!(matches!(folder.prepare_with_host(&wanted, quiet).unwrap().updated, Ok(true)));
    assert_eq!(folder.read().unwrap().endpoint().unwrap(), wanted.endpoint);
    // an empty file is invalid, and is not overwritten
    fs::write(folder.file(), "").unwrap();
    assert!(matches!(folder.prepare_with_host(&wanted, quiet), Err(ServerError::Load(_))));
    assert_eq!(fs::read(folder.file()).unwrap(), b"");
}

#[test]
fn what_would_make_clients_files_wrong_is_refused() {
    let place = TestFolder::new();
    let folder = folder(&place, "d");
    folder.prepare_with_host(&unused(), quiet).unwrap();
    let before = fs::read(folder.file()).unwrap();
    for (wanted, part) in [
        (
            InitOptions { subnets: vec!["198.51.100.0/24".parse().unwrap()], ..InitOptions::default() },
            "Address = 192.0.2.1/24, 2001:db8::1/64, not 198.51.100.0/24",
        ),
        (
            InitOptions { subnets: vec!["192.0.2.0/24".parse().unwrap()], ..InitOptions::default() },
            "not 192.0.2.0/24",
        ),
        (InitOptions { listen_port: Some(1), ..InitOptions::default() }, "ListenPort = 51820, not 1"),
        (
            InitOptions { endpoint: Some("192.0.2.9:443".parse().unwrap()), ..InitOptions::default() },
            "--endpoint has port 443, but",
        ),
    ] {
        let error = folder.prepare_with_host(&wanted, quiet).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    folder.prepare_with_host(&InitOptions { listen_port: Some(51820), ..unused() }, quiet).unwrap();
    assert_eq!(fs::read(folder.file()).unwrap(), before);
    let two = InitOptions {
        subnets: vec!["192.0.2.0/25".parse().unwrap(), "192.0.2.128/25".parse().unwrap()],
        ..InitOptions::default()
    };
    assert!(matches!(
        self::folder(&place, "e").prepare_with_host(&two, quiet),
        Err(ServerError::Subnets(..))
    ));
    assert!(!place.path().join("e").exists());
}

#[test]
fn a_key_from_outside_stays_there() {
    const KEY: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
    let place = TestFolder::new();
    let folder = folder(&place, "d");
    let key = place.path().join("private-key");
    let wanted = InitOptions { private_key_file: Some(key.clone()), ..unused() };
    assert!(matches!(folder.prepare_with_host(&wanted, quiet), Err(ServerError::Load(_))), "there is no key");
    assert!(!folder.file().exists());
    fs::write(&key, KEY).unwrap();
    let made = folder.prepare_with_host(&wanted, quiet).unwrap();
    assert_eq!(made.file.public_key().to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    let text = String::from_utf8(fs::read(folder.file()).unwrap()).unwrap();
    assert!(text.contains(&format!("PrivateKeyFile = {}\n", key.display())) && !text.contains(KEY), "{text}");
    // the same options change nothing; another path, or a key in the file itself, is an error
    assert!(!folder.prepare_with_host(&wanted, quiet).unwrap().is_new);
    fs::write(folder.file(), text.replace(key.to_str().unwrap(), "../private-key")).unwrap();
    assert!(matches!(folder.prepare_with_host(&wanted, quiet), Err(ServerError::Conflict { .. })));
    let own = Folder::new(folder.path().to_owned(), "wg1".parse().unwrap());
    own.prepare_with_host(&unused(), quiet).unwrap();
    let error = own.prepare_with_host(&wanted, quiet).unwrap_err().to_string();
    assert!(error.contains("nothing but the key itself, not /"), "{error}");
}

#[test]
fn a_subnet_of_an_interface_of_this_host_is_refused() {
    fn host() -> Vec<(String, Cidr)> {
        vec![
            ("lo".to_owned(), "127.0.0.1/8".parse().unwrap()),
            ("tun0".to_owned(), "10.9.0.1/24".parse().unwrap()),
            ("eth0".to_owned(), "10.8.0.77/16".parse().unwrap()),
        ]
    }
    let place = TestFolder::new();
    let folder = folder(&place, "d");
    let error = folder.prepare_with_host(&InitOptions::default(), host).unwrap_err().to_string();
    assert_eq!(
        error,
        "the subnet 10.8.0.0/24 overlaps 10.8.0.77/16 of eth0: choose another, such as --subnet 10.77.0.0/24"
    );
    assert!(!folder.path().exists());
    // addresses of the tunnel itself do not overlap
    let own = InitOptions { subnets: vec!["10.9.0.0/24".parse().unwrap()], ..InitOptions::default() };
    assert!(folder.prepare_with_host(&own, host).unwrap().is_new);
}

#[test]
fn without_a_file_there_is_nothing_to_change() {
    let place = TestFolder::new();
    for name in ["d", "."] {
        let folder = folder(&place, name);
        assert!(matches!(folder.lock(), Err(ServerError::NoFile(_))));
        assert!(matches!(folder.read(), Err(ServerError::NoFile(_))));
    }
    assert_eq!(place.names(), [""; 0], "and no lock is left");
}

#[test]
fn a_folder_that_is_there_stays_as_it_is() {
    let place = TestFolder::new();
    let folder = folder(&place, "d");
    fs::create_dir(folder.path()).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o751)).unwrap();
    folder.prepare_with_host(&unused(), quiet).unwrap();
    assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o751);
    // a file in place of the folder
    fs::write(place.path().join("file"), "").unwrap();
    let error = self::folder(&place, "file").prepare_with_host(&unused(), quiet).unwrap_err().to_string();
    assert!(error.contains("file/tun0.conf") || error.contains("/file"), "{error}");
}
