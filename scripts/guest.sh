#!/usr/bin/env bash
# Runs a program under a kernel of its own that has control groups of version 2 alone, in QEMU: the borglet's tests
# where this machine has version 1. By software, and so several times as slow.
#
# usage: scripts/guest.sh --fetch             gets what is not here yet: Debian's kernel, and QEMU if none is installed
#        scripts/guest.sh --ready             says by its exit code whether all is here
#        scripts/guest.sh PROGRAM [WORD...]   runs the program in there as root, with these words
#
# The guest sees this machine's files at their places, as far as who runs it may read them, and writes into its own
# memory; it has no network. Its output is the program's, and so is the exit code, but 124 where it all takes longer
# than GUEST_SECONDS (900), and 125 where the guest fails. In there CI and IN_GUEST are `true`.
#
# What is fetched is unpacked into a cache and not installed: Debian's QEMU conflicts with other packages, and an
# installed kernel is one that the machine starts with.
set -euo pipefail

cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/cell-manager/guest
# In the order in which they need each other.
modules=(virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci
    netfs fscache 9pnet 9p 9pnet_virtio overlay veth)

fail() {
    echo "guest: $1" >&2
    exit 125
}

# Sets `qemu` to what QEMU is started by.
find_qemu() {
    local usr=$cache/qemu/usr
    qemu=(qemu-system-x86_64)
    command -v "${qemu[0]}" >/dev/null ||
        qemu=(env "LD_LIBRARY_PATH=$usr/lib/x86_64-linux-gnu" "$usr/bin/qemu-system-x86_64"
            -L "$usr/share/seabios" -L "$usr/share/qemu")
    "${qemu[@]}" --version >/dev/null 2>&1
}

has_kernel() { [[ -e $cache/kernel/vmlinuz && -e $cache/kernel/busybox ]]; }

is_ready() { find_qemu && has_kernel; }

# Downloads packages to a folder and unpacks them there; of each what tar's words say.
unpack() {
    local to=$1 package
    local -a packages
    read -r -a packages <<<"$2"
    shift 2
    ((${#packages[@]} > 0)) || fail "apt-get does not know what to fetch"
    mkdir "$to"
    (cd "$to" && apt-get -qq -o APT::Sandbox::User=root download "${packages[@]}" >/dev/null) ||
        fail "apt-get could not download ${packages[*]}"
    for package in "$to"/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$to" "$@" || fail "$package could not be unpacked"
        rm "$package"
    done
}

fetch_qemu() {
    # With what it needs that is not installed.
    unpack "$work/qemu" "$(apt-get -s --no-install-recommends install qemu-system-x86 |
        awk '$1 == "Inst" && $3 !~ /^\[/ { printf "%s ", $2 }')"
    rm -rf "$cache/qemu"
    mv "$work/qemu" "$cache"
    find_qemu || fail "QEMU does not run"
}

# The usual one, as that for clouds cannot share files by 9p; and what its first process needs.
fetch_kernel() {
    local name file number=10 in="./lib/modules/*/kernel"
    unpack "$work/unpacked" "$(apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" { printf "%s ", $2 }')" \
        --wildcards './boot/vmlinuz-*' "$in/fs/*" "$in/net/9p/*" "$in/drivers/virtio/*" "$in/drivers/net/veth.*"
    mkdir "$work/kernel"
    mv "$work"/unpacked/boot/vmlinuz-* "$work/kernel/vmlinuz"
    for name in "${modules[@]}"; do
        file=$(find "$work/unpacked/lib" -name "$name.ko*" -print -quit)
        # What is not there is built in.
        [[ -z $file ]] || mv "$file" "$work/kernel/$((number += 1))-${file##*/}"
    done
    unpack "$work/busybox" busybox-static --wildcards '*/bin/busybox'
    find "$work/busybox" -name busybox -type f -exec mv {} "$work/kernel" \;
    # Later versions of Debian have them compressed.
    find "$work/kernel" -name '*.xz' -exec "$work/kernel/busybox" unxz {} +
    rm -rf "$cache/kernel"
    mv "$work/kernel" "$cache"
}

fetch() {
    is_ready && return
    command -v apt-get >/dev/null || fail "there is no apt-get to fetch with"
    [[ $(id -u) != 0 ]] || apt-get -qq update >/dev/null || true
    mkdir -p "$cache"
    find_qemu || fetch_qemu
    has_kernel || fetch_kernel
}

run() {
    local code root=$work/root
    is_ready || fail "there is no QEMU or no kernel for it: scripts/guest.sh --fetch gets them"
    mkdir -p "$root"/{bin,modules}
    cp "$cache/kernel/busybox" "$root/bin"
    ln -s busybox "$root/bin/sh"
    cp "$cache"/kernel/*.ko "$root/modules"
    cp "${BASH_SOURCE[0]%/*}/guest-init.sh" "$root/init"
    printf '%s\n' ${SHOW_LOGS+"SHOW_LOGS=$SHOW_LOGS"} "$(realpath "$1")" "${@:2}" >"$root/command"
    (cd "$root" && find . | "$cache/kernel/busybox" cpio -o -H newc 2>/dev/null) >"$work/initramfs"

    # QEMU ends with this script, however that does.
    setpriv --pdeathsig TERM timeout --foreground --kill-after 5 "${GUEST_SECONDS:-900}" "${qemu[@]}" \
        -machine pc -accel tcg,thread=multi -cpu max -smp 2 -m 3G -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$cache/kernel/vmlinuz" -initrd "$work/initramfs" \
        -append "console=ttyS0 quiet loglevel=1 panic=-1 mitigations=off tsc=reliable clocksource=tsc" \
        -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
        -device virtio-9p-pci,fsdev=host,mount_tag=host \
        -chardev "stdio,id=serial,signal=off,logfile=$work/output" -serial chardev:serial </dev/null &
    pid=$!
    wait "$pid" && code=0 || code=$?
    pid=
    [[ $code != 124 && $code != 137 ]] || exit 124
    code=$(sed -n 's/^guest: exit code \([0-9]*\)\r*$/\1/p' "$work/output" | tail -n 1)
    [[ -n $code ]] || fail "it ended before its program did"
    exit "$code"
}

work=$(mktemp -d)
pid=
trap '[[ -z $pid ]] || kill "$pid" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

case ${1:-} in
--fetch) fetch ;;
--ready) is_ready ;;
-* | "") fail "usage: scripts/guest.sh --fetch | --ready | PROGRAM [WORD...]" ;;
*) run "$@" ;;
esac
