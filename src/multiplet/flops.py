"""Floating-point operations of masked pretraining, counted from the shapes of the model's matrices.

A multiplication with an addition is two operations; the backward pass counts as two forward passes. Only products of
matrices are counted, and only of real tokens: what padding costs beside them is a matter of the batches. A look-up is
free. The noise head is counted as published, once for each noisy copy of a token, though copies share what they can
(a fifth of it). For the talk's jet encoder of width d and depth L that is 30 d² v + 4 d v² per layer and 42 d v for its
features, v being the tokens it sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multiplet.backbones.transformer import TransformerNet
from multiplet.embedding import FourierNet
from multiplet.encoder import Encoder
from multiplet.errors import RecipeError
from multiplet.layers import Attention, Embedding, Linear
from multiplet.model import Model
from multiplet.objectives.decoder import CrossDecoderNet
from multiplet.objectives.diffusion import DiffusionNet
from multiplet.objectives.masked import MaskedNet
from multiplet.objectives.masking import counts


@dataclass(frozen=True)
class Flops:
    """Of one forward pass over some events: how many tokens were seen and predicted, and what each part took."""

    seen: int
    predicted: int
    parameters: int  # of the encoder
    encoder: int
    decoder: int
    target: int
    reference: int  # of a bystander that is trained for comparison: no part of the model

    @property
    def forward(self) -> int:
        """Of the model, without the bystander."""
        return self.encoder + self.decoder + self.target

    @property
    def training(self) -> int:
        """Forward and backward."""
        return 3 * self.forward

    @property
    def rule_of_thumb(self) -> int:
        """6 N D: six times the encoder's parameters times the tokens it sees."""
        return 6 * self.parameters * self.seen


def pretraining_flops(model: Model, lengths: Tensor | Sequence[int]) -> Flops:
    """What events with these many tokens take in one step; RecipeError for a model that is not counted here."""
    if not isinstance(model.objective, MaskedNet):
        raise RecipeError(f"operations are counted for Masked, not for {type(model.objective.spec).__name__}")
    spec, target = model.objective.spec, model.objective.target
    length = torch.as_tensor(lengths).long()
    hidden, p = counts(length, spec.hide, spec.predict)
    v = length - hidden
    head, reference = _linear(target), 0
    if isinstance(target, DiffusionNet):
        head = _linear(target.head) * target.spec.repeats
        reference = 0 if target.reference is None else _linear(target.reference)
    return Flops(
        seen=int(v.sum()),
        predicted=int(p.sum()),
        parameters=sum(parameter.numel() for parameter in model.encoder.parameters()),
        encoder=int(_encoder(model.encoder, v).sum()),
        decoder=int(_decoder(model.objective.decoder, v, p).sum()),
        target=int(p.sum()) * head,
        reference=int(p.sum()) * reference,
    )


def _encoder(encoder: Encoder, v: Tensor) -> Tensor:
    """(B,)."""
    net = encoder.backbone
    if not isinstance(net, TransformerNet):
        raise RecipeError(f"operations are counted for Transformer, not for {type(encoder.spec.backbone).__name__}")
    slots = v if encoder.event is None else v + 1
    return _embedding(encoder.embed) * v + _linear(net) * slots + _attention(net) * slots**2


def _embedding(parts: nn.ModuleDict) -> int:
    """Of one token."""
    total = 0
    for name, part in parts.items():
        if isinstance(part, Linear):
            total += _linear(part)
        elif isinstance(part, FourierNet):
            total += 2 * part.vectors.numel()
        elif not isinstance(part, Embedding):
            raise RecipeError(f"operations of the embedding's part {name!r} are not counted: it is not made by token")
    return total


def _decoder(decoder: CrossDecoderNet, v: Tensor, p: Tensor) -> Tensor:
    """(B,): keys and values are made of the tokens that were seen, all else of those that are predicted."""
    memory = sum(_linear(one.key) + _linear(one.value) for one in decoder.modules() if isinstance(one, Attention))
    return memory * v + (_linear(decoder) - memory) * p + _attention(decoder) * v * p


def _attention(module: nn.Module) -> int:
    """Of all attention in it, for each pair of a query and a key: their product, and the weighted value."""
    return sum(4 * one.query.weight.shape[0] for one in module.modules() if isinstance(one, Attention))


def _linear(module: nn.Module) -> int:
    """Of all linear maps in it, each applied once."""
    return sum(2 * one.weight.numel() for one in module.modules() if isinstance(one, Linear))
