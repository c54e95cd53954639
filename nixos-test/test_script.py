"""A client and a server on a virtual LAN, each with the service wontun@tun0: does the appliance work as promised? The server
has a second one, wontun@vpn, a WireGuard server; a "web server" beyond it is a network namespace of the same machine.

Two drivers run this: the NixOS test driver (nixos-test/default.nix) and scripts/vm-test.sh on Debian machines. Both give the
names start_all, client, server and subtest. Commands run under `set -euo pipefail`: a pipe's reader must read to the end.
"""

import base64
import json
import re

UNIT = "wontun@tun0.service"
VPN = "wontun@vpn.service"
# Where systemd has that one's file, and what root calls that.
VPN_FILE = "/var/lib/wontun/vpn.conf"
VPN_PEER = "wontun --tun vpn peer --dir /var/lib/wontun"
# Of the key that both drivers put into /etc/wontun-test/key.
VPN_PUBLIC_KEY = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
VPN_SERVER = ("10.77.0.1", "fd77::1")
WEB = ("203.0.113.2", "2001:db8:77::2")
# Addresses inside the tunnel.
SERVER = "10.8.0.1"
CLIENT = "10.8.0.3"
PORT = 8080
SIZE = 1024 * 1024
# Seconds, for machines whose processor is emulated on a busy host.
PATIENCE = 120

CAP_NET_ADMIN = 1 << 12


def unit_property(machine, name, unit=UNIT):
    """What systemd says of the service."""
    return machine.succeed(f"systemctl show --property={name} --value {unit}").strip()


def main_pid(machine, unit=UNIT):
    """The service's process id."""
    return int(unit_property(machine, "MainPID", unit))


def tunnel_pid(machine, unit=UNIT):
    """The process id of the service's tunnel process."""
    group = unit_property(machine, "ControlGroup", unit)
    members = machine.succeed(f"cat /sys/fs/cgroup{group}/cgroup.procs").split()
    tunnels = [pid for pid in members if machine.succeed(f"cat /proc/{pid}/comm").strip() == "wontun-tunnel"]
    assert len(tunnels) == 1, members
    return int(tunnels[0])


def wait_for_status(machine, unit, pattern):
    """Waits until the service says this of itself."""
    show = f"systemctl show --property=StatusText --value {unit}"
    machine.wait_until_succeeds(f"{show} | grep -E '{pattern}'", timeout=PATIENCE)


def wait_for_restart(machine, unit, old):
    """Waits until the service has another process."""
    machine.wait_until_succeeds(
        f"pid=$(systemctl show --property=MainPID --value {unit}); test $pid != 0 && test $pid != {old}",
        timeout=PATIENCE,
    )


def write_secret(machine, path, text):
    """A file that only root can read."""
    encoded = base64.b64encode(text.encode()).decode()
    machine.succeed(f"umask 077; mkdir -p {path.rpartition('/')[0]}; echo {encoded} | base64 -d >{path}")


def status_blocks(machine, pid):
    """/proc/PID/status of each thread."""
    text = machine.succeed(f"cat /proc/{pid}/task/*/status")
    threads = ["Name:" + block for block in text.split("Name:")[1:]]
    return [dict(line.split(":", 1) for line in block.splitlines()) for block in threads]


def assert_capabilities(thread, **expected):
    """Whether a thread's sets are exactly these."""
    for name, value in expected.items():
        found = int(thread[name], 16)
        assert found == value, f"{thread['Name'].strip()}: {name} is {found:#x}, not {value:#x}"


def journal(machine, *matches):
    """The service's own log entries, oldest first."""
    wanted = " ".join(["SYSLOG_IDENTIFIER=wontun", *matches])
    output = machine.succeed(f"journalctl --quiet --output=json --unit={UNIT} {wanted}")
    return [json.loads(line) for line in output.splitlines()]


