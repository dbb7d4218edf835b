#!/bin/bash
# First boot of an Ashlar node: makes it a Kubernetes node with kubeadm's own phases, one by one, each with a
# deadline and retries. Run by ashlar-bootstrap.service from the mounted seed, at every boot until it has succeeded.
#
# What it says on the console is read by Ashlar:
#   ASHLAR-PHASE <phase> start|ok|retry|fail [detail]
#   ASHLAR-LOG <line>                      last lines of the phase that failed
#   ASHLAR-FAILED phase=<phase> reason=<word>
#   ASHLAR-PHASE ready ok <uptime in seconds>
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin LC_ALL=C
seed=${1:?usage: bootstrap.sh SEED_DIRECTORY}
work=/run/ashlar
state=/var/lib/ashlar
logs=/var/log/ashlar
umask 077
mkdir -p "$work" "$state/done" "$logs"
# shellcheck source=/dev/null
. "$seed/node.env"

say() { printf '%s\n' "$*" >/dev/console; }

# Keys and tokens never reach the console, whatever a program prints.
scrub() {
    sed -E -e '/-----BEGIN/,/-----END/d' -e 's/\x1b\[[0-9;]*m//g' \
        -e 's/\b[a-z0-9]{6}\.[a-z0-9]{16}\b/[token]/g' \
        -e 's/(token|certificate-key|key-data|password)([=: ]+)[^ ]+/\1\2[removed]/gI' \
        -e 's/[A-Za-z0-9+\/=]{120,}/[removed]/g'
}

fail() { # phase reason
    if [ -s "$logs/$1.log" ]; then
        # Of the last attempt only, which begins after the last line of ours.
        tac "$logs/$1.log" | sed '/^=== attempt/q' | head -n 24 | tac | tr -d '\r' | scrub | cut -c 1-400 | while IFS= read -r line; do
            say "ASHLAR-LOG $line"
        done
    fi
    say "ASHLAR-FAILED phase=$1 reason=$2"
    exit 1
}

# phase NAME ATTEMPTS DEADLINE_S REASON COMMAND...
phase() {
    local name=$1 attempts=$2 deadline_s=$3 reason=$4 n=1 pause=5 code
    shift 4
    [ -e "$state/done/$name" ] && return 0
    while :; do
        if [ $n -eq 1 ]; then say "ASHLAR-PHASE $name start"; else say "ASHLAR-PHASE $name retry $n/$attempts"; fi
        printf '=== attempt %s at %s\n' "$n" "$(date -u +%FT%TZ)" >>"$logs/$name.log"
        # Functions cannot run under timeout(1); they keep their own deadlines.
        if [ "$(type -t "$1")" = function ]; then
            "$@" >>"$logs/$name.log" 2>&1
        else
            timeout -k 10 "$deadline_s" "$@" >>"$logs/$name.log" 2>&1
        fi
        code=$?
        if [ $code -eq 0 ]; then
            say "ASHLAR-PHASE $name ok"
            : >"$state/done/$name"
            return 0
        fi
        # 124 is timeout's own; a function says 2 when trying again cannot help, 40 when nor can it
        # and the network is the reason (a code that neither kubeadm nor timeout uses).
        case $code in
        124) reason=deadline ;;
        40) reason=no-network ;;
        esac
        if [ $n -ge "$attempts" ] || [ $code -eq 2 ] || [ $code -eq 40 ]; then
            say "ASHLAR-PHASE $name fail exit=$code"
            fail "$name" "$reason"
        fi
        sleep "$pause"
        pause=$((pause < 40 ? pause * 2 : 60))
        n=$((n + 1))
        if [ "$(type -t "before_retry_$name")" = function ]; then "before_retry_$name" >>"$logs/$name.log" 2>&1; fi
    done
}

# until_deadline SECONDS COMMAND...: true as soon as the command is.
until_deadline() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -ge $end ] && return 1
        sleep "${POLL_S:-1}"
    done
}

# A guest whose clock counts instructions falls behind the others' by minutes, and tokens that one API server signs are
# not valid yet for the next. Its hardware clock is the host's. Timeouts are no concern: they count monotonic time.
follow_clock() {
    cat >/etc/systemd/system/ashlar-clock.service <<'UNIT'
[Unit]
Description=Set the clock from the hardware clock, again and again
[Service]
ExecStart=/bin/bash -c 'while :; do date -s "@$(cat /sys/class/rtc/rtc0/since_epoch)" >/dev/null; sleep 10; done'
Restart=always
RestartSec=10
[Install]
WantedBy=multi-user.target
UNIT
    chmod 644 /etc/systemd/system/ashlar-clock.service
    systemctl daemon-reload && systemctl enable -q ashlar-clock.service && systemctl start --no-block ashlar-clock.service
}

