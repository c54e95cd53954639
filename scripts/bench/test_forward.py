"""Tests what needs no tunnel of the bench of a server that forwards."""

import unittest

import forward


class Forward(unittest.TestCase):
    def run_of(self, setup: str, way: str, rate: float) -> dict:
        return {
            **{"tunnel": "a", "setup": setup, "way": way, "gbit_per_second": rate},
            **{"cpu": 1.0, "machine": 2.0, "retransmits": 3, "steal": 0.0},
        }

    def test_each_way_is_compared_with_the_local_one_of_its_direction(self) -> None:
        runs = [self.run_of("host", "local up", rate) for rate in (3.0, 5.0, 4.0)]
        runs += [self.run_of("host", "local down", 2.0), self.run_of("rules", "forwarded down", 1.0)]
        runs += [self.run_of("server", "peers", 1.0), self.run_of("server", "forwarded up", 9.0) | {"error": "no"}]
        shares = {line.split(" | ")[1]: line.split(" | ")[3] for line in forward.table(runs).splitlines()[2:]}
        self.assertEqual(shares["forwarded down"], "50.0%")
        self.assertEqual(shares["peers"], "25.0%")
        self.assertNotIn("forwarded up", shares)

    def test_many_clients_are_compared_with_as_many(self) -> None:
        runs = [self.run_of("host", "local up", 4.0), self.run_of("50 clients", "local up", 2.0)]
        runs += [self.run_of("50 clients", "forwarded up", 1.5)]
        self.assertIn("| 75.0% |", forward.table(runs).splitlines()[-1])

    def test_a_round_has_rules_and_many_clients(self) -> None:
        setups = [setup for setup, _ in forward.plan(50)]
        self.assertEqual([setup.clients for setup in setups], [2, 2, 2, 50])
        self.assertEqual([setup.forwards for setup in setups], [False, True, True, True])
        self.assertEqual([setup.has_rules for setup in setups], [False, False, True, False])


if __name__ == "__main__":
    unittest.main()
