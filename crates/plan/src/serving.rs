//! Kubelets' requests for the certificates that they serve with (signer `kubernetes.io/kubelet-serving`): which are right.
//!
//! Kubernetes approves none of them by itself, because only who made the machine knows its name and its addresses.

use std::{collections::BTreeSet, net::IpAddr};

use ashlar_api::{Machine, NamespacedName};
use serde::{Deserialize, Serialize};

use crate::NodeSeen;

/// The signer; requests to others are nobody's business here.
pub const SIGNER: &str = "kubernetes.io/kubelet-serving";

const NODES: &str = "system:nodes";
const SERVER_AUTH: &str = "server auth";
const USAGES: [&str; 3] = ["digital signature", "key encipherment", SERVER_AUTH];

/// A CertificateSigningRequest of that signer which nobody has decided yet.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct ServingRequest {
    /// Who asks, as the API server wrote it.
    pub username: String,
    /// Their groups, as the API server wrote them.
    pub groups: BTreeSet<String>,
    /// What the certificate is to be used for.
    pub usages: BTreeSet<String>,
    /// What stands in the PKCS#10 request, or why that cannot be read.
    pub asked: Result<AskedCertificate, String>,
}

/// What a PKCS#10 request asks for.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct AskedCertificate {
    /// Common names of its subject: one in a right request.
    pub common_names: Vec<String>,
    /// Organizations of its subject.
    pub organizations: Vec<String>,
    /// DNS names.
    pub dns_names: BTreeSet<String>,
    /// IP addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// What else it asks for (other parts of a subject, e-mail addresses, URIs), for people.
    pub others: Vec<String>,
    /// What is wrong with its key, if anything is: a weak one, or one that did not sign the request.
    pub key_fault: Option<String>,
}

impl ServingRequest {
    /// Whether it is of the machine's node, or says so.
    pub fn concerns(&self, machine: &Machine) -> bool {
        let name = user_of(machine);
        let says_so = || self.asked.as_ref().is_ok_and(|asked| asked.common_names.contains(&name));
        self.username == name || says_so()
    }

    /// Whether the machine's node may have what it asks for; if not, why. `node` is the Node of its name, if it was seen.
    ///
    /// # Errors
    /// The request is not right, in a sentence without a name.
    pub fn judge(&self, machine: &Machine, node: Option<&NodeSeen>) -> Result<(), String> {
        let user = user_of(machine);
        let require = |holds: bool, otherwise: &dyn Fn() -> String| {
            if holds { Ok(()) } else { Err(otherwise()) }
        };
        require(self.username == user, &|| format!("{} asks for what is {user}'s", quoted(&self.username)))?;
        require(self.groups.contains(NODES), &|| format!("who asks is not in group {NODES}"))?;
        if let Some(node) = node {
            let own = &machine.spec.node.provider_id;
            require(node.provider_id.is_empty() || node.provider_id == *own, &|| {
                format!("the node has provider id {}, and the machine `{own}`", quoted(&node.provider_id))
            })?;
        }
        let other = self.usages.iter().find(|usage| !USAGES.contains(&usage.as_str()));
        require(other.is_none(), &|| {
            format!("usage {} is none of a server", quoted(other.map_or("", |usage| usage)))
        })?;
        require(self.usages.contains(SERVER_AUTH), &|| format!("it lacks usage `{SERVER_AUTH}`"))?;
        let asked = self.asked.as_ref().map_err(|why| format!("its request cannot be read: {why}"))?;
        require(asked.common_names == [user.as_str()], &|| {
            format!("its common name is {}, not `{user}`", told(&asked.common_names))
        })?;
        require(asked.organizations == [NODES], &|| {
            format!("its organization is {}, not `{NODES}`", told(&asked.organizations))
        })?;
        require(asked.others.is_empty(), &|| format!("it asks for {}", quoted(&asked.others.join(", "))))?;
        let own = &machine.spec.node.name;
        let foreign = asked.dns_names.iter().find(|name| *name != own);
        require(foreign.is_none(), &|| {
            format!("DNS name {} is not the node's", quoted(foreign.map_or("", |name| name)))
        })?;
        let has =
            |address: &IpAddr| machine.spec.nics.iter().any(|nic| IpAddr::V4(nic.address.addr()) == *address);
        let foreign = asked.addresses.iter().find(|address| !has(address));
        require(foreign.is_none(), &|| {
            format!("address {} is not the machine's", foreign.map_or_else(String::new, ToString::to_string))
        })?;
        require(!asked.dns_names.is_empty() || !asked.addresses.is_empty(), &|| {
            "it names no DNS name and no address".to_owned()
        })?;
        asked.key_fault.as_ref().map_or(Ok(()), |fault| Err(fault.clone()))
    }
}

/// The machine that a request concerns: who asks comes before whose name is claimed.
pub(crate) fn machine_of<'m>(machines: &[&'m Machine], request: &ServingRequest) -> Option<&'m Machine> {
    let asks = machines.iter().find(|machine| user_of(machine) == request.username);
    asks.or_else(|| machines.iter().find(|machine| request.concerns(machine))).copied()
}

fn user_of(machine: &Machine) -> String {
    format!("system:node:{}", machine.spec.node.name)
}

fn told(names: &[String]) -> String {
    if names.is_empty() { "missing".to_owned() } else { quoted(&names.join(", ")) }
}

