//! When each source's last event was stored, across restarts.

use std::sync::Arc;

use super::IngestMetrics;
use crate::request::SourceName;
use crate::store::Archive;
use crate::store::archive::{EventFilter, Page};

/// Looks up the last event of each of `sources` and shows when it was stored,
/// so that a silent source is seen although the service was restarted. One
/// search each, bounded in time as all searches are; where it finds nothing,
/// the next event shows the source.
pub async fn show(sources: Vec<SourceName>, archive: Arc<dyn Archive>, metrics: IngestMetrics) {
    for name in sources {
        let filter = EventFilter {
            sources: Some(vec![name.clone()]),
            ..EventFilter::default()
        };
        let newest = Page {
            limit: 1,
            after: None,
        };
        if let Ok(found) = archive.events(&filter, newest).await
            && let Some(event) = found.events.first()
        {
            metrics.show_last_event(&name, event.received_at);
        }
    }
}
