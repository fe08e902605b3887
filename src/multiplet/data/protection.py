"""Protection: whether the way a file is stored lets its reader notice that bytes have changed.

What is said here of each codec was seen by flipping single bits in small files: `tests/test_inspection.py` does it.
One exception is known: a bit at the end of a gzip chunk of HDF5, whose library may then never come to the checksum.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq

from multiplet.data.arrow import EventFile
from multiplet.data.formats.hdf5 import names, open_hdf5
from multiplet.data.formats.root import open_root
from multiplet.data.formats.sources import reading
from multiplet.data.formats.tables import kind_of

_MOST = 3000  # places looked at in one file
_ZSTD, _XZ = b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00"
_FLETCHER, _DEFLATE = 3, 1  # numbers of HDF5's filters
_HDF5_FILTERS = {
    2: "shuffle",
    4: "szip",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32015: "zstd",
}


@dataclass(frozen=True, order=True)
class Storage:
    """How some of a file's bytes are stored, and whether the library that reads them notices a changed one."""

    how: str
    notices: bool


@dataclass(frozen=True)
class Protection:
    """The storage of a file's values, by bytes (of at most 3,000 places in it).

    Pages of an RNTuple carry a checksum which uproot does not compare; here it was, for `compared` pages.
    """

    stored: dict[Storage, int]
    compared: int = 0
    faults: tuple[str, ...] = ()

    @property
    def noticed(self) -> float:
        """The share of the values' bytes in which a change is noticed; NaN where there are none."""
        total = sum(self.stored.values())
        return sum(size for storage, size in self.stored.items() if storage.notices) / total if total else float("nan")


def protection(source: Path) -> Protection:
    """How the values of a file are stored; the checksums of event files and of RNTuples' pages are compared.

    Raises DataError where the file cannot be read, CorruptError where an event file is damaged.
    """
    kind = kind_of(source)
    stored: Counter[Storage] = Counter()
    compared, faults = 0, []
    with reading(source, "how it is stored"):
        for how, size, fault in _KINDS[kind](source):
            stored[how] += size
            compared += fault is not None
            faults += [fault] if fault else []
    return Protection(dict(stored.most_common()), compared, tuple(faults))


_Seen = tuple[Storage, int, str | None]  # storage, bytes; a fault, "" where a checksum agreed, None where none is


def _root(source: Path) -> Iterator[_Seen]:
    with open_root(source) as file, source.open("rb") as raw:
        for name, kind in file.classnames(recursive=True, cycle=False).items():
            if kind == "TTree":
                yield from _baskets(raw, file[name])
            elif kind.endswith("RNTuple"):
                yield from _pages(raw, file[name])


def _baskets(raw: BinaryIO, tree: Any) -> Iterator[_Seen]:
    places = [int(at) for branch in tree.itervalues(recursive=True) for at in branch.member("fBasketSeek") if at > 0]
    for at in places[:: len(places) // _MOST + 1]:
        raw.seek(at)
        key = raw.read(18)
        size, begin = int.from_bytes(key[:4], "big"), int.from_bytes(key[14:16], "big")
        raw.seek(at + begin)
        yield _block(raw.read(24)), size - begin, None


def _pages(raw: BinaryIO, ntuple: Any) -> Iterator[_Seen]:
    """The pages of an RNTuple. uproot does not compare the checksums behind them, so that is done here."""
    import xxhash  # which uproot needs

    pages = [
        page for cluster in range(len(ntuple.cluster_summaries)) for column in ntuple.page_link_list[cluster]
        for page in column.pages if page.locator.num_bytes
    ]  # fmt: skip
    for page in pages[:: len(pages) // _MOST + 1]:
        at, size, fault = int(page.locator.offset), int(page.locator.num_bytes), None
        raw.seek(at)
        held = raw.read(size + 8)
        if page.has_checksum:
            agrees = xxhash.xxh3_64_intdigest(held[:size]) == int.from_bytes(held[size:], "little")
            fault = "" if agrees else f"bytes {at} to {at + size} are not what was written: the checksum disagrees"
        yield _block(held[:24]), size, fault


def _block(start: bytes) -> Storage:
    """The storage of a basket or page, by its first bytes: ROOT's compression has a header of 9 of them."""
    match start[:2]:
        case b"ZL":
            return Storage("zlib", True)  # Adler-32
        case b"L4":
            return Storage("LZ4", True)  # xxHash of the block, which uproot compares
        case b"XZ" if start[9:15] == _XZ:
            return Storage("LZMA", True) if start[16] & 15 else Storage("LZMA without checksum", False)
        case b"ZS" if start[9:13] == _ZSTD:
            return Storage("zstd with checksum", True) if start[13] & 4 else Storage("zstd", False)
    return Storage("uncompressed", False)


def _parquet(source: Path) -> Iterator[_Seen]:
    with pq.ParquetFile(source) as file, source.open("rb") as raw:
        meta = file.metadata
        places = [(group, column) for group in range(meta.num_row_groups) for column in range(meta.num_columns)]
        for group, column in places[:: len(places) // _MOST + 1]:
            chunk = meta.row_group(group).column(column)
            raw.seek(min(at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at))
            codec, checked = chunk.compression.lower(), _has_crc(raw.read(24))
            how = f"{codec}, pages with CRC-32" if checked else codec
            yield Storage(how, checked or codec == "gzip"), chunk.total_compressed_size, None


def _has_crc(header: bytes) -> bool:
    """Whether the header of a Parquet page (Thrift's compact protocol) has a fourth field, the CRC of the page."""
    at = 0
    for _ in range(3):  # type and two sizes: a mark, then a number of as many bytes as have their highest bit set
        at += 1
        while header[at] & 0x80:
            at += 1
        at += 1
    return header[at] == 0x15


def _hdf5(source: Path) -> Iterator[_Seen]:
    with open_hdf5(source) as file:
        yield from _datasets(file, set())


def _datasets(group: Any, seen: set[int]) -> Iterator[_Seen]:
    import h5py

    for name in names(group):
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        node = group[name]
        address = h5py.h5o.get_info(node.id).addr
        if address in seen:  # hard links may lead in a circle, or to one group by many ways
            continue
        seen.add(address)
        if hasattr(node, "keys"):
            yield from _datasets(node, seen)
        elif hasattr(node, "shape"):
            plist = node.id.get_create_plist()
            codes = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
            words = {_FLETCHER: "Fletcher-32", _DEFLATE: "gzip", **_HDF5_FILTERS}
            how = ", ".join(words.get(code, f"filter {code}") for code in codes) or "uncompressed"
            yield Storage(how, _FLETCHER in codes or _DEFLATE in codes), int(node.id.get_storage_size()), None


def _npz(source: Path) -> Iterator[_Seen]:
    with zipfile.ZipFile(source) as file:
        for info in file.infolist():
            yield Storage("zip with CRC-32", True), info.compress_size, None


def _arrow(source: Path) -> Iterator[_Seen]:
    file = EventFile(source)
    for batch in range(file.batches):
        file.columns(batch)  # which compares its checksums
    yield Storage("CRC-32 of every byte", True), source.stat().st_size, None


_KINDS = {"ROOT": _root, "Parquet": _parquet, "HDF5": _hdf5, "npz": _npz, "Arrow": _arrow}
