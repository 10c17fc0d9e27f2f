#!/bin/bash
# What a full host costs: many containers at once, and disks of their own.
#
#   make bench                         this, too
#   MANY=50 DEBIAN=no benches/many.sh  quicker
#
# In a network namespace of its own, on a loop-mounted, journaled ext4. Needs root; the second part makes a template of Debian. No figure here is a test.
set -euo pipefail
cd "$(dirname "$0")/.."
MANY=${MANY:-500}
RUNS=${RUNS:-9}
DEBIAN=${DEBIAN:-yes}
program=$PWD/${CARGO_TARGET_DIR:-target}/${PROFILE:-release}
[ -x "$program/prlctl" ] || { echo 'run `make bench`: it builds the program first' >&2; exit 1; }
[ "${IN_NAMESPACE:-}" = yes ] || exec env IN_NAMESPACE=yes unshare --net "$0" "$@"

work=$(mktemp -d)
mkdir "$work/disk"
export REROOT_PREFIX=$work/disk/prefix
cleanup() {
    "$program/prlctl" stop --all --kill >/dev/null 2>&1 || true
    # The images are mounted below it, and a child of the last command may be emptying the trash still.
    for _ in {1..50}; do
        while read -r point; do umount "$point" 2>/dev/null || true; done \
            < <(awk -v w="$work/" 'index($5, w) == 1 { print $5 }' /proc/self/mountinfo | tac)
        grep -q " $work/" /proc/self/mountinfo || break
        sleep 0.1
    done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
truncate -s 40G "$work/image"
mkfs.ext4 -q "$work/image"
mount -o loop "$work/image" "$work/disk"
mkdir -p "$REROOT_PREFIX/run"
mount -t tmpfs run "$REROOT_PREFIX/run"
ip link set lo up

# timed COMMAND…: its microseconds in $took
timed() { local from=${EPOCHREALTIME/./}; "$@" >/dev/null 2>&1; took=$((${EPOCHREALTIME/./} - from)); }
median() { printf '%s\n' "$@" | sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
ms() { awk -v us="$1" 'BEGIN { printf "%.1f ms", us / 1000 }'; }
ratio() { awk -v x="$1" -v y="$2" 'BEGIN { printf "%.2f", x / y }'; }
report() { printf '%-52s %12s   (wanted: %s)\n' "$1" "$2" "$3"; }
free_memory() { awk '/^MemAvailable/ { print $2 }' /proc/meminfo; }
template() { (exec -a vzpkg "$program/prlctl" create cache "$1") >/dev/null 2>&1; }

template busybox
before=$(free_memory)
starts=()
for ((index = 1; index <= MANY; index++)); do
    "$program/prlctl" create "c$index" --ostemplate busybox >/dev/null 2>&1
    timed "$program/prlctl" start "c$index"
    starts+=("$took")
done
few=$(median "${starts[@]:0:10}")
all=$(median "${starts[@]: -10}")
report "a start, the first ten" "$(ms "$few")" -
report "a start, of $MANY the last ten" "$(ms "$all")" -
report "the ratio of both" "$(ratio "$all" "$few")" "up to 1.25"
report "memory that $MANY of them take" "$(((before - $(free_memory)) / 1024)) MB" "less than 24 GB"
lists=() sets=()
for ((run = 0; run < RUNS; run++)); do
    timed "$program/prlctl" list -a
    lists+=("$took")
    timed "$program/prlctl" set "c$((MANY / 2))" --memsize "$((100 + run))"
    sets+=("$took")
done
report "list -a of $MANY that run" "$(ms "$(median "${lists[@]}")")" "less than 80 ms"
report "set --memsize of one of them" "$(ms "$(median "${sets[@]}")")" "less than 20 ms"
timed "$program/prlctl" stop --all --kill
report "stop --all --kill of $MANY" "$(ms "$took")" -

[ "$DEBIAN" = yes ] || exit 0
template debian-12
for volume in directory image; do
    "$program/prlctl" create "$volume" --ostemplate debian-12 --volume "$volume" >/dev/null 2>&1
    "$program/prlctl" start "$volume" >/dev/null 2>&1
done
directory=() image=()
for ((run = 0; run < RUNS; run++)); do
    for volume in directory image; do
        timed "$program/prlctl" reinstall "$volume" --skipbackup
        declare -n times=$volume
        times+=("$took")
    done
done
report "a reinstall of a Debian that runs, in a directory" "$(ms "$(median "${directory[@]}")")" -
report "and on a disk of its own" "$(ms "$(median "${image[@]}")")" -
report "the ratio of both" "$(ratio "$(median "${image[@]}")" "$(median "${directory[@]}")")" "up to 1.20"
