//! Forms: what was typed, and what is wrong with it.

use maud::{Markup, html};

use super::super::http::Request;
use super::super::messages::{Field, FieldError, Refusal};
use super::super::texts;
use super::problem::Problem;

/// A form as it was sent, so that nothing of it is lost if it is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::admin) struct Form {
    typed: Vec<(String, String)>,
    errors: Vec<(Field, String)>,
    /// True if it was sent by HTTPS, or is to be.
    pub(super) is_secure: bool,
}

impl Form {
    /// Returns a form without values, for the browser that made a request.
    pub(in crate::admin) fn empty(request: &Request) -> Self {
        Self { is_secure: request.is_secure, ..Self::default() }
    }

    /// Returns the fields of a request, except for the token.
    pub(in crate::admin) fn of(request: &Request) -> Self {
        let typed = request.fields().filter(|(name, _)| name != "token").collect();
        Self { typed, ..Self::empty(request) }
    }

    /// Returns the form with the reasons why it was refused, and what the page says about it.
    pub(in crate::admin) fn refused(mut self, refusal: Refusal) -> (Self, Problem) {
        let mut general = Vec::new();
        for FieldError { field, text } in refusal.into_errors() {
            match field {
                Some(field) => self.errors.push((field, text.into_string())),
                None => general.push(text.into_string()),
            }
        }
        let problem = if general.is_empty() { Problem::Fields } else { Problem::Failed(general.join(" ")) };
        (self, problem)
    }

    /// Returns the value of a field, if it was sent.
    pub(in crate::admin) fn get(&self, name: &str) -> Option<&str> {
        self.typed.iter().find(|(typed, _)| typed == name).map(|(_, value)| value.as_str())
    }

    /// Returns true if one of these fields is wrong.
    pub(super) fn has_error_in(&self, fields: &[Field]) -> bool {
        self.errors.iter().any(|(field, _)| fields.contains(field))
    }

    /// Returns a field of a line: with what was typed, or else `current`.
    pub(super) fn field(&self, field: Field, current: &str) -> Markup {
        let name = field.name();
        let error = self.errors.iter().find(|(wrong, _)| *wrong == field).map(|(_, text)| text);
        let is_first = self.errors.first().is_some_and(|(wrong, _)| *wrong == field);
        let help = texts::help(field);
        let described = match (error, help) {
            (None, "") => None,
            (None, _) => Some(format!("{name}-help")),
            (Some(_), "") => Some(format!("{name}-error")),
            (Some(_), _) => Some(format!("{name}-error {name}-help")),
        };
        html! {
            label for=(name) { (texts::label(field)) }
            input id=(name) name=(name) value=(self.get(name).unwrap_or(current)) autocomplete="off"
                aria-invalid=[error.map(|_| "true")] aria-describedby=[described]
                required[field == Field::Name || field == Field::Target] autofocus[is_first];
            @if let Some(error) = error { p .error id={ (name) "-error" } { (error) } }
            @if !help.is_empty() { p .hint id={ (name) "-help" } { (help) } }
        }
    }
}
