set -eu
for program in ip bridge nft; do
    command -v "$program" >/dev/null 2>&1 ||
        fail refused "the program $program is missing: install iproute2 and nftables"
done
mkdir -p "$run"
exec 9>>"$run/lock"
flock -w 20 9 || fail busy "another change of its networks takes long"
