//! The official chain: the places where credentials of Alibaba Cloud are looked
//! for, in the order in which its own tools look.
//!
//! The providers are those of `reqsign-aliyun-oss`, whose own order is another
//! one. A place that is configured and fails ends the search: to go on would
//! sign in the name of somebody else.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::{Request, Response};
use bytes::Bytes;
use jiff::Timestamp;
use reqsign_aliyun_oss::{
    AssumeRoleWithOidcCredentialProvider, ConfigFileCredentialProvider,
    CredentialsFileCredentialProvider, CredentialsUriCredentialProvider,
    EcsRamRoleCredentialProvider, EnvCredentialProvider,
};
use reqsign_core::{Context, Env, Error, FileRead, HttpSend, ProvideCredentialDyn};
use tokio::sync::OnceCell;

use super::{Credential, CredentialSource, CredentialsError, profiles};
use crate::handler::tls::Trust;
use crate::mns::error::printable;
use crate::mns::wire::http;

/// The metadata service of an instance is next door, or not there at all.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// STS and whoever a credentials URI names.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a provider's own words is shown; some repeat a whole answer.
const WORDS_BYTES_MAX: usize = 300;

/// Answers with credentials are short.
const ANSWER_BYTES_MAX: usize = 64 << 10;

type Provider = dyn ProvideCredentialDyn<Credential = reqsign_aliyun_oss::Credential>;

/// The environment that the chain looks at.
#[derive(Debug, Clone, Default)]
pub struct Variables(HashMap<String, String>);

impl Variables {
    /// These variables and no others.
    pub fn new(all: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(all.into_iter().collect())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        let value = self.0.get(name);
        value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

impl Env for Variables {
    fn var(&self, key: &str) -> Option<String> {
        self.0.get(key).filter(|value| !value.is_empty()).cloned()
    }

    fn vars(&self) -> HashMap<String, String> {
        self.0.clone()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        self.var("HOME").map(PathBuf::from)
    }
}

/// The places, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Environment,
    Oidc,
    CliFile,
    ProfileFile,
    InstanceRole,
    Uri,
}

impl Place {
    const ALL: [Self; 6] = [
        Self::Environment,
        Self::Oidc,
        Self::CliFile,
        Self::ProfileFile,
        Self::InstanceRole,
        Self::Uri,
    ];

    /// The place in words, for `check` and for errors.
    fn name(self) -> &'static str {
        match self {
            Self::Environment => "the environment (ALIBABA_CLOUD_ACCESS_KEY_ID)",
            Self::Oidc => "the OIDC token of ALIBABA_CLOUD_OIDC_TOKEN_FILE",
            Self::CliFile => "the file of the aliyun command",
            Self::ProfileFile => "the profile file",
            Self::InstanceRole => "the role of the instance",
            Self::Uri => "ALIBABA_CLOUD_CREDENTIALS_URI",
        }
    }

    /// Whether somebody pointed to this place, so that it has to work.
    fn is_configured(self, variables: &Variables) -> bool {
        match self {
            Self::Environment => variables.has("ALIBABA_CLOUD_ACCESS_KEY_ID"),
            Self::Oidc => {
                variables.has("ALIBABA_CLOUD_ROLE_ARN")
                    && variables.has("ALIBABA_CLOUD_OIDC_PROVIDER_ARN")
                    && variables.has("ALIBABA_CLOUD_OIDC_TOKEN_FILE")
            }
            Self::CliFile => !variables.is_true("ALIBABA_CLOUD_CLI_PROFILE_DISABLED"),
            Self::ProfileFile => true,
            Self::InstanceRole => !variables.is_true("ALIBABA_CLOUD_ECS_METADATA_DISABLED"),
            Self::Uri => variables.has("ALIBABA_CLOUD_CREDENTIALS_URI"),
        }
    }

    /// Why a place that somebody wrote gave nothing.
    fn remark(self, variables: &Variables) -> Option<String> {
        match self {
            Self::CliFile => profiles::cli_file(variables),
            Self::ProfileFile => profiles::profile_file(variables),
            _ => None,
        }
    }

    /// Whether it answers without asking anybody over the network.
    fn is_local(self) -> bool {
        matches!(self, Self::Environment | Self::CliFile | Self::ProfileFile)
    }

    fn provider(self, variables: &Variables) -> Box<Provider> {
        match self {
            Self::Environment => Box::new(EnvCredentialProvider::new()),
            Self::Oidc => Box::new(oidc(variables)),
            Self::CliFile => Box::new(ConfigFileCredentialProvider::new()),
            Self::ProfileFile => Box::new(CredentialsFileCredentialProvider::new()),
            Self::InstanceRole => Box::new(EcsRamRoleCredentialProvider::new()),
            Self::Uri => Box::new(CredentialsUriCredentialProvider::new()),
        }
    }
}

/// The provider of the crate knows neither the region of STS nor our name.
fn oidc(variables: &Variables) -> AssumeRoleWithOidcCredentialProvider {
    let mut provider = AssumeRoleWithOidcCredentialProvider::new();
    if !variables.has("ALIBABA_CLOUD_ROLE_SESSION_NAME") {
        provider = provider.with_role_session_name("ims-receiver");
    }
    if !variables.has("ALIBABA_CLOUD_STS_ENDPOINT")
        && let Some(region) = variables.var("ALIBABA_CLOUD_STS_REGION")
    {
        let vpc = variables.is_true("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED");
        let host = if vpc { "sts-vpc" } else { "sts" };
        provider = provider.with_sts_endpoint(format!("https://{host}.{region}.aliyuncs.com"));
    }
    provider
}

