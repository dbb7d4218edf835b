//! What differs under software emulation: a node there is ten to fifty times slower, and the defaults of
//! Kubernetes take it for dead. Measured; each value is one row of the slow profile in `ARCHITECTURE.md`.

use ashlar_api::Accelerator;

/// How patient a node is with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) slow: bool,
}

impl Profile {
    pub(super) fn of(accelerator: Accelerator) -> Self {
        Self { slow: accelerator == Accelerator::Emulated }
    }

    /// Factor on every deadline of the bootstrap script.
    pub(super) fn patience(self) -> u32 {
        if self.slow { 4 } else { 1 }
    }

    /// kubeadm's `timeouts`: its defaults are 1 to 5 minutes.
    pub(super) fn kubeadm_timeouts(self) -> Option<serde_json::Value> {
        self.slow.then(|| {
            serde_json::json!({
                "controlPlaneComponentHealthCheck": "15m0s",
                "kubeletHealthCheck": "15m0s",
                "kubernetesAPICall": "15m0s",
                "etcdAPICall": "15m0s",
                "tlsBootstrap": "15m0s",
                "discovery": "15m0s",
            })
        })
    }

    pub(super) fn api_server_args(self) -> Vec<(&'static str, &'static str)> {
        let mut args = vec![("profiling", "false")];
        if self.slow {
            args.push(("enable-priority-and-fairness", "false"));
        }
        args
    }

    pub(super) fn controller_manager_args(self) -> Vec<(&'static str, &'static str)> {
        let mut args = self.scheduler_args();
        if self.slow {
            // Kubelets of this profile renew their lease every 40 s.
            args.extend([("node-monitor-period", "15s"), ("node-monitor-grace-period", "180s")]);
        }
        args
    }

    pub(super) fn scheduler_args(self) -> Vec<(&'static str, &'static str)> {
        let mut args = vec![("profiling", "false")];
        if self.slow {
            args.extend([
                ("leader-elect-lease-duration", "120s"),
                ("leader-elect-renew-deadline", "90s"),
                ("leader-elect-retry-period", "10s"),
            ]);
        }
        args
    }

    pub(super) fn etcd_args(self) -> Vec<(&'static str, &'static str)> {
        if self.slow {
            vec![("heartbeat-interval", "1000"), ("election-timeout", "10000")]
        } else {
            Vec::new()
        }
    }

    pub(super) fn kubelet_args(self) -> Vec<(&'static str, &'static str)> {
        if self.slow { vec![("housekeeping-interval", "60s")] } else { Vec::new() }
    }

    /// kubeadm patches, by target. They are per node: kubelet patches are not uploaded to the cluster.
    pub(super) fn patches(self, control_plane: bool) -> Vec<(&'static str, String)> {
        if !self.slow {
            return Vec::new();
        }
        let kubelet = "nodeStatusUpdateFrequency: 30s\nnodeLeaseDurationSeconds: 160\nsyncFrequency: 2m0s\neventRecordQPS: 1\n";
        let mut patches = vec![("kubeletconfiguration", kubelet.to_owned())];
        if control_plane {
            // kubeadm's readiness probe runs every second, and each is a TLS handshake in emulated instructions.
            for (target, readiness) in [
                ("kube-apiserver", true),
                ("kube-controller-manager", false),
                ("kube-scheduler", true),
                ("etcd", true),
            ] {
                patches.push((target, probe_patch(target, readiness)));
            }
        }
        patches
    }

    /// keepalived's check. A TLS client every 5 s was more than half of an emulated vCPU; opening the port is not.
    pub(super) fn api_server_check(self) -> &'static str {
        if self.slow {
            "#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/6443\n"
        } else {
            "#!/bin/sh\nexec curl -skf -o /dev/null --max-time 5 https://127.0.0.1:6443/livez\n"
        }
    }

    /// Seconds between VRRP advertisements; version 3 lets the listeners learn it.
    pub(super) fn advert_interval_s(self) -> u32 {
        if self.slow { 3 } else { 1 }
    }
}

fn probe_patch(container: &str, readiness: bool) -> String {
    let readiness = if readiness { "    readinessProbe:\n      periodSeconds: 20\n" } else { "" };
    format!(
        "spec:\n  containers:\n  - name: {container}\n{readiness}    livenessProbe:\n      periodSeconds: 60\n    \
         startupProbe:\n      failureThreshold: 120\n"
    )
}

/// What a guest's kernel command line needs beside the image's own, for this accelerator.
///
/// Under emulation Linux would mark the TSC unstable and fall back to the HPET, where every reading of the clock
/// is an emulated device access; mitigations and auditing cost a lot and protect nothing in a test guest.
pub fn kernel_arguments(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "",
        Accelerator::Emulated => {
            "tsc=reliable clocksource=tsc no5lvl transparent_hugepage=madvise audit=0 nowatchdog mitigations=off \
             module_blacklist=kvm_amd,kvm_intel"
        }
    }
}
