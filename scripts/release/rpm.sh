#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/../lib.sh"
# shellcheck source=scripts/release/refusal.sh
source "$(dirname "$0")/refusal.sh"

usage() {
    cat <<'END'
Usage: scripts/release/rpm.sh SOURCE TREE VERSION ARCHITECTURE OUTPUT

Builds the RPM package OUTPUT of the files in TREE, as scripts/release/tree.sh makes them, with packaging/rpm/wontun.spec of
SOURCE. ARCHITECTURE is the kernel's (x86_64, aarch64). WONTUN_MAINTAINER is "NAME <ADDRESS>".
END
}

help_if_asked "$@"
(($# == 5)) || die "needs five arguments; see --help"
source=$1 tree=$(realpath "$2") version=$3 architecture=$4 output=$5

work=$(mktemp -d)
on_exit "rm -rf '$work'"
with_refusal "$source" "$source/packaging/rpm/wontun.spec" >"$work/wontun.spec"
# Folders of shells belong to no package where no shell is installed.
(
    cd "$tree/usr/share"
    find man -type f -printf '/usr/share/man/%P\n'
    for folder in bash-completion fish zsh; do
        [[ ! -e $folder ]] || find "$folder" \( -type d -printf '%%dir /usr/share/%p\n' \) -o -printf '/usr/share/%p\n'
    done
) | sort >"$work/list"
# Nothing of this host: no name of it, no time, no folder; and none of the distribution's changes of files.
rpmbuild -bb --quiet --target "$architecture-linux" --define "_topdir $work/build" --define "_rpmdir $work/out" \
    --define "wontun_version $version" --define "wontun_maintainer $WONTUN_MAINTAINER" --define "wontun_tree $tree" \
    --define "wontun_list $work/list" \
    --define '_buildhost localhost' --define 'use_source_date_epoch_as_buildtime 1' \
    --define 'clamp_mtime_to_source_date_epoch 1' --define 'build_mtime_policy clamp_to_source_date_epoch' \
    --define 'debug_package %{nil}' --define '__os_install_post %{nil}' --define '_build_id_links none' \
    --define '_binary_payload w9.xzdio' --define 'optflags %{nil}' --define 'source_date_epoch_from_changelog 0' \
    --define '_build_name_fmt %%{NAME}.rpm' "$work/wontun.spec" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    die "rpmbuild failed: see its messages above"
}
cp "$work/out/wontun.rpm" "$output"
