//! `[sources.NAME]` with `kind = "mns"`: which queue, and what requests to it
//! are signed with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::net::absolute_http;
use super::quantity::HOUR;
use super::{Range, Resolver};
use crate::mns::credentials::{Reread, Variables};
use crate::mns::{Credential, CredentialsConfig, QueueConfig};
use crate::request::SourceName;
use crate::settings::raw::{RawCredentials, RawSource};
use crate::settings::secrets;

/// IMS writes only into queues whose names begin so.
const PREFIX_OF_IMS: &str = "ice-callback";

/// The longest name of a queue, in characters.
const QUEUE_CHARS_MAX: usize = 120;

/// What MNS takes, in whole seconds. Without any wait an idle queue would be
/// asked without end.
const WAIT: Range = Range::between(Duration::from_secs(1), Duration::from_secs(30));
const VISIBILITY: Range = Range::between(
    Duration::from_secs(1),
    Duration::from_secs(12 * HOUR.as_secs()),
);

pub(super) fn queues(
    r: &mut Resolver<'_>,
    raw: BTreeMap<String, RawSource>,
) -> Option<Vec<QueueConfig>> {
    let count = raw.len();
    check_shared_queues(r, &raw);
    let queues: Vec<QueueConfig> = raw
        .into_iter()
        .filter_map(|(name, source)| one(r, &name, source))
        .collect();
    (queues.len() == count).then_some(queues)
}

fn check_shared_queues(r: &mut Resolver<'_>, raw: &BTreeMap<String, RawSource>) {
    let mut seen: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for (name, source) in raw {
        let (Some(endpoint), Some(queue)) = (&source.endpoint, &source.queue) else {
            continue;
        };
        let place = (endpoint.trim_end_matches('/'), queue.as_str());
        if let Some(other) = seen.insert(place, name) {
            r.problem(
                format!("sources.{name}.queue"),
                format!("\"{queue}\" is the queue of sources.{other} as well"),
                "read each queue by one source; `pollers` makes it read by more",
            );
        }
    }
}

fn one(r: &mut Resolver<'_>, name: &str, raw: RawSource) -> Option<QueueConfig> {
    let key = &format!("sources.{name}");
    let endpoint = raw
        .endpoint
        .and_then(|text| r.endpoint(&format!("{key}.endpoint"), text));
    let queue = raw
        .queue
        .and_then(|text| r.queue(&format!("{key}.queue"), text));
    let mut seconds = |key: String, text: Option<String>, range| {
        let text = text?;
        let duration = r.duration(&key, &text, range)?;
        if duration.subsec_nanos() == 0 {
            return Some(duration);
        }
        r.problem(
            key,
            format!("\"{text}\" is no whole number of seconds"),
            "MNS counts in seconds",
        );
        None
    };
    let wait = seconds(format!("{key}.wait"), raw.wait, WAIT);
    let is_visibility_written = raw.visibility_timeout.is_some();
    let visibility = seconds(
        format!("{key}.visibility_timeout"),
        raw.visibility_timeout,
        VISIBILITY,
    );
    let ca_fits = match &raw.ca_file {
        Some(file) => super::forward::check_ca(r, &format!("{key}.ca_file"), file),
        None => true,
    };
    let credentials = credentials(r, key, raw.credentials);
    if !ca_fits || is_visibility_written && visibility.is_none() {
        return None;
    }
    Some(QueueConfig {
        name: SourceName::new(name).ok()?,
        endpoint: endpoint?,
        queue: queue?,
        wait: wait?,
        batch: raw.batch?,
        pollers: raw.pollers?,
        visibility_timeout: visibility,
        max_receives: raw.max_receives?,
        ca_file: raw.ca_file,
        credentials: credentials?,
    })
}

impl Resolver<'_> {
    /// A base URL: whatever else is in it would be signed and not understood.
    fn endpoint(&mut self, key: &str, text: String) -> Option<String> {
        let bare = text.strip_suffix('/').unwrap_or(&text);
        let rest = bare.split_once("://").map_or("", |(_, rest)| rest);
        let url = absolute_http(bare).filter(|_| !rest.contains(['/', '?', '#', '@']));
        let Some(url) = url else {
            self.problem(
                key,
                "is no base URL, which is scheme and host, perhaps a port, and nothing else",
                r#"write it as MNS shows it, such as "https://1234567890123456.mns.cn-shanghai.aliyuncs.com""#,
            );
            return None;
        };
        let host = url.host_str().unwrap_or_default();
        if url.scheme() == "http" && host.ends_with(".aliyuncs.com") && !host.contains("-internal")
        {
            self.warn(
                key,
                "is plain http over the public network: whoever is in between reads every event",
                "use https",
            );
        }
        Some(bare.to_owned())
    }

    fn queue(&mut self, key: &str, text: String) -> Option<String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !text.chars().all(fits) || text.starts_with('-') || text.len() > QUEUE_CHARS_MAX {
            self.problem(
                key,
                format!("\"{text}\" is no name of a queue"),
                format!("names are letters, digits and `-`, at most {QUEUE_CHARS_MAX} of them"),
            );
            return None;
        }
        if !text.starts_with(PREFIX_OF_IMS) {
            self.warn(
                key,
                format!("\"{text}\" does not begin with \"{PREFIX_OF_IMS}\", and IMS writes into no other queues"),
                "name the queue that is configured at IMS",
            );
        }
        Some(text)
    }
}

/// A secret where it stands: files are read again when MNS refuses the key.
#[derive(Clone)]
enum Given {
    Inline(SecretString),
    File(PathBuf),
}

impl Given {
    fn read(&self) -> Result<SecretString, String> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::File(path) => secrets::read_one(path).map_err(|error| error.to_string()),
        }
    }
}

fn credentials(
    r: &mut Resolver<'_>,
    source: &str,
    raw: Option<RawCredentials>,
) -> Option<CredentialsConfig> {
    let key = format!("{source}.credentials");
    let Some(raw) = raw else {
        // Written and wrong: reported already.
        let chain = || CredentialsConfig::Chain(Variables::new(r.cloud_variables()));
        return (!r.is_written(&key)).then(chain);
    };
    let before = r.problems.len();
    let mut given = |name: &str, inline: Option<SecretString>, file: Option<PathBuf>, needed| {
        let key = format!("{key}.{name}");
        let kept = match (&inline, &file) {
            (Some(secret), _) => Some(Given::Inline(secret.clone())),
            (None, Some(file)) => Some(Given::File(file.clone())),
            (None, None) => None,
        };
        let written = r.is_written(&key) || r.is_written(&format!("{key}_file"));
        if needed && !written {
            r.problem(
                key.clone(),
                "is missing",
                format!(r#"write {name}_file = "/run/secrets/{}", or leave `credentials` out for the official chain"#, name.replace('_', "-")),
            );
        }
        r.secret(&key, inline, file)?;
        kept
    };
    let id = given(
        "access_key_id",
        raw.access_key_id,
        raw.access_key_id_file,
        true,
    );
    let secret = given(
        "access_key_secret",
        raw.access_key_secret,
        raw.access_key_secret_file,
        true,
    );
    let token = given(
        "security_token",
        raw.security_token,
        raw.security_token_file,
        false,
    );
    let (id, secret) = (id?, secret?);
    let reread: Reread = Arc::new(move || {
        Ok(Credential {
            access_key_id: id.read()?.expose_secret().to_owned(),
            access_key_secret: secret.read()?,
            security_token: token.as_ref().map(Given::read).transpose()?,
            expires_at: None,
        })
    });
    (r.problems.len() == before).then_some(CredentialsConfig::Fixed(reread))
}
