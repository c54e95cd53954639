#!/usr/bin/env bash
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/../lib.sh"

usage() {
    cat <<'END'
Usage: scripts/release/test-packages.sh [DIR]

Tests what scripts/release.sh has made in DIR (dist): hashes; that binaries run (the other architecture's by QEMU) and
skopeo and Docker read the images; lintian; and that the .deb is installed, started, upgraded, removed and purged in clean
systems of Debian 12 and 13 under systemd, the .rpm in Debian 12 under systemd and in an empty root. The systems are
containers by systemd-nspawn without a network; debootstrap makes them once, in ${XDG_CACHE_HOME:-~/.cache}/wontun-test.
Needs root, installs packages with apt, takes about five minutes and leaves the machine's network and services alone.
END
}

help_if_asked "$@"
(($# <= 1)) || die "unexpected arguments: $*; see --help"
become_root
dist=$(realpath "${1:-$repo/dist}")
[[ -e $dist/SHA256SUMS ]] || die "$dist has no SHA256SUMS: make a release first, scripts/release.sh $(package_version)"
need debootstrap:debootstrap systemd-nspawn:systemd-container lintian:lintian rpm:rpm rpmbuild:rpm cpio:cpio \
    "${for_engine[@]}" docker:docker-cli ip:iproute2 skopeo:skopeo readelf:binutils nsenter:util-linux dpkg-deb:dpkg python3:python3
version=$(sed -n 's/.*  wontun-\(.*\)\.buildinfo$/\1/p' "$dist/SHA256SUMS")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wontun-test
case $(uname -m) in
    x86_64) native=x86_64 debian=amd64 other=aarch64 ;;
    aarch64) native=aarch64 debian=arm64 other=x86_64 ;;
    *) die "there are packages for x86_64 and aarch64, and this is $(uname -m)" ;;
esac
need "qemu-$other-static:qemu-user-static"
work=$(mktemp -d)
container=
on_exit clean_up

clean_up() {
    [[ -z $container ]] || kill -KILL "$container" 2>/dev/null || true
    # Control groups belong to no namespace; the last processes in them need a moment to go.
    wait_until 5 no_cgroups || say "some empty control groups named wontun-test-$$ could not be removed"
    rm -rf "$work"
}

no_cgroups() {
    find /sys/fs/cgroup -depth -type d -path "*/wontun-test-$$*" -exec rmdir {} + 2>/dev/null || true
    [[ -z $(find /sys/fs/cgroup -type d -name "wontun-test-$$*" 2>/dev/null) ]]
}

# --- files that are not installed ----------------------------------------------------------------------------------

say "hashes"
(cd "$dist" && sha256sum --check --quiet --strict SHA256SUMS) || die "a file differs from SHA256SUMS: see above"
unlisted=$(comm -13 <(awk '{ print $2 }' "$dist/SHA256SUMS" | sort) <(find "$dist" -mindepth 1 -printf '%P\n' | sort) | grep -v '^SHA256SUMS' || true)
[[ -z $unlisted ]] || die "SHA256SUMS does not list $unlisted"
if [[ -e $dist/SHA256SUMS.sig ]]; then
    ssh-keygen -q -Y check-novalidate -n file -s "$dist/SHA256SUMS.sig" <"$dist/SHA256SUMS" || die "the signature is wrong"
fi

say "binaries"
for arch in "$native" "$other"; do
    run=()
    [[ $arch == "$native" ]] || run=("qemu-$arch-static")
    said=$("${run[@]}" "$dist/wontun-$version-linux-$arch" --version | head -n 1)
    [[ $said == "wontun $version"* ]] || die "the binary for $arch says '$said' as its version"
    # the public key of 0, 1, … 31: more than printing a text
    key=$("${run[@]}" "$dist/wontun-$version-linux-$arch" pubkey <<<'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=')
    [[ $key == j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8= ]] || die "the binary for $arch computes a wrong public key, '$key'"
done

