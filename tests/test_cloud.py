"""Cloud: a padded batch is cut, mapped and moved as one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from multiplet.cloud import Cloud
from multiplet.errors import DataError

COUNTS = (3, 0, 5, 1)


def cloud() -> Cloud:
    """Four events of 3, 0, 5 and 1 points; padded slots hold NaN."""
    mask = torch.arange(5)[None] < torch.tensor(COUNTS)[:, None]
    values = torch.arange(20.0).reshape(4, 5).where(mask, torch.tensor(torch.nan))
    truth = {"label": torch.arange(4), "vertex": torch.arange(20).reshape(4, 5)}
    return Cloud({"pt": values, "phi": -values}, {"met": torch.arange(4.0) + 0.5}, truth, mask, torch.arange(4) + 100)


def parts(cloud: Cloud) -> list[Tensor]:
    return [*cloud.points.values(), *cloud.event.values(), *cloud.truth.values(), cloud.mask, cloud.index]


@pytest.mark.parametrize(
    "rows",
    [
        slice(0, 2),
        slice(1, 2),
        slice(0, 0),
        slice(None, None, 2),
        torch.tensor([3, 0, 3]),
        torch.tensor([True, False, False, True]),
        torch.tensor([], dtype=torch.long),
    ],
)
def test_some_events_are_cut_to_the_longest_of_them(rows: slice | Tensor) -> None:
    whole = cloud()
    places = torch.arange(4)[rows].tolist()
    part = whole.events(rows)
    width = max([COUNTS[place] for place in places], default=0)
    assert len(part) == len(places)
    assert part.mask.shape == (len(places), width)
    assert part.index.tolist() == [100 + place for place in places]
    assert part.truth["label"].tolist() == places
    for row, place in enumerate(places):
        n = COUNTS[place]
        assert int(part.mask[row].sum()) == n
        for kind in ("points", "truth"):
            for name, values in getattr(whole, kind).items():
                if values.dim() == 2:
                    cut = getattr(part, kind)[name]
                    assert cut.shape == part.mask.shape
                    assert torch.equal(cut[row, :n], values[place, :n])


def test_a_map_reaches_every_tensor_and_keeps_the_names() -> None:
    whole = cloud()
    seen: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        seen.append(tensor)
        return tensor[:1]

    first = whole.map(note)
    assert [id(tensor) for tensor in seen] == [id(tensor) for tensor in parts(whole)]
    assert all(len(tensor) == 1 for tensor in parts(first))
    assert (list(first.points), list(first.event), list(first.truth)) == (["pt", "phi"], ["met"], ["label", "vertex"])


def test_a_missing_point_column_is_named_beside_those_there_are() -> None:
    assert cloud().point("pt") is not None
    with pytest.raises(DataError, match=r"no point column 'met'; they have \['phi', 'pt'\]"):
        cloud().point("met")


def test_copies_to_another_device_overlap_but_those_to_the_cpu_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def to(tensor: Tensor, device: Any, non_blocking: bool) -> Tensor:
        asked.append((str(device), non_blocking))
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", to)
    cloud().to("cuda:1")
    cloud().to(torch.device("cpu"))
    count = len(parts(cloud()))
    assert asked == [("cuda:1", True)] * count + [("cpu", False)] * count


def test_clouds_are_told_apart_by_identity() -> None:
    one, other = cloud(), cloud()
    assert one != other
    assert len({one, other, one}) == 2
