#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/docker-recipes.sh
source "$(dirname "$0")/docker-recipes.sh"

usage() {
    cat <<'END'
Usage: scripts/docker-test.sh [--binary FILE] [--image FILE]

Tests the image: scripts/docker-demo.sh, then what a container promises (rights, stop, health, errors, names, IPv6),
that `docker load` takes the image of scripts/vm/image.py, which has the layout of the one that Nix builds, and the recipes
for Compose and Quadlet, with containers that share a tunnel while it is restarted and replaced.
--binary tests with another static wontun than the one that scripts/build-static.sh makes, --image with the image of an
archive, such as Nix builds, instead of one by the Dockerfile.
It starts a Docker engine of its own and does all of that in namespaces of its own: neither this machine's network nor
an engine that runs here is touched. Needs root (uses sudo otherwise); nothing is pulled.
END
}

image=wontun:$(package_version)
network='wontun-test'
box=(--pull never --cap-drop ALL --cap-add NET_ADMIN --device /dev/net/tun --read-only)

# Everything below happens in network, mount and process namespaces made by `unshare`. They end with one process, and
# take along the engine, its containers, interfaces, firewall rules, mounts and (in a tmpfs) files: also after a kill.
outside() {
    become_root
    need "${for_two_hosts[@]}" "${for_engine[@]}" "$for_rust" readelf:binutils
    # Debian 12 has the client in docker.io, Debian 13 in a package of its own.
    need docker:docker-cli
    # A plugin of the client's, or a program of its own.
    docker compose version >/dev/null 2>&1 || need docker-compose:docker-compose
    need python3:python3 busybox:busybox-static
    # The engine's network has no way out, so what cargo must fetch, it fetches now.
    if [[ -z $1 ]]; then
        bash "$repo/scripts/build-static.sh"
    else
        install -D -m 0755 "$1" "$repo/target/static/wontun"
    fi
    export static_is_built=yes

    on_exit clean_up_outside
    unshare --net --mount --pid --fork --kill-child --mount-proc bash "$script" --inside "wontun-test-$$" "$archive" &
    inside=$!
    local code=0
    wait "$inside" || code=$?
    inside=
    exit "$code"
}

clean_up_outside() {
    if [[ -n ${inside:-} ]]; then
        # --kill-child: the first process of the namespaces dies with this one, and all others with that.
        kill -KILL "$inside" 2>/dev/null || true
        wait "$inside" 2>/dev/null || true
    fi
    # Control groups belong to no namespace; the last processes in them need a moment to go.
    wait_until 5 no_cgroups || say "some empty control groups named wontun-test-$$ could not be removed"
}

no_cgroups() {
    find /sys/fs/cgroup -depth -type d -path "*/wontun-test-$$*" -exec rmdir {} + 2>/dev/null || true
    [[ -z $(find /sys/fs/cgroup -type d -name "wontun-test-$$" 2>/dev/null) ]]
}

start_engine() {
    ip link set lo up
    # Sockets, process ids, images: all in memory, and hidden from an engine of the machine (and it from us).
    mount -t tmpfs -o mode=755 wontun-test /run
    # Docker 20 writes a key there.
    [[ ! -d /etc/docker ]] || mount -t tmpfs wontun-test /etc/docker
    mkdir /run/docker-config
    echo '{}' >/run/docker-config/daemon.json
    export DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=/run/docker-config TMPDIR=/run
    unset DOCKER_CONTEXT
    # vfs works on every file system; the engine's control groups get a name, so that they can be removed.
    start /run/dockerd.log dockerd --config-file /run/docker-config/daemon.json --host "$DOCKER_HOST" \
        --data-root /run/docker-data --exec-root /run/docker --pidfile /run/docker.pid --storage-driver vfs \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$1"
    engine=$!
    wait_until 60 engine_answers_or_ended || true
    if ! docker version >/dev/null 2>&1; then
        indent dockerd </run/dockerd.log >&2
        die "the engine did not start: its messages are above"
    fi
}

engine_answers_or_ended() { docker version >/dev/null 2>&1 || has_ended "$engine"; }

ok() { say "ok: $*"; }

inspect() { docker inspect --format "$2" "$1"; }
netns() { say "/proc/$(inspect "$1" '{{.State.Pid}}')/ns/net"; }

# up NAME OPTION... -- ARGUMENT...: starts a container and waits until its tunnel is ready.
up() {
    local name=$1 options=()
    shift
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    docker run --detach --name "$name" --network "$network" "${box[@]}" "${options[@]}" "$image" "$@" >/dev/null
    wait_until 20 said "$name" ' ready ' || {
        docker logs "$name" 2>&1 | indent "$name" >&2
        die "the container $name did not become ready: its messages are above"
    }
}

