#!/bin/sh
# A Kubernetes cluster in libvirt VMs, one control plane and one worker, as one would make it by hand with virsh,
# qemu-img, xorriso, openssl, kubeadm and kubectl. `cargo xtask bench create` measures Ashlar against it.
#
#   create.sh create     until both nodes, and then all pods of kube-system, are Ready
#   create.sh settings   what kubeadm was told and the control plane runs with, as JSON (to compare with Ashlar's)
#   create.sh delete     removes what `create` made
#
# Runs as root on the libvirt host. Everything that it needs to know comes by environment, see below. The node image is
# Ashlar's: its first boot mounts the seed (an ISO labelled CIDATA) and runs the bootstrap.sh that it finds there.
#
# As with Ashlar: the image, sizes, devices, kernel arguments, kubeadm settings with the profile for slow machines,
# ECDSA certificates made beforehand, the API behind a keepalived address, etcd on a disk of its own, flannel, sshd.
# Left out, which Ashlar does: kubeadm's phases one by one with retries, a token for each machine that is revoked after
# the join, the seed ejected and wiped, node labels and provider ids, a filter against forged MAC addresses, checks of
# addresses, capacity and image digests, a record of anything.
set -eu

NAME=${NAME:-plain}
WORK=${WORK:-/run/bench-$NAME} # keys, seeds' content and the kubeconfig
POOL_DIR=${POOL_DIR:-/var/lib/libvirt/images}
LOG_DIR=${LOG_DIR:-/var/log/libvirt/qemu}
BRIDGE=${BRIDGE:-br-nodes}
MTU=${MTU:-1500}
ACCELERATOR=${ACCELERATOR:-emulated} # or kvm
WORKER_START=${WORKER_START:-now}    # or api: boot the worker's VM when the API answers
KUBECTL=${KUBECTL:-kubectl}
CTRL=$NAME-ctrl-1
WKR=$NAME-wkr-1
export KUBECONFIG="$WORK/admin.conf" LC_ALL=C
virsh() { command virsh -q -c qemu:///system "$@"; }
stage() { echo "STAGE $*"; }

# --- certificates ------------------------------------------------------------------------------------------------

ec_key() { openssl ecparam -genkey -name prime256v1 -noout -out "$1" && chmod 600 "$1"; }

ca() { # FILE-WITHOUT-SUFFIX COMMON-NAME
    ec_key "$1.key"
    printf '%s\n' '[req]' 'distinguished_name=dn' 'x509_extensions=ca' '[dn]' '[ca]' 'basicConstraints=critical,CA:TRUE' \
        'keyUsage=critical,digitalSignature,keyCertSign,cRLSign' 'subjectKeyIdentifier=hash' >"$WORK/ca.cnf"
    openssl req -x509 -new -config "$WORK/ca.cnf" -key "$1.key" -subj "/CN=$2" -days 3650 -out "$1.crt"
}

certificates() {
    mkdir -p "$WORK/pki/etcd"
    ca "$WORK/pki/ca" kubernetes
    ca "$WORK/pki/front-proxy-ca" front-proxy-ca
    ca "$WORK/pki/etcd/ca" etcd-ca
    ec_key "$WORK/pki/sa.key"
    openssl ec -in "$WORK/pki/sa.key" -pubout -out "$WORK/pki/sa.pub" 2>/dev/null
    # The administrator's certificate, so that nothing has to be fetched from the node.
    ec_key "$WORK/admin.key"
    openssl req -new -key "$WORK/admin.key" -subj "/O=system:masters/CN=admin" |
        openssl x509 -req -CA "$WORK/pki/ca.crt" -CAkey "$WORK/pki/ca.key" -CAcreateserial -days 365 \
            -out "$WORK/admin.crt" 2>/dev/null
    cat >"$KUBECONFIG" <<END
apiVersion: v1
kind: Config
current-context: admin
clusters: [{name: plain, cluster: {server: "https://$VIP:6443", certificate-authority: $WORK/pki/ca.crt}}]
users: [{name: admin, user: {client-certificate: $WORK/admin.crt, client-key: $WORK/admin.key}}]
contexts: [{name: admin, context: {cluster: plain, user: admin}}]
END
    random=$(openssl rand -hex 11)
    TOKEN=$(printf %s "$random" | cut -c 1-6).$(printf %s "$random" | cut -c 7-22)
    CA_HASH=$(openssl x509 -in "$WORK/pki/ca.crt" -pubkey -noout | openssl pkey -pubin -outform der | sha256sum | cut -d ' ' -f 1)
}

# --- seeds -------------------------------------------------------------------------------------------------------

is_slow() { [ "$ACCELERATOR" = emulated ]; }

timeouts() {
    is_slow || return 0
    cat <<END
timeouts:
  controlPlaneComponentHealthCheck: 15m0s
  kubeletHealthCheck: 15m0s
  kubernetesAPICall: 15m0s
  etcdAPICall: 15m0s
  tlsBootstrap: 15m0s
  discovery: 15m0s
END
}

arguments() { # NAME=VALUE...
    for argument in "$@"; do printf '    - {name: %s, value: "%s"}\n' "${argument%%=*}" "${argument#*=}"; done
}

registration() { # NAME ADDRESS
    cat <<END
nodeRegistration:
  name: $1
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: Never
  kubeletExtraArgs:
    - {name: node-ip, value: "$2"}
END
    if is_slow; then arguments housekeeping-interval=60s; fi
}

init_config() {
    lease=
    if is_slow; then lease='leader-elect-lease-duration=120s leader-elect-renew-deadline=90s leader-elect-retry-period=10s'; fi
    cat <<END
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: "$CTRL_ADDRESS", bindPort: 6443}
bootstrapTokens: [{token: "$TOKEN", ttl: 1h0m0s}]
patches: {directory: /etc/kubernetes/patches}
$(registration "$CTRL" "$CTRL_ADDRESS")
$(timeouts)
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: $NAME
kubernetesVersion: $KUBERNETES
controlPlaneEndpoint: $VIP:6443
encryptionAlgorithm: ECDSA-P256
networking: {serviceSubnet: 10.96.0.0/16, podSubnet: 10.244.0.0/16, dnsDomain: cluster.local}
dns: {imageTag: $COREDNS_TAG}
etcd:
  local:
    dataDir: /var/lib/etcd/data
    imageTag: $ETCD_TAG
$(if is_slow; then echo '    extraArgs:' && arguments heartbeat-interval=1000 election-timeout=10000; fi)
apiServer:
  certSANs: ["$VIP"]
  extraArgs:
$(arguments profiling=false)
$(if is_slow; then arguments enable-priority-and-fairness=false; fi)
controllerManager:
  extraArgs:
$(arguments profiling=false)
$(if is_slow; then
        # shellcheck disable=SC2086
        arguments $lease node-monitor-period=15s node-monitor-grace-period=180s
    fi)
scheduler:
  extraArgs:
$(arguments profiling=false)
$(if is_slow; then
        # shellcheck disable=SC2086
        arguments $lease
    fi)
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
END
}

