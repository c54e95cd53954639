#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/restart.sh [--peers N,N,...]

Kills a server with that many peers (1,100,1000 unless told), starts it again, and prints how soon the ping of the last
peer is answered, beside wireguard-go. Each peer sends four pings a second, and has an address of its own.
Needs root (uses sudo otherwise) and Rust; on Debian and Ubuntu it installs the other things it needs with apt.
END
}

help_if_asked "$@"
peers=1,100,1000
while (($#)); do
    (($# > 1)) || die "unexpected argument '$1': see --help"
    case $1 in
        --peers) peers=$2 ;;
        *) die "unexpected argument '$1': see --help" ;;
    esac
    shift 2
done
[[ $peers =~ ^[1-9][0-9]{0,3}(,[1-9][0-9]{0,3})*$ ]] || die "--peers $peers: expected numbers up to 9999, such as 1,100"
become_root
cd "$repo"
# The test chooses wontun's options, not the environment.
unset "${!WONTUN_@}"
need "${for_two_hosts[@]}" "$for_rust" setcap:libcap2-bin mount:mount unshare:util-linux ping:iputils-ping \
    wg:wireguard-tools iperf3:iperf3 nft:nftables
need_rust
WONTUN_FOREIGN_PEERS=$(scripts/foreign-peers.sh)
export WONTUN_FOREIGN_PEERS
export WONTUN_PEERS=$peers
say "building wontun and its tests"
# shellcheck disable=SC2016 # the inner shell expands it
with_end_to_end_tests '"$0" --exact wireguard::restart::times_until_peers_are_back --ignored --nocapture'