said() { grep -q -e "$2" <<<"$(docker logs "$1" 2>&1)"; }

# fails CODE TEXT OPTION...: a plain tunnel in a container with these options ends with this code and says this text in one
# line.
fails() {
    local code=0 output
    output=$(docker run --rm --pull never --cap-drop ALL --read-only "${@:3}" "$image" plain 2>&1) || code=$?
    [[ $code == "$1" && $(grep -c -e "$2" <<<"$output") == 1 ]] ||
        die "expected exit code $1 and one line with '$2'; got $code and: $output"
    ok "exit code $code: $output"
}

# reaches NAME ADDRESS: waits until the container reaches the address.
reaches() {
    local netns
    netns=$(netns "$1")
    wait_until 20 in_netns "$netns" ping -c 1 -W 2 "$2" || die "the container $1 does not reach $2"
}

test_rights_and_stop() {
    up alone -- plain
    local pid want began
    pid=$(inspect alone '{{.State.Pid}}')
    for want in CapInh:0000000000000000 CapPrm:0000000000001000 CapEff:0000000000001000 CapBnd:0000000000001000 \
        CapAmb:0000000000000000 NoNewPrivs:1; do
        tr -d '\t' <"/proc/$pid/status" | grep -qx "$want" ||
            die "expected $want in the container: $(grep -E '^(Cap|NoNew)' "/proc/$pid/status")"
    done
    ok "CAP_NET_ADMIN is the only capability in every set that has one"
    awk '$5 == "/" && $6 ~ /^ro(,|$)/ { found = 1 } END { exit !found }' "/proc/$pid/mountinfo" ||
        die "the container's root is not read-only"
    ok "the root is read-only"

    began=${EPOCHREALTIME/[.,]/}
    docker stop alone >/dev/null
    local milliseconds=$(((${EPOCHREALTIME/[.,]/} - began) / 1000))
    [[ $(inspect alone '{{.State.ExitCode}}') == 0 ]] ||
        die "docker stop: exit code $(inspect alone '{{.State.ExitCode}}'), not 0"
    ((milliseconds < 1500)) || die "docker stop took $milliseconds ms: process 1 did not heed SIGTERM"
    said alone summary || die "the stopped container did not sum up"
    docker rm alone >/dev/null
    ok "docker stop: $milliseconds ms, exit code 0"
}

test_errors() {
    fails 69 --device=/dev/net/tun --cap-add NET_ADMIN
    fails 77 NET_ADMIN --device /dev/net/tun
}

test_two_containers() {
    up server -- plain
    # The name is resolved by the network's own name server.
    up client -- plain --peer server:19988
    # A plain client is ready before its server's name is resolved.
    reaches client 10.8.0.1
    exchange "$(netns server)" "$(netns client)" /run
    docker rm --force client server >/dev/null
    ok "two containers, the server found by its name"
}

