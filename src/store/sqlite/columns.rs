//! Columns of rows that this program may not have written as they are: a file
//! that was damaged, edited by hand, or filled by a release that took more from
//! an import. One such row must not keep all the others from being read.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Mutex;

use rusqlite::types::ValueRef;
use rusqlite::{Result, Row};

use super::rows::status_of;
use crate::delivery::Status;

/// The highest attempt number from which it can still be counted on.
pub const ATTEMPTS_MAX: u32 = u32::MAX - 1;

/// Rows that are told of; more are only left out.
const TOLD_MAX: usize = 1000;

/// Rows that were told of already, since lists are asked for again and again.
static TOLD: Mutex<BTreeSet<i64>> = Mutex::new(BTreeSet::new());

/// A whole number; nothing where it is none.
pub fn number(row: &Row<'_>, column: usize) -> Result<Option<i64>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(number) => Some(number),
        _ => None,
    })
}

/// A count. What is none is shown as the nearest that there is.
pub fn count(row: &Row<'_>, column: usize) -> Result<u32> {
    let number = number(row, column)?.unwrap_or(0).max(0);
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

/// A count of attempts that can be gone on from; nothing where it is none.
pub fn attempts(row: &Row<'_>, column: usize) -> Result<Option<u32>> {
    let number = number(row, column)?.and_then(|number| u32::try_from(number).ok());
    Ok(number.filter(|number| *number <= ATTEMPTS_MAX))
}

/// A text; nothing where it is none.
pub fn text(row: &Row<'_>, column: usize) -> Result<Option<String>> {
    Ok(row.get_ref(column)?.as_str().ok().map(str::to_owned))
}

/// A text of at most so many bytes; what is longer is cut and marked.
pub fn cut_text(row: &Row<'_>, column: usize, bytes_max: usize) -> Result<Option<String>> {
    let text = row.get_ref(column)?.as_str().ok();
    Ok(text.map(|text| match text.len() <= bytes_max {
        true => text.to_owned(),
        false => format!("{}…", &text[..text.floor_char_boundary(bytes_max)]),
    }))
}

/// A status.
pub fn status(row: &Row<'_>, column: usize) -> Result<Status> {
    Ok(status_of(number(row, column)?.unwrap_or(i64::MAX)))
}

/// Whether an error concerns one row and not the store.
pub fn is_unreadable(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::QueryReturnedNoRows
    )
}

/// Tells once that an event is left out of what is shown.
pub fn tell_left_out(row: i64, problem: &dyn Display) {
    let mut told = TOLD.lock().expect("a plain insert cannot panic");
    if told.len() < TOLD_MAX && told.insert(row) {
        tracing::error!(
            row,
            error = %problem,
            "an event cannot be read and is left out; `ims-receiver store check` says more"
        );
    }
}
