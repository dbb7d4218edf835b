# What is there of our networks, one line each; judged by whoever asked.
command -v nft >/dev/null 2>&1 && command -v ip >/dev/null 2>&1 ||
    fail refused "the programs ip and nft are needed: install iproute2 and nftables"
echo "hostname $(uname -n)"
digits='[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]'
for path in "$run"/$digits; do
    [ -f "$path" ] || continue
    id=${path##*/}
    echo "file $id $(cat "$path")"
    [ -f "$path.json" ] || continue
    json=$(cat "$path.json")
    echo "applied $id $json"
    bridge=${json#*\"bridge\":\"}
    bridge=${bridge%%\"*}
    [ -e "/sys/class/net/$bridge" ] || echo "bridgeless $id"
    [ "$(show_state "$id" | sha256sum)" = "$(cat "$path.state" 2>/dev/null)" ] && echo "intact $id"
done
for path in /sys/class/net/asbr-* /sys/class/net/asvx-* /sys/class/net/asgw-* /sys/class/net/asup-*; do
    [ -d "$path" ] && echo "link ${path##*/} $(alias_of "${path##*/}")"
done
for path in /run/netns/ashlar-$digits; do
    [ -e "$path" ] && echo "namespace ${path##*/}"
done
nft list tables | sed -n "s/^table [a-z0-9]* \(ashlar_$digits\)\$/table \1/p"
exit 0
