"""The contracts of the design, for every implementation there is: the next one is a line in a list here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from multiplet.backbones.mamba import Mamba
from multiplet.backbones.mamba2 import Mamba2
from multiplet.backbones.nothing import Nothing
from multiplet.backbones.recurrent import GRU
from multiplet.backbones.transformer import Rotary, Transformer
from multiplet.cloud import Cloud
from multiplet.data.events import Events
from multiplet.draws import Draws
from multiplet.embedding import Concatenate, Sum
from multiplet.encoder import Encode, Encoder
from multiplet.model import Model, Objective
from multiplet.objectives.decoder import CrossDecoder
from multiplet.objectives.diffusion import Diffusion
from multiplet.objectives.masked import Masked
from multiplet.objectives.neighbours import NextNeighbours
from multiplet.objectives.targets import Code, MeanSquared
from multiplet.parametrisation import MuP, Standard, UnitMuP
from multiplet.representation.curves import Hilbert, ZOrder
from multiplet.representation.features import Feature, Identity, Log, SymLog, Tanh
from multiplet.representation.jets import CONSTITUENTS, INDEPENDENT, JetConstituents
from multiplet.representation.orders import Ascending, AsMeasured, Descending
from multiplet.representation.raster import Axis, RasterScan
from multiplet.representation.represent import Measured, Represent, RepresentNet
from multiplet.representation.tokenizers import Id, KMeans
from multiplet.representation.tokens import Tokens, gather
from multiplet.tasks.classify import Classify
from multiplet.tasks.regress import Regress
from multiplet.tasks.together import Together
from toys import SCHEMA

BACKBONES = [
    pytest.param(Transformer(32, 2, head_dim=8, position=Rotary()), id="transformer-rotary"),
    pytest.param(Transformer(32, 2, head_dim=8, position=None), id="transformer-set"),
    pytest.param(Nothing(32), id="nothing"),
    pytest.param(Mamba(32, 2, state=4), id="mamba"),
    pytest.param(Mamba2(32, 2, state=8, head_dim=16), id="mamba2"),
    pytest.param(GRU(32, 2, bidirectional=False), id="gru"),
    pytest.param(Mamba(32, 2, state=4, bidirectional=True), id="mamba-bidirectional"),
    pytest.param(Mamba2(32, 2, state=8, head_dim=16, bidirectional=True), id="mamba2-bidirectional"),
    pytest.param(GRU(32, 2), id="gru-bidirectional"),
]
CAUSAL = [Mamba(32, 2, state=4), Mamba2(32, 2, state=8, head_dim=16), GRU(32, 2, bidirectional=False)]
SLOTTED = [b for b in BACKBONES if b.values[0] not in (*CAUSAL, Nothing(32))]  # those an event slot can stand before
SETS = [Transformer(32, 2, head_dim=8, position=None), Nothing(32)]
OBJECTIVES = [
    pytest.param(Masked(decoder=CrossDecoder(2, head_dim=8), target=Diffusion(width=16, depth=2)), id="diffusion"),
    pytest.param(Masked(decoder=CrossDecoder(1, head_dim=8), target=MeanSquared()), id="mean-squared"),
    pytest.param(Masked(decoder=CrossDecoder(1, head_dim=8), target=Code()), id="code"),
    pytest.param(Masked(hide=0.125, predict=None, decoder=CrossDecoder(1, head_dim=8)), id="one-token"),
    pytest.param(NextNeighbours(3, ("deta", "dphi", "log_pt"), "log_pt", (0.0, 6.0, 0.0)), id="neighbours"),
    pytest.param(NextNeighbours(40, ("deta", "dphi"), "", by_point=True, relative=True), id="neighbours-in-sequence"),
    pytest.param(Classify(), id="classify"),
    pytest.param(Regress("label", log=False), id="regress"),
    pytest.param(Together({"kind": Classify(), "value": Regress("label", False)}, {"kind": 3.0}), id="together"),
]
ORDERS = [
    AsMeasured(),
    Descending("pt"),
    Ascending("deta"),
    Ascending("is_photon", ties=("is_muon", "deta")),
    RasterScan((Axis("pt", 4), Axis("dphi", 4, (0.0,)), Axis("deta", 3)), "pt", ("dphi", "deta")),
    ZOrder(("deta", "dphi")),
    Hilbert(("deta", "dphi", "pt"), bits=8),
]
PARAMETRISATIONS = [Standard(), MuP(base_width=16, base_depth=1), UnitMuP()]
RECURRENT = (Mamba, Mamba2, GRU)  # which u-µP refuses
REPRESENTATIONS = [
    pytest.param(Represent(CONSTITUENTS, JetConstituents(), Descending("pt"), tokenizer=KMeans(8)), id="constituents"),
    pytest.param(
        Represent(CONSTITUENTS, JetConstituents(), Descending("pt"), targets=INDEPENDENT, tokenizer=KMeans(8)),
        id="independent",
    ),
]
TRANSFORMS = [
    (Identity(), torch.linspace(-5, 5, 101)),
    (Log(), torch.logspace(-7, 3, 101)),
    (SymLog(0.05), torch.linspace(-50, 50, 101)),
    (Tanh(2.0), torch.linspace(-8, 8, 101)),
]


@pytest.fixture(scope="module")
def cloud(toys: Path) -> Cloud:
    return Events(str(toys)).open().read("train", np.arange(100))


def represented(spec: Represent, cloud: Cloud) -> RepresentNet:
    net = spec.build(SCHEMA)
    net.fit(cloud)
    return net


def model_of(objective: Objective, cloud: Cloud, backbone: Transformer | None = None, order: object = None) -> Model:
    spec = Represent(CONSTITUENTS, JetConstituents(), order or Descending("pt"), tokenizer=KMeans(8))
    encode = Encode(backbone or Transformer(32, 2, head_dim=8), MuP(base_width=16))
    model = Model(spec, encode, objective, SCHEMA, seed=3)
    model.represent.fit(cloud)
    with torch.no_grad():  # away from the zeros that readouts, queries and gates start at
        for number, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter += 0.1 * noise / max(parameter.shape[-1:] or (1,)) ** 0.5
    return model.eval()


def slotted(
    backbone: Transformer, cloud: Cloud, join: Sum | Concatenate | None = None, order: object = None
) -> tuple[Encoder, RepresentNet]:
    """An encoder with an event slot, and a place that can be hidden."""
    net = represented(Represent(CONSTITUENTS, JetConstituents(), order or Descending("pt"), tokenizer=KMeans(8)), cloud)
    encode = Encode(backbone, Standard(), ("code",), place=("dphi", "deta"), join=join or Sum(), event=True)
    torch.manual_seed(4)
    return encode.build(net.shape).eval(), net


def padded(cloud: Cloud, extra: int, filling: float) -> Cloud:
    """The same events with more padding, and with something in all of the padding."""

    def pad(value: Tensor) -> Tensor:
        if value.dim() == 1:
            return value
        wide = torch.nn.functional.pad(value, (0, extra))
        mask = torch.nn.functional.pad(cloud.mask, (0, extra))
        fill = filling if value.is_floating_point() else 7
        return wide if value.dtype is torch.bool else wide.masked_fill(~mask, fill)

    return cloud.map(pad)


def permuted(cloud: Cloud, seed: int = 0) -> tuple[Cloud, Tensor]:
    """The same events with their real points in another order, and where each came from."""
    chance = torch.rand(cloud.mask.shape, generator=torch.Generator().manual_seed(seed)).masked_fill(~cloud.mask, 2)
    places = chance.argsort(1)
    return cloud.map(lambda value: gather(value, places) if value.dim() == 2 else value), places


@pytest.mark.parametrize("filling", [0.0, float("nan"), 1e9, -999.0])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_padding_changes_nothing(objective: Objective, filling: float, cloud: Cloud) -> None:
    model, draws = model_of(objective, cloud), Draws(1, 2)
    plain, other = model.tokens(cloud), model.tokens(padded(cloud, 7, filling))
    first, second = model(plain, draws), model(other, draws)
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=2e-5, rtol=2e-5)
    outputs = [
        model.encoder(tokens).points[:, : cloud.mask.shape[1]] * cloud.mask[..., None] for tokens in (plain, other)
    ]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_event_does_not_depend_on_its_batch(objective: Objective, cloud: Cloud) -> None:
    model, draws = model_of(objective, cloud), Draws(1, 2)
    together = model(model.tokens(cloud), draws)
    apart = [model(model.tokens(cloud.events(slice(n, n + 1))), draws) for n in range(5)]
    for name, values in together.items():
        torch.testing.assert_close(values[:5], torch.cat([one[name] for one in apart]), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_events_too_small_to_say_anything_stay_finite_and_weigh_nothing(objective: Objective, cloud: Cloud) -> None:
    small = replace(cloud, mask=cloud.mask & (torch.arange(cloud.mask.shape[1]) < torch.arange(100)[:, None] % 3))
    model, draws = model_of(objective, cloud), Draws(1, 2)
    tokens = model.tokens(small)
    losses, weights = model(tokens, draws), model.objective.weights(tokens, draws)
    torch.stack([value.sum() for value in losses.values()]).sum().backward()
    assert all(value.isfinite().all() for value in losses.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert all((weight[small.mask.sum(1) == 0] == 0).all() for weight in weights.values())
    assert all(weight[small.mask.sum(1) == 2].all() for weight in weights.values())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_batch_without_events_gives_a_zero_loss_that_can_be_differentiated(
    objective: Objective, cloud: Cloud
) -> None:
    model, draws = model_of(objective, cloud), Draws(1, 2)
    losses = model(model.tokens(cloud.events(slice(0, 0))), draws)
    assert all(value.shape == (0,) for value in losses.values())
    torch.stack([value.sum() for value in losses.values()]).sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_mean_over_parts_with_known_weights_is_the_mean_over_the_batch(objective: Objective, cloud: Cloud) -> None:
    model, draws = model_of(objective, cloud), Draws(1, 2)
    tokens = model.tokens(cloud)
    values, weights = model(tokens, draws), model.objective.weights(tokens, draws)
    for name in values:
        whole = (values[name] * weights[name]).sum() / weights[name].sum()
        parts = [model.tokens(cloud.events(slice(start, start + 34))) for start in range(0, 100, 34)]
        total = sum(model.objective.weights(part, draws)[name].sum() for part in parts)
        shares = [(model(p, draws)[name] * model.objective.weights(p, draws)[name]).sum() / total for p in parts]
        torch.testing.assert_close(torch.stack(shares).sum(), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if o.id not in ("classify", "regress", "together")])
def test_labels_never_reach_an_objective_without_labels(objective: Objective, cloud: Cloud) -> None:
    model, draws = model_of(objective, cloud), Draws(1, 2)
    blind = replace(cloud, truth={name: torch.zeros_like(value) for name, value in cloud.truth.items()})
    first, second = model(model.tokens(cloud), draws), model(model.tokens(blind), draws)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_truth_and_targets_never_reach_the_encoder(backbone: Transformer, cloud: Cloud) -> None:
    model = model_of(Classify(), cloud, backbone)
    tokens = model.tokens(cloud)
    changed = replace(
        tokens,
        truth={name: value + 1 for name, value in tokens.truth.items()},
        targets={name: value + 1 for name, value in tokens.targets.items()},
    )
    assert torch.equal(model.encoder(tokens).points, model.encoder(changed).points)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_event_does_not_depend_on_what_a_backbone_is_given_beside_it(backbone: Transformer, cloud: Cloud) -> None:
    model = model_of(Classify(), cloud, backbone)
    tokens = model.tokens(padded(cloud, 40, 1e9))  # beyond a chunk of those that read in chunks
    together = model.encoder(tokens).points
    for event in range(5):
        part = model.tokens(cloud.events(slice(event, event + 1)))
        alone = model.encoder(part).points
        torch.testing.assert_close(together[event : event + 1, : alone.shape[1]], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", CAUSAL)
def test_causal_nets_never_look_ahead(backbone: Mamba, cloud: Cloud) -> None:
    model = model_of(Classify(), cloud, backbone)
    tokens, place = model.tokens(cloud), 17
    changed = replace(tokens, x=torch.where(torch.arange(tokens.x.shape[1])[:, None] >= place, 3.0, tokens.x))
    first, second = (model.encoder(t).points for t in (tokens, changed))
    assert torch.equal(first[:, :place], second[:, :place])
    real = tokens.mask[:, place]
    assert (first[:, place] != second[:, place]).any(-1)[real].all()


@pytest.mark.parametrize("filling", [0.0, float("nan"), 1e9, -999.0])
@pytest.mark.parametrize("backbone", SLOTTED)
def test_padding_changes_nothing_in_the_event_slot(backbone: Transformer, filling: float, cloud: Cloud) -> None:
    encoder, net = slotted(backbone, cloud)
    small = replace(cloud, mask=cloud.mask & (torch.arange(100) % 4 > 0)[:, None])  # every fourth event is empty
    first, second = (encoder(net(c), blocks=True) for c in (small, padded(small, 7, filling)))
    assert first.event.isfinite().all()
    torch.testing.assert_close(first.event, second.event, atol=1e-5, rtol=1e-5)
    size = cloud.mask.shape[1]
    for one, other in zip((first.points, *first.blocks), (second.points, *second.blocks), strict=True):
        assert one.shape == (100, size, 32)
        torch.testing.assert_close(one[small.mask], other[:, :size][small.mask], atol=1e-5, rtol=1e-5)
    alone = encoder(net(small.events(slice(5, 6))))
    torch.testing.assert_close(alone.event, first.event[5:6], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("join", [Sum(), Concatenate(0.25)])
@pytest.mark.parametrize("backbone", SLOTTED)
def test_a_hidden_id_and_place_reach_no_output(backbone: Transformer, join: Sum | Concatenate, cloud: Cloud) -> None:
    encoder, net = slotted(backbone, cloud, join)
    tokens = net(cloud)
    hide = tokens.mask & (torch.arange(tokens.mask.shape[1]) % 3 == 1)
    place = torch.tensor([net.shape.columns.index(name) for name in encoder.spec.place])
    moved = torch.where(hide[..., None], tokens.x.index_fill(-1, place, 3.0), tokens.x)
    changed = replace(tokens, x=moved, ids={"code": torch.where(hide, 7 - tokens.ids["code"], tokens.ids["code"])})
    vectors = {part: (hide, torch.ones(encoder.widths[part])) for part in ("place", "id_code")}
    hidden = [encoder(t, vectors, blocks=True) for t in (tokens, changed)]
    for name in ("points", "event", "before"):
        assert torch.equal(getattr(hidden[0], name), getattr(hidden[1], name))
    for part in vectors:  # hiding one of the two would not do
        one = {part: vectors[part]}
        assert not torch.equal(encoder(tokens, one).event, encoder(changed, one).event)
    seen = encoder(replace(tokens, x=tokens.x + 0.1), vectors)
    assert not torch.equal(seen.event, hidden[0].event)


@pytest.mark.parametrize("backbone", SETS[:1])
def test_the_event_slot_of_a_set_does_not_care_for_order(backbone: Transformer, cloud: Cloud) -> None:
    encoder, net = slotted(backbone, cloud, order=AsMeasured())
    first, second = (encoder(net(c)).event for c in (cloud, permuted(cloud)[0]))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", SETS)
def test_sets_do_not_care_for_order(backbone: Transformer, cloud: Cloud) -> None:
    model = model_of(Classify(), cloud, backbone, AsMeasured())
    moved, places = permuted(cloud)
    first, second = (model.encoder(model.tokens(c)).points for c in (cloud, moved))
    torch.testing.assert_close(
        gather(first, places) * moved.mask[..., None], second * moved.mask[..., None], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("backbone", [BACKBONES[0].values[0]])
def test_an_order_by_a_quantity_undoes_any_permutation_of_the_file(backbone: Transformer, cloud: Cloud) -> None:
    model = model_of(Classify(), cloud, backbone)
    first, second = (model.objective.predict(model.encoder, model.tokens(c)) for c in (cloud, permuted(cloud)[0]))
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_orders_are_permutations_and_truth_moves_along(order: object, cloud: Cloud) -> None:
    marked = replace(cloud, truth={**cloud.truth, "mark": cloud.points["deta"] * 2})
    net = Represent(CONSTITUENTS, JetConstituents(), order).build(SCHEMA)
    net.fit(cloud)
    tokens = net(marked)
    assert torch.equal(tokens.index.sort(1).values, torch.arange(cloud.mask.shape[1]).expand_as(tokens.index))
    assert torch.equal(tokens.mask, cloud.mask)  # real points stay at the left
    deta = gather(cloud.points["deta"], tokens.index)
    assert torch.equal(tokens.truth["mark"][tokens.mask], (deta * 2)[tokens.mask])
    rows = [gather(key, tokens.index).tolist() for key in net.order.keys(net.spec.quantities.point(cloud))]
    for event, points in enumerate(tokens.mask.sum(1).tolist()):
        ordered = list(zip(*(row[event][:points] for row in rows), strict=True))
        assert ordered == sorted(ordered)


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if isinstance(o.values[0], Masked)])
def test_what_is_hidden_is_hidden(objective: Masked, cloud: Cloud) -> None:
    model, draws = model_of(objective, cloud), Draws(1, 2)
    tokens = model.tokens(cloud)
    masks = model.objective.draw(tokens, draws)
    visible = torch.zeros_like(tokens.mask).scatter(1, masks.visible, masks.visible_mask)
    changed = replace(
        tokens,
        x=torch.where(visible[..., None], tokens.x, torch.full_like(tokens.x, 5.0)),
        ids={name: torch.where(visible, ids, torch.zeros_like(ids)) for name, ids in tokens.ids.items()},
    )
    first, second = (model.objective.conditions(model.encoder, t, draws)[0] for t in (tokens, changed))
    assert torch.equal(first, second)
    assert not torch.equal(tokens.x, changed.x)


@pytest.mark.parametrize(
    ("backbone", "param"),
    [
        (one.values[0], param)
        for one in BACKBONES
        for param in PARAMETRISATIONS
        if not (isinstance(param, UnitMuP) and isinstance(one.values[0], RECURRENT))
    ],
)
def test_a_part_of_the_embedding_can_be_replaced(backbone: Transformer, param: Standard, cloud: Cloud) -> None:
    net = represented(REPRESENTATIONS[0].values[0], cloud)
    tokens = net(cloud)
    encoder = Encoder(Encode(backbone, param, ids=("code",)), net.shape)
    hide = torch.zeros_like(tokens.mask)
    hide[:, 1] = True
    vector = torch.ones(int(encoder.width))
    changed = replace(tokens, ids={"code": torch.where(hide, 0, tokens.ids["code"])})
    outputs = [encoder(t, {"id_code": (hide, vector)}).points for t in (tokens, changed)]
    assert torch.equal(*outputs)
    assert not torch.equal(encoder(tokens).points, outputs[0])


@pytest.mark.parametrize("spec", REPRESENTATIONS)
def test_standardised_features_are_of_order_one_and_come_back(spec: Represent, cloud: Cloud) -> None:
    net = represented(spec, cloud)
    tokens = net(cloud)
    real = tokens.x[tokens.mask]
    assert real.abs().max() <= spec.clip
    fitted = [n for n, f in enumerate(spec.features) if type(f.scale).__name__ == "Fitted"]
    assert (real[:, fitted].mean(0).abs() < 0.1).all()
    assert (real[:, fitted].std(0) < 1.1).all()
    measured = spec.quantities.point(cloud)
    for feature, back in zip(spec.features, net.features.inverse(tokens.x).values(), strict=True):
        inside = tokens.mask & (tokens.x[..., list(net.shape.columns).index(feature.name)].abs() < spec.clip)
        truth = gather(measured[feature.quantity].float(), tokens.index)
        torch.testing.assert_close(back[inside], truth[inside], rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize(("transform", "values"), TRANSFORMS)
def test_transforms_have_analytic_inverses_and_rise(transform: Identity, values: Tensor) -> None:
    forward = transform.forward(values)
    torch.testing.assert_close(transform.inverse(forward), values, rtol=2e-3, atol=1e-6)
    assert (forward.diff() > 0).all()


@pytest.mark.parametrize("spec", REPRESENTATIONS)
def test_ids_are_in_range_and_stand_for_the_nearest_code(spec: Represent, cloud: Cloud) -> None:
    net = represented(spec, cloud)
    tokens = net(cloud)
    targets, ids = tokens.targets["x"], tokens.ids["code"]
    assert ids.min() >= 0
    assert ids.max() < net.tokenizer.codes
    distance = torch.cdist(targets, net.tokenizer.centroids)
    own = distance.gather(2, ids[..., None])[..., 0]
    torch.testing.assert_close(own[tokens.mask], distance.min(2).values[tokens.mask], rtol=1e-3, atol=1e-3)
    assert torch.equal(net.tokenizer.encode(net.tokenizer.decode(ids))[tokens.mask], ids[tokens.mask])


@pytest.mark.parametrize("spec", REPRESENTATIONS)
def test_a_representation_is_fitted_once_and_saved(spec: Represent, cloud: Cloud) -> None:
    net = spec.build(SCHEMA)
    with pytest.raises(ValueError, match="never fitted"):
        net(cloud)
    net.fit(cloud)
    with pytest.raises(ValueError, match="fitted already"):
        net.fit(cloud)
    other = spec.build(SCHEMA)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(cloud).x, net(cloud).x)


@pytest.mark.parametrize("spec", REPRESENTATIONS)
def test_a_representation_is_fitted_on_real_points_alone(spec: Represent, cloud: Cloud) -> None:
    net, other = spec.build(SCHEMA), spec.build(SCHEMA)
    net.fit(cloud)
    other.fit(padded(cloud, 50, 0.0))
    for name, value in net.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, equal_nan=True, msg=name)


def test_tokens_keep_rank_and_index_when_some_are_selected(cloud: Cloud) -> None:
    tokens: Tokens = represented(REPRESENTATIONS[0].values[0], cloud)(cloud)
    places = torch.tensor([[2, 4]]).expand(len(cloud), 2)
    part = tokens.select(places, torch.ones(len(cloud), 2, dtype=torch.bool))
    assert torch.equal(part.rank, places)
    assert torch.equal(part.x[:, 1], tokens.x[:, 4])
    assert torch.equal(part.index[:, 0], tokens.index[:, 2])
    assert torch.equal(part.truth["label"], tokens.truth["label"])


def test_measured_ids_keep_to_their_range_and_move_along(cloud: Cloud) -> None:
    marked = replace(cloud, points={**cloud.points, "sensor": (cloud.points["deta"] > 0).to(torch.int16) * 6})
    net = represented(Represent(CONSTITUENTS, JetConstituents(), Ascending("deta"), ids=(Id("sensor", 7),)), marked)
    tokens = net(marked)
    assert net.shape.ids == {"sensor": 7}
    deta = gather(cloud.points["deta"], tokens.index)
    assert torch.equal(tokens.ids["sensor"][tokens.mask], ((deta > 0) * 6)[tokens.mask])
    encoder = Encoder(Encode(Transformer(32, 1, head_dim=8), Standard(), ids=("sensor",)), net.shape)
    assert encoder(tokens).points.isfinite().all()
    short = represented(Represent(CONSTITUENTS, JetConstituents(), ids=(Id("sensor", 6),)), marked)
    with pytest.raises(ValueError, match="sensor is 6 in the event at place 0 of its split; Id allows 0 to 5"):
        short(marked)


def test_the_identity_of_an_event_is_no_quantity(cloud: Cloud) -> None:
    assert "event_id" in cloud.event
    for spec in (Measured(), JetConstituents()):
        assert "event_id" not in spec.event(cloud)
        assert "jet_pt" in spec.event(cloud)


def test_conditions_that_no_encoder_reads_are_refused(cloud: Cloud) -> None:
    spec = Represent(CONSTITUENTS, JetConstituents(), conditions=(Feature("jet_pt", Log()),))
    with pytest.raises(ValueError, match="log_jet_pt"):
        Encode(Transformer(32, 1, head_dim=8)).build(represented(spec, cloud).shape)
