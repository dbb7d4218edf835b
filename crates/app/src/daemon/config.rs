//! What can be changed while the daemon runs: a file, read at the start and again at SIGHUP.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ashlar_engine::CopyPolicy;
use serde::Deserialize;

use crate::cli::parse_duration;
use crate::failure::{Context as _, Failure, Result};

/// `--config FILE`; every field may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Config {
    /// What is logged: a level, or levels by module as in `warn,ashlar=debug`.
    pub(super) log: String,
    /// How often a world in which nothing moves is looked at.
    #[serde(deserialize_with = "duration")]
    pub(super) period: Duration,
    /// Pause before what blocked is tried again.
    #[serde(deserialize_with = "duration")]
    pub(super) retry_blocked_after: Duration,
    /// How long calls under way may go on after a stop was asked for.
    #[serde(deserialize_with = "duration")]
    pub(super) stop_grace: Duration,
    /// Hosts that get image files at the same time.
    pub(super) upload_hosts: u16,
    /// While more hosts than so many percent, and more than one, give no answer, none of them is turned off for it.
    pub(super) fence_max_percent: u32,
    /// Copies of the clusters' etcd.
    pub(super) etcd_snapshots: EtcdSnapshots,
}

/// Copies of the clusters' etcd: how often, how many, and where.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct EtcdSnapshots {
    /// Time between two of a cluster; `0s` takes none.
    #[serde(deserialize_with = "duration")]
    pub(super) every: Duration,
    /// So many of a cluster are kept.
    pub(super) keep: usize,
    /// None is kept longer, but the newest of a cluster; `0s` keeps them by count alone.
    #[serde(deserialize_with = "duration")]
    pub(super) keep_for: Duration,
    /// Where they are written; by default `etcd-snapshots` in the state directory.
    pub(super) directory: Option<PathBuf>,
    /// A bucket instead.
    pub(super) s3: Option<S3Bucket>,
}

/// A bucket at a service that speaks the protocol of Amazon's S3.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct S3Bucket {
    /// `https://…` of the service.
    pub(super) endpoint: String,
    /// As signatures name it.
    #[serde(default = "region")]
    pub(super) region: String,
    /// The bucket; it has to be there.
    pub(super) bucket: String,
    /// What all names begin with.
    #[serde(default)]
    pub(super) prefix: String,
    /// Credentials as AWS's programs read them, profile `default`.
    pub(super) credentials_file: PathBuf,
    /// Authorities of the service; by default those that the system trusts.
    #[serde(default)]
    pub(super) ca_file: Option<PathBuf>,
    /// `ENDPOINT/BUCKET`, which all services know, or `BUCKET.ENDPOINT`.
    #[serde(default = "path_style")]
    pub(super) path_style: bool,
}

fn region() -> String {
    "us-east-1".to_owned()
}

fn path_style() -> bool {
    true
}

impl S3Bucket {
    /// What goes there are databases with Secrets in them.
    fn check(&self) -> Result<()> {
        let loopback = ["http://127.0.0.1", "http://[::1]"];
        let is_here = loopback.iter().any(|start| {
            let rest = self.endpoint.strip_prefix(start);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        });
        if !self.endpoint.starts_with("https://") && !is_here {
            return Err(Failure::new("etcdSnapshots.s3.endpoint does not begin with https://"));
        }
        for (name, path) in
            [("credentialsFile", Some(&self.credentials_file)), ("caFile", self.ca_file.as_ref())]
        {
            if path.is_some_and(|path| !path.is_absolute()) {
                return Err(Failure::new(format!("etcdSnapshots.s3.{name} is not an absolute path")));
            }
        }
        Ok(())
    }
}

impl Default for EtcdSnapshots {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        EtcdSnapshots { every: 6 * HOUR, keep: 28, keep_for: 14 * 24 * HOUR, directory: None, s3: None }
    }
}

impl EtcdSnapshots {
    pub(super) fn policy(&self) -> CopyPolicy {
        let keep_for = Some(self.keep_for).filter(|limit| !limit.is_zero());
        CopyPolicy { every: self.every, keep: self.keep, keep_for }
    }

    /// Where copies lie that are in no bucket.
    pub(super) fn directory(&self, state_dir: &Path) -> PathBuf {
        self.directory.clone().unwrap_or_else(|| state_dir.join("etcd-snapshots"))
    }
}

/// Where half of the hosts are silent nobody knows which half is cut off.
const MOST_SILENT_PERCENT: u32 = 49;

/// The other crates' info is about each connection.
const LOG: &str = "warn,ashlar=info";

