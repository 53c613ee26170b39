//! How many events are lost when the service is replaced on purpose, by the
//! sender's real rule: three tries of 3 s, one second apart. Prints a table:
//!
//! ```sh
//! cargo bench --bench replace                # some five minutes; needs nginx and HAProxy
//! cargo bench --bench replace -- --times 3
//! ```
//!
//! All deployments run at the same time, each with a service, a store and a
//! sender of its own. What an engine or a cluster takes to put the next
//! instance in place is no property of this service: the pauses stand in the
//! table. Ends with code 1 where a deployment that promises to lose nothing
//! lost something, or an acknowledged event is not in its store.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

mod deployment;
#[path = "../../tests/e2e/proxy.rs"]
mod proxy;
mod relay;
mod run;
#[path = "../line/service.rs"]
#[expect(dead_code, reason = "the bench `line` uses the rest of it")]
mod service;

use deployment::{Deployment, Kind};
use run::{Outcome, Plan};

/// Measures what a replacement loses.
#[derive(Debug, Parser)]
struct Arguments {
    /// Replacements of each deployment.
    #[arg(long, default_value_t = 20)]
    times: u32,
    /// Events per second.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// The folder of the stores.
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured: a name, and from the exit of the old instance to the start
/// of the new one.
const DEPLOYMENTS: [Deployment; 7] = [
    Deployment {
        name: "systemd service and socket",
        kind: Kind::Socket,
        pause: Duration::ZERO,
        keeps_all: true,
    },
    Deployment {
        name: "plain container, started again at once",
        kind: Kind::Direct,
        pause: Duration::from_secs(1),
        keeps_all: false,
    },
    Deployment {
        name: "plain container, started again slowly",
        kind: Kind::Direct,
        pause: Duration::from_secs(4),
        keeps_all: false,
    },
    Deployment {
        name: "the same behind nginx",
        kind: Kind::Nginx,
        pause: Duration::from_secs(4),
        keeps_all: false,
    },
    Deployment {
        name: "Kubernetes, `Recreate`",
        kind: Kind::Recreate,
        pause: Duration::from_secs(2),
        keeps_all: false,
    },
    Deployment {
        name: "container behind the holding HAProxy",
        kind: Kind::Haproxy,
        pause: Duration::from_secs(1),
        keeps_all: true,
    },
    Deployment {
        name: "the same, started again slowly",
        kind: Kind::Haproxy,
        pause: Duration::from_secs(6),
        keeps_all: true,
    },
];

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let plan = Plan {
        times: arguments.times,
        rate: arguments.rate,
        folder: &arguments.folder,
    };
    let outcomes = std::thread::scope(|scope| {
        let runs: Vec<_> = DEPLOYMENTS
            .iter()
            .map(|deployment| scope.spawn(|| run::run(deployment, &plan)))
            .collect();
        let outcomes = runs.into_iter().zip(&DEPLOYMENTS).map(|(run, deployment)| {
            let outcome = run
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((deployment, outcome.context(deployment.name)?))
        });
        outcomes.collect::<anyhow::Result<Vec<_>>>()
    })?;
    let table = Table { plan, outcomes };
    println!("\n{table}");
    for (deployment, outcome) in &table.outcomes {
        println!("\n{}:\n{}", deployment.name, outcome.summary);
    }
    let good = table.outcomes.iter().all(|(deployment, outcome)| {
        outcome.missing == 0 && !(deployment.keeps_all && outcome.summary.lost > 0)
    });
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A Markdown table.
struct Table<'a> {
    plan: Plan<'a>,
    outcomes: Vec<(&'a Deployment, Outcome)>,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { times, rate, .. } = self.plan;
        writeln!(
            f,
            "{times} replacements of each at {rate:.0} events a second:\n"
        )?;
        writeln!(
            f,
            "| deployment | nobody accepts for | events lost per replacement | events tried again |"
        )?;
        writeln!(f, "| --- | --- | --- | --- |")?;
        for (deployment, outcome) in &self.outcomes {
            let summary = &outcome.summary;
            let [_, second, third] = summary.acked_by_try;
            writeln!(
                f,
                "| {} | {:.1} s | {:.1} | {:.1} |",
                deployment.name,
                outcome.down.as_secs_f64(),
                per(summary.lost, times),
                per(second + third, times),
            )?;
        }
        writeln!(
            f,
            "| queue instead of HTTP | – | none by design, not measured | – |"
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn per(count: u64, times: u32) -> f64 {
    count as f64 / f64::from(times)
}
