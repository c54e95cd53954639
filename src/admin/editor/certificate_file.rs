//! The certificate of the page: in files that the administrator keeps, or self-signed, in
//! `NAME.admin-cert` beside the configuration.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding as _};
use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType, date_time_ymd};
use zeroize::Zeroizing;

use super::super::certificate::{CertificateText, Fingerprint};
use super::super::messages::CertificateSource;
use crate::config::{AdminName, TunName};
use crate::server::Writer;

/// Maximum length of a file in bytes.
const MAX_FILE: u64 = 64 * 1024;
/// Validity of a self-signed certificate in days: Apple's systems accept no more than 825.
const VALIDITY: i64 = 800;
/// Days before its end in which it is replaced.
const RENEWAL: i64 = 60;
const HEADER: &str = "# The self-signed certificate of wontun's admin page, and its key.";

/// The place of the certificate.
#[derive(Debug)]
pub(super) struct CertificateFile {
    source: CertificateSource,
    /// The file of a self-signed one.
    own: PathBuf,
}

impl CertificateFile {
    pub(super) fn new(source: CertificateSource, folder: &Path, tunnel: &TunName) -> Self {
        Self { source, own: folder.join(format!("{tunnel}.admin-cert")) }
    }

    /// Returns the folders that are read: the files may be links that are replaced over time.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let CertificateSource::Files { certificate, key } = &self.source else { return Vec::new() };
        let paths = [certificate, key].map(PathBuf::from);
        let real = paths.iter().filter_map(|path| path.canonicalize().ok());
        let all: Vec<_> = paths.iter().cloned().chain(real).collect();
        all.iter().filter_map(|path| path.parent()).map(Path::to_owned).collect()
    }

    /// Reads the certificate, and makes a self-signed one if there is none, or its names have
    /// changed, or its end is near.
    ///
    /// # Errors
    /// A text for the log.
    pub(super) fn read(&self) -> Result<(CertificateText, Fingerprint), String> {
        let text = match &self.source {
            CertificateSource::Files { certificate, key } => {
                let chain = read(Path::new(certificate))?;
                CertificateText::new(chain, read(Path::new(key))?)
                    .map_err(|error| format!("{certificate}: {error}"))?
            }
            CertificateSource::SelfSigned { names } => self.self_signed(names)?,
        };
        let usable = text.server_config().and_then(|_| text.fingerprint());
        let place = match &self.source {
            CertificateSource::Files { certificate, key } => format!("{certificate} and {key}"),
            CertificateSource::SelfSigned { .. } => self.own.display().to_string(),
        };
        usable.map(|fingerprint| (text, fingerprint)).map_err(|error| format!("{place}: {error}"))
    }

    fn self_signed(&self, names: &[AdminName]) -> Result<CertificateText, String> {
        let list = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let known = match fs::symlink_metadata(&self.own) {
            Ok(_) => Some(read(&self.own)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(format!("{} cannot be read: {error}", self.own.display())),
        };
        let today = jiff::Timestamp::now().to_zoned(TimeZone::UTC).date();
        let limit = today.checked_add(RENEWAL.days()).map_err(|error| error.to_string())?;
        if let Some(text) = known.filter(|text| {
            let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
            let end = value("# Until: ").and_then(|end| end.parse::<jiff::civil::Date>().ok());
            value("# Names: ") == Some(&list) && end.is_some_and(|end| end > limit)
        }) {
            return CertificateText::new(text.clone(), text).map_err(|error| error.to_string());
        }
        let end = today.checked_add(VALIDITY.days()).map_err(|error| error.to_string())?;
        let begin = today.checked_sub(1.day()).map_err(|error| error.to_string())?;
        let text =
            make(names, &list, begin, end).map_err(|error| format!("no certificate can be made: {error}"))?;
        let written = Writer::lock(&self.own).and_then(|writer| {
            if self.own.exists() { writer.replace(text.as_bytes()) } else { writer.create(text.as_bytes()) }
        });
        written.map_err(|error| format!("the self-signed certificate cannot be kept: {error}"))?;
        CertificateText::new(text.clone(), text).map_err(|error| error.to_string())
    }
}

