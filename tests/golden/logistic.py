"""Logistic regressions for experiments/evaluate/logistic.rs, fitted by scikit-learn.

Run: python tests/golden/logistic.py   (writes logistic.json beside itself)
Made with Python 3.11, numpy 2.4, scikit-learn 1.9. With three classes or more `LogisticRegression` is the multinomial
regression over all classes; C is one over the strength of the penalty.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression


def fitted(draws, images, width, classes, strength):
    centres = draws.normal(0, 1, (classes, width))
    labels = np.concatenate([np.arange(classes), draws.integers(0, classes, images - classes)])
    features = np.round(centres[labels] + draws.normal(0, 1.5, (images, width)), 4)
    model = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=100_000).fit(features, labels)
    layer = np.concatenate([model.coef_.T, model.intercept_[None]])
    tested = np.round(draws.normal(0, 1.5, (5, width)), 4)
    return {
        "features": features.tolist(),
        "classes": labels.tolist(),
        "strength": strength,
        "layer": layer.tolist(),
        "tested": tested.tolist(),
        "shares": model.predict_proba(tested).tolist(),
    }


draws = np.random.default_rng(0)
cases = [(40, 3, 3, 1.0), (60, 5, 4, 0.01), (30, 8, 3, 100.0), (24, 12, 5, 0.001)]
golden = [fitted(draws, *case) for case in cases]
Path(__file__).with_suffix(".json").write_text(json.dumps(golden) + "\n")
