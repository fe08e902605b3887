"""Neutrino telescopes: pulses as tokens, what is selected of long events, and sensors as tokens."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from multiplet.cloud import Cloud
from multiplet.data.columns import Column
from multiplet.draws import Draws
from multiplet.errors import DataError, RecipeError
from multiplet.representation import telescope
from multiplet.representation.features import Feature, Log
from multiplet.representation.merging import BySensor
from multiplet.representation.represent import Represent, RepresentNet
from multiplet.representation.selection import Subsample, first_of_each
from multiplet.representation.telescope import CHARGE_CENTRE, IDS, IN_TIME, SENSORS, TOTAL_CHARGE, Pulses
from multiplet.representation.tokenizers import Id, places_of
from multiplet.representation.tokens import gather
from multiplet.simulation.telescope_array import ideal_ice
from toy_pulses import COUNTS, SCHEMA, pulse_cloud


def fitted(spec: Represent, cloud: Cloud) -> RepresentNet:
    net = spec.build(SCHEMA)
    net.fit(cloud)
    return net


def of(**changes: object) -> Represent:
    return replace(Represent(telescope.PULSES, Pulses(), IN_TIME, ids=IDS, event_targets=(TOTAL_CHARGE,)), **changes)


def with_points(**columns: torch.Tensor) -> Cloud:
    cloud = pulse_cloud()
    return replace(cloud, points=cloud.points | columns)


def wider(cloud: Cloud, extra: int) -> Cloud:
    return cloud.map(lambda v: torch.nn.functional.pad(v, (0, extra), value=0) if v.dim() == 2 else v)


def test_features_have_the_published_scales() -> None:
    cloud = pulse_cloud()
    tokens = fitted(of(), cloud)(cloud)
    time, charge, auxiliary = (
        gather(cloud.points[name], tokens.index)[tokens.mask] for name in ("time", "charge", "auxiliary")
    )
    expected = torch.stack([(time - 1e4) / 3e4, charge.log10() / 3, auxiliary - 0.5], 1)
    torch.testing.assert_close(tokens.x[tokens.mask], expected.float(), atol=1e-6, rtol=1e-5)
    assert (time.view(-1).diff() < 0).sum() < len(COUNTS)  # in rising time inside each event
    assert torch.equal(
        tokens.ids["sensor_id"][tokens.mask], gather(cloud.points["sensor_id"], tokens.index)[tokens.mask].long()
    )


def ice_at(z: list[float]) -> list[tuple[float, float]]:
    """Lengths of scattering and absorption from the quantities of pulses at these z."""
    cloud = pulse_cloud((len(z),))
    made = Pulses().point(replace(cloud, points=cloud.points | {"z": torch.tensor([z])}))
    return list(zip(made["ice_scattering"][0].tolist(), made["ice_absorption"][0].tolist(), strict=True))


def formula(z: float) -> float:
    """1/λ = 1/(36 m · 2^((d - 1950)/500)) + 0.178/m · exp(-½((d - 2045)/23)²) at the depth d of z."""
    depth = 1948.07 - z
    return 1 / (1 / (36 * 2 ** ((depth - 1950) / 500)) + 0.178 * math.exp(-0.5 * ((depth - 2045) / 23) ** 2))


def test_lengths_in_the_ice_are_those_of_the_table_linear_between_and_constant_beyond() -> None:
    at = [-999.5, -500.5, -97.5, -96.5, 0.5, 123.5, 999.5]  # middles of metres, two of them in the dust
    for z, (scattering, absorption) in zip(at, ice_at(at), strict=True):
        assert scattering == pytest.approx(formula(z), rel=1e-6)
        assert absorption == pytest.approx(3.45 * formula(z), rel=1e-6)
    between = [
        (-130.5, 0.25),
        (-60.5, 0.5),
        (400.5, 0.875),
        (-999.5, 0.5),
        (998.5, 0.75),
    ]  # above a middle, by how much
    found = ice_at([low + part for low, part in between])
    for (low, part), (scattering, absorption) in zip(between, found, strict=True):
        line = formula(low) + part * (formula(low + 1) - formula(low))
        assert abs(line / formula(low) - 1) > 2e-4
        assert scattering == pytest.approx(line, rel=1e-5)
        assert absorption == pytest.approx(3.45 * line, rel=1e-5)
    ends = ice_at([-999.5, -999.9, -1000.0, -2500.0, 999.5, 1000.0, 1948.0, 1e6])
    assert ends[:4] == [ends[0]] * 4
    assert ends[4:] == [ends[4]] * 4
    assert ends[0][0] == pytest.approx(143.516, rel=1e-5)  # 36 · 2^((2947.57 - 1950)/500)
    assert all(math.isnan(length) for length in ice_at([math.nan])[0])


def test_lengths_in_the_ice_are_those_that_simulated_light_sees() -> None:
    z = torch.linspace(-500, 500, 1001)
    inverse = ideal_ice().along(z.numpy() - 1, z.numpy() + 1)
    made = torch.tensor(ice_at(z.tolist())).T
    torch.testing.assert_close(1 / made, torch.from_numpy(np.stack(inverse)).float(), rtol=3e-3, atol=0.0)


def test_features_of_the_ice_count_doublings_and_columns_of_that_name_go_first() -> None:
    cloud = pulse_cloud()
    spec = of(features=(*telescope.PULSES, *telescope.ICE))
    tokens = fitted(spec, cloud)(cloud)
    for event, slot in tokens.mask.nonzero().tolist()[::7]:
        z = float(cloud.points["z"][event, tokens.index[event, slot]])
        assert tokens.x[event, slot, 3:].tolist() == pytest.approx([math.log2(formula(z) / 36)] * 2, abs=1e-3)
    measured = torch.full_like(cloud.points["z"], 72.0)
    cloud = replace(cloud, points=cloud.points | {"ice_absorption": measured})
    x = fitted(spec, cloud)(cloud)
    assert torch.equal(x.x[..., :4], tokens.x[..., :4])
    assert x.x[x.mask][:, 4].tolist() == pytest.approx([math.log2(72 / 124.2)] * int(x.mask.sum()), abs=1e-5)
    flat = replace(cloud, points={name: v for name, v in cloud.points.items() if name != "z"})
    assert "ice_scattering" not in Pulses().point(flat)
    assert spec.build(SCHEMA).shape.quantities == ("time", "charge", "auxiliary", "z", "z")


def test_ids_of_all_sensors_and_whole_times_go_through_unchanged() -> None:
    every = torch.arange(5160, dtype=torch.int32)[None]
    time = (2.0**24 - 5160 + torch.arange(5160, dtype=torch.float32))[None]
    flat = {name: torch.ones(1, 5160) for name in ("charge", "x", "y", "z")}
    points = {"sensor_id": every, "time": time, "auxiliary": torch.zeros(1, 5160, dtype=torch.int8), **flat}
    cloud = Cloud(points, {}, {}, torch.ones(1, 5160, dtype=torch.bool), torch.zeros(1, dtype=torch.long))
    tokens = fitted(of(event_targets=()), cloud)(cloud)
    assert torch.equal(tokens.ids["sensor_id"], every.long())
    assert torch.equal(tokens.index[0], torch.arange(5160))


def test_pulses_of_one_time_are_ordered_by_what_masking_leaves_and_by_sensor_last() -> None:
    cloud = pulse_cloud((4,))
    tied = {
        "time": torch.full((1, 4), 7.0),
        "charge": torch.tensor([[3.0, 2.0, 2.0, 2.0]]),
        "auxiliary": torch.tensor([[0, 1, 0, 0]], dtype=torch.int8),
        "sensor_id": torch.tensor([[1, 2, 9, 4]], dtype=torch.int32),
    }
    cloud = replace(cloud, points=cloud.points | tied)
    assert fitted(of(ids=()), cloud)(cloud).index.tolist() == [[3, 2, 1, 0]]


def test_targets_of_the_event_are_those_of_all_its_pulses_and_need_no_label() -> None:
    cloud = pulse_cloud()
    spec = of(event_targets=(TOTAL_CHARGE, *CHARGE_CENTRE), select=Subsample(10), merge=BySensor(2))
    net = fitted(replace(spec, merge=None), cloud)
    found = net(cloud).targets["event"]
    for event, count in enumerate(COUNTS):
        charge, x, y, z = (cloud.points[name][event, :count].double() for name in ("charge", "x", "y", "z"))
        if count:
            centre = [float((charge * axis).sum() / charge.sum()) / 500 for axis in (x, y, z)]
            assert found[event].tolist() == pytest.approx([math.log10(charge.sum()) - 2, *centre], rel=1e-5)
    assert found[1].tolist() == pytest.approx([-5.0, 0, 0, 0])
    unlabelled = replace(cloud, truth={})
    assert torch.equal(net(unlabelled).targets["event"], found)
    merged = Represent(SENSORS, Pulses(), IN_TIME, ids=IDS, event_targets=spec.event_targets, merge=BySensor(8))
    assert torch.equal(fitted(merged, unlabelled)(cloud).targets["event"], found)
    assert net.shape.event_targets == ("log_total_charge", "charge_x", "charge_y", "charge_z")


def test_the_three_published_rules_of_selection() -> None:
    cloud, most = pulse_cloud(), 20
    net = fitted(of(select=Subsample(most)), cloud)
    tokens = net(cloud, Draws(3, 5))
    assert tokens.mask.sum(1).tolist() == [min(count, most) for count in COUNTS]
    assert tokens.x.shape[1] == most
    kinds = set()
    for event, count in enumerate(COUNTS):
        chosen = tokens.index[event][tokens.mask[event]]
        silent = cloud.points["auxiliary"][event].bool()
        good = int((~silent[:count]).sum())
        assert chosen.tolist() == sorted(set(chosen.tolist()))  # without replacement, in rising time
        if count <= most:
            assert chosen.tolist() == list(range(count))
        elif good >= most:
            kinds.add("good alone")
            assert not silent[chosen].any()
        else:
            kinds.add("all good")
            assert int((~silent[chosen]).sum()) == good
    assert "all good" in kinds
    bright = pulse_cloud((60,), silent=0.3)
    chosen = fitted(of(select=Subsample(most)), bright)(bright)
    assert not (chosen.ids["auxiliary"][chosen.mask] == 1).any()
    assert chosen.mask.all()


def test_a_selection_of_training_leaves_events_whole_elsewhere() -> None:
    cloud = pulse_cloud()
    net = fitted(of(select=Subsample(10, training_only=True)), cloud)
    assert int(net(cloud, Draws(0, 3)).mask.sum(1).max()) == 10
    assert torch.equal(net(cloud, Draws(0, 3)).index, fitted(of(select=Subsample(10)), cloud)(cloud, Draws(0, 3)).index)
    assert torch.equal(net(cloud).index, fitted(of(), cloud)(cloud).index)
    assert int(net(cloud).mask.sum(1).max()) > 10


def test_a_selection_is_uniform_drawn_afresh_in_each_step_and_else_always_the_same() -> None:
    cloud = pulse_cloud((40,), silent=0.0)
    net = fitted(of(select=Subsample(10)), cloud)
    drawn = torch.stack([torch.bincount(net(cloud, Draws(0, step)).index[0], minlength=40) for step in range(800)])
    assert drawn.max() == 1
    assert len({tuple(row.tolist()) for row in drawn[:50]}) == 50
    share = drawn.float().mean(0)
    assert ((share - 0.25).abs() < 5 * math.sqrt(0.25 * 0.75 / 800)).all()
    twins = net(cloud.map(lambda value: value.repeat_interleave(2, 0)), Draws(0, 1)).index
    assert torch.equal(*twins)  # the same identity
    both = replace(cloud.map(lambda value: value.repeat_interleave(2, 0)), index=torch.arange(2))
    assert not torch.equal(*net(both, Draws(0, 1)).index)
    assert torch.equal(net(cloud).index, net(cloud).index)
    assert torch.equal(net(cloud).index, net(cloud, Draws(0, 0, fixed=True)).index)


@pytest.mark.parametrize("select", [Subsample(20), Subsample(20, first_of="sensor_id")])
def test_a_selection_depends_on_no_padding_and_on_no_other_event(select: Subsample) -> None:
    cloud, draws = pulse_cloud(), Draws(1, 9)
    net = fitted(of(select=select), cloud)
    plain, wide = net(cloud, draws), net(wider(cloud, 13), draws)
    assert torch.equal(plain.index[plain.mask], wide.index[wide.mask])
    assert torch.equal(plain.x[plain.mask], wide.x[wide.mask])
    for event in range(len(COUNTS)):
        alone = net(cloud.events(slice(event, event + 1)), draws)
        assert torch.equal(alone.index[alone.mask], plain.index[event][plain.mask[event]])
    reversed_ = cloud.events(torch.arange(len(COUNTS)).flip(0))
    assert torch.equal(net(reversed_, draws).index.flip(0)[plain.mask], plain.index[plain.mask])


def test_ranks_are_places_in_the_whole_event() -> None:
    cloud = pulse_cloud()
    tokens = fitted(of(select=Subsample(20)), cloud)(cloud)
    assert torch.equal(tokens.rank[tokens.mask], tokens.index[tokens.mask])  # the file is in order already
    assert int(tokens.rank.max()) > 20


def test_the_first_pulse_of_every_sensor_is_kept_where_that_is_asked_for() -> None:
    cloud = pulse_cloud((60, 60, 45), sensors=12)
    tokens = fitted(of(select=Subsample(20, first_of="sensor_id")), cloud)(cloud)
    for event, count in enumerate((60, 60, 45)):
        firsts = {int(s): n for n, s in reversed(list(enumerate(cloud.points["sensor_id"][event, :count])))}
        assert set(firsts.values()) <= set(tokens.index[event].tolist())
        assert len(set(tokens.index[event].tolist())) == 20
    values = torch.tensor([[3, 1, 3, 1, 2], [5, 5, 5, 5, 5]])
    assert first_of_each(values).tolist() == [[True, True, False, False, True], [True, False, False, False, False]]


def by_hand(cloud: Cloud, event: int, first: int) -> list[dict[str, float]]:
    """Sensors in the order of their first pulse, one pulse after the other."""
    found: dict[int, list[tuple[float, float, int]]] = {}
    for n in range(int(cloud.mask[event].sum())):
        value = {name: column[event, n].item() for name, column in cloud.points.items()}
        found.setdefault(int(value["sensor_id"]), []).append((value["time"], value["charge"], int(value["auxiliary"])))
    rows = []
    for sensor, pulses in found.items():
        pulses.sort()
        row = {"sensor_id": sensor, "time": pulses[0][0], "charge": sum(q for _, q, _ in pulses), "pulses": len(pulses)}
        row["auxiliary"] = int(all(silent for _, _, silent in pulses))
        for k in range(first):
            row[f"time_{k}"], row[f"charge_{k}"], row[f"auxiliary_{k}"] = (*pulses, *[(pulses[0][0], 0.0, 1)] * first)[
                k
            ]
        rows.append(row)
    return rows


@pytest.mark.parametrize("first", [1, 3])
def test_pulses_are_merged_by_sensor_and_none_is_lost(first: int) -> None:
    cloud = pulse_cloud()
    merged, index, mask = BySensor(first)(dict(cloud.points), cloud.mask)
    assert mask.shape[1] == max(len(by_hand(cloud, event, 1)) for event in range(len(COUNTS)))
    for event, count in enumerate(COUNTS):
        rows = sorted(by_hand(cloud, event, first), key=lambda row: row["sensor_id"])
        real = mask[event]
        assert int(real.sum()) == len(rows)
        assert int(merged["pulses"][event].sum()) == count
        assert float(merged["charge"][event].double().sum()) == pytest.approx(
            float(cloud.points["charge"][event, :count].double().sum())
        )
        for name in rows[0] if rows else ():
            assert merged[name][event][real].tolist() == pytest.approx([row[name] for row in rows]), name
        for name in ("sensor_id", "time", "x", "y", "z"):
            assert torch.equal(cloud.points[name][event][index[event][real]], merged[name][event][real])


def test_merged_tokens_stand_in_the_order_of_their_first_pulse_whatever_the_padding() -> None:
    cloud = pulse_cloud()
    spec = Represent(SENSORS, Pulses(), IN_TIME, ids=IDS, merge=BySensor(8))
    net = fitted(spec, cloud)
    tokens, wide = net(cloud), net(wider(cloud, 9))
    assert torch.equal(tokens.x[tokens.mask], wide.x[wide.mask])
    assert tokens.x.shape[2] == 5 + 3 * 8
    assert tokens.x[tokens.mask].abs().max() < 3
    times = gather(cloud.points["time"], tokens.index)
    assert ((times[:, 1:] - times[:, :-1])[tokens.mask[:, 1:]] >= 0).all()
    for event in range(len(COUNTS)):
        rows = sorted(by_hand(cloud, event, 1), key=lambda row: (row["time"], row["sensor_id"]))
        assert tokens.ids["sensor_id"][event][tokens.mask[event]].tolist() == [row["sensor_id"] for row in rows]
    nothing = net(cloud.events(slice(1, 2)))
    assert nothing.mask.shape == (1, 0)
    assert net(cloud.events(slice(0, 0))).mask.shape[0] == 0


def test_truth_of_points_does_not_follow_a_merge() -> None:
    cloud = pulse_cloud()
    marked = replace(cloud, truth=cloud.truth | {"signal": cloud.points["auxiliary"]})
    schema = (*SCHEMA, Column("signal", truth=True, dtype="int8", classes=("no", "yes")))
    net = Represent(SENSORS, Pulses(), IN_TIME, ids=IDS, merge=BySensor(8)).build(schema)
    net.fit(marked)
    assert set(net.shape.truth) == set(net(marked).truth) == set(cloud.truth)
    assert set(net.shape.classes) == {"interaction"}
    assert "signal" in of().build(schema).shape.truth


def test_where_sensors_are_is_learned_from_the_events_and_saved() -> None:
    cloud = pulse_cloud()
    net = fitted(of(), cloud)
    places = net(cloud).places["sensor_id"]
    seen = cloud.points["sensor_id"][cloud.mask].unique().long()
    for axis, name in enumerate(("x", "y", "z")):
        assert torch.equal(places[cloud.points["sensor_id"][cloud.mask].long(), axis], cloud.points[name][cloud.mask])
    assert int(places.isfinite().all(1).sum()) == len(seen) < 5160
    assert "places_sensor_id" in net.state_dict()
    one = Id("sensor_id", 30, ("x",))
    moved = dict(cloud.points) | {"x": torch.where(torch.arange(60) < 30, cloud.points["x"], cloud.points["x"] + 5)}
    with pytest.raises(RecipeError, match=r"sensor_id \d+ is in two places, 5\.0 apart in x"):
        places_of(one, moved, cloud.mask)
    with pytest.raises(RecipeError, match="Id allows 0 to 9"):
        places_of(Id("sensor_id", 10, ("x",)), dict(cloud.points), cloud.mask)


@pytest.mark.parametrize("merge", [None, BySensor(2)])
def test_fitting_to_parts_is_fitting_to_the_whole(merge: BySensor | None) -> None:
    cloud = pulse_cloud(seed=3)
    features = (Feature("time"), Feature("charge", Log(1e-3)), *telescope.POSITION)
    spec = of(features=features, targets=features[:2], event_targets=(Feature("total_charge", Log(1e-3)),), merge=merge)
    whole, parts = spec.build(SCHEMA), spec.build(SCHEMA)
    whole.fit(cloud)
    cuts = [slice(5, 8), slice(1, 2), slice(0, 1), slice(2, 5), slice(0, 0)]  # one is an empty event, and one nothing
    parts.fit(*(cloud.events(cut) for cut in cuts))
    assert whole.state_dict().keys() == parts.state_dict().keys()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-6, atol=1e-6, equal_nan=True)
    assert not torch.equal(whole.features.mean, spec.build(SCHEMA).features.mean)
    with pytest.raises(RecipeError, match="fitted already"):
        parts.fit(cloud)


def test_the_order_of_pulses_in_a_file_does_not_matter() -> None:
    cloud = pulse_cloud()
    turned = cloud.map(lambda v: v.flip(1) if v.dim() == 2 else v)  # padding comes first now, and time falls
    places = turned.mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    unsorted = turned.map(lambda v: gather(v, places) if v.dim() == 2 else v)
    for spec in (of(), of(select=Subsample(20)), of(features=SENSORS, merge=BySensor(8))):
        net = fitted(spec, cloud)
        first, second = (net(one, Draws(0, 3)) for one in (cloud, unsorted))
        assert torch.equal(first.x, second.x)
        assert torch.equal(first.ids["sensor_id"], second.ids["sensor_id"])
        torch.testing.assert_close(first.targets["event"], second.targets["event"])


def test_no_column_is_of_a_type_that_would_round_it() -> None:
    """Half precision would merge ids above 2048 and move times by up to 29 ns."""
    types = {column.name: column.dtype for column in SCHEMA}
    assert types["sensor_id"] == "int32"
    assert set(types.values()) == {"int32", "int8", "float32"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fitted(of(), pulse_cloud())(with_points(sensor_id=pulse_cloud().points["sensor_id"] + 5140)),
            r"sensor_id is 51[67]\d in the event at place 0 of its split; Id allows 0 to 5159",
        ),
        (lambda: fitted(of(), with_points(sensor_id=-pulse_cloud().points["sensor_id"])), "runs from -29 to 0"),
        (lambda: fitted(of(ids=(Id("module", 5),)), pulse_cloud())(pulse_cloud()), r"asks for \['module'\]; there are"),
        (lambda: Subsample(0), "most is 0"),
        (lambda: BySensor(0), "first is 0"),
        (lambda: of(event_targets=(TOTAL_CHARGE, TOTAL_CHARGE)), "event_targets lists"),
        (
            lambda: fitted(of(select=Subsample(5, last="noise")), pulse_cloud())(pulse_cloud()),
            "selection asks for 'noise'",
        ),
        (lambda: fitted(of(merge=BySensor(sensor="module")), pulse_cloud()), r"BySensor asks for \['module'\]"),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make()


def test_padding_never_gets_through() -> None:
    events = pulse_cloud()
    for spec in (of(), of(select=Subsample(7)), Represent(SENSORS, Pulses(), IN_TIME, ids=IDS, merge=BySensor(8))):
        tokens = fitted(spec, events)(events)
        assert tokens.x.isfinite().all()
        assert not tokens.x[~tokens.mask].any()


def test_events_without_places_say_so() -> None:
    """Their sensors' places travel with the pulses: without, nothing can be told where, and no charge be centred."""
    cloud = pulse_cloud()
    blind = replace(cloud, points={name: v for name, v in cloud.points.items() if name not in ("x", "y", "z")})
    with pytest.raises(DataError, match="no point column 'x'; they have"):
        fitted(of(), blind)
