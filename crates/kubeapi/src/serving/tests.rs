use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::*;

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn pem(params: &CertificateParams) -> String {
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
}

#[test]
fn a_request_is_read_as_it_was_written() {
    let mut params = params("system:node:demo-wkr-1");
    params.subject_alt_names = vec![
        SanType::DnsName("demo-wkr-1".try_into().unwrap()),
        SanType::IpAddress("10.20.0.12".parse().unwrap()),
        SanType::IpAddress("fd00::12".parse().unwrap()),
    ];
    let asked = asked(pem(&params).as_bytes()).unwrap();
    assert_eq!(asked.common_names, ["system:node:demo-wkr-1"]);
    assert_eq!(asked.organizations, ["system:nodes"]);
    assert_eq!(asked.dns_names, ["demo-wkr-1".to_owned()].into());
    let addresses = ["10.20.0.12", "fd00::12"].map(|text| text.parse::<IpAddr>().unwrap());
    assert_eq!(asked.addresses, addresses.into());
    assert_eq!(asked.others, Vec::<String>::new());
    assert_eq!(asked.key_fault, None);
}

#[test]
fn what_else_it_asks_for_is_named() {
    let mut params = params("system:node:demo-wkr-1");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "admins");
    params.subject_alt_names = vec![
        SanType::Rfc822Name("me@example.org".try_into().unwrap()),
        SanType::URI("spiffe://x/y".try_into().unwrap()),
    ];
    let asked = asked(pem(&params).as_bytes()).unwrap();
    let others = "subject attribute 2.5.4.11; e-mail address me@example.org; URI spiffe://x/y";
    assert_eq!(asked.others.join("; "), others);
}

#[test]
fn who_did_not_sign_it_does_not_have_the_key() {
    let text = pem(&params("system:node:demo-wkr-1"));
    let mut der = x509_parser::pem::parse_x509_pem(text.as_bytes()).unwrap().1.contents;
    // A letter of the common name.
    let place = der.windows(4).position(|bytes| bytes == b"demo").unwrap();
    der[place] = b'D';
    use base64::Engine as _;
    let changed = base64::engine::general_purpose::STANDARD.encode(der);
    let changed =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{changed}\n-----END CERTIFICATE REQUEST-----\n");
    let asked = asked(changed.as_bytes()).unwrap();
    assert_eq!(asked.common_names, ["system:node:Demo-wkr-1"]);
    assert!(asked.key_fault.unwrap().contains("did not sign it"));
}

#[test]
fn what_could_be_read_in_two_ways_is_not_read() {
    let one = pem(&params("system:node:demo-wkr-1"));
    let two = format!("{one}{}", pem(&params("system:node:demo-wkr-2")));
    for text in [two, format!("words before\n{one}"), "none".to_owned(), one.replace("MI", "!!")] {
        assert!(asked(text.as_bytes()).is_err(), "{text}");
    }
}
