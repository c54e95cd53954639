//! Invitations by a link.

use super::*;
use crate::admin::messages::LinkEnrolment;
use crate::enroll::code::OneTimeSecret;

const HTTPS: &str = "https://localhost:8080";
const KEY: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";
const SHARED: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";

/// Sends a request that came by HTTPS, and returns the response as text.
fn send_secure(
    app: &mut App,
    text: &str,
    cookie: &str,
    seconds: u64,
    supervisor: impl FnOnce(&mut App, FromAdmin),
) -> String {
    let head = format!("\r\nHost: localhost:8080\r\nCookie: {cookie}\r\n");
    let mut request = parsed(&text.replacen("\r\n", &head, 1));
    request.is_secure = true;
    let response = match app.handle(&request, 900, FROM, at(seconds)) {
        Reply::Now(response) => response,
        Reply::Later => {
            let message = app.poll_message().unwrap();
            supervisor(app, message);
            app.poll_response().unwrap().1
        }
        Reply::Stream => panic!("{text}"),
    };
    str::from_utf8(&response.to_bytes(false, true, true)).unwrap().to_owned()
}

fn nothing(_: &mut App, message: FromAdmin) {
    panic!("{message:?}");
}

fn token() -> String {
    OneTimeSecret::generate(&mut SystemRandom::open().unwrap()).to_token().to_string()
}

#[test]
fn a_link_is_made_by_https_only() {
    let (mut app, mut browser) = signed_in();
    let form_token = browser.token(&mut app);
    let fields = [("token", &*form_token), ("name", "tablet"), ("routes", "vpn"), ("valid", "2d")];
    let page = browser.get(&mut app, "/new");
    assert!(page.contains("by HTTPS only") && page.contains("disabled>") && !page.contains("formaction"));
    let plain = form("/new/invitation", ORIGIN, &fields);
    let page = browser.send(&mut app, &plain, |_, message| panic!("{message:?}"));
    assert!(page.starts_with("HTTP/1.1 409") && page.contains("by HTTPS only"), "{page}");

    let cookie = format!("__Host-{}", browser.cookie.unwrap());
    let page = send_secure(&mut app, "GET /new HTTP/1.1\r\n\r\n", &cookie, 1, nothing);
    assert!(page.contains("formaction=\"/new/invitation\"") && page.contains("value=\"1h\""), "{page}");
    let request = form("/new/invitation", HTTPS, &fields);
    let token = token();
    let page = send_secure(&mut app, &request, &cookie, 1, |app, message| {
        let FromAdmin::Change { number, change: Change::Invite(peer, valid), .. } = message else { panic!() };
        assert!(peer.name.as_str() == "tablet" && !peer.full_tunnel && valid.as_str() == "2d");
        app.handle_changed(number, Ok(Some(ClientText::try_from(token.clone()).unwrap())), at(1));
    });
    let link = format!("{HTTPS}/invite#{token}");
    assert!(page.contains(&link) && page.contains("<svg") && page.contains("no-store"), "{page}");
    // what was typed is kept
    let page = send_secure(&mut app, &request, &cookie, 1, |app, message| {
        let FromAdmin::Change { number, .. } = message else { panic!() };
        let errors = vec![FieldError::new(Some(Field::Valid), "expected a time")];
        app.handle_changed(number, Err(Refusal::new(errors)), at(1));
    });
    assert!(page.starts_with("HTTP/1.1 409") && page.contains("id=\"valid-error\""), "{page}");
    assert!(page.contains("value=\"2d\"") && page.contains("value=\"tablet\""), "{page}");
    // an invitation in the file can be told from a peer
    let mut peer = in_file(1, "tablet");
    peer.settings.push((PeerComment::Invitation, SettingText::cut("2026-12-31".to_owned())));
    let page = send_secure(&mut app, "GET / HTTP/1.1\r\n\r\n", &cookie, 10, |app, _| {
        app.handle_peers(vec![peer]);
        app.handle_status(Some(status(1, 995, 5)), Duration::from_secs(1000), at(10));
    });
    assert!(page.contains("data-state=\"invited\""), "{page}");
}

