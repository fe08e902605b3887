"""npz files: arrays of an archive, read from the front a few rows at a time, without ever unpickling anything."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path

import numpy as np

from multiplet.data.formats.sources import present, reading
from multiplet.errors import DataError

_HEAD = 1 << 16  # of an array's bytes, which its header must not exceed
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes; others may unpack without bound


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

    def array(self, name: str) -> NpzArray:
        """One array, to be read from its front; DataError where there is none, or not of numbers."""
        if f"{name}.npy" not in self.archive.namelist():
            held = ", ".join(self.archive.namelist()[:20]) or "nothing"
            raise DataError(f"{self.source} has no array {name}: it holds {held}")
        info = self.archive.getinfo(f"{name}.npy")
        if info.compress_type not in _READABLE:
            raise DataError(f"{self.source}: array {name} is packed in a way that NumPy does not use: save it again")
        with reading(self.source, f"array {name}"):
            file = self.stack.enter_context(self.archive.open(info))
        assert isinstance(file, zipfile.ZipExtFile)  # as it is where a file is opened for reading
        return NpzArray(self.source, name, file, info.file_size)


class NpzArray:
    """One array of numbers in an npz file, compressed or not, read in order.

    Opening looks at the header alone; memory follows what is asked for, not what a header claims. Raises DataError
    where the array holds objects, or where its bytes are not what its header or its checksum say.
    """

    def __init__(self, source: Path, name: str, file: zipfile.ZipExtFile, size: int) -> None:
        self.source, self.name, self._file = source, name, file
        with reading(source, f"array {name}"):
            head = BytesIO(file.read(_HEAD))
            version = np.lib.format.read_magic(head)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            self.shape, fortran, self.dtype = read(head)
            file.seek(head.tell())
        if self.dtype.hasobject or self.dtype.kind not in "biuf":
            raise DataError(
                f"{source}: {name} holds {self.dtype} where numbers are needed: objects are never unpickled"
            )
        if fortran and len(self.shape) > 1:
            raise DataError(f"{source}: {name} is stored by columns: save it again with np.ascontiguousarray")
        if not self.shape or prod(self.shape) * self.dtype.itemsize != size - head.tell():
            raise DataError(f"{source}: {name} declares shape {self.shape}, which its {size} bytes do not hold")
        self.left = self.shape[0]  # rows not yet taken

    def take(self, rows: int) -> np.ndarray:
        """The next rows, (rows, ...) of the file's type and byte order; with the last the checksum is compared."""
        shape = (rows, *self.shape[1:])
        size = prod(shape) * self.dtype.itemsize
        with reading(self.source, f"array {self.name}"):
            data = self._file.read(size)
            self.left -= rows
            if len(data) != size or (self.left == 0 and self._file.read(1)):
                raise DataError(
                    f"{self.source}: array {self.name} is not as long as its header says: download it again"
                )
        return np.frombuffer(data, self.dtype).reshape(shape)
