#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'USAGE'
Usage: scripts/musl-test.sh

Runs the unit and property tests with musl, the C library of the static binaries and of Nix's image, instead of glibc.
Needs rustup, whose target for musl it adds, and musl-gcc; on Debian and Ubuntu root gets that installed with apt.
Takes about three minutes on two cores the first time.
USAGE
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
need "$for_rust" musl-gcc:musl-tools,linux-libc-dev
need_rust
command -v rustup >/dev/null ||
    die "rustup is missing, which gets Rust's library for musl: install it with https://rustup.rs"
cd "$repo"

target=$(uname -m)-unknown-linux-musl
as_builder rustup target add "$target"
# For the C files of ring and tun-tap; rustc links by itself. Linux's headers are those of glibc's
# compiler; musl's own come first.
multiarch=$(gcc -print-multiarch)
as_builder env "CC_${target//-/_}=musl-gcc" \
    "CFLAGS_${target//-/_}=-idirafter /usr/include -idirafter /usr/include/${multiarch:-$(uname -m)-linux-gnu}" \
    cargo test --workspace --locked --target "$target"
say "the unit and property tests pass with musl"
