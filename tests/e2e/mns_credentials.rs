use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{Folder, body, output, wait_for};
use crate::mns::QUEUE;
use crate::mns_emulator::{Emulator, Happened, KEY_ID, KEY_SECRET, Key};

/// Answers every request with what `answer` makes of its first line and body.
struct Service {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Who hangs up gets no answer.
                let _ = serve(stream, &answer, &noted);
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("plain read").clone()
    }
}

fn serve(
    mut stream: TcpStream,
    answer: impl Fn(&str) -> (u16, String),
    noted: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        head.push_str(&line);
    }
    let mut content = vec![0; length];
    reader.read_exact(&mut content)?;
    let (status, text) = answer(&head);
    noted.lock().expect("plain push").push(head);
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// Makes temporary keys that live for `seconds` and are known to the emulator.
fn issuer(
    emulator: &Arc<Emulator>,
    seconds: i64,
) -> (Arc<AtomicU32>, impl Fn() -> [String; 4] + Send + use<>) {
    let issued = Arc::new(AtomicU32::new(0));
    let (count, emulator) = (Arc::clone(&issued), Arc::clone(emulator));
    let issue = move || {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
        let now = i64::try_from(now.as_secs()).expect("a time");
        let [id, secret, token] =
            ["STS.key", "secret", "token+/="].map(|text| format!("{text}{number}"));
        let key = Key {
            secret: secret.clone(),
            token: Some(token.clone()),
            expires: Some((now + seconds) * 1000),
        };
        emulator.set_key(&id, key);
        let expires = jiff::Timestamp::from_second(now + seconds).expect("a time");
        [id, secret, token, expires.to_string()]
    };
    (issued, issue)
}

fn metadata_answer([id, secret, token, expires]: &[String; 4]) -> String {
    serde_json::json!({
        "Code": "Success",
        "AccessKeyId": id,
        "AccessKeySecret": secret,
        "SecurityToken": token,
        "Expiration": expires,
    })
    .to_string()
}

/// A queue whose credentials come from the environment or further on.
fn folder(emulator: &Emulator) -> Folder {
    let source = format!(
        "\n[sources.queue]\nkind = \"mns\"\nendpoint = \"{}\"\nqueue = \"{QUEUE}\"\nwait = \"1s\"\n",
        emulator.url()
    );
    let folder = Folder::with_log().configured(&source);
    let home = folder.path("home");
    std::fs::create_dir(&home).expect("a folder");
    // Nothing of whoever runs the tests, and no address outside this machine.
    let folder = folder.variable("HOME", home.display()).variable(
        "ALIBABA_CLOUD_ECS_METADATA_SERVICE_ENDPOINT",
        "http://127.0.0.1:9",
    );
    [
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ROLE_ARN",
        "ALIBABA_CLOUD_CREDENTIALS_FILE",
        "ALIBABA_CLOUD_PROFILE",
        "ALIBABA_CLOUD_CREDENTIALS_URI",
    ]
    .into_iter()
    .fold(folder, |folder, name| folder.variable(name, ""))
}

fn emulator() -> Arc<Emulator> {
    let emulator = Emulator::start(&[QUEUE]);
    emulator.remove_key(KEY_ID);
    Arc::new(emulator)
}

fn is_read(emulator: &Emulator, number: u64) {
    emulator.send(QUEUE, &body(number));
    wait_for("the queue is empty", || {
        (emulator.left(QUEUE) == 0).then_some(())
    });
}

