//! Files of keys, read again while the service runs, so that keys rotate
//! without a restart.
//!
//! They are looked at every few seconds, by what they hold. Notifications of
//! the file system would miss half of the ways in which such a file changes:
//! Kubernetes swaps a link to its folder, others mount something over it, and
//! editors put a new file in its place.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::ingest::{Source, SourceConfig};
use crate::server::Readiness;
use crate::settings::secrets::{self, SecretFileError};
use crate::signature::SchemeConfig;
use crate::signature::ims::KEY_CHARS_MAX;

/// How the trouble of a source begins whose keys cannot be read again, as
/// `/readyz`, the page and `doctor` show it.
pub const TROUBLE: &str = "the keys cannot be read again";

/// How often a file is looked at. A change counts when it was seen twice, and
/// the contract promises it within 10 s.
const INTERVAL: Duration = Duration::from_secs(2);

/// Follows the file of `config`'s keys, where it has one, until `stop`. While
/// it cannot be used, `readiness` names the source.
pub fn follow(
    config: &SourceConfig,
    source: &Arc<Source>,
    readiness: &Arc<Readiness>,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) {
    let Some(file) = config.keys_file.clone() else {
        return;
    };
    let followed = Followed::new(config.auth.keys().to_vec());
    let told = Told {
        file,
        source: Arc::clone(source),
        readiness: Arc::clone(readiness),
        of_ims: matches!(config.auth, SchemeConfig::Ims(_)),
        unusable_since: None,
    };
    let (clock, stop) = (Arc::clone(clock), stop.clone());
    tokio::spawn(async move {
        stop.run_until_cancelled(run(followed, told, clock)).await;
    });
}

async fn run(mut followed: Followed, mut told: Told, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        told.source.forget_retired_keys(clock.now());
        let path = told.file.clone();
        // A file system that hangs holds up this file and nothing else.
        let read = tokio::task::spawn_blocking(move || secrets::read_keys(&path)).await;
        let Ok(read) = read else {
            continue;
        };
        told.tell(followed.look(read), clock.now());
    }
}

/// Where it is told how a file of keys stands.
struct Told {
    file: PathBuf,
    source: Arc<Source>,
    readiness: Arc<Readiness>,
    /// Whether its keys have to be such as IMS takes.
    of_ims: bool,
    unusable_since: Option<Timestamp>,
}

impl Told {
    fn tell(&mut self, change: Change, now: Timestamp) {
        match change {
            Change::Nothing => {}
            Change::Mended => {
                self.usable();
                let (source, file) = (self.source.name().as_str(), self.file.display());
                info!(source, %file, "the file of keys can be used again");
            }
            Change::Broken(error) => {
                self.unusable(&error.to_string(), &error.hint(), now);
                let (source, file) = (self.source.name().as_str(), self.file.display());
                warn!(
                    source,
                    %file,
                    %error,
                    hint = error.hint(),
                    "the file of keys cannot be used; the keys in force stay"
                );
            }
            Change::Keys {
                keys,
                added,
                removed,
            } => self.replace(&keys, (added, removed), now),
        }
    }

    fn replace(&mut self, keys: &[SecretString], (added, removed): (usize, usize), now: Timestamp) {
        let replaced = self.source.replace_keys(keys, now);
        let (source, file) = (self.source.name().as_str(), self.file.display());
        match &replaced {
            // So it looks when two lines ran into one, too.
            Ok(()) if removed > 0 && added == keys.len() => warn!(
                source,
                %file,
                keys = keys.len(),
                removed,
                "the keys changed, and none of the former stayed: what is still signed with one is refused"
            ),
            Ok(()) => info!(source, %file, keys = keys.len(), added, removed, "the keys changed"),
            Err(error) => warn!(source, %file, %error, "the keys in force stay"),
        }
        if self.of_ims {
            self.warn_of_long(keys);
        }
        match replaced {
            Ok(()) => self.usable(),
            Err(error) => self.unusable(&error.to_string(), "write one key a line", now),
        }
    }

    /// A key that IMS would not take was most likely written behind another
    /// one, in a file whose last line had no end.
    fn warn_of_long(&self, keys: &[SecretString]) {
        for (position, key) in (1..).zip(keys) {
            let characters = key.expose_secret().chars().count();
            if characters > KEY_CHARS_MAX {
                warn!(
                    source = self.source.name().as_str(),
                    file = %self.file.display(),
                    key = position,
                    characters,
                    hint = secrets::LONG_KEY_HINT,
                    "a key is longer than IMS takes ({KEY_CHARS_MAX} characters)"
                );
            }
        }
    }

    fn usable(&mut self) {
        self.unusable_since = None;
        self.source.show_keys_unusable(false);
        self.readiness
            .set_trouble(self.source.name().as_str(), None);
    }

    /// The old keys still work, so that nothing is refused yet: the next start
    /// would fail, and the next change of the key would not arrive.
    fn unusable(&mut self, problem: &str, hint: &str, now: Timestamp) {
        let since = *self.unusable_since.get_or_insert(now);
        self.source.show_keys_unusable(true);
        let trouble =
            format!("{TROUBLE} since {since:.0}, the old ones are used: {problem}; {hint}");
        self.readiness
            .set_trouble(self.source.name().as_str(), Some(trouble));
    }
}

