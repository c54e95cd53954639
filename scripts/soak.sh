#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/soak.sh [--minutes N] [--seed S]

A server and three clients in network namespaces, for N minutes (30 unless told): sessions are replaced every few
seconds, peers added and removed, files read again, processes killed, cables pulled, devices set down, clocks set, the
disk filled and descriptors used up, while datagrams and TCP streams flow. Fails when a datagram is lost that nothing
had disturbed, when a stream does not recover, or when memory or descriptors grow; prints how soon everything flowed
again, what was lost, and what the processes took. The events come by a seed, which is printed: with --seed S they come
in that order again.
Needs root (uses sudo otherwise) and Rust; on Debian and Ubuntu it installs the other things it needs with apt.
END
}

help_if_asked "$@"
minutes=30
seed=
while (($#)); do
    (($# > 1)) || die "unexpected argument '$1': see --help"
    case $1 in
        --minutes) minutes=$2 ;;
        --seed) seed=$2 ;;
        *) die "unexpected argument '$1': see --help" ;;
    esac
    shift 2
done
[[ $minutes =~ ^[1-9][0-9]{0,4}$ ]] || die "--minutes $minutes: expected a whole number of minutes"
[[ $seed =~ ^[0-9]{0,18}$ ]] || die "--seed $seed: expected a whole number, such as one that an earlier run printed"
become_root
cd "$repo"
# The soak chooses wontun's options, not the environment.
unset "${!WONTUN_@}"
need "${for_two_hosts[@]}" "$for_rust" strace:strace setcap:libcap2-bin mount:mount unshare:util-linux \
    ping:iputils-ping wg:wireguard-tools iperf3:iperf3 nft:nftables
need_rust

export WONTUN_SOAK_SECONDS=$((minutes * 60))
[[ -z $seed ]] || export WONTUN_SOAK_SEED=$seed
say "building wontun and its tests"
# shellcheck disable=SC2016 # the inner shell expands it
with_end_to_end_tests '"$0" --exact soak::a_tunnel_endures_what_comes --nocapture'
