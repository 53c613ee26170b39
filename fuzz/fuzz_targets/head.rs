//! Any bytes as the head of a request: who sent it, whether it is signed, and
//! what is kept of it. What is let in has a signature that is right.

#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use ims_receiver::request::{KeptHead, RequestHead};
use ims_receiver::server::TrustedProxies;
use ims_receiver::signature::hmac_sha256::{Encoding, HmacConfig, HmacScheme};
use ims_receiver::signature::ims::{
    ImsConfig, ReusePolicy, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign,
};
use ims_receiver::signature::{HeadVerdict, Scheme, SchemeConfig, SignatureError};
use ipnet::IpNet;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use secrecy::SecretString;

fuzz_target!(|bytes: &[u8]| {
    let Some((uri, mut headers)) = head(bytes) else {
        return;
    };
    sign_where_asked(&uri, &mut headers);
    let head = RequestHead {
        uri: &uri,
        headers: &headers,
    };
    check_schemes(&head);
    check_hmac(&head, bytes);
    for connection in CONNECTIONS {
        check_peer(connection, &headers);
    }
    check_kept(&head);
});

const HEADERS_MAX: usize = 100;
const NOW: i64 = 1_519_375_990;
const TOLERANCE: i64 = 300;
const URLS: [&str; 2] = ["https://www.example.com/your/callback", "http://b/x?y=z"];
const ORIGIN: &str = "https://cb.example.com";
const KEYS: [&str; 2] = ["test123", "0123456789abcdef"];

/// Signs the body, by the headers that the dictionary and the seeds know.
static HMAC: LazyLock<HmacScheme> = LazyLock::new(|| {
    let scheme = HmacScheme::new(&HmacConfig {
        keys: KEYS.map(SecretString::from).to_vec(),
        header: SIGNATURE_HEADER,
        prefix: String::new(),
        encoding: Encoding::Hex,
        timestamp_header: Some(TIMESTAMP_HEADER),
        tolerance: Duration::from_secs(TOLERANCE.unsigned_abs()),
    });
    scheme.expect("it has keys")
});

fn ims(urls: &[&str], origin: Option<&str>) -> Box<dyn Scheme> {
    let scheme = ims_receiver::signature::ims::ImsScheme::new(&ImsConfig {
        keys: KEYS.map(SecretString::from).to_vec(),
        callback_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        public_origin: origin.map(str::to_owned),
        tolerance: Duration::from_secs(TOLERANCE.unsigned_abs()),
        reuse: ReusePolicy::Note,
    });
    Box::new(scheme.expect("it has keys and URLs"))
}

/// Each with whether the request's own target may have been signed.
static IMS: LazyLock<[(Box<dyn Scheme>, bool); 2]> =
    LazyLock::new(|| [(ims(&URLS, None), false), (ims(&URLS, Some(ORIGIN)), true)]);

/// A head as the server would see it.
fn head(bytes: &[u8]) -> Option<(Uri, HeaderMap)> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(bytes).ok()?.is_complete().then_some(())?;
    let uri = Uri::try_from(request.path?).ok()?;
    let mut headers = HeaderMap::new();
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some((uri, headers))
}

/// No mutation finds an MD5: where a signature is `SIGN`, the right one for
/// the request's own target is put, and where it is `SIGN2` that of the second
/// URL and key.
fn sign_where_asked(uri: &Uri, headers: &mut HeaderMap) {
    let timestamp = headers.get(TIMESTAMP_HEADER).cloned();
    let Some(timestamp) = timestamp.as_ref().and_then(|value| value.to_str().ok()) else {
        return;
    };
    for (name, value) in headers.iter_mut() {
        let signature = match value.as_bytes() {
            b"SIGN" => sign(&own_url(uri), timestamp, KEYS[0]),
            b"SIGN2" => sign(URLS[1], timestamp, KEYS[1]).to_uppercase(),
            _ => continue,
        };
        if *name == SIGNATURE_HEADER {
            *value = HeaderValue::from_str(&signature).expect("it is hexadecimal");
        }
    }
}

fn own_url(uri: &Uri) -> String {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    format!("{ORIGIN}{target}")
}

/// Every scheme that there is; what it says is what the contract says.
/// A body that nobody signed is never let in, whatever the head says.
fn check_hmac(head: &RequestHead<'_>, body: &[u8]) {
    let now = Timestamp::from_second(NOW).expect("it is a time");
    let _ = HMAC.sent_at(head.headers);
    match HMAC.check_head(head, now) {
        Ok(HeadVerdict::Authentic(_)) => panic!("a head alone proves nothing here"),
        Ok(HeadVerdict::NeedsBody(check)) => assert!(check.check(body).is_err()),
        Err(_) => {}
    }
}

fn check_schemes(head: &RequestHead<'_>) {
    let now = Timestamp::from_second(NOW).expect("it is a time");
    let none = SchemeConfig::None.build().expect("it needs nothing");
    assert!(matches!(
        none.check_head(head, now),
        Ok(HeadVerdict::Authentic(_))
    ));
    for (scheme, with_origin) in &*IMS {
        let judged = match scheme.check_head(head, now) {
            Ok(HeadVerdict::Authentic(verified)) => Ok((verified.key(), verified.url())),
            Ok(HeadVerdict::NeedsBody(_)) => panic!("the scheme never needs the body"),
            Err(error) => Err(error),
        };
        assert_eq!(judged, expected(head, *with_origin));
    }
}

