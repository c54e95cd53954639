//! Errors of the API: problem details (RFC 9457), with the fields that are wrong.

use serde::Serialize;

use super::super::http::{Response, Status};
use super::super::messages::{Field, Refusal};
use crate::config::ApiScope;
use crate::documents::words;

/// An error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::admin) struct ApiProblem {
    pub(super) status: Status,
    detail: String,
    errors: Vec<FieldProblem>,
    /// A further field of the response's head.
    field: Option<(&'static str, String)>,
}

/// The error of a field of the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct FieldProblem {
    field: String,
    message: String,
}

#[derive(Serialize)]
struct Document<'a> {
    status: u16,
    title: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldProblem],
}

impl ApiProblem {
    /// Creates an error.
    pub(in crate::admin) fn new(status: Status, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), errors: Vec::new(), field: None }
    }

    /// Creates an error with a field of the response's head.
    pub(in crate::admin) fn with_field(self, name: &'static str, value: String) -> Self {
        Self { field: Some((name, value)), ..self }
    }

    /// Creates the error of a request without a token, or with a wrong one.
    pub(in crate::admin) fn unauthorized(is_given: bool) -> Self {
        let (detail, challenge) = if is_given {
            (
                "the token is wrong, has expired or was removed",
                "Bearer realm=\"wontun\", error=\"invalid_token\"",
            )
        } else {
            (
                "a token is needed, as 'Authorization: Bearer SECRET': 'wontun admin token add NAME' makes one",
                "Bearer realm=\"wontun\"",
            )
        };
        Self::new(Status::Unauthorized, detail).with_field("WWW-Authenticate", challenge.to_owned())
    }

    /// Creates the error of a request whose token has no such scope.
    pub(in crate::admin) fn forbidden(scope: ApiScope) -> Self {
        let scope = scope.name();
        let challenge = format!("Bearer realm=\"wontun\", error=\"insufficient_scope\", scope=\"{scope}\"");
        Self::new(Status::Forbidden, format!("the token has no scope '{scope}'"))
            .with_field("WWW-Authenticate", challenge)
    }

    /// Creates the error of a field of the body.
    pub(super) fn of_field(field: String, message: impl ToString) -> Self {
        let errors = vec![FieldProblem { field, message: message.to_string() }];
        Self { errors, ..Self::new(Status::Unprocessable, FIELDS) }
    }

    /// Creates the error of a change that was refused.
    pub(in crate::admin) fn refused(refusal: Refusal) -> Self {
        let (mut errors, mut general) = (Vec::new(), Vec::new());
        for error in refusal.into_errors() {
            let message = error.text.into_string();
            match error.field {
                Some(field) => errors.push(FieldProblem { field: field_name(field), message }),
                None => general.push(message),
            }
        }
        if errors.is_empty() {
            return Self::new(Status::Conflict, general.join(" "));
        }
        let detail = if general.is_empty() { FIELDS.to_owned() } else { general.join(" ") };
        Self { errors, ..Self::new(Status::Unprocessable, detail) }
    }

    /// Returns the response.
    pub(in crate::admin) fn response(&self) -> Response {
        let (code, title) = self.status.line().split_once(' ').unwrap_or_default();
        let status = code.parse().unwrap_or_default();
        let document = Document { status, title, detail: &self.detail, errors: &self.errors };
        let body = crate::json::document(&document).into_bytes();
        let response = Response::new(self.status, "application/problem+json", body);
        match &self.field {
            Some((name, value)) => response.with_field(name, value.clone()),
            None => response,
        }
    }
}

const FIELDS: &str = "some values are not possible: see the errors";

/// Returns the name of a field in the bodies of the API.
pub(super) fn field_name(field: Field) -> String {
    match field {
        Field::Address => "addresses".to_owned(),
        Field::Site => "sites".to_owned(),
        Field::Setting(setting) => format!("settings.{}", words(setting, '_')),
        // an invitation's fields are those of the page alone
        Field::Name | Field::Target | Field::Server(_) | Field::Valid | Field::Token => {
            field.name().to_owned()
        }
    }
}
