"""Tests of the harness's own arithmetic: `python3 -m unittest` in this folder."""

import contextlib
import json
import socket
import unittest
from pathlib import Path

import batching
import batching_report
import instructions
import report
import soak

MACHINE = {"record": "machine", "date": "2000-01-01", "cpu": "none", "cpus": 2, "memory_gb": 1, "kernel": "6",
           "rounds": 2, "seconds": 1.0, "sizes": {"S": 575}, "versions": {"envoy": "1.0.0"}}  # fmt: skip


def sample(target, us, mode="one", payload="S", number=0, workers=1, p50=10.0, good=True):
    return {"record": "sample", "round": number, "mode": mode, "payload": payload, "target": target, "workers": workers,
            "good": good, "rps": 100.0, "latency_us": {"p50": p50, "p90": p50, "p99": p50}, "late_us": {"p99": 1.0},
            "other_cores": 0.1,
            "procs": {} if target == "direct" else {"proxy": {"us": us, "user_us": us, "sys_us": 0, "cores": 1}}}  # fmt: skip


class Report(unittest.TestCase):
    def results(self, *records):
        return report.Results([MACHINE, *records])

    def bar(self, results, what):
        return next(line for line in report.bars(results).splitlines() if line.startswith(f"| {what}"))

    def test_ratios_stay_within_a_round(self):
        self.assertEqual(report.ratios({0: 30.0, 1: 80.0, 2: 5.0}, {0: 100.0, 1: 200.0}), [0.3, 0.4])

    def test_the_median_decides_a_bar(self):
        samples = [sample("envoy", 100.0, number=n) for n in range(3)]
        samples += [sample("tfs-sidecar", us, number=n) for n, us in enumerate([30.0, 35.0, 90.0])]
        line = self.bar(self.results(*samples), "CPU per request relative to Envoy, S ")
        self.assertIn("0.35 [0.30-0.90] | met", line)
        samples += [sample("tfs-sidecar", 40.0, number=n) for n in range(3)]
        self.assertIn("**missed**", self.bar(self.results(*samples), "CPU per request relative to Envoy, S "))

    def test_a_bar_without_samples_is_not_met(self):
        lines = report.bars(self.results(sample("envoy", 100.0))).splitlines()[2:]
        self.assertTrue(all("not measured" in line for line in lines), lines)

    def test_a_repaired_payload_is_compared_with_envoy_on_the_conforming_one(self):
        results = self.results(sample("envoy", 100.0, payload="L"), sample("tfs-sidecar", 50.0, payload="L_nobatch"))
        self.assertIn("0.50 | met", self.bar(results, "CPU per request relative to Envoy, L without"))

    def test_two_workers_are_compared_with_one(self):
        results = self.results(sample("tfs-sidecar", 12.0, mode="all", workers=2), sample("tfs-sidecar", 10.0, mode="all"))
        self.assertIn("1.20 | **missed**", self.bar(results, "CPU per request, two workers relative to one, S"))

    def test_added_latency_is_relative_to_direct(self):
        opened = [("direct", 10.0), ("envoy", 50.0), ("tfs-sidecar", 30.0)]
        results = self.results(*(sample(t, 1.0, mode="open", p50=p) for t, p in opened))
        self.assertIn("below Envoy's 40.0 µs | 20.0 | met", self.bar(results, "added p50"))

    def test_samples_with_errors_are_left_out_and_counted(self):
        results = self.results(sample("envoy", 100.0), sample("envoy", 900.0, good=False))
        self.assertEqual((len(results.samples), results.bad), (1, 1))
        self.assertIn("1 samples, 1 more left out because of errors", report.render(results, {"per_request": {}, "peers": {}}))

    def test_memory_bars_use_idle_and_peak_memory(self):
        memory = {"record": "memory", "target": "tfs-sidecar", "workers": 1, "payload": "XL", "good": True,
                  "idle_kb": 10 * 1024, "peak_kb": 400 * 1024, "after_kb": 1, "in_flight_bytes": 100 * 2**20}  # fmt: skip
        results = self.results(memory)
        self.assertIn("10.0 | met", self.bar(results, "idle memory"))
        self.assertIn("4.00 | **missed**", self.bar(results, "peak memory relative to bytes in flight, XL"))

    def test_the_concurrency_limit_is_compared_with_the_best_direct_throughput(self):
        def limited(target, clients, rps, refused=0, p50=100.0):
            return {"record": "concurrency", "round": 0, "target": target, "clients": clients, "threads": 8, "service_us": 2000,
                    "rps": rps, "sent": 1000, "refused": refused, "exhausted": refused, "latency_us": {"p50": p50, "p99": p50}}  # fmt: skip

        results = self.results(limited("direct", 1, 400.0), limited("direct", 8, 4000.0), limited("direct", 64, 9000.0, 390),
                               limited("tfs-sidecar", 64, 3900.0), limited("tfs-sidecar", 1, 380.0, p50=130.0))  # fmt: skip
        text = "\n".join(report.concurrency(results))
        self.assertIn("reaches 0.97x of the best direct throughput", text)
        self.assertIn("waits 30.0 µs longer", text)
        self.assertIn("| direct | 64 | 9,000 | 39.0 % | 390 |", text)

    def test_spread_shows_median_and_range(self):
        self.assertEqual(report.spread([3.0, 1.0, 2.0]), "2.00 [1.00-3.00]")
        self.assertEqual(report.spread([]), "-")


