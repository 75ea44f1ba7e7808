#!/bin/sh
# The first process of a guest of scripts/guest.sh. From the initramfs it makes the machine's files, with what is
# written above them in memory, the guest's own; then, there, it runs the command, says its exit code, and ends.
set -e

if [ "$1" != run ]; then
    /bin/busybox --install -s /bin
    PATH=/bin
    for module in /modules/*; do
        insmod "$module"
    done
    mkdir /host /above /new
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host
    mount -t tmpfs above /above
    mkdir /above/upper /above/work
    mount -t overlay -o lowerdir=/host,upperdir=/above/upper,workdir=/above/work files /new
    mount -t proc proc /new/proc
    mount -t sysfs sysfs /new/sys
    mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
    mount -t devtmpfs devtmpfs /new/dev
    mkdir /new/dev/pts /new/dev/shm
    mount -t devpts devpts /new/dev/pts
    mount -t tmpfs shm /new/dev/shm
    mount -t tmpfs run /new/run
    ip link set lo up
    hostname guest
    cp /init /new/run/guest-init
    cp /command /new/run/guest-command
    exec switch_root /new /run/guest-init run
fi

# The console is a file as others are.
stty -onlcr
# Not in the files' layer: what is made in there may be layers of another such.
mkdir -m 1777 /run/tmp
export CI=true IN_GUEST=true HOME=/root TMPDIR=/run/tmp
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ulimit -n 20000
set --
while IFS= read -r word; do
    set -- "$@" "$word"
done </run/guest-command
# Not at a terminal, to which programs write colours.
{ code=0; env "$@" 2>&1 </dev/null || code=$?; echo "guest: exit code $code"; } | cat
# Waits until that is written.
stty onlcr
echo o >/proc/sysrq-trigger
while :; do :; done
