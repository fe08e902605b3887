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
from multiplet.data.formats.omnilearned import OmniLearned
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


FORMATS: dict[str, Format] = {
    "events": EventFormat(),
    "jetclass": JetClass(),
    "jetclass2": JetClass2(),
    "jetnet": JetNet(),
    "omnilearned": OmniLearned(),
    "quark_gluon": QuarkGluon(),
    "top": Top(),
    "tpcpp": TPCpp(),
}


def find(name: str) -> Format:
    """The format called so; DataError naming those there are."""
    if name not in FORMATS:
        raise DataError(
            f"there is no format {name!r}: {did_you_mean(name, FORMATS)}; other files need a mapping, which "
            "`multiplet inspect FILE --draft mapping.yaml` begins"
        )
    return FORMATS[name]
