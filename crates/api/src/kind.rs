//! The list of kinds, with the names by which people and files call them.

use serde::{Deserialize, Serialize};

/// A kind of object.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[expect(missing_docs, reason = "each variant is the kind of that name, documented at its spec")]
pub enum Kind {
    Host,
    StoragePool,
    Network,
    Image,
    MachineClass,
    Cluster,
    WorkerGroup,
    Machine,
    Volume,
    Secret,
    Event,
}

impl Kind {
    /// All kinds, in the order in which they are shown and applied (what others refer to comes first).
    pub const ALL: [Kind; 11] = [
        Kind::Host,
        Kind::StoragePool,
        Kind::Network,
        Kind::Image,
        Kind::MachineClass,
        Kind::Secret,
        Kind::Cluster,
        Kind::WorkerGroup,
        Kind::Machine,
        Kind::Volume,
        Kind::Event,
    ];

    /// The name that stands in `kind:`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Host => "Host",
            Kind::StoragePool => "StoragePool",
            Kind::Network => "Network",
            Kind::Image => "Image",
            Kind::MachineClass => "MachineClass",
            Kind::Cluster => "Cluster",
            Kind::WorkerGroup => "WorkerGroup",
            Kind::Machine => "Machine",
            Kind::Volume => "Volume",
            Kind::Secret => "Secret",
            Kind::Event => "Event",
        }
    }

    /// The lower-case plural, as in `ashlar get machines`.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Host => "hosts",
            Kind::StoragePool => "storagepools",
            Kind::Network => "networks",
            Kind::Image => "images",
            Kind::MachineClass => "machineclasses",
            Kind::Cluster => "clusters",
            Kind::WorkerGroup => "workergroups",
            Kind::Machine => "machines",
            Kind::Volume => "volumes",
            Kind::Secret => "secrets",
            Kind::Event => "events",
        }
    }

    /// Short names, as `kubectl api-resources` has them.
    pub fn short_names(self) -> &'static [&'static str] {
        match self {
            Kind::StoragePool => &["pool", "pools", "sp"],
            Kind::Network => &["net", "nets"],
            Kind::MachineClass => &["class", "classes", "mc"],
            Kind::WorkerGroup => &["wg", "group", "groups"],
            Kind::Machine => &["m"],
            Kind::Volume => &["vol", "vols"],
            Kind::Event => &["ev"],
            _ => &[],
        }
    }

    /// Whether objects of this kind live in a namespace (a tenant).
    pub fn is_namespaced(self) -> bool {
        matches!(
            self,
            Kind::Cluster | Kind::WorkerGroup | Kind::Machine | Kind::Volume | Kind::Secret | Kind::Event
        )
    }

    /// Whether people may write objects of this kind; the others are written by the planner or the engine.
    pub fn is_user_written(self) -> bool {
        !matches!(self, Kind::Machine | Kind::Volume | Kind::Secret | Kind::Event)
    }

    /// Finds a kind by its name, plural, singular or short name, in any case.
    pub fn parse(text: &str) -> Option<Kind> {
        let wanted = text.to_ascii_lowercase();
        Kind::ALL.into_iter().find(|kind| {
            kind.plural() == wanted
                || kind.name().to_ascii_lowercase() == wanted
                || kind.short_names().contains(&wanted.as_str())
        })
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
