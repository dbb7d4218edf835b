//! `ashlar cluster create`: a Cluster object out of flags, completed where there is no choice.

use ashlar_api::names::worker_group;
use ashlar_api::{
    Admission, Cluster, ClusterEndpoint, ClusterSpec, Image, InlineWorkerGroup, Kind, MachineClass, Object,
    Spread,
};

use crate::cli::ClusterCreateArgs;
use crate::failure::{Failure, Result};
use crate::objects::{Reader, object_ref};
use crate::settings::Settings;

/// What the store has to choose from.
struct Stock {
    images: Vec<Image>,
    classes: Vec<MachineClass>,
}

impl Stock {
    fn read(reader: &Reader) -> Result<Stock> {
        let mut stock = Stock { images: Vec::new(), classes: Vec::new() };
        for kind in [Kind::Image, Kind::MachineClass] {
            for object in reader.objects(kind, None)? {
                match object {
                    Object::Image(image) if !image.spec.kubernetes_version.is_empty() => {
                        stock.images.push(*image)
                    }
                    Object::MachineClass(class) => stock.classes.push(*class),
                    _ => {}
                }
            }
        }
        Ok(stock)
    }

    /// The newest version that there is an image of.
    fn newest_version(&self) -> Result<String> {
        let newest = self.images.iter().max_by_key(|image| version_key(&image.spec.kubernetes_version));
        newest.map(|image| image.spec.kubernetes_version.clone()).ok_or_else(|| {
            Failure::new("there is no node image in the store").hint(
                "`ashlar image build` makes one; `ashlar image register NAME` records one that was built",
            )
        })
    }

    fn only_class(&self, flag: &str) -> Result<String> {
        match self.classes.as_slice() {
            [one] => Ok(one.metadata.name.clone()),
            [] => Err(Failure::new("there is no machine class in the store")
                .hint("write one and apply it; `ashlar explain machineclass` tells its fields")),
            several => {
                let names: Vec<&str> = several.iter().map(|class| class.metadata.name.as_str()).collect();
                Err(Failure::new(format!("there are several machine classes: {}", names.join(", ")))
                    .hint(format!("choose with {flag}")))
            }
        }
    }
}

