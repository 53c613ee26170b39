//! Which events are asked for, as flags.

use clap::Args;
use clap::builder::PossibleValuesParser;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::when::When;

/// A longer text is not searched for.
const TEXT_BYTES_MAX: usize = 256;

/// Which events are asked for. Everything that is given has to hold; of several
/// values of one flag, any.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Filter")]
pub struct FilterArgs {
    /// The type, or a glob such as 'MediaConvert*' or '{Snapshot,Transcode}*'
    #[arg(long, value_name = "GLOB")]
    pub r#type: Vec<String>,
    /// The source it came in by
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub source: Vec<String>,
    /// How one of its deliveries stands; with --handler, that handler's
    #[arg(long, value_name = "STATUS", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(["pending", "running", "succeeded", "dead"]))]
    pub status: Vec<String>,
    /// It has a delivery for this handler
    #[arg(long, value_name = "NAME")]
    pub handler: Option<String>,
    /// What the sender says about the job
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',',
          value_parser = PossibleValuesParser::new(["succeeded", "failed", "other"]))]
    pub outcome: Vec<String>,
    /// The media id, whole
    #[arg(long, value_name = "ID")]
    pub media_id: Option<String>,
    /// The job id, whole
    #[arg(long, value_name = "ID")]
    pub job_id: Option<String>,
    /// Received at this time or later: 2026-11-24T08:00:00Z, 2026-11-24, or so
    /// long ago: 15m, 2h, 2d
    #[arg(long, value_name = "TIME")]
    pub since: Option<When>,
    /// Received before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<When>,
    /// A text anywhere in the body, ASCII letters in either case
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    pub q: Option<String>,
}

impl FilterArgs {
    /// The filter as parameters of a query. Times are instants from here on, so
    /// that all pages of an answer ask for the same.
    pub fn query(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let types: Vec<String> = self.r#type.iter().flat_map(|list| globs(list)).collect();
        let lists = [
            ("type", &types),
            ("source", &self.source),
            ("status", &self.status),
            ("outcome", &self.outcome),
        ];
        let singles = [
            ("handler", self.handler.clone()),
            ("media_id", self.media_id.clone()),
            ("job_id", self.job_id.clone()),
            ("since", self.since.map(|when| text_of(when, now))),
            ("until", self.until.map(|when| text_of(when, now))),
            ("q", self.q.clone()),
        ];
        let lists = lists
            .into_iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value.clone())));
        let singles = singles
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        lists.chain(singles).collect()
    }

    /// The filter as members of a JSON object; names that can have several
    /// values have a list.
    pub fn members(&self, now: Timestamp) -> Map<String, Value> {
        let mut members = Map::new();
        for (name, value) in self.query(now) {
            let value = Value::from(value);
            if matches!(name, "type" | "source" | "status" | "outcome") {
                let list = members
                    .entry(name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    list.push(value);
                }
            } else {
                members.insert(name.to_owned(), value);
            }
        }
        members
    }
}

/// The globs of a list; a comma within braces belongs to a glob.
fn globs(list: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let separates = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    list.split(separates).map(str::to_owned).collect()
}

fn text_of(when: When, now: Timestamp) -> String {
    format!("{:.3}", when.instant(now))
}

fn parse_text(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(format!("give 1 to {TEXT_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        filter: FilterArgs,
    }

    fn parsed(arguments: &[&str]) -> Result<FilterArgs, clap::Error> {
        let all = ["x"].iter().chain(arguments);
        Program::try_parse_from(all).map(|program| program.filter)
    }

    #[test]
    fn flags_become_parameters_and_members() {
        let now: Timestamp = "2026-11-24T17:00:00Z".parse().unwrap();
        let filter = parsed(&[
            "--type",
            "{A,B}*,ProduceMediaComplete",
            "--status",
            "dead",
            "--status",
            "pending",
            "--handler",
            "cms",
            "--media-id",
            "m",
            "--since",
            "2h",
            "--q",
            "a&b",
        ])
        .unwrap();
        assert_eq!(
            Value::Object(filter.members(now)),
            json!({
                "type": ["{A,B}*", "ProduceMediaComplete"],
                "status": ["dead", "pending"],
                "handler": "cms",
                "media_id": "m",
                "since": "2026-11-24T15:00:00.000Z",
                "q": "a&b",
            })
        );
        let query = filter.query(now);
        assert_eq!(query.len(), 8);
        assert!(query.contains(&("type", "ProduceMediaComplete".to_owned())));
        assert!(FilterArgs::default().members(now).is_empty());
    }

    #[test]
    fn what_no_service_would_take_is_bad_usage() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        for wrong in [
            ["--status", "failed"],
            ["--outcome", "success"],
            ["--since", "soon"],
            ["--q", ""],
            ["--q", &long],
        ] {
            assert!(parsed(&wrong).is_err(), "{wrong:?}");
        }
    }
}
