#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/limits.sh [--rates N,N,...] [--streams N,N,...] [--delays N,N,...] [--seconds N] [--ecn]

Measures TCP through a peer's rate limit (Mbit/s; 1, 20 and 200 unless told), in both directions, with 1 and 4 streams,
and a ping beside it; with additional round trip times of the path in ms, and with ECN if asked. Prints a table.
Needs root (uses sudo otherwise) and Rust; on Debian and Ubuntu it installs the other things it needs with apt.
END
}

help_if_asked "$@"
become_root
cd "$repo"
unset "${!WONTUN_@}"
need "${for_two_hosts[@]}" "$for_rust" mount:mount unshare:util-linux ping:iputils-ping wg:wireguard-tools \
    iperf3:iperf3 python3:python3
need_rust
say "building wontun"
as_builder cargo build --release --locked
mkdir -p /run/netns /var/run/wireguard
# shellcheck disable=SC2016 # the inner shell expands it
exec unshare --mount --pid --fork --kill-child --mount-proc bash -euc '
    mount -t tmpfs wontun-limits /run/netns
    mount -t tmpfs wontun-limits /var/run/wireguard
    exec python3 scripts/bench/limits.py --wontun target/release/wontun "$@"' limits "$@"
