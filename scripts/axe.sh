#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/axe.sh

Gets axe-core, which checks the accessibility of the admin page, from npm into ${XDG_CACHE_HOME:-~/.cache}/wontun-test/axe,
and prints the path of its script: the end-to-end tests find it by WONTUN_AXE. Without npm it prints nothing, and these
checks are left out.
END
}

version=4.14.1
sha512=1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
# shellcheck disable=SC2016 # expanded by the user who builds
folder=$(as_builder sh -c 'echo "${XDG_CACHE_HOME:-$HOME/.cache}/wontun-test/axe-$1"' sh "$version")
if [[ ! -e $folder/package/axe.min.js ]]; then
    command -v npm >/dev/null || {
        say "npm is not installed: the accessibility of the admin page is not checked" >&2
        exit 0
    }
    as_builder mkdir -p "$folder"
    as_builder npm pack --silent --pack-destination "$folder" "axe-core@$version" >/dev/null
    archive=$folder/axe-core-$version.tgz
    [[ $(sha512sum <"$archive") == "$sha512  -" ]] ||
        die "$archive is not the version of axe-core that is expected: remove it, and try again"
    as_builder tar -xzf "$archive" -C "$folder" package/axe.min.js
fi
say "$folder/package/axe.min.js"