/// `v1.37.2` → (1, 37, 2); what is no version sorts first.
fn version_key(version: &str) -> Vec<u32> {
    version.trim_start_matches('v').split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

/// The Cluster that the flags ask for. `authorized_key` may log in to its nodes.
pub(super) fn from_flags(
    settings: &Settings,
    reader: &Reader,
    args: &ClusterCreateArgs,
    authorized_key: &str,
) -> Result<Cluster> {
    let stock = Stock::read(reader)?;
    let existing = match reader.find(&object_ref(Kind::Cluster, &args.name, &settings.namespace))? {
        Some(stored) => Some(crate::objects::typed(stored)?),
        None => None,
    };
    // What is not given stays as it is: a newer image must not turn a repeated `create` into an upgrade.
    let mut spec = match existing {
        Some(Object::Cluster(cluster)) => cluster.spec,
        _ => fresh(&stock, args, authorized_key)?,
    };
    if let Some(version) = &args.kubernetes {
        spec.kubernetes_version.clone_from(version);
    }
    if let Some(network) = &args.network {
        spec.network.clone_from(network);
    }
    if let Some(replicas) = args.control_planes {
        spec.control_plane.replicas = replicas;
    }
    if let Some(class) = &args.control_plane_class {
        spec.control_plane.class.clone_from(class);
    }
    if let Some(spread) = &args.spread {
        spec.control_plane.spread = parse_spread(spread)?;
    }
    if let Some(admission) = &args.admission {
        spec.admission = Some(parse_admission(admission)?);
    }
    if args.endpoint.is_some() {
        spec.endpoint.address = args.endpoint;
    }
    if !args.workers.is_empty() {
        spec.workers = parse_workers(&stock, &args.workers)?;
    }
    let mut cluster = Cluster::new(args.name.clone(), spec);
    cluster.metadata.namespace.clone_from(&settings.namespace);
    Ok(cluster)
}

fn fresh(stock: &Stock, args: &ClusterCreateArgs, authorized_key: &str) -> Result<ClusterSpec> {
    let version = match &args.kubernetes {
        Some(version) => version.clone(),
        None => stock.newest_version()?,
    };
    let class = match &args.control_plane_class {
        Some(class) => class.clone(),
        None => stock.only_class("--control-plane-class")?,
    };
    // Through the reader of manifests, so that defaults are those of a file.
    let value = serde_json::json!({
        "kubernetesVersion": version,
        "network": args.network.clone().unwrap_or_default(),
        "controlPlane": {"replicas": 1, "class": class},
        "sshAuthorizedKeys": [authorized_key],
    });
    let mut spec: ClusterSpec = serde_json::from_value(value)?;
    spec.endpoint = ClusterEndpoint::default();
    Ok(spec)
}

fn parse_spread(text: &str) -> Result<Spread> {
    match text {
        "required" => Ok(Spread::Required),
        "preferred" => Ok(Spread::Preferred),
        _ => Err(Failure::new(format!("`{text}` is not a spread: write required or preferred"))),
    }
}

fn parse_admission(text: &str) -> Result<Admission> {
    match text {
        "n+1" => Ok(Admission::NPlusOne),
        "none" => Ok(Admission::None),
        _ => Err(Failure::new(format!("`{text}` is not an admission: write n+1 or none"))),
    }
}

/// `2` (group `wkr` of the only class), `2:big` (of that class), `gpu=2:big`.
fn parse_workers(stock: &Stock, texts: &[String]) -> Result<Vec<InlineWorkerGroup>> {
    let mut groups: Vec<InlineWorkerGroup> = Vec::new();
    for text in texts {
        let wrong = || {
            Failure::new(format!("--workers {text}: that is not a worker group"))
                .hint("write NUMBER, NUMBER:CLASS or NAME=NUMBER:CLASS, as wkr=3:large")
        };
        let (name, rest) = text.split_once('=').unwrap_or(("wkr", text));
        let (count, class) = match rest.split_once(':') {
            Some((count, class)) => (count, class.to_owned()),
            None => (rest, stock.only_class("--workers NAME=NUMBER:CLASS")?),
        };
        let replicas: u32 = count.parse().map_err(|_| wrong())?;
        if name.is_empty() || class.is_empty() {
            return Err(wrong());
        }
        if groups.iter().any(|group| group.name == name) {
            let group = worker_group("CLUSTER", name);
            return Err(Failure::new(format!("worker group {name} is given twice ({group})"))
                .hint("give each group a name of its own: --workers a=2:class --workers b=1:class"));
        }
        groups.push(InlineWorkerGroup {
            name: name.to_owned(),
            class,
            replicas: Some(replicas),
            labels: Default::default(),
            rollout: ashlar_api::Rollout::default(),
            taints: Vec::new(),
        });
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(classes: &[&str]) -> Stock {
        let class = |name: &&str| {
            let spec = serde_json::json!({"vcpus": 2, "memory": "3Gi", "rootDisk": "10Gi"});
            MachineClass::new(*name, serde_json::from_value(spec).unwrap())
        };
        Stock { images: Vec::new(), classes: classes.iter().map(class).collect() }
    }

    fn groups(classes: &[&str], texts: &[&str]) -> Result<Vec<(String, u32, String)>, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let groups = parse_workers(&stock(classes), &texts).map_err(|failure| failure.chain.join(": "))?;
        Ok(groups.into_iter().map(|group| (group.name, group.replicas.unwrap_or(0), group.class)).collect())
    }

    #[test]
    fn worker_groups_are_read() {
        assert_eq!(groups(&["small"], &["2"]), Ok(vec![("wkr".into(), 2, "small".into())]));
        assert_eq!(groups(&["a", "b"], &["x=3:b"]), Ok(vec![("x".into(), 3, "b".into())]));
        assert!(groups(&["a", "b"], &["3"]).is_err_and(|text| text.contains("several machine classes")));
        assert!(groups(&["a"], &["many"]).is_err());
        assert!(groups(&["a"], &["1", "2"]).is_err_and(|text| text.contains("twice")));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version_key("v1.37.10") > version_key("v1.37.2"));
        assert!(version_key("v1.37.0") > version_key("v1.36.30"));
    }
}
