"""Codes: how many of a tokenizer's ids are in use, and how evenly; few of many are a codebook that has collapsed."""

from __future__ import annotations

import numpy as np
import torch

from multiplet.data.events import Dataset, Split
from multiplet.evaluation.scores import tokens_of
from multiplet.intervals import Estimate, bootstrap, like_weights, weight_rows
from multiplet.model import Model

COUNTED = 10_000  # events


@torch.no_grad()
def code_usage(model: Model, dataset: Dataset, split: Split) -> dict[str, Estimate]:
    """`codes in use`, the share of ids that any point has, and `perplexity of codes`, exp(-Σ p ln p) of their shares p.

    Of all points that become tokens in the first 10,000 events of a split; {} for a representation without a tokenizer.
    """
    if model.represent.tokenizer is None:
        return {}
    codes, parts = model.represent.tokenizer.codes, []
    for tokens in tokens_of(model, dataset, split, COUNTED):
        event, slot = tokens.mask.nonzero(as_tuple=True)
        cell = event * codes + tokens.ids["code"][event, slot]
        parts.append(torch.bincount(cell, minlength=len(tokens.mask) * codes).view(-1, codes).cpu())
    counts = torch.cat(parts).numpy().astype(float)
    return {"codes in use": bootstrap(_in_use, counts), "perplexity of codes": bootstrap(perplexity, counts)}


def perplexity(counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Of how often each event (E,) has each code: (E, codes); with weights (R, E) a value for each row."""
    total = weight_rows(weights, len(counts)) @ counts
    share = total / np.maximum(total.sum(-1, keepdims=True), 1)
    return like_weights(weights, np.exp(-(share * np.log(np.where(share > 0, share, 1))).sum(-1)))


def _in_use(counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    return like_weights(weights, (weight_rows(weights, len(counts)) @ counts > 0).mean(-1))
