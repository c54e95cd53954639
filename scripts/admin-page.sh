#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/admin-page.sh [FOLDER]

Measures the admin page in Chromium: first paint, and 1,000 peers. With FOLDER, it also checks the pages with axe-core, and
makes the pictures of the manual in that folder.
Needs root (uses sudo otherwise) and Rust; on Debian and Ubuntu it installs the other things it needs with apt.
END
}

help_if_asked "$@"
(($# <= 1)) || die "unexpected arguments: $*; see --help"
become_root
cd "$repo"
unset "${!WONTUN_@}"
need "${for_two_hosts[@]}" "$for_rust" mount:mount "${for_browser[@]}"
need_rust
filter=(admin::by_hand::a_thousand_peers_in_the_browser)
if (($# == 1)); then
    filter=(admin::by_hand::)
    E2E_PICTURES=$(mkdir -p "$1" && cd "$1" && pwd)
    WONTUN_AXE=$(bash scripts/axe.sh)
    [[ -n $WONTUN_AXE ]] || unset WONTUN_AXE
    export E2E_PICTURES WONTUN_AXE
fi
# shellcheck disable=SC2016 # the inner shell expands it
with_end_to_end_tests '"$0" --ignored --nocapture --test-threads=1 '"${filter[*]}"
