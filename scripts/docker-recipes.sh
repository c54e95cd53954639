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
