#!/bin/sh
# The oracle: it stands on the host in the place of virt-ssh-helper, behind the gate, and so sees every connection to libvirt
# begin. It writes down with which token (the gate registered this very process under it), and what else is wrong then:
# a higher token that was here before, or a connection of another token that still lives.
dir=/run/oracle
look() {
    stat_=
    { read -r stat_ <"/proc/$1/stat"; } 2>/dev/null
    [ -n "$stat_" ] || return 1
    # shellcheck disable=SC2086
    set -- ${stat_##*\) }
    start_=${20}
}
token=
for file in /run/ashlar/sessions/*/$$; do
    [ -f "$file" ] && token=${file%/*} && token=${token##*/}
done
# A visitor changes nothing.
[ -n "$token" ] || exec $dir/virt-ssh-helper "$@"
look $$
own=$start_
exec 8>>$dir/lock
flock 8
verdict=alone
highest=0
[ ! -e $dir/highest ] || read -r highest <$dir/highest
[ "$token" -ge "$highest" ] || verdict=late
echo "$token $$ $own" >$dir/live.new
if [ -e $dir/live ]; then
    while read -r other pid start; do
        look "$pid" && [ "$start_" = "$start" ] || continue
        echo "$other $pid $start" >>$dir/live.new
        [ "$other" = "$token" ] || verdict=beside-$other
    done <$dir/live
fi
mv $dir/live.new $dir/live
[ "$token" -le "$highest" ] || echo "$token" >$dir/highest
echo "$(date +%s%3N) $token $$ $verdict" >>$dir/log
exec 8>&-
exec $dir/virt-ssh-helper "$@"
