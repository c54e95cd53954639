#!/bin/bash
# Runs as root in a container with systemd, which scripts/release/test-packages.sh has booted: installs, starts, upgrades,
# removes and purges the package, and compares files. Arguments: deb or rpm, the package, one of a later version.
set -euo pipefail
kind=$1 package=$2 later=$3

say() { printf '    %s\n' "$*"; }

fail() {
    echo "guest-test.sh: $*" >&2
    exit 1
}

# expect TEXT COMMAND...: fails with the text unless the command succeeds.
expect() {
    local text=$1
    shift
    "$@" || fail "$text"
}

# refuse TEXT COMMAND...: fails with the text if the command succeeds.
refuse() {
    local text=$1
    shift
    ! "$@" || fail "$text"
}

install_package() {
    if [[ $kind == deb ]]; then
        apt-get install -qq -y --allow-downgrades "$1" >/tmp/log 2>&1 || { cat /tmp/log >&2; fail "apt-get cannot install $1"; }
    else
        # Debian's dpkg has what the package needs, and rpm does not know.
        rpm --force-debian --nodeps -U --oldpackage "$1" 2>&1 || fail "rpm cannot install $1"
    fi
}

remove_package() {
    if [[ $kind == deb ]]; then apt-get remove -qq -y wontun; else rpm --force-debian --nodeps -e wontun; fi
}

# Every file and folder of the system but those that dpkg, apt, rpm and systemd write for themselves.
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run/systemd -o -path /tmp -o -path /var/tmp \
        -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log -o -path /var/lib/rpm \
        -o -path /var/lib/systemd -o -path /root/.rpmdb -o -path /packages -o -path /usr/share/rpm \) -prune -o -print | sort
    # another file system
    find /run -xdev -name '*wontun*' | sort
}

# state: hashes of all that a user would miss.
state() {
    find /etc/wontun /var/lib/wontun/ -type f ! -name '*.state' -exec sha256sum {} + | sort
    find /etc/systemd/system -name 'wontun*' | sort
}

main_pid() { systemctl show --property=MainPID --value wontun@tun0; }

