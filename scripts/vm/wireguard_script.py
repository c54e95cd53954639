"""WireGuard between the kernel's own implementation and wontun, each once as the client and once as the server.

A script for run.py beside it: it finds the names start_all, client, server and subtest. The kernel's end is set up with
ip(8) and wg(8). Over a bad network (netem) wontun meets itself too.
"""

import json
import re
import shlex
import time
from collections.abc import Callable

from log import say
from machine import Machine
from wireguard_end import (
    CARD,
    DEVICE,
    FILE,
    KERNEL,
    NAME,
    PATIENCE,
    PORT,
    End,
    Peer,
    PingStatistics,
    make_keys,
    run,
    wait,
)
from wireguard_flood import UNDER_LOAD, Flood
from wireguard_watch import CongestedWire, Watch

OUTER4 = {"client": "192.168.1.1", "server": "192.168.1.2"}
OUTER6 = {"client": "fd00:1::1", "server": "fd00:1::2"}
INNER = {"client": ("10.9.0.1/24", "fd00:9::1/64"), "server": ("10.9.0.2/24", "fd00:9::2/64")}
# On the server: what stands for the rest of the world.
WORLD = "203.0.113.1"
ETHERNET_MTU = 1500
# Over IPv6, the largest packet makes an Ethernet frame that is just full.
MTU = ETHERNET_MTU - 80
IPV4, IPV6, UDP, ICMP = 20, 40, 8, 8

# Bytes of WireGuard's messages (the paper, section 5.4), data and keepalive without payload.
INITIATION, RESPONSE, EMPTY = 148, 92, 32


class Pair:
    """A tunnel between the two machines."""

    def __init__(self, client_kind: str, server_kind: str) -> None:
        client_keys, server_keys = make_keys(server, 2)
        # The client's way to everywhere is the tunnel, as on a phone.
        to_server = Peer(server_keys.public, ("0.0.0.0/0", "::/0"), f"{OUTER4['server']}:{PORT}", keepalive=25)
        to_client = Peer(client_keys.public, tuple(host_prefix(address) for address in INNER["client"]))
        self.client = End(client, client_kind, client_keys, INNER["client"], MTU, to_server)
        self.server = End(server, server_kind, server_keys, INNER["server"], MTU, to_client)
        self.ends = (self.client, self.server)
        if client_kind != FILE:
            # Only wontun --config knows how to keep its own datagrams out of the tunnel.
            to_server.allowed = ("10.9.0.0/24", "fd00:9::/64")

    def __enter__(self) -> "Pair":
        for end in (self.server, self.client):
            end.start()
        return self

    def __exit__(self, *_error: object) -> None:
        for end in self.ends:
            end.stop()

    def both_ways(self) -> list[tuple[End, End]]:
        """Who sends, who receives."""
        return [(self.client, self.server), (self.server, self.client)]

    def wontuns(self) -> list[End]:
        """The ends that are wontun's."""
        return [end for end in self.ends if end.kind != KERNEL]

    def use_outer(self, outer: dict[str, str]) -> None:
        """Tells the client of another address of the server."""
        address = outer["server"]
        self.client.peer.endpoint = f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"
        self.client.set_peer(f"endpoint {self.client.peer.endpoint}")


def host_prefix(address: str) -> str:
    """The address alone, as a prefix."""
    return address.split("/")[0] + ("/128" if ":" in address else "/32")


