"""Training: one loop for every recipe, in plain PyTorch; killed anywhere and resumed, it gives the same result."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multiplet.backbones.fused import announced
from multiplet.backbones.mamba import Mamba
from multiplet.backbones.mamba2 import Mamba2
from multiplet.checkpoint import newest, write_checkpoint
from multiplet.cloud import Cloud
from multiplet.data.batches import Batches, Plan, Work, cut_parts, load
from multiplet.data.events import Dataset
from multiplet.distributed import Ranks, ranks
from multiplet.draws import Draws
from multiplet.errors import DataError, NonFiniteError, RecipeError
from multiplet.faults import blame, not_fit
from multiplet.files import flush, held
from multiplet.identity import Identity
from multiplet.model import load_weights
from multiplet.progress import Log, Show, show
from multiplet.recipe import Recipe
from multiplet.representation.tokens import Tokens
from multiplet.spec import to_dict
from multiplet.validation import validate

_POINTS_TO_FIT = 10_000_000  # padded points read at once: about a GB


@dataclass(frozen=True)
class Finished:
    """How a call of `train` ended: the last step done, and the signal that stopped it early, if one did."""

    run: Path
    step: int
    stopped_by: str | None = None


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    name: str = "run",
    command: str = "",
    dataset: Dataset | None = None,
    progress: bool = True,
) -> Finished:
    """Train a recipe in the folder `out`, or go on where the newest valid checkpoint there was written.

    `dataset` stands in for the recipe's own data. Raises RunError where `out` holds a run of another recipe or of
    other data, is in use by another process or cannot be written, and NonFiniteError, naming the events, before a loss
    or gradient that is not finite reaches a parameter.
    """
    with ranks(recipe.train.device, recipe.train.batches.size, to_dict(recipe)) as group:
        data, say = dataset or recipe.data.open(), show(name, progress and group.first)
        try:
            with held(Path(out)) if group.first else nullcontext(True) as alone:
                if not alone:
                    say.say(f"{out} is on a file system without locks: let no second process train in it")
                return _Loop(recipe, Path(out), group, data, name, command, say).run()
        finally:
            say.close()


class _Loop:
    def __init__(
        self, recipe: Recipe, out: Path, group: Ranks, dataset: Dataset, name: str, command: str, say: Show
    ) -> None:
        self.recipe, self.out, self.group, self.dataset, self.say = recipe, out, group, dataset, say
        self.log = Log(out / "log.jsonl")
        self.heard = self.stop = 0  # the signal this process was sent, and the one that all ranks agreed to stop for
        found, refused = newest(out)
        for fault in refused:
            say.say(f"passed over: {fault}")
        group.agree(found.step if found else -1, "the newest checkpoint at step")
        identity = Identity(recipe, out, dataset, name, command, begun=found is not None)
        self.model = recipe.build(dataset.schema)
        if found:
            load_weights(self.model, found.weights())  # buffers; parameters follow
        elif group.first:  # the other ranks get what this one carries and fits
            account = recipe.adapt.carry(self.model)
            identity.carried(account.source if account else None)
            self._fit()
        recipe.adapt.prepare(self.model)
        self.model.to(group.device)
        group.share(self.model)
        self.optimiser = recipe.optim.build(self.model, recipe.encoder.param, recipe.train.steps)
        self.step = found.step if found else 0
        if found:
            self._restore(found.resume(), found.state())
            self.say.say(f"resumed at step {self.step} from {found.path}")
        bystanders = {id(p) for module in self.model.objective.bystanders for p in module.parameters()}
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.clipped = [[p for p in trained if id(p) not in bystanders], [p for p in trained if id(p) in bystanders]]
        self.plan = Plan(dataset.lengths("train"), recipe.train.batches, recipe.seed)
        if group.first:
            identity.write()
        if not found and group.first:
            self._start(str(account) if account else "from scratch")

    def _fit(self) -> None:
        represent, spec = self.model.represent, self.recipe.represent
        if bool(represent.fitted):
            return
        lengths = self.dataset.lengths("train")[: spec.fit_events]
        parts = [np.arange(len(lengths))]
        if len(lengths) * int(lengths.max(initial=0)) > _POINTS_TO_FIT:  # one long event would pad all others
            parts = list(cut_parts(parts[0], lengths, Batches(points_at_once=_POINTS_TO_FIT)))
        samples = [self.dataset.read("train", part) for part in parts]
        try:
            represent.fit(*samples)
        except RecipeError as error:
            if lines := not_fit(self.dataset, "train", samples, spec):
                raise DataError(f"cannot standardise: {'; '.join(lines)}: correct or leave out such events") from error
            raise

    def _start(self, account: str) -> None:
        self.log.cut(0)
        counts, scans = self.model.counts(), isinstance(self.recipe.encoder.backbone, Mamba | Mamba2)
        self.log.write("start", {
            "parameters": counts, "adapt": account, "groups": self.optimiser.table(),
            "parametrisation": to_dict(self.recipe.encoder.param), "train_events": self.dataset.size("train"),
            "steps_per_epoch": self.plan.steps_per_epoch, "references": dict(self.model.objective.references),
            **({"scans": announced(self.group.device)} if scans else {}),
        })  # fmt: skip
        self.say.say(f"{account}; parameters: " + ", ".join(f"{k} {v:,}" for k, v in counts.items() if v))

    def run(self) -> Finished:
        """Go on until the last step, a signal, or an error."""
        settings, handlers = self.recipe.train, self._listen()
        try:
            work = self.plan.work(self.step, settings.steps, self.group.rank, self.group.count)
            batches = load(self.dataset, "train", work, settings.workers, self.group.device.type == "cuda")
            begun = mark = time.monotonic()
            waited, events = 0.0, 0
            while self.step < settings.steps and not self.stop:
                asked = time.monotonic()
                todo, clouds = next(batches)
                waited += time.monotonic() - asked
                fields = self._update(todo, clouds)
                self.step, events = self.step + 1, events + todo.events
                if self.step % settings.log_every == 0 or self.step == settings.steps:
                    span = time.monotonic() - mark
                    rate, share = events / span, waited / span
                    self._write("train", {"step": self.step, "epoch": todo.epoch, **fields},
                                {"seconds": span, "events_per_second": rate, "data_wait_share": share})  # fmt: skip
                    self.say.update(self.step, settings.steps, f"{_text(fields['losses'])} {rate:,.0f} events/s, "
                                                               f"{share:.1%} waiting for data")  # fmt: skip
                    mark, waited, events = time.monotonic(), 0.0, 0
                if self.step % settings.validate_every == 0 or self.step == settings.steps:
                    self._validate()
                    mark = time.monotonic()
                if self.step % settings.save_every == 0 or self.step == settings.steps or self.stop:
                    self._save()
            stopped = signal.Signals(self.stop).name if self.stop and self.step < settings.steps else None
            if stopped:
                self.say.say(f"{stopped}: saved at step {self.step}; the same command goes on from here")
            elif self.group.first and not self._over():
                self._write("end", {"step": self.step}, {"seconds": time.monotonic() - begun})
            return Finished(self.out, self.step, stopped)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _update(self, work: Work, clouds: Sequence[Cloud]) -> dict[str, Any]:
        """Forward, backward and one step of the optimiser for one global batch."""
        draws = Draws(self.recipe.seed, work.step)
        parts = [self.model.tokens(cloud.to(self.group.device), draws) for cloud in clouds]
        weights = [self.model.objective.weights(tokens, draws) for tokens in parts]
        totals, points = self._totals(parts, weights)
        self.optimiser.zero_grad()
        shares = []
        for tokens, weight in zip(parts, weights, strict=True):
            with self.group.precision(self.recipe.train.bf16):
                values = self.model(tokens, draws)
            share = {name: value * weight[name] / totals[name] for name, value in values.items()}
            torch.stack([value.sum() for value in share.values()]).sum().backward()
            shares.append({name: value.detach() for name, value in share.items()})
        self.group.sum_gradients([p for tensors in self.clipped for p in tensors])
        limit = self.recipe.train.clip or float("inf")
        norms = [nn.utils.clip_grad_norm_(tensors, limit) for tensors in self.clipped if tensors]
        finite = torch.stack([norm.isfinite() for norm in norms]).all()
        if not bool(finite):
            raise NonFiniteError(
                f"step {work.step}: stopped before the update, a loss or gradient is not finite: "
                + blame(self.dataset, work, clouds, self.recipe.represent, weights, shares)
            )
        self.optimiser.step(work.step)
        losses = {name: torch.stack([part[name].sum() for part in shares]).sum() for name in shares[0]}
        if (work.step + 1) % self.recipe.train.log_every and work.step + 1 != self.recipe.train.steps:
            return {}  # nothing is read back from the device in steps that are not logged
        summed = self.group.sum(torch.stack(list(losses.values())))
        return {
            "losses": dict(zip(losses, summed.tolist(), strict=True)),
            "lr": self.optimiser.rates(),
            "gradient_norm": float(norms[0]),
            "events": work.events,
            "points": int(points),
        }

    def _totals(self, parts: list[Tokens], weights: list[dict[str, Tensor]]) -> tuple[dict[str, Tensor], Tensor]:
        """The denominator of every loss over the whole global batch, its points, and whether to stop: one reduction."""
        names = list(weights[0])
        sums = [torch.stack([w[name].sum() for w in weights]).sum() for name in names]
        points = torch.stack([tokens.mask.sum() for tokens in parts]).sum().float()
        stop = torch.full((), float(self.heard), device=self.group.device)
        *sums, points, stop = self.group.sum(torch.stack([*sums, points, stop])).unbind()
        if self.heard if self.group.count == 1 else float(stop):
            self.stop = self.heard or int(signal.SIGTERM)  # one rank was told: all stop after this step
        return {name: total.clamp(min=1e-12) for name, total in zip(names, sums, strict=True)}, points

    def _validate(self) -> None:
        if not min(self.recipe.train.validation_events, self.dataset.size("validation")):
            return
        with self.optimiser.averaged():
            try:
                losses = validate(self.model, self.dataset, self.recipe.train, self.group)
            except NonFiniteError as error:
                raise NonFiniteError(f"validation at step {self.step}: {error}") from error
        references = dict(self.model.objective.references)
        self._write("validation", {"step": self.step, "losses": losses, "references": references})
        self.say.say(f"validation at step {self.step}: {_text(losses)}")

    def _save(self) -> None:
        if bad := [name for name, tensor in self.model.named_parameters() if not bool(tensor.isfinite().all())]:
            raise NonFiniteError(f"step {self.step}: an update made {', '.join(bad[:5])} overflow: lower optim.rate")
        if self.group.first:
            flush(self.log.path)  # the checkpoint counts on it
            parameters = {f"parameter|{name}": tensor for name, tensor in self.model.named_parameters()}
            held = {**parameters, **self.optimiser.tensors()}
            resume = {name: tensor.detach().clone() for name, tensor in held.items()}
            state = {"step": self.step, "log_bytes": self.log.size(), "optimiser": self.optimiser.numbers()}
            with self.optimiser.averaged():
                weights = self.model.state_dict()
                write_checkpoint(self.out, self.step, weights, resume, state, self.recipe.train.keep)
            self._settle(resume)
        self.group.barrier()

    def _settle(self, resume: dict[str, Tensor]) -> None:
        """Put the parameters back exactly: going to the averaged weights and back rounds the last bit."""
        with torch.no_grad():
            for name, tensor in self.model.named_parameters():
                tensor.copy_(resume[f"parameter|{name}"])

    def _restore(self, resume: dict[str, Tensor], state: dict[str, Any]) -> None:
        self._settle({name: tensor for name, tensor in resume.items() if name.startswith("parameter|")})
        rest = {name: tensor for name, tensor in resume.items() if not name.startswith("parameter|")}
        self.optimiser.restore(rest, state["optimiser"])
        if self.group.first and not self._over():
            self.log.cut(state["log_bytes"])

    def _over(self) -> bool:
        """Whether the run was finished and its log closed: then nothing in its folder is touched."""
        return self.step >= self.recipe.train.steps and self.log.last() == "end"

    def _write(self, kind: str, fields: dict[str, Any], seconds: dict[str, float] | None = None) -> None:
        if self.group.first:
            self.log.write(kind, fields, seconds)

    def _listen(self) -> dict[int, Any]:
        """Let SIGTERM and SIGUSR1 ask for a save and an end after the current step."""

        def heard(number: int, frame: FrameType | None) -> None:
            self.heard = number

        try:
            return {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGUSR1)}
        except ValueError:  # not the main thread: signals go elsewhere
            return {}


def _text(losses: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