class Instructions(unittest.TestCase):
    def test_only_an_increase_beyond_the_tolerance_fails(self):
        self.assertTrue(instructions.compare({"S": 104}, {"S": 100}, 0.05)[1])
        self.assertFalse(instructions.compare({"S": 106}, {"S": 100}, 0.05)[1])
        self.assertTrue(instructions.compare({"S": 50}, {"S": 100}, 0.05)[1])

    def test_a_check_without_a_figure_fails(self):
        self.assertFalse(instructions.compare({"S": 1}, {}, 0.05)[1])

    def test_the_total_is_read_from_callgrinds_file(self):
        self.assertEqual(instructions.total("events: Ir\nsummary: 123\n\ntotals: 123\n"), 123)
        once = f"cfn=(7) {instructions.ONCE}\ncalls=1 61 \n* 20\n* 1\nfn=(8) f\ncfn=(7)\ncalls=1 61 \n+2 3\ncfn=(77)\ncalls=1 1 \n* 5\n"
        self.assertEqual(instructions.total(f"events: Ir\n{once}totals: 123\n"), 100)
        with self.assertRaises(ValueError):
            instructions.total("events: Ir\n")

    def test_the_table_shows_ratios(self):
        kept = {"per_request": {"S": 50, "S_f64": 60}, "peers": {"envoy": {"S": 100}}}
        table = report.instruction_table(kept)
        self.assertIn("| tfs-sidecar | S | 50 | 0.50x |", table)
        self.assertIn("| tfs-sidecar | S as float64 | 60 | 0.60x |", table)

    def test_the_committed_figures_can_be_read(self):
        kept = json.loads((Path(__file__).parent / "instructions.json").read_text(encoding="utf-8"))
        self.assertLess(kept["tolerance"], 0.2)


