//! Figures for Prometheus: `/metrics`. Names and units are listed in `packaging/README.md`, which a test compares.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ashlar_api::condition::find_condition;
use ashlar_api::{Condition, ConditionStatus, NamespacedName};
use ashlar_engine::{EngineEvent, PassReport};
use ashlar_plan::{Action, HostSeen, StepState};
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::process::ProcessFigures;

/// What Prometheus is told that the text is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

macro_rules! labels {
    ($($name:ident { $($label:ident),+ })+) => { $(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: String),+ }
    )+ };
}

labels! {
    Outcome { outcome }
    ActionOutcome { action, outcome }
    ActionName { action }
    Verb { verb }
    State { state }
    Phase { phase }
    HostName { host }
    Call { call }
    ClusterName { namespace, cluster }
    DaemonName { daemon }
}

/// The figures, and how they are written.
pub(super) struct Metrics {
    /// Held while what belongs together is changed or written.
    registry: Mutex<Registry>,
    passes: Family<Outcome, Counter>,
    pass_duration: Histogram,
    last_pass: Gauge<f64, std::sync::atomic::AtomicU64>,
    actions: Family<ActionOutcome, Counter>,
    action_duration: Family<ActionName, Histogram>,
    in_flight: Gauge,
    decisions: Family<Verb, Counter>,
    steps: Family<State, Gauge>,
    hosts: Family<HostName, Gauge>,
    clusters: Family<ClusterName, Gauge>,
    machines: Family<Phase, Gauge>,
    sent: Family<HostName, Counter>,
    waiting: Gauge,
    leading: Gauge,
    leader: Family<DaemonName, Gauge>,
    calls: Family<Call, Counter>,
    etcd_copy: Family<ClusterName, Gauge<f64, std::sync::atomic::AtomicU64>>,
    etcd_failures: Family<ClusterName, Counter>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(ProcessFigures::new()));
        let registry = all.sub_registry_with_prefix("ashlar");
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version that runs", Info::new(version));
        let passes = Family::default();
        registry.register("passes", "Passes (observe, plan, check, act), by outcome", passes.clone());
        // 10 ms to 80 s: a pass that waits for hosts that hang takes some 20 s.
        let pass_duration = Histogram::new(exponential_buckets(0.01, 2.0, 14));
        let help = "How long passes took that ended well";
        registry.register_with_unit("pass_duration", help, Unit::Seconds, pass_duration.clone());
        let last_pass = Gauge::default();
        let help = "When a pass ended well last, since 1970";
        registry.register_with_unit("last_pass_timestamp", help, Unit::Seconds, last_pass.clone());
        let actions = Family::default();
        registry.register("actions", "Actions on hosts and clusters, by outcome", actions.clone());
        let constructor: fn() -> Histogram = || Histogram::new(exponential_buckets(0.05, 2.0, 15));
        let action_duration = Family::new_with_constructor(constructor);
        let help = "How long actions took that ended well";
        registry.register_with_unit("action_duration", help, Unit::Seconds, action_duration.clone());
        let in_flight = Gauge::default();
        registry.register("steps_in_flight", "Objects that are worked on now", in_flight.clone());
        let decisions = Family::default();
        registry.register("decisions", "Objects written by decisions", decisions.clone());
        let steps = Family::default();
        registry.register("steps", "Steps of the last plan, by state", steps.clone());
        let hosts = Family::default();
        let help = "Whether a host answered in the last pass and is ours (1) or not (0)";
        registry.register("host_reachable", help, hosts.clone());
        let clusters = Family::default();
        registry.register("cluster_ready", "Whether a cluster is Ready (1) or not (0)", clusters.clone());
        let machines = Family::default();
        registry.register("machines", "Machines, by phase", machines.clone());
        let sent = Family::default();
        registry.register_with_unit("image_sent", "Image data sent to hosts", Unit::Bytes, sent.clone());
        let waiting = Gauge::default();
        registry.register("commands_waiting", "Commands that wait for the daemon now", waiting.clone());
        let leading = Gauge::default();
        registry.register("leading", "Whether this daemon works (1) or stands by (0)", leading.clone());
        let leader = Family::default();
        let help = "Which of several daemons works, as this one sees it";
        registry.register("leader", help, leader.clone());
        let calls = Family::default();
        registry.register("libvirt_calls", "Calls of libvirt; from 0 again after a reload", calls.clone());
        let etcd_copy = Family::default();
        let help = "When this daemon copied a cluster's etcd last, since 1970";
        registry.register_with_unit("etcd_snapshot_timestamp", help, Unit::Seconds, etcd_copy.clone());
        let etcd_failures = Family::default();
        let help = "Copies and defragmentations of a cluster's etcd that failed";
        registry.register("etcd_maintenance_failures", help, etcd_failures.clone());
        Metrics {
            registry: Mutex::new(all),
            passes,
            pass_duration,
            last_pass,
            actions,
            action_duration,
            in_flight,
            decisions,
            steps,
            hosts,
            clusters,
            machines,
            sent,
            waiting,
            leading,
            leader,
            calls,
            etcd_copy,
            etcd_failures,
        }
    }

    /// A cluster's etcd was copied.
    pub(super) fn etcd_copied(&self, cluster: &NamespacedName, at: Timestamp) {
        let _together = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        #[expect(clippy::cast_precision_loss, reason = "seconds")]
        self.etcd_copy.get_or_create(&named(cluster)).set(at.as_second() as f64);
    }

    /// A cluster's etcd could not be looked after.
    pub(super) fn etcd_failed(&self, cluster: &NamespacedName) {
        let _together = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.etcd_failures.get_or_create(&named(cluster)).inc();
    }

    /// Who works now: this daemon, or another of that name; of an installation with one daemon there is no name.
    pub(super) fn leader(&self, is_own: bool, name: Option<&str>) {
        let _together = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.leading.set(i64::from(is_own));
        self.leader.clear();
        if let Some(name) = name {
            self.leader.get_or_create(&DaemonName { daemon: name.to_owned() }).set(1);
        }
    }

    /// The text for Prometheus. `calls` are libvirt's, by kind.
    pub(super) fn text(
        &self,
        calls: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> Result<String, std::fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.calls.clear();
        for (call, count) in calls {
            self.calls.get_or_create(&Call { call: call.to_owned() }).inc_by(count);
        }
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    /// A command begins to wait, or (with -1) ends.
    pub(super) fn waiting(&self, change: i64) {
        self.waiting.inc_by(change);
    }

    pub(super) fn event(&self, event: &EngineEvent) {
        let action = |step: &ashlar_plan::Step, outcome: &str| {
            let action = step.action.as_ref().map_or_else(|| "none".to_owned(), name);
            self.actions.get_or_create(&ActionOutcome { action, outcome: outcome.to_owned() }).inc();
        };
        match event {
            EngineEvent::Committed { writes } => {
                for write in writes {
                    self.decisions.get_or_create(&Verb { verb: write.verb.word().to_owned() }).inc();
                }
            }
            EngineEvent::ActionDone { step, elapsed } => {
                action(step, "done");
                let action = step.action.as_ref().map_or_else(|| "none".to_owned(), name);
                self.action_duration.get_or_create(&ActionName { action }).observe(elapsed.as_secs_f64());
            }
            EngineEvent::ActionFailed { step, .. } => action(step, "failed"),
            EngineEvent::Transferred(transfer) => {
                let host = HostName { host: transfer.host.clone() };
                self.sent.get_or_create(&host).inc_by(transfer.chunk_bytes);
            }
            _ => {}
        }
    }

    pub(super) fn pass_failed(&self) {
        self.passes.get_or_create(&Outcome { outcome: "failed".to_owned() }).inc();
    }

    pub(super) fn pass(&self, report: &PassReport<'_>) {
        let _together = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.passes.get_or_create(&Outcome { outcome: "done".to_owned() }).inc();
        self.pass_duration.observe(report.elapsed.as_secs_f64());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_pass.set(now.as_secs_f64());
        self.in_flight.set(number(report.in_flight as u64));
        if report.has_decided {
            // Its plan is of what was before.
            return;
        }
        for state in ["ready", "waiting", "blocked"] {
            let is_in = |step: &&ashlar_plan::Step| match step.state {
                StepState::Ready => state == "ready",
                StepState::Waiting(_) => state == "waiting",
                StepState::Blocked(_) => state == "blocked",
            };
            let count = report.plan.steps.iter().filter(is_in).count();
            self.steps.get_or_create(&State { state: state.to_owned() }).set(number(count as u64));
        }
        self.hosts.clear();
        for (host, seen) in &report.snapshot.observed.hosts {
            let is_seen = matches!(seen, HostSeen::Seen(_));
            self.hosts.get_or_create(&HostName { host: host.clone() }).set(i64::from(is_seen));
        }
        self.clusters.clear();
        for (name, cluster) in &report.snapshot.clusters {
            let labels = named(name);
            self.clusters.get_or_create(&labels).set(i64::from(is_ready(&cluster.status.conditions)));
        }
        self.machines.clear();
        for machine in report.snapshot.machines.values() {
            // "Kubeadm: init" is of the phase Kubeadm: the rest of it may be any text.
            let phase = machine.status.phase.split([':', ' ']).next().unwrap_or_default().to_owned();
            self.machines.get_or_create(&Phase { phase }).inc();
        }
    }
}

