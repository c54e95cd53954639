# shellcheck shell=bash
# shellcheck disable=SC2154 # repo and image are lib.sh's and docker-test.sh's
# Sourced by docker-test.sh: the files for containers in docs/recipes, as docs/src/guide says, and a client outside.

recipes=$repo/docs/recipes
# The host as its clients find it, a client, and what the client reaches through the server alone.
outside=198.51.100.1
visitor=198.51.100.2
world=203.0.113.9

compose() {
    local command=(docker-compose)
    ! docker compose version >/dev/null 2>&1 || command=(docker compose)
    WONTUN_ENDPOINT=$outside "${command[@]}" --project-name wontun --file "$recipes/compose.yaml" "$@"
}

# A host beside the engine's: it knows the way to the engine's host and to nothing else.
make_visitor() {
    ip netns add visitor
    ip link add outside type veth peer name eth0 netns visitor
    ip address add "$outside/24" dev outside
    ip link set outside up
    ip -n visitor address add "$visitor/24" dev eth0
    ip -n visitor link set eth0 up
    ip -n visitor link set lo up
    ip address add "$world/32" dev lo
}

# serves: the container `wontun` does for a client what its recipe promises.
serves() {
    local pid want
    wait_until 20 said wontun ' ready ' || {
        docker logs wontun 2>&1 | indent wontun >&2
        die "the container did not become ready: its messages are above"
    }
    ! said wontun WARN || die "the recipe leads to warnings: $(docker logs wontun 2>&1 | grep WARN)"
    pid=$(inspect wontun '{{.State.Pid}}')
    for want in CapPrm:0000000000001000 CapBnd:0000000000001000 NoNewPrivs:1; do
        tr -d '\t' <"/proc/$pid/status" | grep -qx "$want" || die "expected $want in the container"
    done
    [[ $(inspect wontun '{{.HostConfig.ReadonlyRootfs}}') == true ]] || die "the container's root is not read-only"

    (umask 077 && docker exec wontun /bin/wontun peer add "$1" --full-tunnel >"/run/$1.told")
    # There is no name server here for the name that the file may have.
    (umask 077 && sed "s/^Endpoint = .*/Endpoint = $outside:51820/; /^DNS/d" "/run/$1.told" >"/run/$1.conf")
    ! in_netns /run/netns/visitor ping -c 1 -W 1 "$world" >/dev/null 2>&1 || die "the client reaches $world without the tunnel"
    # not by a function, so that the process is the client itself
    start "/run/$1.log" nsenter --net=/run/netns/visitor "$repo/target/static/wontun" --config "/run/$1.conf"
    local client=$!
    wait_ready "$client" "/run/$1.log"
    wait_until 20 in_netns /run/netns/visitor ping -q -c 1 -W 1 10.8.0.1 >/dev/null || {
        indent client <"/run/$1.log" >&2
        docker logs wontun 2>&1 | indent wontun >&2
        die "the server does not answer the client: their messages are above"
    }
    in_netns /run/netns/visitor ping -c 3 -i 0.2 -W 2 "$world"
    docker exec wontun /bin/wontun peer list
    [[ $(docker exec wontun /bin/wontun peer list | grep "^$1 ") != *never* ]] || die "no handshake of $1 is listed"
    kill -TERM "$client"
    wait_until 5 has_ended "$client" || die "the client does not end"
    wait_until 30 is_healthy wontun || die "it does not become healthy: $(inspect wontun '{{json .State.Health}}')"
}

test_compose() {
    docker tag "$image" wontun:latest
    compose config --quiet
    compose up -d
    serves phone
    local key
    key=$(docker exec wontun /bin/wontun show | grep 'public key')
    compose down
    compose up -d
    wait_until 20 said wontun ' ready ' || die "the container did not become ready a second time"
    [[ $(docker exec wontun /bin/wontun show | grep 'public key') == "$key" ]] || die "the key did not outlive the container"
    grep -q ^phone <<<"$(docker exec wontun /bin/wontun peer list)" || die "the client did not outlive the container"
    compose down --volumes
    ok "compose.yaml: a server, a client that reaches the world by it, and both outlive the container"
}

