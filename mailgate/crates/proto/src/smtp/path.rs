//! `<...>`: paths of MAIL and RCPT (RFC 5321 §4.1.2).

use mailgate_model::{Address, Domain, ForwardPath, ReversePath};

use super::Misbehaved;
use super::misbehaved::PathFault;

/// Longest path in octets with its brackets, without a source route (RFC 5321 §4.5.3.1.3).
const PATH_LIMIT: usize = 256;

/// Reads a reverse-path at the front of `text`; gives it and the rest.
pub(super) fn reverse(text: &str) -> Result<(ReversePath, &str), Misbehaved> {
    let (inner, rest) = bracketed(text)?;
    if inner.is_empty() {
        return Ok((ReversePath::Null, rest));
    }
    Ok((ReversePath::Address(address(inner)?), rest))
}

/// Reads a forward-path at the front of `text`; gives it and the rest.
pub(super) fn forward(text: &str) -> Result<(ForwardPath, &str), Misbehaved> {
    let (inner, rest) = bracketed(text)?;
    // RFC 5321 §4.1.1.3: postmaster needs no domain, in any case of letters.
    if inner.eq_ignore_ascii_case("postmaster") {
        return Ok((ForwardPath::Postmaster, rest));
    }
    Ok((ForwardPath::Address(address(inner)?), rest))
}

fn shape(expected: &'static str) -> Misbehaved {
    Misbehaved::Path(PathFault::Shape(expected))
}

/// What stands between `<` and the `>` that no quoted string hides, and what follows.
fn bracketed(text: &str) -> Result<(&str, &str), Misbehaved> {
    let inner = text.strip_prefix('<').ok_or_else(|| shape("a path in angle brackets"))?;
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let path = inner.get(..at).unwrap_or_default();
                let rest = inner.get(at + 1..).unwrap_or_default();
                return Ok((path, rest));
            }
            _ => {}
        }
    }
    Err(shape("a closing angle bracket"))
}

fn address(inner: &str) -> Result<Address, Misbehaved> {
    let inner = without_route(inner)?;
    if inner.len() + 2 > PATH_LIMIT {
        return Err(shape("a path of at most 256 octets"));
    }
    Address::parse(inner).map_err(|error| Misbehaved::Path(PathFault::Address(error)))
}

/// Drops `@a,@b:` in front of an address: accepted, and ignored (RFC 5321 §4.1.1.3, appendix C).
fn without_route(inner: &str) -> Result<&str, Misbehaved> {
    if !inner.starts_with('@') {
        return Ok(inner);
    }
    let (route, address) = inner.split_once(':').ok_or_else(|| shape("a colon after a source route"))?;
    let is_route =
        route.split(',').all(|hop| hop.strip_prefix('@').is_some_and(|domain| Domain::parse(domain).is_ok()));
    if is_route { Ok(address) } else { Err(shape("a source route such as @a.example,@b.example:")) }
}