fn is_ready(conditions: &[Condition]) -> bool {
    find_condition(conditions, "Ready").is_some_and(|ready| ready.status == ConditionStatus::True)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// `startDomain`
fn name(action: &Action) -> String {
    let value = serde_json::to_value(action).unwrap_or_default();
    value["action"].as_str().unwrap_or_default().to_owned()
}

fn named(cluster: &NamespacedName) -> ClusterName {
    ClusterName { namespace: cluster.namespace.clone(), cluster: cluster.name.clone() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use ashlar_api::{Kind, NamespacedName, ObjectRef};
    use ashlar_engine::{CommittedWrite, Transfer};
    use ashlar_plan::{Plan, Report, Snapshot, Step};

    use super::*;

    const README: &str = include_str!("../../../../packaging/README.md");
    const DASHBOARD: &str = include_str!("../../../../packaging/grafana/ashlar.json");

    /// After something of each kind has happened: what never happened has no lines.
    fn busy() -> Metrics {
        let metrics = Metrics::new();
        let machine = NamespacedName::new("default", "demo-ctrl-1");
        let object = ObjectRef::new(Kind::Machine, "default", "demo-ctrl-1");
        let step = Step {
            object: object.clone(),
            host: "h1".to_owned(),
            action: Some(Action::StartDomain { machine: machine.clone() }),
            state: StepState::Ready,
            why: "it is off".to_owned(),
        };
        metrics.event(&EngineEvent::ActionDone { step: step.clone(), elapsed: Duration::from_millis(1500) });
        metrics.event(&EngineEvent::ActionFailed {
            step: step.clone(),
            error: String::new(),
            will_retry: true,
        });
        let write = CommittedWrite { object: object.clone(), verb: ashlar_engine::WriteVerb::Created };
        metrics.event(&EngineEvent::Committed { writes: vec![write] });
        metrics.event(&EngineEvent::Transferred(Transfer {
            volume: object,
            host: "h1".to_owned(),
            chunk_bytes: 32 << 20,
            done_bytes: 32 << 20,
            sent_bytes: 32 << 20,
            size_bytes: 64 << 20,
            elapsed: Duration::from_secs(1),
        }));
        let mut snapshot = Snapshot::empty(uuid::Uuid::nil(), jiff::Timestamp::UNIX_EPOCH);
        let unreachable = HostSeen::Unreachable { reason: "no route".to_owned() };
        snapshot.observed.hosts.insert("h1".to_owned(), unreachable);
        let plan = Plan { decisions: Vec::new(), steps: vec![step], report: Report::default() };
        let (elapsed, in_flight) = (Duration::from_millis(20), 1);
        metrics.pass(&PassReport {
            elapsed,
            snapshot: &snapshot,
            plan: &plan,
            has_decided: false,
            in_flight,
        });
        metrics.pass_failed();
        metrics.leader(false, Some("bastion-1"));
        metrics.leader(true, Some("bastion-2"));
        let demo = ClusterName { namespace: "default".to_owned(), cluster: "demo".to_owned() };
        metrics.clusters.get_or_create(&demo).set(1);
        metrics.machines.get_or_create(&Phase { phase: "Ready".to_owned() }).set(1);
        let demo = NamespacedName::new("default", "demo");
        metrics.etcd_copied(&demo, Timestamp::from_second(1_767_225_600).unwrap());
        metrics.etcd_failed(&demo);
        metrics
    }

    fn text() -> String {
        busy().text([("read", 7)]).unwrap()
    }

    /// Names with the endings that samples have.
    fn samples(text: &str) -> BTreeSet<String> {
        let words = text.lines().filter(|line| !line.starts_with('#'));
        words.filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned())).collect()
    }

    #[test]
    fn what_happened_is_counted_with_names_and_units_as_prometheus_has_them() {
        let text = text();
        for line in [
            "# TYPE ashlar_passes counter",
            r#"ashlar_passes_total{outcome="done"} 1"#,
            r#"ashlar_passes_total{outcome="failed"} 1"#,
            r#"ashlar_actions_total{action="startDomain",outcome="done"} 1"#,
            r#"ashlar_actions_total{action="startDomain",outcome="failed"} 1"#,
            "# UNIT ashlar_action_duration_seconds seconds",
            r#"ashlar_action_duration_seconds_sum{action="startDomain"} 1.5"#,
            r#"ashlar_host_reachable{host="h1"} 0"#,
            r#"ashlar_steps{state="ready"} 1"#,
            "ashlar_steps_in_flight 1",
            "ashlar_leading 1",
            r#"ashlar_leader{daemon="bastion-2"} 1"#,
            r#"ashlar_image_sent_bytes_total{host="h1"} 33554432"#,
            r#"ashlar_libvirt_calls_total{call="read"} 7"#,
            r#"ashlar_etcd_maintenance_failures_total{namespace="default",cluster="demo"} 1"#,
            "# UNIT ashlar_etcd_snapshot_timestamp_seconds seconds",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_readme_lists_exactly_the_metrics_that_there_are() {
        let table = README.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let listed: BTreeSet<&str> =
            table.filter(|name| name.starts_with("ashlar_") || name.starts_with("process_")).collect();
        let text = text();
        let samples = samples(&text);
        let plain = |name: &String| {
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            stem.unwrap_or(name).to_owned()
        };
        let there: BTreeSet<String> = samples.iter().map(plain).collect();
        assert_eq!(listed, there.iter().map(String::as_str).collect());
    }

    #[test]
    fn the_dashboard_asks_only_for_metrics_that_there_are() {
        let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
        let mut queries = Vec::new();
        collect(&dashboard, &mut queries);
        assert!(queries.len() > 20, "{queries:?}");
        let text = text();
        let samples = samples(&text);
        let mut asked = 0;
        for query in &queries {
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("ashlar_") || word.starts_with("process_")) {
                assert!(samples.contains(word), "{word} in {query}");
                asked += 1;
            }
        }
        assert!(asked >= queries.len(), "a query asks for none of ours");
    }

    /// Everything that Prometheus is asked.
    fn collect(value: &serde_json::Value, queries: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(query) if name == "expr" => queries.push(query.to_owned()),
                        Some(query) if name == "query" && query != "prometheus" => {
                            queries.push(query.to_owned());
                        }
                        _ => collect(value, queries),
                    }
                }
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
            _ => {}
        }
    }
}
