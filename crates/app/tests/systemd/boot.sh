# Boots a systemd of its own with this installation of Ashlar, in namespaces: PROGRAM PACKAGING CGROUP.
# Nothing of this machine but its programs is seen there, and nothing that is written there stays.
set -eu
program=$1 packaging=$2 root=/run/root
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir /run/upper /run/work $root
mount -t overlay -o lowerdir=/,upperdir=/run/upper,workdir=/run/work overlay $root
mount -t proc proc $root/proc
mount --bind $root/proc/sys $root/proc/sys
mount -o remount,bind,ro $root/proc/sys
mount --rbind /dev $root/dev
mount -t sysfs -o ro sysfs $root/sys
if [ -d /sys/fs/cgroup/systemd ]; then
    mount -t tmpfs -o mode=0755 tmpfs $root/sys/fs/cgroup
    mkdir $root/sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd,xattr cgroup $root/sys/fs/cgroup/systemd
else
    mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
fi
for directory in run tmp var/lib var/cache root; do
    mount -t tmpfs -o mode=0755 tmpfs $root/$directory
done
rm -rf $root/etc/systemd/system $root/etc/credstore.encrypted $root/etc/ashlar
# As packaging/README.md says.
install -m 0755 "$program" $root/usr/local/bin/ashlar
install -D -m 0644 "$packaging/serve.yaml" $root/etc/ashlar/serve.yaml
install -D -m 0644 "$packaging/systemd/ashlar.service" $root/etc/systemd/system/ashlar.service
printf '[Unit]\nDefaultDependencies=no\nWants=ashlar.service\n' >$root/etc/systemd/system/test.target
hostname systemd-test
cd $root
mkdir -p old etc/credstore.encrypted var/lib/systemd
systemd-id128 new >etc/machine-id
pivot_root . old
umount -l /old
# Credentials are mounted by a child of systemd, and seen by others where mounts are shared.
mount --make-rshared /
head -c 32 /dev/urandom | base64 >/root/key
systemd-creds encrypt --with-key=host --name=ashlar-key /root/key /etc/credstore.encrypted/ashlar-key
exec env -i container=ashlar-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=0
