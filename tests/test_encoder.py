"""The embedding in parts, added or side by side; places; the event slot; what the backbone is given."""

from __future__ import annotations

import math
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from multiplet.backbones.mamba import Mamba
from multiplet.backbones.mamba2 import Mamba2
from multiplet.backbones.nothing import Nothing
from multiplet.backbones.recurrent import GRU
from multiplet.backbones.transformer import Rotary, Transformer
from multiplet.dimensions import Role, declared_parameters
from multiplet.embedding import Concatenate, Fourier, Sum, Where
from multiplet.encoder import Encode, Encoder, Hidden
from multiplet.errors import RecipeError
from multiplet.heads import event_vector
from multiplet.parametrisation import MuP, Standard
from multiplet.representation.tokens import Shape, Tokens
from multiplet.spec import from_dict, override, to_dict
from multiplet.training import train
from test_training import interrupting, same

COLUMNS = ("time", "x", "charge", "y", "z")
SHAPE = Shape(COLUMNS, ids={"sensor_id": 12, "string": 3})
ENCODE = Encode(Transformer(32, 2, head_dim=8, position=None), Standard(), ("sensor_id",), place=("z", "x"))
LENGTHS = torch.tensor([6, 3, 0, 1])
PLACED = replace(SHAPE, places={"sensor_id": 3})
ON_MAP = replace(ENCODE, where=Where(1000.0, 3), place=(), join=Concatenate(0.5))


def tokens(slots: int = 6) -> Tokens:
    """Four events of 6, 3, 0 and 1 tokens, with 1e9 in the padding."""
    torch.manual_seed(1)
    mask = torch.arange(slots) < LENGTHS[:, None]
    place = torch.arange(slots).expand(4, slots)
    return Tokens(
        x=torch.randn(4, slots, 5).masked_fill(~mask[..., None], 1e9),
        mask=mask,
        rank=place * 2,
        index=place,
        event=torch.arange(4),
        cond=torch.zeros(4, 0),
        ids={"sensor_id": torch.randint(0, 12, (4, slots)), "string": torch.randint(0, 3, (4, slots))},
    )


def build(spec: Encode) -> Encoder:
    torch.manual_seed(0)
    return spec.build(SHAPE)


def given(encoder: Encoder) -> list[tuple]:
    """What the backbone is given from now on: (h, mask, rank, geometry, blocks) a call."""
    calls: list[tuple] = []
    encoder.backbone.register_forward_pre_hook(lambda net, inputs: calls.append(inputs))
    return calls


def parts(encoder: Encoder, t: Tokens) -> dict[str, Tensor]:
    """The parts of the embedding by hand; z stands before x in `place`."""
    return {
        "x": encoder.embed["x"](t.x[..., [0, 2, 3]]),
        "place": encoder.embed["place"](t.x[..., [4, 1]]),
        "id_sensor_id": encoder.embed["id_sensor_id"].weight[t.ids["sensor_id"]],
    }


def test_parts_are_added() -> None:
    encoder, t = build(ENCODE), tokens()
    assert encoder.widths == {"x": 32, "id_sensor_id": 32, "place": 32}
    expected = torch.stack(list(parts(encoder, t).values())).sum(0)
    torch.testing.assert_close(encoder(t).before[t.mask], expected[t.mask])


def test_parts_stand_side_by_side() -> None:
    """A quarter each for the place and the id, and the features have what is left."""
    encoder, t = build(replace(ENCODE, join=Concatenate(0.25))), tokens()
    assert encoder.widths == {"x": 16, "id_sensor_id": 8, "place": 8}
    found = encoder(t).before
    assert found.shape == (4, 6, 32)
    torch.testing.assert_close(found[t.mask], torch.cat(list(parts(encoder, t).values()), -1)[t.mask])


def sensors_at() -> Tensor:
    """Places of 12 sensors in m, the last of which was never seen, and of another one axis is missing."""
    places = 300 * torch.randn(12, 3, generator=torch.Generator().manual_seed(2))
    places[11], places[10, 1] = math.nan, math.nan
    return places