def serve(machine, address):
    """Makes a payload, and answers every connection to the address with it, as HTTP; gives the payload's checksum."""
    machine.succeed(
        f"head -c {SIZE} /dev/urandom >/tmp/payload",
        f"printf 'HTTP/1.0 200 OK\\r\\nContent-Length: {SIZE}\\r\\n\\r\\n' >/tmp/head",
        "cat /tmp/head /tmp/payload >/tmp/answer",
        'systemd-run --quiet --unit=test-answers --setenv=PATH="$PATH" "$(command -v bash)" -c '
        f"'while true; do nc -N -w 10 -l {address} {PORT} </tmp/answer >/tmp/request || sleep 0.2; done'",
    )
    return checksum(machine, "/tmp/payload")


def checksum(machine, path):
    """The SHA-256 of a file."""
    return machine.succeed(f"sha256sum {path}").split()[0]


def fetch_command(address, seconds, device="tun0"):
    """Fetches the payload at the address, through the device and no other way."""
    return (
        f"curl --fail --silent --show-error --max-time {seconds} --interface {device} --output /tmp/received "
        f"http://{address}:{PORT}/"
    )


def fetch(machine, address, expected, device="tun0"):
    """Fetches as soon as that works, and compares."""
    machine.succeed("rm -f /tmp/received")
    machine.wait_until_succeeds(fetch_command(address, 60, device), timeout=PATIENCE)
    found = checksum(machine, "/tmp/received")
    assert found == expected, f"the payload changed on its way from {address}: {found}, not {expected}"


def lan_card(machine, other):
    """The network card that leads to the other machine."""
    echo = machine.succeed(f"ping -4 -n -c 1 {other}")
    found = re.search(r"\(([0-9.]+)\)", echo)
    assert found is not None, echo
    return json.loads(machine.succeed(f"ip -json route get {found[1]}"))[0]["dev"]


def counters(machine, card):
    """Bytes of the card and of tun0, and datagrams of UDP over IPv4 and IPv6."""
    names = ["lan_rx", "lan_tx", "tun_rx", "tun_tx"]
    files = [f"/sys/class/net/{device}/statistics/{way}_bytes" for device in (card, "tun0") for way in ("rx", "tx")]
    lines = machine.succeed(f"cat {' '.join(files)} /proc/net/snmp /proc/net/snmp6").splitlines()
    counted = dict(zip(names, map(int, lines)))
    udp = dict(zip(*[line.split()[1:] for line in lines if line.startswith("Udp:")]))
    udp6 = dict(line.split() for line in lines if line.startswith("Udp6"))
    for name in ("InDatagrams", "OutDatagrams"):
        counted[name] = int(udp[name]) + int(udp6["Udp6" + name])
    return counted


def assert_grew(before, after, **least):
    """Whether each counter grew by at least so much."""
    for name, value in least.items():
        grew = after[name] - before[name]
        assert grew >= value, f"{name} grew by {grew}, not by {value} or more"


start_all()

with subtest("both services run"):
    for machine in (server, client):
        machine.wait_for_unit(UNIT)
        machine.wait_until_succeeds("ip -4 address show dev tun0 | grep 'inet 10.8.0.'", timeout=PATIENCE)
    client.wait_until_succeeds(f"ping -c 1 -W 2 {SERVER}", timeout=PATIENCE)
    server.succeed(f"ping -c 1 -W 5 {CLIENT}")
    for machine in (server, client):
        pid = main_pid(machine)
        user = status_blocks(machine, pid)[0]["Uid"].split()[0]
        health = machine.succeed(
            f"setpriv --reuid={user} --regid={user} --clear-groups $(readlink /proc/{pid}/exe) health --tun tun0"
        )
        assert health.startswith("ok"), health

with subtest("TCP through tun0 in both directions, a payload's checksum"):
    server_sum = serve(server, SERVER)
    client_sum = serve(client, CLIENT)
    server.wait_for_open_port(PORT, SERVER)
    client.wait_for_open_port(PORT, CLIENT)
    fetch(client, SERVER, server_sum)
    fetch(server, CLIENT, client_sum)

