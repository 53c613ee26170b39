//! `schema`: the JSON Schema of the configuration file, for editors and for
//! whoever writes configurations by program.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::settings::schema;

/// Prints the schema, draft 2020-12, to `out`.
///
/// # Errors
/// An I/O error where `out` is gone.
pub fn run(out: &mut dyn Write) -> io::Result<ExitCode> {
    writeln!(out, "{:#}", schema::document())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
