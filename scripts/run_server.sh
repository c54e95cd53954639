#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/run_server.sh [WONTUN OPTION]...

Builds wontun if need be and runs `wontun plain`, a server that does not encrypt: it listens on UDP port 19988, and its
tun0 has 10.8.0.1/24.
The options are wontun's own; `scripts/run_server.sh --tun tun1 --address 10.9.0.1/24` is an example.
END
    usage_of_running
}

help_if_asked "$@"
run_wontun plain "$@"