with subtest("the packets cross the LAN as UDP"):
    cards = {"server": lan_card(server, "client"), "client": lan_card(client, "server")}
    assert "tun0" not in cards.values(), cards
    server_before, client_before = counters(server, cards["server"]), counters(client, cards["client"])
    fetch(client, SERVER, server_sum)
    server_after, client_after = counters(server, cards["server"]), counters(client, cards["client"])
    # However many packets a datagram may come to hold one day, it has at most 65535 bytes.
    datagrams = SIZE // 65535
    assert_grew(server_before, server_after, lan_tx=SIZE, tun_tx=SIZE, OutDatagrams=datagrams)
    assert_grew(client_before, client_after, lan_rx=SIZE, tun_rx=SIZE, InDatagrams=datagrams)
    # And wontun itself says that it carried them.
    client.succeed(f"kill -USR1 {main_pid(client)}")
    summaries = f"journalctl --quiet --output=cat --unit={UNIT} MESSAGE=summary"
    client.wait_until_succeeds(f'test -n "$({summaries})"', timeout=PATIENCE)
    summary = journal(client, "MESSAGE=summary")[-1]
    assert int(summary["WONTUN_RX_BYTES"]) >= 2 * SIZE, summary

with subtest("CAP_NET_ADMIN and nothing else"):
    for machine in (server, client):
        pid = main_pid(machine)
        for thread in status_blocks(machine, pid):
            assert_capabilities(
                thread,
                CapInh=0,
                CapPrm=CAP_NET_ADMIN,
                CapEff=CAP_NET_ADMIN,
                CapBnd=CAP_NET_ADMIN,
                CapAmb=0,
            )
            assert thread["NoNewPrivs"].strip() == "1", thread
            assert thread["Seccomp"].strip() == "2", thread
            assert "0" not in thread["Uid"].split(), thread
        group = unit_property(machine, "ControlGroup")
        everyone = machine.succeed(f"cat /sys/fs/cgroup{group}/cgroup.procs").split()
        assert str(pid) in everyone, everyone
        # The other processes have none.
        for member in everyone:
            if member != str(pid):
                for thread in status_blocks(machine, member):
                    assert_capabilities(thread, CapInh=0, CapPrm=0, CapEff=0, CapAmb=0)

with subtest("the journal has fields"):
    for machine, role in ((server, "server"), (client, "client")):
        ready = journal(machine, "MESSAGE=ready", f"_PID={tunnel_pid(machine)}")
        assert len(ready) == 1, ready
        for field, value in {
            "PRIORITY": "6",
            "SYSLOG_IDENTIFIER": "wontun",
            "WONTUN_ROLE": role,
            "WONTUN_TUN": "tun0",
            "_SYSTEMD_UNIT": UNIT,
        }.items():
            assert ready[0].get(field) == value, f"{field} is {ready[0].get(field)}, not {value}: {ready[0]}"
        warnings = journal(machine, "PRIORITY=4")
        assert any("plain mode is not encrypted" in entry["MESSAGE"] for entry in warnings), warnings
        assert not journal(machine, "PRIORITY=3")

with subtest("without the server's service no TCP; with it again TCP"):
    client_pid = main_pid(client)
    server.succeed(f"systemctl stop {UNIT}")
    assert unit_property(server, "Result") == "success"
    assert unit_property(server, "ExecMainStatus") == "0"
    server.fail("ip link show dev tun0")
    client.fail(fetch_command(SERVER, 5))
    server.succeed(f"systemctl start {UNIT}")
    fetch(client, SERVER, server_sum)
    fetch(server, CLIENT, client_sum)
    assert main_pid(client) == client_pid, "the client did not live through it"

with subtest("without the client's service no TCP; with it again TCP"):
    server_pid = main_pid(server)
    client.succeed(f"systemctl stop {UNIT}")
    assert unit_property(client, "Result") == "success"
    client.fail("ip link show dev tun0")
    client.fail(fetch_command(SERVER, 5))
    server.fail(fetch_command(CLIENT, 5))
    client.succeed(f"systemctl start {UNIT}")
    fetch(client, SERVER, server_sum)
    fetch(server, CLIENT, client_sum)
    assert main_pid(server) == server_pid, "the server did not live through it"

