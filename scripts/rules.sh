#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/rules.sh [--binary FILE] [--peers N] [--rounds N] [--throughput]

Measures what rules of peers cost: the time from the start of a server with 10,000 peers until it is ready, without
rules, with the same ten rules for each peer, and with ten other rules for each; the time that a change of one peer's
rules takes there; and, with --throughput, TCP and small packets from and to a client through the server to a host
behind it, without rules and with other rules for each peer, in turns. Needs root: everything runs in network
namespaces of its own. Quiet is the machine's part: nothing else may run beside.
END
}

help_if_asked "$@"
binary=$repo/target/release/wontun peers=10000 rounds=3 throughput=0
while (($# > 0)); do
    case $1 in
        --binary | --peers | --rounds)
            [[ -n ${2:-} ]] || die "$1 needs a value; see --help"
            declare "${1#--}=$2"
            shift
            ;;
        --throughput) throughput=1 ;;
        *) die "unexpected argument: $1; see --help" ;;
    esac
    shift
done
[[ $EUID -eq 0 ]] || die "must run as root, for network namespaces"
[[ -x $binary ]] || die "there is no $binary: build it (cargo build --release), or name one with --binary"
need python3 ip:iproute2 wg:wireguard-tools
if ((throughput)); then need iperf3; fi
dir=$(mktemp -d) server=wontun-rules-s$$ client=wontun-rules-c$$ behind=wontun-rules-b$$
daemons=()

finish() {
    ((${#daemons[@]} == 0)) || kill "${daemons[@]}" 2>/dev/null || true
    wait || true
    for namespace in "$server" "$client" "$behind"; do ip netns delete "$namespace" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap finish EXIT
for namespace in "$server" "$client" "$behind"; do
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
done
ip -n "$server" link add outer type veth peer name outer netns "$client"
ip -n "$server" link add inner type veth peer name inner netns "$behind"
ip -n "$server" address add 192.0.2.1/24 dev outer
ip -n "$client" address add 192.0.2.2/24 dev outer
ip -n "$server" address add 203.0.113.1/24 dev inner
ip -n "$behind" address add 203.0.113.2/24 dev inner
for namespace in "$server" "$client"; do ip -n "$namespace" link set outer up; done
for namespace in "$server" "$behind"; do ip -n "$namespace" link set inner up; done
ip netns exec "$server" sysctl -q net.ipv4.ip_forward=1
private=$(wg genkey)
client_private=$(wg genkey)

# Writes the server's file with rules of this kind: none, shared or distinct. The first peer is the client.
write_file() { # KIND
    mkdir -p "$dir/$1"
    python3 - "$1" "$peers" "$private" "$(wg pubkey <<<"$client_private")" >"$dir/$1/tun0.conf" <<'END'
import base64, hashlib, ipaddress, sys

kind, peers, private, first = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
print(f"[Interface]\nPrivateKey = {private}\nAddress = 10.8.0.1/16, fd00:8::1/64\nListenPort = 51820")
print("# ClientEndpoint = 192.0.2.1")
for number in range(peers):
    key = bytearray(hashlib.sha256(b"peer %d" % number).digest())
    key[31] &= 127
    public = first if number == 0 else base64.b64encode(bytes(key)).decode()
    print(f"\n[Peer]\n# Name = p{number}")
    if kind != "none":
        other = number if kind == "distinct" else 0
        rules = [f"10.{other >> 8}.{other & 255}.{i}:{1000 + i}/tcp" for i in range(1, 5)]
        rules += [f"192.{168 - other % 2}.{other >> 6 & 255}.{i}" for i in range(3)]
        rules += ["203.0.113.0/24", "dns", f"[fd01::{other:x}]:443/tcp"]
        print("# Allow = " + ", ".join(rules))
    v4 = ipaddress.ip_address("10.8.0.2") + number
    print(f"PublicKey = {public}\nAllowedIPs = {v4}/32, fd00:8::{number + 2:x}/128")
END
    chmod 600 "$dir/$1/tun0.conf"
}

now() { date +%s.%N; }

# Waits until the log of the server has this text more than this many times.
wait_for() { # KIND TEXT TIMES
    for _ in $(seq 6000); do
        (($(grep -c -- "$2" "$dir/$1/log" || true) > $3)) && return
        sleep 0.01
    done
    die "no '$2' within a minute: $(tail -n 3 "$dir/$1/log")"
}

# Starts the server with rules of this kind, and says how long that took.
start_server() { # KIND
    rm -f "$dir/$1/"*.state
    : >"$dir/$1/log"
    local began
    began=$(now)
    WONTUN_DIR=$dir/$1 ip netns exec "$server" "$binary" serve --log-target stderr 2>"$dir/$1/log" &
    daemons+=($!)
    wait_for "$1" ' ready ' 0
    say "$1: ready after $(python3 -c "print(f'{$(now) - $began:.2f}')") s"
}

stop_last() {
    kill "${daemons[-1]}"
    wait "${daemons[-1]}" || true
    unset 'daemons[-1]'
}

for kind in none shared distinct; do write_file "$kind"; done
for _ in $(seq "$rounds"); do
    for kind in none shared distinct; do
        start_server "$kind"
        if [[ $kind == distinct ]]; then
            began=$(now)
            WONTUN_DIR=$dir/$kind ip netns exec "$server" "$binary" peer set p7 --deny lan >/dev/null
            say "a change of one peer: $(python3 -c "print(f'{$(now) - $began:.2f}')") s"
            WONTUN_DIR=$dir/$kind ip netns exec "$server" "$binary" peer set p7 --deny none >/dev/null
        fi
        stop_last
    done
done
((throughput)) || exit 0

cat >"$dir/client.conf" <<END
[Interface]
PrivateKey = $client_private
Address = 10.8.0.2/32
[Peer]
PublicKey = $(wg pubkey <<<"$private")
AllowedIPs = 10.8.0.0/16, 203.0.113.0/24
Endpoint = 192.0.2.1:51820
END
chmod 600 "$dir/client.conf"
ip netns exec "$behind" iperf3 --server --daemon --pidfile "$dir/iperf3.pid" >/dev/null
for _ in $(seq 100); do
    if [[ -s $dir/iperf3.pid ]]; then break; fi
    sleep 0.05
done
daemons+=("$(tr -d '\0' <"$dir/iperf3.pid")")
measure() { # ARGUMENTS
    ip netns exec "$client" iperf3 --client 203.0.113.2 --time 3 --json "$@" | python3 -c '
import json, sys

end = json.load(sys.stdin)["end"]
if "--udp" in sys.argv:
    received = end["sum"]["packets"] - end["sum"]["lost_packets"]
    print("%.0f kpps" % (received / end["sum"]["seconds"] / 1e3))
else:
    print("%.2f Gbit/s" % (end["sum_received"]["bits_per_second"] / 1e9))' "$@"
}
for _ in $(seq "$rounds"); do
    for kind in none distinct; do
        start_server "$kind"
        ip netns exec "$client" "$binary" --config "$dir/client.conf" 2>"$dir/client.log" &
        daemons+=($!)
        for _ in $(seq 100); do ip netns exec "$client" ping -c 1 -W 0.2 203.0.113.2 >/dev/null 2>&1 && break; done
        say "$kind: up $(measure), down $(measure --reverse), 64 bytes up $(measure --udp --length 64 --bitrate 0)"
        stop_last
        stop_last
    done
done