@torch.no_grad()
def test_ids_begin_with_a_map_of_their_places() -> None:
    torch.manual_seed(0)
    encoder, t = ON_MAP.build(PLACED), replace(tokens(), places={"sensor_id": sensors_at()})
    found = encoder.vectors("sensor_id", t)
    learned, weight = encoder.embed["id_sensor_id"].weight, encoder.embed["where_sensor_id"].map.weight
    assert found.shape == (12, 16)
    assert weight.shape == (16, 2 * 3 * 3)
    for code, place in enumerate(sensors_at().tolist()):
        angles = [2 * math.pi * at / 1000 * 2**band for at in place for band in range(3)]
        waves = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
        expected = learned[code] + weight @ waves if code < 10 else learned[code]
        torch.testing.assert_close(found[code], expected, atol=1e-4, rtol=1e-4)
    assert found.isfinite().all()
    before = encoder(t).before
    assert torch.equal(before[t.mask][:, 16:], found[t.ids["sensor_id"]][t.mask])
    with torch.autocast("cpu", torch.bfloat16):  # 8 bits would tell neighbours on a string apart no more
        assert torch.equal(encoder.vectors("sensor_id", t), found)
    moved = replace(t, places={"sensor_id": sensors_at() + 17})
    assert not torch.allclose(encoder(moved).before[t.mask], before[t.mask], atol=1e-2)


def test_neighbours_begin_alike() -> None:
    """The closer two sensors are, the more alike is what their places add; and 17 m are told apart."""
    torch.manual_seed(0)
    encoder = replace(ON_MAP, where=Where(3000.0), backbone=replace(ENCODE.backbone, width=512)).build(PLACED)
    steps = torch.tensor([0.0, 7.0, 17.0, 125.0, 500.0])  # 4000 m is 32 · 125 m: three of its waves see no such step
    add = encoder.embed["where_sensor_id"](torch.stack([100 + 0 * steps, -30 + 0 * steps, steps], 1))
    away = (add - add[0]).square().mean(-1).sqrt() / add.square().mean().sqrt()
    assert away[1] > 0.1
    assert (away.diff() > 0.05).all()


def test_a_map_of_places_is_an_input_and_is_trained() -> None:
    for width in (64, 256):
        torch.manual_seed(0)
        spec = replace(ON_MAP, backbone=Transformer(width, 1), param=MuP(64), where=Where(), event=True)
        encoder, t = spec.build(PLACED), replace(tokens(), places={"sensor_id": sensors_at()})
        declared = declared_parameters(encoder)["embed.where_sensor_id.map.weight"]
        assert (declared.role, declared.ratio) == (Role.INPUT, width / 64)
        add = encoder.embed["where_sensor_id"](t.places["sensor_id"])[:10]
        assert add.std().item() == pytest.approx(math.sqrt(0.5), rel=0.2)  # of waves of mean square 1/2
        encoder(t).event.sum().backward()
        for name in ("where_sensor_id.map", "id_sensor_id"):
            gradient = encoder.embed.get_parameter(f"{name}.weight").grad
            assert gradient.isfinite().all(), name
            assert gradient.any(), name


def test_the_entries_of_a_part_grow_with_the_model() -> None:
    """The embedding of features and ids is input, as when added, and keeps its spread."""
    for width in (64, 256):
        spec = replace(ENCODE, backbone=Transformer(width, 1), param=MuP(64), join=Concatenate(0.25), event=True)
        encoder = build(spec)
        table = declared_parameters(encoder)
        for name in ("embed.x.weight", "embed.place.weight", "embed.id_sensor_id.weight"):
            assert (table[name].role, table[name].ratio) == (Role.INPUT, width / 64), name
        assert (table["event.value"].role, table["event.value"].ratio) == (Role.VECTOR, width / 64)
        assert encoder.embed["id_sensor_id"].weight.std().item() == pytest.approx(1, abs=0.15)
    assert encoder.event.value.std().item() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("event", [False, True])
