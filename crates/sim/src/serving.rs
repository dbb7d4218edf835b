//! Kubelets that ask for the certificates that they serve with, others that do as if they were one, and the judge of the answers.
//!
//! Only in a world that was told so (`kubelets ask for certificates`): each join has an action more then.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ashlar_api::{Machine, NamespacedName};
use ashlar_engine::effects::{EffectError, EffectErrorKind, ServingDecision, ServingRequestNow};
use ashlar_plan::{AskedCertificate, ServingRequest};
use uuid::Uuid;

use crate::guest::cluster_of;
use crate::whereabouts::live_machine;
use crate::{SimCluster, State};

/// A request in an API server.
#[derive(Clone, Debug)]
pub struct SimCsr {
    pub(crate) request: ServingRequest,
    /// Whether whoever made it asked for what is theirs: known because it was made here.
    pub(crate) is_honest: bool,
    /// Whose guest made it, or is spoken for.
    machine: Option<Uuid>,
    /// Approved, or denied.
    pub approved: Option<bool>,
}

/// What is asked for, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    /// A kubelet asks for its own: its certificate is about to run out.
    Again,
    ForeignAddress,
    ForeignName,
    AsAnotherNode,
    ClientAuth,
    AsMaster,
    WithoutName,
    WithMail,
    Unreadable,
    /// It has not the key.
    WithoutKey,
    /// Somebody who is no node asks in its name.
    Somebody,
}

impl Asking {
    pub(crate) const HOSTILE: [(&str, Asking); 10] = [
        ("for a foreign address", Asking::ForeignAddress),
        ("for a foreign name", Asking::ForeignName),
        ("as another node", Asking::AsAnotherNode),
        ("for client auth", Asking::ClientAuth),
        ("as a master", Asking::AsMaster),
        ("without a name", Asking::WithoutName),
        ("for a mail address", Asking::WithMail),
        ("in no language", Asking::Unreadable),
        ("without the key", Asking::WithoutKey),
        ("through somebody", Asking::Somebody),
    ];

    pub(crate) fn parse(words: &[&str]) -> Result<Asking, String> {
        let words = words.join(" ");
        let known = || format!("kubelets ask `again`, or {:?}", Asking::HOSTILE.map(|(words, _)| words));
        if words == "again" {
            return Ok(Asking::Again);
        }
        Asking::HOSTILE.iter().find(|(known, _)| *known == words).map(|(_, asking)| *asking).ok_or_else(known)
    }
}

fn request_of(machine: &Machine, asking: Asking) -> ServingRequest {
    let text = |text: &str| text.to_owned();
    let node = machine.spec.node.name.clone();
    let user = format!("system:node:{node}");
    let mut asked = AskedCertificate {
        common_names: vec![user.clone()],
        organizations: vec![text("system:nodes")],
        dns_names: [node].into(),
        addresses: machine.spec.node_address().map(IpAddr::V4).into_iter().collect(),
        ..AskedCertificate::default()
    };
    let mut request = ServingRequest {
        username: user,
        groups: [text("system:nodes"), text("system:authenticated")].into(),
        usages: [text("digital signature"), text("server auth")].into(),
        asked: Err(text("its PKCS#10: it is garbage")),
    };
    match asking {
        Asking::Again => {}
        Asking::ForeignAddress => _ = asked.addresses.insert(IpAddr::from([192, 0, 2, 66])),
        Asking::ForeignName => _ = asked.dns_names.insert(text("kubernetes.default.svc")),
        Asking::AsAnotherNode => asked.common_names = vec![text("system:node:another")],
        Asking::ClientAuth => _ = request.usages.insert(text("client auth")),
        Asking::AsMaster => asked.organizations = vec![text("system:masters")],
        Asking::WithoutName => (asked.dns_names, asked.addresses) = (BTreeSet::new(), BTreeSet::new()),
        Asking::WithMail => asked.others.push(text("e-mail address root@example.org")),
        Asking::WithoutKey => asked.key_fault = Some(text("its key did not sign it")),
        Asking::Somebody => request.username = text("mallory"),
        Asking::Unreadable => return request,
    }
    request.asked = Ok(asked);
    request
}

impl State {
    /// A node that has joined asks for its first certificate.
    pub(crate) fn kubelet_asks_first(&mut self, machine: &Machine) {
        if self.kubelets_ask {
            self.add_csr(machine, Asking::Again);
        }
    }

    /// A node asks, in the words of a scenario.
    ///
    /// # Errors
    /// There are no such words.
    pub fn let_kubelet_ask(&mut self, machine: &str, how: &str) -> Result<(), String> {
        let words: Vec<&str> = how.split(' ').collect();
        self.kubelet_asks(machine, Asking::parse(&words)?);
        Ok(())
    }