class Batching(unittest.TestCase):
    BERT = "bert-base, GPU"

    def results(self, *samples):
        machine = {**MACHINE, "version": "1.0.0"}
        return batching_report.Results([machine, *samples])

    def sample(self, case, load, target, rows, p99=1000.0, number=0, good=True, refused=0):
        group = {"rows_per_s": rows, "latency_us": {"p50": p99, "p99": p99}, "refused": refused, "sent": 100, "bins": []}
        return {"record": "sample", "case": case, "load": load, "target": target, "round": number, "good": good, "runs": 10,
                "run_rows": 100, "groups": {"all": group}, "procs": {"stub": {"us": 1.0}}, "other_cores": 0.1}  # fmt: skip

    def bar(self, results, what, instructions=None):
        return next(line for line in batching_report.bars(results, instructions or {}).splitlines() if what in line)

    def test_the_best_possible_batcher_uses_every_worker_and_no_row_beyond_the_limit(self):
        self.assertAlmostEqual(batching.CURVES[self.BERT].best(256), 64e6 / (127 * 64))
        self.assertAlmostEqual(batching.CURVES["mlp, 2 CPUs"].best(64), 2 * 32e6 / 4200)
        self.assertAlmostEqual(batching.CURVES["cnn, 2 CPUs"].best(1), 1e6 / 9300)

    def test_a_curve_is_measured_without_batching_at_loads_it_can_serve(self):
        for name, curve in batching.CURVES.items():
            for load, (keys, targets, _, _) in batching.loads(curve).items():
                if "rate" in keys and "off" in targets:
                    self.assertLess(keys["rate"], curve.alone(256), (name, load))

    def test_the_lowest_share_of_the_best_possible_decides(self):
        best = batching.CURVES[self.BERT].best(64)
        samples = [self.sample(self.BERT, "closed 64", "on", best * 0.97), self.sample(self.BERT, "closed 256", "on", best * 0.90)]
        line = self.bar(self.results(*samples), "of the best possible")
        self.assertIn(f"lowest 0.90x ({self.BERT}, 256 clients) | **missed**", line)
        self.assertIn("| met", self.bar(self.results(samples[0]), "of the best possible"))

    def test_batching_is_worse_only_if_every_round_says_so(self):
        def rounds(*ratios):
            off = [self.sample(self.BERT, "closed 8", "off", 100.0, number=n) for n in range(len(ratios))]
            return off + [self.sample(self.BERT, "closed 8", "on", 100.0 * r, number=n) for n, r in enumerate(ratios)]

        self.assertIn("0 of 3 comparisons", self.bar(self.results(*rounds(0.9, 0.99)), "compared with no batching"))
        line = self.bar(self.results(*rounds(0.9, 0.95)), "compared with no batching")
        self.assertIn("1 of 3 comparisons worse in every round", line)
        self.assertIn(f": {self.BERT}, closed 8, rows/s 0.93x", line)
        self.assertIn("**missed**", line)

    def test_batching_is_not_worse_within_the_spread_without_it(self):
        pairs = [(100.0, 94.0), (90.0, 85.0)]
        samples = [self.sample(self.BERT, "closed 8", "off", off, number=n) for n, (off, _) in enumerate(pairs)]
        samples += [self.sample(self.BERT, "closed 8", "on", on, number=n) for n, (_, on) in enumerate(pairs)]
        self.assertIn("0 of 3 comparisons", self.bar(self.results(*samples), "compared with no batching"))

    def test_a_refusal_behind_the_sidecar_misses_the_bar(self):
        direct = self.sample("threads", "closed 64", "direct-128", 100.0)
        met = self.sample("threads", "closed 64", "on", 140.0, p99=900.0)
        self.assertIn("1.40x | met", self.bar(self.results(direct, met), "threads direct: rows/s"))
        self.assertIn("| met", self.bar(self.results(direct, met), "the same: p99"))
        refused = self.sample("threads", "closed 64", "on", 140.0, p99=900.0, refused=1)
        self.assertIn("**missed**", self.bar(self.results(direct, refused), "the same: p99"))

    def test_real_models_are_compared_with_the_best_of_tensorflows_batching(self):
        samples = [self.sample("real", "mlp", target, rows) for target, rows in [("plain", 10.0), ("a", 30.0), ("b", 40.0), ("on", 39.0)]]
        self.assertIn("own batching (b): rows/s, p99 | at least 1.00x, at most 1.00x | 0.97x, 1.00x | **missed**",
                      self.bar(self.results(*samples), "mlp on TensorFlow"))  # fmt: skip

    def test_a_sample_with_an_error_is_left_out_and_counted(self):
        results = self.results(self.sample("threads", "closed 64", "on", 1.0, good=False))
        self.assertEqual((len(results.samples), len(results.bad)), (0, 1))
        self.assertIn("1 more left out", batching_report.run(results))

    def test_every_table_has_its_place_in_the_document(self):
        text = (Path(__file__).parents[2] / "docs" / "batching.md").read_text(encoding="utf-8")
        made = batching_report.tables(self.results(), {})
        filled = batching_report.fill(text, made)
        self.assertEqual(batching_report.fill(filled, made), filled)
        with self.assertRaises(SystemExit):
            batching_report.fill("no markers", made)

    def test_instructions_are_compared_with_those_of_the_same_run(self):
        self.assertEqual(instructions.bars({"S": 100, "S_batched": 91})[1], False)
        self.assertEqual(instructions.bars({"S": 100, "S_batched": 90, "S_one": 100, "S_lone": 103})[1], True)