type Judged = Result<(Option<u32>, Option<u32>), SignatureError>;

fn expected(head: &RequestHead<'_>, with_origin: bool) -> Judged {
    let values = |name: &HeaderName| -> Vec<&[u8]> {
        let values = head.headers.get_all(name).iter();
        values.map(HeaderValue::as_bytes).collect()
    };
    let (signatures, timestamps) = (values(&SIGNATURE_HEADER), values(&TIMESTAMP_HEADER));
    let (signature, timestamp) = match (&*signatures, &*timestamps) {
        ([], _) | (_, []) => return Err(SignatureError::Missing),
        ([signature], [timestamp]) => (*signature, *timestamp),
        _ => return Err(SignatureError::RepeatedHeader),
    };
    let is_number = !timestamp.is_empty() && timestamp.iter().all(u8::is_ascii_digit);
    let timestamp = String::from_utf8_lossy(timestamp);
    let own = own_url(head.uri);
    let urls = (1..).zip(URLS).map(|(position, url)| (Some(position), url));
    let urls = urls.chain(with_origin.then_some((None, &*own)));
    let found = urls
        .flat_map(|(url, text)| {
            (1..)
                .zip(KEYS)
                .map(move |(key, secret)| (url, text, key, secret))
        })
        .find(|(_, text, _, secret)| {
            sign(text, &timestamp, secret)
                .as_bytes()
                .eq_ignore_ascii_case(signature)
        });
    let Some((url, _, key, _)) = found.filter(|_| is_number) else {
        return Err(SignatureError::Mismatch);
    };
    let skew_seconds = timestamp
        .parse()
        .map_or(NOW - i64::MAX, |sent: i64| NOW.saturating_sub(sent));
    match skew_seconds {
        skew if skew.abs() <= TOLERANCE => Ok((Some(key), url)),
        1.. => Err(SignatureError::Stale { skew_seconds }),
        _ => Err(SignatureError::Future { skew_seconds }),
    }
}

const CONNECTIONS: [&str; 4] = ["203.0.113.9", "10.1.2.3", "::ffff:10.1.2.3", "fd00::1"];

static TRUSTED: LazyLock<TrustedProxies> = LazyLock::new(|| {
    let nets = ["10.0.0.0/8", "::ffff:192.168.0.0/112", "fd00::/8"];
    let nets = nets.map(|net| net.parse::<IpNet>().expect("it is a network"));
    TrustedProxies::new(&nets)
});

fn is_trusted(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 10 || ip.octets()[..2] == [192, 168],
        IpAddr::V6(ip) => ip.octets()[0] == 0xfd,
    }
}

/// The right-most address that is not trusted, and nobody else.
fn check_peer(connection: &str, headers: &HeaderMap) {
    let connection: IpAddr = connection.parse().expect("it is an address");
    let peer = TRUSTED.peer(connection, headers);
    let connection = connection.to_canonical();
    if !is_trusted(connection) {
        assert_eq!(peer, Some(connection), "strangers are not believed");
        return;
    }
    let lines = headers.get_all("x-forwarded-for");
    let all: Vec<&[u8]> = lines.iter().map(HeaderValue::as_bytes).collect();
    let all = all.join(&b',');
    let Some(peer) = peer else {
        assert!(!all.is_empty(), "nothing that could not be read");
        return;
    };
    assert_eq!(peer, peer.to_canonical());
    let forwarded = all
        .rsplit(|byte| *byte == b',')
        .map(|element| String::from_utf8_lossy(element).trim().to_owned());
    let mut passed = connection;
    for element in forwarded.filter(|element| !element.is_empty()) {
        // The brackets and the port are the ways to write the same address.
        let bare = element.trim_start_matches('[');
        let read: IpAddr = bare
            .parse()
            // Within brackets the last colon is the address's own.
            .or_else(|_| bare.trim_end_matches(']').parse())
            .or_else(|_| {
                bare.rsplit_once(':')
                    .map_or(bare, |(ip, _)| ip)
                    .trim_end_matches(']')
                    .parse()
            })
            .expect("what was passed could be read");
        passed = read.to_canonical();
        if !is_trusted(passed) {
            break;
        }
    }
    assert_eq!(peer, passed);
}

/// What is kept is bounded, and never a secret.
fn check_kept(head: &RequestHead<'_>) {
    let kept = KeptHead::from_head(head, None);
    assert_eq!(kept.query.as_deref(), head.uri.query());
    for (name, value) in &kept.headers {
        assert!(head.headers.contains_key(name.as_str()), "{name} was sent");
        assert_ne!(*name, SIGNATURE_HEADER.as_str());
        // Each byte that is no UTF-8 becomes a character of three.
        assert!(value.len() <= 3 * 256, "{name} is kept whole");
    }
}
