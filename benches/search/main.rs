//! Searching a large store through the admin listener of the built program,
//! and what searches without pause cost the acks. Prints a table of figures
//! and their bars:
//!
//! ```sh
//! cargo bench --bench search
//! cargo bench --bench search -- --events 200000 --store /var/tmp/bench/events.db
//! ```
//!
//! Makes the store where there is none yet, which takes some minutes for five
//! million events; one that is given by `--store` is kept for the next run.
//! Ends with code 1 where a bar was missed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use ims_receiver::sender::Latencies;

mod client;
mod filters;
mod generate;
#[path = "../line/index.rs"]
mod index;
#[path = "../line/load.rs"]
#[expect(dead_code, reason = "only acks per second are needed here")]
mod load;
#[path = "../line/service.rs"]
#[expect(dead_code, reason = "memory and backlogs are measured elsewhere")]
mod service;
#[path = "../line/table.rs"]
#[expect(dead_code, reason = "not every kind of figure is here")]
mod table;

use client::Client;
use load::Amount;
use service::{Folder, Service};
use table::Table;

/// What a first page may take, in milliseconds.
const PAGE_MS: f64 = 50.0;

/// What acks per second beside searches without pause have to keep.
const SHARE: f64 = 0.8;

/// Clients that search without pause.
const CLIENTS: usize = 4;

/// Measures searching from outside.
#[derive(Debug, Parser)]
struct Arguments {
    /// Events in the store.
    #[arg(long, default_value_t = 5_000_000)]
    events: u64,
    /// Where the store is, or is to be made and kept; without it, it is made
    /// in `--folder` and removed.
    #[arg(long)]
    store: Option<PathBuf>,
    /// The folder of everything else; a tmpfs keeps the disk out of the picture.
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
    /// Searches of each kind.
    #[arg(long, default_value_t = 200)]
    searches: u64,
    /// How long each measurement of acks takes.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How often that is repeated, with searches and without in turn.
    #[arg(long, default_value_t = 5)]
    rounds: u64,
    /// Only makes the store and its index.
    #[arg(long)]
    only_make: bool,
    /// Only measures the acks beside searches.
    #[arg(long)]
    only_beside: bool,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let folder = Folder::new(&arguments.folder)?;
    let store = match &arguments.store {
        Some(store) => {
            if let Some(parent) = store.parent() {
                std::fs::create_dir_all(parent)?;
            }
            // The service finds it by its usual name.
            std::os::unix::fs::symlink(std::path::absolute(store)?, folder.path("events.db"))?;
            std::path::absolute(store)?
        }
        None => folder.path("events.db"),
    };
    let mut table = Table::default();
    if !store.exists() {
        folder.start("")?.stop()?;
        let since = Instant::now();
        generate::fill(&store, arguments.events)?;
        eprintln!(
            "{} events made in {:.0?}",
            arguments.events,
            since.elapsed()
        );
    }
    build_index(&folder, &store)?;
    if arguments.only_make {
        return Ok(ExitCode::SUCCESS);
    }
    let events = index::last_row(&store)?;
    let mut bench = Bench {
        arguments: &arguments,
        store,
        runtime: tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
        table: &mut table,
        runs: u64::from(std::process::id()),
    };
    bench.sizes(events)?;
    let service = folder.start("")?;
    let started = service.started_in.as_secs_f64();
    bench
        .table
        .below("start, index known", (started, 1.0), "s", "");
    if !arguments.only_beside {
        bench.filters(&service)?;
    }
    bench.beside(&service)?;
    service.stop()?;
    let cores = std::thread::available_parallelism()?;
    println!("\n{cores} cores, {events} events, load beside the service:\n\n{table}");
    Ok(if table.reached() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Has the index know everything, and says how long that took.
fn build_index(folder: &Folder, store: &Path) -> anyhow::Result<()> {
    let before = index::indexed_row(store);
    let service = folder.start("")?;
    let took = index::complete(store)?;
    let rows = index::indexed_row(store) - before;
    if rows > 0 {
        let rate = rows as f64 / took.as_secs_f64();
        eprintln!(
            "started in {:.2?}, index of {rows} events built in {took:.1?}, {rate:.0} a second",
            service.started_in,
        );
    }
    service.stop()
}

struct Bench<'a> {
    arguments: &'a Arguments,
    store: PathBuf,
    runtime: tokio::runtime::Runtime,
    table: &'a mut Table,
    /// Keeps the bodies of the loads apart, from run to run too.
    runs: u64,
}

impl Bench<'_> {
    fn sizes(&mut self, events: i64) -> anyhow::Result<()> {
        let bytes = std::fs::metadata(index::path(&self.store))?.len() as f64;
        let store = std::fs::metadata(&self.store)?.len() as f64;
        let events = events as f64;
        let detail = format!("{:.0} of the store", store / events);
        self.table.below(
            "bytes of the index for an event",
            (bytes / events, 150.0),
            "B",
            &detail,
        );
        Ok(())
    }

