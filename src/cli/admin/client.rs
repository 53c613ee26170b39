//! A client of the admin API, which says what to do where it is not answered.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::cli::usage::UsageError;
use crate::escape::OneLine;
use crate::handler::forward::failure;
use crate::handler::tls::{Trust, client_config};

/// A connection that is not there after this will not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer that gives no sign of life for this long is gone.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(15);

/// The service gives every answer 10 s; the way there and back takes the rest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a streamed answer may pause: a search for rare events takes its time.
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// A longer answer is none that this program could show.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// This much of what is wrong is shown.
const DETAIL_CHARS_MAX: usize = 2000;

/// The way to a service.
pub struct Access {
    /// The admin listener, with or without a path before the API's own.
    pub base: Url,
    /// Who says that it is there, for messages.
    pub found_by: String,
    /// What opens it.
    pub token: Option<SecretString>,
    /// Where the token comes from, for messages.
    pub token_from: TokenFrom,
}

/// Where a token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFrom {
    /// There is none.
    Nowhere,
    /// `--token-file`.
    File(PathBuf),
    /// The configuration in this file.
    Configuration(PathBuf),
    /// The configuration in this file has one, for another address.
    Withheld(PathBuf),
}

/// A service, ready to be asked. `Display` is its address.
pub struct AdminClient {
    http: Client,
    base: Url,
    found_by: String,
    authorization: Option<HeaderValue>,
    token_from: TokenFrom,
}

/// Why there is no answer that helps. `Display` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody answers there.
    #[error("{base} does not answer: {reason}; is the service running? ({found_by})")]
    Unreachable {
        /// The address that was tried.
        base: String,
        /// What happened.
        reason: String,
        /// Who says that it is there.
        found_by: String,
    },
    /// It wants a token, and another one than was sent.
    #[error("{base} does not let us in (401): {hint}")]
    Unauthorized {
        /// The address.
        base: String,
        /// What to do.
        hint: String,
    },
    /// It answers, and not for us.
    #[error("{base} refuses this (403): {detail}")]
    Forbidden {
        /// The address.
        base: String,
        /// Why, or what to do.
        detail: String,
    },
    /// The request cannot be understood.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done now.
    #[error("{0}")]
    Conflict(String),
    /// It answers that it cannot answer.
    #[error("{base} cannot answer now (status {status}): {detail}")]
    Unavailable {
        /// The address.
        base: String,
        /// The status.
        status: u16,
        /// Why.
        detail: String,
    },
    /// The answer is none of this API.
    #[error(
        "{base} answers something that cannot be read ({problem}); is it the admin listener of an ims-receiver, and not older than this program?"
    )]
    Unreadable {
        /// The address.
        base: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl AdminError {
    /// Whether the same request may be answered in a while.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unavailable { .. })
    }
}

/// What the service says about a failure.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