class Soak(unittest.TestCase):
    METRICS = """# TYPE tfs_sidecar_requests_total counter
tfs_sidecar_requests_total{model="m",signature="s",method="Predict",outcome="conforming",code="OK"} 5
tfs_sidecar_requests_total{model="img",signature="s",method="Predict",outcome="conforming",code="OK"} 2
tfs_sidecar_requests_total{model="slow",signature="s",method="Predict",outcome="conforming",code="OK"} 3
tfs_sidecar_requests_total{model="m",signature="s",method="Predict",outcome="rejected",code="INVALID_ARGUMENT"} 1
tfs_sidecar_requests_total{model="m",signature="s",method="GetModelMetadata",outcome="passed",code="OK"} 9
"""
    SEEN = {("S", "ok"): 5, ("L", "ok"): 2, ("wrong", "refused"): 1, ("late", "ok"): 2, ("late", "cancelled"): 1}

    def test_only_predict_is_counted(self):
        counters = soak.predict_counters(self.METRICS)
        self.assertEqual(counters[("m", "conforming", "ok")], 5)
        self.assertEqual(sum(counters.values()), 11)

    def test_equal_counts_agree(self):
        self.assertEqual(soak.disagreements(self.SEEN, soak.predict_counters(self.METRICS)), [])

    def test_one_missing_request_is_detected(self):
        seen = {**self.SEEN, ("S", "ok"): 6}
        self.assertEqual(len(soak.disagreements(seen, soak.predict_counters(self.METRICS))), 1)

    def test_failures_are_allowed_only_during_restarts(self):
        ended = {"sent": 1, "unanswered": 0, "ends": [{"name": "S", "end": "unavailable", "count": 1}]}
        inside = {**ended, "listed": [[100.5, "S", "unavailable"]]}
        self.assertEqual(soak.judge(inside, [(100.0, 101.0)], [], None), [])
        self.assertEqual(len(soak.judge(inside, [(200.0, 201.0)], [], None)), 1)
        other = {**ended, "listed": [[100.5, "S", "grpc-status 13"]]}
        self.assertEqual(len(soak.judge(other, [(100.0, 101.0)], [], None)), 1)

    def test_a_request_that_never_ends_is_a_fault(self):
        lost = {"sent": 2, "unanswered": 1, "ends": [{"name": "S", "end": "ok", "count": 1}], "listed": []}
        self.assertEqual(len(soak.judge(lost, [], [], None)), 1)

    def test_growing_memory_is_a_fault(self):
        self.assertEqual(soak.grown([50_000] * 40), [])
        self.assertEqual(len(soak.grown([50_000 + 1000 * n for n in range(40)])), 1)


class Ports(unittest.TestCase):
    def test_a_free_port_can_be_bound(self):
        from harness import free_port

        with contextlib.closing(socket.socket()) as s:
            s.bind(("127.0.0.1", free_port()))


if __name__ == "__main__":
    unittest.main()
