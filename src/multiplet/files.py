"""Writing files so that a kill at any instant leaves the old file or the new one; one process at a time in a folder."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from multiplet.errors import CorruptError, MultipletError, RunError

_LARGEST = 1 << 28  # bytes of a JSON document


def write_atomically(path: Path, write: bytes | Callable[[Path], None]) -> None:
    """Write beside `path`, flush to disk, then rename over it; `write` is the bytes or fills the path it is given.

    An OSError names `path`, or another file where that is at fault.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if callable(write):
            write(aside)
        else:
            aside.write_bytes(write)
        flush(aside)
        os.replace(aside, path)
    except OSError as error:  # libraries do not always say which file it was, and nobody knows the one aside
        if error.filename not in (None, str(aside), aside):
            raise
        raise OSError(error.errno, os.strerror(error.errno) if error.errno else str(error), str(path)) from error
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


@contextmanager
def writing(
    path: Path, then: str = "; it goes on from the newest checkpoint", kind: type[MultipletError] = RunError
) -> Iterator[None]:
    """Turns an error of the disk into one that says what to do, and what happens `then`; wrap only what writes."""
    try:
        yield
    except OSError as error:
        raise kind(
            f"{path} could not be written ({error}): free space, or make its folder writable, and give the same "
            f"command again{then}"
        ) from error


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Keep other processes from writing in a folder, which is made; False where its file system knows no locks.

    The lock ends with the process, however that ends: no lock is ever stale. RunError where another process holds it,
    naming that one, or where the folder cannot be written in.
    """
    try:
        import fcntl
    except ImportError:  # as on Windows
        folder.mkdir(parents=True, exist_ok=True)
        yield False
        return
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(no_link(str(path), os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+", encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write in {folder} ({error}): make it writable, or choose another folder") from error
    with file:
        locked = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        except BlockingIOError as error:
            file.seek(0)
            raise RunError(
                f"{folder} is in use by {file.read() or 'another process'}: wait until it ends, stop it there, or "
                "choose another folder"
            ) from error
        except OSError:
            locked = False
        try:
            yield locked
        finally:
            if locked:
                file.truncate(0)


def no_link(path: str, flags: int) -> int:
    """An opener for files that are written to where they lie: a link, as in a stranger's folder, leads to others."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document atomically; keys keep their order, NaN is refused."""
    write_atomically(path, (json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON document in a file; CorruptError where it does not parse, is huge, holds NaN or a key twice."""
    try:
        if (size := path.stat().st_size) > _LARGEST:
            raise ValueError(f"{size} bytes, and {_LARGEST} are allowed")
        return json.loads(path.read_bytes(), object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path} is not a JSON document ({error}): it was damaged or written by hand") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


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