say "images"
for reference in "docker-archive:$dist/wontun-$version-image-amd64.tar" "docker-archive:$dist/wontun-$version-image-arm64.tar" \
    "oci-archive:$dist/wontun-$version-image-amd64.tar" "oci-archive:$dist/wontun-$version-image-arm64.tar"; do
    architecture=${reference##*-}
    rm -rf "$work/image"
    skopeo --override-arch "${architecture%.tar}" copy --quiet "$reference" "dir:$work/image"
    python3 -B "$repo/scripts/release/check_image.py" "$work/image" "$version" "${architecture%.tar}" \
        "$dist/wontun-$version-linux-$([[ $architecture == amd64.tar ]] && echo x86_64 || echo aarch64)"
done
for architecture in amd64 arm64; do
    rm -rf "$work/image"
    skopeo --override-arch "$architecture" copy --quiet "oci-archive:$dist/wontun-$version-image.tar" "dir:$work/image"
    python3 -B "$repo/scripts/release/check_image.py" "$work/image" "$version" "$architecture" \
        "$dist/wontun-$version-linux-$([[ $architecture == amd64 ]] && echo x86_64 || echo aarch64)"
done

# An engine of its own in namespaces of its own, which end with it.
# shellcheck disable=SC2016 # the inner shell expands it
engine='
    ip link set lo up
    mount -t tmpfs wontun-test /run
    [[ ! -d /etc/docker ]] || mount -t tmpfs wontun-test /etc/docker
    mkdir /run/config
    echo "{}" >/run/config/daemon.json
    export DOCKER_HOST=unix:///run/docker.sock DOCKER_CONFIG=/run/config TMPDIR=/run
    unset DOCKER_CONTEXT
    dockerd --config-file /run/config/daemon.json --host "$DOCKER_HOST" --data-root /run/data --exec-root /run/docker \
        --pidfile /run/docker.pid --storage-driver vfs --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$3" \
        >/run/log 2>&1 </dev/null &
    for _ in {1..300}; do
        ! docker version >/dev/null 2>&1 || break
        sleep 0.1
    done
    docker load --quiet --input "$1" || { cat /run/log >&2; exit 1; }
    docker run --rm --network none "wontun:$2" --version'

say "docker load"
said=$(unshare --net --mount --pid --fork --kill-child --mount-proc bash -euc "$engine" engine \
    "$dist/wontun-$version-image-$debian.tar" "$version" "wontun-test-$$") || die "docker does not load or run the image: see above"
[[ $said == *"Loaded image: wontun:$version"*"wontun $version"* ]] || die "docker load and run say '$said'"

say "lintian"
for deb in "$dist"/*.deb; do
    lintian --allow-root --fail-on error,warning "$deb" || die "lintian has found errors or warnings in $deb: see above"
done

# --- later versions, to upgrade to -----------------------------------------------------------------------------------

deb=wontun_$version-1_$debian.deb
rpm=wontun-$version-1.$native.rpm
mkdir "$work/packages"
cp "$dist/$deb" "$dist/$rpm" "$work/packages/"
dpkg-deb --raw-extract "$dist/$deb" "$work/deb"
sed -i 's/^Version: .*/&+test/' "$work/deb/DEBIAN/control"
dpkg-deb --root-owner-group -Znone --build "$work/deb" "$work/packages/later.deb" >/dev/null
mkdir "$work/rpm"
rpm2cpio "$dist/$rpm" | (cd "$work/rpm" && cpio --extract --make-directories --quiet)
SOURCE_DATE_EPOCH=0 WONTUN_MAINTAINER='test <test@example.com>' \
    bash "$repo/scripts/release/rpm.sh" "$repo" "$work/rpm" "$version.1" "$native" "$work/packages/later.rpm"

# --- in an empty root ------------------------------------------------------------------------------------------------

say "$rpm in an empty root"
empty=$work/empty
mkdir "$empty"
options=(--force-debian --root "$empty" --nodeps --noscripts)
rpm "${options[@]}" --install "$dist/$rpm"
rpm --force-debian --root "$empty" --verify --nodeps --noscripts wontun || die "files of $rpm differ from its list"
"$empty/usr/bin/wontun" --version >/dev/null
rpm "${options[@]}" --erase wontun
left=$(find "$empty" -mindepth 1 ! -type d ! -path '*/rpm/*' ! -path '*/.rpmdb/*')
[[ -z $left ]] || die "left by $rpm: $left"

# --- under systemd -----------------------------------------------------------------------------------------------------

# make_system SUITE PACKAGE...: sets `root` to a clean system.
make_system() {
    local suite=$1 packages
    shift
    packages=$(IFS=,; echo "systemd,systemd-sysv,dbus,procps,iproute2,$*")
    root=$cache/root-$suite
    [[ ! -e $root/.complete ]] || return 0
    rm -rf "$root"
    mkdir -p "$cache"
    say "    a root by debootstrap ($suite): some minutes, the first time only"
    debootstrap --variant=minbase --include="${packages%,}" "$suite" "$root" >"$work/log" 2>&1 || {
        tail -n 20 "$work/log" >&2
        die "debootstrap could not make a Debian $suite: its last lines are above"
    }
    touch "$root/.complete"
}

# Boots in namespaces of its own, with the unified control groups that systemd 257 wants, below one group.
# shellcheck disable=SC2016 # the inner shell expands it
boot='
    mount --make-rprivate /
    umount --recursive /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir "/sys/fs/cgroup/$4"
    echo $$ >"/sys/fs/cgroup/$4/cgroup.procs"
    exec systemd-nspawn --quiet --directory="$1" --boot --register=no --keep-unit --machine=wontun-test \
        --private-network --bind=/dev/net/tun --bind-ro="$2:/packages" --bind-ro="$3:/guest-test.sh" </dev/null'

# in_system ROOT KIND PACKAGE LATER: boots it, and runs guest-test.sh there.
in_system() {
    local root=$work/system leader code=0
    # A copy and no overlay, where systemd 257 could not map the owners of folders.
    rm -rf "$root"
    cp -a "$1" "$root"
    shift
    unshare --mount --pid --fork --kill-child --mount-proc bash -euc "$boot" boot "$root" "$work/packages" \
        "$repo/scripts/release/guest-test.sh" "wontun-test-$$-$SECONDS" >"$work/console" 2>&1 &
    container=$!
    if ! wait_until 60 is_booted; then
        tail -n 30 "$work/console" >&2
        die "the container did not boot: its last lines are above"
    fi
    leader=$(leader_of "$container")
    nsenter --target "$leader" --mount --uts --ipc --net --pid env --chdir=/ -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root bash /guest-test.sh "$@" || code=$?
    # its other processes end with it
    kill -KILL "$container" 2>/dev/null || true
    wait "$container" 2>/dev/null || true
    container=
    ((code == 0)) || die "the test of $2 failed: see above"
}

# leader_of PID: prints the process that is the container's first, by this machine's numbers.
leader_of() {
    local pid=$1 child children=()
    # any of them may end at any time
    { read -ra children <"/proc/$pid/task/$pid/children"; } 2>/dev/null || true
    for child in "${children[@]}"; do
        if [[ $(cat "/proc/$child/comm" 2>/dev/null) == systemd ]]; then
            say "$child"
            return
        fi
        leader_of "$child" && return
    done
    return 1
}

is_booted() {
    local leader
    leader=$(leader_of "$container") || return 1
    nsenter --target "$leader" --mount --pid env --chdir=/ -i PATH=/usr/bin:/bin \
        systemctl --quiet is-active multi-user.target 2>/dev/null
}

# With nft and without, since the packages look for kill switches in both ways.
say "$deb in Debian 12"
make_system bookworm nftables rpm
in_system "$root" deb "/packages/$deb" /packages/later.deb
say "$deb in Debian 13"
make_system trixie
in_system "$root" deb "/packages/$deb" /packages/later.deb
say "$rpm in Debian 12"
make_system bookworm nftables rpm
in_system "$root" rpm "/packages/$rpm" /packages/later.rpm
say "all tests of the packages passed in $SECONDS s"
