#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/check-nix.sh

Checks of the Nix files what needs no nixpkgs and no network: that each parses, how it is written, that flake.lock is
the lock of flake.nix, and that the image of nix/image-config.nix is the Dockerfile's. `nix flake check` does the rest.

Files are formatted with nixfmt 1.x (`nix fmt`). Where that is installed it checks them here too; where it is not, as on
Debian, only tabs, white space at the end and lines above 120 characters are found.
Needs nix-instantiate and Python 3.10 or newer; on Debian and Ubuntu root gets them installed with apt.
END
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
need nix-instantiate:nix-bin python3:python3 git:git
cd "$repo"

folder=$(mktemp -d)
on_exit "chmod -R u+w '$folder'; rm -rf '$folder'"

# Nix without a store, a daemon or a user's settings; as root it would ask for a group of builders.
echo 'build-users-group =' >"$folder/nix.conf"
evaluate() {
    env --ignore-environment PATH="$PATH" HOME="$folder" NIX_CONF_DIR="$folder" NIX_STATE_DIR="$folder/var" \
        NIX_STORE_DIR="$folder/store" NIX_LOG_DIR="$folder/log" nix-instantiate "$@"
}

mapfile -t files < <(as_builder git ls-files -co --exclude-standard -- '*.nix')
((${#files[@]})) || die "there is no .nix file in $repo"
for file in "${files[@]}"; do
    evaluate --parse "$file" >/dev/null || die "$file does not parse"
done
say "${#files[@]} .nix files parse"

if grep -nP '\t|[ \t\r]$|^.{121,}' "${files[@]}"; then
    die "the lines above have a tab, white space at the end or more than 120 characters"
fi
for file in "${files[@]}"; do
    [[ -z $(tail -c 1 "$file") ]] || die "$file does not end with a line feed"
done
if command -v nixfmt >/dev/null; then
    nixfmt --check "${files[@]}" || die "'nix fmt' formats the files above"
    say "nixfmt has nothing to change"
fi

evaluate --eval --strict --json --expr "(import $repo/flake.nix).inputs" >"$folder/inputs.json"
python3 scripts/nix_consistency.py lock "$folder/inputs.json" flake.lock ||
    die "flake.lock is not the lock of flake.nix: run 'nix flake lock'"
say "flake.lock is the lock of flake.nix"

version=$(package_version)
evaluate --eval --strict --json nix/image-config.nix --argstr version "$version" >"$folder/config.json"
python3 scripts/nix_consistency.py image "$folder/config.json" Dockerfile "$version" ||
    die "Nix's image and the Dockerfile's would differ: make nix/image-config.nix and the Dockerfile say the same"
say "the image of Nix and that of the Dockerfile have the same configuration"
