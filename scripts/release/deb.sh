#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/../lib.sh"

usage() {
    cat <<'END'
Usage: scripts/release/deb.sh SOURCE TREE VERSION ARCHITECTURE OUTPUT

Builds the Debian package OUTPUT of the files in TREE, as scripts/release/tree.sh makes them, with the control files in
packaging/deb of SOURCE. ARCHITECTURE is Debian's (amd64, arm64). WONTUN_MAINTAINER is "NAME <ADDRESS>".
END
}

help_if_asked "$@"
(($# == 5)) || die "needs five arguments; see --help"
source=$1 tree=$2 version=$3 architecture=$4 output=$5
packaging=$source/packaging/deb
package_version=$version-1

work=$(mktemp -d)
on_exit "rm -rf '$work'"
root=$work/root
cp -a "$tree" "$root"

# What Debian has elsewhere, or in another form.
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"
rm "$root/usr/share/doc/wontun/LICENSE-MIT" "$root/usr/share/doc/wontun/LICENSE-APACHE"
{
    cat "$packaging/copyright"
    # The text of a field: indented, and a dot for an empty line.
    sed -e 's/^/ /' -e 's/^ $/ ./' "$source/LICENSE-MIT"
} >"$root/usr/share/doc/wontun/copyright"
{
    printf 'wontun (%s) unstable; urgency=medium\n\n' "$package_version"
    printf '  * Release %s: changelog.gz tells what has changed.\n\n' "$version"
    printf ' -- %s  %s\n' "$WONTUN_MAINTAINER" "$(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")"
} | gzip -9 --no-name >"$root/usr/share/doc/wontun/changelog.Debian.gz"
install -D -m 644 "$packaging/lintian-overrides" "$root/usr/share/lintian/overrides/wontun"

mkdir "$root/DEBIAN"
# In KiB, each file and folder rounded up, as dpkg-gencontrol does.
size=$(find "$root" -path "$root/DEBIAN" -prune -o -type f -printf '%s\n' -o -printf '1\n' |
    awk '{ total += int(($1 + 1023) / 1024) } END { print total }')
sed -e "s/@VERSION@/$package_version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" \
    -e "s/@MAINTAINER@/$WONTUN_MAINTAINER/" "$packaging/control" >"$root/DEBIAN/control"
# shellcheck source=scripts/release/refusal.sh
source "$(dirname "$0")/refusal.sh"
for name in preinst postinst prerm postrm; do
    [[ -e $packaging/$name ]] || continue
    with_refusal "$source" "$packaging/$name" >"$root/DEBIAN/$name"
    chmod 755 "$root/DEBIAN/$name"
done
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs -d '\n' md5sum) >"$root/DEBIAN/md5sums"
chmod 644 "$root/DEBIAN/control" "$root/DEBIAN/md5sums"
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
# Names are sorted and times cut to SOURCE_DATE_EPOCH by dpkg-deb. xz, which every dpkg and Ubuntu's reads; one thread, since
# more of them give another file.
dpkg-deb --root-owner-group --uniform-compression -Zxz -z9 --threads-max=1 --build "$root" "$output" >/dev/null
