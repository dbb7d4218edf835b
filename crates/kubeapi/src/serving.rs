//! Kubelets' requests for the certificates that they serve with, as the API holds them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ashlar_engine::effects::{EffectError, KubeTarget, ServingDecision, ServingRequestNow};
use ashlar_plan::{AskedCertificate, ServingRequest, serving::SIGNER};
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA, OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME,
};
use x509_parser::prelude::FromDer as _;

use crate::{Clients, FIELD_MANAGER};

/// Those that nobody has decided yet, by name.
pub(crate) async fn undecided(client: Client) -> Result<BTreeMap<String, ServingRequest>, kube::Error> {
    let requests: Api<CertificateSigningRequest> = Api::all(client);
    let to_kubelets = ListParams::default().fields(&format!("spec.signerName={SIGNER}"));
    let listed = requests.list(&to_kubelets).await?;
    let undecided =
        listed.items.iter().filter(|request| request.spec.signer_name == SIGNER && !is_decided(request));
    Ok(undecided.map(|request| (request.name_any(), request_of(request))).collect())
}

fn is_decided(request: &CertificateSigningRequest) -> bool {
    let status = request.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| ["Approved", "Denied"].contains(&condition.type_.as_str()))
}

fn request_of(request: &CertificateSigningRequest) -> ServingRequest {
    let spec = &request.spec;
    ServingRequest {
        username: spec.username.clone().unwrap_or_default(),
        groups: spec.groups.iter().flatten().cloned().collect(),
        usages: spec.usages.iter().flatten().cloned().collect(),
        asked: asked(&spec.request.0),
    }
}

/// What a PEM text with one PKCS#10 request in it asks for. One text that two readers could read differently is not read.
fn asked(pem: &[u8]) -> Result<AskedCertificate, String> {
    let text = std::str::from_utf8(pem).map_err(|_| "it is no text".to_owned())?;
    if !text.starts_with("-----BEGIN CERTIFICATE REQUEST-----") || text.matches("-----BEGIN").count() != 1 {
        return Err("it is not one PEM block of a certificate request".to_owned());
    }
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|error| format!("its PEM: {error}"))?;
    let (rest, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|error| format!("its PKCS#10: {error}"))?;
    if !rest.is_empty() {
        return Err("something follows its PKCS#10".to_owned());
    }
    let mut asked = AskedCertificate { key_fault: key_fault(&request), ..AskedCertificate::default() };
    let info = &request.certification_request_info;
    for attribute in info.subject.iter_attributes() {
        let text = attribute.as_str().unwrap_or("what is no text").to_owned();
        if *attribute.attr_type() == OID_X509_COMMON_NAME {
            asked.common_names.push(text);
        } else if *attribute.attr_type() == OID_X509_ORGANIZATION_NAME {
            asked.organizations.push(text);
        } else {
            asked.others.push(format!("subject attribute {}", attribute.attr_type()));
        }
    }
    let mut alternatives = 0;
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else { continue };
        for extension in &requested.extensions {
            // The signer takes nothing else out of a request; what it takes must be there once.
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                alternatives += 1;
                names.general_names.iter().for_each(|name| take(&mut asked, name));
            } else if extension.oid == x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME {
                return Err("its alternative names are no such".to_owned());
            }
        }
    }
    if alternatives > 1 {
        return Err("it has alternative names twice".to_owned());
    }
    Ok(asked)
}

fn take(asked: &mut AskedCertificate, name: &GeneralName<'_>) {
    match name {
        GeneralName::DNSName(name) => _ = asked.dns_names.insert((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match address(bytes) {
            Some(address) => _ = asked.addresses.insert(address),
            None => asked.others.push(format!("an address of {} bytes", bytes.len())),
        },
        GeneralName::RFC822Name(name) => asked.others.push(format!("e-mail address {name}")),
        GeneralName::URI(uri) => asked.others.push(format!("URI {uri}")),
        other => asked.others.push(format!("{other}")),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| Ipv6Addr::from(sixteen).into())
}

/// Keys of ECDSA (P-256, P-384), Ed25519 and RSA from 2048 bits on, which signed the request by a digest that still counts.
fn key_fault(request: &X509CertificationRequest<'_>) -> Option<String> {
    let algorithm = &request.signature_algorithm.algorithm;
    if [OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA].contains(algorithm) {
        return Some("it is signed by SHA-1".to_owned());
    }
    request.verify_signature().err().map(|_| "its key is weak or unknown, or did not sign it".to_owned())
}

impl Clients {
    pub(crate) async fn read_serving_request(
        &self,
        target: &KubeTarget,
        csr: &str,
    ) -> Result<Option<ServingRequestNow>, EffectError> {
        let requests: Api<CertificateSigningRequest> = Api::all(self.client(target)?);
        let found = self.bounded(target, &format!("read request {csr}"), requests.get_opt(csr)).await?;
        let Some(found) = found.filter(|found| found.spec.signer_name == SIGNER) else { return Ok(None) };
        let resource_version = found.resource_version();
        let resource_version = resource_version
            .ok_or_else(|| crate::client::refused(target, "read a request without a resourceVersion"))?;
        Ok(Some(ServingRequestNow {
            resource_version,
            is_decided: is_decided(&found),
            request: request_of(&found),
        }))
    }

    pub(crate) async fn write_serving_decision(
        &self,
        target: &KubeTarget,
        csr: &str,
        resource_version: &str,
        decision: &ServingDecision,
    ) -> Result<(), EffectError> {
        let requests: Api<CertificateSigningRequest> = Api::all(self.client(target)?);
        // A merge patch that names a resourceVersion is refused (409) if the object is another one by now.
        let change = serde_json::json!({
            "metadata": {"resourceVersion": resource_version},
            "status": {"conditions": [{
                "type": if decision.approve { "Approved" } else { "Denied" },
                "status": "True",
                "reason": decision.reason,
                "message": decision.message,
                "lastUpdateTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            }]},
        });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let what = format!("decide request {csr}");
        self.bounded(target, &what, async {
            requests.patch_approval(csr, &params, &Patch::Merge(&change)).await.map(drop)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
