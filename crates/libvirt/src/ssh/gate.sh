# The gate: every session of Ashlar on this host comes through here. It is sent along with each command and installed
# nowhere. Arguments: installation, fencing token (or the word visitor), who is calling, then the command.
#
# Under a lock it compares the caller with the host's lease (installation and highest token seen), takes the lease
# over for a newer token, ends the sessions of older tokens, registers this session, and becomes the command.
set -u
umask 077
installation=$1
token=$2
caller=$3
shift 3
state=/var/lib/libvirt/ashlar
sessions=/run/ashlar/sessions

refuse() {
    code=$1
    shift
    echo "ashlar-gate: $*" >&2
    exit "$code"
}

# What /proc says of a process: comm_, ppid_, pgrp_, start_. A process id may be given again; together with its start
# time it names one process.
look() {
    stat_=
    { read -r stat_ <"/proc/$1/stat"; } 2>/dev/null
    [ -n "$stat_" ] || return 1
    comm_=${stat_#*\(}
    comm_=${comm_%\)*}
    set -f
    # shellcheck disable=SC2086
    set -- ${stat_##*\) }
    set +f
    ppid_=$2
    pgrp_=$3
    start_=${20}
}

# Processes of older tokens that still live, as targets of kill: a session's process (its group, where it leads one)
# and the sshd process of its connection, with which its tunnels end.
older() {
    for file in "$sessions"/*/*; do
        [ -f "$file" ] || continue
        old=${file%/*}
        old=${old##*/}
        [ "$old" -lt "$token" ] || continue
        pid=${file##*/}
        read -r start line line_start <"$file" || continue
        if look "$pid" && [ "$start_" = "$start" ]; then
            if [ "$pgrp_" = "$pid" ]; then echo "-$pid"; else echo "$pid"; fi
        fi
        if [ "$line" != 0 ] && [ "$line" != "$connection" ] && look "$line" && [ "$start_" = "$line_start" ]; then
            echo "$line"
        fi
    done
}

command -v flock >/dev/null 2>&1 || refuse 83 "the program flock is missing on this host: install util-linux"
# Programs are started only where something is to be done: a session costs one of them, flock.
[ -d "$state" ] && [ -d "$sessions" ] || mkdir -p "$state" "$sessions" 2>/dev/null ||
    refuse 85 "$state and $sessions cannot be made: is the user root?"
[ -w "$state/lease.lock" ] || (: >>"$state/lease.lock") 2>/dev/null ||
    refuse 85 "$state/lease.lock cannot be written: is the file system read-only?"
exec 9>>"$state/lease.lock"
flock -w 10 9 || refuse 82 "the lease of this host has been locked for more than 10 s"

owner=
last=0
holder=
if [ -e "$state/lease" ]; then
    read -r owner last holder <"$state/lease"
    case $owner:$last in
    :* | *: | *:*[!0-9]*)
        refuse 84 "$state/lease cannot be read: look who uses this host, then remove that file"
        ;;
    esac
    [ "$owner" = "$installation" ] ||
        refuse 80 "this host belongs to the Ashlar installation $owner; if that one is gone for good, remove $state/lease on the host"
fi
# A visitor changes nothing: it takes no lease, and nobody ends it.
if [ "$token" = visitor ]; then
    exec 9>&-
    exec "$@"
fi
[ "$token" -ge "$last" ] ||
    refuse 81 "another Ashlar (${holder:-unknown}) took this host over at $(date -u -r "$state/lease" '+%F %T') UTC (its token is $last, ours $token)"

# The sshd process of this connection: the nearest ancestor of that name.
connection=0
connection_start=0
look $$
own_start=$start_
parent=$ppid_
while [ "$parent" -gt 1 ] && look "$parent"; do
    case $comm_ in
    sshd*)
        connection=$parent
        connection_start=$start_
        break
        ;;
    esac
    parent=$ppid_
done

if [ -z "$owner" ] || [ "$token" -gt "$last" ]; then
    { printf '%s %s %s\n' "$installation" "$token" "$caller" >"$state/lease.new" && sync "$state/lease.new" &&
        mv "$state/lease.new" "$state/lease" && sync "$state"; } 2>/dev/null ||
        refuse 85 "$state/lease cannot be written: is the file system full or read-only?"
fi

previous=
for dir in "$sessions"/*; do
    [ -d "$dir" ] && [ "${dir##*/}" -lt "$token" ] && previous="$previous $dir"
done
if [ -n "$previous" ]; then
    tries=0
    while targets=$(older) && [ -n "$targets" ]; do
        case $tries in
        # shellcheck disable=SC2086
        0) kill -s TERM -- $targets 2>/dev/null ;;
        # shellcheck disable=SC2086
        30) kill -s KILL -- $targets 2>/dev/null ;;
        60) refuse 82 "a session of a previous Ashlar process does not end: $targets" ;;
        esac
        tries=$((tries + 1))
        sleep 0.1
    done
    # shellcheck disable=SC2086
    rm -rf $previous
fi

[ -d "$sessions/$token" ] || mkdir -p "$sessions/$token" || refuse 85 "$sessions/$token cannot be made"
stale=
for file in "$sessions/$token"/*; do
    [ -f "$file" ] && [ ! -d "/proc/${file##*/}" ] && stale="$stale $file"
done
# shellcheck disable=SC2086
[ -z "$stale" ] || rm -f $stale
printf '%s %s %s\n' "$own_start" "$connection" "$connection_start" >"$sessions/$token/$$" ||
    refuse 85 "$sessions/$token cannot be written"
# Closing the file gives the lock back.
exec 9>&-
exec "$@"
