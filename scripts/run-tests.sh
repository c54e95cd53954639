#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/run-tests.sh PROGRAM [ARGUMENT...]

Runs the tests of PROGRAM. One or two that fail are run again, each alone and once: a test that passes then is shown as FLAKY,
and is to be mended. It fails if a test fails twice, or if more than two fail, those included that are in $TMPDIR/flaky from
earlier runs.
END
}

help_if_asked "$@"
(($# > 0)) || die "the program is missing; see --help"
program=$1
shift
flaky=${TMPDIR:-/tmp}/flaky
log=$(mktemp)
on_exit "rm -f '$log'"

code=0
"$program" "$@" 2>&1 | tee "$log" || code=$?
((code != 0)) || exit 0
mapfile -t failed < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" | sort -u)
# a program that was ended in another way has failed
((${#failed[@]} > 0)) || exit "$code"
touch "$flaky"
((${#failed[@]} + $(wc -l <"$flaky") <= 2)) || die "more than two tests failed: ${failed[*]}"
for name in "${failed[@]}"; do
    say "==> once more, alone: $name"
    "$program" --exact "$name"
    printf '%s\n' "$name" >>"$flaky"
    say "FLAKY: $name"
done