def test_the_geometry_of_what_is_hidden_is_zero(event: bool) -> None:
    """Of the columns of the hidden part alone, in the hidden slots alone; an id has none. The slot's is zero."""
    encoder, t = build(replace(ENCODE, event=event)), tokens()
    calls, hide = given(encoder), t.mask & (torch.arange(6) % 2 == 0)
    for part, columns in (("x", [0, 2, 3]), ("place", [1, 4]), ("id_sensor_id", [])):
        encoder(t, {part: (hide, torch.ones(32))})
        expected = t.x.clone()
        for column in columns:
            expected[..., column][hide] = 0.0
        geometry = calls.pop()[3]
        assert torch.equal(geometry[:, event:], expected), part
        assert not event or not geometry[:, 0].any()


def test_a_hidden_part_is_the_vector_and_the_others_stay() -> None:
    encoder, t = build(replace(ENCODE, join=Concatenate(0.25))), tokens()
    hide, plain = t.mask & (torch.arange(6) == 1), encoder(t).before
    hidden = encoder(t, {"place": (hide, torch.full((8,), 5.0))}).before
    assert (hidden[hide][:, 16:24] == 5.0).all()
    assert torch.equal(hidden[hide][:, :16], plain[hide][:, :16])
    assert torch.equal(hidden[hide][:, 24:], plain[hide][:, 24:])
    assert torch.equal(hidden[t.mask & ~hide], plain[t.mask & ~hide])
    with pytest.raises(RecipeError, match=r"no part 'id_string'; it has \['id_sensor_id', 'place', 'x'\]"):
        encoder(t, {"id_string": (hide, torch.zeros(8))})


@pytest.mark.parametrize("position", [None, Rotary()])
def test_the_event_slot_stands_in_front(position: Rotary | None) -> None:
    """It is real in every event, has rank 0, and the ranks of the tokens are one more."""
    encoder, t = (
        build(replace(ENCODE, backbone=Transformer(32, 2, head_dim=8, position=position), event=True)),
        tokens(),
    )
    calls = given(encoder)
    hidden = encoder(t, blocks=True)
    h, mask, rank, _, _ = calls.pop()
    assert torch.equal(h[:, 0], encoder.event.value.expand(4, 32))
    assert torch.equal(h[:, 1:], hidden.before)
    assert mask[:, 0].all()
    assert torch.equal(mask[:, 1:], t.mask)
    assert not rank[:, 0].any()
    assert torch.equal(rank[:, 1:], t.rank + 1)
    whole, outputs = encoder.backbone(h, mask, rank, None, True)
    for found, expected in zip((hidden.points, *hidden.blocks), (whole, *outputs), strict=True):
        assert torch.equal(found[t.mask], expected[:, 1:][t.mask])
    assert torch.equal(hidden.event, whole[:, 0])
    assert torch.equal(hidden.mask, t.mask)


@pytest.mark.parametrize("place", [0, 5])
@pytest.mark.parametrize(
    "backbone",
    [ENCODE.backbone, Mamba(32, 1, 4, bidirectional=True), Mamba2(32, 1, 4, 16, bidirectional=True), GRU(32, 1)],
)
def test_the_event_slot_sees_every_token_and_every_token_sees_it(backbone: Transformer | GRU, place: int) -> None:
    """One block is enough; and what another event holds does not matter."""
    encoder, t = build(replace(ENCODE, backbone=backbone, event=True)), tokens()
    moved = t.x.clone()
    moved[0, place] += 1
    first, second = encoder(t), encoder(replace(t, x=moved))
    assert not torch.allclose(first.event[0], second.event[0], atol=1e-4)
    assert torch.equal(first.event[1:], second.event[1:])
    with torch.no_grad():
        encoder.event.value.add_(torch.linspace(-1, 1, 32))
    changed = (encoder(t).points - first.points).abs().amax(-1)
    assert (changed[t.mask] > 1e-5).all()


