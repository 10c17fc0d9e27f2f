# What the power cuts are judged by; read by a shell of the machine.
#
#   fill ROOT        puts known contents into the root that is mounted at ROOT
#   manifest ROOT    all that can be told of them, sorted: names, kinds, modes, owners, sizes, links, times, attributes, digests

fill() (
    set -e
    cd "$1"
    mkdir -p srv/known/deep/er srv/known/mine
    for number in $(seq 1 150); do
        seq "$number" $((number * 7)) >"srv/known/deep/file$number"
    done
    head -c 3000000 /dev/urandom >srv/known/large
    ln srv/known/large srv/known/deep/large-again
    ln srv/known/large srv/known/deep/er/large-once-more
    ln -s ../../../etc/passwd srv/known/link
    mkfifo srv/known/fifo
    truncate --size=50M srv/known/hole
    printf end >>srv/known/hole
    printf '' >'srv/known/a name with
a newline'
    chown -R 1000:1001 srv/known/mine
    chown 33:34 srv/known/deep/file1
    chown -h 65534:65534 srv/known/link
    chmod 4755 srv/known/deep/file2
    chmod 2751 srv/known/deep/er
    chmod 1777 srv/known/mine
    chmod 000 srv/known/deep/file3
    setfattr -n user.known -v "some value" srv/known/deep/file4
    setfattr -n user.directory -v 0x00ff00 srv/known/deep/er
    # Of the template: one removed, one changed, a directory made anew.
    rm usr/bin/env
    echo '# changed' >>etc/profile
    rm -rf usr/share/doc && mkdir -p usr/share/doc/own && echo own >usr/share/doc/own/file
    touch -h -d '2001-02-03 04:05:06.789012345' srv/known/link srv/known/deep/file5 srv/known/deep/er
)

manifest() (
    set -e
    export LC_ALL=C
    cd "$1"
    # Seen through its container's id map, owners are that much higher.
    base=$(stat -c %u .)
    {
        find srv/known usr/share/doc usr/bin -printf '%p\t%y\t%m\t%U\t%G\t%s\t%n\t%T@\t%l\t%i\0'
    } | sort -z | tr '\n\0' '?\n' | awk -F '\t' -v OFS='\t' -v base="$base" '
        # Directories have sizes and links as the filesystem likes, and inode numbers count only in that some are the same.
        $2 == "d" { $6 = $7 = "" }
        { $4 -= base; $5 -= base; if (!($10 in first)) first[$10] = $1; $10 = ($2 == "d" ? "" : first[$10]); print }'
    find srv/known usr/share/doc -type f -print0 | sort -z | xargs -0 sha256sum
    sha256sum etc/profile
    # What the container has of it without a copy in its root's own differences: as many blocks as it had.
    stat -c '%n %b' srv/known/hole
    find srv/known -print0 | sort -z | xargs -0 getfattr -h -d -m '^user\.' -e hex
)
