//! What the header fields of a refused request tell, whatever the scheme.

use axum::http::{HeaderMap, HeaderName};

use super::Finding;

/// What proxies add to a request.
const PROXY_MARKS: [&str; 6] = [
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-real-ip",
    "eagleid",
];

/// The headers of other products and schemes, by the beginning of their names.
const PRODUCTS: [(&str, &str); 4] = [
    (
        "x-vod-",
        "those of ApsaraVideo VOD (X-VOD-SIGNATURE), which is another product with other events",
    ),
    (
        "ali-live-",
        "those of ApsaraVideo Live (ALI-LIVE-SIGNATURE), which is another product with other events",
    ),
    (
        "x-ice-",
        "those of IMS itself (X-ICE-SIGNATURE), for which the scheme is \"ims\"",
    ),
    (
        "webhook-signature",
        "those of Standard Webhooks (webhook-signature)",
    ),
];

/// Why headers are missing that are wanted.
pub(in crate::signature) fn missing(headers: &HeaderMap, wanted: &[&HeaderName]) -> Vec<Finding> {
    let absent: Vec<&&HeaderName> = wanted
        .iter()
        .filter(|name| !headers.contains_key(**name))
        .collect();
    let mut findings = Vec::new();
    let mut renamed = false;
    for name in &absent {
        let underscored = name.as_str().replace('-', "_");
        if headers.contains_key(&underscored) {
            renamed = true;
            let header = underscored.to_uppercase();
            findings.push(Finding::Underscores { header });
        }
    }
    if let Some(product) = other_product(headers, wanted) {
        findings.push(Finding::OtherProduct { product });
        return findings;
    }
    if renamed {
        return findings;
    }
    if absent.len() == wanted.len() {
        findings.push(Finding::NoSignature);
    } else {
        findings.extend(absent.iter().map(|name| Finding::Absent {
            header: name.to_string(),
        }));
    }
    let marks = PROXY_MARKS.into_iter();
    let marks: Vec<&str> = marks.filter(|name| headers.contains_key(*name)).collect();
    if !marks.is_empty() {
        findings.push(Finding::DroppedByProxy { marks });
    }
    findings
}

/// Headers that came more than once.
pub(in crate::signature) fn repeated(headers: &HeaderMap, wanted: &[&HeaderName]) -> Vec<Finding> {
    let finding = |name: &&HeaderName| {
        let mut values = headers.get_all(*name).iter();
        let first = values.next()?;
        let (mut times, mut alike) = (1, true);
        for value in values {
            times += 1;
            alike &= value == first;
        }
        (times > 1).then(|| Finding::Repeated {
            header: name.to_string(),
            times,
            alike,
        })
    };
    wanted.iter().filter_map(finding).collect()
}

/// Whose signature headers are there instead of those that are `wanted`.
fn other_product(headers: &HeaderMap, wanted: &[&HeaderName]) -> Option<&'static str> {
    let other = |beginning: &str| {
        headers
            .keys()
            .any(|name| name.as_str().starts_with(beginning) && !wanted.contains(&name))
            && !wanted
                .iter()
                .any(|name| name.as_str().starts_with(beginning))
    };
    let mut products = PRODUCTS.iter();
    products
        .find(|(beginning, _)| other(beginning))
        .map(|(_, product)| *product)
}
