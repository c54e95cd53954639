#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/foreign-peers.sh

Sees to it that the WireGuard implementations which the end-to-end tests talk to are there: wireguard-go from Debian
(apt, as root), and boringtun-cli, which cargo builds once into ${XDG_CACHE_HOME:-~/.cache}/wontun-test. Prints the
folder with boringtun-cli: the tests find it by WONTUN_FOREIGN_PEERS, and wireguard-go in the PATH.
END
}

# The newest when this was written; the tests know what it does differently.
boringtun=0.7.0

cache() {
    # shellcheck disable=SC2016 # expanded by the user who builds
    as_builder sh -c 'echo "${XDG_CACHE_HOME:-$HOME/.cache}/wontun-test"'
}

help_if_asked "$@"
(($# == 0)) || die "unexpected arguments: $*; see --help"
need wireguard-go:wireguard-go "$for_rust" >&2
need_rust >&2
folder=$(cache)
if [[ $("$folder/bin/boringtun-cli" --version 2>/dev/null) != "boringtun $boringtun" ]]; then
    say "building boringtun-cli $boringtun into $folder" >&2
    as_builder cargo install --quiet --locked --force --root "$folder" --version "$boringtun" boringtun-cli >&2
fi
say "$folder/bin"
