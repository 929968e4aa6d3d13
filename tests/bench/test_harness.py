"""Tests of the harness's own arithmetic: `python3 -m unittest` in this folder."""

import contextlib
import json
import socket
import tempfile
import unittest
from pathlib import Path

import batching
import batching_report
import cost
import footprint
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


def page(results, footprint=(), batching=()):
    kept = {"per_request": {}, "peers": {}}
    return report.render(results, kept, cost.Footprint(footprint), batching_report.Results(batching))


class Report(unittest.TestCase):
    def results(self, *records):
        return report.Results([MACHINE, *records])

    def bar(self, results, what, footprint=()):
        lines = report.bars(results, cost.Footprint(footprint)).splitlines()
        return next(line for line in lines if line.startswith(f"| {what}"))

    def test_ratios_stay_within_a_round(self):
        self.assertEqual(report.ratios({0: 30.0, 1: 80.0, 2: 5.0}, {0: 100.0, 1: 200.0}), [0.3, 0.4])

    def test_the_median_decides_a_bar(self):
        samples = [sample("bare-hyper", 100.0, number=n) for n in range(3)]
        samples += [sample("tfs-sidecar", us, number=n) for n, us in enumerate([70.0, 80.0, 190.0])]
        what = "CPU per request relative to a bare hyper proxy, S "
        self.assertIn("≤ 0.85x | 0.80 [0.70-1.90] | met", self.bar(self.results(*samples), what))
        samples += [sample("tfs-sidecar", 90.0, number=n) for n in range(3)]
        self.assertIn("0.90 [0.90-0.90] | **missed**", self.bar(self.results(*samples), what))

    def test_m_has_bars_relative_to_bare_hyper_and_haproxy(self):
        peers = [sample("bare-hyper", 10.0, payload="M"), sample("haproxy", 20.0, payload="M")]
        results = self.results(*peers, sample("tfs-sidecar", 9.5, payload="M"))
        self.assertIn("≤ 0.90x | 0.95 | **missed**", self.bar(results, "CPU per request relative to a bare hyper proxy, M "))
        self.assertIn("≤ 0.60x | 0.47 | met", self.bar(results, "CPU per request relative to HAProxy, M "))

    def test_a_wish_is_not_called_a_missed_bar(self):
        what = "CPU per request relative to HAProxy, S "
        results = [self.results(sample("haproxy", 10.0), sample("tfs-sidecar", us)) for us in (11.0, 10.0)]
        self.assertIn("≤ 1.00x (a wish) | 1.10 | not met", self.bar(results[0], what))
        self.assertIn("| 1.00 | met", self.bar(results[1], what))

    def test_the_image_has_a_bar_in_decimal_megabytes(self):
        def size(image):
            return {"record": "size", "target": "tfs-sidecar", "binary_bytes": 1, "image_bytes": image}

        self.assertIn("≤ 15 | 15.0 | met", self.bar(self.results(), "image", [size(15_000_000)]))
        self.assertIn("| **missed**", self.bar(self.results(), "image", [size(15_100_000)]))

    def test_a_bar_without_samples_is_not_met(self):
        lines = report.bars(self.results(sample("envoy", 100.0)), cost.Footprint([])).splitlines()[2:]
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
        self.assertIn("1 samples, 1 more left out because of errors", page(results))

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


