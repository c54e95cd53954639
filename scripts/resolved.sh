#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/resolved.sh

Gets systemd-resolved, its nsswitch module and openresolv from Debian's archive into
${XDG_CACHE_HOME:-~/.cache}/wontun-test/resolved, unpacked and not installed: the packages would replace this machine's
/etc/resolv.conf. Prints the folder: the end-to-end tests find it by WONTUN_RESOLVED.
END
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
# shellcheck disable=SC2016 # expanded by the user who builds
folder=$(as_builder sh -c 'echo "${XDG_CACHE_HOME:-$HOME/.cache}/wontun-test/resolved"')
packages=(systemd-resolved libnss-resolve openresolv)
missing=()
for package in "${packages[@]}"; do
    [[ -d $folder/$package ]] || missing+=("$package")
done
if ((${#missing[@]})); then
    need apt-get:apt dpkg-deb:dpkg
    # into a folder that only this user may enter
    get=(apt-get -qq -o APT::Sandbox::User=root)
    download=$(mktemp -d)
    on_exit "rm -rf '$download'"
    (
        cd "$download"
        "${get[@]}" download "${missing[@]}" >&2 ||
            { "${get[@]}" update >&2 && "${get[@]}" download "${missing[@]}" >&2; }
    ) || die "apt-get could not download ${missing[*]}: see its message above"
    for package in "${missing[@]}"; do
        # read by the user who builds, who owns the folder; each has its own, since two have the same file
        as_builder mkdir -p "$folder/$package.new"
        as_builder dpkg-deb -x /dev/stdin "$folder/$package.new" <"$(echo "$download/$package"_*.deb)"
        as_builder mv "$folder/$package.new" "$folder/$package"
    done
fi
say "$folder"
