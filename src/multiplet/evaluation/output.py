"""Output: rows of predictions appended to a Parquet file or a ROOT tree, few at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from multiplet.data.formats.root import tools
from multiplet.errors import DataError

Append = Callable[[dict[str, np.ndarray]], None]


def check_output(path: Path, overwrite: bool) -> None:
    """DataError where predictions cannot be written to a file of this name; before anything is computed."""
    if path.suffix not in (".parquet", ".root"):
        raise DataError(f"{path} is neither .parquet nor .root: predictions are written to one of these")
    if path.is_dir() or (path.exists() and not overwrite):
        raise DataError(f"{path} exists already: choose another name, or say to overwrite it (--overwrite)")
    if path.suffix == ".root":
        tools()


@contextmanager
def open_output(
    path: Path, kind: str, types: Mapping[str, np.dtype[Any]], files: Sequence[str], about: Mapping[str, Any]
) -> Iterator[Append]:
    """A new file of `kind` .parquet or .root, to append tables of these columns to, and what it says of itself.

    `about` is written as JSON when the file is complete: the key "multiplet" of a Parquet file's metadata, the object
    "multiplet" of a ROOT file beside the tree "predictions". The column `file` counts in `files`; in Parquet it shows
    their names. float16, which ROOT does not know, becomes float32 there.
    """
    with (_parquet if kind == ".parquet" else _root)(path, types, files, about) as append:
        yield append


@contextmanager
def _parquet(
    path: Path, types: Mapping[str, np.dtype[Any]], files: Sequence[str], about: Mapping[str, Any]
) -> Iterator[Append]:
    names = pa.array(files, pa.string())
    kinds = {name: pa.from_numpy_dtype(kind) for name, kind in types.items()}
    schema = pa.schema(kinds | {"file": pa.dictionary(pa.int32(), pa.string())})

    def append(table: dict[str, np.ndarray]) -> None:
        columns: dict[str, Any] = {**table, "file": pa.DictionaryArray.from_arrays(table["file"], names)}
        writer.write_table(pa.table(columns, schema))

    with pq.ParquetWriter(path, schema) as writer:
        yield append
        writer.add_key_value_metadata({"multiplet": json.dumps(about, ensure_ascii=False)})


@contextmanager
def _root(
    path: Path, types: Mapping[str, np.dtype[Any]], files: Sequence[str], about: Mapping[str, Any]
) -> Iterator[Append]:
    uproot, _ = tools()
    kinds = {name: np.dtype(np.float32) if kind == np.float16 else kind for name, kind in types.items()}
    with uproot.recreate(str(path), compression=uproot.LZ4(4)) as file:
        tree = file.mktree("predictions", kinds)
        yield lambda table: tree.extend({name: table[name].astype(kind) for name, kind in kinds.items()})
        file["multiplet"] = json.dumps({**about, "files": list(files)}, ensure_ascii=False)