#[test]
fn a_device_gets_its_file_and_all_others_the_same_answer() {
    let mut app = app();
    let page = send_secure(&mut app, "GET /invite HTTP/1.1\r\n\r\n", "", 1, nothing);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("src=\"/invite.js\""), "{page}");
    assert!(
        page.contains("Referrer-Policy: no-referrer\r\n") && page.contains("data-name=\"localhost.conf\"")
    );
    assert_eq!(page.matches("Referrer-Policy").count(), 1);
    let plain = Browser::default().get(&mut app, "/invite");
    assert!(plain.contains("by HTTPS only") && !plain.contains("id=\"invitation\""), "{plain}");

    let token = token();
    let fields = [("link", &*token), ("key", KEY), ("preshared", SHARED)];
    let request = form("/invite", HTTPS, &fields);
    // by plain HTTP, of another page, as another kind of form
    let plain = Browser::default().send(&mut app, &form("/invite", ORIGIN, &fields), |_, _| panic!());
    assert!(plain.starts_with("HTTP/1.1 403"), "{plain}");
    let foreign = request.replace(HTTPS, "https://evil.example");
    let text = request.replace("application/x-www-form-urlencoded", "text/plain");
    for refused in [&foreign, &text] {
        assert!(send_secure(&mut app, refused, "", 1, nothing).starts_with("HTTP/1.1 403"));
    }

    let file = "[Interface]\n# PrivateKey = the one\n";
    let page = send_secure(&mut app, &request, "", 1, |app, message| {
        let FromAdmin::Change { number, from: FROM, by, change: Change::Enrol(enrolment) } = message else {
            panic!()
        };
        assert_eq!(by, Principal::Invitation);
        let LinkEnrolment { token: sent, key, preshared_key } = *enrolment;
        assert_eq!((sent.to_token().as_str(), key.to_string().as_str()), (token.as_str(), KEY));
        assert_eq!(preshared_key.to_base64().as_str(), SHARED);
        app.handle_changed(number, Ok(Some(ClientText::try_from(file.to_owned()).unwrap())), at(1));
    });
    assert!(page.starts_with("HTTP/1.1 200") && page.ends_with(&format!("\r\n\r\n{file}")), "{page}");
    assert!(page.contains("Cache-Control: no-store") && page.contains("Content-Type: text/plain"), "{page}");

    // what is no token is answered as one that is not known
    let refuse = |field: Option<Field>| {
        move |app: &mut App, message| {
            let FromAdmin::Change { number, .. } = message else { panic!() };
            app.handle_changed(
                number,
                Err(Refusal::new(vec![FieldError::new(field, "secret reason")])),
                at(1),
            );
        }
    };
    let unknown = send_secure(&mut app, &request, "", 1, refuse(Some(Field::Token)));
    assert!(unknown.starts_with("HTTP/1.1 403") && !unknown.contains("reason"), "{unknown}");
    for (field, wrong) in [("link", &token[1..]), ("key", "x"), ("preshared", "")] {
        let fields = fields.map(|(name, value)| (name, if name == field { wrong } else { value }));
        assert_eq!(
            send_secure(&mut app, &form("/invite", HTTPS, &fields), "", 3, nothing),
            unknown,
            "{field}"
        );
    }
    // a reason that is none of the device's business
    let failed = send_secure(&mut app, &request, "", 60, refuse(None));
    assert!(failed.starts_with("HTTP/1.1 503") && !failed.contains("reason"), "{failed}");
    let limited = send_secure(&mut app, &request, "", 60, nothing);
    assert!(limited.starts_with("HTTP/1.1 429"), "{limited}");
    assert!(matches!(app.poll_message(), Some(FromAdmin::Event { event: Event::TooManyLinks, .. })));
    // which keeps nobody from signing in
    let (mut app, _) = signed_in();
    for _ in 0..20 {
        send_secure(&mut app, &form("/invite", HTTPS, &[]), "", 60, nothing);
    }
    let sign_in = form("/sign-in", HTTPS, &[("password", "correct horse")]);
    assert!(send_secure(&mut app, &sign_in, "", 60, nothing).contains("Location: /\r\n"));
}
