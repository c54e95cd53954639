//! Requests that a proxy passes on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::host::Hosts;
use super::request::{Request, Status};

/// Returns the address of the browser that made a request, which came over a connection of `from`.
/// The requests that the proxy passes on came by HTTPS.
///
/// # Errors
/// The proxy passed a request on that is not for one of its names.
pub(super) fn identify(hosts: &Hosts, request: &mut Request, from: IpAddr) -> Result<IpAddr, Status> {
    let is_named = hosts.is_name(&request.host);
    let is_passed_on = hosts.is_proxy(from) && (request.forwarded.is_some() || is_named);
    if !is_passed_on {
        return Ok(from);
    }
    if !is_named {
        return Err(Status::Misdirected);
    }
    request.is_secure = true;
    // the last address is the one that the proxy saw; those before it are what the browser said
    let last = request.forwarded.as_deref().and_then(|value| value.rsplit(',').next());
    let browser = last.and_then(|text| {
        let text = text.trim();
        let in_brackets = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
        in_brackets.unwrap_or(text).parse().ok().or_else(with_port)
    });
    // this host itself is limited less: the proxy cannot speak for it
    let browser = browser.map(|address| address.to_canonical()).filter(|address| !address.is_loopback());
    Ok(browser.unwrap_or(Ipv4Addr::UNSPECIFIED.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::http::{Parsed, parse};
    use crate::config::AdminProxy;

    /// Returns the browser's address and whether the request came by HTTPS.
    fn identified(from: &str, host: &str, fields: &str) -> Result<(IpAddr, bool), Status> {
        let field = "X-Forwarded-For".parse().unwrap();
        let hosts = Hosts::default()
            .with_names(vec!["vpn.example.com".parse().unwrap()])
            .with_proxy(Some(AdminProxy { address: "192.0.2.9".parse().unwrap(), field }));
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        let Parsed::Request(mut request, _) = parse(text.as_bytes(), &hosts) else { panic!("{text}") };
        let from = identify(&hosts, &mut request, from.parse().unwrap())?;
        Ok((from, request.is_secure))
    }

    #[test]
    fn the_proxy_alone_is_believed_and_only_its_last_word() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let forwarded = "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n";
        for (from, host, fields, expected) in [
            ("192.0.2.9", "vpn.example.com", forwarded, ("203.0.113.7", true)),
            (
                "192.0.2.9",
                "vpn.example.com",
                "x-forwarded-for: [2001:db8::1]:4711\r\n",
                ("2001:db8::1", true),
            ),
            (
                "192.0.2.9",
                "vpn.example.com",
                "X-Forwarded-For: ::ffff:203.0.113.7\r\n",
                ("203.0.113.7", true),
            ),
            // it must not speak for this host, which is limited less
            ("192.0.2.9", "vpn.example.com", "X-Forwarded-For: 127.0.0.1\r\n", ("0.0.0.0", true)),
            ("192.0.2.9", "vpn.example.com", "X-Forwarded-For: unknown\r\n", ("0.0.0.0", true)),
            ("192.0.2.9", "vpn.example.com", "", ("0.0.0.0", true)),
            // `ssh -L`, and others who claim to be a proxy
            ("192.0.2.9", "localhost:51821", "", ("192.0.2.9", false)),
            ("192.0.2.8", "vpn.example.com", forwarded, ("192.0.2.8", false)),
        ] {
            let expected = Ok((address(expected.0), expected.1));
            assert_eq!(identified(from, host, fields), expected, "{from} {host} {fields}");
        }
        // two fields: the proxy appends its own
        let two = format!("X-Forwarded-For: 127.0.0.1\r\n{forwarded}");
        assert_eq!(identified("192.0.2.9", "vpn.example.com", &two), Ok((address("203.0.113.7"), true)));
    }

    #[test]
    fn a_proxy_that_hides_the_name_is_refused() {
        let forwarded = "X-Forwarded-For: 203.0.113.7\r\n";
        assert_eq!(identified("192.0.2.9", "localhost", forwarded), Err(Status::Misdirected));
    }
}