test_inner_ipv6() {
    local inner=(--address 10.8.0.1/24 --address fd08::1/64) flags=()
    up server -- plain "${inner[@]}"
    # Docker turns IPv6 off in a container unless its network has it; then wontun must say which flag helps.
    if [[ $(in_netns "$(netns server)" cat /proc/sys/net/ipv6/conf/tun0/disable_ipv6) == 1 ]]; then
        read -ra flags <<<"$(docker logs server 2>&1 | grep WARN | grep -o -e '--sysctl[= ][a-z0-9_.]*=0' | tr '\n' ' ')"
        [[ $(docker logs server 2>&1 | grep -c -e --sysctl) == 1 && ${#flags[@]} -gt 0 ]] ||
            die "expected one warning with a --sysctl flag: $(docker logs server 2>&1)"
        ok "IPv6 is off here, and one warning names ${flags[*]}"
        docker rm --force server >/dev/null
        up server "${flags[@]}" -- plain "${inner[@]}"
    fi
    said server --sysctl && die "a warning names --sysctl though IPv6 is on: $(docker logs server 2>&1)"
    up client "${flags[@]}" -- plain --peer server:19988 --address 10.8.0.3/24 --address fd08::3/64
    reaches client fd08::1
    exchange "$(netns server)" "$(netns client)" /run fd08::1
    docker rm --force client server >/dev/null
    ok "IPv6 inside the tunnel${flags:+, with ${flags[*]}}"
}

# write_wireguard HOST ADDRESS PEER ALLOWED [LINE]: one side's file, as it is mounted into its container.
write_wireguard() {
    local host=$1 address=$2 peer=$3 allowed=$4 line=${5:-}
    mkdir -p "/run/etc-$host"
    {
        printf '[Interface]\nPrivateKeyFile = key\nAddress = %s\nListenPort = 51820\n' "$address"
        printf '[Peer]\nPublicKey = %s\nAllowedIPs = %s\n%s\n' "$("$wontun" pubkey <"/run/$peer.key")" "$allowed" "$line"
    } >"/run/etc-$host/wg0.conf"
    cp "/run/$host.key" "/run/etc-$host/key"
    chmod 600 "/run/etc-$host"/*
}

test_wireguard() {
    local host wontun=$repo/target/static/wontun
    for host in server client; do
        (umask 077 && "$wontun" genkey >"/run/$host.key")
    done
    write_wireguard server 10.8.0.1/24 client 10.8.0.3/32
    # The name is resolved by the network's own name server; a full tunnel, as far as a container may have one.
    write_wireguard client 10.8.0.3/24 server 0.0.0.0/0 'Endpoint = server:51820'
    for host in server client; do
        up "$host" --env WONTUN_CONFIG=/etc/wontun/wg0.conf --volume "/run/etc-$host:/etc/wontun:ro" --tmpfs /var/run --
    done
    [[ $(docker logs client 2>&1 | grep -c -e '--sysctl[= ]net.ipv4.conf.all.src_valid_mark=1') -le 1 ]] ||
        die "more than one warning about src_valid_mark: $(docker logs client 2>&1)"
    reaches client 10.8.0.1
    exchange "$(netns server)" "$(netns client)" /run
    docker exec client /bin/wontun health --max-handshake-age 60
    docker exec client /bin/wontun show
    grep -q '"has_session":true' <<<"$(docker exec client /bin/wontun show --json)" ||
        die "wontun show --json does not tell of a session: $(docker exec client /bin/wontun show --json)"
    grep -F -q -f /run/server.key -f /run/client.key <<<"$(docker logs server 2>&1; docker logs client 2>&1)" &&
        die "a private key is in a log"
    wait_until 30 is_healthy client || die "the client does not become healthy: $(inspect client '{{json .State.Health}}')"
    docker rm --force client server >/dev/null
    ok "WireGuard: two containers, a name, a full tunnel"
}

# The README's server: a volume that is empty, and a client that a second command adds.
test_serve() {
    local began took
    began=$(date +%s%N)
    up server --volume wontun-etc:/etc/wontun --sysctl net.ipv4.ip_forward=1 -- serve --endpoint server
    ! said server 'not on a volume' || die "a volume is not seen: $(docker logs server 2>&1)"
    mkdir -p /run/etc-phone
    (umask 077 && docker exec server wontun peer add phone --qr >/run/etc-phone/tun0.conf 2>/run/qr)
    grep -q '█' /run/qr || die "no QR code: $(cat /run/qr)"
    up phone --env WONTUN_CONFIG=/etc/wontun/tun0.conf --volume /run/etc-phone:/etc/wontun:ro --tmpfs /run --
    wait_until 10 in_netns "$(netns phone)" ping -c 1 -W 2 10.8.0.1 || die "the server does not answer the client's ping"
    took=$((($(date +%s%N) - began) / 1000000))
    # The socket by which it asks is in the volume, the one place that can be written.
    grep -q '^phone .*\(ago\|Now\)' <<<"$(docker exec server wontun peer list)" ||
        die "the client is not listed as connected: $(docker exec server wontun peer list 2>&1)"
    docker restart --time 5 server >/dev/null
    wait_until 60 in_netns "$(netns phone)" ping -c 1 -W 1 10.8.0.1 || die "the client does not find the server again"
    wait_until 30 is_healthy server || die "the server does not become healthy: $(inspect server '{{json .State.Health}}')"
    docker rm --force phone server >/dev/null
    ok "serve in an empty volume, a client by 'docker exec', the same server after a restart; $took ms from the server's" \
        "'docker run' to the client's first ping"
}

# readme_block TEXT: the commands of the README's indented block in which TEXT is.
readme_block() {
    awk -v text="$1" '
        /^    / { block = block substr($0, 5) "\n"; found = found || index($0, text); next }
        { if (found) exit; block = "" }
        END { if (found) printf "%s", block }' "$repo/README.md"
}

# The README's first commands, pasted as they are.
test_readme() {
    local began block
    block=$(readme_block 'docker run -d --name wontun ')
    [[ $(wc -l <<<"$block") == 6 ]] || die "the README has another first block than this test expects: $block"
    began=$(date +%s%N)
    (cd "$repo" && bash -euo pipefail -c "$block") >/run/readme 2>&1 || die "the README's block fails: $(cat /run/readme)"
    say "the README's block took $((($(date +%s%N) - began) / 1000000)) ms, with the binary built"
    grep -q '█' /run/readme || die "no QR code: $(cat /run/readme)"
    ! grep -q PrivateKey /run/readme || die "a terminal shows the private key as text: $(cat /run/readme)"
    docker exec wontun wontun peer show phone --file >/run/phone-file
    grep -q '^Endpoint = vpn.example.com:51820' /run/phone-file || die "the client is told another endpoint: $(cat /run/phone-file)"
    [[ $(inspect wontun '{{.HostConfig.RestartPolicy.Name}}') == unless-stopped ]] || die "it does not come back after a reboot"
    serves tablet
    docker rm --force wontun >/dev/null
    docker volume rm wontun >/dev/null
    ok "the README's first block: no warning, a QR code, and a client that reaches the world"
}

# `docker run wontun` without a word: a WireGuard server, which says that its keys are lost with the container.
test_bare() {
    docker run --detach --name bare --network "$network" --pull never --cap-drop ALL --cap-add NET_ADMIN \
        --device /dev/net/tun "$image" >/dev/null
    wait_until 20 said bare ' ready mode="wireguard"' || die "a bare container is no WireGuard server: $(docker logs bare 2>&1)"
    said bare '/etc/wontun is not on a volume' || die "no warning about the keys: $(docker logs bare 2>&1)"
    wait_until 30 is_healthy bare || die "the bare container does not become healthy: $(inspect bare '{{json .State.Health}}')"
    docker rm --force bare >/dev/null
    ok "a bare container is a WireGuard server, and warns that its keys are on no volume"
}

test_loaded_image() {
    local version tag config
    version=$(package_version)-loaded
    tag=wontun:$version
    python3 -B "$repo/scripts/vm/image.py" "$repo/target/static/wontun" "$version" >/run/image.tar
    docker load --quiet --input /run/image.tar >/dev/null
    config='{{json .Config.Entrypoint}} {{json .Config.ExposedPorts}} {{json .Config.Healthcheck.Test}} {{.Config.StopSignal}}'
    [[ $(docker image inspect --format "$config" "$tag") == "$(docker image inspect --format "$config" "$image")" ]] ||
        die "the loaded image is set up as $(docker image inspect --format "$config" "$tag"), the built one is not"
    # The tag without a version, which the README's commands take, is the loaded image's.
    [[ $(docker image inspect --format '{{.Id}}' wontun) == "$(docker image inspect --format '{{.Id}}' "$tag")" ]] ||
        die "the loaded image is $(docker image inspect --format '{{.RepoTags}}' "$tag"), without wontun:latest"
    # The engine's own builder may add a PATH.
    for tag in "$tag" "$image"; do
        grep -q '"WONTUN_COMMAND=serve"' <<<"$(docker image inspect --format '{{json .Config.Env}}' "$tag")" ||
            die "$tag has another environment: $(docker image inspect --format '{{json .Config.Env}}' "$tag")"
    done
    image=wontun up alone -- plain
    wait_until 30 is_healthy alone || die "the loaded image does not become healthy: $(inspect alone '{{json .State.Health}}')"
    docker rm --force alone >/dev/null
    ok "docker load takes an image of the layout that Nix builds, 'docker run wontun' finds it, and it is healthy"
}

is_healthy() { [[ $(inspect "$1" '{{.State.Health.Status}}') == healthy ]]; }

inside() {
    on_exit stop_started
    start_engine "$1"
    bash "$repo/scripts/docker-demo.sh" ${archive:+--image "$archive"}
    docker network create "$network" >/dev/null
    test_rights_and_stop
    test_errors
    test_two_containers
    test_inner_ipv6
    test_wireguard
    test_serve
    test_bare
    test_loaded_image
    make_visitor
    # README's commands build an image of their own.
    [[ -n $archive ]] || test_readme
    test_compose
    test_quadlet
    test_shared
    say "the image keeps its promises"
}

binary='' archive=''
if [[ ${1:-} == --inside ]]; then
    archive=$3
    inside "$2"
else
    help_if_asked "$@"
    while (($#)); do
        case "$#:$1" in
            [2-9]*:--binary) binary=$(realpath "$2") ;;
            [2-9]*:--image) archive=$(realpath "$2") ;;
            *) die "unexpected arguments: $*; see --help" ;;
        esac
        shift 2
    done
    outside "$binary"
fi
