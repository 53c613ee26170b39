//! `sign`: the two header lines of a signed request.

use std::process::ExitCode;

use clap::Args;
use secrecy::ExposeSecret as _;

use super::usage::{KeyArgs, UsageError};
use crate::clock::Clock;
use crate::signature;

/// Print the two header lines that sign a request, for `curl -H @<(…)`
#[derive(Debug, Clone, Args)]
pub struct SignArgs {
    /// The callback URL, exactly as configured
    #[arg(long, visible_alias = "callback-url", value_name = "URL")]
    pub url: String,
    /// The key to sign with.
    #[command(flatten)]
    pub key: KeyArgs,
    /// The time to sign, in UNIX seconds; now by default
    #[arg(long, value_name = "SECS")]
    pub timestamp: Option<u64>,
}

impl SignArgs {
    /// Prints the lines to `out`.
    ///
    /// # Errors
    /// [`UsageError`] without a usable key; an I/O error where `out` is gone.
    pub fn run(self, clock: &dyn Clock, out: &mut dyn std::io::Write) -> anyhow::Result<ExitCode> {
        let key = self.key.resolve()?.ok_or_else(|| {
            UsageError("sign needs a key: give --key KEY or --key-file FILE".to_owned())
        })?;
        let timestamp = match self.timestamp {
            Some(seconds) => seconds.to_string(),
            None => clock.now().as_second().to_string(),
        };
        let signature = signature::ims::sign(&self.url, &timestamp, key.expose_secret());
        writeln!(out, "X-ICE-TIMESTAMP: {timestamp}")?;
        writeln!(out, "X-ICE-SIGNATURE: {signature}")?;
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn signed(timestamp: Option<u64>, key: Option<&str>) -> anyhow::Result<String> {
        let arguments = SignArgs {
            url: "https://www.example.com/your/callback".to_owned(),
            key: KeyArgs {
                key: key.map(Into::into),
                key_file: None,
            },
            timestamp,
        };
        let clock = ManualClock::new(jiff::Timestamp::from_second(1_519_375_990)?);
        let mut out = Vec::new();
        arguments.run(&clock, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn the_lines_are_those_of_the_documented_vector() {
        let expected = "X-ICE-TIMESTAMP: 1519375990\n\
                        X-ICE-SIGNATURE: c72b60894140fa98920f1279219b7ed4\n";
        assert_eq!(
            signed(Some(1_519_375_990), Some("test123")).unwrap(),
            expected
        );
        assert_eq!(signed(None, Some("test123")).unwrap(), expected);
    }

    #[test]
    fn without_a_key_it_is_bad_usage() {
        let error = signed(None, None).unwrap_err();
        assert!(error.downcast_ref::<UsageError>().is_some());
    }
}
