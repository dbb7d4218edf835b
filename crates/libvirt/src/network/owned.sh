# Refuses to go on where something has a name that is needed here and is not ours.
marked=
if [ -f "$run/$id" ]; then
    [ "$(cat "$run/$id")" = "$mark" ] || fail foreign "$run/$id says that the network $id is another installation's"
    marked=1
fi
for device in "asbr-$id" "asvx-$id" "asgw-$id" "asup-$id"; do
    [ -d "/sys/class/net/$device" ] || continue
    other=$(alias_of "$device")
    [ "$other" = "$mark" ] || { [ -z "$other" ] && [ -n "$marked" ]; } ||
        fail foreign "the interface $device is there and does not carry Ashlar's mark: it is left alone; find out who made it"
    [ -z "$other" ] || marked=1
done
for family in bridge inet; do
    text=$(nft list table "$family" "ashlar_$id" 2>/dev/null) || continue
    case $text in
    *"comment \"$mark\""*) marked=1 ;;
    *) fail foreign "the nft table $family ashlar_$id is there and does not carry Ashlar's mark: it is left alone" ;;
    esac
done
if [ -e "/run/netns/ashlar-$id" ] && [ -z "$marked" ]; then
    fail foreign "the network namespace ashlar-$id is there, and nothing says that it is Ashlar's: it is left alone"
fi