impl Default for Config {
    fn default() -> Self {
        let engine = ashlar_engine::Settings::new(uuid::Uuid::nil());
        Config {
            log: LOG.to_owned(),
            period: engine.resync_period,
            retry_blocked_after: engine.blocked_rest,
            stop_grace: engine.stop_grace,
            upload_hosts: u16::try_from(engine.upload_hosts).unwrap_or(u16::MAX),
            fence_max_percent: engine.fence_max_percent,
            etcd_snapshots: EtcdSnapshots::default(),
        }
    }
}

impl Config {
    /// Reads and checks the file; none is all defaults.
    pub(super) fn read(path: Option<&Path>) -> Result<Config> {
        let Some(path) = path else { return Ok(Config::default()) };
        let doing = || format!("cannot use {}", path.display());
        let text = std::fs::read_to_string(path).context(doing())?;
        Config::parse(&text).map_err(|failure| failure.because_of(doing()))
    }

    fn parse(text: &str) -> Result<Config> {
        let config: Config = if text.trim().is_empty() {
            Config::default()
        } else {
            serde_saphyr::from_str(text).map_err(|error| Failure::new(error.to_string().trim_end()))?
        };
        for (name, value, least) in
            [("period", config.period, 1), ("retryBlockedAfter", config.retry_blocked_after, 1)]
        {
            if value < Duration::from_secs(least) {
                return Err(Failure::new(format!("{name} is shorter than {least} s")));
            }
        }
        if config.upload_hosts == 0 {
            return Err(Failure::new("uploadHosts is 0: no host would ever get an image"));
        }
        if config.fence_max_percent > MOST_SILENT_PERCENT {
            return Err(Failure::new(format!(
                "fenceMaxPercent is more than {MOST_SILENT_PERCENT}: most hosts must answer, or it is Ashlar that is cut off"
            )));
        }
        let copies = &config.etcd_snapshots;
        if copies.keep == 0 {
            return Err(Failure::new("etcdSnapshots.keep is 0: `every: 0s` takes none"));
        }
        if copies.directory.as_ref().is_some_and(|directory| !directory.is_absolute()) {
            return Err(Failure::new("etcdSnapshots.directory is not an absolute path"));
        }
        if let Some(bucket) = &copies.s3 {
            if copies.directory.is_some() {
                return Err(Failure::new(
                    "etcdSnapshots has both directory and s3: copies go to one of them",
                ));
            }
            bucket.check()?;
        }
        if let Err(error) = config.log.parse::<tracing_subscriber::EnvFilter>() {
            return Err(Failure::new(format!("log: {error}")));
        }
        Ok(config)
    }
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_what_is_wrong_with_it_is_said() {
        let parse = |text: &str| Config::parse(text).map_err(|failure| failure.chain.join(": "));
        assert_eq!(parse(""), Ok(Config::default()));
        let some = parse("period: 5s\nlog: debug\nuploadHosts: 2\n").unwrap();
        assert_eq!((some.period, some.log.as_str(), some.upload_hosts), (Duration::from_secs(5), "debug", 2));
        assert_eq!(some.stop_grace, Config::default().stop_grace);
        for (text, said) in [
            ("period: soon", "`soon` is not a time"),
            ("period: 0s", "period is shorter than 1 s"),
            ("uploadHosts: 0", "no host would ever"),
            ("fenceMaxPercent: 60", "most hosts must answer"),
            ("periods: 5s", "periods"),
            ("log: ashlar=loud", "log: "),
            ("etcdSnapshots: {keep: 0}", "takes none"),
            ("etcdSnapshots: {directory: copies}", "not an absolute path"),
            ("etcdSnapshots: {often: 1h}", "often"),
            ("etcdSnapshots: {s3: {bucket: b}}", "endpoint"),
            (
                "etcdSnapshots: {s3: {endpoint: 'http://10.0.0.1', bucket: b, credentialsFile: /c}}",
                "https://",
            ),
            (
                "etcdSnapshots: {s3: {endpoint: 'http://127.0.0.1.example.com', bucket: b, credentialsFile: /c}}",
                "https://",
            ),
            (
                "etcdSnapshots: {s3: {endpoint: 'https://s3', bucket: b, credentialsFile: c}}",
                "not an absolute path",
            ),
            (
                "etcdSnapshots: {directory: /d, s3: {endpoint: 'https://s3', bucket: b, credentialsFile: /c}}",
                "one of them",
            ),
        ] {
            assert!(parse(text).is_err_and(|error| error.contains(said)), "{text}: {:?}", parse(text));
        }
    }
}
