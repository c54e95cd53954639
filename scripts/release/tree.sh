#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/../lib.sh"

usage() {
    cat <<'END'
Usage: scripts/release/tree.sh SOURCE BINARY GENERATED DESTINATION

Makes DESTINATION the tree of files that the .deb and the .rpm install: BINARY, and of SOURCE the systemd units, the sysctl
file, the polkit rule and the manual pages. GENERATED is a folder with what scripts/release.sh has made: man/, completions/ and THIRD-PARTY.
A part of it that is missing is an error.
END
}

help_if_asked "$@"
(($# == 4)) || die "needs four arguments; see --help"
source=$1 binary=$2 generated=$3 destination=$4

# put MODE FILE PATH: installs a file; PATH is absolute as in the package.
put() {
    [[ -s $2 ]] || die "$2 is empty or does not exist"
    install -D -m "$1" "$2" "$destination$3"
}

# put_adapted FILE PATH: installs one that names the paths of an installation by hand, with the package's.
put_adapted() {
    sed -e '/^#     install -m .*\/etc\/systemd\/system\/$/d' -e '/^#     install -m .*\/usr\/local\/bin\/wontun$/d' \
        -e '/^#     systemctl daemon-reload$/d' \
        -e 's|install -m 0644 60-wontun.conf|install -m 0644 /usr/share/wontun/60-wontun.conf|' \
        -e 's|60-wontun.conf beside this file|/usr/share/wontun/60-wontun.conf|' -e 's|/usr/local/bin/wontun|/usr/bin/wontun|g' "$1" >"$work/adapted"
    ! grep -n '/usr/local' "$work/adapted" || die "$1 names /usr/local, see above: the package has no such file"
    put 644 "$work/adapted" "$2"
}

# put_compressed FILE PATH
put_compressed() {
    gzip -9 --no-name <"$1" >"$work/compressed"
    put 644 "$work/compressed" "$2.gz"
}

work=$(mktemp -d)
on_exit "rm -rf '$work'"
rm -rf "$destination"
put 755 "$binary" /usr/bin/wontun
for unit in "$source"/scripts/systemd/*.service; do
    put_adapted "$unit" "/usr/lib/systemd/system/$(basename "$unit")"
    sed -i 's/^Description=.*/&\nDocumentation=man:wontun(1) man:wontun.conf(5)/' \
        "$destination/usr/lib/systemd/system/$(basename "$unit")"
done
# Not in /usr/lib/sysctl.d: a client must not become a router because the package is there.
put_adapted "$source/scripts/systemd/60-wontun.conf" /usr/share/wontun/60-wontun.conf

# Lets the service's user set name servers, for a client's DNS =.
put 644 "$source/scripts/systemd/50-wontun.rules" /usr/share/polkit-1/rules.d/50-wontun.rules

for page in "$source"/docs/man/*.[1-9] "$generated"/man/*.[1-9]; do
    [[ -e $page ]] || die "there is no manual page in $(dirname "$page")"
    put_compressed "$page" "/usr/share/man/man${page##*.}/$(basename "$page")"
done
put 644 "$generated/completions/wontun.bash" /usr/share/bash-completion/completions/wontun
put 644 "$generated/completions/wontun.fish" /usr/share/fish/vendor_completions.d/wontun.fish
# deb.sh moves it where Debian's zsh looks.
put 644 "$generated/completions/_wontun" /usr/share/zsh/site-functions/_wontun

for file in README.md LICENSE-MIT LICENSE-APACHE; do
    put 644 "$source/$file" "/usr/share/doc/wontun/$file"
done
put_compressed "$source/CHANGELOG.md" /usr/share/doc/wontun/changelog
put_compressed "$generated/THIRD-PARTY" /usr/share/doc/wontun/third-party
install -d -m 755 "$destination/etc/wontun"
find "$destination" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
