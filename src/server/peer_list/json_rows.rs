//! Rows of JSON (RFC 8259): an array of objects, each of which describes a peer.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::column::Column;
use super::error::{ListError, line_of};
use super::row::Row;

/// The keys and values of an object, in their order.
struct Fields(Vec<(String, Value)>);

/// Returns the rows, and the errors of the format.
pub(super) fn rows(text: &str) -> (Vec<Row>, Vec<ListError>) {
    let objects: Vec<&RawValue> = match serde_json::from_str(text) {
        Ok(objects) => objects,
        Err(error) => return (Vec::new(), vec![ListError::new(error.line(), description(&error))]),
    };
    let (mut rows, mut errors) = (Vec::with_capacity(objects.len()), Vec::new());
    // the lines are counted from one object to the next
    let (mut offset, mut line) = (0, 1);
    for object in objects {
        let start = place(text, object.get()).unwrap_or(offset).max(offset);
        line += line_of(text.as_bytes().get(offset..start).unwrap_or_default()) - 1;
        offset = start;
        let fields: Fields = match serde_json::from_str(object.get()) {
            Ok(fields) => fields,
            Err(error) => {
                errors.push(ListError::new(line + error.line().saturating_sub(1), description(&error)));
                continue;
            }
        };
        let before = errors.len();
        let mut values: Vec<(Column, String)> = Vec::with_capacity(fields.0.len());
        for (name, value) in fields.0 {
            match (Column::named(&name), text_of(value)) {
                (None, _) => errors.push(ListError::new(line, Column::unknown(&name))),
                (Some(column), _) if values.iter().any(|(other, _)| *other == column) => {
                    errors.push(ListError::new(line, format!("{column} is there twice")));
                }
                (Some(column), None) => errors.push(ListError::new(
                    line,
                    format!("{column}: expected a text, a number, true, false, or a list of texts"),
                )),
                (Some(column), Some(text)) => values.push((column, text)),
            }
        }
        if errors.len() == before {
            values.retain(|(_, value)| !value.is_empty());
            rows.push(Row { line, values });
        }
    }
    (rows, errors)
}

/// Returns the offset of `part`, a slice of `whole`.
fn place(whole: &str, part: &str) -> Option<usize> {
    part.as_ptr().addr().checked_sub(whole.as_ptr().addr())
}

/// Returns a value as CSV has it, or `None` if CSV cannot.
fn text_of(value: Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(value) => Some(if value { "yes" } else { "no" }.to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text),
        Value::Array(items) => {
            let text = |item| match item {
                Value::String(text) => Some(text),
                _ => None,
            };
            items.into_iter().map(text).collect::<Option<Vec<_>>>().map(|items| items.join(", "))
        }
        Value::Object(_) => None,
    }
}

/// Returns the error without the place, which has no meaning for a part of the file.
fn description(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object such as {\"name\": \"phone\"}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
