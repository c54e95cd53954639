#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"

usage() {
    cat <<'END'
Usage: scripts/docker-demo.sh [--image FILE]

The server in a container, the client on this machine: builds the image from the Dockerfile, starts the server on
the user-defined network wontun-test with no right but CAP_NET_ADMIN and a read-only root, starts a client here, and
sends a line of text each way over TCP through tun0.
Needs root (uses sudo otherwise), Rust, and Docker as your docker command finds it: an engine on this machine, not a
rootless one. Nothing is pulled. While it runs, this machine has a tun0 with 10.8.0.3/24. The image stays.
--image loads the image of this archive, such as Nix builds, instead of building one.
END
}

help_if_asked "$@"
archive=
case "$#:${1:-}" in
    0:) ;;
    2:--image) archive=$(realpath "$2") ;;
    *) die "unexpected arguments: $*; see --help" ;;
esac
become_root
command -v docker >/dev/null ||
    die "there is no docker command: install Docker (Debian and Ubuntu: apt-get install docker.io)"
engine=$(docker info --format '{{.OperatingSystem}}, {{.SecurityOptions}}') ||
    die "the Docker engine does not answer: see docker's message above"
[[ $engine != *rootless* ]] ||
    die "this engine is rootless: its containers have a network that this machine cannot reach; use a rootful one"
need "${for_two_hosts[@]}" "$for_rust"
[[ -c /dev/net/tun ]] || die "there is no /dev/net/tun: load the kernel's module with 'modprobe tun'"

network='wontun-test'
container=wontun-demo-$$
image=wontun:$(package_version)
made_network=
folder=$(mktemp -d)
# The demo chooses wontun's options, not the environment.
unset "${!WONTUN_@}"

clean_up() {
    stop_started
    docker rm --force "$container" >/dev/null 2>&1 || true
    [[ -z $made_network ]] || docker network rm "$network" >/dev/null || true
    rm -rf "$folder"
}
on_exit clean_up

say "building the static binary and the image $image"
# scripts/docker-test.sh has put the binary there already, perhaps one that was given to it.
[[ -n ${static_is_built:-} ]] || bash "$repo/scripts/build-static.sh"
if [[ -n $archive ]]; then
    docker load --quiet --input "$archive" >/dev/null
    docker image inspect "$image" >/dev/null || die "$archive has no image $image"
else
    docker build --quiet --tag "$image" --build-arg "VERSION=$(package_version)" "$repo" >"$folder/build" 2>&1 || {
        cat "$folder/build" >&2
        die "docker build failed: see above"
    }
fi
say "the image has $(docker image inspect --format '{{.Size}}' "$image") bytes"

if ! docker network inspect "$network" >/dev/null 2>&1; then
    say "making the network $network"
    docker network create "$network" >/dev/null
    made_network=yes
fi

say "starting the server in the container $container"
docker run --detach --pull never --name "$container" --network "$network" --health-interval 1s \
    --cap-drop ALL --cap-add NET_ADMIN --device /dev/net/tun --read-only "$image" plain >/dev/null
is_healthy() { [[ $(docker inspect --format '{{.State.Health.Status}}' "$container") == healthy ]]; }
wait_until 30 is_healthy || {
    docker logs "$container" 2>&1 | indent server >&2
    docker inspect --format '{{json .State}}' "$container" >&2
    die "the container did not become healthy: its messages and state are above"
}
say "the container is healthy"

pid=$(docker inspect --format '{{.State.Pid}}' "$container")
address=$(docker inspect --format "{{(index .NetworkSettings.Networks \"$network\").IPAddress}}" "$container")
[[ $(cat "/proc/$pid/comm" 2>/dev/null) == wontun ]] ||
    die "the container's processes are not on this machine: the engine ($engine) must run here, not in a virtual machine"

say "starting the client on this machine:  wontun plain --peer $address:19988"
start "$folder/client" "$repo/target/static/wontun" plain --peer "$address:19988"
wait_ready $! "$folder/client"

# The image has no nc and needs none: a process of this machine can enter the container's network alone.
say "TCP to 10.8.0.1 port 80 through tun0, with nc in the container's network and on this machine:"
exchange "/proc/$pid/ns/net" /proc/self/ns/net "$folder"

stop_started
docker stop "$container" >/dev/null
say "what the two said:"
docker logs "$container" 2>&1 | indent server
indent client <"$folder/client"
say "it works: both lines arrived"