impl AdminClient {
    /// A client for this service.
    ///
    /// # Errors
    /// [`UsageError`] where the token cannot stand in a header field.
    pub fn new(access: Access) -> Result<Self, UsageError> {
        let trust = match access.base.scheme() {
            "https" => Trust::System(None),
            _ => Trust::Nobody,
        };
        let broken = |problem: String| UsageError(format!("no HTTP client can be made: {problem}"));
        let tls = client_config(trust, &[b"http/1.1"]).map_err(|e| broken(e.to_string()))?;
        let http = Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("ims-receiver/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(LIVENESS_TIMEOUT)
            .tcp_user_timeout(LIVENESS_TIMEOUT)
            .build()
            .map_err(|error| broken(error.without_url().to_string()))?;
        let authorization = access.token.map(|token| {
            let value = format!("Bearer {}", token.expose_secret());
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                UsageError("the token cannot be sent; a token is visible ASCII".to_owned())
            })?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            http,
            base: access.base,
            found_by: access.found_by,
            authorization: authorization.transpose()?,
            token_from: access.token_from,
        })
    }

    /// Whether requests carry a token.
    pub fn sends_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// The answer of `path` as JSON text.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn text(&self, path: &str, query: &[(&str, String)]) -> Result<String, AdminError> {
        let request = self.http.get(self.url(path, query));
        let request = request.header(ACCEPT, "application/json");
        self.whole(request).await
    }

    /// The answer of `path`, read.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, AdminError> {
        let text = self.text(path, query).await?;
        self.read(&text)
    }

    /// What a change at `path` led to, as JSON text.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<String, AdminError> {
        let bytes = Bytes::from(body.to_string());
        self.post_bytes(path, "application/json", bytes).await
    }

    /// The same with any body.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn post_bytes(
        &self,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<String, AdminError> {
        let request = self.http.post(self.url(path, &[]));
        let request = request.header(CONTENT_TYPE, content_type).body(body);
        self.whole(request).await
    }

    /// Begins to read an answer that comes in pieces.
    ///
    /// # Errors
    /// [`AdminError`]
    pub async fn open(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Pieces<'_>, AdminError> {
        let asked = self.answer(self.http.get(self.url(path, query)));
        let response = match timeout(PAUSE_MAX, asked).await {
            Ok(response) => response?,
            Err(_) => return Err(self.silent(PAUSE_MAX)),
        };
        Ok(Pieces {
            response,
            client: self,
            pause_max: PAUSE_MAX,
        })
    }

    /// Status and text of a path that needs no token, whatever the status.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`]
    pub async fn probe(&self, path: &str) -> Result<(u16, String), AdminError> {
        let request = self.http.get(self.url(path, &[])).timeout(ANSWER_TIMEOUT);
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status().as_u16();
        let text = self.limited(response).await?;
        Ok((status, text))
    }

    /// Reads a JSON text.
    ///
    /// # Errors
    /// [`AdminError::Unreadable`]
    pub fn read<T: DeserializeOwned>(&self, text: &str) -> Result<T, AdminError> {
        serde_json::from_str(text).map_err(|error| self.unreadable(error.to_string()))
    }

    fn url(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}{path}"));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn whole(&self, request: RequestBuilder) -> Result<String, AdminError> {
        let response = self.answer(request.timeout(ANSWER_TIMEOUT)).await?;
        self.limited(response).await
    }

    /// The answer, where it is a success.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, AdminError> {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let response = request.headers(headers).send().await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    async fn limited(&self, mut response: Response) -> Result<String, AdminError> {
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| self.unreachable(&e))? {
            if answer.len() + piece.len() > ANSWER_BYTES_MAX {
                let mib = ANSWER_BYTES_MAX >> 20;
                return Err(self.unreadable(format!("it is longer than {mib} MiB")));
            }
            answer.extend_from_slice(&piece);
        }
        String::from_utf8(answer).map_err(|_| self.unreadable("it is not UTF-8".to_owned()))
    }

    async fn refusal(&self, response: Response) -> AdminError {
        let status = response.status();
        let text = self.limited(response).await.unwrap_or_default();
        let problem = serde_json::from_str::<Problem>(&text).ok();
        let told = problem.as_ref().and_then(|problem| problem.detail.clone());
        let title = problem.and_then(|problem| problem.title);
        let base = self.to_string();
        let said = || {
            let text = told.clone().or(title.clone());
            let text = text.unwrap_or_else(|| status.to_string());
            let shown: String = text.chars().take(DETAIL_CHARS_MAX).collect();
            OneLine(&shown).to_string()
        };
        match status {
            StatusCode::UNAUTHORIZED => AdminError::Unauthorized {
                base,
                hint: self.token_hint(),
            },
            StatusCode::FORBIDDEN if told.is_some() => AdminError::Forbidden {
                base,
                detail: said(),
            },
            StatusCode::FORBIDDEN => AdminError::Forbidden {
                base,
                detail: FORBIDDEN.to_owned(),
            },
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                AdminError::BadRequest(said())
            }
            StatusCode::NOT_FOUND => {
                AdminError::NotFound(format!("{base} has nothing there (404): {}", said()))
            }
            StatusCode::CONFLICT => AdminError::Conflict(said()),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                AdminError::Unavailable {
                    base,
                    status: status.as_u16(),
                    detail: said(),
                }
            }
            status => self.unreadable(format!("status {status}")),
        }
    }

    fn token_hint(&self) -> String {
        match &self.token_from {
            TokenFrom::Nowhere => {
                "it wants a token; give the file that holds it with --token-file FILE".to_owned()
            }
            TokenFrom::File(file) => format!(
                "the token in {} is not its admin token; compare it with admin.token_file of the service",
                file.display()
            ),
            TokenFrom::Configuration(file) => format!(
                "the admin token of {} is not the running service's; was it changed since the start? Restart the service, or give the right one with --token-file FILE",
                file.display()
            ),
            TokenFrom::Withheld(file) => format!(
                "it wants a token, and that of {} is sent to its own address only; give the file that holds the right one with --token-file FILE",
                file.display()
            ),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> AdminError {
        let host = self.base.host_str().unwrap_or_default();
        let authority = match self.base.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let reason = if error.is_timeout() && !error.is_connect() {
            format!(
                "no whole answer within {} s ({authority})",
                ANSWER_TIMEOUT.as_secs()
            )
        } else {
            failure::reason(error, &authority, CONNECT_TIMEOUT)
        };
        self.gone(reason)
    }

    /// The error of a stream that ended by itself, as at a stop of the service.
    pub fn ended(&self) -> AdminError {
        self.gone("the stream ended".to_owned())
    }

    fn silent(&self, patience: Duration) -> AdminError {
        self.gone(format!("nothing came for {} s", patience.as_secs()))
    }

    fn gone(&self, reason: String) -> AdminError {
        AdminError::Unreachable {
            base: self.to_string(),
            reason,
            found_by: self.found_by.clone(),
        }
    }

    fn unreadable(&self, problem: String) -> AdminError {
        AdminError::Unreadable {
            base: self.to_string(),
            problem: OneLine(&problem).to_string(),
        }
    }
}

/// Why a service without a token refuses, where it does not say.
const FORBIDDEN: &str = "without a token it serves this machine only, under its own address: name it \
                         as 127.0.0.1 or localhost, or give it a token (admin.token_file)";

/// An answer that comes in pieces.
pub struct Pieces<'a> {
    response: Response,
    client: &'a AdminClient,
    pause_max: Duration,
}