with subtest("each side lives through the other's restart"):
    for restarted, other in ((server, client), (client, server)):
        old, kept = main_pid(restarted), main_pid(other)
        restarted.succeed(f"systemctl restart {UNIT}")
        assert main_pid(restarted) != old
        fetch(client, SERVER, server_sum)
        fetch(server, CLIENT, client_sum)
        assert main_pid(other) == kept, "the other side did not live through it"

with subtest("a killed server comes back by itself"):
    old = main_pid(server)
    server.succeed(f"kill -KILL {old}")
    wait_for_restart(server, UNIT, old)
    fetch(client, SERVER, server_sum)

with subtest("the image's binary is the one under test"):
    server.succeed(
        "rm -rf /tmp/image; mkdir -p /tmp/image/root",
        "tar -xf /etc/wontun-test/image.tar -C /tmp/image",
    )
    manifest = json.loads(server.succeed("cat /tmp/image/manifest.json"))[0]
    for layer in manifest["Layers"]:
        server.succeed(f"tar -xf /tmp/image/{layer} -C /tmp/image/root")
    entrypoint = json.loads(server.succeed(f"cat /tmp/image/{manifest['Config']}"))["config"]["Entrypoint"][0]
    # A symbolic link there is meant inside the image.
    inside = server.succeed(f"readlink /tmp/image/root{entrypoint} || echo {entrypoint}").strip()
    in_image = checksum(server, f"/tmp/image/root{inside}")
    for machine in (server, client):
        running = checksum(machine, f"/proc/{main_pid(machine)}/exe")
        assert running == in_image, f"the service runs {running}, the image has {in_image}"

with subtest("a WireGuard server with a folder of systemd's, and root's key as a credential"):
    server.wait_for_unit(VPN)
    wait_for_status(server, VPN, "^0 of 0 peers connected, no handshake yet$")
    # root's writes stay the service's
    owner = server.succeed("stat --dereference --format=%u:%g /var/lib/wontun").strip()
    assert not owner.startswith("0:"), owner
    laptop = server.succeed(f"{VPN_PEER} add laptop")
    assert f"PublicKey = {VPN_PUBLIC_KEY}" in laptop and "Endpoint = server:51820" in laptop, laptop
    assert server.succeed(f"stat --format='%u:%g %a' {VPN_FILE}").strip() == f"{owner} 600"
    server.succeed(f"chmod 640 {VPN_FILE}", f"{VPN_PEER} add tablet", f"{VPN_PEER} rename tablet pad")
    assert server.succeed(f"stat --format='%u:%g %a' {VPN_FILE}").strip() == f"{owner} 640"
    server.succeed(f"chmod 600 {VPN_FILE}", f"grep '^PrivateKeyFile = /run/credentials/{VPN}/' {VPN_FILE}")
    wait_for_status(server, VPN, "^0 of 2 peers connected")

with subtest("its client reaches it, and by its address a web server that knows no way back"):
    server.succeed(
        "ip netns add web",
        "ip link add web0 type veth peer name eth0 netns web",
        "ip address add 203.0.113.1/24 dev web0; ip address add 2001:db8:77::1/64 dev web0 nodad; ip link set web0 up",
        "ip -n web address add 203.0.113.2/24 dev eth0; ip -n web address add 2001:db8:77::2/64 dev eth0 nodad",
        "ip -n web link set lo up; ip -n web link set eth0 up",
        'systemd-run --quiet --unit=test-web --setenv=PATH="$PATH" "$(command -v ip)" netns exec web '
        '"$(command -v bash)" -c '
        f"'while true; do nc -N -w 10 -l {WEB[0]} {PORT} </tmp/answer >/tmp/request || sleep 0.2; done'",
    )
    server.fail("ip netns exec web ping -c 1 -W 2 10.77.0.1")
    write_secret(
        client, "/run/test-vpn/vpn.conf", laptop.replace("AllowedIPs = ", "AllowedIPs = 203.0.113.0/24, 2001:db8:77::/64, ")
    )
    # This ends when the client is ready.
    client.succeed(
        "systemd-run --quiet --unit=test-vpn --service-type=notify "
        '"$(command -v wontun)" --config /run/test-vpn/vpn.conf'
    )
    for address in VPN_SERVER + WEB:
        client.wait_until_succeeds(f"ping -c 1 -W 2 {address}", timeout=PATIENCE)
    fetch(client, WEB[0], server_sum, "vpn")
    wait_for_status(server, VPN, "^1 of 2 peers connected, last handshake ")
    wait_for_status(client, "test-vpn.service", "^1 of 1 peers connected, last handshake ")

