#!/bin/bash
# Whole processes against Debian's LXC on this machine, in one run: medians, and the ratio pair by pair.
#
#   make bench            all of it, a few minutes
#   RUNS=5 make bench     quicker
#
# Everything lies on a loop-mounted, journaled ext4, which is what hosts have. Ours and the peer's command take turns, so that a machine whose
# speed drifts drifts for both. Needs root, lxc and the templates' sources; no figure here is a test.
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-15}
program=$PWD/${CARGO_TARGET_DIR:-target}/release
[ -x "$program/prlctl" ] || { echo 'run `make bench`: it builds the program first' >&2; exit 1; }
command -v lxc-start >/dev/null || { echo 'the peer is missing: apt-get install lxc' >&2; exit 1; }

work=$(mktemp -d)
export REROOT_PREFIX=$work/disk/ours
lxc=$work/disk/lxc
cleanup() {
    "$program/prlctl" stop --all --kill >/dev/null 2>&1 || true
    for name in peer debian copy; do lxc-stop -P "$lxc" -n "$name" -k >/dev/null 2>&1 || true; done
    while read -r point; do umount -l "$point" 2>/dev/null || true; done < <(awk -v w="$work/" 'index($5, w) == 1 { print $5 }' /proc/self/mountinfo | tac)
    rm -rf "$work"
}
trap cleanup EXIT

truncate -s 16G "$work/image"
mkfs.ext4 -q "$work/image"
mkdir "$work/disk"
mount -o loop "$work/image" "$work/disk"
mkdir "$REROOT_PREFIX" "$lxc"

