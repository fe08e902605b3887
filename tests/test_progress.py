"""What a long job shows and what its log keeps."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from multiplet import progress
from multiplet.progress import Lines, Live, Log, Silent, show


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=clock))
    return clock


def lines(interval: float = 10.0, title: str = "job") -> tuple[Lines, io.StringIO]:
    file = io.StringIO()
    return Lines(title, Console(file=file, width=40), interval), file


# --- plain lines ------------------------------------------------------------------------------------------------------


def test_at_most_one_line_an_interval_and_one_at_the_end(clock: Clock) -> None:
    shown, file = lines(interval=10)
    stamps = []
    for done in range(1, 841):
        clock.now += 0.125
        before = file.tell()
        shown.update(done, 840, "")
        if file.tell() > before:
            stamps.append(clock.now - 1000)
    assert stamps == [*range(10, 101, 10), 105]
    assert file.getvalue().splitlines()[-1] == "job 840/840 1:45 gone, 0:00 left"


def test_a_line_says_what_is_left_at_the_present_pace(clock: Clock) -> None:
    shown, file = lines()
    shown.update(0, 100, "")
    clock.now += 60
    shown.update(25, 100, "loss 0.5")
    clock.now += 2 * 3600
    shown.update(50, 100, "")
    assert file.getvalue().splitlines() == [
        "job 25/100 1:00 gone, 3:00 left loss 0.5",
        "job 50/100 2:01:00 gone, 2:01:00 left",
    ]


def test_a_job_taken_up_again_does_not_count_what_was_done_before_as_its_own(clock: Clock) -> None:
    shown, file = lines()
    clock.now += 10
    shown.update(5010, 10_000, "")
    clock.now += 10
    shown.update(5020, 10_000, "")
    assert file.getvalue().splitlines() == [
        "job 5010/10000 0:10 gone, ? left",
        "job 5020/10000 0:20 gone, 1:23:00 left",
    ]


def test_a_job_done_at_once_has_nothing_left(clock: Clock) -> None:
    shown, file = lines()
    shown.update(5, 5, "")
    shown.close()
    assert file.getvalue() == "job 5/5 0:00 gone, 0:00 left\n"


def test_long_lines_are_not_broken_and_brackets_are_text() -> None:
    shown, file = lines(interval=0, title="[red]run[/x]")
    shown.update(1, 2, "[bold]" + "long " * 20)
    shown.say("[/y] " + "word " * 20 + "end")
    one, two = file.getvalue().splitlines()
    assert one.startswith("[red]run[/x] 1/2 ")
    assert "[bold]long" in one
    assert two.endswith("end")


# --- a bar in a terminal ----------------------------------------------------------------------------------------------


def live(title: str = "job") -> tuple[Live, io.StringIO]:
    file = io.StringIO()
    return Live(title, Console(file=file, width=120, force_terminal=True, color_system=None)), file


def test_a_bar_shows_title_count_and_text_as_they_are() -> None:
    bar, file = live("[red]runs/[/x]")
    bar.update(3, 7, "[/y] loss 0.5")
    bar.say("[bold] stays")
    bar.close()
    shown = file.getvalue()
    assert re.search(r"\[red\]runs/\[/x\] .* 3/7 .*\[/y\] loss 0\.5", shown)
    assert "[bold] stays\n" in shown


def test_a_bar_hides_the_cursor_only_from_its_first_update_to_its_end() -> None:
    hide, back = "\x1b[?25l", "\x1b[?25h"
    bar, file = live()
    bar.say("before")
    assert file.getvalue() == "before\n"
    bar.update(0, 2, "")
    bar.update(1, 2, "")
    assert file.getvalue().count(hide) == 1
    bar.close()
    bar.close()
    assert file.getvalue().rindex(back) > file.getvalue().rindex(hide)


def test_a_bar_that_never_moved_leaves_nothing_behind() -> None:
    bar, file = live()
    bar.close()
    assert "job" not in file.getvalue()
    assert "\x1b[?25l" not in file.getvalue()


# --- which of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("terminal", "kind"), [(True, Live), (False, Lines)])
def test_what_is_shown_fits_where_standard_error_goes(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type
) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TERM"):
        monkeypatch.delenv(name, raising=False)
    file = io.StringIO()
    monkeypatch.setattr(file, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", file)
    assert type(show("job")) is kind
    assert type(show("job", wanted=False)) is Silent


def test_silence_tells_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    silent = show("job", wanted=False)
    silent.update(1, 2, "text")
    silent.say("text")
    silent.close()
    assert capfd.readouterr() == ("", "")


# --- the log ----------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_line_of_the_log_is_json_and_timings_are_apart(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    assert log.size() == 0
    log.write("train", {"step": 1, "losses": {"µ": 0.1}}, {"seconds": 2.0})
    log.write("end", {"text": "two\nlines"})
    assert read(log.path) == [
        {"kind": "train", "step": 1, "losses": {"µ": 0.1}, "time": {"seconds": 2.0}},
        {"kind": "end", "text": "two\nlines"},
    ]
    assert log.size() == log.path.stat().st_size


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=6), place=st.integers(0, 6))
def test_a_cut_forgets_what_came_after_it(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], place: int
) -> None:
    log = Log(tmp_path_factory.getbasetemp() / "cut.jsonl")
    log.cut(0)
    sizes = [0]
    for text in texts:
        log.write("text", {"text": text})
        sizes.append(log.size())
    kept = min(place, len(texts))
    log.cut(sizes[kept])
    log.write("after", {})
    kinds = [line.get("text", line["kind"]) for line in map(json.loads, log.path.read_bytes().splitlines())]
    assert kinds == [*texts[:kept], "after"]


def test_a_cut_makes_a_log_and_never_lengthens_one(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.cut(0)
    assert log.path.read_bytes() == b""
    log.write("a", {})
    log.cut(10_000)  # of a log that a crash of the machine shortened
    assert read(log.path) == [{"kind": "a"}]
