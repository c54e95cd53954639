# shellcheck shell=bash
# Sourced by the scripts beside it; what they share is here: messages, packages, the toolchain, builds, processes
# that must end with the script, and the exchange of lines through a tunnel.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
arguments=("$@")
script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
# Debian leaves these folders out of an ordinary user's PATH, and sudo leaves out cargo's.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${HOME:-/root}/.cargo/bin

say() { printf '%s\n' "$*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Prints the script's usage and ends, when its first argument asks for that.
help_if_asked() {
    if [[ ${1:-} == -h || ${1:-} == --help ]]; then
        usage
        exit 0
    fi
}

# --- who runs what ---------------------------------------------------------------------------------------------

# Starts the script again as root when it is not, with the same arguments; the toolchain and the container engine stay
# the user's own.
become_root() {
    ((EUID != 0)) || return 0
    command -v sudo >/dev/null || die "this needs root (network namespaces, tun devices): run it as root, or install sudo"
    say "this needs root (network namespaces, tun devices): going on with sudo"
    local name keep=("PATH=$PATH" "DOCKER_CONFIG=${DOCKER_CONFIG:-$HOME/.docker}")
    for name in CARGO_HOME CARGO_TARGET_DIR RUSTUP_HOME RUSTUP_TOOLCHAIN DOCKER_HOST DOCKER_CONTEXT "${!WONTUN_@}"; do
        [[ -z ${!name:-} ]] || keep+=("$name=${!name}")
    done
    exec sudo -- env "${keep[@]}" bash "$script" "${arguments[@]}"
}

# Runs a command of the toolchain in the repository, under sudo as the user who called it: root must not leave files
# in a user's target folder or registry cache.
as_builder() {
    if ((EUID == 0)) && [[ ${SUDO_UID:-0} != 0 && $(stat -c %u "$repo") == "$SUDO_UID" ]]; then
        local home
        home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
        (cd "$repo" && runuser -u "$SUDO_USER" -- env HOME="$home" PATH="$PATH:$home/.cargo/bin" "$@")
    else
        (cd "$repo" && "$@")
    fi
}

# --- what must be installed ------------------------------------------------------------------------------------

# As `need` takes it, what is needed by two hosts that talk to each other, by an engine of our own, and by Rust: the
# crate tun-tap has a C file.
# shellcheck disable=SC2034 # used by the scripts that source this
for_two_hosts=(ip:iproute2 ss:iproute2 nsenter:util-linux nc:netcat-openbsd)
# shellcheck disable=SC2034
for_engine=(dockerd:docker.io iptables:iptables unshare:util-linux ping:iputils-ping)
for_rust=cc:gcc,libc6-dev
# Programs that change the network of hosts of the end-to-end tests.
# shellcheck disable=SC2034
for_daemons=(dbus-daemon:dbus dhclient:isc-dhcp-client dnsmasq:dnsmasq-base firewalld:firewalld ifup:ifupdown
    NetworkManager:network-manager pkcheck:polkitd tayga:tayga ufw:ufw)
# The browser of the end-to-end tests, and what moves it.
# shellcheck disable=SC2034
for_browser=(chromedriver:chromium-driver chromium:chromium)

# need COMMAND:PACKAGE[,PACKAGE]...: installs the Debian packages of the commands that are missing, or says which.
need() {
    local pair missing=() packages
    for pair in "$@"; do
        has "${pair%%:*}" || missing+=("$pair")
    done
    ((${#missing[@]})) || return 0
    mapfile -t packages < <(printf '%s\n' "${missing[@]#*:}" | tr , '\n' | sort -u)
    missing=("${missing[@]%%:*}")
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        die "missing: ${missing[*]}; install with 'apt-get install ${packages[*]}' as root on Debian or Ubuntu," \
            "elsewhere the packages that hold these commands"
    fi
    say "installing with apt: ${packages[*]}"
    apt_install "${packages[@]}"
    for pair in "${missing[@]}"; do
        has "$pair" || die "'$pair' is still missing after installing ${packages[*]}"
    done
}

has() {
    if [[ $1 == nc ]]; then
        netcat >/dev/null
    else
        command -v "$1" >/dev/null
    fi
}

# Prints where OpenBSD's netcat is: others lack -N, or want the port to listen on said another way.
netcat() {
    local name
    for name in nc.openbsd nc; do
        name=$(command -v "$name") || continue
        [[ $("$name" -h 2>&1) != *OpenBSD* ]] || {
            say "$name"
            return
        }
    done
    return 1
}

# A subshell, so that its trap is its own.
apt_install() (
    # Nothing that is installed here may start a service: docker.io would start an engine, and that changes the
    # machine's firewall. Debian's switch for that is this file; one that is there already stays.
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt=(apt-get -qq -o DPkg::Lock::Timeout=300)
    local before unit
    before=$(enabled_units)
    # A package source of the user's own that fails is not our matter: the install tells whether it was needed.
    "${apt[@]}" update </dev/null || say "apt-get update failed; trying with the lists that are there"
    "${apt[@]}" install -y --no-install-recommends "$@" </dev/null >/dev/null ||
        die "apt-get could not install $*: see its message above"
    # nor at the next boot: firewalld would close the machine, NetworkManager would take over its devices
    comm -13 <(printf '%s\n' "$before") <(enabled_units) | while read -r unit; do
        systemctl --root=/ --quiet disable "$unit" || say "cannot disable $unit, which was installed just now"
    done
)

# Prints the units that are started at boot, sorted.
enabled_units() {
    ! command -v systemctl >/dev/null ||
        systemctl --root=/ list-unit-files --state=enabled --no-legend --no-pager 2>/dev/null | awk '{ print $1 }' | sort
}

# A toolchain that is new enough.
need_rust() {
    need "$for_rust"
    local wanted have
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$repo/Cargo.toml")
    have=$(as_builder rustc --version 2>/dev/null | awk '{ print $2 }') || have=
    [[ -n $have ]] ||
        die "no Rust toolchain found: wontun needs Rust $wanted or newer; install it with https://rustup.rs" \
            "(Debian 13, Ubuntu 24.04 and newer: apt-get install rustup && rustup default stable)"
    # sort -V puts 1.88 before 1.88.0, and 1.90.0-nightly after both.
    [[ $(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1) == "$wanted" ]] ||
        die "Rust $have is too old: wontun needs $wanted or newer; 'rustup update stable' gets it" \
            "(a distribution's rustc cannot be updated that way: install https://rustup.rs beside it)"
}

# need_cargo_command NAME...: parts of a toolchain that can be left out.
need_cargo_command() {
    local name
    for name in "$@"; do
        as_builder cargo "$name" --version >/dev/null 2>&1 ||
            die "'cargo $name' does not run: 'rustup component add ${name/#fmt/rustfmt}' installs it"
    done
}

# need_python_tool PROGRAM PACKAGE VERSION HASH...: sets `tool` to the path of a program from the Python package index. It is
# installed once, into ${XDG_CACHE_HOME:-~/.cache}/wontun-test/PROGRAM. The hashes are those of the package for x86_64 and
# aarch64, which pip compares with what it has downloaded.
need_python_tool() {
    local program=$1 package=$2 version=$3 folder
    shift 3
    need python3:python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || {
        ((EUID == 0)) || die "Python's venv is missing: install it with 'apt-get install python3-venv' as root on Debian or Ubuntu"
        apt_install python3-venv
    }
    # shellcheck disable=SC2016 # expanded by the user who builds
    folder=$(as_builder sh -c 'echo "${XDG_CACHE_HOME:-$HOME/.cache}/wontun-test/$1"' sh "$program")
    tool=$folder/bin/$program
    [[ $("$tool" --version 2>/dev/null) != "$program "*"$version" ]] || return 0
    say "installing $program $version into $folder"
    as_builder rm -rf "$folder"
    as_builder python3 -m venv "$folder"
    # pip takes hashes from a file only.
    printf '%s==%s%s\n' "$package" "$version" "$(printf ' --hash=sha256:%s' "$@")" |
        as_builder "$folder/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --require-hashes --requirement /dev/stdin
}

# --- builds ----------------------------------------------------------------------------------------------------

# cargo_executable SUBCOMMAND ARGUMENT...: runs cargo and prints where it put the (last) executable, wherever the
# user's settings have that.
cargo_executable() {
    local quiet=() is_test=false
    # Progress is for a person; warnings and errors are printed either way.
    [[ -t 2 ]] || quiet=(--quiet)
    # `cargo test` also builds the program that the tests run, before them or after.
    [[ $1 != test ]] || is_test=true
    as_builder cargo "$@" --locked "${quiet[@]}" --message-format=json-render-diagnostics |
        sed -n 's/.*"profile":{[^}]*"test":'$is_test'}.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

package_version() { sed -n 's/^version *= *"\(.*\)"/\1/p' "$repo/Cargo.toml"; }

# Prints where the release is. scripts/test.sh names the one that the end-to-end tests made: cargo would build it once more,
# since the tests' crates want more of some libraries.
build_release() {
    if [[ -n ${built_for_tests:-} ]]; then
        printf '%s\n' "$built_for_tests"
    else
        cargo_executable build --release --bin wontun
    fi
}

# --- end-to-end tests --------------------------------------------------------------------------------------------

# What cargo builds the end-to-end tests with, and the wontun that they run.
features=()

end_to_end_program() { cargo_executable test --profile e2e --test e2e --no-run "${features[@]}"; }

# with_end_to_end_tests SCRIPT: builds the tests as the user who called, and runs the lines of shell in SCRIPT as root with
# the tests' program as $0: in mount and process namespaces of their own, so that an interrupted run, too, takes its
# processes and network namespaces along. Does not return.
with_end_to_end_tests() {
    local tests
    tests=$(end_to_end_program)
    mkdir -p /run/netns
    # shellcheck disable=SC2016 # the inner shell expands it
    exec unshare --mount --pid --fork --kill-child --mount-proc bash -euc '
        export TMPDIR=$(mktemp -d)
        # some tests are other users there
        chmod 755 "$TMPDIR"
        trap "rm -rf $TMPDIR" EXIT
        trap "exit 143" HUP INT TERM
        mount -t tmpfs wontun-test /run/netns
        '"$1" "$tests"
}

# --- one role on a real machine --------------------------------------------------------------------------------

usage_of_running() {
    cat <<'END'

Ctrl-C or SIGTERM stops it, SIGUSR1 prints a summary; the exit code is wontun's. As an ordinary user it gives the one
capability that wontun needs to a copy of the binary (sudo setcap), or starts it with sudo where /dev/net/tun is not
open to users.
END
}

# Builds wontun and becomes it: so signals and the exit code are its own, and nothing is left to clean up.
run_wontun() {
    need_rust
    local wontun copy fd
    wontun=$(build_release)
    ((EUID != 0)) || exec -a wontun "$wontun" "$@"

    [[ -r /dev/net/tun && -w /dev/net/tun ]] || become_root
    need sudo:sudo setcap:libcap2-bin
    # A copy, since the next build would replace the file; for this user only, and beside the binary, since /tmp is
    # often mounted so that capabilities do not count.
    copy=$(mktemp "$(dirname "$wontun")/wontun-setcap.XXXXXX")
    # shellcheck disable=SC2064 # the name is known now
    on_exit "rm -f '$copy'"
    cp "$wontun" "$copy"
    chmod 700 "$copy"
    say "giving a copy of wontun the capability CAP_NET_ADMIN with sudo setcap"
    if ! sudo "$(command -v setcap)" cap_net_admin=ep "$copy"; then
        rm "$copy"
        become_root
    fi
    # The open file outlives its name.
    exec {fd}<"$copy"
    rm "$copy"
    exec -a wontun "/proc/self/fd/$fd" "$@"
}

# --- processes -------------------------------------------------------------------------------------------------

started=()

# start LOG COMMAND...: runs a command in the background with its output in LOG; its process id is in $!.
start() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 </dev/null &
    started+=("$!")
}

# Ends what start started, politely first: within 5 seconds, then for good.
stop_started() {
    local pid
    ((${#started[@]})) || return 0
    kill -TERM "${started[@]}" 2>/dev/null || true
    for pid in "${started[@]}"; do
        wait_until 5 has_ended "$pid" || kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    started=()
}

has_ended() { ! kill -0 "$1" 2>/dev/null; }

# wait_until SECONDS COMMAND...: tries the command ten times a second, and fails when the time is over.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

# on_exit COMMAND: runs it when the script ends, also by Ctrl-C or `kill`.
on_exit() {
    # shellcheck disable=SC2064 # the command's name is known now
    trap "$1" EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# wait_ready PID LOG: waits until this wontun has said that it is ready; fails at once when it has ended.
wait_ready() {
    local pid=$1 log=$2 name
    name=$(basename "$log")
    wait_until 20 ready_or_ended "$pid" "$log" && ! has_ended "$pid" && return 0
    indent "$name" <"$log" >&2
    die "the $name did not become ready; its messages are above"
}

ready_or_ended() { grep -q ' ready ' "$2" || has_ended "$1"; }

# Puts a name before each line.
indent() { sed "s/^/    $1 | /"; }

# --- text through the tunnel -------------------------------------------------------------------------------------

in_netns() {
    local netns=$1
    shift
    nsenter --net="$netns" "$@"
}

listens_on() { [[ -n $(in_netns "$1" ss -Hltn "sport = :$2") ]]; }

# exchange SERVER_NETNS CLIENT_NETNS FOLDER [ADDRESS]: over one TCP connection through the tunnel to port 80 of the
# server's address, one line each way; prints them and fails unless both arrived.
exchange() {
    local server=$1 client=$2 folder=$3 address=${4:-10.8.0.1}
    local nc
    nc=$(netcat)
    local from_server="hello from the server, $RANDOM" from_client="hello from the client, $RANDOM"
    # -N: end of input is sent on, so each side ends when it has all of the other's text. Both are bounded in time.
    in_netns "$server" timeout 20 "$nc" -N -l "$address" 80 <<<"$from_server" >"$folder/at-server" &
    local listener=$!
    started+=("$listener")
    wait_until 5 listens_on "$server" 80 || die "nc does not listen on $address port 80 on the server"
    in_netns "$client" timeout 15 "$nc" -N "$address" 80 <<<"$from_client" >"$folder/at-client" ||
        die "the client could not reach $address port 80 through the tunnel"
    wait "$listener" || die "nc on the server ended with an error, or got no end of input"
    say "    the server sent    : $from_server"
    say "    the client received: $(<"$folder/at-client")"
    say "    the client sent    : $from_client"
    say "    the server received: $(<"$folder/at-server")"
    [[ $(<"$folder/at-client") == "$from_server" && $(<"$folder/at-server") == "$from_client" ]] ||
        die "what arrived is not what was sent"
}
