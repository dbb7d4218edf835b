# The bridge goes last of the interfaces, and only if nothing else is attached to it.
for port in "/sys/class/net/asbr-$id/brif"/*; do
    [ -e "$port" ] || continue
    case ${port##*/} in
    "asvx-$id" | "asgw-$id") ;;
    *) fail busy "${port##*/} is still attached to the bridge asbr-$id: end the machine behind it first" ;;
    esac
done
for device in "asup-$id" "asgw-$id" "asvx-$id" "asbr-$id"; do
    [ -d "/sys/class/net/$device" ] && ip link del "$device"
done
[ -e "/run/netns/ashlar-$id" ] && ip netns del "ashlar-$id"
for family in bridge inet; do
    nft list table "$family" "ashlar_$id" >/dev/null 2>&1 && nft delete table "$family" "ashlar_$id"
done
rm -f "$run/$id.json" "$run/$id.json.new" "$run/$id.state" "$run/$id.state.new"
rm -f "$run/$id"
exit 0
