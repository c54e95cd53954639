#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/check-fileset.sh [CARGO-ARGUMENT...]

Proves that the Nix build sees all that cargo reads: copies what nix/source.txt names, and nothing else, to an empty
folder, puts that in the repository's place in a mount namespace, and builds, tests, lints and formats it there, offline.
Since place and times of the files are the same, cargo compiles what a file is missing for, and what was not compiled
before with the same arguments (such as --features ipsec-mb), and no more.
The tests run as they do in Nix's sandbox: as an ordinary user without capabilities or a home, in a network namespace of
its own. Started by root that is the user nobody, and /dev/net/tun is hidden too; started by anyone else it takes
unprivileged user namespaces.
Needs the crates in cargo's cache: `cargo fetch --locked` gets them.
END
}

help_if_asked "$@"
need "$for_rust" git:git unshare:util-linux setpriv:util-linux mount:mount
need_rust
need_cargo_command fmt clippy

# Outside the repository. The user nobody must get there.
folder=$(as_builder mktemp -d)
on_exit "rm -rf '$folder'"
chmod 755 "$folder"

# Nix takes of a folder what git knows. Times of change stay.
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

# in_namespaces OPTION... -- COMMAND...: runs it in a mount namespace of its own, where root may mount, or whoever calls.
in_namespaces() {
    local options=(--mount)
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    ((EUID == 0)) || options+=(--user --map-current-user --keep-caps)
    unshare "${options[@]}" "$@"
}

# cargo_there ARGUMENT...: runs cargo where the repository has the named files only, and the target folder.
cargo_there() {
    # shellcheck disable=SC2016 # the inner shell expands it
    in_namespaces -- bash -euc '
        source "$1"
        repo=$2
        mount --bind "$repo/target" "$3/target"
        mount --rbind "$3" "$repo"
        as_builder cargo "${@:4}"' bash "$repo/scripts/lib.sh" "$repo" "$folder" "$@"
}

# in_sandbox COMMAND...: runs it with what Nix's sandbox gives.
in_sandbox() {
    local as=(--inh-caps=-all --ambient-caps=-all --no-new-privs)
    ((EUID != 0)) || as+=(--reuid=65534 --regid=65534 --clear-groups --bounding-set=-all)
    # The mounts hide /dev/net/tun, and a folder through which nobody may not pass; they end with the command.
    # shellcheck disable=SC2016 # the inner shell expands it
    in_namespaces --net -- bash -euc '
        repo=$1
        exec {copy}<"$2"
        shift 2
        if ((EUID == 0)); then
            ip link set lo up 2>/dev/null || true
            [[ ! -d /dev/net ]] || mount -t tmpfs -o mode=755 tmpfs /dev/net
            above=
            IFS=/ read -r -a parts <<<"${repo#/}"
            for part in "${parts[@]}"; do
                above+=/$part
                setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$above" || {
                    mount -t tmpfs -o mode=1777 tmpfs "$above"
                    mkdir -p "$repo"
                    break
                }
            done
        fi
        mount --no-canonicalize --bind "/proc/self/fd/$copy" "$repo"
        exec {copy}<&-
        cd "$repo"
        exec setpriv "$@"' bash "$repo" "$folder" "${as[@]}" \
        env --ignore-environment HOME=/homeless-shelter PATH=/usr/bin:/bin "$@"
}

copy_named
# which toolchain it is, Nix does not ask
[[ ! -f $repo/rust-toolchain.toml ]] || as_builder cp "$repo/rust-toolchain.toml" "$folder/"
as_builder mkdir -p "$repo/target" "$folder/target"
say "$(find "$folder" -type f | wc -l) files in the repository's place"
cargo_there fmt --all --check
cargo_there clippy --quiet --workspace --all-targets --offline --locked "$@" -- -D warnings

# Compiled where the crates are, run where nothing is.
mapfile -t tests < <(cargo_there test --quiet --workspace --offline --locked "$@" --no-run --message-format=json |
    sed -n 's/.*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*/\1/p')
((${#tests[@]} >= 5)) || die "expected at least five test programs, for src, tests and three crates; cargo made ${#tests[@]}"
for program in "${tests[@]}"; do
    # nobody may not pass the folders that lead to the target folder.
    install -m 755 "$program" "$folder/test-program"
    in_sandbox ./test-program --quiet ||
        die "$(basename "$program") fails as an ordinary user without a network: what needs more belongs into tests/e2e"
done
# Documentation's examples are compiled and run by rustdoc; as cargo's user.
cargo_there test --quiet --workspace --offline --locked "$@" --doc
say "these files are enough to build, test, lint and format wontun"
