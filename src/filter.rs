//! Which events a handler wants. Pure: no clock, no store.

use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::event::{NewEvent, Outcome};
use crate::request::SourceName;

/// What a handler asks of an event before it gets a delivery of it.
/// Every key that is set has to let the event through.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    events: Option<GlobSet>,
    sources: Option<BTreeSet<SourceName>>,
    outcome: Option<BTreeSet<Outcome>>,
}

/// The key of a handler's configuration that kept an event away from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExcludedBy {
    /// No glob of `events` matches the type.
    Events,
    /// The source is not among `sources`.
    Sources,
    /// The outcome is not among `outcome`.
    Outcome,
}

impl ExcludedBy {
    /// The key as the configuration spells it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Sources => "sources",
            Self::Outcome => "outcome",
        }
    }
}

impl Filter {
    /// A filter from the three keys; `None` means that the key was not written.
    ///
    /// # Errors
    /// A glob that cannot be read, with the reason.
    pub fn new(
        events: Option<&[String]>,
        sources: Option<BTreeSet<SourceName>>,
        outcome: Option<BTreeSet<Outcome>>,
    ) -> Result<Self, globset::Error> {
        let events = match events {
            None => None,
            Some(globs) => {
                let mut set = GlobSetBuilder::new();
                for glob in globs {
                    set.add(GlobBuilder::new(glob).build()?);
                }
                Some(set.build()?)
            }
        };
        Ok(Self {
            events,
            sources,
            outcome,
        })
    }

    /// Whether the handler wants `event`.
    ///
    /// # Errors
    /// The first key that keeps it away.
    pub fn admit(&self, event: &NewEvent) -> Result<(), ExcludedBy> {
        if let Some(globs) = &self.events
            && !globs.is_match(&event.event_type)
        {
            return Err(ExcludedBy::Events);
        }
        if let Some(sources) = &self.sources
            && !sources.contains(&event.source)
        {
            return Err(ExcludedBy::Sources);
        }
        if let Some(outcomes) = &self.outcome
            && !outcomes.contains(&event.outcome)
        {
            return Err(ExcludedBy::Outcome);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, Uri};
    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;
    use crate::event::parse;
    use crate::request::{KeptHead, RequestHead};
    use crate::signature::none::NoSignature;
    use crate::signature::{HeadVerdict, Scheme, VerifiedRequest};

    fn event(source: &str, event_type: &str, status: &str) -> NewEvent {
        let head = RequestHead {
            uri: &Uri::from_static("/"),
            headers: &HeaderMap::new(),
        };
        let verdict = NoSignature.check_head(&head, Timestamp::UNIX_EPOCH);
        let Ok(HeadVerdict::Authentic(verified)) = verdict else {
            panic!("the scheme lets everybody in");
        };
        let body = serde_json::json!({"EventType": event_type, "MessageBody": {"Status": status}});
        parse(VerifiedRequest::new(
            SourceName::new(source).unwrap(),
            verified,
            KeptHead::default(),
            Bytes::from(body.to_string()),
        ))
    }

    fn globs(globs: &[&str]) -> Filter {
        let globs: Vec<String> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        Filter::new(Some(&globs), None, None).unwrap()
    }

    #[test]
    fn a_filter_without_keys_lets_everything_through() {
        for event in [event("a", "X", "Success"), event("b", "", "")] {
            assert_eq!(Filter::new(None, None, None).unwrap().admit(&event), Ok(()));
            assert_eq!(Filter::default().admit(&event), Ok(()));
        }
    }

    #[test]
    fn globs_match_the_whole_type_and_mind_the_case() {
        let filter = globs(&[
            "ProduceMediaComplete",
            "MediaConvert*",
            "Live?ecord*",
            "{A,B}x",
        ]);
        let admits = |event_type| filter.admit(&event("a", event_type, "Success")).is_ok();
        for wanted in [
            "ProduceMediaComplete",
            "MediaConvert",
            "MediaConvertComplete",
            "MediaConvert/a.b c",
            "LiveRecordX",
            "Bx",
        ] {
            assert!(admits(wanted), "{wanted}");
        }
        for other in [
            "BatchProduceMediaComplete",
            "ProduceMediaComplete2",
            "producemediacomplete",
            "mediaConvertX",
            "Cx",
        ] {
            assert!(!admits(other), "{other}");
        }
        let refused = filter.admit(&event("a", "Other", "Success"));
        assert_eq!(refused.map_err(ExcludedBy::key), Err("events"));
    }

    #[test]
    fn malformed_events_have_a_name_like_others() {
        let malformed = event("a", "", "Success");
        assert_eq!(globs(&["malformed"]).admit(&malformed), Ok(()));
        assert_eq!(globs(&["*"]).admit(&malformed), Ok(()));
        assert_eq!(
            globs(&["*Complete"]).admit(&malformed),
            Err(ExcludedBy::Events)
        );
    }

    #[test]
    fn an_empty_list_wants_nothing() {
        let event = event("a", "X", "Success");
        assert_eq!(globs(&[]).admit(&event), Err(ExcludedBy::Events));
        let nobody = Filter::new(None, Some(BTreeSet::new()), None).unwrap();
        assert_eq!(nobody.admit(&event), Err(ExcludedBy::Sources));
    }

    #[test]
    fn every_key_has_to_let_it_through_and_the_first_refusal_is_named() {
        let filter = Filter::new(
            Some(&["X".to_owned()]),
            Some(BTreeSet::from([SourceName::new("a").unwrap()])),
            Some(BTreeSet::from([Outcome::Succeeded, Outcome::Other])),
        )
        .unwrap();
        let cases = [
            (event("a", "X", "Finished"), Ok(())),
            (event("a", "X", "started"), Ok(())),
            (event("a", "X", "Failed"), Err("outcome")),
            (event("b", "X", "Failed"), Err("sources")),
            (event("b", "Y", "Failed"), Err("events")),
        ];
        for (event, expected) in cases {
            assert_eq!(filter.admit(&event).map_err(ExcludedBy::key), expected);
        }
    }

    #[test]
    fn a_glob_that_cannot_be_read_is_an_error() {
        let error = Filter::new(Some(&["Media[".to_owned()]), None, None).unwrap_err();
        assert_eq!(error.glob(), Some("Media["));
    }
}