def test_the_vector_of_an_event_is_its_slot_or_the_mean_of_its_tokens() -> None:
    t = tokens()
    hidden = build(ENCODE)(t)
    found = event_vector(hidden)
    for event, length in enumerate(LENGTHS.tolist()):
        expected = hidden.points[event, :length].mean(0) if length else torch.zeros(32)
        torch.testing.assert_close(found[event], expected)
    low = Hidden(hidden.points, t.mask, hidden.before, [], hidden.points[:, 0].bfloat16())
    assert event_vector(low).dtype is torch.float32
    with_slot = build(replace(ENCODE, event=True))(t)
    assert torch.equal(event_vector(with_slot), with_slot.event)
    assert with_slot.event.isfinite().all()


@pytest.mark.parametrize("backbone", [Transformer(32, 1, head_dim=8), GRU(32, 1), Mamba(32, 1, 4, bidirectional=True)])
def test_a_run_that_reads_from_the_slot_is_the_same_when_resumed(
    backbone: Transformer | GRU, toys: Path, tmp_path: Path
) -> None:
    encode = replace(tiny.ENCODE, backbone=backbone, place=("deta", "dphi"), join=Concatenate(0.25), event=True)
    recipe = replace(tiny.labels(str(toys), steps=8), encoder=encode)
    train(recipe, tmp_path / "whole", progress=False)
    stopped = train(recipe, tmp_path / "parts", dataset=interrupting(toys, 5, signal.SIGTERM), progress=False)
    assert stopped.stopped_by == "SIGTERM"
    assert train(recipe, tmp_path / "parts", progress=False).step == 8
    same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("backbone", [Mamba(), Mamba2(), GRU(bidirectional=False), Nothing()])
def test_a_slot_that_would_see_nothing_is_refused(backbone: Mamba) -> None:
    with pytest.raises(RecipeError, match=f"{type(backbone).__name__} as it is set.*bidirectional=True"):
        Encode(backbone, event=True)


def test_a_recipe_with_a_slot_can_be_changed_and_written() -> None:
    spec = replace(ENCODE, backbone=GRU(32, 1), join=Concatenate(0.25), event=True, where=Where(500.0, 4))
    assert from_dict(Encode, to_dict(spec)) == spec
    changed = override(
        spec, {"backbone.bidirectional": "false", "event": "false", "join": "Sum", "place": '["z"]', "where": "null"}
    )
    assert changed == replace(spec, backbone=GRU(32, 1, False), event=False, join=Sum(), place=("z",), where=None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(ENCODE, place=("x", "charges")), "Encode.place: 'charges' is no feature .did you mean 'charge'"),
        (replace(ENCODE, place=COLUMNS), "names every feature"),
        (replace(ENCODE, place=("x", "x")), "twice"),
        (replace(ENCODE, ids=("sensor",)), "Encode.ids asks for"),
        (replace(ENCODE, join=Concatenate(0.5)), r"0.5 of 32 for each of \['id_sensor_id', 'place'\] leaves 0"),
        (replace(ENCODE, join=Concatenate(0.01)), "0.01 of 32"),
        (replace(ENCODE, features=Fourier(("x", "y"))), "Fourier.places: 'x' is no feature"),
        (ON_MAP, r"Encode.where needs .* Id.place of one of Encode.ids \(\['sensor_id'\]\)"),
    ],
)
def test_what_cannot_be_embedded_is_refused(spec: Encode, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec.build(SHAPE)


@pytest.mark.parametrize("make", [lambda: Where(0.0), lambda: Where(bands=0)])
def test_waves_have_a_length(make: object) -> None:
    with pytest.raises(RecipeError, match=r"Where.longest must be above 0, bands at least 1"):
        make()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_is_a_part_of_the_whole(share: float) -> None:
    with pytest.raises(RecipeError, match="between 0 and 1"):
        Concatenate(share)
