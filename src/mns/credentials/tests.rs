use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::clock::ManualClock;

/// Hands out numbered credentials that live for `life`, and counts.
#[derive(Debug)]
struct Numbered {
    life: Option<Duration>,
    clock: Arc<ManualClock>,
    fetched: Arc<AtomicU32>,
    fails: Arc<StdMutex<bool>>,
}

#[async_trait]
impl CredentialSource for Numbered {
    async fn fetch(&self) -> Result<Credential, CredentialsError> {
        let number = self.fetched.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::task::yield_now().await;
        if *self.fails.lock().unwrap() {
            return Err(CredentialsError("nobody answers".to_owned()));
        }
        Ok(Credential {
            access_key_id: format!("STS.{number}"),
            access_key_secret: "secret".into(),
            security_token: Some("token".into()),
            expires_at: self.life.map(|life| self.clock.now() + life),
        })
    }
}

struct Scene {
    credentials: Arc<Credentials>,
    clock: Arc<ManualClock>,
    fetched: Arc<AtomicU32>,
    fails: Arc<StdMutex<bool>>,
}

fn scene(life: Option<Duration>) -> Scene {
    let start = "2026-11-24T08:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::new(start));
    let (fetched, fails) = (Arc::default(), Arc::default());
    let source = Numbered {
        life,
        clock: Arc::clone(&clock),
        fetched: Arc::clone(&fetched),
        fails: Arc::clone(&fails),
    };
    let kept: Arc<dyn Clock> = clock.clone();
    Scene {
        credentials: Arc::new(Credentials::new(Box::new(source), kept)),
        clock,
        fetched,
        fails,
    }
}

