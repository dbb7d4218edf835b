//! Deprecated APIs in use, out of an API server's own figures.
//!
//! The page has megabytes, of which a few lines matter: it is read as it comes, and the rest is forgotten. Of the text format of
//! Prometheus one family of one kind is read here, so that a parser of all of it would be more than what it saves.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_plan::DeprecatedApi;
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;

/// The family: a series for each API that was asked for since the API server started.
const FAMILY: &[u8] = b"apiserver_requested_deprecated_apis{";
/// Longer lines are none of it.
const LINE_BYTES: usize = 16 * 1024;
/// A page that does not end is none.
const PAGE_BYTES: usize = 256 << 20;

pub(crate) async fn read(client: Client) -> Result<BTreeSet<DeprecatedApi>, kube::Error> {
    let request = http::Request::get("/metrics").body(Body::empty()).map_err(kube::Error::HttpError)?;
    let answer = client.send(request).await?;
    let wrong = |why: String| kube::Error::Service(why.into());
    if !answer.status().is_success() {
        return Err(wrong(format!("it answers {}", answer.status())));
    }
    let mut body = answer.into_body();
    let (mut lines, mut bytes) = (Lines::default(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes += data.len();
            if bytes > PAGE_BYTES {
                return Err(wrong("its page of figures does not end".to_owned()));
            }
            lines.push(&data);
        }
    }
    Ok(lines.finish())
}

/// Lines of the family out of pieces of a page.
#[derive(Default)]
struct Lines {
    /// The line that has not ended yet, as far as it is worth keeping.
    begun: Vec<u8>,
    found: BTreeSet<DeprecatedApi>,
}

impl Lines {
    fn push(&mut self, data: &[u8]) {
        let mut pieces = data.split(|byte| *byte == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.keep(piece);
            self.end();
        }
        self.keep(last);
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = LINE_BYTES.saturating_sub(self.begun.len());
        self.begun.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
    }

    fn end(&mut self) {
        if let Some(rest) = self.begun.strip_prefix(FAMILY) {
            self.found.extend(std::str::from_utf8(rest).ok().and_then(api));
        }
        self.begun.clear();
    }

    fn finish(mut self) -> BTreeSet<DeprecatedApi> {
        self.end();
        self.found
    }
}

/// `group="…",removed_release="…",…} 1`: a series that is not zero.
fn api(text: &str) -> Option<DeprecatedApi> {
    let (mut labels, value) = labels(text)?;
    let value: f64 = value.split_ascii_whitespace().next()?.parse().ok()?;
    let mut take = |name: &str| labels.remove(name).unwrap_or_default();
    let api = DeprecatedApi {
        group: take("group"),
        version: take("version"),
        resource: take("resource"),
        subresource: take("subresource"),
        removed_release: take("removed_release"),
    };
    (value != 0.0 && !api.resource.is_empty()).then_some(api)
}

/// Labels, and what stands behind them.
fn labels(text: &str) -> Option<(BTreeMap<&str, String>, &str)> {
    let (mut labels, mut rest) = (BTreeMap::new(), text);
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, after) = unquoted(quoted)?;
        labels.insert(name.trim(), value);
        rest = after;
    }
}

/// A label's value up to its quote, and what follows: `\\`, `\"` and `\n` stand for themselves.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// As API servers of v1.31 and later write it.
    const PAGE: &str = r#"# HELP apiserver_request_total [STABLE] Counter of apiserver requests
apiserver_request_total{code="200",group="",resource="pods",verb="GET",version="v1"} 12
# HELP apiserver_requested_deprecated_apis [STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.
# TYPE apiserver_requested_deprecated_apis gauge
apiserver_requested_deprecated_apis{group="",removed_release="",resource="componentstatuses",subresource="",version="v1"} 1
apiserver_requested_deprecated_apis{group="flowcontrol.apiserver.k8s.io",removed_release="1.32",resource="flowschemas",subresource="status",version="v1beta3"} 1
apiserver_requested_deprecated_apis{group="policy",removed_release="1.25",resource="podsecuritypolicies",subresource="",version="v1beta1"} 0
apiserver_requested_deprecated_apis_more{group="x",resource="y"} 1
apiserver_tls_handshake_errors_total 3
"#;

    fn found(page: &str, size: usize) -> Vec<String> {
        let mut lines = Lines::default();
        page.as_bytes().chunks(size).for_each(|piece| lines.push(piece));
        lines.finish().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_in_use_is_found_however_the_page_comes() {
        let expected = [
            "componentstatuses of v1",
            "flowschemas/status of flowcontrol.apiserver.k8s.io/v1beta3 (removed in 1.32)",
        ];
        for size in [1, 2, 13, 100, PAGE.len()] {
            assert_eq!(found(PAGE, size), expected, "{size}");
        }
        let cut = PAGE.trim_end().rsplit_once("version=").unwrap().0;
        assert_eq!(found(cut, 64), expected);
    }

    #[test]
    fn odd_lines_are_no_api() {
        for line in [
            "{resource=\"a\"",
            "{resource=\"a} 1",
            "{resource=\"a\"} x",
            "{resource=\"a\"}",
            "{} 1",
            "{group} 1",
        ] {
            let page = format!("apiserver_requested_deprecated_apis{line}\n");
            assert_eq!(found(&page, 7), Vec::<String>::new(), "{line}");
        }
        let escaped = r#"apiserver_requested_deprecated_apis{resource="a\"b\\c",version="v1"} 1"#;
        assert_eq!(found(escaped, 5), [r#"a"b\c of v1"#]);
        let long = format!("{}\n{}", "x".repeat(10 * LINE_BYTES), PAGE);
        assert_eq!(found(&long, 4096).len(), 2);
    }
}
