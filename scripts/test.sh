#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/test.sh [--quick | --vm]

Runs every check of the project, and stops at the first that fails. `--quick` leaves out what needs root, network
namespaces or a container engine: the end-to-end tests, the demo and the container test. `--vm` adds the two virtual
machines of scripts/vm-test.sh.
Needs root without --quick (uses sudo otherwise; cargo runs as you) and Rust with rustfmt and clippy; on Debian and
Ubuntu it installs the other things it needs with apt.
END
}

running=
# What was begun beside the steps, by its name: its process group, its output.
declare -A beside=() output=()

stop_all() {
    local group
    for group in $running "${beside[@]}"; do
        kill -TERM -- "-$group" 2>/dev/null || true
        wait "$group" || true
    done
    ((${#output[@]} == 0)) || rm -f "${output[@]}"
}

# step NAME COMMAND...: announces and times one check, and ends the script when it fails.
step() {
    local name=$1 began=$SECONDS code=0
    shift
    printf '\n==> %s\n' "$name"
    # In the background with a process group of its own (set -m), so that an interrupted run can end all of it.
    set -m
    "$@" </dev/null &
    running=$!
    set +m
    wait "$running" || code=$?
    running=
    if ((code != 0)); then
        say "FAILED: $name (exit code $code)" >&2
        exit "$code"
    fi
    say "<== $name: $((SECONDS - began)) s"
}

# begin NAME NICENESS COMMAND...: begins something beside the steps that follow.
begin() {
    local name=$1 niceness=$2
    shift 2
    output[$name]=$(mktemp)
    set -m
    timed "$@" </dev/null >"${output[$name]}" 2>&1 &
    beside[$name]=$!
    set +m
    set_niceness "$name" "$niceness"
}

timed() {
    local began=$SECONDS
    "$@"
    say "<== it took $((SECONDS - began)) s"
}

# It may have ended.
set_niceness() { renice -n "$2" -g "${beside[$1]}" >/dev/null 2>&1 || true; }

# end NAME: waits for what was begun, prints its output, and ends the script when it failed.
end() {
    local name=$1 code=0 began=$SECONDS
    printf '\n==> %s, begun before\n' "$name"
    wait "${beside[$name]}" || code=$?
    cat "${output[$name]}"
    # of two builds one may go on when the other failed: on_exit ends it
    if ((code != 0)); then
        say "FAILED: $name (exit code $code)" >&2
        exit "$code"
    fi
    unset "beside[$name]"
    say "<== $name: another $((SECONDS - began)) s"
}

# What the steps that need root run. Link-time optimisation keeps one core busy for minutes, so this is done beside the first
# steps, and two of them at once.
build_for_root() {
    local static
    bash "$repo/scripts/build-static.sh" &
    static=$!
    bash "$repo/scripts/foreign-peers.sh"
    end_to_end_program
    wait "$static"
}

end_to_end() {
    WONTUN_FOREIGN_PEERS=$(bash "$repo/scripts/foreign-peers.sh")
    export WONTUN_FOREIGN_PEERS
    WONTUN_RESOLVED=$(bash "$repo/scripts/resolved.sh")
    export WONTUN_RESOLVED
    WONTUN_AXE=$(bash "$repo/scripts/axe.sh")
    export WONTUN_AXE
    [[ -n $WONTUN_AXE ]] || unset WONTUN_AXE
    # shellcheck disable=SC2016 # the inner shell expands it
    with_end_to_end_tests '
        run=(bash scripts/run-tests.sh "$0")
        # timed NAME ARGUMENT...: runs tests, and states how long they took
        timed() {
            local name=$1 began=$SECONDS code=0
            shift
            "${run[@]}" "$@" || code=$?
            echo "<== end-to-end tests, $name: $((SECONDS - began)) s"
            return "$code"
        }
        # what waits for its time begins first, many at once: sessions that age, names that are looked up again, NAT that
        # forgets; and the endurance of two minutes
        slow=(wireguard::{rekey,names,dnsmasq,local_stub,bypass,before_lock,candidates,one_key}:: soak:: recipes::
            local::nat_state:: local::session_keys:: hand_over::failures::)
        timed "those that wait" --test-threads=8 "${slow[@]}" >"$TMPDIR/slow" 2>&1 &
        beside=($!)
        # what changes its host all the time keeps locks of the kernel from others: one after the other
        busy=(daemons:: host::)
        timed "those that change their host" --test-threads=1 "${busy[@]}" >"$TMPDIR/busy" 2>&1 &
        beside+=($!)
        code=0
        # they wait more than they compute
        timed "the others" --test-threads=6 "${slow[@]/#/--skip=}" "${busy[@]/#/--skip=}" || code=$?
        for began in "${beside[@]}"; do wait "$began" || code=$?; done
        cat "$TMPDIR/slow" "$TMPDIR/busy"
        ((code == 0))
        # what carries packets, once more with one worker and without offloads
        WONTUN_WORKERS=1 WONTUN_OFFLOAD=off timed "one worker, no offloads" --test-threads=4 network:: data:: hostile:: endpoints:: \
            wireguard::basics:: wireguard::roaming:: wireguard::paths:: wireguard::counters:: wireguard::mtu::
        [[ ! -e $TMPDIR/flaky ]] || sed "s/^/FLAKY: /" "$TMPDIR/flaky"'
}

help_if_asked "$@"
case "$#:${1:-}" in
    0:) quick='' vm='' ;;
    1:--quick) quick=yes vm='' ;;
    1:--vm) quick='' vm=yes ;;
    *) die "unexpected arguments: $*; see --help" ;;