impl Scene {
    /// Waits until so many fetches have ended, those beside requests included.
    async fn fetched(&self, times: u64) {
        for _ in 0..1000 {
            if self.credentials.state().fetches == times {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{} fetches, not {times}", self.credentials.state().fetches);
    }

    async fn id(&self) -> Result<String, CredentialsError> {
        let current = self.credentials.current().await?;
        Ok(current.access_key_id.clone())
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn one_fetch_serves_all_who_wait() {
    let scene = scene(Some(HOUR));
    let many = (0..50).map(|_| scene.credentials.current());
    for one in futures_util::future::join_all(many).await {
        assert_eq!(one.unwrap().access_key_id, "STS.1");
    }
    assert_eq!(scene.fetched.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn they_are_renewed_a_quarter_of_an_hour_ahead() {
    let scene = scene(Some(HOUR));
    assert_eq!(scene.id().await.unwrap(), "STS.1");
    scene.clock.advance(Duration::from_secs(44 * 60));
    assert_eq!(scene.id().await.unwrap(), "STS.1");
    scene.clock.advance(Duration::from_secs(2 * 60));
    assert_eq!(
        scene.id().await.unwrap(),
        "STS.1",
        "no request waits for a renewal"
    );
    scene.fetched(2).await;
    assert_eq!(scene.id().await.unwrap(), "STS.2");
}

#[tokio::test]
async fn a_short_life_is_used_for_three_quarters() {
    let scene = scene(Some(Duration::from_secs(40)));
    assert_eq!(scene.id().await.unwrap(), "STS.1");
    scene.clock.advance(Duration::from_secs(29));
    assert_eq!(scene.id().await.unwrap(), "STS.1");
    scene.clock.advance(Duration::from_secs(2));
    assert_eq!(scene.id().await.unwrap(), "STS.1");
    scene.fetched(2).await;
    assert_eq!(scene.id().await.unwrap(), "STS.2");
}

#[tokio::test]
async fn old_ones_are_used_while_they_are_valid_and_no_longer() {
    let scene = scene(Some(HOUR));
    assert_eq!(scene.id().await.unwrap(), "STS.1");
    *scene.fails.lock().unwrap() = true;
    scene.clock.advance(Duration::from_secs(50 * 60));
    assert_eq!(scene.id().await.unwrap(), "STS.1");
    scene.fetched(2).await;
    assert_eq!(scene.id().await.unwrap(), "STS.1");
    assert_eq!(
        scene.fetched.load(Ordering::SeqCst),
        2,
        "no fetch for each request"
    );
    scene.clock.advance(Duration::from_secs(11 * 60));
    let error = scene.id().await.unwrap_err();
    assert_eq!(error.to_string(), "no credentials: nobody answers");
    *scene.fails.lock().unwrap() = false;
    assert_eq!(scene.id().await.unwrap(), "STS.4");
}

#[tokio::test]
async fn refused_ones_are_replaced_once_for_all_who_had_them() {
    let scene = scene(None);
    let refused = scene.credentials.current().await.unwrap();
    let many = (0..10).map(|_| scene.credentials.other_than(&refused));
    for other in futures_util::future::join_all(many).await {
        assert_eq!(other.unwrap().unwrap().access_key_id, "STS.2");
    }
    assert_eq!(scene.fetched.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn one_failure_serves_all_who_wait() {
    let scene = scene(Some(HOUR));
    *scene.fails.lock().unwrap() = true;
    let many = (0..50).map(|_| scene.credentials.current());
    for one in futures_util::future::join_all(many).await {
        assert_eq!(
            one.unwrap_err().to_string(),
            "no credentials: nobody answers"
        );
    }
    assert_eq!(scene.fetched.load(Ordering::SeqCst), 1);
}

/// As of an issuer that takes connections and answers nobody.
#[tokio::test]
async fn an_issuer_that_hangs_delays_no_request_while_old_ones_are_valid() {
    #[derive(Debug)]
    struct Hangs(Arc<ManualClock>, AtomicU32);
    #[async_trait]
    impl CredentialSource for Hangs {
        async fn fetch(&self) -> Result<Credential, CredentialsError> {
            if self.1.fetch_add(1, Ordering::SeqCst) > 0 {
                std::future::pending::<()>().await;
            }
            Ok(Credential {
                access_key_id: "STS.1".to_owned(),
                access_key_secret: "secret".into(),
                security_token: None,
                expires_at: Some(self.0.now() + HOUR),
            })
        }
    }
    let start = "2026-11-24T08:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::new(start));
    let kept: Arc<dyn Clock> = clock.clone();
    let source = Hangs(Arc::clone(&clock), AtomicU32::new(0));
    let credentials = Arc::new(Credentials::new(Box::new(source), kept));
    credentials.current().await.unwrap();
    clock.advance(Duration::from_secs(50 * 60));
    for _ in 0..20 {
        let current = tokio::time::timeout(Duration::from_secs(5), credentials.current());
        assert_eq!(current.await.unwrap().unwrap().access_key_id, "STS.1");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_clock_that_is_ahead_of_all_expiry_does_not_ask_for_each_request() {
    let scene = scene(Some(Duration::ZERO));
    for _ in 0..20 {
        assert_eq!(scene.id().await.unwrap(), "STS.1");
    }
    scene.clock.advance(REFRESH_PAUSE);
    assert_eq!(scene.id().await.unwrap(), "STS.2");
}

#[tokio::test]
async fn many_refusals_of_the_same_ones_ask_once() {
    let fetched = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&fetched);
    let reread: Reread = Arc::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Credential {
            access_key_id: "id".to_owned(),
            access_key_secret: "secret".into(),
            security_token: None,
            expires_at: None,
        })
    });
    let clock = Arc::new(crate::clock::SystemClock);
    let credentials = Arc::new(Credentials::new(Box::new(Fixed::new(reread)), clock));
    let refused = credentials.current().await.unwrap();
    let many = (0..20).map(|_| credentials.other_than(&refused));
    for other in futures_util::future::join_all(many).await {
        assert!(other.unwrap().is_none());
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_same_ones_again_are_no_others() {
    let reread: Reread = Arc::new(|| {
        Ok(Credential {
            access_key_id: "id".to_owned(),
            access_key_secret: "secret".into(),
            security_token: None,
            expires_at: None,
        })
    });
    let clock = Arc::new(crate::clock::SystemClock);
    let credentials = Arc::new(Credentials::new(Box::new(Fixed::new(reread)), clock));
    let refused = credentials.current().await.unwrap();
    assert!(credentials.other_than(&refused).await.unwrap().is_none());
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let credential = Credential {
        access_key_id: "id-of-it".to_owned(),
        access_key_secret: "hush".into(),
        security_token: Some("quiet".into()),
        expires_at: None,
    };
    let text = format!("{credential:?}");
    for secret in ["id-of-it", "hush", "quiet"] {
        assert!(!text.contains(secret), "{text}");
    }
}

mod chain {
    use super::*;

    fn chain(home: &std::path::Path, variables: &[(&str, &str)]) -> Chain {
        let all = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let home = [("HOME".to_owned(), home.display().to_string())];
        // No test may ask the address of the metadata service.
        let none = [(
            "ALIBABA_CLOUD_ECS_METADATA_DISABLED".to_owned(),
            "true".to_owned(),
        )];
        Chain::new(Variables::new(home.into_iter().chain(none).chain(all)))
    }

    const PAIR: [(&str, &str); 2] = [
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "id-env"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret-env"),
    ];

    fn write_files(home: &std::path::Path) {
        std::fs::create_dir_all(home.join(".aliyun")).unwrap();
        std::fs::create_dir_all(home.join(".alibabacloud")).unwrap();
        std::fs::write(
            home.join(".aliyun/config.json"),
            r#"{"current":"p","profiles":[{"name":"p","mode":"StsToken","access_key_id":"id-cli","access_key_secret":"s","sts_token":"t"}]}"#,
        )
        .unwrap();
        std::fs::write(
            home.join(".alibabacloud/credentials.ini"),
            "[default]\ntype = access_key\naccess_key_id = id-ini\naccess_key_secret = s\n",
        )
        .unwrap();
    }

    #[tokio::test]
    async fn places_are_looked_at_in_the_official_order() {
        let home = tempfile::tempdir().unwrap();
        write_files(home.path());
        let found = |variables: Vec<(&'static str, &'static str)>| {
            let chain = chain(home.path(), &variables);
            async move { (chain.fetch().await.unwrap(), chain.would_use().await) }
        };
        let mut with_token = PAIR.to_vec();
        with_token.push(("ALIBABA_CLOUD_SECURITY_TOKEN", "token-env"));
        let (credential, place) = found(with_token).await;
        assert_eq!(credential.access_key_id, "id-env");
        assert_eq!(
            credential.security_token.unwrap().expose_secret(),
            "token-env"
        );
        assert!(place.contains("the environment"), "{place}");
        let (credential, place) = found(vec![]).await;
        assert_eq!(credential.access_key_id, "id-cli");
        assert!(credential.security_token.is_some());
        assert!(place.contains("aliyun command"), "{place}");
        let off = vec![("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "true")];
        let (credential, place) = found(off).await;
        assert_eq!(credential.access_key_id, "id-ini");
        assert!(place.contains("profile file"), "{place}");
    }

    #[tokio::test]
    async fn a_profile_that_cannot_be_used_is_passed_over_and_said() {
        let home = tempfile::tempdir().unwrap();
        write_files(home.path());
        let cli = home.path().join(".aliyun/config.json");
        let ini = home.path().join(".alibabacloud/credentials.ini");
        let role = r#"{"current":"p","profiles":[{"name":"p","mode":"RamRoleArn","access_key_id":"hidden-id","access_key_secret":"hidden-secret"}]}"#;
        std::fs::write(&cli, role).unwrap();
        let place = chain(home.path(), &[]).would_use().await;
        assert!(place.starts_with("the profile file"), "{place}");
        for words in ["profile \"p\"", "\"RamRoleArn\"", "AK and StsToken"] {
            assert!(place.contains(words), "{place}");
        }
        assert!(!place.contains("hidden"), "{place}");
        let role = "[other]\ntype = access_key\n[ default ]\nrole_arn = x\ntype = ram_role_arn\naccess_key_id = hidden\n[last]\ntype = sts\n";
        std::fs::write(&ini, role).unwrap();
        let error = chain(home.path(), &[])
            .fetch()
            .await
            .unwrap_err()
            .to_string();
        for words in ["\"RamRoleArn\"", "\"ram_role_arn\"", "set ALIBABA_CLOUD"] {
            assert!(error.contains(words), "{error}");
        }
        assert!(!error.contains("hidden"), "{error}");
        // What is named and not there is said as well; what nobody named is not.
        let named = [
            ("ALIBABA_CLOUD_CREDENTIALS_FILE", "/does/not/exist.ini"),
            ("ALIBABA_CLOUD_PROFILE", "prod"),
        ];
        let place = chain(home.path(), &named).would_use().await;
        assert!(place.contains("has no profile \"prod\""), "{place}");
        assert!(place.contains("cannot read /does/not/exist.ini"), "{place}");
        std::fs::remove_file(&cli).unwrap();
        std::fs::remove_file(&ini).unwrap();
        let place = chain(home.path(), &[]).would_use().await;
        assert_eq!(place, "nowhere: none of the usual places has any");
    }

    #[tokio::test]
    async fn where_nothing_is_found_the_error_says_what_to_set() {
        let home = tempfile::tempdir().unwrap();
        let chain = chain(home.path(), &[]);
        let error = chain.fetch().await.unwrap_err().to_string();
        assert!(error.contains("ALIBABA_CLOUD_ACCESS_KEY_ID"), "{error}");
        assert!(chain.would_use().await.starts_with("nowhere"));
    }

    #[tokio::test]
    async fn a_place_that_is_configured_and_fails_ends_the_search() {
        let home = tempfile::tempdir().unwrap();
        write_files(home.path());
        let missing = home.path().join("no-token").display().to_string();
        let variables = [
            ("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r"),
            (
                "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
                "acs:ram::1:oidc-provider/p",
            ),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", missing.as_str()),
        ];
        let error = chain(home.path(), &variables).fetch().await.unwrap_err();
        assert!(error.to_string().contains("OIDC"), "{error}");
    }
}
