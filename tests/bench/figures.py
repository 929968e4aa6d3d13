"""Medians, ranges and ratios of samples, and how the reports print them."""

import json
import statistics
from pathlib import Path


def records_of(path):
    """The records of a file that has one in each line; none if there is no such file."""
    try:
        return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []


def cpu(sample):
    return sample["procs"].get("proxy", {}).get("us")


def p50(sample):
    return (sample["latency_us"] or {}).get("p50")


def ratios(ours, base):
    """One ratio per round that has both values."""
    return [ours[r] / base[r] for r in sorted(ours) if base.get(r)]


def differences(ours, base):
    return [ours[r] - base[r] for r in sorted(ours) if r in base]


def number(value):
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def middle(values, unit=""):
    values = list(values)
    return number(statistics.median(values)) + unit if values else "-"


def spread(values, unit=""):
    """Median and range; a dash if there are no values."""
    values = list(values)
    if len(values) < 2:
        return middle(values, unit)
    return f"{middle(values, unit)} [{number(min(values))}-{number(max(values))}]"


def table(head, rows):
    if not rows:
        return "Not measured."
    line = "|" + "---|" + "---:|" * (len(head) - 1)
    return "\n".join(["| " + " | ".join(head) + " |", line, *("| " + " | ".join(row) + " |" for row in rows)])