esac
[[ -n $quick ]] || become_root
cd "$repo"
# The tests choose wontun's options, not the environment.
unset "${!WONTUN_@}"
on_exit stop_all

# libFuzzer is C++.
needed=("$for_rust" shellcheck:shellcheck nix-instantiate:nix-bin python3:python3 c++:g++)
[[ -n $quick ]] || needed+=("${for_two_hosts[@]}" "${for_engine[@]}" strace:strace setcap:libcap2-bin mount:mount
    wg:wireguard-tools iperf3:iperf3 nft:nftables wireguard-go:wireguard-go readelf:binutils
    systemd-analyze:systemd "${for_daemons[@]}" "${for_browser[@]}")
need "${needed[@]}"
[[ -z $vm ]] || bash scripts/vm-test.sh --install
need_rust
need_cargo_command fmt clippy

# Intel's library is in what is tested here.
if [[ $(uname -m) == x86_64 ]]; then
    IPSEC_MB_LIB_DIR=$(bash "$repo/scripts/ipsec-mb.sh")
    export IPSEC_MB_LIB_DIR
    features=(--features ipsec-mb)
fi

step "formatting" as_builder cargo fmt --all --check
step "scripts" shellcheck -x scripts/*.sh scripts/vm/*.sh scripts/release/*.sh packaging/deb/p* .ci/run
for source in src crates/*/src; do
    step "import cycles: $source" as_builder python3 -B scripts/check_cycles.py "$source"
done
step "Nix files" bash scripts/check-nix.sh
step "recipes" bash scripts/check-recipes.sh
# Its packages, and what cargo must fetch, are there from now on.
[[ -n $quick ]] || begin builds 10 build_for_root
step "dependencies" bash scripts/deny.sh
step "lints" as_builder cargo clippy --workspace --all-targets --locked "${features[@]}" -- -D warnings
step "documentation" as_builder env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked "${features[@]}"
step "manual" bash scripts/docs.sh
step "the benchmark's pages" as_builder python3 -B -m unittest discover scripts/bench
step "unit and property tests, of the Nix source, without a network" bash scripts/check-fileset.sh "${features[@]}"
# Only these crates know of it.
((${#features[@]} == 0)) ||
    step "unit tests without Intel's library" as_builder cargo test --locked --package wontun-proto --package wontun-sys
if [[ -n $quick ]]; then
    step "fuzz targets compile" as_builder cargo check --locked --manifest-path fuzz/Cargo.toml
    say "all quick checks passed; without --quick there are the end-to-end tests, the demo and the container test too"
    exit
fi

end builds
# in what time of the processor the end-to-end tests leave
begin "build of the fuzz targets" 19 bash scripts/fuzz.sh --build
step "end-to-end tests" end_to_end
# The container engine waits for its containers most of the time, and one virtual machine for the other. Fuzzers take what
# is left: their share is counted in time of the processor.
set_niceness "build of the fuzz targets" 10
# cargo waits for the build
begin "fuzz targets" 10 bash scripts/fuzz.sh
tests=$(end_to_end_program)
built_for_tests=$(dirname "$(dirname "$tests")")/wontun
export built_for_tests
step "demo" bash scripts/demo.sh
step "demo of WireGuard" bash scripts/demo.sh --wireguard
step "demo of a server" bash scripts/demo.sh --server
step "container test" bash scripts/docker-test.sh
[[ -z $vm ]] || begin "virtual machines" 0 bash scripts/vm-test.sh --binary "$repo/target/static/wontun"
end "build of the fuzz targets"
end "fuzz targets"
[[ -z $vm ]] || end "virtual machines"
say "all checks passed in $SECONDS s"
