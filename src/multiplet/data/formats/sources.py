"""Sources: what readers share around the libraries they use: one kind of error, and few events at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multiplet.errors import DataError, MissingExtraError, MultipletError

STEP = 10_000  # events in memory at a time


@contextmanager
def reading(source: Path, what: str) -> Iterator[None]:
    """Turns whatever a library raises about the bytes of a file into one DataError that names the file.

    On damaged files the libraries raise dozens of types, so none is left out; wrap nothing but their calls in it.
    """
    try:
        yield
    except MultipletError:
        raise
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(
            f"{source}: {what} cannot be read ({why}): the file is truncated, damaged or of another layout; "
            "compare its checksum with the publisher's, or download it again"
        ) from error


def present(source: Path) -> Path:
    """The same path; DataError where it is no file."""
    if not source.is_file():
        raise DataError(f"{source} is not a file: correct the path")
    return source


def missing(library: str, extra: str, error: ImportError) -> MissingExtraError:
    """The error to raise for a library that is not installed."""
    return MissingExtraError(f'these files need {library} ({error}): pip install "multiplet[{extra}]"')


def spans(events: int, step: int) -> Iterator[tuple[int, int]]:
    """First and one past the last event of each chunk; one empty chunk where there are no events."""
    for start in range(0, max(events, 1), step):
        yield start, min(start + step, events)
