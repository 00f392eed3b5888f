"""Reference numbers for reports/statistics.rs.

Run: python tests/golden/statistics.py   (writes statistics.json beside itself)
Made with Python 3.11, numpy 2.4, scipy 1.17.
"""

import json
from pathlib import Path

import numpy as np
from scipy import stats


def summary(values):
    n, mean, sd = len(values), np.mean(values), np.std(values, ddof=1)
    low, high = stats.t.interval(0.95, n - 1, loc=mean, scale=stats.sem(values))
    return {"values": values, "mean": mean, "sd": sd, "low": low, "high": high}


def power(n, effect, sd):
    critical = stats.t.ppf(0.975, n - 1)
    return {"n": n, "effect": effect, "sd": sd, "power": stats.nct.sf(critical, n - 1, abs(effect) * n**0.5 / sd)}


def needed(effect, sd):
    n = next(n for n in range(2, 1001) if power(n, effect, sd)["power"] >= 0.8)
    return {"effect": effect, "sd": sd, "n": n}


draws = np.random.default_rng(0)
sizes = [2, 3, 4, 5, 9, 10, 30, 200]
golden = {
    "summaries": [summary(np.round(draws.normal(20, 2, n), 3).tolist()) for n in sizes],
    "powers": [power(n, effect, 1.0) for n in [2, 3, 5, 10, 40] for effect in [0.2, 1.0, -2.5]],
    "needed": [needed(effect, sd) for effect, sd in [(5, 1), (1, 1), (-1, 2), (0.3, 1), (0.1, 1)]],
}
path = Path(__file__).with_suffix(".json")
path.write_text(json.dumps(golden, indent=1) + "\n")
