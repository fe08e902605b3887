"""How a long job is shown: a live line in a terminal, one plain line an interval elsewhere; and the log of a run."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from multiplet.errors import printable
from multiplet.files import no_link, writing


@runtime_checkable
class Show(Protocol):
    """What a long job tells."""

    def update(self, done: int, total: int, text: str) -> None:
        """How far it is, and a short text beside."""
        ...

    def say(self, text: str) -> None:
        """One line that stays."""
        ...

    def close(self) -> None:
        """The job is over."""
        ...


class Silent:
    """Tells nothing."""

    def update(self, done: int, total: int, text: str) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Live:
    """A bar in a terminal, from the first update on."""

    def __init__(self, title: str, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
        )
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task(title, text="", total=None)

    def update(self, done: int, total: int, text: str) -> None:
        """Move the bar."""
        self._progress.start()
        self._progress.update(self._task, completed=done, total=total, text=text)

    def say(self, text: str) -> None:
        """Print above the bar."""
        self._progress.console.print(printable(text), highlight=False, markup=False)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()


class Lines:
    """One plain line at most every `interval` seconds, for logs and batch systems."""

    def __init__(self, title: str, console: Console, interval: float = 10.0) -> None:
        self._title, self._console, self._interval = title, console, interval
        self._begun = self._shown = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the first update came, and how much was done by then

    def update(self, done: int, total: int, text: str) -> None:
        """A line with the time gone and to come, if the interval is over or the job is.

        The time to come follows from what was done since the first update: a job that is taken up again starts high.
        """
        now = time.monotonic()
        since, start = self._first = self._first or (now, done)
        if now - self._shown < self._interval and done < total:
            return
        self._shown = now
        known = done > start or done >= total
        left = _clock((now - since) / max(done - start, 1) * (total - done)) if known else "?"
        self.say(f"{self._title} {done}/{total} {_clock(now - self._begun)} gone, {left} left {text}".rstrip())

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing."""


def show(title: str, wanted: bool = True) -> Show:
    """The way that fits where standard error goes."""
    if not wanted:
        return Silent()
    console = Console(file=sys.stderr)
    return Live(title, console) if console.is_terminal else Lines(title, console)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Log:
    """log.jsonl: one JSON object a line. All but the field "time" is the same whenever the run is the same."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, kind: str, fields: Mapping[str, Any], seconds: Mapping[str, float] | None = None) -> None:
        """Append one line; `seconds` are timings. What is not finite becomes null, since JSON knows no NaN.

        RunError where it cannot be written, as on a full disk.
        """
        line = {"kind": kind, **fields, **({"time": dict(seconds)} if seconds else {})}
        text = json.dumps(_finite(line), ensure_ascii=False, allow_nan=False) + "\n"
        with writing(self.path), open(self.path, "a", encoding="utf-8", opener=no_link) as file:
            file.write(text)

    def last(self) -> str:
        """The kind of the last line; empty where there is none."""
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        try:
            return str(json.loads(lines[-1])["kind"]) if lines else ""
        except (ValueError, KeyError, TypeError):
            return ""  # the last line was being written

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Forget what came after the first `size` bytes; a shorter log stays as it is."""
        with writing(self.path), open(self.path, "ab", opener=no_link) as file:
            file.truncate(min(size, self.size()))
