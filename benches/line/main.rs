//! The whole line, measured from outside, beside a bare endpoint as its
//! ceiling. Prints a table of figures and their bars:
//!
//! ```sh
//! cargo bench --bench line
//! cargo bench --bench line -- --only acks --seconds 10
//! ```
//!
//! The load comes from this process, the service and the ceiling are processes
//! of their own. Figures that are compared are measured in turn in one run,
//! since machines are noisy. Ends with code 1 where a bar was missed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

mod ceiling;
mod destination;
mod figures;
mod index;
mod load;
#[path = "../../tests/e2e/mns_emulator/mod.rs"]
#[expect(dead_code, reason = "the tests switch on more than is measured")]
mod mns_emulator;
#[expect(dead_code, reason = "the bench `search` asks the admin listener")]
mod service;
mod table;

use figures::{Figures, Group};
use table::Table;

/// Measures the line from outside.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these groups of figures.
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Group>,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// How often each measurement is repeated, in turn with what it is compared to.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// The folder of the stores; a tmpfs keeps the disk out of the picture.
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    if std::env::args().nth(1).as_deref() == Some(ceiling::ARGUMENT) {
        ceiling::serve()?;
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = Arguments::parse();
    let mut table = Table::default();
    let mut figures = Figures {
        folder: arguments.folder,
        time: Duration::from_secs(arguments.seconds),
        rounds: arguments.rounds,
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
        runs: 0,
        table: &mut table,
    };
    for group in Group::ALL {
        if arguments.only.is_empty() || arguments.only.contains(&group) {
            figures
                .measure(group)
                .with_context(|| format!("{group:?}"))?;
        }
    }
    let cores = std::thread::available_parallelism()?;
    println!("\n{cores} cores, load beside the service:\n\n{table}");
    Ok(if table.reached() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
