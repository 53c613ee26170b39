//! The keys that a sender may have used instead of the right one.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::{KeyUsed, OtherSource};
use crate::signature::KeyRing;

/// A key to try.
pub(in crate::signature) struct KeyCandidate {
    pub(in crate::signature) key: SecretString,
    pub(in crate::signature) used: KeyUsed,
    /// How far it is from what is configured.
    pub(in crate::signature) distance: usize,
}

/// What gets into a key when it is copied.
const SPELLINGS: [(&str, &str, &str); 6] = [
    ("", "\n", "and a line end behind it"),
    ("", "\r\n", "and a line end behind it"),
    ("", " ", "and a blank behind it"),
    (" ", "", "and a blank before it"),
    ("\"", "\"", "in quotation marks"),
    ("'", "'", "in quotation marks"),
];

/// All keys that are worth a try, the most likely first.
pub(in crate::signature) fn candidates(
    ring: &KeyRing,
    others: &[OtherSource<'_>],
    now: Timestamp,
) -> Vec<KeyCandidate> {
    let in_force = ring.keys();
    let mut found: Vec<KeyCandidate> = (1..)
        .zip(in_force.iter())
        .map(|(position, key)| KeyCandidate {
            key: key.clone(),
            used: KeyUsed::InForce(position),
            distance: 0,
        })
        .collect();
    let retired = ring.retired(now).into_iter();
    found.extend(retired.map(|one| KeyCandidate {
        key: one.key,
        used: KeyUsed::Retired(one.since),
        distance: 1,
    }));
    for other in others {
        let keys = other.scheme.key_ring().map(KeyRing::keys);
        found.extend(keys.iter().flat_map(|keys| keys.iter()).map(|key| {
            let used = KeyUsed::OtherSource(other.name.clone());
            KeyCandidate {
                key: key.clone(),
                used,
                distance: 1,
            }
        }));
    }
    for (position, key) in (1..).zip(in_force.iter()) {
        found.extend(spelt(key.expose_secret()).map(|(key, how)| KeyCandidate {
            key: key.into(),
            used: KeyUsed::Spelt(position, how),
            distance: 1,
        }));
    }
    found
}

fn spelt(key: &str) -> impl Iterator<Item = (String, &'static str)> {
    let around = SPELLINGS
        .iter()
        .map(move |(before, after, how)| (format!("{before}{key}{after}"), *how));
    let cased = [
        (key.to_lowercase(), "in lower case"),
        (key.to_uppercase(), "in upper case"),
    ];
    let cased = cased.into_iter().filter(move |(other, _)| other != key);
    around.chain(cased)
}
