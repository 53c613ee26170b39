//! The figures, one group a function.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::ValueEnum;
use tokio::runtime::Runtime;

use crate::ceiling;
use crate::destination::{Destination, dead_address};
use crate::index;
use crate::load::{self, Amount, Outcome, Times};
use crate::mns_emulator::{Emulator, KEY_ID, KEY_SECRET};
use crate::service::{Folder, Service};
use crate::table::{Table, median};

/// Events in a full store, and bodies in a full duplicate window.
const MANY: u64 = 1_000_000;

/// Deliveries that wait for a destination that is gone.
const WAITING: u64 = 100_000;

/// Events per second beside a slow or dead destination, and beside forgers.
const CALM: f64 = 500.0;

/// Messages in the queue at the start, and how long they may take.
const MESSAGES: u64 = 50_000;
const QUEUE_PATIENCE: Duration = Duration::from_secs(120);
const QUEUE: &str = "ice-callback-bench";
/// Commands in the figure of commands.
const COMMANDS: u64 = 10_000;

/// Forged requests per second.
const FORGED: f64 = 5000.0;

/// What belongs together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Acks per second against the ceiling, latency at half load, memory.
    Acks,
    /// A million events stored: acks, start, memory of the duplicate window.
    Million,
    /// A destination that takes 5 s for each event.
    Sleeping,
    /// A dead destination with deliveries waiting, beside a healthy one.
    Dead,
    /// Forged requests that announce large bodies.
    Forged,
    /// Messages out of a queue.
    Queue,
    /// Commands: how many a second, and what acks there are beside them.
    Shell,
}

impl Group {
    pub const ALL: [Self; 7] = [
        Self::Acks,
        Self::Million,
        Self::Sleeping,
        Self::Dead,
        Self::Forged,
        Self::Queue,
        Self::Shell,
    ];
}

/// Measures, and fills the table.
pub struct Figures<'a> {
    pub folder: PathBuf,
    pub time: Duration,
    pub rounds: u64,
    pub runtime: Runtime,
    /// Loads so far; keeps their bodies apart.
    pub runs: u64,
    pub table: &'a mut Table,
}