# wait_for COMMAND...: tries it for 10 seconds.
wait_for() {
    local end=$((SECONDS + 10))
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

files >/tmp/before

# --- from nothing to a client ------------------------------------------------------------------------------------

began=$(date +%s%N)
install_package "$package"
installed=$(date +%s%N)
install -m 0644 /usr/share/wontun/60-wontun.conf /etc/sysctl.d/
# of the others a container may set only some
sysctl --quiet --load /etc/sysctl.d/60-wontun.conf
printf 'COMMAND=serve\nWONTUN_ENDPOINT=vpn.example.com\n' >/etc/wontun/tun0.env
systemctl enable --quiet --now wontun@tun0
wontun peer add phone --qr >/tmp/phone.conf 2>/tmp/phone.qr || { cat /tmp/phone.qr >&2; fail "peer add fails"; }
ended=$(date +%s%N)
say "installed after $(((installed - began) / 1000000)) ms, a server with a client after $(((ended - began) / 1000000)) ms"
expect "the server is not active" systemctl --quiet is-active wontun@tun0
expect "wontun show does not find the server" eval 'wontun show tun0 | grep -q "listening port: 51820"'
expect "there is no tun0" ip link show tun0 >/dev/null
[[ $(stat -c %U "/proc/$(main_pid)") != root ]] || fail "the service runs as root"
grep -q "^Endpoint *= *vpn.example.com:51820" /tmp/phone.conf || fail "the client's configuration has no endpoint"
before=$(state)
[[ $before == *wontun/tun0.conf* && $before == *multi-user.target.wants/wontun@tun0.service* ]] ||
    fail "the server's file or its link is not where it is expected: $before"

# --- upgrade -----------------------------------------------------------------------------------------------------

pid=$(main_pid)
install_package "$later"
expect "the server is not active after the upgrade" wait_for systemctl --quiet is-active wontun@tun0
[[ $(main_pid) != "$pid" ]] || fail "the server still runs the old version"
[[ $(state) == "$before" ]] || fail "the upgrade changed a configuration: $(diff <(echo "$before") <(state))"
wontun peer list | grep -q phone || fail "the client is lost after the upgrade"
systemctl stop wontun@tun0
install_package "$package"
refuse "a tunnel that was stopped runs after a change of version" systemctl --quiet is-active wontun@tun0
say "an upgrade restarts the server, keeps its files, and starts nothing that was stopped"

# --- a kill switch is not left without the program ---------------------------------------------------------------

cat >/etc/wontun/lock0.conf <<END
[Interface]
PrivateKey = $(wontun genkey)
Address = 10.9.0.2/32
[Peer]
PublicKey = $(wontun genkey | wontun pubkey)
Endpoint = 192.0.2.1:51820
AllowedIPs = 0.0.0.0/0
END
chmod 600 /etc/wontun/lock0.conf
key=$(sed -n 's/^PrivateKey = //p' /etc/wontun/lock0.conf)
# the service is not root: the key comes as a credential
printf '%s\n' "$key" >/etc/wontun/lock0.key
chmod 600 /etc/wontun/lock0.key
sed -i 's|^PrivateKey = .*|PrivateKeyFile = /run/credentials/wontun@lock0.service/private-key|' /etc/wontun/lock0.conf
chmod 644 /etc/wontun/lock0.conf
mkdir -p /etc/systemd/system/wontun@lock0.service.d
printf '[Service]\nLoadCredential=private-key:/etc/wontun/lock0.key\n' >/etc/systemd/system/wontun@lock0.service.d/key.conf
printf 'WONTUN_CONFIG=/etc/wontun/lock0.conf\nWONTUN_KILL_SWITCH=keep\n' >/etc/wontun/lock0.env
systemctl daemon-reload
systemctl start wontun@lock0 || { journalctl -u wontun@lock0 --no-pager | tail -n 20 >&2; fail "the client does not start"; }
refuse "removed while a kill switch was engaged" remove_package >/tmp/log 2>&1
grep -q 'wontun kill-switch off lock0' /tmp/log || { cat /tmp/log >&2; fail "the refusal does not say what to do"; }
expect "the program is gone" test -x /usr/bin/wontun
expect "the client ended by the refused removal" systemctl --quiet is-active wontun@lock0
wontun kill-switch off lock0 >/dev/null
systemctl stop wontun@lock0
say "no removal while a kill switch is engaged"

# --- removal, and what it leaves -----------------------------------------------------------------------------------

systemctl start wontun@tun0
before=$(state)
remove_package >/tmp/log 2>&1 || { cat /tmp/log >&2; fail "the package cannot be removed"; }
refuse "the server runs after the removal" systemctl --quiet is-active wontun@tun0
refuse "tun0 is there after the removal" ip link show tun0 >/dev/null 2>&1
! pgrep -a wontun || fail "processes are left: see above"
[[ $(state) == "$before" ]] || fail "the removal changed a configuration: $(diff <(echo "$before") <(state))"
files | comm -13 /tmp/before - >/tmp/left
while read -r path; do
    case $path in
        /etc/wontun* | /var/lib/wontun | /var/lib/private* | /etc/sysctl.d/60-wontun.conf) ;;
        /etc/systemd/system/*wontun@*) ;;
        *) fail "left after the removal: $path" ;;
    esac
done </tmp/left

install_package "$package"
systemctl start wontun@tun0
wontun peer list | grep -q phone || fail "the client is lost after removal and installation"
say "a removal ends the tunnels and leaves the configuration, which the next installation uses"

# --- purge ---------------------------------------------------------------------------------------------------------

rm -r /etc/sysctl.d/60-wontun.conf /etc/systemd/system/wontun@lock0.service.d
if [[ $kind == deb ]]; then
    apt-get purge -qq -y wontun >/tmp/log 2>&1 || { cat /tmp/log >&2; fail "the package cannot be purged"; }
    expected=$(printf '%s\n' /etc/wontun /etc/wontun/{lock0.conf,lock0.env,lock0.key,tun0.env} /var/lib/private)
    left=$(files | comm -13 /tmp/before -)
    [[ $left == "$expected" || $left == "${expected%$'\n'/var/lib/private}" ]] ||
        fail "left after the purge: $(diff <(echo "$expected") <(echo "$left"))"
    say "a purge leaves what the administrator wrote into /etc/wontun, and nothing else"
    rm -r /etc/wontun
    install_package "$package"
    apt-get purge -qq -y wontun >/tmp/log 2>&1 || { cat /tmp/log >&2; fail "the package cannot be purged"; }
    [[ ! -e /etc/wontun ]] || fail "an empty /etc/wontun is left after a purge"
else
    remove_package
    systemctl disable --quiet wontun@tun0 2>/dev/null || rm -f /etc/systemd/system/multi-user.target.wants/wontun@tun0.service
    rm -r /etc/wontun
    install_package "$package"
    remove_package
    [[ ! -e /etc/wontun ]] || fail "an empty /etc/wontun is left after the removal"
    left=$(files | comm -13 /tmp/before - | grep -v -E '^/var/lib/(private|wontun)' || true)
    [[ -z $left ]] || fail "left: $left"
fi
