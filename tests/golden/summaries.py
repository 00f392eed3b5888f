"""Reference numbers for reports/statistics.rs.

Run: python tests/golden/summaries.py   (writes statistics.json beside itself; a script of that name would stand in for the
standard library's module)
Made with Python 3.11, numpy 2.4, scipy 1.17, statsmodels 0.15.
"""

import json
from pathlib import Path

import numpy as np
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests


def summary(values):
    n, mean, sd = len(values), np.mean(values), np.std(values, ddof=1)
    low, high = stats.t.interval(0.95, n - 1, loc=mean, scale=stats.sem(values))
    wide = stats.t.interval(0.99, n - 1, loc=mean, scale=stats.sem(values))
    p = stats.ttest_1samp(values, 0).pvalue
    return {"values": values, "mean": mean, "sd": sd, "low": low, "high": high, "wide": wide, "p": p}


def pairs(arm, minus):
    test = stats.ttest_rel(arm, minus)
    low, high = test.confidence_interval(0.95)
    return {"arm": arm, "minus": minus, "mean": np.mean(np.subtract(arm, minus)), "low": low, "high": high, "p": test.pvalue}


def holm(ps):
    return {"ps": ps, "adjusted": multipletests(ps, alpha=0.05, method="holm")[1].tolist()}


def detectable(n, sd):
    enough = lambda effect: power(n, effect, sd)["power"] - 0.8
    return {"n": n, "sd": sd, "effect": optimize.brentq(enough, 1e-6, 100 * sd, xtol=1e-12)}


def power(n, effect, sd):
    critical = stats.t.ppf(0.975, n - 1)
    return {"n": n, "effect": effect, "sd": sd, "power": stats.nct.sf(critical, n - 1, abs(effect) * n**0.5 / sd)}


def needed(effect, sd):
    n = next(n for n in range(2, 1001) if power(n, effect, sd)["power"] >= 0.8)
    return {"effect": effect, "sd": sd, "n": n}


draws = np.random.default_rng(0)
sizes = [2, 3, 4, 5, 9, 10, 30, 200]
noise = np.random.default_rng(1)
rounded = lambda values: np.round(values, 3).tolist()
golden = {
    "summaries": [summary(np.round(draws.normal(20, 2, n), 3).tolist()) for n in sizes]
    + [summary([0.4, -0.3, 1.1, 0.2]), summary([0.9, 1.4, 1.1])],
    "powers": [power(n, effect, 1.0) for n in [2, 3, 5, 10, 40] for effect in [0.2, 1.0, -2.5]],
    "pairs": [pairs(rounded(noise.normal(21, 2, n)), rounded(noise.normal(20, 2, n))) for n in [2, 5, 12]],
    "holm": [holm(ps) for ps in [[0.03], [0.01, 0.04], [0.04, 0.01, 0.03], [0.2, 0.001, 0.02, 0.02, 0.9], [0.5, 0.6, 0.9]]],
    "detectable": [detectable(n, sd) for n, sd in [(2, 1.0), (3, 0.7), (5, 1.0), (10, 2.0), (30, 1.0)]],
    "needed": [needed(effect, sd) for effect, sd in [(5, 1), (1, 1), (-1, 2), (0.3, 1), (0.1, 1), (50, 1), (0.089, 1)]],
}
path = Path(__file__).with_suffix(".json")
path.write_text(json.dumps(golden, indent=1) + "\n")
