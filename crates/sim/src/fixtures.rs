//! Objects that many tests begin with.

/// Kubernetes version of [`Simulation::with_pool`](crate::Simulation::with_pool)'s image.
pub const VERSION: &str = "v1.37.2";

/// A network on bridge `br0` and three classes.
pub const POOL_OBJECTS: &str = "\
apiVersion: ashlar.dev/v1alpha1
kind: Network
metadata: {name: lab}
spec:
  attachment: {bridge: br0}
  cidrs: [10.88.0.0/16]
  gateway: 10.88.0.1
  ranges: [{first: 10.88.1.1, last: 10.88.1.250}]
---
apiVersion: ashlar.dev/v1alpha1
kind: MachineClass
metadata: {name: small}
spec: {vcpus: 2, memory: 2Gi, rootDisk: 10Gi}
---
apiVersion: ashlar.dev/v1alpha1
kind: MachineClass
metadata: {name: control}
spec: {vcpus: 8, memory: 16Gi, rootDisk: 40Gi, etcdDisk: 8Gi}
---
apiVersion: ashlar.dev/v1alpha1
kind: MachineClass
metadata: {name: worker}
spec: {vcpus: 16, memory: 64Gi, rootDisk: 100Gi}
";

/// An overlay network.
pub const OVERLAY: &str = "\
apiVersion: ashlar.dev/v1alpha1
kind: Network
metadata: {name: overlay}
spec:
  attachment: {vxlan: {vni: 4711}}
  cidrs: [10.30.0.0/16]
  gateway: 10.30.0.1
  ranges: [{first: 10.30.1.1, last: 10.30.1.250}]
";

/// A cluster of small machines on network `lab`.
pub fn cluster(name: &str, control_planes: u32, workers: u32) -> String {
    format!(
        "apiVersion: ashlar.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  \
         kubernetesVersion: {VERSION}\n  network: lab\n  \
         controlPlane: {{replicas: {control_planes}, class: small, spread: preferred}}\n  \
         workers: [{{name: wkr, class: small, replicas: {workers}}}]\n"
    )
}
