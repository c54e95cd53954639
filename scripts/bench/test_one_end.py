"""Tests what needs no tunnel of the bench of one end."""

import struct
import unittest

import one_end
import traffic
from tunnels import Tunnel


class OneEnd(unittest.TestCase):
    def test_each_tunnel_that_encrypts_is_measured_with_each_number_of_workers(self) -> None:
        tunnels = [Tunnel("veth", "veth"), Tunnel("new", "wontun", "/bin/wontun", ("--x",)), Tunnel("p", "plain")]
        found = one_end.with_workers(tunnels, (1, 2))
        self.assertEqual([tunnel.name for tunnel in found], ["new × 1", "new × 2"])
        self.assertEqual(found[1].options, ("--x", "--workers", "2"))

    def test_the_table_has_medians_and_leaves_out_what_failed(self) -> None:
        runs = [
            {"tunnel": "a × 1", "way": "send tcp", "gbit_per_second": rate, "cpu": 0.5} for rate in (3.0, 1.0, 2.0)
        ] + [{"tunnel": "a × 1", "way": "receive tcp", "error": "no"}]
        row = one_end.table(runs).splitlines()[-1]
        self.assertEqual(row, "| a × 1 | – | – | 2.00 (1.00–3.00) | 0.50 (0.50–0.50) | – | – | – | – |")

    def test_a_header_with_its_checksum_sums_up_to_nothing(self) -> None:
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1500, 7, 0x4000, 64, 6, 0, b"\n\x08\0\1", b"\n\x08\0\2")
        with_checksum = header[:10] + struct.pack("!H", traffic.checksum(header)) + header[12:]
        self.assertEqual(traffic.checksum(with_checksum), 0)


if __name__ == "__main__":
    unittest.main()