/// What is known about a file of keys.
#[derive(Debug)]
struct Followed {
    in_force: Vec<SecretString>,
    /// What was there at the last look, if it was something else.
    seen: Option<Seen>,
    /// What was said to be wrong, until it is mended.
    reported: Option<String>,
}

#[derive(Debug)]
enum Seen {
    Keys(Vec<SecretString>),
    Broken(String),
}

/// What a look at the file found.
#[derive(Debug)]
enum Change {
    Nothing,
    Keys {
        keys: Vec<SecretString>,
        added: usize,
        removed: usize,
    },
    Broken(SecretFileError),
    /// What is in force stands there again.
    Mended,
}

impl Followed {
    fn new(in_force: Vec<SecretString>) -> Self {
        Self {
            in_force,
            seen: None,
            reported: None,
        }
    }

    /// Takes what was read this time. It counts when it was there the last
    /// time too: not every file is replaced in one step, and half a file would
    /// take a key away that is in use.
    fn look(&mut self, read: Result<Vec<SecretString>, SecretFileError>) -> Change {
        let before = self.seen.take();
        match read {
            Ok(keys) if same(&keys, &self.in_force) => match self.reported.take() {
                Some(_) => Change::Mended,
                None => Change::Nothing,
            },
            Ok(keys) => {
                if !matches!(&before, Some(Seen::Keys(seen)) if same(seen, &keys)) {
                    self.seen = Some(Seen::Keys(keys));
                    return Change::Nothing;
                }
                let added = missing_in(&self.in_force, &keys);
                let removed = missing_in(&keys, &self.in_force);
                self.in_force.clone_from(&keys);
                self.reported = None;
                Change::Keys {
                    keys,
                    added,
                    removed,
                }
            }
            Err(error) => {
                let problem = error.to_string();
                let settled = matches!(&before, Some(Seen::Broken(seen)) if *seen == problem);
                let is_news = settled && self.reported.as_ref() != Some(&problem);
                self.seen = Some(Seen::Broken(problem.clone()));
                if !is_news {
                    return Change::Nothing;
                }
                self.reported = Some(problem);
                Change::Broken(error)
            }
        }
    }
}

fn equal(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

/// Whether both are the same keys in the same order.
fn same(some: &[SecretString], others: &[SecretString]) -> bool {
    some.len() == others.len()
        && some
            .iter()
            .zip(others)
            .all(|(one, other)| equal(one, other))
}

/// How many of `keys` are not among `others`.
fn missing_in(others: &[SecretString], keys: &[SecretString]) -> usize {
    let is_missing = |key: &&SecretString| !others.iter().any(|other| equal(other, key));
    keys.iter().filter(is_missing).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is there or not, and what was followed so far.
    struct Case {
        folder: tempfile::TempDir,
        followed: Followed,
    }

    impl Case {
        fn new(keys: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("keys"), keys).unwrap();
            let in_force = secrets::read_keys(&folder.path().join("keys")).unwrap();
            let followed = Followed::new(in_force);
            Self { folder, followed }
        }

        fn look(&mut self) -> String {
            let read = secrets::read_keys(&self.folder.path().join("keys"));
            match self.followed.look(read) {
                Change::Nothing => "nothing".to_owned(),
                Change::Mended => "mended".to_owned(),
                Change::Broken(_) => "broken".to_owned(),
                Change::Keys {
                    keys,
                    added,
                    removed,
                } => {
                    let keys: Vec<&str> = keys.iter().map(|key| key.expose_secret()).collect();
                    format!("{} +{added} -{removed}", keys.join(" "))
                }
            }
        }

        /// Each content with what the looks at it find.
        fn goes(&mut self, steps: &[(Option<&str>, &[&str])]) {
            let file = self.folder.path().join("keys");
            for (content, finds) in steps {
                match content {
                    Some(content) => std::fs::write(&file, content).unwrap(),
                    None => std::fs::remove_file(&file).unwrap(),
                }
                for find in *finds {
                    assert_eq!(self.look(), *find, "{content:?}");
                }
            }
        }
    }

    #[test]
    fn a_change_counts_once_and_when_it_was_seen_twice() {
        Case::new("old").goes(&[
            (Some("old\n"), &["nothing", "nothing"]),
            (Some("new\nold\n"), &["nothing", "new old +1 -0", "nothing"]),
            (Some("old\nnew\n"), &["nothing", "old new +0 -0"]),
            (Some("new"), &["nothing", "new +0 -1", "nothing"]),
        ]);
    }

    #[test]
    fn half_a_file_is_passed_over() {
        Case::new("old").goes(&[
            (Some(""), &["nothing"]),
            (Some("new\nol"), &["nothing"]),
            (Some("new\nold"), &["nothing", "new old +1 -0"]),
            (Some("ne"), &["nothing"]),
            (Some("new\nold"), &["nothing", "nothing"]),
            (Some("ne"), &["nothing"]),
        ]);
    }

    #[test]
    fn each_fault_is_told_once_until_it_is_mended() {
        Case::new("old").goes(&[
            (Some(" "), &["nothing", "broken", "nothing", "nothing"]),
            (Some("a b"), &["nothing", "broken", "nothing"]),
            (None, &["nothing", "broken", "nothing", "nothing"]),
            (Some("old"), &["mended", "nothing"]),
            (Some(" "), &["nothing", "broken", "nothing"]),
            (Some("new"), &["nothing", "new +1 -1", "nothing"]),
            (Some(" "), &["nothing", "broken"]),
        ]);
    }
}
