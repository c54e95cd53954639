#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/run_client.sh HOST[:PORT] [WONTUN OPTION]...

Builds wontun if need be and runs `wontun plain` as a client of the server at HOST (a name, an IPv4 or an IPv6 address;
port 19988 unless given): its tun0 has 10.8.0.3/24, and the server answers at 10.8.0.1. It does not encrypt.
The options are wontun's own; `scripts/run_client.sh vpn.example.org --keepalive 10` is an example.
END
    usage_of_running
}

help_if_asked "$@"
[[ ${1:--} != -* ]] || die "the first argument is the server's HOST[:PORT]: see --help"
run_wontun plain --peer "$@"
