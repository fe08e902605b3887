"""What a frozen encoder of jets is worth to a linear head that has converged, beside encoders that were never trained.

Logistic regression (scikit-learn, L2, C = 1) on the standardised means of the encoder's outputs, on the labelled jets
that the seeds of `masked_diffusion` have: seed s those from place s · labels of the training split on. Measured on the
whole test split. Differences are paired over seeds and events, 95 %.

    python benchmarks/linear_probe.py runs/masked-diffusion/diffusion runs/masked-diffusion/vq --labels 300 1000 3000
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from multiplet.data.events import Events, Split
from multiplet.evaluation.scores import score
from multiplet.intervals import paired_difference
from multiplet.model import Model
from multiplet.progress import Silent
from multiplet.recipe import open_run
from multiplet.transfer import FrozenRandom


def outputs(model: Model, data: Events, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the encoder's outputs of each event (E, D), and labels (E,)."""
    table = score(model, data.open(), split, ["label"], Silent(), embeddings=True)
    return np.stack([values for name, values in table.items() if name.startswith("emb_")], 1), table["label"]


def right(model: Model, path: str, labels: int, seeds: range) -> Iterator[np.ndarray]:
    """Whether each test event was told right (E,), for each seed."""
    others, truth = outputs(model, Events(path), "test")
    for seed in seeds:
        x, y = outputs(model, Events(path, seed * labels, labels), "train")
        head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(x, y)
        yield (head.predict(others) == truth).astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="pretrained on jets; the first also gives the shape of random encoders")
    parser.add_argument("--labels", nargs="+", type=int, default=[1000])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    for labels in args.labels:
        found = {}
        for path in args.runs:
            run = open_run(path)
            found[run.name] = list(right(run.model(), run.recipe.data.path, labels, range(args.seeds)))
        run, drawn = open_run(args.runs[0]), []
        for seed in range(args.seeds):  # another encoder a seed
            model = Model(run.recipe.represent, run.recipe.encoder, run.recipe.objective, run.schema, seed)
            FrozenRandom(args.runs[0]).carry(model)
            drawn += right(model.eval(), run.recipe.data.path, labels, range(seed, seed + 1))
        found["random"] = drawn
        for name, seeds in found.items():
            means = np.array([each.mean() for each in seeds])
            print(f"{labels} labels, {name}: {means.mean():.4f} ± {means.std(ddof=1):.4f}", flush=True)
        for (one, first), (other, second) in combinations(found.items(), 2):
            print(f"  {one} - {other}: {paired_difference(first, second)}", flush=True)


if __name__ == "__main__":
    main()