class Cost(unittest.TestCase):
    """The table that docs/performance.md opens with."""

    FOOTPRINT = [
        {**MACHINE, "starts": 1, "rounds": 1, "quick": False},
        {"record": "size", "target": "envoy", "binary_bytes": 100_000_000},
        {"record": "size", "target": "tfs-sidecar", "binary_bytes": 12_000_000, "image_bytes": 12_300_000},
        {"record": "start", "round": 0, "target": "envoy", "models": 1, "ms": 50.0},
        {"record": "start", "round": 0, "target": "tfs-sidecar", "models": 1, "ms": 10.0},
        {"record": "start", "round": 0, "target": "tfs-sidecar", "models": 100, "ms": 40.0},
        {"record": "models", "round": 0, "models": 100, "profiles": True, "good": True, "idle_kb": 1, "used_kb": 30 * 1024, "peak_kb": 1},
        {"record": "batching", "round": 0, "payload": "S", "batching": True, "good": True, "peak_kb": 18 * 1024},
        {"record": "batching", "round": 0, "payload": "S", "batching": False, "good": True, "peak_kb": 99 * 1024},
    ]  # fmt: skip

    def held(self, target, idle, held, number=0, good=True):
        return {"record": "connections", "round": number, "target": target, "good": good, "connections": 10_000,
                "idle_kb": idle * 1024, "held_kb": held * 1024}  # fmt: skip

    def row(self, text, title):
        found = [line for line in text.splitlines() if line.startswith(f"| {title}")]
        return [cell.strip() for cell in found[0].split("|")[2:-1]] if found else None

    def test_a_peers_figure_has_the_sidecars_ratio_within_rounds(self):
        samples = [sample("haproxy", us, number=n) for n, us in enumerate([10.0, 20.0, 40.0])]
        samples += [sample("tfs-sidecar", us, number=n) for n, us in enumerate([11.0, 26.0, 36.0])]
        text = page(report.Results([MACHINE, *samples]))
        self.assertEqual(self.row(text, "CPU µs per request, S (575 bytes)"), ["26.0", "-", "-", "-", "20.0 (1.10x)", "-"])

    def test_the_footprint_is_beside_that_of_the_peers(self):
        held = [self.held("envoy", 60, 600), self.held("tfs-sidecar", 10, 300), self.held("tfs-sidecar", 1, 1, number=1, good=False)]
        text = page(report.Results([]), [*self.FOOTPRINT, *held])
        self.assertEqual(self.row(text, "memory with 10,000 idle connections")[:3], ["300", "-", "600 (0.50x)"])
        self.assertEqual(self.row(text, "memory idle")[:3], ["10.0", "-", "60.0 (0.17x)"])
        self.assertEqual(self.row(text, "started after")[:3], ["10.0", "-", "50.0 (0.20x)"])
        self.assertEqual(self.row(text, "started with 100 models")[0], "40.0")
        self.assertEqual(self.row(text, "memory, 100 models in use, a profile each")[0], "30.0")
        self.assertEqual(self.row(text, "peak memory with batching, 64 clients of S")[0], "18.0")
        self.assertEqual(self.row(text, "program on disk")[:3], ["12.0", "-", "100 (0.12x)"])
        self.assertEqual(self.row(text, "image (")[0], "12.3")
        # What a connection takes: (300 - 10) * 1024 / 10,000.
        self.assertEqual(self.row(text, "tfs-sidecar | 10.0")[-1], "29.7")

    def test_what_it_earns_is_beside_no_proxy(self):
        def limited(target, rps, refused):
            return {"record": "concurrency", "round": 0, "target": target, "clients": 64, "threads": 8, "service_us": 1, "rps": rps,
                    "sent": 1000, "refused": refused, "exhausted": 0, "latency_us": None}  # fmt: skip

        rows = [("threads", "closed 64", "direct-128", 100.0), ("threads", "closed 64", "on", 250.0), ("real", "mlp", "plain", 10.0),
                ("real", "mlp", "a", 30.0), ("real", "mlp", "b", 40.0), ("real", "mlp", "on", 44.0)]  # fmt: skip
        batched = Batching()
        text = page(report.Results([MACHINE, limited("direct", 3500.0, 750), limited("tfs-sidecar", 3600.0, 0)]),
                    batching=[{**MACHINE, "version": "1.0.0"}, *(batched.sample(*row) for row in rows)])  # fmt: skip
        answers = self.row(text, "answers per second, 64 clients of a server with 8 threads")
        self.assertEqual((answers[0], answers[-1]), ("3,600, none refused", "3,500, 75.0 % refused"))
        busy = self.row(text, "rows per second with batching, 64 clients, calls that cost")
        self.assertEqual((busy[0], busy[-1]), ("250", "100 (2.50x) with a thread for each client"))
        real = self.row(text, "rows per second with batching, 64 clients, mlp")
        self.assertEqual((real[0], real[-1]), ("44.0", "40.0 (1.10x) with TensorFlow's own batching at its best; 10.0 with none"))

    def test_a_file_that_is_missing_leaves_its_rows_out_and_names_its_command(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(report.records_of(Path(folder) / "no.jsonl"), [])
        text = page(report.Results([MACHINE, sample("tfs-sidecar", 1.0)]))
        self.assertEqual(text.count("* Not measured"), 2)
        self.assertIn("`make bench-footprint` adds these rows", text)
        self.assertIn("`make bench-batching` adds these rows", text)
        self.assertIsNone(self.row(text, "memory"))
        self.assertIsNone(self.row(text, "rows per second"))
        without = page(report.Results([]), self.FOOTPRINT)
        self.assertIn("`make bench-proxy` adds these rows", without)
        self.assertIsNone(self.row(without, "CPU µs"))
        self.assertNotIn("## One worker", without)

    def test_a_quick_run_is_marked(self):
        quick = [{**self.FOOTPRINT[0], "quick": True}, *self.FOOTPRINT[1:]]
        self.assertIn("its figures mean nothing", page(report.Results([]), quick))
        self.assertNotIn("its figures mean nothing", page(report.Results([]), self.FOOTPRINT))

    def test_the_page_opens_with_the_table(self):
        text = page(report.Results([MACHINE, sample("tfs-sidecar", 1.0)]), self.FOOTPRINT)
        headings = [line for line in text.splitlines() if line.startswith("## ")]
        self.assertEqual(headings[:3], ["## What it costs, what it earns", "## Bars", "## Missed bars, and what was tried"])

    def test_each_model_gets_its_own_profile(self):
        made = footprint.config(["m0", "m1"], "{profile: MODEL.yaml}")
        self.assertEqual(made, "models:\n  m0: {profile: m0.yaml}\n  m1: {profile: m1.yaml}\n")


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
