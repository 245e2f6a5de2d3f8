//! What a URL must be like, and what it may lead to.

use url::Url;

/// Longest URL (RFC 9110 §4.1 asks for at least 8000 octets).
pub(super) const LIMIT: usize = 8000;

/// Whether a URL can be fetched.
///
/// # Errors
/// A sentence with what was found and what was expected.
pub fn check(text: &str) -> Result<(), String> {
    parse(text).map(|_| ())
}

pub(super) fn parse(text: &str) -> Result<Url, String> {
    if text.len() > LIMIT {
        return Err(format!("found a URL of {} bytes, expected at most {LIMIT}", text.len()));
    }
    let wrong =
        |why: String| format!("found url {text:?}, expected such as \"https://example.org/list.txt\": {why}");
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(format!("{} is not fetched", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("found a user in the url, expected one without".to_owned());
    }
    host_and_port(&url).map_err(wrong)?;
    Ok(url)
}

/// Where a redirection leads, if it may be followed.
pub(super) fn redirected(from: &Url, to: &str) -> Result<Url, String> {
    let joined = from.join(to).map_err(|error| format!("found a redirection to {to:?}: {error}"))?;
    let next = parse(joined.as_str())?;
    if next.scheme() != from.scheme() && next.scheme() != "https" {
        return Err(format!("found a redirection from {from} to {next}, expected one that keeps TLS"));
    }
    Ok(next)
}

pub(super) fn host_and_port(url: &Url) -> Result<(String, u16), String> {
    match (url.host_str(), url.port_or_known_default()) {
        (Some(host), Some(port)) if !host.is_empty() && port != 0 => Ok((host.to_owned(), port)),
        _ => Err("there is no host in it".to_owned()),
    }
}

/// The value of `Host` (RFC 9110 §7.2).
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
