#!/bin/busybox sh
# Init of a node's initial RAM file system: loads a handful of virtio drivers, finds the root disk, hands over.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1
echo "ASHLAR-BOOT initrd"
root= flags=ro
for word in $(cat /proc/cmdline); do
    case $word in
    root=*) root=${word#root=} ;;
    rw) flags=rw ;;
    esac
done
for module in /modules/*.ko; do insmod "$module" || echo "module $module failed"; done
n=0
while :; do
    case $root in
    LABEL=* | UUID=*) device=$(findfs "$root" 2>/dev/null) ;;
    *) device=$root ;;
    esac
    [ -b "$device" ] && break
    n=$((n + 1))
    if [ $n -ge 300 ]; then
        echo "block devices:" && cat /proc/partitions
        echo "ASHLAR-FAILED phase=initrd reason=no-root-disk"
        # Init that ends is a kernel panic, which the panic device reports to the host.
        exit 1
    fi
    usleep 200000
done
mkdir -p /sysroot
if ! mount -t ext4 -o "$flags" "$device" /sysroot; then
    echo "ASHLAR-FAILED phase=initrd reason=root-unmountable"
    exit 1
fi
mount --move /dev /sysroot/dev
mount --move /proc /sysroot/proc
mount --move /sys /sysroot/sys
echo "ASHLAR-BOOT system" >/sysroot/dev/console
exec switch_root /sysroot /sbin/init
