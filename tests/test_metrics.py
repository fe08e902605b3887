"""Metrics against slow loops and scikit-learn; intervals against their coverage."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from multiplet import intervals, metrics
from multiplet.backbones.transformer import Transformer
from multiplet.encoder import Encode
from multiplet.errors import DataError
from multiplet.representation.tokens import Shape
from multiplet.tasks.classify import Classify, ClassifyNet


def classified(seed: int = 0, events: int = 300, classes: int = 4, digits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Truth and class probabilities, rounded so that scores tie."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(events) % classes)
    logits = rng.normal(0, 1, (events, classes)) + 1.2 * np.eye(classes)[truth]
    scores = np.round(np.exp(logits), digits)
    return truth, scores / scores.sum(1, keepdims=True)


def two_kinds(seed: int = 0, events: int = 200, digits: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = (np.arange(events) % 3 == 0).astype(np.int64)
    return truth, np.round(rng.normal(truth, 1.0), digits)


def slow_auc(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> float:
    won = total = 0.0
    for i, j in itertools.product(np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)):
        total += weights[i] * weights[j]
        won += weights[i] * weights[j] * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0)
    return won / total


# --- classification ---------------------------------------------------------------------------------------------------


def test_accuracy_counts_the_largest_score() -> None:
    truth, scores = classified()
    right = sum(max(range(4), key=lambda c: s[c]) == t for t, s in zip(truth, scores, strict=True))
    assert metrics.accuracy(truth, scores) == right / len(truth)
    assert metrics.accuracy(truth, scores.argmax(1)) == right / len(truth)
    weights = np.arange(len(truth))
    by_hand = sum(w for w, t, s in zip(weights, truth, scores, strict=True) if s.argmax() == t) / weights.sum()
    assert metrics.accuracy(truth, scores, weights) == pytest.approx(by_hand)


def test_confusion_counts_rows_of_truth() -> None:
    truth, scores = classified()
    counts = metrics.confusion(truth, scores, 5)
    assert counts.shape == (5, 5)
    assert counts.dtype.kind == "i"
    for true, predicted in itertools.product(range(5), repeat=2):
        assert counts[true, predicted] == np.sum((truth == true) & (scores.argmax(1) == predicted))
    assert np.trace(counts) / counts.sum() == metrics.accuracy(truth, scores)
    assert np.allclose(metrics.confusion(truth, scores, 5, np.full(len(truth), 0.5)), counts / 2)
    with pytest.raises(DataError, match="class codes run from 0 to 3, with 2 classes"):
        metrics.confusion(truth, scores, 2)


@given(st.integers(0, 10_000), st.integers(0, 2))
def test_auc_equals_the_loop_over_pairs_ties_included(seed: int, digits: int) -> None:
    truth, score = two_kinds(seed, 40, digits)
    weights = np.random.default_rng(seed).uniform(0, 2, len(truth))
    assert metrics.auc(truth, score) == pytest.approx(slow_auc(truth, score, np.ones(len(truth))))
    assert metrics.auc(truth, score) == pytest.approx(sklearn_metrics.roc_auc_score(truth, score))
    assert metrics.auc(truth, score, weights) == pytest.approx(slow_auc(truth, score, weights))
    assert metrics.auc(truth == 1, -score) == pytest.approx(1 - metrics.auc(truth, score))


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_one_versus_one_equals_scikit_learn(classes: int) -> None:
    truth, scores = classified(classes, 500, classes)
    got = metrics.auc_one_versus_one(truth, scores)
    if classes > 2:  # with two, scikit-learn takes one column only
        assert got == pytest.approx(sklearn_metrics.roc_auc_score(truth, scores, multi_class="ovo"))
    pairs = []
    for a, b in itertools.permutations(range(classes), 2):
        chosen = np.isin(truth, (a, b))
        pairs.append(slow_auc((truth[chosen] == a) * 1, scores[chosen, a], np.ones(chosen.sum())))
    assert got == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("name", ["accuracy", "auc_one_versus_one", "auc"])
def test_rows_of_weights_give_what_repeated_events_give(name: str) -> None:
    function = getattr(metrics, name)
    truth, scores = two_kinds() if name == "auc" else classified()
    counts = np.random.default_rng(0).integers(0, 3, (5, len(truth)))
    expected = [function(np.repeat(truth, row), np.repeat(scores, row, axis=0)) for row in counts]
    assert function(truth, scores, counts) == pytest.approx(np.array(expected))


def test_two_class_score_counts_what_is_undefined() -> None:
    scores = np.array([[0.2, 0.6, 0.2], [0.0, 0.0, 1.0], [0.5, 0.0, 0.5], [0.0, 0.1, 0.9]])
    score, undefined = metrics.two_class_score(scores, signal=1, background=0)
    assert score == pytest.approx([0.75, 0.5, 0.0, 1.0])
    assert undefined == 1


# --- curves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_roc_equals_scikit_learn(weighted: bool) -> None:
    truth, score = two_kinds()
    weights = np.random.default_rng(1).uniform(0, 2, len(truth)) if weighted else None
    expected = sklearn_metrics.roc_curve(truth, score, sample_weight=weights, drop_intermediate=False)
    for got, wanted in zip(metrics.roc(truth, score, weights), expected, strict=True):
        assert got == pytest.approx(wanted)


@given(st.integers(0, 10_000), st.integers(0, 3), st.sampled_from([0.0, 0.1, 0.29, 0.3, 0.5, 0.7, 0.99]))
def test_rejection_takes_the_first_roc_point_above_the_efficiency(seed: int, digits: int, efficiency: float) -> None:
    truth, score = two_kinds(seed, 90, digits)
    signal, background = score[truth == 1], score[truth == 0]
    for threshold in sorted(set(signal), reverse=True):  # the convention word for word
        if np.mean(signal >= threshold) > efficiency:
            passing = int(np.sum(background >= threshold))
            break
    got = metrics.rejection(signal, background, efficiency)
    assert got.is_bound == (passing == 0)
    assert got.value == pytest.approx(len(background) / passing if passing else len(background))
    false, true, _ = sklearn_metrics.roc_curve(truth, score, drop_intermediate=False)
    assert passing == pytest.approx(false[np.argmax(true > efficiency)] * len(background))


def test_rejection_at_the_percentile_of_the_signal() -> None:
    truth, score = two_kinds(3, 900, 3)
    signal, background = score[truth == 1], score[truth == 0]
    cut = np.quantile(signal, 0.7)
    expected = len(background) / sum(float(b) > cut for b in background)
    assert metrics.rejection_at_percentile(signal, background, 0.3) == metrics.Rejection(expected)
    assert metrics.rejection(signal, background, 0.3).value == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("rejection", [metrics.rejection, metrics.rejection_at_percentile])
def test_no_background_gives_a_bound(rejection: Callable[..., metrics.Rejection]) -> None:
    assert rejection(np.arange(10) + 1.0, np.zeros(70), 0.5) == metrics.Rejection(70.0, is_bound=True)


def test_rejections_are_rejection_at_each_efficiency() -> None:
    truth, score = two_kinds(4, 600, 2)
    signal, background = score[truth == 1], score[truth == 0]
    efficiencies = np.linspace(0.0, 0.95, 20)
    values, bounds = metrics.rejections(signal, background, efficiencies)
    each = [metrics.rejection(signal, background, x) for x in efficiencies]
    assert [metrics.Rejection(float(v), bool(b)) for v, b in zip(values, bounds, strict=True)] == each
    assert np.all(np.diff(values) <= 0)
    with pytest.raises(DataError, match="efficiencies lie in"):
        metrics.rejection(signal, background, 1.0)


def test_sic_of_a_known_roc() -> None:
    truth = np.repeat([1, 0], [100, 10_000])
    score = np.concatenate([np.full(50, 2.0), np.full(50, 0.0), np.full(100, 2.0), np.full(9900, 0.0)])
    false, improvement = metrics.sic(truth, score)
    assert false == pytest.approx([0.01, 1])
    assert improvement == pytest.approx([0.5 / math.sqrt(0.01), 1])
    assert metrics.sic(truth, score, above=0.05)[0] == pytest.approx([1])


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input_is_named() -> None:
    truth, scores = classified()
    with pytest.raises(DataError, match=r"they have \[300, 299\]"):
        metrics.accuracy(truth, scores[:-1])
    with pytest.raises(DataError, match="at least"):
        metrics.accuracy(truth[:0], scores[:0])
    scores[7, 2] = np.nan
    with pytest.raises(DataError, match="array 1 is not finite at event 7"):
        metrics.auc_one_versus_one(truth, scores)
    with pytest.raises(DataError, match=r"no events of truth \[4\]"):
        metrics.auc_one_versus_one(truth, np.ones((300, 5)))
    with pytest.raises(DataError, match=r"no events of truth \[0\]"):
        metrics.auc(np.ones(3), np.ones(3))
    with pytest.raises(DataError, match=r"\[300, 2\]"):
        metrics.accuracy(truth, truth, np.ones(2))


# --- intervals --------------------------------------------------------------------------------------------------------


def test_a_function_without_weights_sees_the_same_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, scores = classified()
    with_weights = intervals.bootstrap(metrics.auc_one_versus_one, truth, scores, replicas=50)
    without = intervals.bootstrap(lambda t, s: metrics.auc_one_versus_one(t, s), truth, scores, replicas=50)
    assert (with_weights.value, with_weights.low, with_weights.high) == pytest.approx(
        (without.value, without.low, without.high)
    )
    monkeypatch.setattr(intervals, "CELLS", 3 * len(truth))
    assert intervals.bootstrap(metrics.auc_one_versus_one, truth, scores, replicas=50).low == pytest.approx(without.low)
    assert intervals.bootstrap(metrics.accuracy, truth, scores, seed=1) != intervals.bootstrap(
        metrics.accuracy, truth, scores, seed=2
    )


def test_bootstrap_of_accuracy_has_the_binomial_width() -> None:
    right = np.random.default_rng(0).random(4000) < 0.8
    estimate = intervals.bootstrap(metrics.accuracy, np.ones(4000, int), right.astype(int), replicas=1000, level=0.6827)
    assert estimate.low < estimate.value < estimate.high
    assert (estimate.high - estimate.low) / 2 == pytest.approx(math.sqrt(0.8 * 0.2 / 4000), rel=0.1)
    assert estimate.level == 0.6827


def test_bootstrap_of_a_rejection_keeps_the_bound() -> None:
    truth, score = two_kinds(1, 2000, 3)
    estimate = intervals.bootstrap(lambda t, s: metrics.rejection(s[t == 1], s[t == 0], 0.3), truth, score)
    assert estimate.low < estimate.value < estimate.high
    assert not estimate.is_bound
    assert intervals.bootstrap(lambda t, s: metrics.rejection(s[t == 1], s[t == 0], 0.3), truth, 1.0 * truth).is_bound


def test_replicates_without_a_value_are_left_out() -> None:
    truth, score = np.array([1] + [0] * 30), np.linspace(0, 1, 31)
    assert intervals.bootstrap(metrics.auc, truth, score).value == 0  # about a third of the replicates lack the signal
    with pytest.raises(DataError, match="replicates have a value"):
        intervals.bootstrap(lambda t: float(t[0]) if len(np.unique(t)) == 31 else math.nan, np.arange(31))


def crossed(rng: np.random.Generator, seeds: int, events: int) -> list[np.ndarray]:
    """Per-event differences with a part of the seed, a part of the event and a part of both; mean 0."""
    common = rng.normal(0, 1, events)
    return [rng.normal(0, 0.05) + common + rng.normal(0, 0.5, events) for _ in range(seeds)]


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_paired_difference_covers_what_it_claims(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    tries, covered = 300, 0
    for attempt in range(tries):
        a = crossed(rng, seeds, 300)
        found = intervals.paired_difference(a, [np.zeros(300)] * seeds, replicas=400, seed=attempt)
        covered += found.low <= 0 <= found.high
    assert 0.93 <= covered / tries <= 0.995  # 0.95 claimed


def test_paired_difference_is_that_of_a_slow_loop_over_replicates() -> None:
    rng = np.random.default_rng(0)
    a, b = ([rng.random(200) < p + 0.01 * s for s in range(3)] for p in (0.8, 0.6))
    found = intervals.paired_difference(a, b, replicas=4000)
    assert found.value == pytest.approx(np.mean([x.mean() - y.mean() for x, y in zip(a, b, strict=True)]))
    per_seed = [x.mean() - y.mean() for x, y in zip(a, b, strict=True)]
    replicates = []
    for _ in range(4000):
        events = rng.integers(200, size=200)
        mean = np.mean([x[events].mean() - y[events].mean() for x, y in zip(a, b, strict=True)])
        replicates.append(mean + rng.standard_t(2) * np.std(per_seed, ddof=1) / math.sqrt(3))
    assert [found.low, found.high] == pytest.approx(np.quantile(replicates, [0.025, 0.975]), abs=0.03)
    assert (found.seeds, found.level, found.significant) == (3, 0.95, found.low > 0)


def test_paired_difference_asks_for_two_seeds_and_the_same_events() -> None:
    one = [np.ones(4)]
    with pytest.raises(DataError, match="two at least"):
        intervals.paired_difference(one, one)
    with pytest.raises(DataError, match=r"\[4, 4, 4, 3\]"):
        intervals.paired_difference(one * 2, [np.ones(4), np.ones(3)])


def test_two_classes_of_many_have_an_auc_of_their_own() -> None:
    rng = np.random.default_rng(0)
    scores = rng.dirichlet([1, 1, 1], 60)
    label = np.repeat([0, 2], 30)
    columns = {f"score_{name}": scores[:, n] for n, name in enumerate("abc")}
    encoder = Encode(Transformer(32, 1, head_dim=8)).build(Shape(("x",), ("x",)))
    net = ClassifyNet(Classify(), encoder, ("a", "b", "c"))
    found = net.measure({"label": label, **columns}).metrics
    assert set(found) == {"accuracy", "auc c", *(f"rejection c at {x}%" for x in ("30.0", "50.0", "99.0", "99.5"))}
    ours = scores[:, 2] / (scores[:, 0] + scores[:, 2])
    assert found["auc c"].value == pytest.approx(sklearn_metrics.roc_auc_score(label == 2, ours))
    every = np.repeat([0, 1, 2], 20)
    assert "auc" in (found := net.measure({"label": every, **columns}).metrics)
    assert "auc c" not in found
