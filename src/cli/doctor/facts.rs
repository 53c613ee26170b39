//! What can be seen from outside, and from the configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use reqwest::Url;

use crate::cli::admin::answers::{
    EventPage, EventRow, HandlerRow, Handlers, Refusal, Refusals, Stats,
};
use crate::cli::admin::client::{Access, AdminClient, AdminError, TokenFrom};
use crate::cli::admin::connect::AdminArgs;
use crate::cli::health::reachable;
use crate::cli::usage::UsageError;
use crate::clock::Clock;
use crate::settings::{self, LoadError, Loaded};
use crate::store::tools::{self, Glance};

/// This many dead deliveries are looked at for their reasons.
const DEAD_EVENTS_MAX: u32 = 500;

/// What `store.disk_free_min` is where nobody says anything.
const DISK_FREE_MIN: u64 = 1 << 30;

/// This many refusals.
const REFUSALS_MAX: u32 = 500;

/// Everything that was seen.
pub(super) struct Facts {
    pub now: Timestamp,
    pub configuration: Configuration,
    /// The address of the admin listener; `None` where nothing names it.
    pub admin: Option<String>,
    /// Whether it answers at all.
    pub live: Result<(), String>,
    /// Whether it is ready, and what it says about it.
    pub ready: Option<(bool, Vec<String>)>,
    /// The public listener, asked for its health from this machine.
    pub public: Option<Public>,
    /// What the admin API says.
    pub api: Result<Api, String>,
    /// The store's file, where the service is of this machine and down.
    pub file: Option<StoreFile>,
    /// With less on the store's disk the service purges early.
    pub disk_free_min: u64,
}

/// The configuration.
pub(super) enum Configuration {
    /// Can be used, with these warnings.
    Good {
        path: PathBuf,
        warnings: Vec<String>,
    },
    /// Cannot be used: one line a problem.
    Broken {
        path: Option<PathBuf>,
        problems: Vec<String>,
    },
    /// There is none, and none is needed.
    Absent,
}

/// The public listener.
pub(super) struct Public {
    pub url: String,
    /// The status of its health path.
    pub answer: Result<u16, String>,
}

/// The store as a file.
pub(super) struct StoreFile {
    pub path: PathBuf,
    /// What is in it, where it can be opened.
    pub glance: Result<Glance, String>,
}

/// What the API says.
pub(super) struct Api {
    pub stats: Stats,
    pub handlers: Vec<HandlerRow>,
    pub refusals: Vec<Refusal>,
    /// Events with a dead delivery, the newest.
    pub dead: Vec<EventRow>,
    pub newest: Option<EventRow>,
    /// The metrics page.
    pub metrics: String,
}

/// Looks at everything that can be seen.
pub(super) async fn gather(
    admin: &AdminArgs,
    config: Option<&Path>,
    clock: &dyn Clock,
) -> Result<Facts, UsageError> {
    let loaded = settings::load(config, settings::process_environment());
    let configuration = configuration(&loaded, admin, config)?;
    let loaded = loaded.ok();
    let client = match admin.connect_with(loaded.as_ref()) {
        Ok(client) => Some(client),
        // Without a configuration nothing else names the service.
        Err(_) if loaded.is_none() && admin.token_file.is_none() => None,
        Err(error) => return Err(error),
    };
    let mut facts = Facts {
        now: clock.now(),
        configuration,
        admin: client.as_ref().map(AdminClient::to_string),
        live: Err("nothing names the admin listener".to_owned()),
        ready: None,
        public: None,
        api: Err("the service does not answer".to_owned()),
        file: None,
        disk_free_min: DISK_FREE_MIN,
    };
    if let Some(client) = &client {
        ask(client, &mut facts).await;
    }
    if let Some(loaded) = &loaded {
        facts.disk_free_min = loaded.settings.store.disk_free_min;
    }
    // With --admin the service may be another than the configuration's.
    if let Some(loaded) = loaded.as_ref().filter(|_| admin.admin.is_none()) {
        facts.public = public(loaded).await;
        // Whoever runs is asked and left alone.
        if facts.live.is_err() {
            facts.file = Some(store_file(&loaded.settings.store.path).await);
        }
    }
    Ok(facts)
}