join_config() {
    cat <<END
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  bootstrapToken: {apiServerEndpoint: "$VIP:6443", token: "$TOKEN", caCertHashes: ["sha256:$CA_HASH"]}
patches: {directory: /etc/kubernetes/patches}
$(registration "$WKR" "$WKR_ADDRESS")
$(timeouts)
END
}

probe_patch() { # COMPONENT
    readiness='    readinessProbe: {periodSeconds: 20}'
    if [ "$1" = kube-controller-manager ]; then readiness=; fi
    cat <<END
spec:
  containers:
  - name: $1
$readiness
    livenessProbe: {periodSeconds: 60}
    startupProbe: {failureThreshold: 120}
END
}

keepalived_config() {
    interval=1
    if is_slow; then interval=3; fi
    cat <<END
global_defs {
    router_id $CTRL
    vrrp_version 3
    script_user root
    enable_script_security
}
vrrp_script apiserver {
    script "/etc/keepalived/check-apiserver"
    interval 5
    timeout 6
    fall 3
    rise 1
    weight 40
    init_fail
}
vrrp_instance api {
    state BACKUP
    interface eth0
    virtual_router_id $VRRP_ID
    priority 100
    advert_int $interval
    garp_master_delay 1
    virtual_ipaddress {
        $VIP/32 dev eth0
    }
    track_script {
        apiserver
    }
}
END
}

