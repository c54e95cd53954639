#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/fuzz.sh [--seconds NUMBER | --minimise | --build] [TARGET...]

Runs the fuzz targets of fuzz/fuzz_targets, or those that are named, from the corpus in fuzz/corpus: each for 15 seconds of
processor time unless --seconds says otherwise, one for each processor at a time. Without --seconds the inputs are made from
the same seed each time, so that a check of one state does not fail at random. It fails when a target breaks one of its rules,
panics, overflows, or accesses memory that is not its own; the input is then in fuzz/artifacts.

--build compiles them and ends.

--minimise runs nothing, but replaces the corpus of each target by the smallest one with the same coverage, of the present
corpus and what earlier runs have found (fuzz/found).

The toolchain is the project's own: RUSTC_BOOTSTRAP=1 permits the AddressSanitizer on a stable one. libFuzzer is C++.
END
}

seconds=15 seed=1 minimise='' only_build='' targets=()
help_if_asked "$@"
while (($#)); do
    case $1 in
        --seconds)
            [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die "--seconds takes a number above 0, not '${2:-}'"
            seconds=$2 seed=0
            shift
            ;;
        --minimise) minimise=yes ;;
        --build) only_build=yes ;;
        -*) die "unexpected argument '$1': see --help" ;;
        *)
            [[ -e $repo/fuzz/fuzz_targets/$1.rs ]] || die "there is no fuzz target '$1' in fuzz/fuzz_targets"
            targets+=("$1")
            ;;
    esac
    shift
done
((${#targets[@]})) || mapfile -t targets < <(basename -s .rs "$repo"/fuzz/fuzz_targets/*.rs)
need "$for_rust" c++:g++
need_rust

# As cargo-fuzz has them. With --target they are for what is fuzzed, and not for build scripts.
flags='-Zsanitizer=address --cfg=fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4'
flags+=' -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table'
flags+=' -Cllvm-args=-sanitizer-coverage-trace-compares'
triple=$(as_builder rustc -vV | sed -n 's/^host: //p')
as_builder env RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" cargo build --quiet --release --locked --manifest-path fuzz/Cargo.toml \
    --target "$triple" --target-dir target/fuzz
[[ -z $only_build ]] || exit 0
logs=$(as_builder mktemp -d)
declare -A running=()
clean_up() {
    local group
    for group in "${!running[@]}"; do
        kill -TERM -- "-$group" 2>/dev/null || true
        wait "$group" || true
    done
    rm -rf "$logs"
}
on_exit clean_up

# Runs a fuzzer, and asks it to end after so many seconds of processor time: as many inputs are tried beside other programs
# as alone.
# shellcheck disable=SC2016 # expanded by the user who builds
for_processor_time='
    ticks=$(($1 * $(getconf CLK_TCK)))
    shift
    "$@" &
    pid=$!
    # state, and time in user and kernel mode: see proc_pid_stat(5)
    while read -r -a stat 2>/dev/null <"/proc/$pid/stat" && [[ ${stat[2]} != Z ]] && ((stat[13] + stat[14] < ticks)); do
        sleep 0.2
    done
    kill -USR1 "$pid" 2>/dev/null || true
    wait "$pid"'

# What is found goes to the first folder, and what is in the others is read.
run() {
    local target=$1
    as_builder mkdir -p "fuzz/found/$target" fuzz/artifacts
    as_builder bash -euc "$for_processor_time" bash "$seconds" \
        "target/fuzz/$triple/release/$target" -seed="$seed" -timeout=10 -print_final_stats=1 \
        -artifact_prefix="fuzz/artifacts/$target-" "fuzz/found/$target" "fuzz/corpus/$target" >"$logs/$target" 2>&1
}

reduce() {
    local target=$1
    as_builder mkdir -p "fuzz/found/$target" "$logs/corpus/$target"
    as_builder "target/fuzz/$triple/release/$target" -merge=1 "$logs/corpus/$target" "fuzz/corpus/$target" \
        "fuzz/found/$target" >"$logs/$target" 2>&1
    as_builder rm -rf "fuzz/corpus/$target" "fuzz/found/$target"
    as_builder cp -r "$logs/corpus/$target" "fuzz/corpus/$target"
}

# Prints the end of what one target said, or all of it when it failed.
report() {
    local target=$1 code=$2
    if ((code != 0)); then
        indent "$target" <"$logs/$target" >&2
        die "the fuzz target $target ended with exit code $code: its messages are above"
    fi
    if [[ -n $minimise ]]; then
        say "$target: $(find "$repo/fuzz/corpus/$target" -type f | wc -l) inputs remain"
    else
        say "$target: $(awk '/number_of_executed_units/ { print $2 }' "$logs/$target") inputs in $seconds s of processor time," \
            "$(awk '/new_units_added/ { print $2 }' "$logs/$target") of them with new coverage"
    fi
}

# begin COMMAND TARGET: in the background with a process group of its own (set -m), so that all of it can be ended.
begin() {
    set -m
    "$@" </dev/null &
    set +m
    running[$!]=$2
}

finish_one() {
    local code=0 pid target
    wait -n -p pid "${!running[@]}" || code=$?
    target=${running[$pid]}
    unset "running[$pid]"
    report "$target" "$code"
}

processors=$(nproc)
for target in "${targets[@]}"; do
    ((${#running[@]} < processors)) || finish_one
    if [[ -n $minimise ]]; then
        begin reduce "$target"
    else
        begin run "$target"
    fi
done
while ((${#running[@]})); do
    finish_one
done
