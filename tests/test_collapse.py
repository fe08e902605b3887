"""What has collapsed is seen: few ids in use, few directions that carry an encoder's outputs."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import tiny
from tests.toys import write_toys

from multiplet.evaluation.collapse import ENCODED, _rank, code_usage, effective_rank, perplexity
from multiplet.evaluation.evaluate import evaluate
from multiplet.recipe import open_run
from multiplet.training import train


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toys(tmp_path_factory.mktemp("toys"))


def test_perplexity_counts_codes_that_are_as_frequent() -> None:
    assert perplexity(np.ones((3, 7))) == pytest.approx(7)
    assert perplexity(np.array([[5.0, 0, 0], [2, 0, 0]])) == pytest.approx(1)
    weights = np.array([[1, 0], [1, 1], [0, 2]])
    np.testing.assert_allclose(perplexity(np.array([[4.0, 0], [0, 4]]), weights), [1, 2, 1])


def test_use_of_codes_is_measured(toys: Path, tmp_path: Path) -> None:
    train(recipe := tiny.codes(str(toys), 2), tmp_path / "run", progress=False)
    found = evaluate(tmp_path / "run")["metrics"]
    dataset, model = recipe.data.open(), open_run(tmp_path / "run").model()
    tokens = model.tokens(dataset.read("test", np.arange(dataset.size("test"))))
    counts = tokens.ids["code"][tokens.mask].bincount(minlength=16).double()
    share = counts[counts > 0] / counts.sum()
    assert found["codes in use"]["value"] == pytest.approx(len(share) / 16)
    assert found["perplexity of codes"]["value"] == pytest.approx(math.exp(-float((share * share.log()).sum())))
    for one, most in (("codes in use", 1), ("perplexity of codes", 16)):
        assert found[one]["low"] <= found[one]["value"] <= found[one]["high"] <= most
    assert code_usage(tiny.masked(str(toys)).build(dataset.schema), dataset, "test") == {}


def moments(x: np.ndarray) -> np.ndarray:
    ones = np.concatenate([np.ones((len(x), 1)), x], 1)
    return ones.T @ ones


def test_rank_counts_directions_of_equal_variance() -> None:
    x = np.random.default_rng(0).normal(size=(100_000, 6)) * [2, 2, 2, 0, 0, 0] + 5
    turned = x @ np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    assert _rank(moments(turned)[None]) == pytest.approx(3, abs=1e-3)
    assert _rank(moments(x[:, :1] * np.arange(1, 7))[None]) == pytest.approx(1, abs=1e-3)
    assert _rank(moments(np.ones((9, 6)))[None]) == pytest.approx(1)
    halves = np.stack([moments(x[:50, :3]), moments(x[50:100, :3])])
    weights = np.array([[1, 1], [2, 0], [0, 0]])
    alone = _rank(halves[:1])
    np.testing.assert_allclose(_rank(halves, weights), [_rank(halves.sum(0, keepdims=True)), alone, 1])


def test_rank_of_an_encoder_is_that_of_its_outputs(toys: Path, tmp_path: Path) -> None:
    train(recipe := tiny.masked(str(toys)), tmp_path / "run", progress=False)
    found = evaluate(tmp_path / "run")["metrics"]["effective rank"]
    dataset, model = recipe.data.open(), open_run(tmp_path / "run").model()
    tokens = model.tokens(dataset.read("test", np.arange(min(ENCODED, dataset.size("test")))))
    with torch.no_grad():
        hidden = model.encoder(tokens)
    variance = torch.linalg.eigvalsh(hidden.points[hidden.mask].T.double().cov())
    share = variance.clamp(min=0) / variance.sum()
    assert found["value"] == pytest.approx(math.exp(-float(torch.special.xlogy(share, share).sum())), rel=1e-4)
    assert 1 < found["low"] < found["value"] < found["high"] < recipe.encoder.backbone.width
    assert effective_rank(tiny.labels(str(toys)).build(dataset.schema), dataset, "test") == {}
