# Overwrites with zeros what the file $1 holds, where it lies on the medium. Exit code 8: its file system cannot do that, and
# standard output says why.
#
# Which parts of it hold something is asked of the file system; a hole is not filled, so that a disk of 20 GiB in which 100 MiB were
# written takes no more than before. qemu-img is there, since libvirt makes overlays with it. Nothing is made: neither another
# file in the place of one that was deleted meanwhile, nor one that a link leads to.
path=$1
[ -f "$path" ] && [ ! -L "$path" ] || { echo "No such file: $path" >&2; exit 1; }
case $(stat -f -c %T -- "$path") in
btrfs | zfs | bcachefs | f2fs | nilfs | overlayfs)
    echo "its file system ($(stat -f -c %T -- "$path")) writes elsewhere, and not over what is there"; exit 8 ;;
esac
# What is only in memory has no place yet.
sync -- "$path" || exit 1
map=$(qemu-img map -f raw --output=json -- "$path") || exit 1
data=$(printf '%s\n' "$map" |
    sed -n 's/.*"start": *\([0-9]*\), "length": *\([0-9]*\),.*"data": true.*/\1 \2/p')
set -- $(stat -c '%s %b %B' -- "$path")
room=$(($2 * $3 + $2 * $3 / 8 + 16777216)) sum=0
while read -r at length; do sum=$((sum + ${length:-0})); done <<END
$data
END
[ "$sum" -le "$room" ] || {
    echo "its file system does not say which of its $1 bytes hold something, and all are more than the $(($2 * $3)) that it takes"
    exit 8
}
idle='nice -n 19'
command -v ionice >/dev/null 2>&1 && idle="$idle ionice -c 3"
while read -r at length; do
    [ -n "$length" ] || continue
    $idle dd if=/dev/zero of="$path" bs=1048576 seek="$at" count="$length" \
        iflag=count_bytes,fullblock oflag=seek_bytes conv=notrunc,nocreat status=none || exit 1
done <<END
$data
END
sync -- "$path"
