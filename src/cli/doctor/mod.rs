//! `doctor`: looks at every part, says what it sees, and ends with what to do.
//!
//! What is looked at (`facts`), how it is judged (`examine`) and how it is
//! told (`report`) are apart, so that judging is a pure function.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::admin::concluded;
use super::admin::connect::AdminArgs;
use super::admin::output;
use super::admin::screen::Screen;
use crate::clock::Clock;

mod examine;
mod facts;
mod metrics;
mod report;

/// Look at every part of a service and say what to do; also where it is down
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit 0 where nothing needs attention, 1 otherwise. Looks at the configuration,
the listeners, the store and its disk, the clock, refused callbacks, dead and
waiting deliveries, and queues. Whether the store's file is sound is a longer
look: ims-receiver store check.

Examples:
  ims-receiver doctor
  ims-receiver doctor --json | jq -r '.what_to_do[].text'"
)]
pub struct DoctorArgs {
    /// Write one JSON document for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl DoctorArgs {
    /// Looks, judges, tells. Exit 0 where nothing needs attention.
    ///
    /// # Errors
    /// [`UsageError`](super::usage::UsageError) where there is nothing to look
    /// at; those of the output.
    pub async fn run(
        self,
        config: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<ExitCode> {
        let facts = facts::gather(&self.admin, config, &*clock).await?;
        let findings = examine::examine(&facts);
        let mut out = output::stdout(self.json);
        let told = match self.json {
            true => report::json(&findings, &mut out),
            false => report::text(&findings, &Screen::of_stdout(facts.now), &mut out),
        };
        let healthy = !findings.iter().any(|finding| finding.needs_attention());
        let code = ExitCode::from(u8::from(!healthy));
        // Whoever stopped reading still gets the verdict.
        concluded(told.map(|()| code).map_err(anyhow::Error::from)).map(|_| code)
    }
}
