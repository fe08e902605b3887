"""Files that are old or new and never half, JSON that says when it is damaged, and sums that sha256sum accepts."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiplet import files
from multiplet.errors import CorruptError
from multiplet.files import read_json, seal, sha256, write_atomically, write_json


class Killed(BaseException):
    """Stands for the end of the process."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(aside: Path) -> None:
    aside.write_bytes(b"new")


def fill_half(aside: Path) -> None:
    aside.write_bytes(b"ne")
    raise Killed


def test_bytes_and_what_a_function_fills_are_written_in_new_folders(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "x", b"new")
    write_atomically(tmp_path / "a" / "c" / "y", fill)
    assert [path.read_bytes() for path in sorted(tmp_path.rglob("[xy]"))] == [b"new", b"new"]


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("step", ["write", "flush", "replace"])
def test_a_death_while_writing_leaves_the_old_file_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None, step: str
) -> None:
    path = tmp_path / "x"
    if old is not None:
        path.write_bytes(old)

    def die(*_: object) -> None:
        raise Killed

    write: bytes | Callable[[Path], None] = b"new"
    if step == "write":
        write = fill_half
    elif step == "flush":
        monkeypatch.setattr(files, "flush", die)
    else:
        monkeypatch.setattr(os, "replace", die)
    with pytest.raises(Killed):
        write_atomically(path, write)
    monkeypatch.undo()
    assert names(tmp_path) == ([] if old is None else ["x"])
    assert old is None or path.read_bytes() == old
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_new_file_is_on_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool]] = []
    real = files.flush

    def watch(path: Path) -> None:
        seen.append((path.name, (tmp_path / "x").exists()))
        real(path)

    monkeypatch.setattr(files, "flush", watch)
    write_atomically(tmp_path / "x", b"new")
    assert seen == [(f".x.{os.getpid()}.tmp", False), (tmp_path.name, True)]


def test_a_written_file_follows_the_umask(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_json(tmp_path / "x", 1)
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "other").stat().st_mode


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(value=json_values)
def test_json_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


def test_json_keeps_the_order_of_keys_and_its_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "x", {"µ": [1], "a": 2})
    assert (tmp_path / "x").read_text(encoding="utf-8") == '{\n "µ": [\n  1\n ],\n "a": 2\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), {1, 2}, b"x"])
def test_what_is_no_json_is_refused_and_the_old_file_stays(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "x", "old")
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "x", [value])
    assert read_json(tmp_path / "x") == "old"


@pytest.mark.parametrize("damage", [b"", b"{", b'{"a": 1}}', b"\xff\xfe", b"[" * 100_000, b"9" * 5000])
def test_a_damaged_document_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "x.json").write_bytes(damage)
    with pytest.raises(CorruptError, match=r"x\.json is not a JSON document .* damaged or written by hand"):
        read_json(tmp_path / "x.json")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(content)
    assert sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()


# --- seals ------------------------------------------------------------------------------------------------------------


def check(folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sha256sum", "--strict", "--check", "SHA256SUMS"], cwd=folder, capture_output=True, check=False
    )


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_accepts_a_seal_and_sees_a_change(tmp_path: Path) -> None:
    odd = ["a.json", "sub/b.bin", "sub/SHA256SUMS", "with space", "µ.txt", "back\\slash", "new\nline", "-dash", "*star"]
    for number, name in enumerate(odd):
        write_atomically(tmp_path / name, bytes([number]) * 1000)
    seal(tmp_path)
    assert len((tmp_path / "SHA256SUMS").read_bytes().splitlines()) == len(odd)
    assert check(tmp_path).returncode == 0
    (tmp_path / "sub" / "b.bin").write_bytes(b"other")
    result = check(tmp_path)
    assert (result.returncode, b"sub/b.bin: FAILED" in result.stdout) == (1, True)


def test_a_seal_leaves_out_itself_and_hidden_files(tmp_path: Path) -> None:
    for name in ("x", ".x.1.tmp", "checkpoints/.step-00000001.tmp/state.json", "checkpoints/step-00000001/state.json"):
        write_atomically(tmp_path / name, b"1")
    seal(tmp_path)
    first = (tmp_path / "SHA256SUMS").read_text()
    assert [line.split("  ")[1] for line in first.splitlines()] == ["checkpoints/step-00000001/state.json", "x"]
    seal(tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == first
