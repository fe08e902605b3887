"""The transformer beside PyTorch's own encoder layer, and published numbers of parameters of its other shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from multiplet.backbones.transformer import Transformer
from multiplet.dimensions import Role, declared_parameters
from multiplet.embedding import Concatenate
from multiplet.encoder import Encode
from multiplet.parametrisation import MuP, Standard
from multiplet.representation.tokens import Shape

# PolarBERT's encoders: attention without positions over 8 heads of 32, LayerNorm, no norm at the end.
FLASH = Transformer(
    256, 8, head_dim=32, group=1, position=None, gated=False, layer_norm=True, final_norm=False
)  # its name there
BASE = replace(FLASH, attention_bias=True)
SWIGLU = replace(FLASH, gated=True, expansion=3.0)
TIMED = Transformer(256, 8, head_dim=32, group=1, position=None, attention_bias=True)  # RMSNorm, one more at the end
TELESCOPE = Shape(("time", "log_charge", "auxiliary"), ids={"sensor_id": 5160})


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("backbone", "blocks", "published"),
    [
        pytest.param(BASE, 6_318_080, 8_306_218, id="base"),
        pytest.param(FLASH, 6_309_888, 8_298_026, id="flash"),
        pytest.param(SWIGLU, 6_823_936, 8_812_074, id="swiglu"),
        pytest.param(replace(SWIGLU, expansion=4.0), 8_396_800, 10_384_938, id="swiglu-1024"),
    ],
)
def test_parameters_are_those_of_polarbert(backbone: Transformer, blocks: int, published: int) -> None:
    """Published: 5162 rows of 128, one of them for padding and one that hides, and 5161 classes, one of them unused.

    Here padding has no row, the vector that hides belongs to the objective, and there are 5160 classes.
    """
    with torch.device("meta"):
        encoder = Encode(backbone, Standard(), ("sensor_id",), join=Concatenate(0.5), event=True).build(TELESCOPE)
    assert count(encoder.backbone.blocks) == count(encoder.backbone) == blocks
    assert count(encoder) == 5160 * 128 + (3 * 128 + 128) + 256 + blocks
    hides, sensors, charge = 128, (256 + 1) * 5160, 256 + 1
    padding, unused = 128, 256 + 1
    assert count(encoder) + hides + sensors + charge == published - padding - unused


def test_parameters_are_those_of_polarbert_with_embedded_times() -> None:
    """16,943,345 less tables of 52,000 × 128, 5162 × 108, 128 × 16 and 4 × 4, an event vector and the two heads."""
    with torch.device("meta"):
        net = TIMED.build(Standard().width(256), Standard())
    tables = 52_000 * 128 + 5162 * 108 + 128 * 16 + 4 * 4
    assert count(net) == 16_943_345 - tables - 256 - 257 * 5160 - 257


def test_the_plain_layer_is_that_of_pytorch() -> None:
    """The same weights in nn.TransformerEncoderLayer, pre-norm: outputs at real slots to 1e-5, blocks too."""
    torch.manual_seed(0)
    spec = replace(BASE, width=64, depth=2, head_dim=16)
    net, mask = spec.build(Standard().width(64), Standard()), torch.arange(20) < torch.tensor([20, 7, 1, 12])[:, None]
    theirs = nn.TransformerEncoderLayer(64, 4, 256, 0.0, "relu", 1e-6, batch_first=True, norm_first=True)
    h = torch.randn(4, 20, 64)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    found, outputs = net(h, mask, torch.zeros_like(mask, dtype=torch.long), None, True)
    for block, out in zip(net.blocks, outputs, strict=True):
        part = block.attention
        projections = [part.query, part.key, part.value]
        own = {
            "self_attn.in_proj_weight": torch.cat([p.weight for p in projections]),
            "self_attn.in_proj_bias": torch.cat([p.bias for p in projections]),
            "self_attn.out_proj.weight": part.out.weight,
            "self_attn.out_proj.bias": part.out.bias,
            "linear1.weight": block.feed.up.weight,
            "linear1.bias": block.feed.up.bias,
            "linear2.weight": block.feed.down.weight,
            "linear2.bias": block.feed.down.bias,
            "norm1.weight": block.mix.norm.gain,
            "norm1.bias": block.mix.norm.shift,
            "norm2.weight": block.transform.norm.gain,
            "norm2.bias": block.transform.norm.shift,
        }
        theirs.load_state_dict(own)
        h = theirs(h, src_key_padding_mask=~mask)
        torch.testing.assert_close(out[mask], h[mask], atol=1e-5, rtol=1e-5)
    assert torch.equal(found, outputs[-1])


def test_roles_of_norms_and_biases_inside_a_stack() -> None:
    param = MuP(64, 2)
    net = replace(BASE, width=128).build(param.width(128), param)
    for name, declared in declared_parameters(net).items():
        assert declared.role is (Role.HIDDEN if net.get_parameter(name).dim() == 2 else Role.VECTOR), name
        assert (declared.ratio, declared.depth) == (2.0, 8), name
