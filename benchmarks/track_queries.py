"""Track queries: does the track adapter fail at masks, or at saying which of its queries are tracks?

    python benchmarks/track_queries.py runs/controls/tracks-frozen-300-s0 data/tpc-controls --events 100

Adjusted Rand index of test events, pooled and as a mean, each point given to the query that claims it most: as the run
decides; and where truth tells which queries stand for a track (Hungarian matching, as in the loss), which no run may
know. Beside it, how well the run tells those queries from the others: the AUC of its chance to be a track.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from multiplet.data.batches import Batches, load, sequential
from multiplet.data.events import Events
from multiplet.recipe import open_run
from multiplet.tasks.matching import matched, one_hot_tracks
from multiplet.tasks.tracks import TracksNet
from multiplet.track_metrics import NONE, adjusted_rand, adjusted_rand_of_each, overlaps, pair_sums

EVENTS = 100


def answers(run: Path, data: str, events: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Of each event: true tracks, what the run finds, what matched queries would; AUC; queries called tracks."""
    model = open_run(run).model()
    net = model.objective
    assert isinstance(net, TracksNet), f"{run} finds no tracks"
    files = Events(data).open()
    work = sequential(files, "test", Batches(16, points_at_once=16_000), min(events, files.size("test")))
    for cloud in (cloud for _, clouds in load(files, "test", work) for cloud in clouds):
        tokens = model.tokens(cloud)
        kind, owned = net.stages(model.encoder, tokens)[-1]
        truth = tokens.truth[net.spec.label]
        stands = matched(kind, owned, one_hot_tracks(truth, tokens.mask), tokens.mask, net.spec.weigh)
        sure = kind.softmax(-1)[..., 1]
        known = (owned.sigmoid() * stands[..., None]).max(1)
        found = net.predict(model.encoder, tokens)["found"]
        best = known.indices.masked_fill(known.values <= 0, NONE)
        for place, mask in enumerate(tokens.mask):
            auc = roc_auc_score(stands[place].numpy(), sure[place].numpy())
            yield (*(x[place][mask].numpy() for x in (truth, found, best)), auc, int((sure[place] > 0.5).sum()))


def scores(true: list[np.ndarray], found: list[np.ndarray]) -> str:
    """Pooled and mean adjusted Rand index."""
    index = np.repeat(np.arange(len(true)), [len(each) for each in true])
    sums = pair_sums(overlaps(index, np.maximum(np.concatenate(true), NONE), np.concatenate(found), len(true)))
    return f"{adjusted_rand(sums):.3f}; {np.nanmean(adjusted_rand_of_each(sums)):.3f}"


@torch.no_grad()
def main() -> None:
    """Print a row a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("data")
    parser.add_argument("--events", type=int, default=EVENTS)
    given = parser.parse_args()
    print(
        "| run | as decided (pooled; mean) | matched queries | AUC | called tracks | true tracks |\n" + "|---" * 6 + "|"
    )
    for run in given.runs:
        true, found, best, auc, called = zip(*answers(run, given.data, given.events), strict=True)
        tracks = np.mean([len(np.unique(each[each >= 0])) for each in true])
        print(
            f"| {run.name} | {scores(true, found)} | {scores(true, best)} | {np.mean(auc):.2f} | "
            f"{np.mean(called):.1f} | {tracks:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
