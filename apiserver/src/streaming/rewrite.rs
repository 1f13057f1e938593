//! What must change in an answer that comes through a proxy path: links that begin at the server's root.

use super::{Answer, StreamBody, read};
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use rutter_api::StatusError;
use rutter_outbound::body::ReadError;

/// HTML larger than this passes as it is.
const HTML_BYTES: usize = 8 << 20;
/// Attributes that hold links.
const LINKS: [&str; 12] = [
    "href",
    "src",
    "action",
    "background",
    "cite",
    "classid",
    "codebase",
    "data",
    "formaction",
    "longdesc",
    "manifest",
    "usemap",
];

/// Rewrites the `Location` of redirects and, in HTML, the links.
pub(super) async fn response(mut response: Response<StreamBody>, prefix: &str, host: &str) -> Answer {
    if (300..400).contains(&response.status().as_u16()) || response.status() == StatusCode::CREATED {
        let old = response
            .headers()
            .get(header::LOCATION)
            .and_then(|value| value.to_str().ok());
        if let Some(new) = old.and_then(|old| link(old, prefix, host))
            && let Ok(value) = HeaderValue::from_str(&new)
        {
            response.headers_mut().insert(header::LOCATION, value);
        }
        return Ok(response);
    }
    let is = |name: header::HeaderName, want: fn(&str) -> bool| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .is_some_and(want)
    };
    let html = is(header::CONTENT_TYPE, |kind| {
        kind.split(';')
            .next()
            .is_some_and(|kind| kind.trim() == "text/html")
    });
    let plain = !response.headers().contains_key(header::CONTENT_ENCODING);
    let length = response
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|l| l.to_str().ok()?.parse::<usize>().ok());
    if !html || !plain || length.is_none_or(|length| length > HTML_BYTES) {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let unreadable = |error: ReadError| {
        StatusError::new(
            rutter_api::Reason::ServiceUnavailable,
            format!("error trying to reach service: {error}"),
        )
    };
    let bytes = read(body, HTML_BYTES).await.map_err(unreadable)?;
    let bytes = match std::str::from_utf8(&bytes) {
        Ok(text) => Bytes::from(page(text, prefix, host)),
        Err(_) => bytes,
    };
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Ok(Response::from_parts(
        parts,
        Full::new(bytes).map_err(|never| match never {}).boxed(),
    ))
}

/// The link as seen through the proxy; none when it can stay.
fn link(old: &str, prefix: &str, host: &str) -> Option<String> {
    let path = match old
        .strip_prefix("http://")
        .or_else(|| old.strip_prefix("https://"))
    {
        Some(rest) => match rest.strip_prefix(host)? {
            "" => "/",
            path if path.starts_with('/') => path,
            _ => return None,
        },
        None => old,
    };
    // A link to another server, a link within the folder, and one that went through here before all stay.
    if !path.starts_with('/') || path.starts_with("//") || path.starts_with(&format!("{prefix}/")) {
        return None;
    }
    Some(format!("{prefix}{path}"))
}

/// The page with its links as seen through the proxy.
fn page(text: &str, prefix: &str, host: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let end = if tag.starts_with("<!--") {
            tag.find("-->").map(|at| at + 3)
        } else {
            tag_end(tag)
        };
        let Some(end) = end else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        if tag.starts_with("<!") || tag.starts_with("</") {
            out.push_str(tag);
        } else {
            rewrite_tag(&mut out, tag, prefix, host);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Where a tag ends: at the first `>` outside quotes.
fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

/// Copies a tag with the links in its quoted attributes rewritten.
fn rewrite_tag(out: &mut String, tag: &str, prefix: &str, host: &str) {
    let mut rest = tag;
    while let Some(equals) = rest.find('=') {
        let (name, after) = rest.split_at(equals + 1);
        out.push_str(name);
        let attribute = name[..equals]
            .trim_end()
            .rsplit(|c: char| c.is_whitespace())
            .next()
            .unwrap_or_default();
        let gap = after.len() - after.trim_start().len();
        let (space, value) = after.split_at(gap);
        out.push_str(space);
        let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
            rest = value;
            continue;
        };
        let Some(length) = value[1..].find(quote) else {
            rest = value;
            break;
        };
        let (inner, after) = (&value[1..=length], &value[length + 2..]);
        let new = LINKS
            .contains(&attribute.to_ascii_lowercase().as_str())
            .then(|| link(inner, prefix, host))
            .flatten();
        out.push(quote);
        out.push_str(new.as_deref().unwrap_or(inner));
        out.push(quote);
        rest = after;
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_from_the_root_go_through_the_proxy() {
        let (prefix, host) = ("/api/v1/namespaces/a/services/web/proxy", "10.0.0.7:80");
        for (old, want) in [
            ("/login", Some("/api/v1/namespaces/a/services/web/proxy/login")),
            (
                "http://10.0.0.7:80/x?y=1",
                Some("/api/v1/namespaces/a/services/web/proxy/x?y=1"),
            ),
            ("http://example.com/x", None),
            ("//example.com/x", None),
            ("page.html", None),
            ("/api/v1/namespaces/a/services/web/proxy/x", None),
        ] {
            assert_eq!(link(old, prefix, host).as_deref(), want, "{old}");
        }
        let html = r#"<!-- <a href="/no"> --><a class=x href="/yes" title='a > b'>/text</a><img src = '/i.png'><p>a = "b"</p>"#;
        assert_eq!(
            page(html, "/p", host),
            r#"<!-- <a href="/no"> --><a class=x href="/p/yes" title='a > b'>/text</a><img src = '/p/i.png'><p>a = "b"</p>"#
        );
    }
}
