#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/demo.sh [--wireguard | --server]

Two hosts on this machine, joined by wontun: builds it, makes two network namespaces connected by a virtual cable,
runs a server in one and a client in the other, and sends a line of text each way over TCP through tun0.
With --wireguard the tunnel is WireGuard: two key pairs, two files, up.
With --server it is the story that the README begins with: a server out of an empty folder, a phone and a laptop that
take the files made for them, and a web server that only the server can reach.
Needs root (uses sudo otherwise) and Rust; on Debian and Ubuntu it installs the other things it needs with apt.
The machine's own network is not touched, and nothing stays behind but the build in target/.
END
}

help_if_asked "$@"
case "$#:${1:-}" in
    0:) wireguard= ;;
    1:--wireguard) wireguard=yes ;;
    # the same by a script of its own
    1:--server) exec bash "$(dirname "$0")/demo-server.sh" ;;
    *) die "unexpected arguments: $*; see --help" ;;
esac
become_root
need "${for_two_hosts[@]}" "$for_rust"
need_rust

server=wontun-demo-$$-server
client=wontun-demo-$$-client
folder=$(mktemp -d)
# The demo chooses wontun's options, not the environment.
unset "${!WONTUN_@}"

clean_up() {
    stop_started
    # A namespace takes its cable and tun device along.
    ip netns delete "$server" 2>/dev/null || true
    ip netns delete "$client" 2>/dev/null || true
    rm -rf "$folder"
}
on_exit clean_up

say "building wontun"
wontun=$(build_release)

[[ -c /dev/net/tun ]] || die "there is no /dev/net/tun: load the kernel's module with 'modprobe tun'"

say "making two hosts: the server with 172.18.0.2, the client with 172.18.0.3, a cable between them"
ip netns add "$server"
ip netns add "$client"
ip link add eth0 netns "$server" type veth peer name eth0 netns "$client"
for host in "$server 172.18.0.2" "$client 172.18.0.3"; do
    read -r name address <<<"$host"
    ip -n "$name" link set lo up
    ip -n "$name" address add "$address/16" dev eth0
    ip -n "$name" link set eth0 up
done

# key NAME: makes a key pair, the private key for nobody else to read.
key() {
    (umask 077 && "$wontun" genkey >"$folder/$1.key")
    "$wontun" pubkey <"$folder/$1.key"
}

# The lines that a host's owner writes. A server knows its clients by their keys, a client knows where its server is.
write_files() {
    local server_key client_key
    server_key=$(key server)
    client_key=$(key client)
    mkdir "$folder/etc-server" "$folder/etc-client"
    cat >"$folder/etc-server/tun0.conf" <<END
[Interface]
PrivateKeyFile = $folder/server.key
Address = 10.8.0.1/24
ListenPort = 51820

[Peer]
PublicKey = $client_key
AllowedIPs = 10.8.0.3/32
END
    cat >"$folder/etc-client/tun0.conf" <<END
[Interface]
PrivateKeyFile = $folder/client.key
Address = 10.8.0.3/24

[Peer]
PublicKey = $server_key
AllowedIPs = 10.8.0.0/24
Endpoint = 172.18.0.2:51820
PersistentKeepalive = 25
END
    chmod 600 "$folder"/etc-*/tun0.conf
}

# run_at HOST COMMAND...: on that host, which has a /run of its own for wontun's socket.
run_at() {
    local name=$1 mounts
    shift
    mounts=$folder/run-$name
    mkdir -p "$mounts"
    # shellcheck disable=SC2016 # the inner shell expands it
    exec ip netns exec "$name" unshare --mount bash -euc 'mount --bind "$0" /run; exec "$@"' "$mounts" "$@"
}

if [[ -n $wireguard ]]; then
    say "two key pairs (wontun genkey, wontun pubkey) and two files"
    write_files
    indent tun0.conf <"$folder/etc-client/tun0.conf"
    say "starting the server:  wontun --config tun0.conf"
    start "$folder/server" run_at "$server" "$wontun" --config "$folder/etc-server/tun0.conf"
    wait_ready $! "$folder/server"
    say "starting the client:  wontun --config tun0.conf"
    start "$folder/client" run_at "$client" "$wontun" --config "$folder/etc-client/tun0.conf"
else
    say "starting the server:  wontun plain"
    start "$folder/server" ip netns exec "$server" "$repo/scripts/run_server.sh"
    wait_ready $! "$folder/server"
    say "starting the client:  wontun plain --peer 172.18.0.2:19988"
    start "$folder/client" ip netns exec "$client" "$repo/scripts/run_client.sh" 172.18.0.2
fi
wait_ready $! "$folder/client"

say "TCP to 10.8.0.1 port 80 through tun0, with nc on both hosts:"
exchange "/run/netns/$server" "/run/netns/$client" "$folder"

if [[ -n $wireguard ]]; then
    say "wontun show, on the server:"
    (run_at "$server" "$wontun" show) | indent show
fi
stop_started
say "what the two said:"
indent server <"$folder/server"
indent client <"$folder/client"
say "it works: both lines arrived"
