"""Formats: one file a published format. A format yields chunks of events; converting does the rest.

The next format is a module here and a line in FORMATS.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

from multiplet.data.formats.events import EventFormat
from multiplet.data.formats.jetclass import JetClass
from multiplet.data.formats.jetclass2 import JetClass2
from multiplet.data.formats.jetnet import JetNet
from multiplet.data.formats.kaggle_icecube import KaggleIceCube
from multiplet.data.formats.omnilearned import OmniLearned
from multiplet.data.formats.prometheus import Prometheus
from multiplet.data.formats.quark_gluon import QuarkGluon
from multiplet.data.formats.sources import Chunk
from multiplet.data.formats.top import Top
from multiplet.data.formats.tpcpp import TPCpp
from multiplet.errors import DataError
from multiplet.spec import did_you_mean


@runtime_checkable
class Format(Protocol):
    """Reads files of one kind, a bounded number of events at a time."""

    def chunks(self, source: Path) -> Iterator[Chunk]:
        """All events of one file in order, every one kept or counted as cut; all chunks have the same schema."""
        ...

    def provenance(self) -> dict[str, str]:
        """What decides the events beside the files themselves: settings and format; no time, host or path."""
        ...


MAPPED = "table"  # the format of all other files, which `table` in table.py makes of a mapping
FORMATS: dict[str, Format] = {
    "events": EventFormat(),
    "jetclass": JetClass(),
    "jetclass2": JetClass2(),
    "jetnet": JetNet(),
    "kaggle_icecube": KaggleIceCube(),
    "omnilearned": OmniLearned(),
    "prometheus": Prometheus(),
    "quark_gluon": QuarkGluon(),
    "top": Top(),
    "tpcpp": TPCpp(),
}
_UNLABELLED: dict[str, Format] = {  # the same for files that may lack the truth, where that is otherwise needed
    "jetclass": JetClass(labelled=False),
    "jetclass2": JetClass2(labelled=False),
    "jetnet": JetNet(labelled=False),
    "omnilearned": OmniLearned(labelled=False),
    "quark_gluon": QuarkGluon(labelled=False),
    "top": Top(labelled=False),
}


def find(name: str, labelled: bool = True) -> Format:
    """The format called so; not `labelled`, truth that files lack is left out. DataError that says which there are."""
    if name == MAPPED:
        raise DataError(f"{MAPPED} stands for files that a mapping describes: give the mapping too")
    if name not in FORMATS:
        raise DataError(
            f"there is no format {name!r}: {did_you_mean(name, [*FORMATS, MAPPED])}; other files need a mapping, which "
            "`multiplet inspect FILE --draft mapping.yaml` begins"
        )
    return FORMATS[name] if labelled else _UNLABELLED.get(name, FORMATS[name])
