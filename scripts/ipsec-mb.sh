#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/ipsec-mb.sh

Sees to it that the static library of intel-ipsec-mb is there, 1.4 or newer, which the feature ipsec-mb links, and prints
its folder: cargo takes it from IPSEC_MB_LIB_DIR. Of a distribution's package where that is new enough (apt, as root); on
Debian 12 the file of Debian 13's, unpacked into ${XDG_CACHE_HOME:-~/.cache}/wontun-test and not installed.
END
}

file=libIPSec_MB.a
package=libipsec-mb-dev

# Prints the first of the folders that has a library with the function that we call, which 1.3 does not have.
first_with_library() {
    local folder
    for folder in "$@"; do
        if grep --quiet --binary-files=binary imb_quic_chacha20_poly1305 "$folder/$file" 2>/dev/null; then
            say "$folder"
            return
        fi
    done
    return 1
}

# unpack_newer FOLDER: takes one file out of Debian 13's package. The machine's own package lists stay as they are.
unpack_newer() {
    local work archive apt
    work=$(as_builder mktemp -d)
    on_exit "rm -rf '$work'"
    # shellcheck disable=SC2016 # apt expands it
    archive=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Codename: bookworm' | head -n 1)
    [[ -n $archive ]] || return 1
    as_builder mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/unpacked" "$1"
    say "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive trixie main" |
        as_builder tee "$work/sources.list" >/dev/null
    apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
    as_builder "${apt[@]}" update >&2
    as_builder env --chdir="$work" "${apt[@]}" download "$package" >&2
    as_builder dpkg-deb --extract "$work/$package"_*.deb "$work/unpacked"
    as_builder install -m 644 "$work/unpacked/usr/lib/x86_64-linux-gnu/$file" "$1/$file"
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
[[ $(uname -m) == x86_64 ]] || die "intel-ipsec-mb is for x86_64, and this is $(uname -m)"
# shellcheck disable=SC2016 # expanded by the user who builds
cache=$(as_builder sh -c 'echo "${XDG_CACHE_HOME:-$HOME/.cache}/wontun-test/ipsec-mb"')
folders=(/usr/local/lib /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib "$cache")
[[ -z ${IPSEC_MB_LIB_DIR:-} ]] || folders=("$IPSEC_MB_LIB_DIR")
! first_with_library "${folders[@]}" || exit 0

if [[ -z ${IPSEC_MB_LIB_DIR:-} ]] && command -v apt-get >/dev/null; then
    candidate=$(apt-cache policy "$package" | sed -n 's/^ *Candidate: //p')
    if [[ -n $candidate ]] && dpkg --compare-versions "$candidate" ge 1.4; then
        ((EUID == 0)) || die "missing: $file; install with 'apt-get install $package' as root"
        apt_install "$package" >&2
    else
        unpack_newer "$cache" || true
    fi
fi
first_with_library "${folders[@]}" ||
    die "no $file of intel-ipsec-mb 1.4 or newer in ${folders[*]}: install it, or set IPSEC_MB_LIB_DIR to its folder"
