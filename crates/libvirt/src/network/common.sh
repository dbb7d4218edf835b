# What the scripts about networks share. A network's things on a host have names that end in ten hexadecimal digits of
# its uid ($id), and carry its mark: interfaces as their alias, nft tables as a comment. A file under $run says from
# before the first of them is made whose they are, since a namespace cannot carry a mark, and an interface has none
# for a moment. Everything goes with a reboot, these files too.
LC_ALL=C
export LC_ALL PATH="$PATH:/usr/sbin:/sbin"
run=/run/ashlar/networks

fail() {
    echo "ashlar-network: $1: $2" >&2
    exit 1
}

alias_of() { cat "/sys/class/net/$1/ifalias" 2>/dev/null || :; }

# One interface of this namespace, without what changes by itself.
show_link() {
    [ -d "/sys/class/net/$1" ] || return 0
    read -r flags <"/sys/class/net/$1/flags"
    read -r mtu <"/sys/class/net/$1/mtu"
    read -r mac <"/sys/class/net/$1/address"
    master=$(readlink "/sys/class/net/$1/master" || :)
    echo "link $1 up=$((flags & 1)) mtu=$mtu mac=$mac master=${master##*/} alias=$(alias_of "$1")"
    ip -d -o link show dev "$1" | sed -n 's/.* vxlan id \([0-9]*\) .*local \([0-9.]*\) .*dstport \([0-9]*\) .*/vxlan \1 \2 \3/p'
    ip -4 -o addr show dev "$1" | awk '{ print "addr", $2, $4 }'
}

# Everything of network $1 that is there, in one order.
show_state() {
    for device in "asbr-$1" "asvx-$1" "asgw-$1" "asup-$1"; do show_link "$device"; done
    if [ -d "/sys/class/net/asvx-$1" ]; then
        bridge fdb show dev "asvx-$1" | grep '^00:00:00:00:00:00 ' | sort
    fi
    if [ -d "/sys/class/net/asbr-$1" ]; then
        bridge fdb show br "asbr-$1" | grep ' sticky' | sort
    fi
    for family in bridge inet; do nft list table "$family" "ashlar_$1" 2>/dev/null || :; done
    if [ -e "/run/netns/ashlar-$1" ]; then
        ip -n "ashlar-$1" -o link show | awk '{
            up = $3 ~ /[<,]UP[,>]/
            sub(/@.*/, ":", $2)
            for (i = 4; i < NF; i++) { if ($i == "mtu") mtu = $(i + 1); if ($i ~ /^link\//) mac = $(i + 1) }
            print "inside", $2, up, mtu, mac
        }'
        ip -n "ashlar-$1" -4 -o addr show | awk '{ print "inside addr", $2, $4 }'
        ip -n "ashlar-$1" -4 route show | sed 's/ linkdown//' | sort
        ip netns exec "ashlar-$1" sh -c 'cat /proc/sys/net/ipv4/ip_forward; nft list ruleset'
    fi
}
