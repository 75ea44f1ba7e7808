#!/usr/bin/env bash
# Checks that what building needs is there.
#
# usage: scripts/setup.sh               what most of the workspace needs
#        scripts/setup.sh optimizer     and what the optimiser's solver needs, which is C++
#        scripts/setup.sh master        and what the master's storage (RocksDB) needs, which is C++ too
#        scripts/setup.sh lint          and rustfmt and clippy
#        scripts/setup.sh test          what the optimiser needs, what the borglet's tests run their tasks with, and a guest
#                                      with control groups of version 2 (scripts/guest.sh: QEMU and a kernel, in a cache)
#
# Installs and downloads nothing, save for the needs of C++ and of tests where it is run as root on Debian or Ubuntu.
# Prints one line: what there is (exit code 0), or what is missing and how to get it (exit code 1).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing() {
    echo "set-up: $1" >&2
    exit 1
}

wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml | head -n 1)
[[ -n $wanted ]] || missing "Cargo.toml states no rust-version; it should, under [workspace.package]"

# True if version $1 is at least version $2, compared number by number.
at_least() {
    local -a have want
    local i
    IFS=. read -r -a have <<<"$1"
    IFS=. read -r -a want <<<"$2"
    for i in 0 1 2; do
        ((10#${have[i]:-0} > 10#${want[i]:-0})) && return 0
        ((10#${have[i]:-0} < 10#${want[i]:-0})) && return 1
    done
    return 0
}

# rustup's installer adds this folder to PATH in new shells only.
if ! command -v cargo >/dev/null; then
    if [[ -x ${HOME:-/nonexistent}/.cargo/bin/cargo ]]; then
        missing "cargo is in $HOME/.cargo/bin but not in PATH: run \`. \"\$HOME/.cargo/env\"\`, then try again"
    fi
    missing "cargo is missing: install Rust $wanted or newer with rustup, see https://rustup.rs"
fi
cargo --version >/dev/null 2>&1 || missing "cargo does not run: with rustup, \`rustup default stable\` installs a toolchain"
command -v rustc >/dev/null || missing "rustc is missing beside cargo: install Rust $wanted or newer with rustup, see https://rustup.rs"

version_line=$(rustc --version 2>/dev/null) || missing "rustc does not run: with rustup, \`rustup default stable\` installs a toolchain"
version=$(sed -n 's/^rustc \([0-9][0-9.]*\).*/\1/p' <<<"$version_line")
[[ -n $version ]] || missing "rustc does not tell its version (it says: $version_line)"
at_least "$version" "$wanted" || missing "Rust $version is too old, $wanted or newer is needed: \`rustup update stable\`, or see https://rustup.rs"

# Rust links through the C compiler.
command -v cc >/dev/null || missing "a C compiler (cc) is missing, Rust links with it: on Debian or Ubuntu \`sudo apt-get install gcc libc6-dev\`, on Fedora \`sudo dnf install gcc\`, on macOS \`xcode-select --install\`"

# HiGHS, the optimiser's solver, is built with CMake, and RocksDB without; the bindings of both are made
# with libclang.
has_libclang() {
    [[ -n ${LIBCLANG_PATH:-} ]] || ldconfig -p 2>/dev/null | grep -q 'libclang\(-[0-9]*\)\?\.so' ||
        compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || [[ -d /Library/Developer/CommandLineTools ]]
}
cpp_lacks() {
    local lacks=()
    [[ $1 == master ]] || command -v cmake >/dev/null || lacks+=(cmake)
    command -v c++ >/dev/null || lacks+=(g++)
    has_libclang || lacks+=(libclang-dev)
    command -v clang >/dev/null || lacks+=(clang)
    echo "${lacks[*]}"
}
if [[ ${1:-} =~ ^(optimizer|master|lint|test)$ ]]; then
    if [[ $1 == master ]]; then whose="RocksDB, the master's storage,"; else whose="the optimiser's solver"; fi
    lacks=$(cpp_lacks "$1")
    if [[ -n $lacks && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        echo "set-up: installing $lacks for $whose"
        # shellcheck disable=SC2086  # package names, one a word
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $lacks; } \
            </dev/null >/dev/null || missing "apt-get could not install $lacks"
        lacks=$(cpp_lacks "$1")
    fi
    [[ -z $lacks ]] || missing "$whose needs $lacks: on Debian or Ubuntu \`sudo apt-get install $lacks\`, on Fedora \`sudo dnf install cmake gcc-c++ clang clang-devel\`, on macOS \`brew install cmake llvm\`"
fi

# What cannot be had here is no hindrance: tests that need it say that they are skipped.
if [[ ${1:-} == test && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    lacks=()
    for need in ip:iproute2 nsenter:util-linux ps:procps python3:python3 runc:runc crun:crun containerd:containerd busybox:busybox-static; do
        PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v "${need%%:*}" >/dev/null || lacks+=("${need##*:}")
    done
    if ((${#lacks[@]} > 0)); then
        echo "set-up: installing ${lacks[*]} for tests of the borglet"
        # A package that would start a service is kept from it: tests start their own.
        policy=/usr/sbin/policy-rc.d
        if [[ ! -e $policy ]]; then
            printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
            trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        fi
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${lacks[@]}"; } \
            </dev/null >/dev/null || echo "set-up: apt-get could not install ${lacks[*]}: tests that need them are skipped" >&2
    fi
fi
if [[ ${1:-} == test ]]; then
    scripts/guest.sh --fetch </dev/null ||
        echo "set-up: no guest for tests under control groups of version 2: they are skipped" >&2
fi

if [[ ${1:-} == lint ]]; then
    cargo fmt --version >/dev/null 2>&1 || missing "rustfmt is missing: \`rustup component add rustfmt\`"
    cargo clippy --version >/dev/null 2>&1 || missing "clippy is missing: \`rustup component add clippy\`"
fi

runner="cargo test"
if cargo nextest --version >/dev/null 2>&1; then runner="cargo nextest"; fi
echo "set-up: Rust $version (at least $wanted), tests run with $runner"