now() { echo "${EPOCHREALTIME/./}"; }
# timed COMMAND…: its microseconds in $took
timed() { local from; from=$(now); "$@" >/dev/null 2>&1; took=$(($(now) - from)); }
median() { printf '%s\n' "$@" | sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
ms() { awk -v us="$1" 'BEGIN { printf "%.1f", us / 1000 }'; }
report() { # NAME OURS PEERS WANTED; the second and third are names of arrays
    local -n our_times=$2 peer_times=$3
    local ratios=() index
    for index in "${!our_times[@]}"; do
        ratios+=("$(awk -v x="${our_times[index]}" -v y="${peer_times[index]}" 'BEGIN { printf "%.3f", x / y }')")
    done
    printf '%-44s %9s ms %9s ms   %6s   (wanted: %s)\n' "$1" "$(ms "$(median "${our_times[@]}")")" \
        "$(ms "$(median "${peer_times[@]}")")" "$(median "${ratios[@]}")" "$4"
}
alone() { # NAME OURS WANTED
    local -n our_times=$2
    printf '%-44s %9s ms %9s      %6s   (wanted: %s)\n' "$1" "$(ms "$(median "${our_times[@]}")")" - - "$3"
}

echo "making templates and peers ..."
"$program/vzpkg" create cache busybox >/dev/null 2>&1
"$program/vzpkg" create cache debian-12 >/dev/null 2>&1
root_of() { echo "$REROOT_PREFIX/vz/template/$1/latest/rootfs"; }
# A privileged LXC container on a plain directory: less work than ours, and what its users have at hand.
make_peer() { # NAME TEMPLATE
    mkdir -p "$lxc/$1"
    cp -a "$(readlink -f "$(root_of "$2")")" "$lxc/$1/rootfs"
    cat >"$lxc/$1/config" <<EOF
lxc.include = /usr/share/lxc/config/common.conf
lxc.arch = amd64
lxc.uts.name = $1
lxc.rootfs.path = dir:$lxc/$1/rootfs
lxc.net.0.type = empty
lxc.apparmor.profile = unconfined
EOF
}
make_peer peer busybox
make_peer debian debian-12
prlctl() { "$program/prlctl" "$@" >/dev/null 2>&1; }
prlctl create ours --ostemplate busybox
prlctl create deb --ostemplate debian-12

printf '%-44s %12s %12s   %6s\n' '' ours LXC ratio

lxc_exec() { lxc-attach -P "$lxc" -n peer -- true; }
our_start() { prlctl start ours; until prlctl exec ours true; do :; done; }
lxc_start() { lxc-start -P "$lxc" -n peer; until lxc_exec; do :; done; }
a=() b=()
for ((i = 0; i < RUNS; i++)); do
    timed our_start; a+=("$took"); prlctl stop ours --kill
    timed lxc_start; b+=("$took"); lxc-stop -P "$lxc" -n peer -k
done
report 'start to the first exec, busybox' a b '<= 1.1'

prlctl start ours; lxc-start -P "$lxc" -n peer
a=() b=()
for ((i = 0; i < RUNS * 3; i++)); do
    timed prlctl exec ours true; a+=("$took")
    timed lxc_exec; b+=("$took")
done
report 'exec true' a b '<= 1.2'
lxc-stop -P "$lxc" -n peer -k

a=()
for ((i = 0; i < RUNS; i++)); do
    timed prlctl stop ours; a+=("$took"); prlctl start ours
done
alone 'stop, busybox, gracefully' a '< 100 ms'

a=()
for ((i = 0; i < RUNS; i++)); do
    timed prlctl reinstall ours --skipbackup; a+=("$took")
done
alone 'reinstall, busybox, running to running' a '<= 150 ms'
prlctl stop ours --kill

a=() b=()
for ((i = 0; i < RUNS; i++)); do
    timed prlctl create "copy$i" --ostemplate busybox; a+=("$took")
    timed lxc-copy -P "$lxc" -n peer -N "copy$i" -s -B overlayfs; b+=("$took")
done
report 'create (lxc-copy -s -B overlayfs)' a b '<= 2'

a=() b=()
for ((i = 0; i < RUNS; i++)); do
    timed prlctl start deb --wait; a+=("$took"); prlctl stop deb
    lxc_boot() { lxc-start -P "$lxc" -n debian; until [ "$(lxc-attach -P "$lxc" -n debian -- systemctl is-system-running --wait 2>/dev/null)" = running ]; do :; done; }
    timed lxc_boot; b+=("$took"); timed lxc-stop -P "$lxc" -n debian; c+=("$took")
done
report 'start to running, Debian 12' a b '<= 1.1'

a=()
for ((i = 0; i < RUNS; i++)); do prlctl start deb --wait; timed prlctl stop deb; a+=("$took"); done
report 'stop, Debian 12' a c '<= 1.1'

prlctl start deb --wait
a=()
for ((i = 0; i < RUNS; i++)); do timed prlctl reinstall deb --skipbackup; a+=("$took"); done
alone 'reinstall, Debian 12, running to running' a '< 600 ms'
prlctl stop deb

prlctl start deb --wait
prlctl exec deb 'find /etc /usr/share -xdev -type f -size -64k | head -n 100 | while read -r file; do echo >>"$file"; done'
prlctl stop deb
a=()
for ((i = 0; i < RUNS; i++)); do timed prlctl generation-diff deb --stat; a+=("$took"); done
alone 'generation-diff --stat, Debian 12, 100 files' a '< 30 ms'
a=()
for ((i = 0; i < RUNS; i++)); do timed prlctl generation-diff deb; a+=("$took"); done
alone 'generation-diff, Debian 12, 100 files' a '-'

fill() { # NAME FILES
    prlctl create "$1" --ostemplate busybox
    prlctl start "$1"
    prlctl exec "$1" "mkdir /data; cd /data; i=0; while [ \$i -lt $2 ]; do : > f\$i; i=\$((i+1)); done; sync"
    prlctl stop "$1"
}
fill few 10
fill many 100000
sync
a=() b=()
for ((i = 0; i < RUNS; i++)); do
    timed prlctl reinstall few; a+=("$took")
    timed prlctl reinstall many; b+=("$took")
    prlctl reinstall few --undo; prlctl reinstall many --undo
done
alone 'reinstall, stopped, 10 old files' a '<= 12 ms'
alone 'reinstall, stopped, 100,000 old files' b 'within 20 % of that'
# A Debian out of an archive, against GNU tar with what makes it durable; each time into what is empty, and what was there is gone by then.
archive=$work/disk/debian.tar.zst
tar --zstd --xattrs '--xattrs-include=*' --acls --numeric-owner -C "$(root_of debian-12)/" -cf "$archive" .
unpack() { mkdir "$work/disk/unpacked"; tar --zstd --xattrs '--xattrs-include=*' --acls --numeric-owner -C "$work/disk/unpacked" -xf "$archive"; }
unpack_durably() { unpack && sync -f "$work/disk"; }
a=() b=() c=()
for ((i = 0; i < (RUNS + 1) / 2; i++)); do
    sync; timed "$program/vzpkg" create cache packed --from "$archive"; a+=("$took")
    "$program/vzpkg" remove cache packed >/dev/null 2>&1; prlctl empty-trash
    sync; timed unpack_durably; b+=("$took"); rm -rf "$work/disk/unpacked"
    sync; timed unpack; c+=("$took"); rm -rf "$work/disk/unpacked"
done
report 'vzpkg create, Debian tar.zst, to tar and sync' a b '<= 1.15'
report 'vzpkg create, Debian tar.zst, to tar alone' a c '-'
a=() b=()
sums() { find "$(root_of debian-12)/" -xdev -type f -print0 | xargs -0 sha256sum; }
for ((i = 0; i < RUNS; i++)); do
    timed "$program/vzpkg" verify debian-12; a+=("$took")
    timed sums; b+=("$took")
done
report 'vzpkg verify, Debian, to sha256sum' a b '<= 2'
a=()
for ((i = 0; i < RUNS; i++)); do timed prlctl create "debian$i" --ostemplate debian-12; a+=("$took"); done
alone 'create, Debian 12' a '< 30 ms'

# A set to keep, against the same by `cp`, each with what makes it durable: 10,000 small files, and a gigabyte in ten.
fill kept 10
srv=$(dirname "$(readlink -f "$REROOT_PREFIX/etc/vz/names/kept")")/generations/1/delta/srv
for ((i = 0; i < 100; i++)); do
    mkdir -p "$srv/$i"
    for ((j = 0; j < 100; j++)); do echo "$i $j" >"$srv/$i/$j"; done
done
for ((i = 0; i < 10; i++)); do head -c 100M /dev/urandom >"$srv/large$i"; done
sync
a=() b=()
for ((i = 0; i < (RUNS + 4) / 5; i++)); do
    timed prlctl reinstall kept --keep /srv; a+=("$took")
    prlctl reinstall kept --undo; prlctl generation-delete kept $((i + 2)); prlctl empty-trash
    sync
    timed sh -c "cp -a --reflink=auto '$srv' '$work/disk/copy' && sync -f '$work/disk'"; b+=("$took")
    rm -rf "$work/disk/copy"
    sync
done
prlctl delete kept
report 'reinstall --keep, 10,000 files and 1 GB, to cp' a b '<= 1.3'
# An old root goes: it is renamed, and a child empties the trash later. Filled anew each time, and that is not measured.
a=() b=()
for ((i = 0; i < (RUNS + 4) / 5; i++)); do
    fill "gone-few$i" 10; fill "gone-many$i" 100000
    prlctl reinstall "gone-few$i"; prlctl reinstall "gone-many$i"
    sync
    timed prlctl generation-delete "gone-few$i" 1; a+=("$took")
    timed prlctl generation-delete "gone-many$i" 1; b+=("$took")
    prlctl delete "gone-few$i"; prlctl delete "gone-many$i"
done
alone 'generation-delete, 10 files' a '-'
alone 'generation-delete, 100,000 files' b 'within 20 % of that'
printf '%-44s %27s %6s   (wanted: <= 1.2)\n' 'generation-delete, 100,000 files to 10' '' \
    "$(awk -v x="$(median "${b[@]}")" -v y="$(median "${a[@]}")" 'BEGIN { printf "%.3f", x / y }')"

prlctl start ours
for file in "$REROOT_PREFIX"/run/vz/*/monitor.json; do
    pid=$(grep -o '"pid":[0-9]*' "$file" | cut -d: -f2)
    [ -d "/proc/$pid" ] || continue
    awk '/^Pss:/ { printf "%-44s %9.2f MiB %18s   (wanted: < 3)\n", "memory of a monitor (PSS)", $2 / 1024, "-" }' "/proc/$pid/smaps_rollup" 2>/dev/null || true
done
prlctl stop ours

for ((i = $("$program/prlctl" list -a -H | wc -l); i < 200; i++)); do prlctl create "list$i" --ostemplate busybox; done
a=()
for ((i = 0; i < RUNS; i++)); do timed "$program/prlctl" list -a; a+=("$took"); done
alone 'list -a, 200 containers' a '< 20 ms'

# Fifty of them at once, first stopped, then running.
fifty=$(seq -f 'list%.0f' 150 199)
a=() b=()
for ((i = 0; i < (RUNS + 4) / 5; i++)); do
    timed "$program/prlctl" reinstall $fifty --yes --parallel 8 --skipbackup; a+=("$took")
    for name in $fifty; do prlctl start "$name"; done
    timed "$program/prlctl" reinstall $fifty --yes --parallel 8 --skipbackup; b+=("$took")
    for name in $fifty; do prlctl stop "$name" --kill; done
done
alone 'reinstall --parallel 8 of 50, stopped' a '-'
alone 'reinstall --parallel 8 of 50, running' b '< 5000 ms'

# People carried into a new root. The step's own times stand in the log of the operation, in whole milliseconds. Two hundred homes are two hundred
# directories for the filesystem to make, which takes longer than all else: once without, and for comparison with them.
people() { # NAME HOW-MANY HOME
    prlctl create "$1" --ostemplate busybox
    prlctl start "$1"
    prlctl exec "$1" "i=1000; while [ \$i -lt $((1000 + $2)) ]; do
        echo \"u\$i:x:\$i:\$i::$3:/bin/sh\" >>/etc/passwd; echo \"u\$i:x:\$i:\" >>/etc/group; echo \"u\$i:!::\" >>/etc/gshadow
        echo \"u\$i:\\\$6\\\$salt\\\$hash:20000:0:99999:7:::\" >>/etc/shadow; echo \"u\$i:\$((i * 65536)):65536\" >>/etc/subuid
        mkdir -p -m 750 $3; chown \$i:\$i $3; i=\$((i+1))
    done; cp /etc/subuid /etc/subgid; sync"
    prlctl stop "$1"
}
carried() { # the microseconds of the step `carry` in the newest log, which has milliseconds
    cat "$(ls -t "$REROOT_PREFIX"/var/log/vz/operations/*/*-reinstall.jsonl | head -1)" |
        awk -F '"' '{ split($4, time, /[T:Z]/) } /"event":"step","step":"carry"/ && !began { began = time[2] * 3600 + time[3] * 60 + time[4] } /"event":"step","step":"probation"/ { ended = time[2] * 3600 + time[3] * 60 + time[4] } END { printf "%d\n", (ended - began) * 1000000 }'
}
people twenty 20 '/home/u$i'
people twohundred 200 /srv
people homes 200 '/home/u$i'
a=() b=() c=()
for ((i = 0; i < RUNS; i++)); do
    for name in twenty twohundred homes; do
        prlctl reinstall $name
        case $name in
        twenty) a+=("$(carried)") ;;
        twohundred) b+=("$(carried)") ;;
        homes) c+=("$(carried)") ;;
        esac
        prlctl reinstall $name --undo
    done
done
alone 'carrying 20 users, and making their homes' a '< 5 ms'
alone 'carrying 200 users' b '< 5 ms'
alone 'carrying 200 users, and making their homes' c '-'
