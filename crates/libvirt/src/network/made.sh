# A bridge of ours with its gateway. The filters are there already.
br=asbr-$id vx=asvx-$id gw=asgw-$id up=asup-$id ns=ashlar-$id

# $1 is an interface: mark, MTU, no addresses of its own, up.
prepare() {
    ip link set dev "$1" alias "$mark"
    ip link set dev "$1" addrgenmode none mtu "$mtu"
}

[ -d "/sys/class/net/$br" ] ||
    ip link add "$br" address "$bridge_mac" type bridge stp_state 0 forward_delay 0 mcast_snooping 0
prepare "$br"
ip link set dev "$br" up

if [ -n "$vni" ]; then
    device=$(ip -4 -o addr show to "$local/32" | awk '{ print $2; exit }')
    [ -n "$device" ] ||
        fail refused "no interface has the address $local, which the overlay uses on this host: set the Host's spec.underlayAddress"
    read -r underlay <"/sys/class/net/$device/mtu"
    [ "$underlay" -ge $((mtu + 50)) ] ||
        fail refused "its MTU of $mtu needs $((mtu + 50)) on $device, which has $underlay: set the Network's mtu to $((underlay - 50)) at most, or enlarge that of $device on every host and the switches between them"
    if [ -d "/sys/class/net/$vx" ]; then
        case $(show_link "$vx") in
        *"vxlan $vni $local $port"*) ;;
        *) ip link del "$vx" ;;
        esac
    fi
    if [ ! -d "/sys/class/net/$vx" ]; then
        said=$(ip link add "$vx" type vxlan id "$vni" dstport "$port" local "$local" learning 2>&1) ||
            fail refused "it cannot make a VXLAN device ($said): its kernel needs the module vxlan, and no other device may have the VNI $vni"
    fi
    prepare "$vx"
    ip link set dev "$vx" master "$br" up
    have=$(bridge fdb show dev "$vx" | sed -n 's/^00:00:00:00:00:00 dst \([0-9.]*\) .*/\1/p')
    for peer in $peers; do
        case "
$have
" in
        *"
$peer
"*) ;;
        *) bridge fdb append 00:00:00:00:00:00 dev "$vx" dst "$peer" ;;
        esac
    done
    for peer in $have; do
        case " $peers " in
        *" $peer "*) ;;
        *) bridge fdb del 00:00:00:00:00:00 dev "$vx" dst "$peer" ;;
        esac
    done
elif [ -d "/sys/class/net/$vx" ]; then
    ip link del "$vx"
fi

[ -e "/run/netns/$ns" ] || ip netns add "$ns"
inside() { ip -n "$ns" "$@"; }
if [ -d "/sys/class/net/$gw" ] && ! inside link show dev gw0 >/dev/null 2>&1; then
    ip link del "$gw"
fi
[ -d "/sys/class/net/$gw" ] || ip link add "$gw" type veth peer name gw0 netns "$ns"
prepare "$gw"
ip link set dev "$gw" master "$br" up
inside link set dev lo up
inside link set dev gw0 alias "$mark"
inside link set dev gw0 addrgenmode none mtu "$mtu" address "$gateway_mac"
for address in $(inside -4 -o addr show dev gw0 | awk '{ print $4 }'); do
    [ "$address" = "$gateway" ] || inside addr del "$address" dev gw0
done
inside addr replace "$gateway" dev gw0
inside link set dev gw0 up
# Sticky: the MAC of the gateway is here and nowhere else, whatever another host's gateway sends.
bridge fdb replace "$gateway_mac" dev "$gw" master static sticky

if [ "$egress" = 1 ]; then
    if [ -d "/sys/class/net/$up" ] && ! inside link show dev up0 >/dev/null 2>&1; then
        ip link del "$up"
    fi
    [ -d "/sys/class/net/$up" ] || ip link add "$up" type veth peer name up0 netns "$ns"
    prepare "$up"
    inside link set dev up0 addrgenmode none mtu "$mtu"
    here=$(ip -4 -o addr show dev "$up" | awk '{ sub(/\/.*/, "", $4); print $4; exit }')
    if [ -z "$here" ]; then
        # The first four addresses that no other network of this host has; nobody else gets to know them.
        taken=" $(ip -4 -o addr show | awk '{ sub(/\/.*/, "", $4); printf "%s ", $4 }')"
        n=0
        while :; do
            [ "$n" -lt 4096 ] || fail refused "its 4096 networks with a way out are all there are"
            here=169.254.$((64 + n / 64)).$((n % 64 * 4 + 1))
            case $taken in *" $here "*) n=$((n + 1)) ;; *) break ;; esac
        done
        ip addr add "$here/30" dev "$up"
    fi
    there=${here%.*}.$((${here##*.} + 1))
    for address in $(inside -4 -o addr show dev up0 | awk '{ print $4 }'); do
        [ "$address" = "$there/30" ] || inside addr del "$address" dev up0
    done
    inside addr replace "$there/30" dev up0
    ip link set dev "$up" up
    inside link set dev up0 up
    inside route replace default via "$here"
    # The host forwards for the gateway; the rules of its own stack say for whom.
    [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || echo 1 >/proc/sys/net/ipv4/ip_forward
elif [ -d "/sys/class/net/$up" ]; then
    ip link del "$up"
fi
