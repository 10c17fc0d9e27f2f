#!/bin/bash
# How long it takes to give a container that runs one more address: alone on its host, and with those of 1,000 others in the packet filter, each with a rate.
#
#   make bench                    this, too
#   RUNS=5 benches/address.sh     quicker
#
# In a network namespace of its own. Wanted: less than 20 ms, and not more with the others than without. Needs root and nftables; no figure here is a test.
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-25}
OTHERS=${OTHERS:-1000}
program=$PWD/${CARGO_TARGET_DIR:-target}/${PROFILE:-release}
[ -x "$program/prlctl" ] || { echo 'run `make bench`: it builds the program first' >&2; exit 1; }
[ "${IN_NAMESPACE:-}" = yes ] || exec env IN_NAMESPACE=yes unshare --net "$0" "$@"

work=$(mktemp -d)
export REROOT_PREFIX=$work
cleanup() {
    "$program/prlctl" delete web01 --force >/dev/null 2>&1 || true
    # A child of the last command may be emptying the trash still.
    for _ in {1..50}; do umount "$work/run/vz" 2>/dev/null && break; sleep 0.1; done
    for _ in {1..50}; do umount "$work/run" 2>/dev/null && break; sleep 0.1; done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT

# timed COMMAND…: its microseconds in $took, and those of processor that it and what it ran used in $used
timed() {
    local from=${EPOCHREALTIME/./} TIMEFORMAT='%U %S' said
    { said=$({ time "$@" >/dev/null 2>&1; } 2>&1); } || true
    took=$((${EPOCHREALTIME/./} - from))
    used=$(awk '{ printf "%d", ($1 + $2) * 1000000 }' <<<"$said")
}
median() { printf '%s\n' "$@" | sort -n | awk '{ a[NR] = $1 } END { printf "%.1f", a[int((NR + 1) / 2)] / 1000 }'; }
measure() { # NAME
    local all=() processor=() run
    for ((run = 0; run < RUNS; run++)); do
        timed "$program/prlctl" set web01 --ipadd "10.9.0.$((run + 10))"
        all+=("$took")
        processor+=("$used")
        "$program/prlctl" set web01 --ipdel "10.9.0.$((run + 10))" >/dev/null 2>&1
    done
    printf '%-24s %6s ms, %6s ms of processor\n' "$1" "$(median "${all[@]}")" "$(median "${processor[@]}")"
}

ip link set lo up
# As any host has it.
mkdir "$work/run"
mount -t tmpfs run "$work/run"
(exec -a vzpkg "$program/prlctl" create cache busybox) >/dev/null 2>&1
"$program/prlctl" create web01 --ostemplate busybox --ipadd 10.9.0.1 --rate '*:1:1000' >/dev/null 2>&1
"$program/prlctl" start web01 >/dev/null 2>&1
measure 'alone'
table=$(nft list tables inet | awk '/reroot_/ { print $3 }')
for ((other = 0; other < OTHERS; other++)); do
    name=$(printf 'vz00000%08x' "$other")
    ip=10.$((20 + other / 62500)).$((other / 250 % 250)).$((other % 250 + 1))
    echo "add element inet $table ours { \"$name\" }; add element inet $table four { \"$name\" . $ip }; add element inet $table private { $ip }"
    for way in out in; do
        echo "add element inet $table rate_$way { \"$name\" limit rate over 125000 bytes/second burst 65536 bytes }"
    done
done | nft -f -
measure "with $OTHERS others"
