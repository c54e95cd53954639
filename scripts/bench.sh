#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/bench.sh [OPTION]...

Measures wontun, wireguard-go, gotatun and boringtun in one run with interleaved rounds, and writes benchmarks.md (tables),
bench.svg (a drawing) and bench.json (every measurement) into docs/src/development/.

  --one-end               prints a table of one end by itself instead: only sending, into a sink that the kernel drops,
                          and only receiving, of a stream that was encrypted before; for wontun and each variant with
                          one and two workers, by UDP and TCP. Takes 16 × S + 20 seconds a round and 700 MB of memory
  --forward               prints a table of a server that forwards instead: TCP between a client and the server, a host
                          behind its NAT, and another client, also with rules of peers and with many clients at once, and
                          without a tunnel; for wontun and each variant. Takes 5 × S + 14 × S + 30 seconds a round
  --clients N             clients at once with --forward (50)
  --rounds N              how often each tunnel is measured (5)
  --secs S                how long each load lasts (5); a round takes about 5 × S + 4 seconds a tunnel
  --only LIST             these tunnels alone, by commas: veth (no tunnel), wontun, wontun-plain, wireguard-go, gotatun,
                          boringtun, and NAME and NAME-plain of each variant
  --variant NAME=[BINARY][:OPTIONS]
                          another wontun, in both modes, repeatable: an older build (--variant old=/tmp/wontun), or the
                          same one with options (--variant 'one=:--workers 1')
  --wontun BINARY         the wontun to measure; otherwise cargo builds the release
  --wireguard-go BINARY   otherwise Debian's, which is old; the same for
  --gotatun BINARY        otherwise cargo builds the newest
  --boringtun BINARY      otherwise cargo builds the newest
  --output DIR            where benchmarks.md and bench.svg go (docs/src/development)
  --json FILE             where every measurement goes (DIR/bench.json)
  --redraw FILE           measures nothing; makes benchmarks.md and bench.svg of such a JSON file

All of it happens in network namespaces of its own, which are gone at the end, also after Ctrl-C. The figures are worth
something on a machine that does nothing else. Needs root (uses sudo otherwise; cargo runs as you), Python 3.10 or
newer, and Rust unless every program is given; on Debian and Ubuntu it installs the other things it needs with apt.
END
}

main() { python3 "$repo/scripts/bench/main.py" "$@"; }

need_python() {
    need python3:python3
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "$(python3 --version) is too old: 3.10 or newer"
}

# get NAME: brings one of the programs and prints where it is.
get() {
    case $1 in
        wontun) build_release ;;
        wireguard-go) command -v wireguard-go ;;
        *) bash "$repo/scripts/foreign-peers.sh" --newest "$1" ;;
    esac
}

# Prints what the build was made of; nothing outside a git repository.
commit() { as_builder git describe --always --dirty --abbrev=12 2>/dev/null || true; }

help_if_asked "$@"
# Python keeps compiled files beside the sources, and root's have no place in a user's checkout.
export PYTHONDONTWRITEBYTECODE=1
if [[ " $* " == *" --redraw"* ]]; then
    need_python
    main "$@"
    exit
fi
become_root
need_python
needs=$(main --needs "$@")
need ip:iproute2 iperf3:iperf3 nft:nftables ping:iputils-ping wg:wireguard-tools unshare:util-linux
[[ -c /dev/net/tun ]] || die "there is no /dev/net/tun: load the kernel's module with 'modprobe tun'"
# The measurement chooses wontun's options, not the environment.
unset "${!WONTUN_@}"

programs=()
for name in $needs; do
    case $name in
        wireguard-go) need wireguard-go:wireguard-go ;;
        *) need_rust ;;
    esac
    say "getting $name"
    path=$(get "$name")
    programs+=("--$name" "$path")
    [[ $name != wontun ]] || programs+=(--commit "$(commit)")
done

measuring=
made=()

clean_up() {
    if [[ -n $measuring ]]; then
        kill -TERM -- "-$measuring" 2>/dev/null || true
        wait "$measuring" || true
    fi
    rm -rf "$TMPDIR"
    ((${#made[@]} == 0)) || rmdir "${made[@]}" 2>/dev/null || true
}

# Mount points for what the measurement has to itself.
for folder in /run/netns /var/run/wireguard; do
    [[ -d $folder ]] || made+=("$folder")
done
TMPDIR=$(mktemp -d)
export TMPDIR
on_exit clean_up
((${#made[@]} == 0)) || mkdir "${made[@]}"

# In mount and process namespaces of its own, so that nothing outlives it, whatever ends it: no process, no network
# namespace, no socket of wg(8). In the background with a process group of its own (set -m), so that all of it can be
# ended.
set -m
# shellcheck disable=SC2016 # the inner shell expands it
unshare --mount --pid --fork --kill-child --mount-proc bash -euc '
    mount -t tmpfs wontun-bench /run/netns
    mount -t tmpfs wontun-bench /var/run/wireguard
    exec python3 "$@"' bash "$repo/scripts/bench/main.py" "$@" "${programs[@]}" </dev/null &
measuring=$!
set +m
code=0
wait "$measuring" || code=$?
measuring=
((code == 0)) || exit "$code"