# Reads the [Container] of the Quadlet file into options, arguments and name of `docker run`. Podman takes the same ones.
read_quadlet() {
    local section='' line key value
    while read -r line; do
        case $line in
            '' | '#'*) continue ;;
            '['*) section=$line && continue ;;
        esac
        [[ $section == '[Container]' ]] || continue
        key=${line%%=*} value=${line#*=}
        case $key in
            Image) quadlet_image=$value ;;
            Exec) read -ra quadlet_arguments <<<"$value" ;;
            ContainerName) quadlet_options+=(--name "$value") ;;
            Environment) quadlet_options+=(--env "$value") ;;
            DropCapability) quadlet_options+=(--cap-drop "$value") ;;
            AddCapability) quadlet_options+=(--cap-add "$value") ;;
            NoNewPrivileges) quadlet_options+=(--security-opt "no-new-privileges:$value") ;;
            AddDevice) quadlet_options+=(--device "$value") ;;
            ReadOnly) quadlet_options+=("--read-only=$value") ;;
            Tmpfs) quadlet_options+=(--tmpfs "$value") ;;
            Volume) quadlet_options+=(--volume "$value") ;;
            PublishPort) quadlet_options+=(--publish "$value") ;;
            Sysctl) quadlet_options+=(--sysctl "$value") ;;
            # Docker runs such an option's command by a shell; the image's own says the same.
            HealthCmd) python3 -c 'import json, sys; assert json.loads(sys.argv[1]) == json.loads(sys.argv[2])' \
                "$value" "$(inspect "$image" '{{json .Config.Healthcheck.Test}}')" ||
                die "HealthCmd is another than the image's: $value" ;;
            HealthInterval) quadlet_options+=(--health-interval "$value") ;;
            HealthTimeout) quadlet_options+=(--health-timeout "$value") ;;
            HealthStartPeriod) quadlet_options+=(--health-start-period "$value") ;;
            HealthRetries) quadlet_options+=(--health-retries "$value") ;;
            *) die "wontun.container: there is no test for the key $key" ;;
        esac
    done <"$recipes/wontun.container"
}

test_quadlet() {
    local quadlet_image='' quadlet_arguments=() quadlet_options=()
    read_quadlet
    docker tag "$image" "$quadlet_image"
    docker run --detach --pull never "${quadlet_options[@]}" "$quadlet_image" "${quadlet_arguments[@]}" >/dev/null
    serves tablet
    grep -qx 'Endpoint = vpn.example.com:51820' /run/tablet.told || die "the client is told another endpoint"
    docker rm --force --volumes wontun >/dev/null
    docker volume rm wontun >/dev/null
    ok "wontun.container: its keys and values, as options of an engine"
}

# --- a tunnel that containers share ------------------------------------------------------------------------------

shared=/run/shared

compose_shared() {
    local command=(docker-compose)
    ! docker compose version >/dev/null 2>&1 || command=(docker compose)
    APP_IMAGE=wontun-test-app "${command[@]}" --project-name shared --file "$shared/compose.yaml" "$@"
}

# shared_id SERVICE: the container's id.
shared_id() { compose_shared ps -q "$1"; }

# write_shared: the two ends of the tunnel, and an application that downloads and prints how much it got.
write_shared() {
    local wontun=$repo/target/static/wontun
    mkdir -p "$shared/etc" "$shared/root/bin"
    cp "$recipes/compose.shared.yaml" "$shared/compose.yaml"
    (
        umask 077
        "$wontun" genkey >"$shared/server.key"
        "$wontun" genkey >"$shared/client.key"
        printf '[Interface]\nPrivateKey = %s\nAddress = 10.9.0.1/24\nListenPort = 51820\n[Peer]\nPublicKey = %s\nAllowedIPs = 10.9.0.2/32\n' \
            "$(cat "$shared/server.key")" "$("$wontun" pubkey <"$shared/client.key")" >"$shared/server.conf"
        # as in the files of providers: without the keepalive, a client that only receives is not found again
        printf '[Interface]\nPrivateKey = %s\nAddress = 10.9.0.2/24\n[Peer]\nPublicKey = %s\nAllowedIPs = 0.0.0.0/0\nEndpoint = %s:51820\nPersistentKeepalive = 25\n' \
            "$(cat "$shared/client.key")" "$("$wontun" pubkey <"$shared/server.key")" "$visitor" >"$shared/etc/wg0.conf"
    )
    cp "$(command -v busybox)" "$shared/root/bin/busybox"
    local get='busybox wget -q -O - http://10.9.0.1:8000/ | busybox wc -c; busybox sleep 600'
    tar -C "$shared/root" -c . | docker import --change "CMD [\"/bin/busybox\", \"sh\", \"-c\", \"$get\"]" - wontun-test-app >/dev/null
    cat >"$shared/web.py" <<'END'
"""Sends one file of unknown length, until the file `stop` exists, and writes its length to `sent`."""
import os, socket, sys, time
folder = sys.argv[1]
listener = socket.create_server(("10.9.0.1", 8000))
connection, _ = listener.accept()
connection.recv(65536)
connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
sent = 0
while not os.path.exists(f"{folder}/stop"):
    connection.sendall(bytes(65536))
    sent += 65536
    with open(f"{folder}/sent.new", "w") as file:
        file.write(str(sent))
    os.rename(f"{folder}/sent.new", f"{folder}/sent")
    time.sleep(0.01)
connection.shutdown(socket.SHUT_WR)
connection.recv(1)
END
}