setup() {
    local name patch server
    echo "$NODE_NAME" >/etc/hostname
    hostname "$NODE_NAME" || return 1
    printf '127.0.0.1 localhost\n%s %s\n' "$ADDRESS" "$NODE_NAME" >/etc/hosts
    install -d -m 700 /root/.ssh
    if [ -e "$seed/authorized_keys" ]; then install -m 600 "$seed/authorized_keys" /root/.ssh/authorized_keys; fi
    if [ -e "$seed/ssh_host_ed25519_key" ]; then
        install -m 600 "$seed/ssh_host_ed25519_key" /etc/ssh/ssh_host_ed25519_key || return 1
    elif [ ! -e /etc/ssh/ssh_host_ed25519_key ]; then
        ssh-keygen -q -t ed25519 -N '' -C "$NODE_NAME" -f /etc/ssh/ssh_host_ed25519_key || return 1
    fi
    ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key >/etc/ssh/ssh_host_ed25519_key.pub || return 1
    chmod 644 /etc/ssh/ssh_host_ed25519_key.pub
    systemctl start --no-block ssh.service || return 1
    if [ -n "$NTP_SERVERS" ]; then
        for server in $NTP_SERVERS; do echo "server $server iburst"; done >/etc/chrony/sources.d/ashlar.sources
        systemctl start --no-block chrony.service || return 1
    fi
    if [ -n "${VIRTUAL_TIME:-}" ]; then follow_clock || return 1; fi
    install -m 600 "$seed/kubeadm.yaml" "$work/kubeadm.yaml" || return 1
    if [ -e "$seed/discovery.conf" ]; then install -m 600 "$seed/discovery.conf" "$work/discovery.conf" || return 1; fi
    install -d -m 755 /etc/kubernetes /etc/kubernetes/patches
    for patch in "$seed"/patch-*.yaml; do
        [ -e "$patch" ] || continue
        name=${patch##*/patch-}
        install -m 644 "$patch" "/etc/kubernetes/patches/$name" || return 1
    done
    [ "$ROLE" = worker ] && return 0
    install -d -m 755 /etc/kubernetes/pki /etc/kubernetes/pki/etcd
    for name in ca front-proxy-ca; do
        install -m 640 "$seed/pki-$name.crt" "/etc/kubernetes/pki/$name.crt" || return 1
        install -m 600 "$seed/pki-$name.key" "/etc/kubernetes/pki/$name.key" || return 1
    done
    install -m 640 "$seed/pki-etcd-ca.crt" /etc/kubernetes/pki/etcd/ca.crt || return 1
    install -m 600 "$seed/pki-etcd-ca.key" /etc/kubernetes/pki/etcd/ca.key || return 1
    install -m 640 "$seed/pki-sa.pub" /etc/kubernetes/pki/sa.pub || return 1
    install -m 600 "$seed/pki-sa.key" /etc/kubernetes/pki/sa.key || return 1
    install -m 644 "$seed/keepalived.conf" /etc/keepalived/keepalived.conf || return 1
    install -m 755 "$seed/check-apiserver" /etc/keepalived/check-apiserver || return 1
}

network_is_up() { ip -4 -o addr show | grep -qF " $ADDRESS/" && ip -4 route show default | grep -q .; }

network() {
    until_deadline 120 network_is_up && return 0
    ip -4 addr show
    ip -4 route show
    echo "the address $ADDRESS or the default route is not there"
    return 2
}

etcd_device() { ls /dev/disk/by-id/*_etcd 2>/dev/null | head -n 1; }
etcd_device_is_there() { [ -n "$(etcd_device)" ]; }

# The disk is formatted only when nothing at all is on it: a disk with data is somebody's data.
etcd_disk() {
    local device type
    until_deadline 60 etcd_device_is_there || { echo "no disk with the serial 'etcd'"; ls -l /dev/disk/by-id; return 2; }
    device=$(readlink -f "$(etcd_device)")
    type=$(blkid -p -o value -s TYPE "$device")
    case $?:$type in
    2:) mkfs.ext4 -q -m 0 -L ashlar-etcd "$device" || return 1 ;;
    0:ext4) [ "$(blkid -p -o value -s LABEL "$device")" = ashlar-etcd ] || { echo "$device holds another ext4 file system; it is left alone"; return 2; } ;;
    *) echo "$device holds '$type'; it is left alone"; return 2 ;;
    esac
    mkdir -p /var/lib/etcd
    grep -q ashlar-etcd /etc/fstab ||
        echo 'LABEL=ashlar-etcd /var/lib/etcd ext4 noatime,nofail,x-systemd.required-by=kubelet.service,x-systemd.before=kubelet.service 0 2' >>/etc/fstab
    mountpoint -q /var/lib/etcd || mount -t ext4 -o noatime "$device" /var/lib/etcd || return 1
    install -d -m 700 /var/lib/etcd/data
}

runtime_answers() { ctr --connect-timeout 5s version >/dev/null 2>&1; }
runtime() {
    systemctl start containerd.service || return 1
    until_deadline "$((60 * PATIENCE))" runtime_answers || { ctr version; return 1; }
}

# An image that is not there cannot come from anywhere later: kubelet would wait for ever.
images() {
    local missing=0 image have
    have=$(ctr -n k8s.io images ls -q) || return 1
    for image in $IMAGES; do
        grep -qxF "$image" <<<"$have" || { echo "the image $image is not in this node's containerd"; missing=1; }
    done
    [ $missing -eq 0 ] || { echo "there are:"; grep -v sha256 <<<"$have"; return 2; }
}

endpoint_answers() { timeout 5 bash -c "exec 3<>/dev/tcp/$ENDPOINT_ADDRESS/$ENDPOINT_PORT" 2>/dev/null; }
# Whether anybody at all is heard on this segment: the gateway or the endpoint has answered an ARP request.
segment_answers() {
    local neighbour
    for neighbour in $(ip -4 route show default | awk '{print $3}') "$ENDPOINT_ADDRESS"; do
        # Any datagram makes the kernel ask who has the address; an endpoint behind the gateway has no entry of its own.
        { echo >"/dev/udp/$neighbour/9"; } 2>/dev/null
        ip -4 neigh show to "$neighbour" | grep -q lladdr && return 0
    done
    return 1
}
endpoint() {
    if ! until_deadline 120 segment_answers; then
        ip -s link show
        ip -4 neigh show
        echo "nobody answers ARP on this node's network: neither its gateway nor $ENDPOINT_ADDRESS"
        return 40
    fi
    until_deadline "$ENDPOINT_DEADLINE_S" endpoint_answers && return 0
    ip -4 route get "$ENDPOINT_ADDRESS"
    ip -4 neigh show
    echo "nothing answers at $ENDPOINT_ADDRESS:$ENDPOINT_PORT"
    return 2
}

before_retry_kubeadm-kubelet-wait-bootstrap() { systemctl restart kubelet.service; }
before_retry_kubeadm-wait-control-plane() { systemctl is-active -q kubelet.service || systemctl restart kubelet.service; }

# kubeadm PHASE-NAME ATTEMPTS DEADLINE_S ARGUMENTS...
run_kubeadm() {
    local name=$1 attempts=$2 deadline_s=$(($3 * PATIENCE))
    shift 3
    phase "kubeadm-$name" "$attempts" "$deadline_s" kubeadm kubeadm "$VERB" phase "$@" --config "$work/kubeadm.yaml"
}

# kubeadm gives up on a kubelet that is slow to come up although the kubelet goes on: what counts is its certificate.
joined_already() { [ -s /etc/kubernetes/kubelet.conf ] && systemctl is-active -q kubelet.service; }
kubelet_start_join() {
    joined_already && return 0
    timeout -k 10 "$((300 * PATIENCE))" kubeadm join phase kubelet-start --config "$work/kubeadm.yaml"
}

# kubeadm's own wait takes no configuration file as a phase. These are the addresses that it asks.
control_plane_answers() {
    local url
    for url in "https://$ADDRESS:6443/livez" https://127.0.0.1:10257/healthz https://127.0.0.1:10259/livez; do
        curl -skf -o /dev/null --max-time 10 "$url" || return 1
    done
}
wait_control_plane() {
    # Each question is a TLS handshake of a program of its own: a second of work under emulation.
    POLL_S=$((PATIENCE * 2)) until_deadline "$((240 * PATIENCE))" control_plane_answers && return 0
    echo "the control plane's components do not answer; their containers and what they said last:"
    list_control_plane
    return 1
}
list_control_plane() {
    ctr -n k8s.io containers ls | cut -c 1-160
    for log in /var/log/containers/{kube-apiserver,etcd,kube-controller-manager,kube-scheduler}-*.log; do
        [ -e "$log" ] && { echo "--- ${log##*/}"; tail -n 4 "$log"; }
    done
    journalctl -q -u kubelet -n 8 -o cat --no-pager
}

