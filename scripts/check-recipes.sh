#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/check-recipes.sh

Checks of docs/recipes what runs nowhere: the Kubernetes manifest against the schemas of two versions of Kubernetes, unknown
keys refused, and that the manual names each of their files.
The schemas come with the Python package kubernetes-validate, which pip gets for this run only, into a folder that is
removed again (90 MB). Needs Python 3.10 or newer with pip; on Debian and Ubuntu root gets them installed with apt.
END
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
need python3:python3 pip3:python3-pip
cd "$repo"

folder=$(mktemp -d)
on_exit "rm -rf '$folder'"

for file in docs/recipes/*; do
    name=$(basename "$file")
    grep -qF "(../../recipes/$name)" docs/src/guide/*.md || die "no page of docs/src/guide names docs/recipes/$name"
done
say "the manual names every file of docs/recipes"

python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    'kubernetes-validate==1.34.1' || die "pip could not get kubernetes-validate, which has the schemas of Kubernetes"
validate() {
    PYTHONPATH=$folder python3 "$folder/bin/kubernetes-validate" --strict --quiet --no-warn -k "$1" "$2"
}
for version in 1.28 1.34; do
    validate "$version" docs/recipes/kubernetes.yaml || die "the manifest does not fit Kubernetes $version: see above"
done
# the control: what is misspelled is found
sed 's/readOnlyRootFilesystem/readOnlyRootFileSystem/' docs/recipes/kubernetes.yaml >"$folder/wrong.yaml"
! validate 1.34 "$folder/wrong.yaml" >/dev/null 2>&1 || die "the check finds nothing: a misspelled key passed it"
say "docs/recipes/kubernetes.yaml fits Kubernetes 1.28 and 1.34"