    /// A node asks, if it is one.
    pub(crate) fn kubelet_asks(&mut self, name: &str, asking: Asking) {
        let domains = self.hosts.values().flat_map(|host| host.domains.values());
        let own = domains.filter_map(live_machine).find(|machine| machine.metadata.name == name).cloned();
        let Some(machine) = own else { return };
        let cluster = cluster_of(&machine);
        if crate::guest::is_node(self, &cluster, &machine.spec.node.name)
            && crate::guest::api_answers(self, &cluster)
        {
            self.add_csr(&machine, asking);
        }
    }

    fn add_csr(&mut self, machine: &Machine, asking: Asking) {
        let cluster = cluster_of(machine);
        let Some(world) = self.clusters.get_mut(&cluster) else { return };
        let name = format!("csr-{}", world.csrs.len() + 1);
        let request = request_of(machine, asking);
        let csr = SimCsr {
            request,
            is_honest: asking == Asking::Again,
            machine: machine.metadata.uid,
            approved: None,
        };
        world.csrs.insert(name.clone(), csr);
        self.etcd_write(&cluster);
        self.note(format!("guest {}: asks for a certificate, {name}", machine.spec.node.name));
        self.touched();
    }

    /// Takes a decision, and judges it: an approval by who made the request, whose domain has which addresses.
    pub(crate) fn take_decision(
        &mut self,
        cluster: &NamespacedName,
        csr: &str,
        decision: &ServingDecision,
    ) -> Result<(), EffectError> {
        let world = self.clusters.get_mut(cluster);
        let Some(found) = world.and_then(|world| world.csrs.get_mut(csr)) else {
            return Err(EffectError::new(EffectErrorKind::NotFound, format!("there is no request {csr}")));
        };
        if found.approved.is_some() {
            return Err(EffectError::new(EffectErrorKind::Busy, format!("request {csr} was changed")));
        }
        found.approved = Some(decision.approve);
        let found = found.clone();
        let verb = if decision.approve { "approved" } else { "denied" };
        let message = &decision.message;
        self.etcd_write(cluster);
        self.note(format!("api {cluster}: {csr} was {verb}: {message}"));
        if decision.approve && !(found.is_honest && self.is_of_a_domain(cluster, &found.request)) {
            self.oracle_violated("serving", format!("{csr} of {cluster} was approved, and is not right"));
        }
        if !decision.approve && found.is_honest && self.can_be_known(cluster, &found) {
            self.oracle_violated(
                "serving",
                format!("{csr} of {cluster} was denied, and is right: {message}"),
            );
        }
        Ok(())
    }

    /// Whether it can be known that a node is honest: the machine of its name is still the one that the store knows, and the
    /// node does not say to be somebody else's.
    fn can_be_known(&self, cluster: &NamespacedName, csr: &SimCsr) -> bool {
        let node = csr.request.username.trim_start_matches("system:node:");
        let stored = self.stored_uid("Machine", &NamespacedName::new(&cluster.namespace, node));
        let world = self.clusters.get(cluster);
        let lies = world
            .and_then(|world| world.nodes.get(node))
            .is_some_and(|node| !node.provider_id.starts_with("ashlar://"));
        stored == csr.machine && !lies
    }

    /// Whether a domain of the cluster has the name and all addresses that are asked for.
    fn is_of_a_domain(&self, cluster: &NamespacedName, request: &ServingRequest) -> bool {
        let Ok(asked) = &request.asked else { return false };
        let domains = self.hosts.values().flat_map(|host| host.domains.values());
        let machines =
            domains.filter_map(|domain| domain.machine().or(domain.mark.as_ref()?.machine.as_deref()));
        machines.filter(|machine| cluster_of(machine) == *cluster).any(|machine| {
            let name = &machine.spec.node.name;
            let own: BTreeSet<String> =
                machine.spec.nics.iter().map(|nic| nic.address.addr().to_string()).collect();
            asked.common_names == [format!("system:node:{name}")]
                && asked.dns_names.iter().all(|dns| dns == name)
                && asked.addresses.iter().all(|address| own.contains(&address.to_string()))
        })
    }
}

impl SimCluster {
    pub(crate) fn csr_now(&self, csr: &str) -> Option<ServingRequestNow> {
        let found = self.csrs.get(csr)?;
        Some(ServingRequestNow {
            resource_version: "1".to_owned(),
            request: found.request.clone(),
            is_decided: found.approved.is_some(),
        })
    }

    /// Requests that were approved, that were denied, and that nobody has decided.
    pub fn csr_counts(&self) -> (usize, usize, usize) {
        let count = |which: Option<bool>| self.csrs.values().filter(|csr| csr.approved == which).count();
        (count(Some(true)), count(Some(false)), count(None))
    }
}