/// Makes a certificate for these names, and returns the text of its file.
fn make(
    names: &[AdminName],
    list: &str,
    begin: jiff::civil::Date,
    end: jiff::civil::Date,
) -> Result<Zeroizing<String>, rcgen::Error> {
    let time = |date: jiff::civil::Date| {
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let mut params = CertificateParams::default();
    for name in names {
        params.subject_alt_names.push(match name {
            AdminName::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            AdminName::Address(address) => SanType::IpAddress(*address),
        });
    }
    params.distinguished_name.push(DnType::CommonName, "wontun admin page");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = (time(begin), time(end));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let mut text = Zeroizing::new(String::with_capacity(4096));
    // writing to memory does not fail
    let _ = writeln!(text, "{HEADER}\n# Names: {list}\n# Until: {end}");
    push_pem(&mut text, "CERTIFICATE", certificate.der());
    push_pem(&mut text, "PRIVATE KEY", &Zeroizing::new(key.serialize_der()));
    Ok(text)
}

fn push_pem(text: &mut String, label: &str, der: &[u8]) {
    let _ = writeln!(text, "-----BEGIN {label}-----");
    // 64 letters a line
    for piece in der.chunks(48) {
        let _ = writeln!(text, "{}", *Zeroizing::new(Base64::encode_string(piece)));
    }
    let _ = writeln!(text, "-----END {label}-----");
}

fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let failed = |error: io::Error| format!("{} cannot be read: {error}", path.display());
    let mut text = Zeroizing::new(String::new());
    let file = fs::File::open(path).map_err(failed)?;
    if file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)? as u64 > MAX_FILE {
        return Err(format!("{} is longer than {MAX_FILE} bytes", path.display()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A folder that is removed with its value.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wontun-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn names(texts: &[&str]) -> Vec<AdminName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_self_signed_certificate_stays_until_its_names_change() {
        let folder = Folder::new("admin-certificate");
        let tunnel: TunName = "tun0".parse().unwrap();
        let read = |texts: &[&str]| {
            let source = CertificateSource::SelfSigned { names: names(texts) };
            CertificateFile::new(source, &folder.0, &tunnel).read().unwrap().1
        };
        let first = read(&["vpn.example.com", "192.0.2.1"]);
        let file = folder.0.join("tun0.admin-cert");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&["vpn.example.com", "192.0.2.1"]), first);
        let second = read(&["vpn.example.com"]);
        assert_ne!(second, first);
        // the same text, near its end
        let text = fs::read_to_string(&file).unwrap();
        let until = text.lines().find(|line| line.starts_with("# Until")).unwrap();
        fs::write(&file, text.replace(until, "# Until: 2020-01-01")).unwrap();
        assert_ne!(read(&["vpn.example.com"]), second);
    }

    #[test]
    fn files_that_are_none_are_told() {
        let folder = Folder::new("admin-certificate-files");
        let path = |name: &str| folder.0.join(name).display().to_string();
        let text =
            make(&names(&["a.example"]), "", "2026-01-01".parse().unwrap(), "2030-01-01".parse().unwrap());
        fs::write(path("both"), text.unwrap().as_bytes()).unwrap();
        let other =
            make(&names(&["a.example"]), "", "2026-01-01".parse().unwrap(), "2030-01-01".parse().unwrap());
        fs::write(path("other"), other.unwrap().as_bytes()).unwrap();
        fs::write(path("empty"), "").unwrap();
        let read = |certificate: &str, key: &str| {
            let source = CertificateSource::Files { certificate: path(certificate), key: path(key) };
            CertificateFile::new(source, &folder.0, &"tun0".parse().unwrap()).read()
        };
        assert!(read("both", "both").is_ok());
        for (certificate, key, part) in [
            ("empty", "both", "the file of the certificate has none"),
            ("both", "empty", "the file of the key has none"),
            ("both", "other", "cannot be used"),
            ("both", "missing", "cannot be read"),
        ] {
            let error = read(certificate, key).unwrap_err();
            assert!(error.contains(part) && !error.contains("BEGIN PRIVATE KEY\n"), "{error}");
        }
    }
}