/// Looks at all places in the official order, and stays with the first that
/// had credentials.
#[derive(Debug)]
pub struct Chain {
    variables: Variables,
    found: OnceCell<Place>,
}

impl Chain {
    /// A chain that looks at `variables`, and at the files and services that
    /// they name or that are usual.
    pub fn new(variables: Variables) -> Self {
        Self {
            variables,
            found: OnceCell::new(),
        }
    }

    /// Where credentials would come from, as far as that can be told without
    /// asking anybody over the network.
    pub async fn would_use(&self) -> String {
        let (place, remarks) = self.local_search().await;
        if remarks.is_empty() {
            place
        } else {
            format!("{place}; passed over: {}", remarks.join("; "))
        }
    }

    async fn local_search(&self) -> (String, Vec<String>) {
        let mut remarks = Vec::new();
        for place in Place::ALL {
            if !place.is_configured(&self.variables) {
                continue;
            }
            let name = place.name();
            if !place.is_local() {
                return (format!("{name}, which is asked at the start"), remarks);
            }
            match self.fetch_from(place).await {
                Ok(Some(_)) => return (name.to_owned(), remarks),
                Ok(None) => remarks.extend(place.remark(&self.variables)),
                Err(error) => return (format!("{name}, which cannot be used: {error}"), remarks),
            }
        }
        let nowhere = "nowhere: none of the usual places has any";
        (nowhere.to_owned(), remarks)
    }

    async fn fetch_from(&self, place: Place) -> Result<Option<Credential>, String> {
        let mut context = Context::new()
            .with_env(self.variables.clone())
            .with_file_read(Files);
        if !place.is_local() {
            context = context.with_http_send(Http::new(place)?);
        }
        let provider = place.provider(&self.variables);
        let found = provider.provide_credential_dyn(&context).await;
        match found.map_err(|error| printable(&error.to_string(), WORDS_BYTES_MAX))? {
            Some(found) => Ok(Some(ours(found)?)),
            None => Ok(None),
        }
    }
}

#[async_trait]
impl CredentialSource for Chain {
    async fn fetch(&self) -> Result<Credential, CredentialsError> {
        if let Some(place) = self.found.get() {
            return match self.fetch_from(*place).await {
                Ok(Some(credential)) => Ok(credential),
                Ok(None) => Err(CredentialsError(format!(
                    "{} has none any more",
                    place.name()
                ))),
                Err(error) => Err(CredentialsError(format!("{}: {error}", place.name()))),
            };
        }
        let (mut remarks, mut failed): (Vec<String>, _) = (Vec::new(), None);
        for place in Place::ALL {
            if !place.is_configured(&self.variables) {
                continue;
            }
            match self.fetch_from(place).await {
                Ok(Some(credential)) => {
                    tracing::info!(from = place.name(), "credentials found");
                    if !remarks.is_empty() {
                        let passed_over = remarks.join("; ");
                        tracing::warn!(passed_over, "credentials that come first cannot be used");
                    }
                    // Another task may have been first, with the same result.
                    self.found.set(place).ok();
                    return Ok(credential);
                }
                Ok(None) => remarks.extend(place.remark(&self.variables)),
                // Every machine is asked whether it is an instance, and most are none.
                Err(error) if place == Place::InstanceRole => {
                    failed = Some(format!("{}: {error}", place.name()));
                }
                Err(error) => {
                    return Err(CredentialsError(format!("{}: {error}", place.name())));
                }
            }
        }
        remarks.extend(failed);
        let remarks: String = remarks.iter().map(|one| format!("; {one}")).collect();
        Err(CredentialsError(format!(
            "none of the usual places has any{remarks}; set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or write `credentials`"
        )))
    }
}

fn ours(found: reqsign_aliyun_oss::Credential) -> Result<Credential, String> {
    if found.access_key_id.is_empty() || found.access_key_secret.is_empty() {
        return Err("the key or its secret is empty".to_owned());
    }
    let expires_at = found
        .expires_in
        .map(|at| Timestamp::from_second(at.as_second()))
        .transpose()
        .map_err(|_| "the time of expiry is out of range".to_owned())?;
    Ok(Credential {
        access_key_id: found.access_key_id,
        access_key_secret: found.access_key_secret.into(),
        security_token: found
            .security_token
            .filter(|token| !token.is_empty())
            .map(Into::into),
        expires_at,
    })
}

/// Reads files for the providers.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        tokio::fs::read(path)
            .await
            .map_err(|error| Error::config_invalid(format!("cannot read {path}: {error}")))
    }
}

/// Sends the requests of the providers. Its errors show no URL, which may hold
/// a token.
struct Http {
    client: reqwest::Client,
    timeout: Duration,
}

impl Http {
    fn new(place: Place) -> Result<Self, String> {
        // The metadata service speaks plain HTTP, and reading the system's
        // authorities takes a while.
        let (with_tls, timeout) = match place {
            Place::InstanceRole => (false, METADATA_TIMEOUT),
            _ => (true, TIMEOUT),
        };
        let trust = if with_tls {
            Trust::System(None)
        } else {
            Trust::Nobody
        };
        let client = http(trust, timeout);
        let client = client.map_err(|_| "the HTTP client cannot be made".to_owned())?;
        Ok(Self { client, timeout })
    }
}

impl HttpSend for Http {
    async fn http_send(&self, request: Request<Bytes>) -> reqsign_core::Result<Response<Bytes>> {
        let failed = |error: reqwest::Error| Error::unexpected(error.without_url().to_string());
        let mut request: reqwest::Request = request.try_into().map_err(failed)?;
        *request.timeout_mut() = Some(self.timeout);
        let mut response = self.client.execute(request).await.map_err(failed)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Error::unexpected("the answer is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = status;
        Ok(answer)
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}