# What runs on the node, once.
bootstrap() {
    cat <<'END'
set -euo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin LC_ALL=C
seed=$1
umask 077
say() { echo "PHASE $*" >/dev/console; }
ended() {
    code=$?
    [ $code -eq 0 ] && return
    tail -n 20 /var/log/kubeadm.log >/dev/console
    say "failed $code"
}
trap ended EXIT

say node-setup start
echo "$NAME" >/etc/hostname
hostname "$NAME"
printf '127.0.0.1 localhost\n%s %s\n' "$ADDRESS" "$NAME" >/etc/hosts
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
systemctl enable --now --no-block ssh.service
mkdir -p /etc/kubernetes
[ ! -d "$seed/patches" ] || cp -r "$seed/patches" /etc/kubernetes/
if [ "$VERB" = init ]; then
    cp -r "$seed/pki" /etc/kubernetes/
    cp "$seed/keepalived.conf" "$seed/check-apiserver" /etc/keepalived/
    chmod 755 /etc/keepalived/check-apiserver
fi
say network start
until ip -4 -o addr show | grep -qF " $ADDRESS/"; do sleep 1; done
if [ "$VERB" = init ]; then
    say etcd-disk start
    until device=$(find /dev/disk/by-id -name '*_etcd' | grep -m 1 .); do sleep 1; done
    mkfs.ext4 -q -m 0 -L etcd "$device"
    echo 'LABEL=etcd /var/lib/etcd ext4 noatime 0 2' >>/etc/fstab
    mkdir -p /var/lib/etcd
    mount -t ext4 -o noatime "$device" /var/lib/etcd
fi
say container-runtime start
systemctl start containerd.service
if [ "$VERB" = init ]; then
    say keepalived start
    systemctl enable --now keepalived.service
fi
said=' '
kubeadm "$VERB" --config "$seed/kubeadm.yaml" 2>&1 | while IFS= read -r line; do
    printf '%s\n' "$line"
    case $line in
    '['*']'*)
        phase=${line%%]*}
        phase=${phase#[}
        case $phase in
        preflight | certs | kubeconfig | etcd | control-plane | kubelet-start | wait-control-plane | upload-config | \
            mark-control-plane | bootstrap-token | kubelet-finalize | addons)
            case $said in
            *" $phase "*) ;;
            *)
                said="$said$phase "
                say "kubeadm-${phase%s} start"
                ;;
            esac
            ;;
        esac
        ;;
    esac
done >/var/log/kubeadm.log
say finish start
systemctl enable kubelet.service
touch /etc/cloud/cloud-init.disabled
say "ready ok $(cut -d. -f1 /proc/uptime)"
END
}

seed() { # NAME ADDRESS MAC VERB
    dir=$WORK/seed-$1
    mkdir -p "$dir"
    printf 'instance-id: %s\nlocal-hostname: %s\n' "$(cat /proc/sys/kernel/random/uuid)" "$1" >"$dir/meta-data"
    printf '#cloud-config\n{}\n' >"$dir/user-data"
    cat >"$dir/network-config" <<END
version: 2
ethernets:
  eth0:
    match: {macaddress: "$3"}
    set-name: eth0
    dhcp4: false
    mtu: $MTU
    addresses: [$2/$PREFIX_LENGTH]
    routes: [{to: 0.0.0.0/0, via: $GATEWAY}]
    nameservers: {addresses: [$GATEWAY]}
END
    {
        printf '#!/bin/bash\nNAME=%s\nADDRESS=%s\nVERB=%s\n' "$1" "$2" "$4"
        bootstrap
    } >"$dir/bootstrap.sh"
    if is_slow; then
        mkdir -p "$dir/patches"
        printf 'nodeStatusUpdateFrequency: 30s\nnodeLeaseDurationSeconds: 160\nsyncFrequency: 2m0s\neventRecordQPS: 1\n' \
            >"$dir/patches/kubeletconfiguration.yaml"
    fi
    if [ "$4" = init ]; then
        init_config >"$dir/kubeadm.yaml"
        cp -r "$WORK/pki" "$dir/pki"
        rm -f "$dir/pki/ca.srl"
        keepalived_config >"$dir/keepalived.conf"
        if is_slow; then
            printf '#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/6443\n' >"$dir/check-apiserver"
            for component in kube-apiserver kube-controller-manager kube-scheduler etcd; do
                probe_patch $component >"$dir/patches/$component.yaml"
            done
        else
            printf '#!/bin/sh\nexec curl -skf -o /dev/null --max-time 5 https://127.0.0.1:6443/livez\n' >"$dir/check-apiserver"
        fi
    else
        join_config >"$dir/kubeadm.yaml"
    fi
    (umask 077 && xorriso -as mkisofs -quiet -V CIDATA -R -J -o "$POOL_DIR/$1-seed.iso" "$dir" 2>/dev/null)
}

# --- virtual machines --------------------------------------------------------------------------------------------

disk() { # FILE FORMAT TARGET SERIAL CACHE IO
    cat <<END
<disk type='file' device='disk'><driver name='qemu' type='$2' cache='$5' io='$6' discard='unmap'/><source file='$1'/>
<target dev='$3' bus='scsi'/><serial>$4</serial></disk>
END
}

