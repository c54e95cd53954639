#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/foreign-peers.sh [--newest NAME]

Sees to it that the WireGuard implementations which the end-to-end tests talk to are there: wireguard-go from Debian
(apt, as root), and boringtun-cli, which cargo builds once into ${XDG_CACHE_HOME:-~/.cache}/wontun-test. Prints the
folder with boringtun-cli: the tests find it by WONTUN_FOREIGN_PEERS, and wireguard-go in the PATH.
With --newest it is one implementation for scripts/bench.sh, boringtun or gotatun, in its newest release: cargo builds
it beside the former, again when there is a newer one, and the program's path is printed.
END
}

# The newest when this was written; the tests know what it does differently.
boringtun=0.7.0

cache() {
    # shellcheck disable=SC2016 # expanded by the user who builds
    as_builder sh -c 'echo "${XDG_CACHE_HOME:-$HOME/.cache}/wontun-test"'
}

# newest NAME: brings the newest release and prints where its program is.
newest() {
    local package folder program
    case $1 in
        boringtun) package=boringtun-cli program=boringtun-cli ;;
        gotatun) package=gotatun-cli program=gotatun ;;
        *) die "--newest takes boringtun or gotatun, not '$1'" ;;
    esac
    need "$for_rust" >&2
    need_rust >&2
    folder=$(cache)/newest
    # Cargo builds nothing when the newest is there already. Without a network what is there will do.
    as_builder cargo install --quiet --locked --root "$folder" "$package" >&2 || {
        [[ -x $folder/bin/$program ]] || die "cargo could not install $package: see its message above"
        say "no newer $package could be had; taking the one that is there" >&2
    }
    say "$folder/bin/$program"
}

help_if_asked "$@"
if [[ ${1:-} == --newest && $# == 2 ]]; then
    newest "$2"
    exit
fi
(($# == 0)) || die "unexpected arguments: $*; see --help"
need wireguard-go:wireguard-go "$for_rust" >&2
need_rust >&2
folder=$(cache)
if [[ $("$folder/bin/boringtun-cli" --version 2>/dev/null) != "boringtun $boringtun" ]]; then
    say "building boringtun-cli $boringtun into $folder" >&2
    as_builder cargo install --quiet --locked --force --root "$folder" --version "$boringtun" boringtun-cli >&2
fi
say "$folder/bin"