/// What a stranger wrote, for terminals and logs: in one short line, without control characters.
fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = text.escape_debug().take(LONGEST).collect();
    if text.escape_debug().nth(LONGEST).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// What is written into a request that is approved.
pub fn approval_message(machine: &NamespacedName) -> String {
    format!("Ashlar: name and addresses are those of machine {machine}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine::new("demo-wkr-1", crate::bootstrap::tests::machine())
    }

    fn right(machine: &Machine) -> ServingRequest {
        let set = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        ServingRequest {
            username: user_of(machine),
            groups: set(&["system:nodes", "system:authenticated"]),
            usages: set(&["digital signature", "server auth"]),
            asked: Ok(AskedCertificate {
                common_names: vec![user_of(machine)],
                organizations: vec!["system:nodes".to_owned()],
                dns_names: [machine.spec.node.name.clone()].into(),
                addresses: [IpAddr::V4(machine.spec.node_address().unwrap())].into(),
                ..AskedCertificate::default()
            }),
        }
    }

    #[test]
    fn what_a_kubelet_asks_for_is_right() {
        let machine = machine();
        assert_eq!(right(&machine).judge(&machine, None), Ok(()));
        let mut node = NodeSeen { provider_id: machine.spec.node.provider_id.clone(), ..NodeSeen::default() };
        assert_eq!(right(&machine).judge(&machine, Some(&node)), Ok(()));
        node.provider_id = "aws:///i-1".to_owned();
        let refused = right(&machine).judge(&machine, Some(&node)).unwrap_err();
        assert!(refused.starts_with("the node has provider id `aws:///i-1`"), "{refused}");
        let mut of_either = right(&machine);
        of_either.usages.insert("key encipherment".to_owned());
        of_either.asked.as_mut().unwrap().dns_names.clear();
        assert_eq!(of_either.judge(&machine, None), Ok(()));
    }

    /// Each is right but for one thing.
    #[test]
    fn anything_else_is_refused_with_its_reason() {
        type Change = fn(&mut ServingRequest, &mut AskedCertificate);
        let cases: [(&str, Change); 17] = [
            ("asks for what is", |r, _| r.username = "system:node:other".to_owned()),
            ("not in group", |r, _| _ = r.groups.remove("system:nodes")),
            ("usage `client auth` is none of a server", |r, _| _ = r.usages.insert("client auth".to_owned())),
            ("lacks usage `server auth`", |r, _| _ = r.usages.remove("server auth")),
            ("common name is `system:node:other`", |_, a| {
                a.common_names = vec!["system:node:other".to_owned()]
            }),
            ("common name is missing", |_, a| a.common_names.clear()),
            ("common name is", |_, a| a.common_names.push("kubernetes-admin".to_owned())),
            ("organization is `system:masters`", |_, a| a.organizations = vec!["system:masters".to_owned()]),
            ("organization is `system:nodes, x`", |_, a| a.organizations.push("x".to_owned())),
            ("organization is missing", |_, a| a.organizations.clear()),
            ("DNS name `kubernetes.default` is not", |_, a| {
                _ = a.dns_names.insert("kubernetes.default".to_owned())
            }),
            ("address 10.9.9.9 is not", |_, a| _ = a.addresses.insert("10.9.9.9".parse().unwrap())),
            ("address ::1 is not", |_, a| _ = a.addresses.insert("::1".parse().unwrap())),
            ("it asks for `URI spiffe://x`", |_, a| a.others.push("URI spiffe://x".to_owned())),
            ("no DNS name and no address", |_, a| (a.dns_names, a.addresses) = <_>::default()),
            ("RSA of 1024 bits", |_, a| a.key_fault = Some("RSA of 1024 bits is weak".to_owned())),
            ("cannot be read: no PKCS#10", |r, _| r.asked = Err("no PKCS#10".to_owned())),
        ];
        let machine = machine();
        for (words, change) in cases {
            let mut request = right(&machine);
            let mut asked = request.asked.clone().unwrap();
            change(&mut request, &mut asked);
            if request.asked.is_ok() {
                request.asked = Ok(asked);
            }
            let refused = request.judge(&machine, None).expect_err(words);
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn what_a_stranger_wrote_is_shown_in_one_short_line() {
        let machine = machine();
        let mut request = right(&machine);
        request.username = format!("\u{1b}[31m\n{}", "x".repeat(200));
        let refused = request.judge(&machine, None).unwrap_err();
        assert!(refused.starts_with("`\\u{1b}[31m\\nxxx") && refused.len() < 150, "{refused}");
    }

    #[test]
    fn it_concerns_who_asks_before_whose_name_is_claimed() {
        let (mut one, mut other) = (machine(), machine());
        one.spec.node.name = "one".to_owned();
        other.spec.node.name = "other".to_owned();
        let mut request = right(&one);
        request.asked.as_mut().unwrap().common_names = vec!["system:node:other".to_owned()];
        let found =
            |request: &ServingRequest| machine_of(&[&other, &one], request).map(|m| m.spec.node.name.clone());
        assert_eq!(found(&request).as_deref(), Some("one"));
        request.username = "somebody".to_owned();
        assert_eq!(found(&request).as_deref(), Some("other"));
        request.asked = Err("no PKCS#10".to_owned());
        assert_eq!(found(&request), None, "whoever that is, and whatever it is: others may decide");
    }
}
