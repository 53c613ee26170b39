//! `check`: says everything that is wrong with the configuration, or shows
//! what it means. Opens no port and creates no file.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::mns::QueueConfig;
use crate::request::SourceName;
use crate::settings::{self, LoadError, Loaded};

/// Bad usage or configuration, as `sysexits.h` numbers it.
const EXIT_USAGE: u8 = 64;

/// Runs the command for the configuration that `config` names, or for the one
/// at the usual places.
///
/// Standard output gets one line per problem, beginning with its key, and one
/// per warning, beginning with `warning:`; after the warnings follows the whole
/// configuration as TOML, with secrets masked. Exit code 0, warnings or not;
/// 64 where there is a problem. Which file was read is said before the
/// configuration, and where there is a problem on standard error.
pub fn run(config: Option<&Path>) -> ExitCode {
    let loaded = settings::load(config, settings::process_environment());
    let code = if loaded.is_ok() { 0 } else { EXIT_USAGE };
    let located = settings::located(config, settings::process_environment());
    if let (Err(_), Some(path)) = (&loaded, &located) {
        eprintln!("configuration {}", path.display());
    }
    // Whoever closed our output has seen enough; the exit code says the rest.
    let _ = report(&loaded, &mut io::stdout().lock());
    ExitCode::from(code)
}

fn report(loaded: &Result<Loaded, LoadError>, out: &mut dyn Write) -> io::Result<()> {
    match loaded {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                writeln!(out, "{warning}")?;
            }
            let path = std::path::absolute(&loaded.path);
            let path = path.as_ref().unwrap_or(&loaded.path);
            writeln!(out, "# configuration {}: no problems", path.display())?;
            for (source, place) in credentials(&loaded.settings.queues) {
                writeln!(out, "# sources.{source}: credentials from {place}")?;
            }
            write!(out, "{}", settings::masked(loaded))?;
        }
        Err(error) => {
            writeln!(out, "{error}")?;
            if let LoadError::Settings(error) = error {
                for warning in &error.warnings {
                    writeln!(out, "{warning}")?;
                }
            }
        }
    }
    out.flush()
}

/// Where each queue's credentials would come from, without their secrets.
fn credentials<'a>(queues: &'a [QueueConfig]) -> Vec<(&'a SourceName, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let would_use = |queue: &QueueConfig| match &runtime {
        Ok(runtime) => runtime.block_on(queue.credentials.would_use()),
        Err(error) => format!("a place that cannot be told here: {error}"),
    };
    let place = |queue: &'a QueueConfig| (&queue.name, would_use(queue));
    queues.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(toml: &str) -> Vec<String> {
        let loaded = settings::from_toml(toml, Path::new("t.toml"), []);
        let mut out = Vec::new();
        report(&loaded, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    const SOURCE: &str =
        "[sources.a]\nkind = \"http\"\npath = \"/a\"\nauth = { scheme = \"none\" }\n";

    #[test]
    fn warnings_come_first_and_the_result_after_them() {
        let lines = lines(SOURCE);
        assert!(lines[0].starts_with("warning: handlers: "), "{lines:?}");
        assert!(
            lines[1].starts_with("warning: sources.a.auth.scheme: "),
            "{lines:?}"
        );
        assert!(lines[2].starts_with("# configuration /"), "{lines:?}");
        assert!(lines[2].ends_with("/t.toml: no problems"), "{lines:?}");
        let result = lines[3..].join("\n");
        let parsed: toml::Table = toml::from_str(&result).unwrap();
        assert_eq!(parsed["server"]["ack_deadline"].as_str(), Some("2s"));
    }

    #[test]
    fn problems_are_one_line_each_beginning_with_the_key() {
        let lines = lines(&format!(
            "{SOURCE}\n[server]\nlisten = 1\nkeepalive = \"1s\"\n"
        ));
        assert!(
            lines[0].starts_with("server.keepalive: unknown key"),
            "{lines:?}"
        );
        assert!(
            lines[1].starts_with("server.listen: expected "),
            "{lines:?}"
        );
        assert!(lines[2].starts_with("warning: "), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("no problems")));
    }
}