with subtest("a restart keeps the tunnel in systemd's store, and loses nothing"):
    client.succeed(
        "systemd-run --quiet --unit=test-ping --property=StandardOutput=file:/tmp/pings "
        f'"$(command -v ping)" -n -i 0.1 {VPN_SERVER[0]}'
    )
    for _ in range(3):
        old = main_pid(server, VPN)
        server.succeed(f"systemctl restart {VPN}")
        assert main_pid(server, VPN) != old
    # What the last restart has lost is a gap before these answers. ping's own count of losses has
    # those that are under way when it ends.
    answers = int(client.succeed("grep -c 'bytes from' /tmp/pings || true"))
    client.wait_until_succeeds(f"test $(grep -c 'bytes from' /tmp/pings) -ge {answers + 10}", timeout=PATIENCE)
    client.succeed("systemctl kill --signal=INT test-ping")
    client.wait_until_succeeds("grep transmitted /tmp/pings", timeout=PATIENCE)
    pings = client.succeed("cat /tmp/pings")
    numbers = sorted(int(number) for number in re.findall(r"bytes from .* icmp_seq=(\d+) ", pings))
    assert numbers == list(range(1, len(numbers) + 1)), pings
    taken = f"journalctl --quiet --output=cat --unit={VPN} | grep -c '^took the tunnel over, with the sessions'"
    assert server.succeed(taken).strip() == "3"
    client.succeed(f"ping -c 1 -W 5 {VPN_SERVER[0]}")
    # A stop takes everything away, as ever.
    server.succeed(f"systemctl stop {VPN}")
    server.fail("ip link show dev vpn")
    server.succeed(f"systemctl start {VPN}")
    client.wait_until_succeeds(f"ping -c 1 -W 2 {VPN_SERVER[0]}", timeout=PATIENCE)

with subtest("a reload disturbs nobody, and its failure is in the status"):
    old = main_pid(server, VPN)
    server.succeed(f"systemctl reload {VPN}")
    server.succeed(f"cat {VPN_FILE} >/tmp/kept; echo '[Pear]' >>{VPN_FILE}", f"systemctl reload {VPN}")
    wait_for_status(server, VPN, "^reload failed: .*vpn.conf.*; 1 of 2 peers connected, ")
    client.succeed(f"ping -c 1 -W 5 {VPN_SERVER[0]}")
    server.succeed(f"cat /tmp/kept >{VPN_FILE}; rm /tmp/kept", f"systemctl reload {VPN}")
    wait_for_status(server, VPN, "^1 of 2 peers connected, ")
    assert main_pid(server, VPN) == old

with subtest("a loop that is stuck is started again, the supervisor's and the tunnel process's"):
    for stuck in (main_pid, tunnel_pid):
        old = main_pid(server, VPN)
        server.succeed(f"kill -STOP {stuck(server, VPN)}")
        wait_for_restart(server, VPN, old)
        server.wait_for_unit(VPN)
    server.succeed(f"journalctl --quiet --unit={VPN} | grep 'Watchdog timeout'")
    client.wait_until_succeeds(f"ping -c 1 -W 2 {WEB[0]}", timeout=PATIENCE)
    client.succeed("systemctl stop test-vpn")
    server.succeed(f"systemctl stop {VPN} test-web", "ip netns delete web")
    assert unit_property(server, "Result", VPN) == "success"
    assert not server.succeed("nft list tables | grep wontun-nat-vpn || true").strip()
