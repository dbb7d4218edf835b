//! What a download is for, and what its failure means there.

use super::client::{Answer, Trouble};
use crate::error::Error;

/// What a download is for, so that its failure can be explained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) stage: &'a str,
    /// The option that names another server, such as `--release-url`.
    pub(crate) option: &'a str,
    /// What to do when the server is there but what is asked for is not.
    pub(crate) if_missing: &'a str,
}

/// How one attempt ended.
pub(super) enum Attempt {
    Final(Error),
    Again(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Attempt::Final(error)
    }
}

impl Place<'_> {
    /// Nobody answered, or somebody who is not trusted.
    pub(super) fn unreachable(&self, url: &str, cause: String) -> Error {
        let option = self.option;
        let next = if cause.contains("certificate") {
            format!(
                "let this machine trust the server's authority (`update-ca-certificates`), or name another one with \
                 `{option} URL`"
            )
        } else {
            format!(
                "check the network and the proxy variables (HTTPS_PROXY, NO_PROXY), name a mirror with `{option} URL`, or \
                 build with `--source modules`"
            )
        };
        Error::Fetch { stage: self.stage.to_owned(), url: url.to_owned(), cause, next, is_missing: false }
    }

    /// The server answered that it will not.
    pub(super) fn refused(&self, url: &str, answer: &Answer) -> Attempt {
        let status = answer.status;
        let (cause, next) = match status {
            404 | 410 => (format!("it is not there ({status})"), self.if_missing.to_owned()),
            401 | 403 => (
                format!("the server refuses it ({status})"),
                format!(
                    "Ashlar sends no password: name a server that gives it to everybody with `{} URL`",
                    self.option
                ),
            ),
            _ => (
                format!("the server answered {status}"),
                format!("run the command again later, or name another server with `{} URL`", self.option),
            ),
        };
        let error = Error::Fetch {
            stage: self.stage.to_owned(),
            url: url.to_owned(),
            cause,
            next,
            is_missing: matches!(status, 404 | 410),
        };
        if status >= 500 || status == 429 { Attempt::Again(error) } else { Attempt::Final(error) }
    }

    /// The answer broke off.
    pub(super) fn broken(&self, url: &str, trouble: &Trouble, at: u64, total: Option<u64>) -> Attempt {
        let cause = match trouble {
            Trouble::Cancelled => {
                return Attempt::Final(Error::Cancelled { stage: self.stage.to_owned() });
            }
            Trouble::Broken(cause) | Trouble::NoAnswer(cause) => cause,
        };
        let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
        Attempt::Again(Error::Fetch {
            stage: self.stage.to_owned(),
            url: url.to_owned(),
            cause: format!("{cause}, after {at}{of} bytes"),
            next: format!(
                "run the command again: what has arrived is kept; or name another server with `{} URL`",
                self.option
            ),
            is_missing: false,
        })
    }

    /// The server answered, and its answer cannot be used.
    pub(crate) fn elsewhere(&self, url: &str, cause: &str) -> Error {
        Error::Fetch {
            stage: self.stage.to_owned(),
            url: url.to_owned(),
            cause: cause.to_owned(),
            next: format!("name another server with `{} URL`", self.option),
            is_missing: false,
        }
    }
}
