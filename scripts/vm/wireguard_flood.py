"""A flood of handshake initiations, against which an end defends itself with cookies."""

import json

from machine import Machine
from wireguard_end import CARD, PORT, End, run, wait

INITIATION_FILE = "/tmp/initiation"
STOP_FILE = "/tmp/enough"
COOKIE_REPLY = 3

# Ends once another cookie reply came to the flood: the kernel is under load for a second from then on.
UNDER_LOAD = """replies() { nft list counter inet cookies to_the_flood | grep packets; }
before=$(replies); for (( i = 0; i < 100; i++ )); do [[ $(replies) == "$before" ]] || break; sleep 0.05; done"""

# Debian has perl everywhere. Initiations for the other end are valid up to mac1, whoever repeats them.
_RECEIVE = f"""use Socket;
socket my $socket, PF_INET, SOCK_DGRAM, 0 or die; bind $socket, sockaddr_in(9999, INADDR_LOOPBACK) or die;
alarm 60; recv $socket, my $message, 2000, 0; open my $file, ">:raw", "{INITIATION_FILE}.part" or die;
print $file $message; close $file; rename "{INITIATION_FILE}.part", "{INITIATION_FILE}";
"""
_SEND = f"""use Socket;
alarm 200; open my $file, "<:raw", "{INITIATION_FILE}" or die; read $file, my $message, 148;
socket my $socket, PF_INET, SOCK_DGRAM, 0 or die;
my $to = sockaddr_in({PORT}, inet_aton("SERVER"));
until (-e "{STOP_FILE}") {{ send $socket, $message, 0, $to for 1 .. 1000; select undef, undef, undef, 0.05; }}
"""


class Flood:
    """Initiations from another port of the client's machine to its server, which answers with cookie replies."""

    def __init__(self, client: End, server_address: str, inner_address: str) -> None:
        self._client = client
        self._machine: Machine = client.machine
        self._server = server_address
        self._inner_address = inner_address

    def __enter__(self) -> "Flood":
        self._take_initiation()
        rules = f"""table inet cookies {{
            counter to_the_client {{}}
            counter to_the_flood {{}}
            chain wire {{
                type filter hook prerouting priority -450;
                iifname != {CARD} accept
                udp sport != {PORT} accept
                @th,64,8 != {COOKIE_REPLY} accept
                udp dport {PORT} counter name to_the_client accept
                counter name to_the_flood
            }}
        }}"""
        send = _SEND.replace("SERVER", self._server)
        run(
            self._machine,
            f"nft -f - <<'END'\n{rules}\nEND\nrm -f {STOP_FILE}\n"
            f"cat >/tmp/flood.pl <<'END'\n{send}END\n(nice -n 19 perl /tmp/flood.pl >/dev/null 2>&1 &)",
        )
        under_load = "nft list counter inet cookies to_the_flood | grep -q 'packets [1-9]'"
        wait(self._machine, under_load, "the server answers with cookies")
        return self

    def __exit__(self, *_error: object) -> None:
        run(self._machine, f"touch {STOP_FILE}; nft delete table inet cookies")
        # It sees that it is enough within a burst.
        wait(self._machine, "! pidof perl >/dev/null", "the flood ends")

    def _take_initiation(self) -> None:
        """Has the client send one to a socket of this machine."""
        client = self._client
        listen = f"cat >/tmp/receive.pl <<'END'\n{_RECEIVE}END\n(perl /tmp/receive.pl >/dev/null 2>&1 &)"
        run(self._machine, f"rm -f {INITIATION_FILE}\n{listen}")
        wait(self._machine, "[[ $(ss -Hlun 'sport = :9999') ]]", "perl listens")
        endpoint = client.endpoint()
        client.begin_anew("127.0.0.1:9999")
        # A packet that wants to go out is enough.
        run(self._machine, f"ping -n -c 1 -W 0.2 {self._inner_address} || true")
        wait(self._machine, f"[[ -e {INITIATION_FILE} ]]", "an initiation")
        client.begin_anew(endpoint)

    def cookie_replies(self) -> dict[str, int]:
        """How many came, to the flood and to the client."""
        listed = json.loads(run(self._machine, "nft --json list counters table inet cookies"))["nftables"]
        return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}
