//! A short look whether released Kubernetes can be had.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::programs;
use super::registry::Base;
use crate::cache::Context;
use crate::error::{Error, Result};
use crate::fetch::{Client, Timing, Trouble};
use crate::source::Release;
use crate::version::Version;

/// Asks all servers at once. Why one of them cannot be used, or nothing if all can.
pub(crate) fn objection(ctx: &Context<'_>, release: &Release, version: &Version) -> Result<Option<String>> {
    let urls = [
        format!("{}.sha256", programs::url(release, version, "kubeadm")),
        Base::parse(&release.registry, "--registry")?.ping_url(),
        Base::parse(&release.flannel_registry, "--flannel-registry")?.ping_url(),
        format!("{}.sha256", programs::cni_url(release)),
    ];
    let client = Client::new(Timing::PROBE);
    // Their deadline is short; Ctrl-C is looked at when they are back.
    let nobody = Arc::new(AtomicBool::new(false));
    let threads = urls.map(|url| {
        let (client, nobody) = (client.clone(), Arc::clone(&nobody));
        std::thread::spawn(move || ask(&client, &nobody, &url))
    });
    let mut first = None;
    for thread in threads {
        let found = thread.join().unwrap_or_else(|_| Some("the request was cut short".to_owned()));
        first = first.or(found);
    }
    if ctx.cancel.load(Ordering::Relaxed) {
        return Err(Error::Cancelled { stage: "source of Kubernetes".to_owned() });
    }
    Ok(first)
}

fn ask(client: &Client, cancel: &AtomicBool, url: &str) -> Option<String> {
    match client.get(cancel, url, &[]) {
        // A registry that wants a token first is one that answers.
        Ok(answer) if matches!(answer.status, 200..=399) => None,
        Ok(answer) if answer.status == 401 && url.ends_with("/v2/") => None,
        Ok(answer) => Some(format!("{url} answers {}", answer.status)),
        Err(Trouble::NoAnswer(cause) | Trouble::Broken(cause)) => Some(format!("{url}: {cause}")),
        Err(Trouble::Cancelled) => Some(format!("{url}: not waited for")),
    }
}
