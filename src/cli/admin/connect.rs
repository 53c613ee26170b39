//! Which service is asked, and with which token.

use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::Url;
use secrecy::SecretString;

use super::client::{Access, AdminClient, TokenFrom};
use crate::cli::health::reachable;
use crate::cli::usage::UsageError;
use crate::settings::{self, LoadError, Loaded, secrets};

/// Where the service is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Service")]
pub struct AdminArgs {
    /// The admin listener, such as http://127.0.0.1:9090 [default: admin.listen
    /// of the configuration, 0.0.0.0 meaning this machine]
    #[arg(long, global = true, value_name = "URL", value_parser = parse_url)]
    pub admin: Option<Url>,
    /// A file with the admin token [default: the configuration's token, which
    /// is sent to its own address and to this machine only]
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl AdminArgs {
    /// The service to ask. Without `--admin` a configuration is needed; with it
    /// one is used if it is there, for the token.
    ///
    /// # Errors
    /// [`UsageError`] where there is neither, or where the file of the token
    /// cannot be used.
    pub fn connect(&self, config: Option<&Path>) -> Result<AdminClient, UsageError> {
        let loaded = settings::load(config, settings::process_environment());
        let loaded = match loaded {
            Ok(loaded) => Some(loaded),
            Err(_) if self.admin.is_some() && config.is_none() => None,
            Err(error) => return Err(no_configuration(&error)),
        };
        self.connect_with(loaded.as_ref())
    }

    /// The service to ask, by a configuration that is loaded already.
    ///
    /// # Errors
    /// As [`AdminArgs::connect`].
    pub fn connect_with(&self, loaded: Option<&Loaded>) -> Result<AdminClient, UsageError> {
        let listener = loaded.map(|loaded| (loaded, loaded.settings.admin.listen));
        let (base, found_by) = match (&self.admin, listener) {
            (Some(url), _) => (url.clone(), "--admin names it".to_owned()),
            (None, Some((loaded, listen))) => {
                let url = format!("http://{}", reachable(listen)?);
                let path = loaded.path.display();
                let by = format!("admin.listen of {path} names it; --admin URL names another");
                (Url::parse(&url).map_err(|_| bad_url(&url))?, by)
            }
            (None, None) => return Err(UsageError(NEITHER.to_owned())),
        };
        let (token, token_from) = self.token(&base, loaded)?;
        AdminClient::new(Access {
            base,
            found_by,
            token,
            token_from,
        })
    }

    fn token(
        &self,
        base: &Url,
        loaded: Option<&Loaded>,
    ) -> Result<(Option<SecretString>, TokenFrom), UsageError> {
        if let Some(file) = &self.token_file {
            let token = secrets::read_one(file)
                .map_err(|error| UsageError(format!("--token-file: {error}; {}", error.hint())))?;
            return Ok((Some(token), TokenFrom::File(file.clone())));
        }
        let Some(loaded) = loaded else {
            return Ok((None, TokenFrom::Nowhere));
        };
        let Some(token) = &loaded.settings.admin.token else {
            return Ok((None, TokenFrom::Nowhere));
        };
        // A token goes to nobody whom the configuration does not name.
        if self.admin.is_some() && !is_ours(base, loaded) {
            return Ok((None, TokenFrom::Withheld(loaded.path.clone())));
        }
        let from = TokenFrom::Configuration(loaded.path.clone());
        Ok((Some(token.clone()), from))
    }
}

const NEITHER: &str = "no service is named: give --admin URL, or --config FILE";

/// Whether a URL names this machine, or the address of the configuration.
fn is_ours(base: &Url, loaded: &Loaded) -> bool {
    let host = base.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    host.parse::<std::net::IpAddr>()
        .is_ok_and(|ip| ip.to_canonical().is_loopback() || ip == loaded.settings.admin.listen.ip())
}

fn parse_url(text: &str) -> Result<Url, String> {
    let written = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let url = Url::parse(&written).map_err(|_| EXAMPLE.to_owned())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(EXAMPLE.to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("leave user and password out; the token goes into --token-file".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(EXAMPLE.to_owned());
    }
    Ok(url)
}

const EXAMPLE: &str = "write it like http://127.0.0.1:9090";

fn bad_url(url: &str) -> UsageError {
    UsageError(format!("{url} cannot be asked; {EXAMPLE}"))
}

fn no_configuration(error: &LoadError) -> UsageError {
    match error {
        LoadError::NotFound { tried, .. } => {
            let tried: Vec<String> = tried
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            UsageError(format!(
                "{NEITHER} (there is no configuration at {})",
                tried.join(" or ")
            ))
        }
        error => UsageError(format!(
            "{error}\nThe configuration cannot be used; --admin URL and --token-file FILE do without it"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_no_secret() {
        for (written, meant) in [
            ("http://127.0.0.1:9090", "http://127.0.0.1:9090/"),
            ("127.0.0.1:9090", "http://127.0.0.1:9090/"),
            (
                "https://ops.example.com/ims/",
                "https://ops.example.com/ims/",
            ),
        ] {
            assert_eq!(parse_url(written).unwrap().as_str(), meant);
        }
        for wrong in [
            "ftp://h/",
            "http://",
            "http://u:p@h/",
            "http://h/?token=x",
            "",
        ] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_configurations_token_goes_to_nobody_else() {
        let toml = r#"
[admin]
listen = "0.0.0.0:9099"
token = "s3cret-token"
[sources.default]
kind = "http"
path = "/x"
callback_urls = ["https://h.example/x"]
auth = { scheme = "ims", keys = ["TestKey001TestKey001"] }
"#;
        let loaded = settings::from_toml(toml, Path::new("r.toml"), []).unwrap();
        let client = AdminArgs::default().connect_with(Some(&loaded)).unwrap();
        assert_eq!(client.to_string(), "http://127.0.0.1:9099");
        assert!(client.sends_token());
        for (url, sent) in [
            ("http://localhost:1", true),
            ("http://[::1]:1", true),
            ("http://elsewhere.example:9099", false),
            ("http://127.0.0.1.elsewhere.example", false),
        ] {
            let args = AdminArgs {
                admin: Some(parse_url(url).unwrap()),
                token_file: None,
            };
            let client = args.connect_with(Some(&loaded)).unwrap();
            assert_eq!(client.sends_token(), sent, "{url}");
            assert!(!format!("{client:?}").contains("s3cret"), "{client:?}");
        }
        assert!(AdminArgs::default().connect_with(None).is_err());
    }
}
