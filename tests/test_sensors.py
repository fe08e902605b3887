"""Masked sensors: what is hidden, what is predicted of it, and what predictions are worth."""

from __future__ import annotations

import math
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from multiplet.backbones.mamba import Mamba
from multiplet.backbones.recurrent import GRU
from multiplet.backbones.transformer import Transformer
from multiplet.cloud import Cloud
from multiplet.data.batches import Batches
from multiplet.draws import Draws
from multiplet.embedding import Concatenate, Sum, Where
from multiplet.encoder import Backbone, Encode
from multiplet.errors import NonFiniteError, RecipeError
from multiplet.evaluation.evaluate import evaluate
from multiplet.model import Model
from multiplet.objectives.pointing import Pointing
from multiplet.objectives.sensors import MaskedSensors
from multiplet.optim import AdamW
from multiplet.parametrisation import MuP, Standard
from multiplet.recipe import Train
from multiplet.recipes.polarbert import polarbert
from multiplet.representation import telescope
from multiplet.representation.features import Feature, SymLog
from multiplet.representation.merging import BySensor
from multiplet.representation.represent import Represent
from multiplet.representation.selection import Subsample
from multiplet.representation.telescope import ICE, IDS, IN_TIME, PLACE, POSITION, PULSES, SENSORS, TOTAL_CHARGE, Pulses
from multiplet.representation.tokenizers import Id
from multiplet.representation.tokens import Tokens
from multiplet.training import train
from toy_pulses import COUNTS, SCHEMA, pulse_cloud, write_pulses

SET = Transformer(32, 2, head_dim=8, group=1, position=None)
PLAIN = Represent(PULSES, Pulses(), IN_TIME, ids=IDS, event_targets=(TOTAL_CHARGE,))
PLACED = replace(PLAIN, features=(*PULSES, *POSITION))
MERGED = replace(PLAIN, features=SENSORS, merge=BySensor(8))
ICED = replace(PLAIN, features=(*PULSES, *ICE))
IN_ICE = tuple(feature.name for feature in ICE)
SHAPE = PLAIN.build(SCHEMA).shape
WAYS = [
    pytest.param(PLAIN, (), Concatenate(), True, SET, id="pulses"),
    pytest.param(
        replace(PLAIN, select=Subsample(30)), (), Sum(), False, Mamba(32, 2, bidirectional=True), id="subsample"
    ),
    pytest.param(PLACED, PLACE, Concatenate(0.25), True, SET, id="with-places"),
    pytest.param(MERGED, PLACE, Sum(), True, SET, id="sensors"),
    pytest.param(ICED, IN_ICE, Concatenate(0.25), True, SET, id="with-ice"),
    pytest.param(replace(MERGED, features=(*SENSORS, *ICE)), (*PLACE, *IN_ICE), Sum(), True, SET, id="sensors-in-ice"),
]


@pytest.fixture(scope="module")
def cloud() -> Cloud:
    return pulse_cloud(silent=0.4)


def model_of(
    cloud: Cloud,
    objective: MaskedSensors | None = None,
    represent: Represent = PLAIN,
    place: tuple[str, ...] = (),
    join: Sum | Concatenate | None = None,
    event: bool = True,
    backbone: Backbone = SET,
    param: Standard | MuP | None = None,
    shaken: bool = True,
    told: bool = False,
) -> Model:
    """`told` where sensors are, it compares with what it is told."""
    encode = Encode(backbone, param or MuP(16), ("sensor_id",), place=place, join=join or Concatenate(), event=event)
    encode = replace(encode, where=Where(3000.0) if told else None)
    model = Model(
        represent, encode, objective or MaskedSensors(tied=told, pointing=Pointing(3) if told else None), SCHEMA, seed=3
    )
    model.represent.fit(cloud)
    return (shake(model) if shaken else model).eval()


@torch.no_grad()
def shake(model: Model) -> Model:
    """Away from the zeros that readouts start at."""
    for number, parameter in enumerate(model.parameters()):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        parameter += 0.3 * noise / max(parameter.shape[-1:] or (1,)) ** 0.5
    return model


