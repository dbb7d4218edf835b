#!/bin/busybox sh
# Init of Ashlar's test guest. Every line that a test waits for begins with ASHLAR-.
# Kernel command line:
#   ashlar.probe            print ASHLAR-PROBE-OK and power off: proves that a host can run a guest
#   ashlar.ip=ADDR/PREFIX   bring eth0 up with this address      ashlar.gw=ADDR  with this default route
#   ashlar.http=PORT        serve /www (index.html holds the host name) on this port
#   ashlar.name=NAME        host name
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/console >/dev/console 2>&1

probe= ip= gw= http= name=ashlar-test
for word in $(cat /proc/cmdline); do
    case $word in
    ashlar.probe*) probe=1 ;;
    ashlar.ip=*) ip=${word#*=} ;;
    ashlar.gw=*) gw=${word#*=} ;;
    ashlar.http=*) http=${word#*=} ;;
    ashlar.name=*) name=${word#*=} ;;
    esac
done
hostname "$name"

if [ -n "$probe" ]; then
    echo "ASHLAR-PROBE-OK kernel=$(uname -r) cpus=$(nproc) memory_kib=$(awk '/MemTotal/ {print $2}' /proc/meminfo)"
    poweroff -f
fi

for module in /modules/*.ko; do insmod "$module" || echo "ASHLAR-FAILED module=$module"; done
ip link set lo up
if [ -n "$ip" ]; then
    n=0
    until [ -e /sys/class/net/eth0 ] || [ $n -ge 100 ]; do n=$((n + 1)); usleep 100000; done
    ip link set eth0 up && ip addr add "$ip" dev eth0 && echo "ASHLAR-NET eth0 $ip $(cat /sys/class/net/eth0/address)"
    [ -n "$gw" ] && ip route add default via "$gw"
fi
# The SCSI scan is not done when insmod returns; what appears later is reported by the loop below.
known=
disks() {
    for dev in /sys/block/sd* /sys/block/sr* /sys/block/vd*; do
        [ -e "$dev" ] || continue
        disk=${dev##*/}
        case " $known " in *" $disk "*) continue ;; esac
        known="$known $disk"
        serial=$(cat "$dev/serial" 2>/dev/null || tr -dc 'A-Za-z0-9_.-' <"$dev/device/vpd_pg80" 2>/dev/null)
        echo "ASHLAR-DISK $disk sectors=$(cat "$dev/size") serial=$serial"
    done
}
if [ -n "$http" ]; then
    echo "$name" >/www/index.html
    httpd -p "$http" -h /www && echo "ASHLAR-HTTP $http"
fi
tick=0
while :; do
    disks
    echo "ASHLAR-TICK $tick"
    tick=$((tick + 1))
    sleep 1
done &
# An orderly end on the ACPI power button, as a host's "shutdown" asks for.
mkdir -p /etc/acpi/PWRF
printf '#!/bin/sh\necho ASHLAR-SHUTDOWN >/dev/console\npoweroff -f\n' >/etc/acpi/PWRF/00000080
chmod 755 /etc/acpi/PWRF/00000080
acpid -f -l /dev/null -c /etc/acpi &
while :; do wait; sleep 1; done