impl Figures<'_> {
    pub fn measure(&mut self, group: Group) -> anyhow::Result<()> {
        eprintln!("{group:?} …");
        match group {
            Group::Acks => self.acks(),
            Group::Million => self.million(),
            Group::Sleeping => self.sleeping(),
            Group::Dead => self.dead(),
            Group::Forged => self.forged(),
            Group::Queue => self.queue(),
            Group::Shell => self.shell(),
        }
    }

    fn send(
        &mut self,
        to: SocketAddr,
        amount: Amount,
        acks: Option<&Arc<Times>>,
    ) -> anyhow::Result<Outcome> {
        self.runs += 1;
        let sending = load::send(to, amount, self.runs, acks.cloned());
        let outcome = self.runtime.block_on(sending);
        ensure!(
            outcome.failed == 0,
            "{} events were not acknowledged, {} were",
            outcome.failed,
            outcome.acked
        );
        Ok(outcome)
    }

    /// Flat out, after a second to get warm. Acks per second.
    fn flat_out(&mut self, service: &Service) -> anyhow::Result<f64> {
        self.send(service.ingest, Amount::For(Duration::from_secs(1)), None)?;
        let outcome = self.send(service.ingest, Amount::For(self.time), None)?;
        Ok(outcome.per_second())
    }

    fn acks(&mut self) -> anyhow::Result<()> {
        let (mut bare, mut durable, mut logged) = (Vec::new(), Vec::new(), Vec::new());
        let (mut idle, mut peak, mut drained) = (0.0, 0.0, Duration::ZERO);
        for round in 1..=self.rounds {
            bare.push(self.flat_out(&ceiling::start()?)?);
            let folder = Folder::new(&self.folder)?;
            let service = folder.start("")?;
            idle = service.resident()?;
            durable.push(self.flat_out(&service)?);
            service.stop()?;
            let folder = Folder::new(&self.folder)?;
            let service = folder.start(&log_to_file(&folder))?;
            logged.push(self.flat_out(&service)?);
            drained = drained.max(folder.drained()?);
            peak = service.peak()?;
            let (stored, settled) = (
                folder.ask("SELECT count(*) FROM events")?,
                folder.ask("SELECT count(*) FROM deliveries WHERE status = 2")?,
            );
            ensure!(stored == settled, "{settled} of {stored} outcomes");
            let lines = std::fs::read(folder.path("events.log"))?;
            let lines = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            ensure!(stored == lines, "{lines} lines of {stored} events");
            eprintln!(
                "  round {round}: ceiling {:.0}, durable {:.0}, logged {:.0} acks/s, drained after {drained:.0?}",
                bare.last().unwrap_or(&0.0),
                durable.last().unwrap_or(&0.0),
                logged.last().unwrap_or(&0.0),
            );
        }
        let table = &mut *self.table;
        table.share(
            "durable acks, no handler, against the ceiling",
            (&durable, &bare),
            0.6,
        );
        table.share(
            "the same with a `log` handler to a file, outcomes recorded",
            (&logged, &bare),
            0.45,
        );
        let seconds = drained.as_secs_f64();
        table.below(
            "its backlog drained after the load",
            (seconds, 2.0),
            "s",
            "",
        );
        self.half_load(median(&logged) / 2.0)?;
        self.table
            .below("resident memory, idle", (idle, 25.0), "MiB", "");
        self.table.below(
            "resident memory under that load, at its highest",
            (peak, 200.0),
            "MiB",
            "",
        );
        Ok(())
    }

    fn half_load(&mut self, rate: f64) -> anyhow::Result<()> {
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let folder = Folder::new(&self.folder)?;
            let service = folder.start(&log_to_file(&folder))?;
            let outcome = self.send(service.ingest, Amount::Rate(rate, self.time), None)?;
            p50.push(outcome.latencies.quantile(0.5).as_secs_f64() * 1e3);
            p99.push(outcome.p99_ms());
        }
        let detail = format!("p50 {:.1} ms, {rate:.0} acks/s", median(&p50));
        self.table.below(
            "p99 of the ack at half of that load",
            (median(&p99), 20.0),
            "ms",
            &detail,
        );
        Ok(())
    }

    fn million(&mut self) -> anyhow::Result<()> {
        let full = Folder::new(&self.folder)?;
        let service = full.start("")?;
        eprintln!("  storing {MANY} events");
        self.send(service.ingest, Amount::Count(MANY), None)?;
        let filled = service.resident()?;
        // What the search index still has to read would be in the memory that
        // is compared.
        let store = full.path("events.db");
        index::complete(&store)?;
        service.stop()?;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        let (mut starts, mut windowed) = (Vec::new(), Vec::new());
        for round in 1..=self.rounds {
            let empty = Folder::new(&self.folder)?;
            let service = empty.start("")?;
            without.push(self.flat_out(&service)?);
            service.stop()?;
            let service = full.start("")?;
            starts.push(service.started_in.as_secs_f64());
            windowed.push(service.resident()?);
            with.push(self.flat_out(&service)?);
            index::complete(&store)?;
            service.stop()?;
            eprintln!(
                "  round {round}: {:.0} acks/s with them, {:.0} without",
                with.last().unwrap_or(&0.0),
                without.last().unwrap_or(&0.0),
            );
        }
        // The same store, as far as it is read, without its window.
        let service = full.start_with("dedup_entries_max = 1", "")?;
        // For as long as the others took: the search index reads meanwhile.
        std::thread::sleep(Duration::from_secs_f64(median(&starts)));
        let small = service.resident()?;
        service.stop()?;
        let table = &mut *self.table;
        table.share(
            "acks with 1 million events stored, against an empty store",
            (&with, &without),
            0.9,
        );
        table.below(
            "start with 1 million events stored, to ready",
            (median(&starts), 1.0),
            "s",
            "",
        );
        let windowed = median(&windowed);
        let detail = format!("{windowed:.0} after the start, {filled:.0} after storing them");
        table.below(
            "resident memory that a full duplicate window adds, 1 million bodies",
            (windowed - small, 40.0),
            "MiB",
            &detail,
        );
        Ok(())
    }

    fn sleeping(&mut self) -> anyhow::Result<()> {
        let destination = Destination::start(Duration::from_secs(5))?;
        let handler = forward("slow", destination.address);
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            for (handlers, found) in [("", &mut without), (&handler, &mut with)] {
                let folder = Folder::new(&self.folder)?;
                let service = folder.start(handlers)?;
                let amount = Amount::Rate(4.0 * CALM, self.time);
                found.push(self.send(service.ingest, amount, None)?.p99_ms());
            }
        }
        self.table.unchanged(
            "p99 of the ack with a handler that sleeps 5 s on every event",
            (&with, &without),
            (0.5, "ms"),
        );
        Ok(())
    }

    fn dead(&mut self) -> anyhow::Result<()> {
        let destination = Destination::start(Duration::ZERO)?;
        let healthy = forward("healthy", destination.address);
        let dead = forward("dead", dead_address()?);
        let waiting = Folder::new(&self.folder)?;
        let service = waiting.start(&dead)?;
        self.send(service.ingest, Amount::Count(WAITING), None)?;
        std::thread::sleep(Duration::from_secs(2));
        let resident = service.peak()?;
        let unfinished = waiting.ask("SELECT count(*) FROM deliveries WHERE due IS NOT NULL")?;
        ensure!(unfinished == WAITING, "only {unfinished} wait");
        service.stop()?;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let alone = Folder::new(&self.folder)?;
            let both = format!("{healthy}{dead}");
            let pairs = [
                (&alone, &healthy, &mut without),
                (&waiting, &both, &mut with),
            ];
            for (folder, handlers, found) in pairs {
                let service = folder.start(handlers)?;
                found.push(self.time_to_delivery(&service, &destination)?);
                service.stop()?;
            }
        }
        self.table.below(
            "resident memory with 100,000 deliveries waiting on a dead destination",
            (resident, 200.0),
            "MiB",
            "",
        );
        self.table.unchanged(
            "ack to delivery (p99) of a healthy handler beside that one",
            (&with, &without),
            (1.0, "ms"),
        );
        Ok(())
    }

    /// The time from ack to arrival that 99 % stay below, in milliseconds.
    fn time_to_delivery(
        &mut self,
        service: &Service,
        destination: &Destination,
    ) -> anyhow::Result<f64> {
        let since = Instant::now();
        let count = (CALM * self.time.as_secs_f64()) as usize;
        let (acks, arrivals) = (Times::new(since, count), Times::new(since, count));
        destination.note_in(&arrivals);
        let amount = Amount::Rate(CALM, self.time);
        self.send(service.ingest, amount, Some(&acks))?;
        while arrivals.count() < acks.count() {
            ensure!(since.elapsed() < 10 * self.time, "some never arrived");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(acks.until(&arrivals).quantile(0.99).as_secs_f64() * 1e3)
    }

    fn forged(&mut self) -> anyhow::Result<()> {
        let folder = Folder::new(&self.folder)?;
        let service = folder.start("")?;
        self.send(service.ingest, Amount::Rate(CALM, self.time), None)?;
        let before = service.resident()?;
        let (to, time) = (service.ingest, 2 * self.time);
        // Forgers and the genuine sender get a thread each.
        let forgers = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map(|runtime| runtime.block_on(load::forge(to, FORGED, time)))
        });
        let genuine = self.send(to, Amount::Rate(CALM, time), None)?;
        let forged = forgers.join().expect("the forgers do not panic")?;
        let grown = service.peak()? - before;
        ensure!(forged.1 == 0, "{} forged requests got no 401", forged.1);
        let rate = forged.0 as f64 / time.as_secs_f64();
        let detail = format!("{rate:.0}/s were refused");
        self.table.below(
            "p99 of the ack beside 5,000 forged requests/s that announce 10 MB",
            (genuine.p99_ms(), 100.0),
            "ms",
            &detail,
        );
        self.table
            .below("growth of memory meanwhile", (grown, 10.0), "MiB", "");
        Ok(())
    }

    /// One poller, batches of 16, from the start of the service until the
    /// queue is empty: each message received, stored and deleted.
    fn queue(&mut self) -> anyhow::Result<()> {
        let mut rates = Vec::new();
        for _ in 0..self.rounds {
            let emulator = Emulator::start(&[QUEUE]);
            emulator.silent();
            for number in 0..MESSAGES {
                emulator.send(QUEUE, &load::body(self.runs, number));
            }
            self.runs += 1;
            let folder = Folder::new(&self.folder)?;
            let service = folder.start(&format!(
                "[sources.queue]\nkind = \"mns\"\nendpoint = \"{}\"\nqueue = \"{QUEUE}\"\n[sources.queue.credentials]\naccess_key_id = \"{KEY_ID}\"\naccess_key_secret = \"{KEY_SECRET}\"\n",
                emulator.url()
            ))?;
            let (since, before) = (Instant::now(), emulator.left(QUEUE));
            while emulator.left(QUEUE) > 0 {
                ensure!(since.elapsed() < QUEUE_PATIENCE, "the queue is never empty");
                std::thread::sleep(Duration::from_millis(5));
            }
            rates.push(before as f64 / since.elapsed().as_secs_f64());
            service.stop()?;
            let stored = folder.ask("SELECT count(*) FROM events")?;
            ensure!(stored == MESSAGES, "{stored} were stored");
        }
        self.table.rate(
            "messages out of a queue, stored and deleted, one poller",
            (median(&rates), 5000.0),
            "messages/s",
        );
        Ok(())
    }

    fn shell(&mut self) -> anyhow::Result<()> {
        let folder = Folder::new(&self.folder)?;
        let service = folder.start(&command(8))?;
        let since = Instant::now();
        self.send(service.ingest, Amount::Count(COMMANDS), None)?;
        folder.drained()?;
        let rate = COMMANDS as f64 / since.elapsed().as_secs_f64();
        let settled = folder.ask("SELECT count(*) FROM deliveries WHERE status = 2")?;
        ensure!(settled == COMMANDS, "only {settled} commands succeeded");
        service.stop()?;
        self.table.rate(
            "10,000 commands (`/bin/true`), 8 at the same time",
            (rate, 300.0),
            "commands/s",
        );
        for (figure, concurrency) in [
            ("acks beside 8 commands at the same time, against none", 8),
            ("acks beside 50 commands at the same time, against none", 50),
        ] {
            let (mut with, mut without) = (Vec::new(), Vec::new());
            for _ in 0..self.rounds {
                let handler = command(concurrency);
                for (handlers, found) in [("", &mut without), (&handler, &mut with)] {
                    let folder = Folder::new(&self.folder)?;
                    let service = folder.start(handlers)?;
                    found.push(self.flat_out(&service)?);
                }
            }
            self.table.share(figure, (&with, &without), 0.5);
        }
        Ok(())
    }
}

fn log_to_file(folder: &Folder) -> String {
    let output = folder.path("events.log");
    format!("[handlers.audit]\nkind = \"log\"\noutput = {output:?}\n")
}

fn command(concurrency: u32) -> String {
    format!(
        "[handlers.hook]\nkind = \"shell\"\ncommand = [\"/bin/true\"]\nconcurrency = {concurrency}\n"
    )
}

fn forward(name: &str, to: SocketAddr) -> String {
    format!("[handlers.{name}]\nkind = \"forward\"\nurl = \"http://{to}/\"\n")
}
