//! What the commands share that ask a running service: where it is, how it is
//! asked, what it answers, and how that is shown to people.

pub mod answers;
pub mod client;
pub mod confirm;
pub mod connect;
pub mod filter;
pub mod output;
pub mod screen;
pub mod table;
pub mod when;

use std::io;
use std::process::ExitCode;

use client::AdminError;

use super::usage::UsageError;

/// What became of a command: whoever closed its output has seen enough, which
/// is no failure, and a request that the service cannot read is bad usage.
///
/// # Errors
/// Every other error, as it came.
pub fn concluded(result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let error = match result {
        Ok(code) => return Ok(code),
        Err(error) => error,
    };
    if let Some(error) = error.downcast_ref::<io::Error>()
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        return Ok(ExitCode::SUCCESS);
    }
    match error.downcast_ref::<AdminError>() {
        Some(refused @ AdminError::BadRequest(_)) => Err(UsageError(refused.to_string()).into()),
        _ => Err(error),
    }
}
