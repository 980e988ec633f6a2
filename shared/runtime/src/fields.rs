//! Fields of a request's head by RFC 9110 section 5.3: a field with a single value may appear only
//! once, and a list is all its lines joined.
//!
//! `HeaderMap::get` takes the first line of any field, so two readers of one request can see
//! different values. Every reader of a request's fields uses this module.

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};

/// A field with a single value appears more than once. Nobody can know which one is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it appears more than once")]
pub struct DuplicateField;

/// Returns the value of a field with a single value, or `None` if it is absent.
///
/// # Errors
///
/// Fails if the field appears more than once.
pub fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, DuplicateField> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(DuplicateField),
    }
}

/// Returns the members of a list field from all its lines. A comma within quotation marks does not
/// separate members.
pub fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(|line| {
        let mut is_quoted = false;
        let ends = move |byte: &u8| {
            is_quoted ^= *byte == b'"';
            *byte == b',' && !is_quoted
        };
        line.as_bytes().split(ends).map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
    })
}

/// Reasons why a request's head is ambiguous.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// There is no `Host`, or more than one (RFC 9112 section 3.2).
    #[error("it must have one `Host`")]
    Host,
    /// `Host` differs from `:authority` (RFC 9113 section 8.3.1).
    #[error("its `Host` is another one than its `:authority`")]
    Authority,
    /// A field with a single value appears more than once.
    #[error("`{0}` appears more than once")]
    Twice(HeaderName),
}

/// Checks before routing that a request has exactly one host and each of the fields in `once` at
/// most once. It costs almost nothing if no field is repeated.
///
/// # Errors
///
/// Fails if the head is ambiguous.
pub fn check(version: Version, uri: &Uri, headers: &HeaderMap, once: &[HeaderName]) -> Result<(), BadHead> {
    if headers.len() != headers.keys_len() {
        single(headers, &HOST).map_err(|_twice| BadHead::Host)?;
        for name in once {
            single(headers, name).map_err(|_twice| BadHead::Twice(name.clone()))?;
        }
    }
    if version == Version::HTTP_11 && !headers.contains_key(HOST) {
        return Err(BadHead::Host);
    }
    if version == Version::HTTP_2
        && let (Some(authority), Some(host)) = (uri.authority(), headers.get(HOST))
        && !without_port(host.as_bytes()).eq_ignore_ascii_case(without_port(authority.as_str().as_bytes()))
    {
        return Err(BadHead::Authority);
    }
    Ok(())
}

/// Returns a host without the default port.
fn without_port(host: &[u8]) -> &[u8] {
    host.strip_suffix(b":80").unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, AUTHORIZATION, IF_NONE_MATCH};

    use super::*;

    fn headers(lines: &[(&HeaderName, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| ((*name).clone(), HeaderValue::from_static(value))).collect()
    }

    fn list(lines: &[&'static str]) -> Vec<String> {
        let lines: Vec<_> = lines.iter().map(|line| (&IF_NONE_MATCH, *line)).collect();
        let headers = headers(&lines);
        members(&headers, &IF_NONE_MATCH).map(|member| String::from_utf8_lossy(member).into_owned()).collect()
    }

    #[test]
    fn a_field_of_one_value_stands_once_or_not_at_all() {
        let one = headers(&[(&AUTHORIZATION, "a"), (&ACCEPT, "b")]);
        assert_eq!(single(&one, &AUTHORIZATION), Ok(Some(&HeaderValue::from_static("a"))));
        assert_eq!(single(&one, &HOST), Ok(None));
        let two = headers(&[(&AUTHORIZATION, "a"), (&ACCEPT, "b"), (&AUTHORIZATION, "a")]);
        assert_eq!(single(&two, &AUTHORIZATION), Err(DuplicateField));
    }

    #[test]
    fn a_list_is_all_of_its_lines() {
        assert_eq!(
            list(&["\"a\", W/\"b\"", "", " , \"c,d\" ,\"e\"", "*"]),
            ["\"a\"", "W/\"b\"", "\"c,d\"", "\"e\"", "*"]
        );
        assert_eq!(list(&["\"torn, \"a\""]), ["\"torn, \"a\""]);
        assert_eq!(list(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_head_has_one_host_and_no_field_of_one_value_twice() {
        let once = [AUTHORIZATION];
        let path = Uri::from_static("/v1/tea/products");
        let ok =
            |version, lines: &[(&HeaderName, &'static str)]| check(version, &path, &headers(lines), &once);
        assert_eq!(ok(Version::HTTP_11, &[(&HOST, "a"), (&ACCEPT, "b"), (&ACCEPT, "c")]), Ok(()));
        assert_eq!(ok(Version::HTTP_11, &[]), Err(BadHead::Host));
        assert_eq!(ok(Version::HTTP_2, &[]), Ok(()));
        assert_eq!(ok(Version::HTTP_2, &[(&HOST, "a"), (&HOST, "a")]), Err(BadHead::Host));
        let twice = [(&HOST, "a"), (&AUTHORIZATION, "b"), (&AUTHORIZATION, "c")];
        assert_eq!(ok(Version::HTTP_11, &twice), Err(BadHead::Twice(AUTHORIZATION)));
    }

    #[test]
    fn a_host_beside_another_authority_is_no_request_of_one_host() {
        let check = |version, uri: &'static str, host: &'static str| {
            check(version, &Uri::from_static(uri), &headers(&[(&HOST, host)]), &[])
        };
        for (uri, host) in [
            ("http://bridge/v1", "bridge"),
            ("http://Bridge/v1", "bridge:80"),
            ("http://bridge:9080/v1", "bridge:9080"),
            ("/v1", "bridge"),
        ] {
            assert_eq!(check(Version::HTTP_2, uri, host), Ok(()), "{uri} {host}");
        }
        for (uri, host) in
            [("http://bridge/v1", "other"), ("http://bridge:9080/v1", "bridge"), ("http://bridge/v1", "")]
        {
            assert_eq!(check(Version::HTTP_2, uri, host), Err(BadHead::Authority), "{uri} {host}");
            // A target that has a host replaces `Host` (RFC 9112 section 3.2.2).
            assert_eq!(check(Version::HTTP_11, uri, host), Ok(()), "{uri} {host}");
        }
    }
}