impl Pieces<'_> {
    /// The same with another patience between two pieces.
    pub fn with_pause_max(mut self, pause_max: Duration) -> Self {
        self.pause_max = pause_max;
        self
    }

    /// The next piece; `None` at the end of a whole answer.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`] where the answer breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, AdminError> {
        match timeout(self.pause_max, self.response.chunk()).await {
            Ok(piece) => piece.map_err(|error| self.client.unreachable(&error)),
            Err(_) => Err(self.client.silent(self.pause_max)),
        }
    }
}

impl fmt::Display for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminClient")
            .field("base", &self.base.as_str())
            .field("token_from", &self.token_from)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use axum::Router;
    use axum::http::HeaderMap as Fields;
    use axum::routing::{get, post};

    use super::*;

    /// A client of a service that answers like this.
    pub(in crate::cli) async fn fake(router: Router, token: Option<&str>) -> AdminClient {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        AdminClient::new(Access {
            base: Url::parse(&format!("http://{address}")).unwrap(),
            found_by: "the test names it".to_owned(),
            token: token.map(SecretString::from),
            token_from: TokenFrom::Nowhere,
        })
        .unwrap()
    }

    fn answering(status: u16, body: &'static str) -> Router {
        let status = StatusCode::from_u16(status).unwrap();
        Router::new().fallback(move || async move { (status, body) })
    }

    #[tokio::test]
    async fn failures_say_what_to_do() {
        let told = r#"{"title":"x","detail":"`limit`: write a number\u001b[2J"}"#;
        for (status, body, said) in [
            (401, "", "it wants a token; give the file"),
            (403, "", "name it as 127.0.0.1 or localhost"),
            (403, told, "(403): `limit`"),
            (400, told, r"`limit`: write a number\u{1b}[2J"),
            (409, told, "write a number"),
            (404, "<html>", "has nothing there (404)"),
            (503, told, "cannot answer now (status 503): `limit`"),
            (429, "", "status 429"),
            (302, "", "status 302"),
            (200, "<html>", "is it the admin listener"),
        ] {
            let client = fake(answering(status, body), None).await;
            let error = client.get::<serde_json::Value>("/api/x", &[]).await;
            let error = error.unwrap_err();
            assert!(error.to_string().contains(said), "{status}: {error}");
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
            assert_eq!(error.is_temporary(), status == 503 || status == 429);
        }
    }

    #[tokio::test]
    async fn requests_carry_the_token_and_their_query() {
        let router = Router::new()
            .route(
                "/api/x",
                get(|fields: Fields, uri: axum::http::Uri| async move {
                    let token = fields["authorization"].to_str().unwrap().to_owned();
                    serde_json::json!([token, uri.query()]).to_string()
                }),
            )
            .route(
                "/api/y",
                post(|fields: Fields, body: String| async move {
                    let kind = fields["content-type"].to_str().unwrap().to_owned();
                    serde_json::json!([kind, body]).to_string()
                }),
            );
        let client = fake(router, Some("s3cret")).await;
        let query = [("q", "a&b= ü".to_owned()), ("type", "A*".to_owned())];
        let (token, query): (String, String) = client.get("/api/x", &query).await.unwrap();
        assert_eq!(token, "Bearer s3cret");
        assert_eq!(query, "q=a%26b%3D+%C3%BC&type=A*");
        let text = client.post("/api/y", &serde_json::json!({})).await.unwrap();
        assert_eq!(text, r#"["application/json","{}"]"#);
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_an_error() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n";
            stream.write_all(head).await.unwrap();
        });
        let client = AdminClient::new(Access {
            base: Url::parse(&format!("http://{address}")).unwrap(),
            found_by: String::new(),
            token: None,
            token_from: TokenFrom::Nowhere,
        });
        let client = client.unwrap();
        let mut pieces = client.open("/api/export", &[]).await.unwrap();
        assert_eq!(pieces.next().await.unwrap().unwrap(), "{}\n");
        assert!(pieces.next().await.is_err());
    }
}
