#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/demo.sh

Two hosts on this machine, joined by wontun: builds it, makes two network namespaces connected by a virtual cable,
runs a server in one and a client in the other, and sends a line of text each way over TCP through tun0.
Needs root (uses sudo otherwise) and Rust; on Debian and Ubuntu it installs the other things it needs with apt.
The machine's own network is not touched, and nothing stays behind but the build in target/.
END
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
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
build_release >/dev/null

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

say "starting the server:  wontun"
start "$folder/server" ip netns exec "$server" "$repo/scripts/run_server.sh"
wait_ready $! "$folder/server"
say "starting the client:  wontun --peer 172.18.0.2:19988"
start "$folder/client" ip netns exec "$client" "$repo/scripts/run_client.sh" 172.18.0.2
wait_ready $! "$folder/client"

say "TCP to 10.8.0.1 port 80 through tun0, with nc on both hosts:"
exchange "/run/netns/$server" "/run/netns/$client" "$folder"

stop_started
say "what the two said:"
indent server <"$folder/server"
indent client <"$folder/client"
say "it works: both lines arrived"
