//! Rows of CSV (RFC 4180), as spreadsheets write it.

use csv::{ReaderBuilder, StringRecord, Trim};

use super::column::Column;
use super::error::ListError;
use super::row::Row;

/// Characters that separate values, the one that the header has most of.
const DELIMITERS: [char; 3] = [',', ';', '\t'];

/// Returns the rows below the header, and the errors of the format.
pub(super) fn rows(text: &str) -> (Vec<Row>, Vec<ListError>) {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let count = |delimiter: &char| first.matches(*delimiter).count();
    // the first of those that are equally frequent
    let delimiter = DELIMITERS.into_iter().rev().max_by_key(count).unwrap_or(',');
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(Trim::All)
        .delimiter(u8::try_from(delimiter).unwrap_or(b','))
        .from_reader(text.as_bytes());
    let mut records = reader.records().map(|record| {
        // the whole text is in memory, and UTF-8
        let record =
            record.map_err(|error| ListError::new(line(text, error.position()), error.to_string()))?;
        Ok((line(text, record.position()), record))
    });
    let (mut rows, mut errors) = (Vec::new(), Vec::new());
    let columns = match records.next() {
        Some(Ok((line, header))) => columns(line, &header, &mut errors),
        Some(Err(error)) => return (rows, vec![error]),
        None => return (rows, errors),
    };
    if !errors.is_empty() {
        return (rows, errors);
    }
    for record in records {
        match record {
            Ok((line, record)) if record.len() > columns.len() => errors.push(ListError::new(
                line,
                format!(
                    "{} values, but the header has {} columns: put a list into quotes, \"10.0.0.0/8, 192.168.5.0/24\"",
                    record.len(),
                    columns.len()
                ),
            )),
            Ok((line, record)) => {
                let values = columns.iter().copied().zip(&record).filter(|(_, value)| !value.is_empty());
                let values: Vec<_> = values.map(|(column, value)| (column, text_of(column, value))).collect();
                // a line of delimiters only
                if !values.is_empty() {
                    rows.push(Row { line, values });
                }
            }
            Err(error) => errors.push(error),
        }
    }
    (rows, errors)
}

/// Returns the value as it is written elsewhere: a list may be separated by `;`, too.
fn text_of(column: Column, value: &str) -> String {
    if column.is_list() { value.replace(';', ",") } else { value.to_owned() }
}

fn columns(line: usize, header: &StringRecord, errors: &mut Vec<ListError>) -> Vec<Column> {
    let mut columns = Vec::with_capacity(header.len());
    for name in header {
        match Column::named(name) {
            Some(column) if columns.contains(&column) => {
                errors.push(ListError::new(line, format!("the column {column} is there twice")));
            }
            Some(column) => columns.push(column),
            None => errors.push(ListError::new(line, Column::unknown(name))),
        }
    }
    if errors.is_empty() && !columns.contains(&Column::Name) {
        errors.push(ListError::new(line, "the header has no column 'name'"));
    }
    columns
}

/// Returns the line of a record. The empty lines above it count as part of it.
fn line(text: &str, position: Option<&csv::Position>) -> usize {
    let Some(position) = position else { return 1 };
    let start = usize::try_from(position.byte()).unwrap_or_default();
    let rest = text.get(start..).unwrap_or_default();
    let empty = rest.split_inclusive('\n').take_while(|line| line.trim_end_matches(['\r', '\n']).is_empty());
    usize::try_from(position.line()).unwrap_or(1) + empty.count()
}