def test_only_pulses_that_are_not_auxiliary_are_hidden_and_as_many_as_asked_for() -> None:
    many = pulse_cloud((60,) * 200, silent=0.5)
    model = model_of(many, MaskedSensors(hide=0.25))
    tokens = model.tokens(many)
    hide = model.objective.hidden(tokens, Draws(0, 1))
    good = (tokens.ids["auxiliary"] == 0) & tokens.mask
    assert not (hide & ~good).any()
    trials = int(good.sum())
    assert abs(int(hide.sum()) - trials / 4) < 5 * math.sqrt(trials * 0.25 * 0.75)
    assert not torch.equal(hide, model.objective.hidden(tokens, Draws(0, 2)))
    assert torch.equal(hide, model.objective.hidden(tokens, Draws(0, 1)))


@pytest.mark.parametrize(("group", "kind"), [(1, lambda s: s), (10, lambda s: s // 10)])
def test_groups_of_sensors_are_hidden_together(group: int, kind: object, cloud: Cloud) -> None:
    model = model_of(cloud, MaskedSensors(hide=0.5, group=group))
    tokens = model.tokens(cloud)
    hide = model.objective.hidden(tokens, Draws(0, 1))
    good = (tokens.ids["auxiliary"] == 0) & tokens.mask
    states = {}
    for event, slot in good.nonzero().tolist():
        states.setdefault((event, kind(int(tokens.ids["sensor_id"][event, slot]))), set()).add(bool(hide[event, slot]))
    assert all(len(state) == 1 for state in states.values())
    assert {True, False} <= {next(iter(state)) for state in states.values()}
    assert any(good[event].sum() > len([key for key in states if key[0] == event]) for event in range(len(tokens)))


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(("represent", "place", "join", "event", "backbone"), WAYS)
def test_hidden_sensors_cannot_be_recovered(
    represent: Represent, place: tuple[str, ...], join: Sum, event: bool, backbone: Backbone, told: bool, cloud: Cloud
) -> None:
    model = model_of(cloud, None, represent, place, join, event, backbone, told=told)
    tokens, draws = model.tokens(cloud), Draws(1, 2)
    hide = model.objective.hidden(tokens, draws)
    names = model.represent.shape.columns
    other = tokens.ids["sensor_id"][hide].flip(0)
    x = tokens.x.clone()
    for name in place:
        column = x[..., names.index(name)]
        column[hide] = column[hide].flip(0)
    ids = {**tokens.ids, "sensor_id": tokens.ids["sensor_id"].masked_scatter(hide, other)}
    changed = replace(tokens, x=x, ids=ids)

    def logits(given: Tokens) -> torch.Tensor:
        net = model.objective
        return net.logits(model.encoder, net.encode(model.encoder, given, hide), given, hide)

    assert not torch.equal(tokens.ids["sensor_id"], changed.ids["sensor_id"])
    assert logits(tokens).isfinite().all()  # most sensors are in unknown places
    assert torch.equal(logits(tokens), logits(changed))
    seen = {**tokens.ids, "sensor_id": torch.where(hide | ~tokens.mask, tokens.ids["sensor_id"], 7)}
    assert not torch.equal(logits(tokens), logits(replace(tokens, ids=seen)))


def test_a_recipe_with_ice_as_its_docstring_says_hides_it_with_the_sensor(cloud: Cloud) -> None:
    """From the pulses on: those that are hidden are given each other's sensors and places."""
    made = {"polarbert": lambda: polarbert(width=32, depth=1), "replace": replace, "Concatenate": Concatenate}
    code = (telescope.__doc__ or "").split(":\n\n", 1)[1]
    exec(textwrap.dedent(code), vars(telescope) | made, made)
    recipe = made["recipe"]
    assert recipe.represent.features == (*PULSES, *POSITION, *ICE)
    model = recipe.build(SCHEMA)
    model.represent.fit(cloud)
    shake(model).eval()
    tokens, net, draws = model.tokens(cloud), model.objective, Draws(1, 2)
    hide = net.hidden(tokens, draws)

    def moved(which: torch.Tensor) -> Tokens:
        pulses = torch.zeros_like(cloud.mask).scatter(1, tokens.index, which)
        new = {
            n: cloud.points[n].masked_scatter(pulses, cloud.points[n][pulses].flip(0)) for n in ("sensor_id", *PLACE)
        }
        return model.tokens(replace(cloud, points=cloud.points | new))

    hidden, seen = moved(hide), moved(tokens.mask & ~hide)
    ice = [model.represent.shape.columns.index(name) for name in IN_ICE]
    assert (hidden.x[hide][:, ice] != tokens.x[hide][:, ice]).any(0).all()
    found = [net.logits(model.encoder, net.encode(model.encoder, t, hide), t, hide) for t in (tokens, hidden, seen)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("backbone", [GRU(32, 1), Mamba(32, 1, bidirectional=True)])
def test_the_order_of_pulses_of_one_time_tells_no_hidden_sensor(backbone: Backbone, cloud: Cloud) -> None:
    """For backbones that read in order: hidden pulses are given each other's sensors in the file."""
    spread = torch.arange(60).roll(17).expand(8, 60)
    cloud = replace(
        cloud,
        points=cloud.points
        | {"time": (cloud.points["time"] / 1000).floor() * 1000, "charge": torch.where(cloud.mask, spread * 0.05, 0.0)},
    )
    model, draws = model_of(cloud, backbone=backbone), Draws(1, 2)
    tokens, net = model.tokens(cloud), model.objective
    hide = net.hidden(tokens, draws)
    pulses = torch.zeros_like(cloud.mask).scatter(1, tokens.index, hide)
    moved = {
        name: cloud.points[name].masked_scatter(pulses, cloud.points[name][pulses].flip(0))
        for name in ("sensor_id", *PLACE)
    }
    changed = model.tokens(replace(cloud, points=cloud.points | moved))
    assert not torch.equal(changed.ids["sensor_id"], tokens.ids["sensor_id"])
    assert torch.equal(net.hidden(changed, draws), hide)
    found = [net.logits(model.encoder, net.encode(model.encoder, t, hide), t, hide) for t in (tokens, changed)]
    assert torch.equal(*found)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(("represent", "place", "join", "event", "backbone"), WAYS)
def test_padding_changes_nothing(
    represent: Represent, place: tuple[str, ...], join: Sum, event: bool, backbone: Backbone, told: bool, cloud: Cloud
) -> None:
    model, draws = model_of(cloud, None, represent, place, join, event, backbone, told=told), Draws(1, 2)
    wide = cloud.map(lambda v: torch.nn.functional.pad(v, (0, 11), value=0) if v.dim() == 2 else v)
    first, second = (model(model.tokens(one, draws), draws) for one in (cloud, wide))
    alone = [model(model.tokens(cloud.events(slice(n, n + 1)), draws), draws) for n in range(len(cloud))]
    for name in ("sensor", "charge"):
        torch.testing.assert_close(first[name], second[name], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(first[name], torch.cat([one[name] for one in alone]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("tied", "told"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("param", [MuP(16), MuP(64), Standard()])
def test_the_first_loss_is_that_of_a_guess(tied: bool, told: bool, param: Standard, cloud: Cloud) -> None:
    model = model_of(cloud, MaskedSensors(tied=tied), param=param, shaken=False, told=told)
    draws = Draws(0, 0)
    tokens = model.tokens(cloud)
    with torch.no_grad():
        losses, weights = model(tokens, draws), model.objective.weights(tokens, draws)
    mean = float((losses["sensor"] * weights["sensor"]).sum() / weights["sensor"].sum())
    assert model.objective.references == {"sensor: all alike": math.log(5160)}
    if param.zero_readout:
        assert mean == pytest.approx(math.log(5160), abs=1e-4)
    else:  # readouts of spread one add half their variance
        assert math.log(5160) - 1 < mean < math.log(5160) + 1.5


def test_a_tied_readout_moves_alike_at_every_width(cloud: Cloud) -> None:
    """The coordinate check: after some steps of Adam, what the map of places adds and logits moved as far at any width.

    The logits of the standard parametrisation do not.
    """
    widths, moved = (32, 64, 128), {}
    for param in (MuP(32, base_depth=1), Standard()):
        found: dict[str, list[float]] = {}
        for width in widths:
            backbone = replace(SET, width=width, depth=1)
            model = model_of(cloud, MaskedSensors(tied=True), backbone=backbone, param=param, shaken=False, told=True)
            tokens, net, steps = model.tokens(cloud), model.objective, []
            hide = net.hidden(tokens, Draws(0, 0))
            optimiser = AdamW(rate=1e-2, warmup=0, final=1.0, decay=0.0).build(model, param, 6)
            for step in range(6):
                logits = net.logits(model.encoder, net.encode(model.encoder, tokens, hide), tokens, hide)
                add = model.encoder.embed["where_sensor_id"](tokens.places["sensor_id"])[:30]
                steps.append({"logits": logits[:, :30].detach(), "map": add.detach()})
                optimiser.zero_grad()
                net.cross_entropy(logits, tokens, hide).mean().backward()
                optimiser.step(step)
            for name, value in steps[-1].items():
                found.setdefault(name, []).append(float((value - steps[0][name]).square().mean().sqrt()))
        moved[type(param)] = {n: float(np.polyfit(np.log2(widths), np.log2(v), 1)[0]) for n, v in found.items()}
    assert all(abs(slope) < 0.15 for slope in moved[MuP].values()), moved
    assert moved[Standard]["logits"] > 0.25, moved


@torch.no_grad()
def test_the_losses_are_those_of_a_slow_loop(cloud: Cloud) -> None:
    model, draws = model_of(cloud, MaskedSensors(charge=0.3)), Draws(4, 7)
    tokens, net = model.tokens(cloud), model.objective
    losses, weights = model(tokens, draws), net.weights(tokens, draws)
    hide = net.hidden(tokens, draws)
    hidden = model.encoder(tokens, {part: (hide, vector()) for part, vector in net.mask.items()})
    for event in range(len(tokens)):
        places = hide[event].nonzero()[:, 0].tolist()
        terms = []
        for slot in places:
            logits = net.out.weight @ hidden.points[event, slot] * net.out.multiplier + net.out.bias
            terms.append(float(-logits.log_softmax(0)[tokens.ids["sensor_id"][event, slot]]))
        assert float(losses["sensor"][event]) == pytest.approx(np.mean(terms) if terms else 0.0, rel=1e-4)
        assert float(weights["sensor"][event]) == bool(terms)
        guess = float(net.event.weight[0] @ hidden.event[event] * net.event.multiplier + net.event.bias[0])
        true = float(cloud.points["charge"][event, : COUNTS[event]].sum().clamp(min=1e-3).log10()) - 2
        assert float(losses["charge"][event]) == pytest.approx(0.3 * (guess - true) ** 2, rel=1e-3)
        assert float(weights["charge"][event]) == (COUNTS[event] > 0)
    assert 0 < weights["sensor"].sum() < len(tokens)


def test_events_without_a_hidden_pulse_count_nowhere_and_stay_finite(cloud: Cloud) -> None:
    silent = replace(cloud, points=cloud.points | {"auxiliary": torch.ones_like(cloud.points["auxiliary"])})
    model = model_of(cloud)
    for events in (silent, silent.events(slice(1, 2)), silent.events(slice(0, 0))):
        tokens = model.tokens(events)
        losses = model(tokens, Draws(0, 0))
        assert not losses["sensor"].any()
        assert not model.objective.weights(tokens, Draws(0, 0))["sensor"].any()
        model.zero_grad()
        torch.stack([value.sum() for value in losses.values()]).sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        found = model.objective.predict(model.encoder, tokens)
        assert found["sensor"].isnan().all()
        assert found["top_1"].isnan().all()
        assert found["distance"].isnan().all()


def test_it_learns_from_events_without_labels() -> None:
    blind = replace(pulse_cloud((40,) * 16, sensors=3, silent=0.2), truth={})
    bright = torch.linspace(1, 20, 16)[:, None]  # events differ in total charge
    charge = bright * 100 ** (blind.points["sensor_id"].float() - 1)  # which of three it is gives the sensor away
    blind = replace(blind, points=blind.points | {"charge": charge})
    ids = (Id("sensor_id", 30), IDS[1])
    model = model_of(blind, represent=replace(PLAIN, ids=ids), param=Standard(), shaken=False)
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    first = None
    for step in range(60):
        draws = Draws(0, step)
        losses = model(model.tokens(blind, draws), draws)
        first = first or {name: float(value.detach().mean()) for name, value in losses.items()}
        optimiser.zero_grad()
        (losses["sensor"].mean() + losses["charge"].mean()).backward()
        optimiser.step()
    assert float(losses["sensor"].detach().mean()) < 0.5 < math.log(3) < first["sensor"]
    assert float(losses["charge"].detach().mean()) < 0.1 * first["charge"]
    target = model.tokens(blind).targets["event"]
    assert float(losses["charge"].detach().mean()) < 0.3 * float(target.var(correction=0))  # what a constant would give


def test_a_selection_is_drawn_anew_in_every_step_of_training_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[bool, Draws | None]] = []
    whole = Model.tokens

    def listen(self: Model, cloud: Cloud, draws: Draws | None = None) -> Tokens:
        heard.append((self.training, draws))
        return whole(self, cloud, draws)

    monkeypatch.setattr(Model, "tokens", listen)
    recipe = polarbert(str(write_pulses(tmp_path / "data", 40, 8, 8)), 16, 1, steps=3)
    train(replace(recipe, train=Train(3, Batches(8), validation_events=8), seed=5), tmp_path / "run", progress=False)
    evaluate(tmp_path / "run")
    assert [draws for training, draws in heard if training] == [Draws(5, 0), Draws(5, 1), Draws(5, 2)]
    assert {draws for training, draws in heard if not training} == {None}
    assert len(heard) == 8  # one validation, one evaluation, two of the references beside it, one of the rank


def test_predictions_say_how_often_and_how_far_the_likeliest_sensor_is_wrong(cloud: Cloud) -> None:
    model = model_of(cloud)
    tokens, net = model.tokens(cloud), model.objective
    found = net.predict(model.encoder, tokens)
    hide = net.hidden(tokens, Draws(0, 0, fixed=True))
    logits = net.logits(model.encoder, net.encode(model.encoder, tokens, hide), tokens, hide)
    logits[:, 30:] = -torch.inf
    net.logits = lambda encoder, hidden, tokens, hide: logits  # sensors that there are, so that all places are known
    found = net.predict(model.encoder, tokens)
    place = {
        int(s): n
        for s, *n in zip(*(cloud.points[c][cloud.mask].tolist() for c in ("sensor_id", "x", "y", "z")), strict=True)
    }
    rows = iter(logits)
    for event in range(len(tokens)):
        each: dict[str, list[float]] = {
            name: [] for name in ("top_1", "top_5", "same_string", "distance", "distance_z")
        }
        for slot in hide[event].nonzero()[:, 0].tolist():
            ranked, true = next(rows).argsort(descending=True).tolist(), int(tokens.ids["sensor_id"][event, slot])
            step = np.subtract(place[ranked[0]], place[true])
            values = (
                ranked[0] == true,
                true in ranked[:5],
                ranked[0] // 10 == true // 10,
                np.linalg.norm(step),
                abs(step[2]),
            )
            for name, value in zip(each, values, strict=True):
                each[name].append(float(value))
        assert int(found["hidden"][event]) == len(each["top_1"])
        for name, values in each.items():
            assert float(found[name][event]) == pytest.approx(
                np.mean(values) if values else np.nan, rel=1e-5, nan_ok=True
            ), name
    unknown = torch.full_like(logits, 0.0)
    unknown[:, 5000] = 1.0
    net.logits = lambda encoder, hidden, tokens, hide: unknown
    assert net.predict(model.encoder, tokens)["distance"].isnan().all()
    net.logits = lambda encoder, hidden, tokens, hide: unknown * torch.nan
    with pytest.raises(NonFiniteError, match="sensor is not finite for the events at places"):
        net.predict(model.encoder, tokens)


def test_measures_are_means_over_events_and_over_pulses(cloud: Cloud) -> None:
    table = {
        "sensor": np.array([2.0, np.nan, 4.0, 3.0], np.float32),
        "hidden": np.array([1.0, 0.0, 3.0, 1.0], np.float32),
        "points": np.array([127, 5, 128, 9], np.int32),
        "charge": np.array([0.01, 0.04, 0.09, np.nan], np.float32),
        "top_1": np.array([1.0, np.nan, 0.0, 0.5], np.float32),
        "distance": np.array([0.0, np.nan, np.nan, 50.0], np.float32),
    }
    metrics = {name: one.value for name, one in model_of(cloud).objective.measure(table).metrics.items()}
    assert metrics.pop("sensor") == pytest.approx(3.0)
    assert metrics.pop("sensor, median") == pytest.approx(3.0)
    assert metrics.pop("sensor, by pulse") == pytest.approx(17 / 5)
    assert metrics.pop("perplexity") == pytest.approx(math.exp(17 / 5))
    assert metrics.pop("nothing hidden") == pytest.approx(0.25)
    assert metrics.pop("sensor, up to 127 points") == pytest.approx(2.5)
    assert metrics.pop("sensor, above 127 points") == pytest.approx(4.0)
    assert metrics.pop("top-1") == pytest.approx(0.5)
    assert metrics.pop("distance (m)") == pytest.approx(25.0)
    assert metrics.pop("charge, root mean square") == pytest.approx(math.sqrt(0.14 / 3))
    assert not metrics


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda c: MaskedSensors(hide=1.0), r"hide must lie in \(0, 1\)"),
        (lambda c: MaskedSensors(charge=-1.0), "charge and group must be at least 0"),
        (lambda c: model_of(c, MaskedSensors(sensor="module")), "the id 'module' in Represent.ids"),
        (lambda c: model_of(c, None, replace(PLAIN, ids=IDS[:1])), "the id 'auxiliary'"),
        (lambda c: model_of(c, None, PLACED), r"\['x', 'y', 'z'\] give away which sensor"),
        (lambda c: model_of(c, None, PLACED, ("x", "y"), Sum()), r"\['z'\] give away"),
        (lambda c: model_of(c, None, replace(PLAIN, features=(Feature("z", SymLog()),))), r"\['symlog_z'\] give away"),
        (lambda c: model_of(c, None, ICED), r"\['log_ice_scattering', 'log_ice_absorption'\] give away"),
        (lambda c: model_of(c, None, ICED, IN_ICE[1:], Sum()), r"\['log_ice_scattering'\] give away"),
        (lambda c: model_of(c, None, replace(PLAIN, features=(Feature("ice_absorption"),))), "absorption'. give away"),
        (lambda c: model_of(c, None, replace(PLAIN, event_targets=())), r"event_targets=\(TOTAL_CHARGE,\)"),
        (lambda c: MaskedSensors().build(Encode(SET).build(SHAPE), SHAPE), "name it in Encode.ids"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make: object, message: str, cloud: Cloud) -> None:
    with pytest.raises(RecipeError, match=message):
        make(cloud)
    assert model_of(cloud, MaskedSensors(charge=0), replace(PLAIN, event_targets=())).objective.names == ("sensor",)