define() { # NAME VCPUS MEMORY_MIB MAC ETCD-DISK-OR-NOTHING
    if is_slow; then
        type=qemu cpu="mode='maximum' check='none'" cache=writeback io=threads timers=
    else
        type=kvm cpu="mode='host-model' check='partial'" cache=none io=native
        timers="<timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/>"
    fi
    cat >"$WORK/$1.xml" <<END
<domain type='$type'>
<name>$1</name><memory unit='MiB'>$3</memory><vcpu placement='static'>$2</vcpu><iothreads>1</iothreads>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>$KERNEL</kernel><initrd>$INITRD</initrd><cmdline>$KERNEL_ARGUMENTS</cmdline></os>
<features><acpi/><apic/></features>
<cpu $cpu><topology sockets='1' dies='1' cores='$2' threads='1'/></cpu>
<clock offset='utc'>$timers<timer name='hpet' present='no'/></clock>
<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
<devices>
$(disk "$POOL_DIR/$1-root.qcow2" qcow2 sda root $cache $io)
$(if [ -n "$5" ]; then disk "$5" raw sdb etcd $cache $io; fi)
<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='$POOL_DIR/$1-seed.iso'/><target dev='sdg' bus='scsi'/><readonly/></disk>
<controller type='scsi' index='0' model='virtio-scsi'><driver iothread='1'/></controller>
<controller type='usb' index='0' model='none'/>
<interface type='bridge'><mac address='$4'/><source bridge='$BRIDGE'/><model type='virtio'/><mtu size='$MTU'/></interface>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<memballoon model='virtio' freePageReporting='on'/>
<serial type='pty'><log file='$LOG_DIR/$1.console.log' append='off'/><target port='0'/></serial>
<console type='pty'><log file='$LOG_DIR/$1.console.log' append='off'/><target type='serial' port='0'/></console>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
<video><model type='none'/></video><panic model='isa'/>
</devices>
</domain>
END
    virsh define "$WORK/$1.xml" >/dev/null
}

flannel() {
    cat <<END
apiVersion: v1
kind: Namespace
metadata: {name: kube-flannel, labels: {pod-security.kubernetes.io/enforce: privileged}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: flannel}
rules:
- {apiGroups: [""], resources: [pods], verbs: [get]}
- {apiGroups: [""], resources: [nodes], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [nodes/status], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: flannel}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: flannel}
subjects: [{kind: ServiceAccount, name: flannel, namespace: kube-flannel}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: flannel, namespace: kube-flannel}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-flannel-cfg, namespace: kube-flannel}
data:
  net-conf.json: '{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan","MTU":$((MTU - 50))}}'
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-flannel-ds, namespace: kube-flannel}
spec:
  selector: {matchLabels: {app: flannel}}
  template:
    metadata: {labels: {app: flannel}}
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      serviceAccountName: flannel
      tolerations: [{operator: Exists}]
      nodeSelector: {kubernetes.io/os: linux}
      containers:
      - name: kube-flannel
        image: ghcr.io/flannel-io/flannel:$FLANNEL_TAG
        imagePullPolicy: IfNotPresent
        command: [/opt/bin/flanneld]
        args: [--ip-masq, --kube-subnet-mgr, --healthz-port=8081]
        ports: [{name: healthz, containerPort: 8081}]
        livenessProbe: {httpGet: {path: /healthz, port: healthz}, initialDelaySeconds: 30, periodSeconds: 60, timeoutSeconds: 10}
        readinessProbe: {httpGet: {path: /readyz, port: healthz}, initialDelaySeconds: 2, periodSeconds: 10, timeoutSeconds: 10}
        resources: {requests: {cpu: 100m, memory: 50Mi}}
        securityContext: {privileged: false, capabilities: {add: [NET_ADMIN, NET_RAW]}}
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: EVENT_QUEUE_DEPTH, value: "5000"}
        volumeMounts:
        - {name: run, mountPath: /run/flannel}
        - {name: flannel-cfg, mountPath: /etc/kube-flannel}
        - {name: xtables-lock, mountPath: /run/xtables.lock}
      volumes:
      - {name: run, hostPath: {path: /run/flannel, type: DirectoryOrCreate}}
      - {name: flannel-cfg, configMap: {name: kube-flannel-cfg}}
      - {name: xtables-lock, hostPath: {path: /run/xtables.lock, type: FileOrCreate}}
END
}

# until_deadline COMMAND...: again every second until it works or the time is up.
until_deadline() {
    until "$@" >/dev/null 2>"$WORK/last-error"; do
        if [ "$(date +%s)" -ge "$DEADLINE" ]; then
            echo "not within ${TIMEOUT_S} s: $*" >&2
            cat "$WORK/last-error" >&2
            for node in "$CTRL" "$WKR"; do tail -n 15 "$LOG_DIR/$node.console.log" >&2 || true; done
            exit 1
        fi
        sleep 1
    done
}

