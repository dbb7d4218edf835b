# Facts of a host, one NAME=VALUE a line. Judged by whoever asked; what cannot be told is left out.
pool=$1
say() { [ -n "$2" ] && printf '%s=%s\n' "$1" "$2"; }
has() { command -v "$1" >/dev/null 2>&1; }
yes() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }
first() { head -n 1 | tr -d '\r'; }

say kernel "$(uname -r)"
say os "$(. /etc/os-release 2>/dev/null && echo "$PRETTY_NAME")"
for daemon in libvirtd virtqemud; do
    has "$daemon" && say libvirt "$("$daemon" --version 2>/dev/null | sed 's/.* //' | first)"
done
has qemu-system-x86_64 &&
    say qemu "$(qemu-system-x86_64 --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9.]*\).*/\1/p' | first)"
case $(stat -fc %T /sys/fs/cgroup 2>/dev/null) in
cgroup2fs) say cgroups v2 ;;
tmpfs) if [ -d /sys/fs/cgroup/unified ]; then say cgroups hybrid; else say cgroups v1; fi ;;
esac
case $(cat /sys/module/apparmor/parameters/enabled 2>/dev/null) in
Y) say apparmor enabled ;;
*) say apparmor disabled ;;
esac
has getenforce && say selinux "$(getenforce 2>/dev/null)"
say kvm-device "$(yes test -c /dev/kvm)"
say memory-available-mib "$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo)"

# Bridged frames go through the FORWARD chain only where bridge-nf-call-iptables is on.
say bridge-netfilter "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || echo 0)"
has iptables && say forward-policy-iptables "$(iptables -S FORWARD 2>/dev/null | sed -n 's/^-P FORWARD //p' | first)"
if has nft; then
    if nft list chains 2>/dev/null | grep -A2 'hook forward' | grep -q 'policy drop'; then
        say forward-policy-nft drop
    else
        say forward-policy-nft accept
    fi
fi
say nft "$(if has nft && has ip && has bridge; then echo yes; else echo no; fi)"
say ebtables "$(yes has ebtables)"
say arping "$(yes has arping)"

say time-unix-ms "$(date +%s%3N)"
if has timedatectl && synced=$(timedatectl show -p NTPSynchronized --value 2>/dev/null) && [ -n "$synced" ]; then
    say time-synchronized "$synced"
elif has chronyc && tracking=$(chronyc -n tracking 2>/dev/null); then
    case $tracking in
    *"Not synchronised"*) say time-synchronized no ;;
    *) say time-synchronized yes ;;
    esac
fi

if [ -d "$pool" ]; then
    say pool-filesystem "$(stat -fc %T "$pool")"
    say pool-free-mib "$(df -Pk "$pool" | awk 'NR == 2 {print int($4 / 1024)}')"
    # What etcd does: small records, each on the disk before the next.
    file=$pool/.ashlar-check-$$.raw
    trap 'rm -f "$file"' EXIT
    say pool-direct-io "$(yes dd if=/dev/zero of="$file" bs=4096 count=1 oflag=direct)"
    records=200
    begin=$(date +%s%N)
    if dd if=/dev/zero of="$file" bs=2300 count=$records oflag=dsync 2>/dev/null; then
        end=$(date +%s%N)
        say pool-sync-write-mean-us "$(((end - begin) / 1000 / records))"
    fi
    if has fio; then
        say pool-fdatasync-p99-us "$(fio --name=etcd --filename="$file" --rw=write --ioengine=sync --fdatasync=1 \
            --bs=2300 --size=1m --output-format=json 2>/dev/null |
            awk '/"sync"/ {in_sync = 1} in_sync && /"99.000000"/ {gsub(/[^0-9]/, "", $3); print int($3 / 1000); exit}')"
    fi
fi
exit 0