# past_tunnel: the packets from the containers' network that are not the tunnel's own, and no neighbour discovery.
past_tunnel() { iptables -t mangle -L PREROUTING -v -x -n | awk '/wontun-past/ { print $1 }'; }

count_past_tunnel() {
    local bridge
    bridge=br-$(docker network inspect --format '{{printf "%.12s" .Id}}' shared_default)
    iptables -t mangle -I PREROUTING -i "$bridge" -m comment --comment wontun-past
    iptables -t mangle -I PREROUTING -i "$bridge" -p udp -d "$visitor" --dport 51820 -j RETURN
}

# sent_more_than BYTES: that much was accepted from the server of the download.
sent_more_than() { (($(cat "$shared/sent" 2>/dev/null || echo 0) > $1)); }

# goes_on WHAT: the tunnel is back, and the download continues.
goes_on() {
    local before began=${EPOCHREALTIME/[.,]/}
    wait_until 30 in_netns "$held" ping -q -c 1 -W 1 10.9.0.1 >/dev/null || {
        compose_shared logs wontun >&2
        die "$1: the tunnel does not come back: its messages are above"
    }
    say "$1: the tunnel answers $(((${EPOCHREALTIME/[.,]/} - began) / 1000)) ms after the command"
    # more than what buffers can take
    before=$(cat "$shared/sent")
    wait_until 60 sent_more_than "$((before + 8000000))" || die "$1: the download does not continue"
    [[ $(past_tunnel) == 0 ]] || die "$1: $(past_tunnel) packets left outside of the tunnel"
    ok "$1: the download continues, and nothing left outside of the tunnel"
}

# is_other_process CONTAINER PID: the container runs, and its first process is another one.
is_other_process() { [[ $(inspect "$1" '{{.State.Running}} {{.State.Pid}}') != @(false *|"true $2") ]]; }

test_shared() {
    local hold app before probe want
    docker tag "$image" wontun:latest
    write_shared
    start /run/shared/server.log nsenter --net=/run/netns/visitor "$repo/target/static/wontun" --config "$shared/server.conf"
    wait_ready $! /run/shared/server.log
    start /run/shared/web.log nsenter --net=/run/netns/visitor python3 "$shared/web.py" "$shared"
    compose_shared config --quiet
    # the control: without a tunnel the world is reached, and counted
    compose_shared up --no-start
    compose_shared rm --force
    count_past_tunnel
    docker run --rm --pull never --network shared_default --entrypoint /bin/busybox wontun-test-app ping -c 1 -W 2 "$world" \
        >/dev/null || die "the containers' network leads nowhere"
    (($(past_tunnel) > 0)) || die "packets outside of the tunnel are not counted"
    iptables -t mangle -Z PREROUTING

    compose_shared up -d
    hold=$(shared_id hold) app=$(shared_id app)
    held=$(netns "$hold")
    for want in CapPrm:0000000000000000 CapEff:0000000000000000 NoNewPrivs:1 Seccomp:2; do
        tr -d '\t' <"/proc/$(inspect "$hold" '{{.State.Pid}}')/status" | grep -qx "$want" || die "expected $want in hold"
    done
    # what any of the containers sends, whatever the state of the tunnel
    start /run/shared/probe.log nsenter --net="$held" ping -i 0.1 -W 1 "$world"
    probe=$!
    wait_until 20 sent_more_than 1000000 || {
        compose_shared logs >&2
        die "the download does not start: the containers' messages are above"
    }
    goes_on 'first start'
    compose_shared restart wontun
    goes_on 'restart'
    before=$(shared_id wontun)
    compose_shared up -d --no-deps --force-recreate wontun
    [[ $(shared_id wontun) != "$before" ]] || die "the tunnel's container was not replaced"
    goes_on 'upgrade'
    before=$(inspect "$(shared_id wontun)" '{{.State.Pid}}')
    kill -KILL "$before"
    wait_until 30 is_other_process "$(shared_id wontun)" "$before" || die "the engine does not start the tunnel again"
    goes_on 'kill -9'
    compose_shared logs wontun 2>&1 | grep WARN && die "the recipe leads to warnings"
    [[ $(shared_id hold) == "$hold" && $(shared_id app) == "$app" ]] || die "hold or app was replaced"
    touch "$shared/stop"
    wait_until 30 said "$app" '^[0-9]' || die "the download does not end"
    [[ $(docker logs "$app" 2>&1) == "$(cat "$shared/sent")" ]] ||
        die "the download has $(docker logs "$app" 2>&1) bytes instead of $(cat "$shared/sent")"
    ! grep -q 'bytes from' /run/shared/probe.log || die "the world was reached outside of the tunnel"
    kill -TERM "$probe"
    compose_shared down
    iptables -t mangle -F PREROUTING
    ok "compose.shared.yaml: one download of $(cat "$shared/sent") bytes survived a restart, an upgrade and a kill of the tunnel"
}