# kubeadm's phase of this name asks for an admin.conf, which a worker has not. It looks at the same two things.
kubelet_is_admitted() {
    [ -s /etc/kubernetes/kubelet.conf ] && [ -s /var/lib/kubelet/pki/kubelet-client-current.pem ] &&
        curl -sf -o /dev/null --max-time 10 http://127.0.0.1:10248/healthz
}
wait_bootstrap() {
    if until_deadline "$((180 * PATIENCE))" kubelet_is_admitted; then
        rm -f /etc/kubernetes/bootstrap-kubelet.conf
        return 0
    fi
    echo "kubelet got no certificate from the cluster; it said last:"
    journalctl -q -u kubelet -n 16 -o cat --no-pager
    return 1
}

init_control_plane() {
    VERB=init
    run_kubeadm preflight 1 120 preflight
    run_kubeadm certs 3 60 certs all
    run_kubeadm kubeconfig 3 60 kubeconfig all
    run_kubeadm etcd 3 60 etcd local
    run_kubeadm control-plane 3 60 control-plane all
    run_kubeadm kubelet-start 3 120 kubelet-start
    phase kubeadm-wait-control-plane 2 0 control-plane-unhealthy wait_control_plane
    run_kubeadm upload-config 5 120 upload-config all
    run_kubeadm mark-control-plane 5 120 mark-control-plane
    run_kubeadm bootstrap-token 5 120 bootstrap-token --skip-token-print
    run_kubeadm kubelet-finalize 5 120 kubelet-finalize all
    run_kubeadm addon 5 120 addon all
}

