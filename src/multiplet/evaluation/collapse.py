"""Collapse: how many of a tokenizer's ids, and of an encoder's directions, are in use, and how evenly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from multiplet.data.events import Dataset, Split
from multiplet.evaluation.scores import tokens_of
from multiplet.intervals import Estimate, bootstrap, like_weights, weight_rows
from multiplet.model import Model

COUNTED = 10_000  # events, for ids
ENCODED = 200  # events, for directions


@torch.no_grad()
def effective_rank(model: Model, dataset: Dataset, split: Split) -> dict[str, Estimate]:
    """`effective rank` of the encoder's D outputs: exp(-Σ p ln p) of the shares p of variance along principal axes.

    From 1, where all outputs lie on a line, to D; over all points, nothing hidden, of the first 200 events of a split.
    {} for a task with labels, and where fewer than two points are in the events. (After O. Roy and M. Vetterli, EUSIPCO
    2007, who take shares of singular values instead.)
    """
    if model.objective.truth:
        return {}
    kept = []
    for tokens in tokens_of(model, dataset, split, ENCODED):
        hidden = model.encoder(tokens)
        kept += [points[real].float().cpu() for points, real in zip(hidden.points, hidden.mask, strict=True)]
    if sum(map(len, kept)) < 2:
        return {}
    centre = torch.cat(kept).mean(0)
    moments = []  # of each event: one, the sum of its points and of their products
    for points in kept:
        x = torch.cat([torch.ones(len(points), 1), points - centre], 1)
        moments.append((x.T @ x).numpy())
    return {"effective rank": _about(_rank, np.stack(moments), len(centre))}


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
    return {"codes in use": _about(_in_use, counts, 1), "perplexity of codes": _about(perplexity, counts, codes)}


def _about(function: Callable[..., Any], values: np.ndarray, most: float) -> Estimate:
    """The bootstrap's width about the value: replicates have fewer events, hence fewer ids and directions, in use."""
    found = bootstrap(function, values)
    half = (found.high - found.low) / 2
    return replace(found, low=found.value - half, high=min(found.value + half, max(most, found.value)))


def perplexity(counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Of how often each event (E,) has each code: (E, codes); with weights (R, E) a value for each row."""
    return like_weights(weights, _evenness(weight_rows(weights, len(counts)) @ counts))


def _in_use(counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    return like_weights(weights, (weight_rows(weights, len(counts)) @ counts > 0).mean(-1))


def _rank(moments: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray | float:
    """Of the moments (E, 1 + D, 1 + D) of events' points; with weights (R, E) a value for each row."""
    total = np.tensordot(weight_rows(weights, len(moments)), moments, 1)
    total /= np.maximum(total[:, :1, :1], 1)
    mean = total[:, 0, 1:]
    variance = np.linalg.eigvalsh(total[:, 1:, 1:] - mean[:, :, None] * mean[:, None, :])
    return like_weights(weights, _evenness(np.maximum(variance, 0)))


def _evenness(amounts: np.ndarray) -> np.ndarray:
    """exp(-Σ p ln p) of the shares p of amounts (…, n): n where they are equal, 1 where there is but one."""
    total = amounts.sum(-1, keepdims=True)
    share = amounts / np.where(total > 0, total, 1)
    return np.exp(-(share * np.log(np.where(share > 0, share, 1))).sum(-1))
