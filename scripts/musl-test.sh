#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'USAGE'
Usage: scripts/musl-test.sh [--target aarch64] [CARGO-TEST-ARGUMENT...]

Runs the unit and property tests with musl, the C library of the static binaries and of Nix's image, instead of glibc.
Needs rustup, whose target for musl it adds, and musl-gcc; on Debian and Ubuntu root gets that installed with apt.
Takes about three minutes on two cores the first time.

With --target they are cross-compiled for another processor, by Rust's own linker and the C compiler of a release (zig,
which it installs once), and run by qemu-user. That has no seccomp, starts no program for that processor, and knows only
a part of netlink and of sockets' options: the tests of these are left out. It takes a quarter of an hour or more.
USAGE
}

help_if_asked "$@"
processor=''
if [[ ${1:-} == --target ]]; then
    processor=${2:-}
    shift 2 || die "--target needs a value: see --help"
fi
case $processor in
    '') need "$for_rust" musl-gcc:musl-tools,linux-libc-dev ;;
    aarch64) target=aarch64-unknown-linux-musl ;;
    *) die "--target takes aarch64, not '$processor'" ;;
esac
need_rust
command -v rustup >/dev/null ||
    die "rustup is missing, which gets Rust's library for musl: install it with https://rustup.rs"
cd "$repo"

if [[ -n $processor ]]; then
    # shellcheck source=scripts/release/toolchain.sh
    source "$repo/scripts/release/toolchain.sh"
    need "qemu-$processor:qemu-user"
    need_zig
    as_builder rustup target add "$target"
    compiler=$(mktemp -d)
    on_exit "rm -rf '$compiler'"
    write_compiler "$processor" "$compiler"
    skipped=()
    for test in check::tests::the_fields_are_those_that_are_documented top::tests::a_panic_gives_the_terminal_back \
        nursery::tests::an_image_that_cannot_be_executed sandbox::dns_bus_tests sandbox::enroll_tests \
        sandbox::names_tests sandbox::resolv_conf_tests sandbox::tests::a_process_that_holds \
        sandbox::tests::an_attackers_calls sandbox::tests::names_are_looked_up \
        sandbox::tests::the_tunnel_process_opens_nothing sandbox::tests::what_a_supervisor_does_is_allowed \
        socket::tests::queued_and_dropped_datagrams_are_reported; do
        skipped+=(--skip "$test")
    done
    cargo=CARGO_TARGET_${target^^}
    cargo=${cargo//-/_}
    as_builder env "CC_${target//-/_}=$compiler/cc-$processor" "AR_${target//-/_}=$compiler/ar-$processor" \
        "${cargo}_LINKER=rust-lld" "${cargo}_RUSTFLAGS=-C target-feature=+crt-static -C linker-flavor=ld.lld" \
        "${cargo}_RUNNER=qemu-$processor" cargo test "${@:---workspace}" --no-fail-fast --locked --target "$target" -- \
        "${skipped[@]}"
    say "the unit and property tests pass with musl on $processor"
    exit 0
fi

target=$(uname -m)-unknown-linux-musl
as_builder rustup target add "$target"
# For the C files of ring and tun-tap; rustc links by itself. Linux's headers are those of glibc's
# compiler; musl's own come first.
multiarch=$(gcc -print-multiarch)
as_builder env "CC_${target//-/_}=musl-gcc" \
    "CFLAGS_${target//-/_}=-idirafter /usr/include -idirafter /usr/include/${multiarch:-$(uname -m)-linux-gnu}" \
    cargo test "${@:---workspace}" --locked --target "$target"
say "the unit and property tests pass with musl"