both_are_there() { "$KUBECTL" --request-timeout=30s get node "$CTRL" "$WKR"; }
both_are_ready() { "$KUBECTL" wait --for=condition=Ready --timeout=300s "node/$CTRL" "node/$WKR"; }

pods_are_ready() { "$KUBECTL" -n kube-system wait --for=condition=Ready --timeout=300s pods --all; }

create() {
    : "${DISK:?path of the root disk of the image, on this host}" "${KERNEL:?path}" "${INITRD:?path}" "${KERNEL_ARGUMENTS:?}"
    : "${KUBERNETES:?version of the image, v1.2.3}" "${ETCD_TAG:?}" "${COREDNS_TAG:?}" "${FLANNEL_TAG:?}"
    : "${CTRL_ADDRESS:?}" "${WKR_ADDRESS:?}" "${VIP:?}" "${VRRP_ID:?}" "${PREFIX_LENGTH:?}" "${GATEWAY:?}"
    : "${CTRL_VCPUS:?}" "${CTRL_MEMORY_MIB:?}" "${CTRL_ROOT_MIB:?}" "${CTRL_ETCD_MIB:?}"
    : "${WKR_VCPUS:?}" "${WKR_MEMORY_MIB:?}" "${WKR_ROOT_MIB:?}"
    TIMEOUT_S=${TIMEOUT_S:-2400}
    DEADLINE=$(($(date +%s) + TIMEOUT_S))
    if [ -e "$WORK" ]; then echo "$WORK is there: is $NAME still up? \`create.sh delete\` removes it" >&2 && exit 1; fi
    mkdir -m 700 "$WORK"
    stage certificates
    certificates
    stage disks
    qemu-img create -q -f qcow2 -b "$DISK" -F qcow2 "$POOL_DIR/$CTRL-root.qcow2" "${CTRL_ROOT_MIB}M"
    qemu-img create -q -f raw "$POOL_DIR/$CTRL-etcd.raw" "${CTRL_ETCD_MIB}M"
    qemu-img create -q -f qcow2 -b "$DISK" -F qcow2 "$POOL_DIR/$WKR-root.qcow2" "${WKR_ROOT_MIB}M"
    stage seeds
    seed "$CTRL" "$CTRL_ADDRESS" 52:54:00:be:0c:01 init
    seed "$WKR" "$WKR_ADDRESS" 52:54:00:be:0c:02 join
    stage define
    define "$CTRL" "$CTRL_VCPUS" "$CTRL_MEMORY_MIB" 52:54:00:be:0c:01 "$POOL_DIR/$CTRL-etcd.raw"
    define "$WKR" "$WKR_VCPUS" "$WKR_MEMORY_MIB" 52:54:00:be:0c:02 ''
    stage start
    virsh start "$CTRL" >/dev/null
    if [ "$WORKER_START" = now ]; then virsh start "$WKR" >/dev/null; fi
    stage wait-for-api
    until_deadline "$KUBECTL" --request-timeout=10s get --raw=/readyz
    if [ "$WORKER_START" != now ]; then virsh start "$WKR" >/dev/null; fi
    stage flannel
    flannel >"$WORK/flannel.yaml"
    until_deadline "$KUBECTL" --request-timeout=60s apply --server-side --validate=false -f "$WORK/flannel.yaml"
    stage wait-for-join
    until_deadline both_are_there
    stage wait-for-ready
    until_deadline both_are_ready
    stage wait-for-system-pods
    until_deadline pods_are_ready
    stage ready
}

settings() {
    "$KUBECTL" -n kube-system get configmaps/kubeadm-config configmaps/kubelet-config configmaps/kube-proxy -o json
    "$KUBECTL" -n kube-system get pods -l tier=control-plane -o json
}

delete() {
    for node in "$WKR" "$CTRL"; do
        virsh destroy "$node" >/dev/null 2>&1 || true
        virsh undefine "$node" >/dev/null 2>&1 || true
        rm -f "$POOL_DIR/$node-root.qcow2" "$POOL_DIR/$node-etcd.raw" "$POOL_DIR/$node-seed.iso" "$LOG_DIR/$node.console.log"
    done
    rm -rf "$WORK"
}

case ${1:-} in
create | settings | delete) "$1" ;;
*) echo "usage: create.sh create|settings|delete" >&2 && exit 2 ;;
esac