join_control_plane() {
    VERB=join
    run_kubeadm preflight 3 120 preflight
    run_kubeadm certs 3 120 control-plane-prepare certs
    run_kubeadm kubeconfig 3 120 control-plane-prepare kubeconfig
    run_kubeadm control-plane 3 120 control-plane-prepare control-plane
    phase kubeadm-kubelet-start 5 0 kubeadm kubelet_start_join
    run_kubeadm etcd-join 8 300 etcd-join
    phase kubeadm-kubelet-wait-bootstrap 3 0 kubelet-not-admitted wait_bootstrap
    run_kubeadm control-plane-join 5 120 control-plane-join all
    phase kubeadm-wait-control-plane 2 0 control-plane-unhealthy wait_control_plane
}

join_worker() {
    VERB=join
    run_kubeadm preflight 5 120 preflight
    phase kubeadm-kubelet-start 5 0 kubeadm kubelet_start_join
    phase kubeadm-kubelet-wait-bootstrap 3 0 kubelet-not-admitted wait_bootstrap
}

# From here on a boot is an ordinary one: no cloud-init, no seed, nothing of it left on the disk.
finish() {
    touch /etc/cloud/cloud-init.disabled || return 1
    rm -rf /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/seed
    rm -f "$work/kubeadm.yaml" "$work/discovery.conf" /etc/kubernetes/bootstrap-kubelet.conf
    sync
}

phase node-setup 3 0 setup setup
phase network 1 0 no-network network
if [ "$ROLE" != worker ]; then phase etcd-disk 2 0 etcd-disk etcd_disk; fi
phase container-runtime 3 0 container-runtime runtime
phase images 2 0 image-missing images
if [ "$ROLE" != worker ]; then phase keepalived 3 60 keepalived systemctl start keepalived.service; fi
case $ROLE in
init) init_control_plane ;;
control-plane)
    phase endpoint 1 0 endpoint-unreachable endpoint
    join_control_plane
    ;;
worker)
    phase endpoint 1 0 endpoint-unreachable endpoint
    join_worker
    ;;
esac
phase finish 3 0 finish finish
say "ASHLAR-SSH-HOST-KEY $(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)"
say "ASHLAR-PHASE ready ok $(cut -d. -f1 /proc/uptime)"
