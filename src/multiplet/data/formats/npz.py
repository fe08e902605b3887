"""npz files: arrays of an archive, read from the front a few rows at a time, without ever unpickling anything."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from multiplet.data.formats.sources import present, reading
from multiplet.errors import DataError

_HEAD = 1 << 16  # of an array's bytes, which its header must not exceed
_ROW_BYTES = 16 << 20
_WHOLE_BYTES = 2 << 30  # an array stored column by column is read as a whole
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes; others may unpack without bound
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@contextmanager
def open_npz(source: Path) -> Iterator[Npz]:
    """The arrays of a file, open while it is; DataError where the file is missing or no archive."""
    with ExitStack() as stack:
        with reading(present(source), "the npz file"):
            archive = stack.enter_context(zipfile.ZipFile(source))
        yield Npz(source, archive, stack)


@dataclass(frozen=True)
class Npz:
    """An open npz file."""

    source: Path
    archive: zipfile.ZipFile
    stack: ExitStack

    @property
    def names(self) -> list[str]:
        """What the archive holds, arrays by their names."""
        return list(dict.fromkeys(name.removesuffix(".npy") for name in self.archive.namelist()))

    def look(self, name: str) -> NpzArray | str:
        """One array, to be read from its front, or why it cannot be read; DataError where its header is damaged."""
        if f"{name}.npy" not in self.archive.namelist():
            return "no array"
        info = self.archive.getinfo(f"{name}.npy")
        if info.compress_type not in _READABLE:
            return "packed in a way that NumPy does not use: save it again"
        with reading(self.source, f"array {name}"):
            with self.archive.open(info) as file:
                head = BytesIO(file.read(_HEAD))
            version = npy.read_magic(head)
            if version not in _HEADERS:
                return f"of version {version} of the npy format"
            shape, by_column, dtype = _HEADERS[version](head)
        declared, stored = prod(shape) * dtype.itemsize, info.file_size - head.tell()
        by_column = by_column and len(shape) > 1
        if dtype.hasobject:
            return "objects, which only a pickle could hold, and those are never unpickled"
        if not shape:
            return "a single value"
        if declared != stored or min(shape) < 0:
            return f"declared with shape {shape}, which its {stored} bytes do not hold"
        if (declared if by_column else prod(shape[1:]) * dtype.itemsize) > (_WHOLE_BYTES if by_column else _ROW_BYTES):
            return f"of shape {shape}, too much for one read"
        return NpzArray(self, info, head.tell(), shape, dtype, by_column)

    def array(self, name: str) -> NpzArray:
        """One array, to be read from its front; DataError where there is none that can be read."""
        found = self.look(name)
        if isinstance(found, str):
            held = f"; it holds {', '.join(self.names[:20]) or 'nothing'}" if name not in self.names else ""
            raise DataError(f"{self.source}: {name} is {found}{held}")
        return found


class NpzArray:
    """One array of an npz file, compressed or not, read in order; memory follows what is asked for, but for an array
    stored column by column, which is read as a whole."""

    def __init__(
        self, npz: Npz, info: zipfile.ZipInfo, begin: int, shape: tuple[int, ...], dtype: np.dtype, by_column: bool
    ) -> None:
        self.source, self.name, self.shape, self.dtype = npz.source, info.filename.removesuffix(".npy"), shape, dtype
        self.left = shape[0]  # rows not yet taken
        self._npz, self._info, self._begin, self._by_column = npz, info, begin, by_column
        self._file: IO[bytes] | None = None
        self._whole: np.ndarray | None = None

    def take(self, rows: int) -> np.ndarray:
        """The next rows, (rows, ...), in the machine's byte order; DataError where bytes are not what was written.

        With the last of them the checksum is compared.
        """
        first, self.left = self.shape[0] - self.left, self.left - rows
        if not self._by_column:
            return self._read((rows, *self.shape[1:]), last=self.left == 0)
        if self._whole is None:
            self._whole = self._read(self.shape[::-1], last=True).T
        return np.ascontiguousarray(self._whole[first : first + rows])

    def _read(self, shape: tuple[int, ...], last: bool) -> np.ndarray:
        size = prod(shape) * self.dtype.itemsize
        with reading(self.source, f"array {self.name}"):
            if self._file is None:
                self._file = self._npz.stack.enter_context(self._npz.archive.open(self._info))
                self._file.read(self._begin)
            data = self._file.read(size)
            if len(data) != size or (last and self._file.read(1)):  # past the end the checksum is compared
                raise ValueError("it is not as long as its header says")
            values = np.frombuffer(data, self.dtype).reshape(shape)
        return values.astype(self.dtype.newbyteorder("="), copy=False)
