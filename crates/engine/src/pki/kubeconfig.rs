//! kubeconfig files.

use ashlar_api::NamespacedName;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use zeroize::Zeroizing;

use super::ClientIdentity;

/// A kubeconfig (YAML) with one context, named after the cluster. `tls_server_name` is the name in the server's
/// certificate, where `server` is another (a local proxy).
pub fn kubeconfig(
    cluster: &NamespacedName,
    server: &str,
    tls_server_name: Option<&str>,
    ca_pem: &str,
    identity: &ClientIdentity,
) -> Zeroizing<String> {
    // JSON strings are YAML strings.
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let name = match cluster.to_string().replace('/', "-") {
        name if name.is_empty() => "cluster".to_owned(),
        name => name,
    };
    let user = quote(&format!("{name}-admin"));
    let name = quote(&name);
    let server_name =
        tls_server_name.map_or_else(String::new, |name| format!("    tls-server-name: {}\n", quote(name)));
    let key = Zeroizing::new(BASE64.encode(identity.key_pem.as_bytes()));
    Zeroizing::new(format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: {name}\n  \
           cluster:\n    \
             server: {server}\n\
         {server_name}    \
             certificate-authority-data: {ca}\n\
         users:\n\
         - name: {user}\n  \
           user:\n    \
             client-certificate-data: {certificate}\n    \
             client-key-data: {key}\n\
         contexts:\n\
         - name: {name}\n  \
           context:\n    \
             cluster: {name}\n    \
             user: {user}\n\
         current-context: {name}\n",
        server = quote(server),
        ca = BASE64.encode(ca_pem),
        certificate = BASE64.encode(&identity.certificate_pem),
        key = key.as_str(),
    ))
}