fn configuration(
    loaded: &Result<Loaded, LoadError>,
    admin: &AdminArgs,
    config: Option<&Path>,
) -> Result<Configuration, UsageError> {
    let lines = |text: String| text.lines().map(str::to_owned).collect();
    match loaded {
        Ok(loaded) => Ok(Configuration::Good {
            path: std::path::absolute(&loaded.path).unwrap_or_else(|_| loaded.path.clone()),
            warnings: loaded.warnings.iter().map(ToString::to_string).collect(),
        }),
        Err(LoadError::NotFound { .. }) if admin.admin.is_some() && config.is_none() => {
            Ok(Configuration::Absent)
        }
        Err(error @ LoadError::NotFound { .. }) => Err(UsageError(error.to_string())),
        Err(error) => Ok(Configuration::Broken {
            path: settings::located(config, settings::process_environment()),
            problems: lines(error.to_string()),
        }),
    }
}

async fn ask(client: &AdminClient, facts: &mut Facts) {
    match client.probe("/livez").await {
        Ok((200, _)) => facts.live = Ok(()),
        Ok((status, _)) => facts.live = Err(format!("{client}/livez answers {status}")),
        Err(error) => {
            facts.live = Err(error.to_string());
            return;
        }
    }
    if let Ok((status, text)) = client.probe("/readyz").await {
        let lines = text.lines().take(100).map(str::to_owned).collect();
        facts.ready = Some((status == 200, lines));
    }
    facts.api = api(client).await.map_err(|error| error.to_string());
}

async fn api(client: &AdminClient) -> Result<Api, AdminError> {
    let limit = |n: u32| vec![("limit", n.to_string())];
    let last_hour = [("minutes", "60".to_owned())];
    let stats: Stats = client.get("/api/stats", &last_hour).await?;
    let handlers: Handlers = client.get("/api/handlers", &[]).await?;
    let refusals: Refusals = client.get("/api/refusals", &limit(REFUSALS_MAX)).await?;
    let any_dead = handlers.handlers.iter().any(|handler| handler.dead > 0);
    let dead = match any_dead {
        true => {
            let mut query = limit(DEAD_EVENTS_MAX);
            query.push(("status", "dead".to_owned()));
            events(client, &query).await?
        }
        false => Vec::new(),
    };
    let newest = events(client, &limit(1)).await?;
    Ok(Api {
        stats,
        handlers: handlers.handlers,
        refusals: refusals.refusals,
        dead,
        newest: newest.into_iter().next(),
        metrics: client.text("/metrics", &[]).await?,
    })
}

async fn events(
    client: &AdminClient,
    query: &[(&str, String)],
) -> Result<Vec<EventRow>, AdminError> {
    let page: EventPage = client.get("/api/events", query).await?;
    let events = page.events.iter();
    events.map(|event| client.read(event.get())).collect()
}

async fn public(loaded: &Loaded) -> Option<Public> {
    let server = &loaded.settings.server;
    let listen: SocketAddr = server.listen;
    // Port 0 is another one at every start.
    let address = reachable(listen).ok()?;
    let base = Url::parse(&format!("http://{address}")).ok()?;
    let client = AdminClient::new(Access {
        base,
        found_by: format!("server.listen of {} names it", loaded.path.display()),
        token: None,
        token_from: TokenFrom::Nowhere,
    });
    let answer = client.ok()?.probe(&server.health_path).await;
    Some(Public {
        url: format!("http://{address}{}", server.health_path),
        answer: answer
            .map(|(status, _)| status)
            .map_err(|error| error.to_string()),
    })
}

async fn store_file(path: &Path) -> StoreFile {
    let path = path.to_owned();
    let file = path.clone();
    let glance = tokio::task::spawn_blocking(move || tools::glance(&file)).await;
    StoreFile {
        path,
        glance: match glance {
            Ok(glance) => glance.map_err(|error| error.to_string()),
            Err(panicked) => Err(panicked.to_string()),
        },
    }
}
