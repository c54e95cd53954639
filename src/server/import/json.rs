//! JSON of another program, read with the position of each error.

use std::path::Path;
use std::str::FromStr;

use serde_json::error::Category;
use serde_json::{Map, Value};
use zeroize::Zeroize as _;

use super::error::ImportError;
use crate::config::wg_quick::KeyError;

/// Maximum number of characters of a key of the JSON in a message.
const MAX_SHOWN: usize = 60;

/// A JSON value whose strings are wiped on drop.
pub(super) struct Json(pub(super) Value);

impl Drop for Json {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Wipes all strings. The recursion is limited to 128 levels by the parser.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(object) => object.values_mut().for_each(wipe),
        _ => {}
    }
}

/// Returns the error of a text that is no JSON.
pub(super) fn syntax(file: &Path, error: &serde_json::Error) -> ImportError {
    let what = match error.classify() {
        Category::Eof => "it ends too early".to_owned(),
        _ => error.to_string(),
    };
    ImportError::Json { file: file.to_owned(), line: error.line(), what }
}

/// A position in the JSON.
#[derive(Clone, Debug)]
pub(super) struct Location<'a> {
    pub(super) file: &'a Path,
    pub(super) path: String,
}

/// An object and its position.
pub(super) struct Object<'a> {
    pub(super) at: Location<'a>,
    pub(super) object: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// Returns the value of `key`, or `None` if it is missing, null or empty, and its position.
    pub(super) fn get(&self, key: &str) -> (Option<&'a Value>, Location<'a>) {
        let has_value = |value: &&Value| !matches!(value, Value::Null) && value.as_str() != Some("");
        let (dot, key_shown) = (if self.at.path.is_empty() { "" } else { "." }, shown(key));
        let at = Location { file: self.at.file, path: format!("{}{dot}{key_shown}", self.at.path) };
        (self.object.get(key).filter(has_value), at)
    }
}

impl<'a> Location<'a> {
    /// Returns the value as an object.
    pub(super) fn object(self, value: Option<&'a Value>) -> Result<Object<'a>, ImportError> {
        match value {
            Some(Value::Object(object)) => Ok(Object { at: self, object }),
            other => Err(self.value(&kind(other), "an object, as wg-easy has one there")),
        }
    }

    /// Returns the value as a key.
    pub(super) fn key<K: FromStr<Err = KeyError>>(&self, value: Option<&Value>) -> Result<K, ImportError> {
        let Some(text) = text_of(value) else {
            return Err(self.value(&kind(value), "a key in base64"));
        };
        let key = |source| ImportError::Key { file: self.file.to_owned(), path: self.path.clone(), source };
        text.parse().map_err(key)
    }

    /// Returns the error of a value here.
    pub(super) fn value(&self, found: &str, expected: &'static str) -> ImportError {
        let path = if self.path.is_empty() { "the whole" } else { &self.path };
        ImportError::Value {
            file: self.file.to_owned(),
            path: path.to_owned(),
            found: found.to_owned(),
            expected,
        }
    }
}

/// Returns the value if it is a text.
pub(super) fn text_of(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

/// Returns a description of a value, which may be a misplaced secret.
pub(super) fn kind(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Number(_)) => "a number".to_owned(),
        Some(Value::String(text)) => format!("a text of {} characters", text.chars().count()),
        Some(Value::Array(_)) => "a list".to_owned(),
        Some(Value::Object(_)) => "an object".to_owned(),
    }
}

/// Returns the beginning of a key, in visible characters.
pub(super) fn shown(key: &str) -> String {
    let start: String = key.chars().take(MAX_SHOWN).collect();
    start.escape_debug().to_string()
}

/// Reports the fields with a value that are not imported.
pub(super) fn report_unknown(
    file: &Path,
    object: &Map<String, Value>,
    known: &[&str],
    whose: &str,
    notices: &mut Vec<String>,
) {
    let has_value = |value: &Value| !matches!(value, Value::Null) && value.as_str() != Some("");
    for (key, _) in object.iter().filter(|(key, value)| !known.contains(&key.as_str()) && has_value(value)) {
        let key = shown(key);
        notices.push(format!("{}: '{key}' of {whose} is not imported: unknown to wontun", file.display()));
    }
}
