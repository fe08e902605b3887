"""Writing files so that a kill at any instant leaves the old file or the new one, never a part of one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from multiplet.errors import CorruptError


def write_atomically(path: Path, write: bytes | Callable[[Path], None]) -> None:
    """Write beside `path`, flush to disk, then rename over it; `write` is the bytes or fills the path it is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if callable(write):
            write(aside)
        else:
            aside.write_bytes(write)
        flush(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    flush(path.parent)


def flush(path: Path) -> None:
    """Force a file's bytes, or a folder's list of names, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document atomically; keys keep their order, NaN is refused."""
    write_atomically(path, (json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON document in a file; CorruptError where it does not parse."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path} is not a JSON document ({error}): it was damaged or written by hand") from error


def seal(folder: Path) -> None:
    """Write SHA256SUMS over the files of a folder but hidden ones, as `sha256sum -c SHA256SUMS` checks them."""
    sums = folder / "SHA256SUMS"
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path != sums)
    seen = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    write_atomically(sums, b"".join(_sums_line(sha256(folder / name), name) for name in seen))


def _sums_line(digest: str, name: Path) -> bytes:
    """One line as sha256sum writes it: it starts with a backslash where characters of the name are escaped."""
    text = name.as_posix()
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    mark = "" if text == escaped else "\\"
    return os.fsencode(f"{mark}{digest}  {escaped}\n")