    /// The first page of each kind of search, one after the other.
    fn filters(&mut self, service: &Service) -> anyhow::Result<()> {
        let samples = filters::samples(&index::open(&self.store)?, self.arguments.searches)?;
        for filter in filters::all(&samples) {
            let (mut latencies, mut found) = (Latencies::default(), 0);
            let mut client = Client::new(admin(service)?);
            for path in &filter.paths {
                let since = Instant::now();
                let answer = self.runtime.block_on(client.get(path))?;
                latencies.record(since.elapsed());
                found += filters::count(&answer);
            }
            let searches = filter.paths.len() as u64;
            ensure!(
                found >= searches * filter.at_least,
                "{}: {found} events in {searches} first pages",
                filter.name
            );
            let ms = |quantile| latencies.quantile(quantile).as_secs_f64() * 1e3;
            let each = found as f64 / searches as f64;
            let detail = format!("p50 {:.1} ms, {each:.0} found", ms(0.5));
            eprintln!("  {}: p99 {:.1} ms, {detail}", filter.name, ms(0.99));
            self.table
                .below(filter.name, (ms(0.99), PAGE_MS), "ms p99", &detail);
        }
        Ok(())
    }

    /// Acks per second with searches and without.
    fn beside(&mut self, service: &Service) -> anyhow::Result<()> {
        let samples = filters::samples(&index::open(&self.store)?, 500)?;
        let paths: Arc<Vec<String>> = Arc::new(filters::mixed(&samples));
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        let (mut searched, mut latencies) = (0, Latencies::default());
        let mut log = 0;
        self.acks(service, Duration::from_secs(1))?;
        for round in 1..=self.arguments.rounds {
            let time = Duration::from_secs(self.arguments.seconds);
            alone.push(self.acks(service, time)?);
            let end = Arc::new(AtomicBool::new(false));
            let count = Arc::new(AtomicU64::new(0));
            let clients = (0..CLIENTS)
                .map(|number| {
                    let (paths, end) = (Arc::clone(&paths), Arc::clone(&end));
                    let (count, admin) = (Arc::clone(&count), admin(service)?);
                    let client = move || search(admin, number, &paths, &end, &count);
                    Ok(std::thread::spawn(client))
                })
                .collect::<anyhow::Result<Vec<_>>>()?;
            let rate = self.acks(service, time);
            end.store(true, Ordering::Relaxed);
            for client in clients {
                let part = client.join().ok().context("no client panics")??;
                latencies.merge(&part);
            }
            beside.push(rate?);
            searched += count.load(Ordering::Relaxed);
            let mut wal = self.store.as_os_str().to_owned();
            wal.push("-wal");
            log = log.max(std::fs::metadata(wal).map_or(0, |file| file.len()));
            eprintln!(
                "  round {round}: {:.0} acks/s alone, {:.0} beside searches, log {} MiB",
                alone.last().unwrap_or(&0.0),
                beside.last().unwrap_or(&0.0),
                log >> 20
            );
        }
        let lag = index::complete(&self.store)?.as_secs_f64();
        self.table.share(
            "acks beside four clients that search without pause",
            (&beside, &alone),
            SHARE,
        );
        let seconds = (self.arguments.rounds * self.arguments.seconds) as f64;
        let detail = format!(
            "{:.0} searches a second, p50 {:.0} ms",
            searched as f64 / seconds,
            latencies.quantile(0.5).as_secs_f64() * 1e3
        );
        let p99 = latencies.quantile(0.99).as_secs_f64() * 1e3;
        self.table
            .below("those searches, p99", (p99, 2000.0), "ms", &detail);
        let log = (log >> 20) as f64;
        self.table
            .below("the store's log at its longest", (log, 96.0), "MiB", "");
        self.table
            .below("the index caught up after it", (lag, 60.0), "s", "");
        Ok(())
    }

    fn acks(&mut self, service: &Service, time: Duration) -> anyhow::Result<f64> {
        self.runs += 1;
        let sending = load::send(service.ingest, Amount::For(time), self.runs, None);
        let outcome = self.runtime.block_on(sending);
        ensure!(outcome.failed == 0, "{} were not acked", outcome.failed);
        Ok(outcome.per_second())
    }
}

/// Where it is searched.
fn admin(service: &Service) -> anyhow::Result<std::net::SocketAddr> {
    service.admin.context("the service has an admin listener")
}

/// One client that searches without pause.
fn search(
    admin: std::net::SocketAddr,
    number: usize,
    paths: &[String],
    end: &AtomicBool,
    count: &AtomicU64,
) -> anyhow::Result<Latencies> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut client = Client::new(admin);
    let mut latencies = Latencies::default();
    // Each begins elsewhere.
    for path in paths.iter().cycle().skip(number * 97) {
        if end.load(Ordering::Relaxed) {
            break;
        }
        let since = Instant::now();
        runtime.block_on(client.get(path))?;
        latencies.record(since.elapsed());
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(latencies)
}
