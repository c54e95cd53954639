#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/demo.sh --server

From an empty folder to a phone that reaches the world: four hosts on this machine (network namespaces), wontun on three
of them. The server is made by `wontun serve`, the phone and the laptop take the files that `wontun peer add` prints, and a
web server stands where only the server can reach it.
Needs root (uses sudo otherwise) and Rust; on Debian and Ubuntu it installs the other things it needs with apt.
The machine's own network is not touched, and nothing stays behind but the build in target/.
END
}

help_if_asked "$@"
(($# == 0)) || die "unexpected argument '$1': see --help"
become_root
need "${for_two_hosts[@]}" "$for_rust" unshare:util-linux ping:iputils-ping nft:nftables
need_rust
nc=$(netcat)

hosts=(server phone laptop web)
folder=$(mktemp -d)
etc=$folder/etc-wontun
# The demo chooses wontun's options, not the environment.
unset "${!WONTUN_@}"

netns() { say "wontun-demo-$$-$1"; }

clean_up() {
    local host
    stop_started
    for host in "${hosts[@]}"; do
        # A namespace takes its cables and tun device along.
        ip netns delete "$(netns "$host")" 2>/dev/null || true
    done
    rm -rf "$folder"
}
on_exit clean_up

# run_at HOST COMMAND...: becomes that command on that host, which has a /run of its own for wontun's socket.
run_at() {
    local host=$1
    shift
    mkdir -p "$folder/run-$host"
    # shellcheck disable=SC2016 # the inner shell expands it
    exec ip netns exec "$(netns "$host")" unshare --mount bash -euc 'mount --bind "$0" /run; exec "$@"' \
        "$folder/run-$host" "$@"
}

# at HOST COMMAND...: runs it there.
at() { (run_at "$@"); }

# cable HOST DEVICE ADDRESS OTHER DEVICE ADDRESS
cable() {
    ip link add "$2" netns "$(netns "$1")" type veth peer name "$5" netns "$(netns "$4")"
    ip -n "$(netns "$1")" address add "$3" dev "$2"
    ip -n "$(netns "$4")" address add "$6" dev "$5"
    ip -n "$(netns "$1")" link set "$2" up
    ip -n "$(netns "$4")" link set "$5" up
}

# reaches HOST ADDRESS WHAT: one line about a ping, which must be answered.
reaches() {
    local said
    said=$(at "$1" ping -n -c 3 -i 0.2 -W 5 "$2") || die "$1 does not reach $3, $2: $said"
    say "    $1 pings $3, $2: $(grep -o 'time=.*' <<<"$said" | tail -n 1)"
}

# The page, to one who asks; nc says on stderr who that was.
serve_page() {
    local body=$'<h1>It works</h1>\n'
    printf 'HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s' "${#body}" "$body" |
        at web timeout 30 "$nc" -n -v -N -l 203.0.113.80 80
}

say "building wontun"
wontun=$(build_release)
[[ -c /dev/net/tun ]] || die "there is no /dev/net/tun: load the kernel's module with 'modprobe tun'"

say "making four hosts: phone and laptop can reach the server, 192.0.2.1, and only the server the web, 203.0.113.80"
for host in "${hosts[@]}"; do
    ip netns add "$(netns "$host")"
    ip -n "$(netns "$host")" link set lo up
done
cable phone eth0 198.51.100.2/24 server eth0 198.51.100.1/24
cable laptop eth0 100.64.0.2/24 server eth1 100.64.0.1/24
cable web eth0 203.0.113.80/24 server eth2 203.0.113.1/24
ip -n "$(netns server)" address add 192.0.2.1/32 dev lo
# which is all that they know of the world
ip -n "$(netns phone)" route add 192.0.2.1 via 198.51.100.1
ip -n "$(netns laptop)" route add 192.0.2.1 via 100.64.0.1
! at phone timeout 2 "$nc" -n -z 203.0.113.80 80 2>/dev/null || die "the phone reaches the web without the tunnel"

say "an empty folder, and:  wontun serve --endpoint 192.0.2.1"
mkdir "$etc"
start "$folder/server" run_at server "$wontun" serve --dir "$etc" --endpoint 192.0.2.1
wait_ready $! "$folder/server"
indent "the folder has" < <(ls -A "$etc")

say "on the server:  wontun peer add phone --full-tunnel --qr --out phone.conf"
at server "$wontun" peer add --dir "$etc" phone --full-tunnel --qr --out "$folder/phone.conf" 2>"$folder/qr" ||
    die "the phone was not added: $(<"$folder/qr")"
cat "$folder/qr"
say "    a phone scans this; the file says the same (here without the keys):"
grep -v Key "$folder/phone.conf" | indent phone.conf

say "on the server:  wontun peer add laptop --out laptop.conf"
at server "$wontun" peer add --dir "$etc" laptop --out "$folder/laptop.conf"

say "both bring their file up:  wontun --config phone.conf,  wontun --config laptop.conf"
for host in phone laptop; do
    start "$folder/$host" run_at "$host" "$wontun" --tun tun0 --config "$folder/$host.conf"
    wait_ready $! "$folder/$host"
done
address() { sed -n 's,^Address = \([0-9.]*\)/.*,\1,p' "$folder/$1.conf"; }

say "from end to end:"
reaches phone 10.8.0.1 "the server"
reaches laptop 10.8.0.1 "the server"
reaches phone "$(address laptop)" "the laptop"
reaches laptop "$(address phone)" "the phone"

say "the web, through the server:"
start "$folder/web" serve_page
wait_until 5 listens_on "/run/netns/$(netns web)" 80 || die "nc does not listen on the web server"
page=$(printf 'GET / HTTP/1.0\r\n\r\n' | at phone timeout 20 "$nc" -n -N 203.0.113.80 80) ||
    die "the phone does not get the page"
indent "the phone got" <<<"${page//$'\r'/}"
[[ $page == *"It works"* ]] || die "that is not the page"
seen=$(sed -n 's/.*[Cc]onnection received on \([0-9.]*\) .*/\1/p' "$folder/web")
say "    the web server saw it come from $seen, which is the server: the phone is $(address phone)"
[[ $seen == 203.0.113.1 ]] || die "expected it to come from 203.0.113.1"
reaches phone 203.0.113.80 "the web"
! at laptop timeout 2 "$nc" -n -z 203.0.113.80 80 2>/dev/null ||
    die "the laptop, whose file sends only the VPN through the tunnel, reached the web"
say "    the laptop goes there its own way, which here is none: its file is not --full-tunnel"

say "on the server:  wontun peer list,  wontun show"
at server "$wontun" peer list --dir "$etc" | indent list
at server "$wontun" show | indent show

say "stopping all of them; what is left of it on each host:"
stop_started
for host in server phone laptop; do
    left=$(at "$host" sh -euc 'ip -o link show type tun; nft list ruleset; ls -A /run/wireguard
        ip rule | grep -vE "lookup (local|main|default)" || true')
    [[ -z $left ]] || die "on the $host there is still: $left"
    say "    $host: no device, no packet filter, no rule, no socket"
done
indent "the folder keeps" < <(ls "$etc")
say "what the server said:"
indent server <"$folder/server"
say "it works: from an empty folder to a phone that reaches the world"
