#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/build-static.sh [--without-ipsec-mb]

Builds wontun as one static file, target/static/wontun, which runs on any Linux of this processor and is what the
Dockerfile puts into the image. On x86_64 it has Intel's cipher for processors with AVX-512, whose library
scripts/ipsec-mb.sh downloads once; --without-ipsec-mb leaves it out, so that ring encrypts everywhere.
END
}

help_if_asked "$@"
with_ipsec_mb=yes
case "$#:${1:-}" in
    0:) ;;
    1:--without-ipsec-mb) with_ipsec_mb= ;;
    *) die "unexpected arguments: $*; see --help" ;;
esac
features=()
if [[ -n $with_ipsec_mb && $(uname -m) == x86_64 ]]; then
    features=(--features ipsec-mb)
    IPSEC_MB_LIB_DIR=$(bash "$repo/scripts/ipsec-mb.sh") ||
        die "Intel's cipher is missing: see above, or build without it by --without-ipsec-mb"
    export IPSEC_MB_LIB_DIR
fi
need "$for_rust" readelf:binutils
need_rust

# A folder of its own, since other compiler flags would make the ordinary build start anew each time. With --target
# the flags are for wontun alone: build scripts and procedural macros cannot be static.
triple=$(as_builder rustc -vV | sed -n 's/^host: //p')
built=$(RUSTFLAGS='-C target-feature=+crt-static' cargo_executable build --release --bin wontun "${features[@]}" \
    --target "$triple" --target-dir "$repo/target/static/build")
as_builder install -m 755 "$built" "$repo/target/static/wontun"

if readelf --program-headers --dynamic "$repo/target/static/wontun" | grep -E 'INTERP|\(NEEDED\)'; then
    die "target/static/wontun is not static: it asks for the above at start"
fi
say "target/static/wontun: static, $(stat -c %s "$repo/target/static/wontun") bytes"
