//! Tests of the import of wg-easy 15's tables.

use serde_json::{Value, json};

use super::*;

/// Returns the tables of wg-easy 15 as `sqlite3 -json` prints them.
fn tables() -> [Value; 3] {
    let client = |seed: u64, name: &str, number: u8, enabled: u8| {
        json!({
            "id": seed, "user_id": 1, "interface_id": "wg0", "name": name,
            "ipv4_address": format!("10.8.0.{number}"), "ipv6_address": format!("fdcc:ad94:bacf:61a4::cafe:{number}"),
            "pre_up": "", "private_key": secret(seed), "public_key": public(seed), "pre_shared_key": shared(seed),
            "expires_at": null, "allowed_ips": null, "server_allowed_ips": "[]", "persistent_keepalive": 25,
            "mtu": 1420, "dns": null, "server_endpoint": null, "enabled": enabled,
        })
    };
    let mut site = client(LAPTOP, "site", 10, 1);
    site["expires_at"] = json!("2026-12-31T23:59:59.000Z");
    site["allowed_ips"] = json!("[\"192.168.7.0/24\"]");
    site["server_allowed_ips"] = json!("[\"192.168.5.0/24\",\"10.8.0.10/32\"]");
    site["dns"] = json!("[\"10.8.0.1\"]");
    site["mtu"] = json!(1380);
    site["persistent_keepalive"] = json!(0);
    site["server_endpoint"] = json!("site.example.com:51820");
    [
        json!([{"name": "wg0", "device": "eth0", "port": 51821, "private_key": secret(SERVER),
            "public_key": public(SERVER), "ipv4_cidr": "10.8.0.0/24", "ipv6_cidr": "fdcc:ad94:bacf:61a4::cafe:0/112",
            "mtu": 1420, "enabled": 1}]),
        json!([{"id": "wg0", "default_mtu": 1420, "default_persistent_keepalive": 0,
            "default_dns": "[\"1.1.1.1\",\"2606:4700:4700::1111\"]", "default_allowed_ips": "[\"0.0.0.0/0\",\"::/0\"]",
            "host": "vpn.example.com", "port": 51820}]),
        json!([client(PHONE, "phone", 2, 1), client(TABLET, "tablet", 3, 0), site]),
    ]
}

fn printed(tables: &[Value]) -> String {
    tables.iter().map(|table| format!("{table}\n")).collect()
}

#[test]
fn wg_easy_15() {
    let imported = translate(&printed(&tables())).unwrap();
    assert_eq!(imported.format, Format::WgEasy);
    let interface = &imported.file.configuration().interface;
    let addresses: Vec<_> = interface.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.8.0.1/24", "fdcc:ad94:bacf:61a4::cafe:1/112"]);
    assert_eq!(interface.listen_port.map(u16::from), Some(51821));
    assert_eq!(imported.file.endpoint().unwrap().unwrap().to_string(), "vpn.example.com:51820");
    assert_eq!(imported.file.dns().unwrap().unwrap().to_string(), "1.1.1.1, 2606:4700:4700::1111");
    let text = text(&imported);
    let section = |name: &str| {
        let start = text.find(&format!("# Name = {name}\n")).unwrap();
        text[start..].split("\n\n").next().unwrap().to_owned()
    };
    let phone = section("phone");
    assert!(phone.contains("# ClientRoutes = 0.0.0.0/0, ::/0\n") && !phone.contains("Disabled"), "{phone}");
    assert!(phone.contains("AllowedIPs = 10.8.0.2/32, fdcc:ad94:bacf:61a4::cafe:2/128"), "{phone}");
    assert!(section("tablet").contains("# Disabled = yes\n"));
    let site = section("site");
    for line in [
        "# Expires = 2026-12-31T23:59:59Z",
        "# ClientRoutes = 192.168.7.0/24",
        "# ClientDNS = 10.8.0.1",
        "# ClientMTU = 1380",
        "# ClientKeepalive = off",
        "AllowedIPs = 10.8.0.10/32, fdcc:ad94:bacf:61a4::cafe:10/128, 192.168.5.0/24",
        "Endpoint = site.example.com:51820",
    ] {
        assert!(site.lines().any(|found| found == line), "{line}: {site}");
    }
    for seed in [PHONE, LAPTOP, TABLET] {
        assert!(!text.contains(&secret(seed)), "a client's private key is stored:\n{text}");
    }
    assert_eq!(
        imported.notices,
        ["'tablet' was disabled in wg-easy, and stays so: 'wontun peer enable' admits it"]
    );
    // without clients, and without the defaults
    let [interface, _, clients] = tables();
    assert_eq!(peers(&translate(&printed(std::slice::from_ref(&interface))).unwrap()).len(), 0);
    assert_eq!(peers(&translate(&printed(&[clients, interface])).unwrap()).len(), 3);
}

#[test]
fn what_is_wrong_with_the_tables_is_told_with_its_place() {
    for (table, pointer, value, part) in [
        (0, "/0/private_key", json!(null), "interfaces_table[0].private_key: found nothing"),
        (0, "/0/port", json!(0), "interfaces_table[0].port: found no UDP port"),
        (0, "/0/ipv4_cidr", json!("10.8.0.0/x"), "interfaces_table[0].ipv4_cidr: found a text of 10"),
        (2, "/1/ipv4_address", json!("x"), "clients_table[1].ipv4_address: found a text of 1"),
        (2, "/1/enabled", json!("yes"), "clients_table[1].enabled: found a text of 3"),
        (2, "/0/expires_at", json!("soon"), "clients_table[0].expires_at: found a text of 4"),
        (2, "/0/server_allowed_ips", json!("[7]"), "clients_table[0].server_allowed_ips: found a number"),
        (2, "/0/public_key", json!(public(TABLET)), "a key of its own"),
        (2, "/0/server_endpoint", json!("x"), "clients_table[0].server_endpoint: found a text of 1"),
    ] {
        let mut tables = tables();
        *tables[table].pointer_mut(pointer).unwrap() = value;
        let error = error(&printed(&tables));
        assert!(error.contains(part), "{pointer}: {error}");
    }
    let [_, _, clients] = tables();
    assert!(error(&printed(&[clients])).contains("no row of interfaces_table"));
    assert!(error("[{\"a\": 1}\n").contains("no JSON: it ends too early"));
    assert!(error("SQLite format 3\0\u{10}\0").contains("sqlite3 -json wg0.x 'SELECT"));
}
