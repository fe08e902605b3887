"""Is a task one linear map away from a frozen encoder? Layer by layer, trained and as it was made.

For what each block adds to the stream, and for the embedding before all: the accuracy and macro recall of a linear
probe for a label of points (scikit-learn's logistic regression), and the mean silhouette of the points of a track
within their event, on these numbers as they are and after one linear map to 16 of them (Fisher's discriminants of
tracks). Fitted on the first half of the events of the test split, measured on the other; intervals are 95 % bootstrap
over events.

    python benchmarks/linear_map.py runs/fm4npp data/tpc --events 120
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_samples
from sklearn.preprocessing import StandardScaler

from multiplet.checkpoint import require_newest
from multiplet.data.events import EventFiles, Events
from multiplet.intervals import bootstrap
from multiplet.model import Model, load_weights
from multiplet.recipe import open_run

LEAST = 3  # points of a track that counts


@dataclass(frozen=True)
class Points:
    """Points of events: one array (n, D) a layer, their event, track and class."""

    layers: list[np.ndarray]
    event: np.ndarray
    track: np.ndarray
    label: np.ndarray

    def where(self, chosen: np.ndarray) -> Points:
        """Those points."""
        return Points([h[chosen] for h in self.layers], self.event[chosen], self.track[chosen], self.label[chosen])


@torch.no_grad()
def read(model: Model, dataset: EventFiles, label: str, events: int, rng: np.random.Generator, most: int) -> Points:
    """At most `most` points of each event, drawn; tracks are numbered over all events, -1 for short ones."""
    layers: list[list[np.ndarray]] = []
    event, track, kind = [], [], []
    for number in range(events):
        tokens = model.tokens(dataset.read("test", np.array([number])))
        hidden = model.encoder(tokens, blocks=True)
        stream = [hidden.before, *hidden.blocks]
        parts = [stream[0], *(after - before for before, after in pairwise(stream))]
        kept = rng.permutation(tokens.mask.shape[1])[:most]
        layers.append([part[0, kept].numpy() for part in parts])
        event.append(np.full(len(kept), number))
        track.append(tokens.truth["track_id"][0, kept].numpy())
        kind.append(tokens.truth[label][0, kept].numpy())
    events_of = np.concatenate(event)
    pairs = np.stack([events_of, np.concatenate(track)], 1)
    _, ids, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    ids = np.where((counts[ids] >= LEAST) & (pairs[:, 1] >= 0), ids, -1)
    return Points([np.concatenate(rows) for rows in zip(*layers, strict=True)], events_of, ids, np.concatenate(kind))


def silhouette(x: np.ndarray, points: Points) -> np.ndarray:
    """The mean silhouette of each event (E,), over points of tracks that count; events with one such track are out."""
    values = []
    for event in np.unique(points.event):
        here = (points.event == event) & (points.track >= 0)
        if 1 < len(np.unique(points.track[here])) < here.sum():
            values.append(silhouette_samples(x[here], points.track[here]).mean())
    return np.array(values)


def probe(x: np.ndarray, train: Points, y: np.ndarray, test: Points) -> tuple[float, float]:
    """Accuracy, and recall averaged over classes, of a linear probe."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = LogisticRegression(max_iter=200).fit(x, train.label)
    right = fitted.predict(y) == test.label
    return float(right.mean()), float(np.mean([right[test.label == one].mean() for one in np.unique(test.label)]))


def rows(model: Model, dataset: EventFiles, label: str, events: int, most: int, seed: int) -> list[str]:
    """A line of the table for each layer."""
    points = read(model, dataset, label, events, np.random.default_rng(seed), most)
    train, test = points.where(points.event < events // 2), points.where(points.event >= events // 2)
    lines = []
    for number, (x, y) in enumerate(zip(train.layers, test.layers, strict=True)):
        scale = StandardScaler().fit(x)
        x, y = scale.transform(x), scale.transform(y)
        accuracy, recall = probe(x, train, y, test)
        counted = train.track >= 0
        turn = LinearDiscriminantAnalysis(n_components=min(16, x.shape[1])).fit(x[counted], train.track[counted])
        shown = [bootstrap(np.mean, silhouette(z, test), level=0.95) for z in (y, turn.transform(y))]
        cells = " | ".join(f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in shown)
        lines.append(f"{'embedding' if not number else f'block {number}'} | {accuracy:.4f} | {recall:.4f} | {cells}")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("data")
    parser.add_argument("--label", default="particle")
    parser.add_argument("--events", type=int, default=120)
    parser.add_argument("--points", type=int, default=400, help="drawn of each event")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    opened, dataset = open_run(given.run), Events(given.data).open()
    print(f"{given.events} events, {given.points} points of each, label {given.label}, seed {given.seed}")
    print("| encoder | layer | probe accuracy | probe macro recall | silhouette | after one linear map |")
    print("|---|---|---|---|---|---|")
    for name, parts in (("trained", None), ("random", ("represent",))):
        model = opened.recipe.build(opened.schema).eval()
        load_weights(model, require_newest(opened.path).weights(), parts)
        for line in rows(model, dataset, given.label, given.events, given.points, given.seed):
            print(f"| {name} | {line} |", flush=True)


if __name__ == "__main__":
    main()
