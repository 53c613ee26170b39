//! How large a request's head may be.

use hyper::Request;

use super::error::Rejection;

/// The largest head, in bytes, that is looked at.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The most header fields. hyper holds HTTP/1 to the same number itself.
const HEADERS_MAX: usize = 100;

/// Heads that are too large, by what hyper kept of them.
pub(super) fn check_size<B>(request: &Request<B>) -> Result<(), Rejection> {
    /// The blanks, the version and the line ends around method and target.
    const REQUEST_LINE_BYTES: usize = 12;
    /// `: ` and the line end.
    const FIELD_BYTES: usize = 4;
    let uri = request.uri();
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    let target = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1) + authority;
    let line = request.method().as_str().len() + target + REQUEST_LINE_BYTES;
    let fields: usize = request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_BYTES)
        .sum();
    if line + fields > HEAD_BYTES_MAX || request.headers().len() > HEADERS_MAX {
        return Err(Rejection::HeadTooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(target: &str, value: &str, fields: usize) -> Result<(), Rejection> {
        let mut request = Request::post(target);
        for _ in 0..fields {
            request = request.header("x", value);
        }
        check_size(&request.body(()).unwrap())
    }

    #[test]
    fn bytes_and_fields_are_limited() {
        let kib = |count: usize| "x".repeat(count * 1024);
        assert_eq!(check("/", "", 0), Ok(()));
        assert_eq!(check("/", &kib(15), 1), Ok(()));
        assert_eq!(check("/", &kib(16), 1), Err(Rejection::HeadTooLarge));
        assert_eq!(check("/", &kib(9), 2), Err(Rejection::HeadTooLarge));
        let long = format!("/?{}", kib(16));
        assert_eq!(check(&long, "", 0), Err(Rejection::HeadTooLarge));
        assert_eq!(check("/", "", 100), Ok(()));
        assert_eq!(check("/", "", 101), Err(Rejection::HeadTooLarge));
    }
}