#[test]
fn keys_that_expire_during_a_run_fail_no_request() {
    let emulator = emulator();
    let (issued, issue) = issuer(&emulator, 4);
    let uri = Service::start(move |_| (200, metadata_answer(&issue())));
    let folder = folder(&emulator)
        .variable("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
        .variable(
            "ALIBABA_CLOUD_CREDENTIALS_URI",
            format!("http://{}/creds?t=hidden", uri.address),
        );
    let service = folder.start();
    for number in 0..150 {
        is_read(&emulator, number);
        std::thread::sleep(Duration::from_millis(80));
    }
    let issued = issued.load(Ordering::SeqCst);
    assert!((4..=12).contains(&issued), "{issued} keys in over 12 s");
    let failed: Vec<Happened> = emulator
        .log()
        .into_iter()
        .filter(|one| matches!(one, Happened::Failed { code, .. } if code != "MessageNotExist"))
        .collect();
    assert_eq!(failed, []);
    let log = service.log().join("\n");
    for hidden in ["secret1", "token+/=1", "hidden"] {
        assert!(!log.contains(hidden), "{log}");
    }
}

#[test]
fn an_issuer_that_is_gone_for_a_while_costs_nothing_while_keys_are_valid() {
    let emulator = emulator();
    let (_, issue) = issuer(&emulator, 20);
    let times = Arc::new(AtomicU32::new(0));
    let uri = Service::start(move |_| match times.fetch_add(1, Ordering::SeqCst) {
        0 => (200, metadata_answer(&issue())),
        _ => (500, "down ".repeat(10_000)),
    });
    let folder = folder(&emulator)
        .variable("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
        .variable(
            "ALIBABA_CLOUD_CREDENTIALS_URI",
            format!("http://{}/", uri.address),
        );
    let service = folder.start();
    is_read(&emulator, 1);
    wait_for("a renewal has failed", || {
        let told = |line: &String| line.contains("the old ones are still valid");
        service.log().iter().any(told).then_some(())
    });
    let longest = service.log().iter().map(String::len).max();
    assert!(longest < Some(2000), "{longest:?}");
    is_read(&emulator, 2);
    assert_eq!(service.get("/readyz"), (200, "ready\n".to_owned()));
}

#[test]
fn the_role_of_an_instance_is_asked_with_its_token() {
    let emulator = emulator();
    let (_, issue) = issuer(&emulator, 3600);
    let metadata = Service::start(move |head| {
        let line = head.lines().next().unwrap_or_default();
        let with_token = head
            .to_lowercase()
            .contains("x-aliyun-ecs-metadata-token: tok");
        if line.starts_with("PUT /latest/api/token ") {
            (200, "tok".to_owned())
        } else if !with_token {
            (403, "no token".to_owned())
        } else if line.contains("/security-credentials/ ") {
            (200, "receiver-role".to_owned())
        } else if line.contains("/security-credentials/receiver-role ") {
            (200, metadata_answer(&issue()))
        } else {
            (404, String::new())
        }
    });
    let folder = folder(&emulator).variable(
        "ALIBABA_CLOUD_ECS_METADATA_SERVICE_ENDPOINT",
        format!("http://{}", metadata.address),
    );
    let _service = folder.start();
    is_read(&emulator, 1);
    assert!(metadata.asked()[0].starts_with("PUT /latest/api/token"));
}

#[test]
fn an_oidc_token_is_changed_for_a_key_at_sts() {
    let emulator = emulator();
    let (_, issue) = issuer(&emulator, 3600);
    let sts = Service::start(move |head| {
        let line = head.lines().next().unwrap_or_default();
        let wanted = [
            "AssumeRoleWithOIDC",
            "RoleSessionName=ims-receiver",
            "OIDCToken=oidc-token",
            "role%2Fr",
        ];
        if !wanted.iter().all(|word| line.contains(word)) {
            return (400, line.to_owned());
        }
        let [id, secret, token, expires] = issue();
        let answer = serde_json::json!({ "Credentials": {
            "AccessKeyId": id, "AccessKeySecret": secret, "SecurityToken": token, "Expiration": expires,
        }});
        (200, answer.to_string())
    });
    let folder = folder(&emulator);
    std::fs::write(folder.path("token"), "oidc-token\n").expect("a file");
    let token = folder.path("token").display().to_string();
    let folder = folder
        .variable("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/r")
        .variable(
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
            "acs:ram::1:oidc-provider/p",
        )
        .variable("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token)
        .variable(
            "ALIBABA_CLOUD_STS_ENDPOINT",
            format!("http://{}", sts.address),
        );
    let _service = folder.start();
    is_read(&emulator, 1);
    assert_eq!(sts.asked().len(), 1);
}

#[test]
fn a_profile_that_cannot_be_used_is_told_before_another_key_signs() {
    let emulator = emulator();
    let (_, issue) = issuer(&emulator, 3600);
    let uri = Service::start(move |_| (200, metadata_answer(&issue())));
    let folder = folder(&emulator)
        .variable("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
        .variable(
            "ALIBABA_CLOUD_CREDENTIALS_URI",
            format!("http://{}/", uri.address),
        );
    std::fs::create_dir(folder.path("home/.aliyun")).expect("a folder");
    let profile = r#"{"current":"p","profiles":[{"name":"p","mode":"CloudSSO"}]}"#;
    std::fs::write(folder.path("home/.aliyun/config.json"), profile).expect("a file");
    let service = folder.start();
    is_read(&emulator, 1);
    let told = |line: &&String| line.contains("CloudSSO") && line.contains("WARN");
    assert_eq!(service.log().iter().filter(told).count(), 1);
}

#[test]
fn check_says_where_the_key_would_come_from_and_not_the_key() {
    let emulator = Emulator::start(&[QUEUE]);
    let says = |folder: Folder, words: &str| {
        let (code, stdout, stderr) = output(folder.command().arg("check"));
        assert_eq!(code, 0, "{stdout}{stderr}");
        let line = stdout
            .lines()
            .find(|line| line.starts_with("# sources.queue: "));
        assert!(line.is_some_and(|line| line.contains(words)), "{stdout}");
        for secret in [KEY_SECRET, "TestToken"] {
            assert!(!format!("{stdout}{stderr}").contains(secret), "{stdout}");
        }
    };
    let from_environment = folder(&emulator)
        .variable("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_ID)
        .variable("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_SECRET)
        .variable("ALIBABA_CLOUD_SECURITY_TOKEN", "TestToken");
    says(from_environment, "the environment");
    says(folder(&emulator), "the role of the instance");
    let none = folder(&emulator).variable("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
    says(none, "nowhere");
    let role = folder(&emulator);
    std::fs::create_dir(role.path("home/.aliyun")).expect("a folder");
    let profile = r#"{"current":"p","profiles":[{"name":"p","mode":"RamRoleArn"}]}"#;
    std::fs::write(role.path("home/.aliyun/config.json"), profile).expect("a file");
    says(role, "passed over: profile \"p\"");
    let table = format!(
        "[sources.queue.credentials]\naccess_key_id = \"{KEY_ID}\"\naccess_key_secret = \"{KEY_SECRET}\"\n"
    );
    says(folder(&emulator).configured(&table), "the configuration");
    let requests = emulator.log();
    assert_eq!(requests, [], "check asks nobody");
}

#[test]
fn a_key_of_the_environment_reads_and_none_at_all_says_what_to_do() {
    let emulator = Emulator::start(&[QUEUE]);
    let with_key = folder(&emulator)
        .variable("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY_ID)
        .variable("ALIBABA_CLOUD_ACCESS_KEY_SECRET", KEY_SECRET);
    let service = with_key.start();
    is_read(&emulator, 1);
    drop(service);
    let service = folder(&emulator)
        .variable("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
        .start();
    wait_for("it says what is missing", || {
        let told = |line: &String| line.contains("set ALIBABA_CLOUD_ACCESS_KEY_ID");
        service.log().iter().any(told).then_some(())
    });
}
