#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/check-fileset.sh

Proves that the Nix build sees all that cargo reads: copies what nix/source.txt names, and nothing else, to an empty
folder and builds, tests, lints and formats it there, offline. The tests run as they do in Nix's sandbox: as an ordinary
user without capabilities or a home, in a network namespace of its own. Started by root that is the user nobody, and
/dev/net/tun is hidden too; started by anyone else it takes unprivileged user namespaces.
Needs the crates in cargo's cache: `cargo fetch --locked` gets them.
END
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
need "$for_rust" git:git unshare:util-linux setpriv:util-linux
need_rust
need_cargo_command fmt clippy

# Outside the repository, where cargo, clippy or rustfmt would find files further up. The user nobody must get there.
folder=$(as_builder mktemp -d)
on_exit "rm -rf '$folder'"
chmod 755 "$folder"
# The libraries are shared with all other builds; wontun itself is compiled anew, since its place is another each time.
target=$repo/target

# Nix takes of a folder what git knows.
copy_named() {
    local name
    while read -r name; do
        [[ -n $name && $name != \#* ]] || continue
        [[ -n $(as_builder git ls-files -- "$name") ]] ||
            die "nix/source.txt names $name, which git does not know: correct the line, or 'git add $name'"
        as_builder git ls-files -z -- "$name"
    done <"$repo/nix/source.txt" |
        as_builder tar --null --files-from=- --create | as_builder tar -x -C "$folder"
}

cargo_there() {
    as_builder env --chdir="$folder" CARGO_TARGET_DIR="$target" cargo "$@"
}

# in_sandbox FOLDER COMMAND...: runs it with what Nix's sandbox gives.
in_sandbox() {
    local home=(env --ignore-environment --chdir="$1" HOME=/homeless-shelter PATH=/usr/bin:/bin)
    shift
    if ((EUID == 0)); then
        # The mount hides /dev/net/tun, and ends with the command.
        # shellcheck disable=SC2016 # the inner shell expands it
        unshare --net --mount bash -euc '
            ip link set lo up 2>/dev/null || true
            [[ ! -d /dev/net ]] || mount -t tmpfs -o mode=755 tmpfs /dev/net
            exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all \
                --no-new-privs "$@"' bash "${home[@]}" "$@"
    else
        unshare --user --map-current-user --net setpriv --no-new-privs "${home[@]}" "$@"
    fi
}

copy_named
say "$(find "$folder" -type f | wc -l) files in an empty folder"
cargo_there fmt --all --check
cargo_there clippy --quiet --workspace --all-targets --offline --locked -- --deny warnings

# Compiled where the crates are, run where nothing is.
mapfile -t tests < <(cargo_there test --quiet --workspace --offline --locked --no-run --message-format=json |
    sed -n 's/.*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*/\1/p')
((${#tests[@]} >= 5)) || die "expected at least five test programs, for src, tests and three crates; cargo made ${#tests[@]}"
for program in "${tests[@]}"; do
    # nobody may not pass the folders that lead to the target folder.
    install -m 755 "$program" "$folder/test-program"
    in_sandbox "$folder" ./test-program --quiet ||
        die "$(basename "$program") fails as an ordinary user without a network: what needs more belongs into tests/e2e"
done
# Documentation's examples are compiled and run by rustdoc; as cargo's user.
cargo_there test --quiet --workspace --offline --locked --doc
cargo_there clean --quiet --offline --locked --package wontun --package wontun-proto --package wontun-packet --package wontun-sys
say "these files are enough to build, test, lint and format wontun"
