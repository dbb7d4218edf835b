#!/bin/bash
# Runs in the node's root file system while the image is built: everything that a first boot would otherwise do.
set -eu
export PATH=/usr/sbin:/usr/bin LC_ALL=C
kernel=$1
depmod -a "$kernel"
mkdir -p /opt/cni/bin /etc/cni/net.d /var/log/journal /var/lib/kubelet /etc/kubernetes/manifests
cp -a /usr/lib/cni/. /opt/cni/bin/
systemctl preset-all >/dev/null 2>&1
systemctl set-default multi-user.target >/dev/null 2>&1
# Done at build time, or for machines that these are not.
systemctl mask systemd-firstboot.service systemd-hwdb-update.service systemd-journal-catalog-update.service \
    systemd-update-done.service ldconfig.service systemd-sysusers.service systemd-binfmt.service \
    systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-pcrmachine.service \
    systemd-tpm2-setup.service systemd-tpm2-setup-early.service systemd-battery-check.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-mqueue.mount \
    modprobe@drm.service modprobe@efi_pstore.service systemd-pstore.service systemd-hibernate-clear.service \
    getty@tty1.service console-getty.service serial-getty@ttyS0.service getty-static.service \
    e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    rpcbind.socket rpcbind.service nfs-blkmap.service systemd-networkd-persistent-storage.service \
    systemd-network-generator.service systemd-udev-load-credentials.service systemd-random-seed.service \
    modprobe@configfs.service sys-kernel-config.mount systemd-tmpfiles-setup-dev-early.service \
    cloud-init-main.service cloud-init-local.service cloud-init-network.service cloud-config.service \
    cloud-final.service cloud-init-hotplugd.socket \
    man-db.timer >/dev/null 2>&1
# Generators run at every boot and at every reload of units; none of these finds anything here.
mkdir -p /etc/systemd/system-generators
for generator in cloud-init-generator rpc-pipefs-generator systemd-getty-generator systemd-gpt-auto-generator \
    systemd-hibernate-resume-generator systemd-rc-local-generator systemd-ssh-generator \
    systemd-system-update-generator systemd-sysv-generator systemd-tpm2-generator; do
    ln -sfn /dev/null /etc/systemd/system-generators/$generator
done
# Debian's chrony asks Debian's pool; the cluster's servers come from the seed.
sed -i '/^pool /d' /etc/chrony/chrony.conf
systemd-hwdb update
journalctl --update-catalog >/dev/null 2>&1
rm -f /etc/ssh/ssh_host_*_key* /etc/hostname /var/lib/systemd/random-seed /var/lib/dbus/machine-id
: >/etc/machine-id
ln -sfn ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt /var/log/dpkg.log /var/lib/cloud
for archive in /run/archives/*.tar; do [ -e "$archive" ] || exit 0; done

containerd >/run/containerd.log 2>&1 &
daemon=$!
trap 'kill $daemon 2>/dev/null' EXIT
for n in $(seq 300); do
    ctr --connect-timeout 1s version >/dev/null 2>&1 && break
    kill -0 $daemon 2>/dev/null || { cat /run/containerd.log >&2; exit 1; }
    sleep 0.1
done
for archive in /run/archives/*.tar; do ctr -n k8s.io images import "$archive" >/dev/null; done
# Unpacked layers are what containers use. The layers themselves would only be copied to every host with the disk;
# containerd knows this state, it is that of its option to discard unpacked layers. What is not a layer is small.
blobs=/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256
find $blobs -type f -size +128k -printf '%f\n' >/run/archives.out/layers.txt
sed 's/^/sha256:/' /run/archives.out/layers.txt | xargs -r ctr -n k8s.io content rm >/dev/null
ctr -n k8s.io images ls -q | grep -v '@sha256\|^sha256:' | sort >/run/archives.out/images.txt
# kubelet's garbage collection leaves pinned images alone: they could not be pulled again.
while IFS= read -r image; do
    ctr -n k8s.io images label "$image" io.cri-containerd.pinned=pinned >/dev/null
done </run/archives.out/images.txt
kill $daemon
wait $daemon || true
trap - EXIT
# containerd has forgotten these layers, and leaves the files to a garbage collection that it did not live to see.
(cd $blobs && xargs -r rm -f) </run/archives.out/layers.txt
rm -rf /var/lib/containerd/tmpmounts /var/lib/containerd/io.containerd.content.v1.content/ingest/*
