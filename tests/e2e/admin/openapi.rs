//! The OpenAPI file of the API, and a check of documents by the keywords of JSON Schema that it
//! uses. The unit tests of `src/admin/api` have this file, too.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

const TEXT: &str = include_str!("../../../docs/src/reference/openapi.json");

/// The file.
pub(crate) struct Description(Value);

impl Description {
    pub(crate) fn load() -> Self {
        Self(serde_json::from_str(TEXT).unwrap())
    }

    /// Returns the methods and paths, and the scope of each.
    pub(crate) fn operations(&self) -> BTreeSet<(String, String, String)> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        let operations = paths.flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters");
            methods.map(move |(method, operation)| {
                let scope = operation["security"][0]["token"][0].as_str().unwrap();
                (method.to_ascii_uppercase(), path.clone(), scope.to_owned())
            })
        });
        operations.collect()
    }

    /// Returns the names of the properties of a schema.
    pub(crate) fn properties(&self, schema: &str) -> BTreeSet<String> {
        let schema = &self.0["components"]["schemas"][schema];
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    /// Panics unless a response to `method` at `path` is one that the file describes.
    pub(crate) fn check_response(&self, method: &str, path: &str, status: u16, body: &str) {
        let described = self.response(method, path, status);
        let Some(content) = described.get("content").map(|content| content.as_object().unwrap()) else {
            assert!(body.is_empty(), "{method} {path}: {status} has no body, found {body}");
            return;
        };
        let (media_type, content) = content.iter().next().unwrap();
        let is_problem = status >= 400;
        assert_eq!(media_type == "application/problem+json", is_problem, "{method} {path}: {status}");
        let value: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let errors = self.errors(&content["schema"], &value, "$");
        assert!(errors.is_empty(), "{method} {path}: {status}: {errors:?}: {body}");
    }

    /// Returns the errors in the body of a request.
    pub(crate) fn errors_in_request(&self, method: &str, path: &str, body: &Value) -> Vec<String> {
        let content = &self.operation(method, path)["requestBody"]["content"]["application/json"];
        self.errors(&content["schema"], body, "$")
    }

    fn response(&self, method: &str, path: &str, status: u16) -> &Map<String, Value> {
        let responses = &self.operation(method, path)["responses"];
        let response = match responses.get(status.to_string()) {
            Some(response) => response,
            None if status >= 400 => &responses["default"],
            None => panic!("{method} {path}: the status {status} is not described"),
        };
        self.resolve(response).as_object().unwrap()
    }

    fn operation(&self, method: &str, path: &str) -> &Value {
        let parts: Vec<_> = path.split('/').collect();
        let is_same = |template: &str| {
            let wanted: Vec<_> = template.split('/').collect();
            let mut pairs = wanted.iter().zip(&parts);
            wanted.len() == parts.len()
                && pairs.all(|(wanted, part)| wanted.starts_with('{') || wanted == part)
        };
        let mut paths = self.0["paths"].as_object().unwrap().iter();
        let (_, item) = paths.find(|(template, _)| is_same(template)).unwrap_or_else(|| panic!("{path}"));
        item.get(method.to_ascii_lowercase()).unwrap_or_else(|| panic!("{method} {path} is not described"))
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(pointer) => self.0.pointer(pointer.strip_prefix('#').unwrap()).unwrap(),
            None => value,
        }
    }

    /// Returns the errors of `value` by a schema. A property that is not described is one.
    fn errors(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let schema = self.resolve(schema);
        let mut errors = Vec::new();
        for (keyword, wanted) in schema.as_object().unwrap() {
            let is_right = match keyword.as_str() {
                "type" => types(wanted).any(|name| is_type(value, name)),
                "enum" => wanted.as_array().unwrap().contains(value),
                "anyOf" => {
                    let mut any = wanted.as_array().unwrap().iter();
                    any.any(|schema| self.errors(schema, value, at).is_empty())
                }
                "minProperties" => {
                    let count = value.as_object().map(|object| object.len() as u64);
                    count.is_none_or(|count| count >= wanted.as_u64().unwrap())
                }
                "minimum" => value.as_i64().is_none_or(|number| number >= wanted.as_i64().unwrap()),
                "minLength" => length(value).is_none_or(|length| length >= wanted.as_u64().unwrap()),
                "maxLength" => length(value).is_none_or(|length| length <= wanted.as_u64().unwrap()),
                "required" => {
                    let names = wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                    let missing = names.filter(|name| value.is_object() && value.get(name).is_none());
                    errors.extend(missing.map(|name| format!("{at}.{name} is missing")));
                    true
                }
                "items" => {
                    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                        errors.extend(self.errors(wanted, item, &format!("{at}[{number}]")));
                    }
                    true
                }
                // with the properties
                "additionalProperties" | "properties" | "description" | "default" => true,
                other => panic!("the keyword {other} is not known here"),
            };
            if !is_right {
                errors.push(format!("{at}: {keyword}: expected {wanted}, found {value}"));
            }
        }
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        if known.is_some() || others.is_some() {
            for (name, value) in value.as_object().into_iter().flatten() {
                let at = format!("{at}.{name}");
                match known.and_then(|known| known.get(name)).or(others) {
                    Some(schema) => errors.extend(self.errors(schema, value, &at)),
                    None => errors.push(format!("{at} is not described")),
                }
            }
        }
        errors
    }
}

fn types(wanted: &Value) -> impl Iterator<Item = &str> {
    let several = wanted.as_array().into_iter().flatten().filter_map(Value::as_str);
    wanted.as_str().into_iter().chain(several)
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not known here"),
    }
}

fn length(value: &Value) -> Option<u64> {
    value.as_str().map(|text| text.chars().count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_that_are_wrong_are_found() {
        let description = Description::load();
        let errors = |body| description.errors_in_request("POST", "/api/v1/peers", &body);
        assert!(errors(json!({"name": "phone", "settings": {"note": null}})).is_empty());
        for (wrong, part) in [
            (json!({}), "$.name is missing"),
            (json!([]), "type"),
            (json!({"name": 1}), "$.name: type"),
            (json!({"name": ""}), "minLength"),
            (json!({"name": "x".repeat(65)}), "maxLength"),
            (json!({"name": "x", "key": "y"}), "$.key is not described"),
            (json!({"name": "x", "addresses": ["a", 1]}), "$.addresses[1]: type"),
            (json!({"name": "x", "settings": {"note": 1}}), "$.settings.note: type"),
            (json!({"name": "x", "settings": {"Note": "y"}}), "$.settings.Note is not described"),
        ] {
            let errors = errors(wrong);
            assert!(errors.iter().any(|error| error.contains(part)), "{part}: {errors:?}");
        }
        let errors = |body| description.errors_in_request("PATCH", "/api/v1/peers/x", &body);
        assert!(errors(json!({"sites": []})).is_empty() && !errors(json!({})).is_empty());
        let schema = json!({"anyOf": [{"$ref": "#/components/schemas/Bytes"}, {"type": "null"}]});
        let errors = |value| description.errors(&schema, &value, "$");
        assert!(errors(json!(null)).is_empty());
        assert!(errors(json!({"received_bytes": 1, "sent_bytes": 0})).is_empty());
        assert!(!errors(json!({"received_bytes": -1, "sent_bytes": 0})).is_empty());
        assert!(!errors(json!({"received_bytes": 1})).is_empty());
    }
}