def message(packet: int) -> int:
    """Bytes of the data message with a packet of so many bytes."""
    return EMPTY + min(-(-packet // 16) * 16, MTU)


def ping_all(pair: Pair) -> None:
    """Both families, both ways."""
    for end, other in pair.both_ways():
        end.ping(other.address4, other.address6)


def settled(pair: Pair) -> tuple[int, int]:
    """Bytes that the client and the server sent, by the counters of both ends, which must agree."""
    for _ in range(20):
        at_client, at_server = pair.client.transfer(), pair.server.transfer()
        if (at_client.sent, at_client.received) == (at_server.received, at_server.sent):
            return at_client.sent, at_server.sent
        # Something is still on its way.
        time.sleep(0.2)
    raise AssertionError(f"the ends count differently: {at_client} at the client, {at_server} at the server")


def exact_transfer(pair: Pair) -> None:
    """Every byte is known beforehand."""
    pair.client.ping(pair.server.address4)
    before = settled(pair)
    expected = 0
    for end, other in pair.both_ways():
        commands = []
        for address, headers in ((other.address4, IPV4 + ICMP), (other.address6, IPV6 + ICMP)):
            for count, payload in ((3, 0), (2, 56), (2, 333), (1, MTU - headers)):
                commands.append(f"ping -n -c {count} -i 0.01 -W 20 -s {payload} {address}")
                expected += count * message(headers + payload)
        run(end.machine, "\n".join(commands))
    after = settled(pair)
    for name, old, new in zip(("client", "server"), before, after, strict=True):
        # Whoever heard something and has nothing to say sends one keepalive after ten seconds.
        extra = new - old - expected
        assert extra in (0, EMPTY, 2 * EMPTY), f"the {name} sent {new - old} bytes, not {expected}"
    say(f"{expected} bytes of messages each way; both ends count the same")


def tcp_transfer(sender: End, receiver: End, address: str, size: int) -> float:
    """A payload arrives with its checksum; bytes a second."""
    listen = f"(timeout 200 nc -N -l {address} 9000 </tmp/payload >/dev/null 2>&1 &)"
    script = f"head -c {size} /dev/urandom >/tmp/payload; sha256sum </tmp/payload; {listen}"
    expected = run(sender.machine, script)
    wait(sender.machine, "[[ $(ss -Hltn 'sport = :9000') ]]", "nc listens")
    began = time.monotonic()
    found = run(receiver.machine, f"nc -w 60 {address} 9000 </dev/null | sha256sum", timeout=200)
    seconds = time.monotonic() - began
    assert found == expected, f"the payload changed on its way: {found}, not {expected}"
    return size / seconds


def tcp(pair: Pair) -> None:
    """A payload each way, in the other family."""
    rates = [
        tcp_transfer(pair.server, pair.client, pair.server.address4, 1 << 20),
        tcp_transfer(pair.client, pair.server, pair.client.address6, 1 << 20),
    ]
    say(f"TCP: {', '.join(f'{rate / (1 << 20):.1f} MiB/s' for rate in rates)}")


def iperf_udp(sender: End, address: str, arguments: str) -> None:
    """Until a run loses a tenth at most, five times: queues overflow while a machine is paused."""
    told = []
    for _ in range(5):
        output = run(sender.machine, f"iperf3 --json --client {address} {arguments}")
        result = json.loads(output)["end"]["sum"]
        lost, count = result["lost_packets"], result["packets"]
        told.append(f"{lost} of {count}")
        if lost <= count // 10:
            say(f"iperf3 {arguments}: {lost} of {count} datagrams lost")
            return
    raise AssertionError(f"iperf3 {arguments}: lost datagrams: {', '.join(told)}")


def iperf(pair: Pair) -> None:
    """TCP in two streams at once, and UDP each way."""
    # The sender is the program's client: Debian 11's does not end a reversed transfer of so many bytes.
    for end in pair.ends:
        run(end.machine, "iperf3 --server --daemon --pidfile /run/iperf3.pid")
        wait(end.machine, "[[ $(ss -Hltn 'sport = :5201') ]]", "iperf3 listens")
    flows = [
        (pair.server, pair.client.address6, "--bytes 2M --parallel 2"),
        (pair.client, pair.server.address4, "--bytes 512K --udp --bitrate 4M --length 1300"),
        (pair.server, pair.client.address6, "--bytes 512K --udp --bitrate 4M --length 1300"),
    ]
    for sender, address, arguments in flows:
        if "--udp" in arguments:
            iperf_udp(sender, address, arguments)
        else:
            output = run(sender.machine, f"iperf3 --json --client {address} {arguments}")
            result = json.loads(output)["end"]
            # It stops counting before the last bytes have arrived.
            assert result["sum_received"]["bytes"] > 1 << 19, output
            say(f"iperf3 {arguments}: {result['sum_received']['bits_per_second'] / 1e6:.1f} Mbit/s")
    for end in pair.ends:
        run(end.machine, "kill $(tr -d '\\0' </run/iperf3.pid)")


def fragments(machine: Machine) -> int:
    """IP packets that this machine has divided or put together."""
    counted = 0
    lines = run(machine, "cat /proc/net/snmp /proc/net/snmp6").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Ip:"))
    for name, value in zip(names, values, strict=True):
        if name in ("FragCreates", "ReasmReqds"):
            counted += int(value)
    for line in lines:
        name, *value = line.split()
        if name in ("Ip6FragCreates", "Ip6ReasmReqds"):
            counted += int(value[0])
    return counted


def packet_lengths(pair: Pair) -> None:
    """Outer packets are as long as padding makes them, and never longer than the route's MTU."""
    inner = (48, 49, 63, 64, 65, 100, 1400, 1404, 1405, 1408, 1409, 1419, MTU)
    expected = {IPV6 + UDP + message(length) for length in inner}
    assert max(expected) == ETHERNET_MTU
    # Whatever else the tunnel has to say meanwhile.
    others = {IPV6 + UDP + length for length in (INITIATION, RESPONSE, EMPTY)}
    for end, other in pair.both_ways():
        # Datagrams to a port that nobody listens on, from bash itself.
        sent = "\n".join(
            f"printf %0{length - headers - UDP}d 0 >/dev/udp/{address}/9"
            for address, headers in ((other.address4, IPV4), (other.address6, IPV6))
            for length in inner
        )
        with Watch(other.machine) as watch:
            run(end.machine, sent)
            # The last to arrive.
            end.ping(other.address6, options=f"-c 1 -W 20 -s {MTU - IPV6 - ICMP}")
            found = watch.lengths()
        assert expected <= found <= expected | others, f"from {end.kind}: {sorted(found)}, not {sorted(expected)}"
        say(f"from {end.kind}: {len(found)} lengths up to {max(found)}")


def congestion(pair: Pair) -> None:
    """ECN goes out with the datagram, and a mark made on the way comes back in (RFC 6040)."""
    # A ping with mark 0, two with 1, three with 2, four with 3, over each family: the counts tell which is which.
    sent = (2, 4, 6, 8)
    for end, other in pair.both_ways():
        pings = "\n".join(
            f"ping -n -i 0.01 -W 0.5 -Q {mark} -c {count // 2} {address} || true"
            for address in (other.address4, other.address6)
            for mark, count in enumerate(sent)
        )
        # Older than RFC 6040, the kernel takes back a mark in the outer header that the inner one has already.
        outer = (2, 4, 14, 0) if end.kind == KERNEL else sent
        with Watch(other.machine) as watch:
            run(end.machine, pings)
            found = watch.take_marks()
            assert found["inner"] == sent, found
            # Keepalives have no mark.
            assert found["outer"][0] >= outer[0] and found["outer"][1:] == outer[1:], f"from {end.kind}: {found}"

            dropped = other.drops() if other.kind != KERNEL else {}
            with CongestedWire(end.machine):
                # What was sent before, such as a keepalive.
                watch.take_marks()
                run(end.machine, pings)
            found = watch.take_marks()
            assert found["outer"][:3] == (0, 0, 0), found
            if other.kind == KERNEL:
                # It does not mind that its own function asks for a drop.
                assert found["inner"] == (2, 0, 0, 18), found
            else:
                assert found["inner"] == (0, 0, 0, 18), found
                reasons = grew(dropped, other.drops())
                assert reasons == {"congested": 2}, f"{other.kind} dropped {reasons}"


def grew(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What was dropped meanwhile."""
    return {reason: count - before.get(reason, 0) for reason, count in after.items() if count > before.get(reason, 0)}


def must_not_answer(end: End, address: str) -> None:
    """No ping comes back within a second."""
    run(end.machine, f"! ping -n -c 1 -W 1 {address}")


def live_preshared_key(pair: Pair) -> None:
    """A new key counts from the next handshake on, and leaves the session alone."""
    key = run(server, "wontun genpsk").strip()
    pair.server.set_preshared_key(key)
    ping_all(pair)
    pair.client.begin_anew()
    must_not_answer(pair.client, pair.server.address4)
    pair.client.set_preshared_key(key)
    pair.client.begin_anew()
    ping_all(pair)
    for end in pair.ends:
        shown = run(end.machine, f"wg show {DEVICE} preshared-keys").split()
        assert shown == [end.peer.public, key], end.kind
        end.set_preshared_key("")


def live_private_key(pair: Pair) -> None:
    """With a new key an end is another peer at once."""
    keys = make_keys(server, 2)
    for (end, other), new in zip(pair.both_ways(), keys, strict=True):
        end.set_private_key(new)
        must_not_answer(end, other.address4)
        other.replace_peer(new.public)
        # It opens a handshake at once; the end would try again five seconds after its last attempt.
        other.ping(end.address4)
        ping_all(pair)


def restart(pair: Pair) -> None:
    """An end that begins anew says so, and the other one leaves its old session at once."""
    for end, other in pair.both_ways():
        end.peer.endpoint, keepalive = end.endpoint(), end.peer.keepalive
        end.peer.keepalive = 25
        end.stop()
        end.start()
        wait(end.machine, f"[[ $(wg show {DEVICE} latest-handshakes | cut -f 2) != 0 ]]", "a handshake by itself")
        # The old session would need 15 seconds to be given up.
        other.ping(end.address4, options="-c 1 -W 5")
        end.ping(other.address6, options="-c 1 -W 5")
        if not keepalive:
            end.set_peer("persistent-keepalive 0")
        end.peer.keepalive = keepalive


def roaming(pair: Pair) -> None:
    """The other end follows address and port."""
    for end, other in pair.both_ways():
        home, away = OUTER4[end.machine.name], "192.168.1.77"
        for now, address, port in (
            (f"ip address delete {home}/24 dev {CARD}; ip address add {away}/24 dev {CARD}", away, PORT),
            (f"wg set {DEVICE} listen-port 40001", away, 40001),
            (f"ip address delete {away}/24 dev {CARD}; ip address add {home}/24 dev {CARD}", home, 40001),
            (f"wg set {DEVICE} listen-port {PORT}", home, PORT),
        ):
            run(end.machine, f"{now}; ping -n -c 1 -W 20 {other.address4}")
            endpoint, _ = run(other.machine, f"{other.SHOW_ENDPOINT}; ping -n -c 1 -W 20 {end.address6}").split("\n", 1)
            assert endpoint == f"{address}:{port}", f"{other.kind}: {endpoint} after {now}"


def keepalive(pair: Pair) -> None:
    """Silence is filled with keepalives where that is asked for, and with nothing elsewhere."""
    before = settled(pair)
    # One after the other: what is received, too, puts a keepalive off.
    for end, sent in zip(pair.ends, before, strict=True):
        enough = f"(( $(wg show {DEVICE} transfer | cut -f 3) >= {sent + 2 * EMPTY} ))"
        # Out of silence, the first one goes at once.
        peer = f"wg set {DEVICE} peer {end.peer.public}"
        run(end.machine, f"{peer} persistent-keepalive 0; {peer} persistent-keepalive 1")
        wait(end.machine, enough, "keepalives")
        end.set_peer("persistent-keepalive 0")
    silent = settled(pair)
    assert all((new - old) % EMPTY == 0 for old, new in zip(before, silent, strict=True)), f"{silent} after {before}"
    time.sleep(2)
    after = settled(pair)
    assert after == silent, f"{after} after {silent}"
    for end in pair.ends:
        end.set_peer(f"persistent-keepalive {end.peer.keepalive}")


def full_tunnel(pair: Pair) -> None:
    """wontun --config leads everything into the tunnel but its own datagrams."""
    run(server, f"ip address add {WORLD}/32 dev lo")
    pair.client.ping(WORLD)
    run(server, f"ip address delete {WORLD}/32 dev lo")
    way_of = "ip route get"
    assert f"dev {DEVICE} " in run(client, f"{way_of} {WORLD}")
    assert f"dev {CARD} " in run(client, f"{way_of} {OUTER4['server']} mark $(wg show {DEVICE} fwmark)")


def firewall_reload(pair: Pair) -> None:
    """Tables, rules and routes that another program deletes are back at once."""
    tables, routing = "nft list tables | grep wontun | sort", "ip -4 rule; ip -6 rule; ip route show table all proto 119"
    before = run(client, tables), run(client, routing)
    assert f"wontun-{DEVICE}" in before[0] and DEVICE in before[1], before
    run(client, "nft flush ruleset")
    wait(client, f"[[ $({tables}) == $(echo {shlex.quote(before[0])}) ]]", "the tables are back")
    run(client, "for family in -4 -6; do ip $family rule flush protocol 119; done; ip route flush table all proto 119")
    wait(client, f"[[ $({routing}) == $(echo {shlex.quote(before[1])}) ]]", "the rules and routes are back")
    pair.client.ping(pair.server.address4, pair.server.address6)


def cookies(pair: Pair) -> None:
    """A server under a flood of handshakes wants its cookie back, and gets it."""
    with Flood(pair.client, OUTER4["server"], pair.server.address4) as flood:
        began = time.monotonic()
        # The kernel's load comes and goes, since a cookie reply is little work. wontun has a share for each source,
        # and may find room for the client's.
        for _ in range(30):
            pair.client.begin_anew(after=UNDER_LOAD)
            wait(client, f"ping -n -c 1 -W 1 {pair.server.address4} >/dev/null", "a handshake", 90)
            replies = flood.cookie_replies()
            if replies["to_the_client"] or pair.server.kind != KERNEL:
                break
        else:
            raise AssertionError(f"no cookie reply came to the client: {replies}")
        say(f"a handshake after {time.monotonic() - began:.1f} s; replies: {replies}")
    settle_drops(pair)
    ping_all(pair)


def settle_drops(pair: Pair) -> None:
    """Waits until what was queued of a flood is worked off, which counts as dropped."""
    deadline = time.monotonic() + PATIENCE
    before, after = None, drops(pair)
    while before != after:
        assert time.monotonic() < deadline, f"still more: {after}"
        time.sleep(2)
        before, after = after, drops(pair)


# --- a bad network ---------------------------------------------------------------------------------------------


class BadWire:
    """Both ends' cards treat what they send as tc-netem(8) says."""

    def __init__(self, treatment: str) -> None:
        self._treatment = treatment

    def __enter__(self) -> None:
        for machine in (client, server):
            run(machine, f"tc qdisc add dev {CARD} root netem limit 10000 {self._treatment}")

    def __exit__(self, *_error: object) -> None:
        for machine in (client, server):
            run(machine, f"tc qdisc delete dev {CARD} root")


def overtaken(output: str) -> int:
    """How many answers to pings came after one to a later ping."""
    latest = count = 0
    for number in map(int, re.findall(r"icmp_seq=(\d+) ", output)):
        count += number < latest
        latest = max(latest, number)
    return count


def drops(pair: Pair) -> list[dict[str, int]]:
    """Of each end that is wontun's."""
    return [end.drops() for end in pair.wontuns()]


def loss_delay_reordering(pair: Pair) -> None:
    """What the wire loses is lost, and nothing else: no packet within the replay window is refused."""
    ping_all(pair)
    before = drops(pair)
    with BadWire("delay 20ms 10ms loss 3% reorder 10%"):
        for end, other in pair.both_ways():
            output = end.ping(other.address4, options="-c 150 -i 0.01 -W 5")
            statistics = PingStatistics.parse(output)
            say(f"from {end.kind}: {statistics}, {overtaken(output)} overtaken")
            # Each way 3 %, so that 9 of 150 are expected; 36 would be nine standard deviations off.
            assert 114 <= statistics.received < 150, statistics
            assert statistics.average_ms > 20, statistics
            assert overtaken(output) > 10, "the network reorders nothing, so this test shows nothing"
        rates = [
            tcp_transfer(pair.server, pair.client, pair.server.address4, 256 * 1024),
            tcp_transfer(pair.client, pair.server, pair.client.address6, 256 * 1024),
        ]
        say(f"TCP: {', '.join(f'{rate / 1024:.0f} KiB/s' for rate in rates)}")
    for end, old, new in zip(pair.wontuns(), before, drops(pair), strict=True):
        assert not grew(old, new), f"{end.kind} dropped {grew(old, new)}"


def duplicates(pair: Pair) -> None:
    """What the wire repeats is not repeated in the tunnel, and counted as a replay."""
    before = drops(pair)
    runs = 0
    with BadWire("delay 5ms 3ms duplicate 30%"):
        for end, other in pair.both_ways():
            received = []
            # ping waits for the last answer twice as long as for the slowest other, some 30 ms.
            while 50 not in received and len(received) < 3:
                statistics = PingStatistics.parse(end.ping(other.address6, options="-c 50 -i 0.01 -W 5"))
                assert statistics.duplicates == 0, statistics
                received.append(statistics.received)
            assert 50 in received, f"from {end.kind}: of 50 pings were answered: {received}"
            runs += len(received)
    for end, old, new in zip(pair.wontuns(), before, drops(pair), strict=True):
        reasons = grew(old, new)
        # At each end 15 of 50 are expected in a run; there are two runs at least.
        least, most = 5 * runs // 2, 35 * runs
        assert reasons.keys() == {"replay"} and least <= reasons["replay"] <= most, f"{end.kind} dropped {reasons}"
        say(f"{end.kind}: {reasons['replay']} replays refused")


def handshakes_under_loss(pair: Pair) -> None:
    """A handshake needs three messages to arrive, and is tried again until they do."""
    with BadWire("delay 20ms 10ms loss 20%"):
        for end, other in pair.both_ways():
            end.begin_anew()
            began = time.monotonic()
            # REKEY_ATTEMPT_TIME is 90 seconds.
            wait(end.machine, f"ping -n -c 1 -W 1 {other.address4} >/dev/null", "a handshake", 90)
            say(f"from {end.kind}: after {time.monotonic() - began:.1f} s")
    ping_all(pair)


GOOD_NETWORK = (
    exact_transfer,
    keepalive,
    iperf,
    live_preshared_key,
    live_private_key,
    restart,
    roaming,
    cookies,
)
BAD_NETWORK = (loss_delay_reordering, duplicates, handshakes_under_loss)


def try_all(pair: Pair, scenarios: tuple[Callable[[Pair], None], ...]) -> None:
    """Each as a subtest."""
    for scenario in scenarios:
        with subtest(scenario.__name__.replace("_", " ")):
            scenario(pair)


start_all()

with subtest("the kernel has WireGuard, and wontun's own service is out of the way"):
    for machine in (client, server):
        run(machine, "systemctl stop 'wontun@*.service' test-answers.service || true")
        run(machine, f"modprobe wireguard; ip -6 address replace {OUTER6[machine.name]}/64 dev {CARD} nodad")

with subtest("a unit whose file is missing does not start, and says so"):
    said = run(server, "! systemctl start wontun@nothing.service 2>&1")
    assert "Assertion failed" in said, said
    state = run(server, "systemctl show --property=AssertResult,ActiveState,NRestarts wontun@nothing.service")
    assert set(state.split()) == {"AssertResult=no", "ActiveState=inactive", "NRestarts=0"}, state

with subtest("a service writes /etc/resolv.conf with the drop-in of the guide"):
    own_keys = make_keys(client, 1)[0]
    interface = f"[Interface]\\nPrivateKey = {own_keys.private}\\nAddress = 10.99.0.2/24\\nDNS = 10.99.0.1\\n"
    drop_in = "/etc/systemd/system/wontun@dns.service.d/override.conf"
    run(client, f"umask 077; mkdir -p /etc/wontun; printf '{interface}' >/etc/wontun/dns.conf")
    run(client, "echo WONTUN_CONFIG=/etc/wontun/dns.conf >/etc/wontun/dns.env; touch /etc/resolv.conf")
    run(client, f"mkdir -p {drop_in.rpartition('/')[0]}")
    run(client, f"printf '[Service]\\nDynamicUser=no\\nUser=root\\nReadWritePaths=/etc\\n' >{drop_in}")
    before = run(client, "cat /etc/resolv.conf")
    run(client, "systemctl daemon-reload; systemctl start wontun@dns.service")
    wait(client, "grep -q '^nameserver 10.99.0.1' /etc/resolv.conf", "the name server is applied")
    run(client, "systemctl stop wontun@dns.service")
    assert run(client, "cat /etc/resolv.conf") == before
    run(client, f"rm {drop_in}; systemctl daemon-reload")

for client_kind, server_kind in ((FILE, KERNEL), (KERNEL, NAME), (NAME, FILE)):
    with subtest(f"client: {client_kind}; server: {server_kind}"), Pair(client_kind, server_kind) as pair:
        ping_all(pair)
        if KERNEL in (client_kind, server_kind):
            divided = [fragments(machine) for machine in (client, server)]
            try_all(pair, GOOD_NETWORK)
            if client_kind == FILE:
                try_all(pair, (full_tunnel, firewall_reload))
            with subtest("over IPv6"):
                pair.use_outer(OUTER6)
                ping_all(pair)
                try_all(pair, (packet_lengths, congestion, tcp))
                pair.use_outer(OUTER4)
                ping_all(pair)
            assert [fragments(machine) for machine in (client, server)] == divided, "IP packets were fragmented"
        try_all(pair, BAD_NETWORK)

with subtest("wontun had nothing to complain of"):
    for machine in (client, server):
        said = run(machine, "journalctl --quiet --unit='wg-test-*' --priority=err; dmesg --level=emerg,alert,crit")
        # A machine whose processor is emulated stands still while its host is busy.
        errors = [line for line in said.splitlines() if "soft lockup" not in line]
        assert not errors, errors
