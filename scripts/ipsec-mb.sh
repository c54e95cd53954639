#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

# Debian 13's package: with a hash, so that a build gives the same everywhere.
version=2.0-1+b1
package=libipsec-mb-dev_${version}_amd64.deb
path=pool/main/i/intel-ipsec-mb/$package
hash=aa3e53b66b6471c4821ada3636337d8b7089887ccede5b8d7d91c50c643d031a

usage() {
    cat <<END
Usage: scripts/ipsec-mb.sh

Prints the folder of the static library of intel-ipsec-mb, which the feature ipsec-mb links: cargo takes it from
IPSEC_MB_LIB_DIR. Where that is set already it is printed. Otherwise the library is that of Debian's package
libipsec-mb-dev $version, which is downloaded once and unpacked into \${XDG_CACHE_HOME:-~/.cache}/wontun-test, not
installed; beside it are its version and its licence. Only ChaCha20-Poly1305 of it is linked.
END
}

file=libIPSec_MB.a

# Prints the archives that may have the package: the one that Debian's apt is told to use here, and everybody's.
archives() {
    # shellcheck disable=SC2016 # apt expands it
    {
        apt-get indextargets --format '$(REPO_URI)' 'Label: Debian' 'Component: main' 2>/dev/null || true
        say http://deb.debian.org/debian/
    } | awk '!seen[$0]++'
}

# download URL FILE: by apt where it is, which knows the machine's proxy.
download() {
    local url=$1
    shift
    if [[ -x /usr/lib/apt/apt-helper ]]; then
        as_builder /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file "$url" "$1" "SHA256:$hash" >&2
    elif command -v curl >/dev/null; then
        as_builder curl --fail --silent --show-error --location --output "$1" "$url" >&2
    else
        say "no program that can download: install curl" >&2
        return 1
    fi
}

# unpack PACKAGE FOLDER
unpack() {
    if command -v dpkg-deb >/dev/null; then
        as_builder dpkg-deb --extract "$1" "$2"
    else
        ar p "$1" data.tar.xz | as_builder tar --extract --xz --directory "$2"
    fi
}

# fetch_into FOLDER
fetch_into() {
    local work archive got=
    as_builder mkdir -p "$(dirname "$1")"
    work=$(as_builder mktemp -d "$(dirname "$1")/.ipsec-mb.XXXXXX")
    on_exit "rm -rf '$work'"
    for archive in $(archives); do
        if download "$archive$path" "$work/$package" && sha256sum "$work/$package" | grep -q "^$hash "; then
            got=yes
            break
        fi
        say "$archive$path is not there, or not the file with the SHA-256 hash $hash" >&2
    done
    [[ -n $got ]] || return 1
    as_builder mkdir -p "$work/unpacked" "$work/done"
    unpack "$work/$package" "$work/unpacked" || return 1
    as_builder install -m 644 "$work/unpacked/usr/lib/x86_64-linux-gnu/$file" \
        "$work/unpacked/usr/share/doc/libipsec-mb-dev/copyright" "$work/done"
    as_builder tee "$work/done/version" <<<"$version" >/dev/null
    # at once, so that another run never sees half of it
    as_builder mv --no-target-directory "$work/done" "$1" 2>/dev/null || [[ -e $1/$file ]]
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
if [[ -n ${IPSEC_MB_LIB_DIR:-} ]]; then
    [[ -r $IPSEC_MB_LIB_DIR/$file ]] || die "IPSEC_MB_LIB_DIR: there is no $file in $IPSEC_MB_LIB_DIR"
    say "$IPSEC_MB_LIB_DIR"
    exit
fi
# shellcheck disable=SC2016 # expanded by the user who builds
folder=$(as_builder sh -c 'echo "${XDG_CACHE_HOME:-$HOME/.cache}/wontun-test"')/ipsec-mb-$version
[[ -e $folder/$file ]] || fetch_into "$folder" ||
    die "cannot get intel-ipsec-mb, see above: set IPSEC_MB_LIB_DIR to the folder of $file, such as" \
        "/usr/lib/x86_64-linux-gnu with the package libipsec-mb-dev"
say "$folder"
