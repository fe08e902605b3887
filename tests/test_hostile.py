"""Files of a stranger: nothing in them is run, no link is followed, no size is believed, no text becomes markup.

More of the same kind: expressions in test_expressions.py, pandas' pickled names and links in the published HDF5 formats
in test_formats_jets.py, foreign files in a run folder in test_guarantees.py, a report in a browser in test_report.py.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import struct
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

import tiny
from multiplet.checkpoint import newest
from multiplet.data.arrow import EventFile, read_events, write_events
from multiplet.data.columns import Columns
from multiplet.data.events import EventFiles
from multiplet.data.formats.mapping import read_mapping
from multiplet.data.formats.tables import open_source, open_table
from multiplet.data.inspection import inspect
from multiplet.errors import CorruptError, DataError, MissingExtraError, MultipletError, RunError
from multiplet.evaluation.evaluate import evaluate
from multiplet.evaluation.report import write_report
from multiplet.files import read_json, sha256
from multiplet.recipe import open_run
from multiplet.training import train
from test_messages import call
from toys import toy_jets, write_toys

HUGE = 10**15


class Bomb:
    """Unpickled, it leaves a mark in the working folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("mark",)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each test works in a folder of its own, where nothing may have gone off at its end."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not Path("mark").exists()


@pytest.fixture(scope="module")
def trained(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    train(tiny.labels(str(toys), 2), run, progress=False)
    return run


@pytest.fixture
def run(trained: Path, here: Path) -> Path:
    return shutil.copytree(trained, here / "run")


def read_all(path: Path) -> None:
    """What inspect and convert do with a file: every column of every table of it."""
    with open_source(path) as opened:
        for held in opened.held:
            table = opened.open(held.name)
            for name in [*table.fields, *table.unreadable]:
                for _ in table.iterate([name], 100):
                    pass


# --- pickles ---------------------------------------------------------------------------------------------------------

STARTS = {
    ".arrow": b"ARROW1\0\0",
    ".root": b"root",
    ".parquet": b"PAR1",
    ".h5": b"\x89HDF\r\n\x1a\n",
    ".npz": b"PK\x03\x04",
}


@pytest.mark.parametrize("start", [False, True], ids=["bare", "with the right first bytes"])
@pytest.mark.parametrize("suffix", [*STARTS, ".npy", ".safetensors", ".json", ".pkl", ""])
def test_a_pickle_under_another_name_is_refused(suffix: str, start: bool) -> None:
    path = Path(f"file{suffix}")
    path.write_bytes(STARTS.get(suffix, b"") * start + pickle.dumps(Bomb()))
    with pytest.raises(MultipletError, match=r"^file"):
        inspect([path])
    code, _, err = call("inspect", str(path))
    assert (code, err.count("\n")) == (2, 1)


def test_objects_in_npz_files_are_named_and_never_unpickled() -> None:
    np.savez("file.npz", x=np.arange(3.0), y=np.array([Bomb(), 1, 2], object))
    assert "pickle" in inspect([Path("file.npz")]).files[0][0].table.unreadable["y"]
    with pytest.raises(DataError, match="'y' in x is objects, which only a pickle could hold"):
        read_all(Path("file.npz"))


@pytest.mark.parametrize("name", ["recipe.json", "metrics.json", "predictions.parquet", "weights.safetensors"])
def test_a_pickle_in_a_run_is_refused(run: Path, name: str) -> None:
    evaluate(run)
    path = run / name if name != "weights.safetensors" else run / "checkpoints" / "step-00000002" / name
    path.write_bytes(pickle.dumps(Bomb()))
    forge_manifest(run)
    with pytest.raises(CorruptError, match=re.escape(str(path))):
        read_run(run)


def read_run(run: Path) -> None:
    open_run(run).model()
    write_report([run])


def forge_manifest(run: Path, **changes: Any) -> None:
    """A manifest with the right hashes, as a stranger can write it."""
    folder = run / "checkpoints" / "step-00000002"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"] = {name: sha256(folder / name) for name in manifest["sha256"]}
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


# --- HDF5 that leads elsewhere ---------------------------------------------------------------------------------------


def external_link(file: Any) -> None:
    file["y"] = h5py.ExternalLink("other.h5", "/secret")


def soft_link(file: Any) -> None:
    file["y"] = h5py.SoftLink("/x")


def dangling_link(file: Any) -> None:
    file["y"] = h5py.SoftLink("/nothing")


def external_storage(file: Any) -> None:
    file.create_dataset("y", (3,), "f8", external=[("other.bin", 0, 24)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "secret", (3,))
    file.create_virtual_dataset("y", layout)


def object_reference(file: Any) -> None:
    file.create_dataset("y", data=np.array([file["x"].ref] * 3, h5py.ref_dtype), dtype=h5py.ref_dtype)


def region_reference(file: Any) -> None:
    references = np.array([file["x"].regionref[0:2]] * 3, h5py.regionref_dtype)
    file.create_dataset("y", data=references, dtype=h5py.regionref_dtype)


def own_filter(file: Any) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((3,))
    plist.set_filter(32_768 - 5, h5py.h5z.FLAG_OPTIONAL, (1,))
    h5py.h5d.create(file.id, b"y", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((3,)), plist)
    file["y"][:] = 1.0


def circle(file: Any) -> None:
    file["y/again"] = file.create_group("y")


ELSEWHERE = {
    external_link: "a link, and links are not followed",
    soft_link: "a link, and links are not followed",
    dangling_link: "a link, and links are not followed",
    external_storage: "keeps its values in other files, and those are not opened",
    virtual: "keeps its values in other files, and those are not opened",
    object_reference: "'y' in x is object",
    region_reference: "'y' in x is object",
    own_filter: "which h5py does not bring",
    circle: "no column 'y'",
}


@pytest.mark.parametrize("lead", ELSEWHERE, ids=lambda lead: lead.__name__)
def test_hdf5_that_leads_elsewhere(lead: Callable[[Any], None]) -> None:
    with h5py.File("other.h5", "w") as other:
        other["secret"] = np.full(3, 4242.0)
    Path("other.bin").write_bytes(np.full(3, 4242.0).tobytes())
    with h5py.File("file.h5", "w") as file:
        file["x"] = np.arange(3.0)
        lead(file)
    with (
        pytest.raises((DataError, MissingExtraError), match=ELSEWHERE[lead]),
        open_table(Path("file.h5"), "x") as table,
    ):
        list(table.iterate(["y"], 10))
    code, out, _ = call("inspect", "file.h5", "--all")
    assert code == 0
    assert "4242" not in out


# --- YAML ------------------------------------------------------------------------------------------------------------

MAPPINGS = {
    "object": "points: !!python/object/apply:os.mkdir [mark]",
    "name": "points: !!python/name:os.mkdir",
    "module": "points: !!python/module:antigravity",
    "new": "!!python/object/new:os.mkdir [mark]",
    "own tag": "points: !mine {x: 1}",
    "bomb": "a: &a [x, x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(24)),
    "merge": "points: &a {x: 1}\nevent: {<<: *a}",
    "twice": "points: {columns: {x: a}}\npoints: {columns: {x: b}}",
    "twice below": "points: {columns: {x: a, x: b}}",
    "deep": "points: " + "{a: " * 5000 + "}" * 5000,
    "numbers": "points: {columns: {x: 9" + "9" * 5000 + "}}",
    "escape": 'points: {columns: {"\\e[2J": x}}',
}


@pytest.mark.parametrize("text", MAPPINGS.values(), ids=list(MAPPINGS))
def test_yaml_that_does_more_than_say(text: str) -> None:
    Path("mapping.yaml").write_text(text)
    begun = time.process_time()
    with pytest.raises(DataError, match=r"^mapping\.yaml: ") as caught:
        read_mapping(Path("mapping.yaml"))
    assert time.process_time() - begun < 2
    assert len(str(caught.value)) < 1000


# --- sizes that are only claimed -------------------------------------------------------------------------------------


def npy(header: dict[str, Any], data: bytes = b"\0" * 64) -> bytes:
    head = repr(header).encode()
    head += b" " * (64 - (len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def write_npz(content: bytes, size: int | None = None) -> Path:
    """An archive of one array; its list of members may claim another size."""
    with zipfile.ZipFile("file.npz", "w") as archive:
        archive.writestr("x.npy", content)
    if size is not None:
        whole = bytearray(Path("file.npz").read_bytes())
        place = whole.index(b"PK\x01\x02")
        whole[place + 20 : place + 28] = struct.pack("<II", size, size)
        Path("file.npz").write_bytes(whole)
    return Path("file.npz")


def npy_shape() -> Path:
    return write_npz(npy({"descr": "<f8", "fortran_order": False, "shape": (HUGE,)}))


def npy_shape_overflowing() -> Path:
    return write_npz(npy({"descr": "<f8", "fortran_order": False, "shape": (2**62, 2**62)}))


def npy_with_a_member_as_large() -> Path:
    content = npy({"descr": "<f8", "fortran_order": False, "shape": ((4_000_000_000 - 128) // 8,)})
    return write_npz(content, 4_000_000_000)


def npy_by_column() -> Path:
    content = npy({"descr": "<f8", "fortran_order": True, "shape": (10_000_000, 20)})
    return write_npz(content, 10_000_000 * 20 * 8 + len(content) - 64)


def npy_item() -> Path:
    return write_npz(npy({"descr": f"|V{10**9}", "fortran_order": False, "shape": (HUGE,)}))


def hdf5_chunked() -> Path:
    with h5py.File("file.h5", "w") as file:
        file.create_dataset("x", (HUGE,), "f8", chunks=(1000,))
    return Path("file.h5")


def hdf5_contiguous() -> Path:
    with h5py.File("file.h5", "w") as file:
        file.create_dataset("x", (HUGE,), "f8")
    return Path("file.h5")


def hdf5_row() -> Path:
    with h5py.File("file.h5", "w") as file:
        file.create_dataset("x", (10, 10**12), "f8", chunks=(1, 1000))
    return Path("file.h5")


def hdf5_chunk_of_zeros() -> Path:
    """A chunk that decompresses to gigabytes."""
    with h5py.File("file.h5", "w") as file:
        file.create_dataset("x", (4 << 30,), "i1", chunks=(1 << 30,), compression="gzip")
        file["x"].id.write_direct_chunk((0,), zlib.compress(bytes(1 << 20)))
    return Path("file.h5")


def parquet_rows() -> Path:
    """The footer's counts of rows replaced; its sizes are not written before what they count."""
    pq.write_table(pa.table({"x": np.arange(7777.0)}), "file.parquet")
    return patch_footer(varint(2 * 7777), varint(2 * HUGE))


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def patch_footer(old: bytes, new: bytes) -> Path:
    whole = Path("file.parquet").read_bytes()
    size = int.from_bytes(whole[-8:-4], "little")
    body, footer = whole[: -8 - size], whole[-8 - size : -8]
    assert footer.count(old) >= 2
    footer = footer.replace(old, new)
    Path("file.parquet").write_bytes(body + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return Path("file.parquet")


def parquet_footer() -> Path:
    Path("file.parquet").write_bytes(b"PAR1" + b"\0" * 100 + (2**32 - 1).to_bytes(4, "little") + b"PAR1")
    return Path("file.parquet")


def arrow_length() -> Path:
    """The number of events of the record batch, wherever it stands in the file."""
    write_events(Path("file.arrow"), toy_jets(1237), {})
    whole = Path("file.arrow").read_bytes()
    assert whole.count(struct.pack("<q", 1237)) >= 2
    return with_sums(whole.replace(struct.pack("<q", 1237), struct.pack("<q", HUGE)))


def arrow_points() -> Path:
    columns = toy_jets(11)
    write_events(Path("file.arrow"), columns, {})
    points = struct.pack("<q", int(columns.offsets[-1]))
    whole = Path("file.arrow").read_bytes()
    assert whole.count(points) >= 2
    return with_sums(whole.replace(points, struct.pack("<q", HUGE)))


def arrow_metadata() -> Path:
    write_events(Path("file.arrow"), toy_jets(11), {})
    whole = bytearray(Path("file.arrow").read_bytes())
    whole[12:16] = struct.pack("<i", 2**31 - 8)
    size = int.from_bytes(whole[-10:-6], "little")
    return with_sums(bytes(whole[:-10]) + (size ^ 1 << 30).to_bytes(4, "little") + b"ARROW1")


def with_sums(content: bytes, batches: int = 1) -> Path:
    """An event file with checksums that agree with what is in it."""
    Path("file.arrow").write_bytes(content)
    edges = [8 * n for n in range(batches + 1)] + [len(content)]
    sums = [zlib.crc32(content[start:stop]) for start, stop in pairwise(edges)]
    write_sums({"format": 1, "edges": edges, "crc32": sums})
    return Path("file.arrow")


def write_sums(body: dict[str, Any]) -> None:
    text = json.dumps({**body, "self": zlib.crc32(json.dumps(body).encode())})
    Path("file.arrow.sums").write_text(text)


def root_end() -> Path:
    write_root()
    whole = bytearray(Path("file.root").read_bytes())
    whole[12:16] = struct.pack(">i", 2**31 - 1)
    Path("file.root").write_bytes(whole)
    return Path("file.root")


def root_entries() -> Path:
    write_root()
    whole = Path("file.root").read_bytes()
    assert struct.pack(">q", 4321) in whole
    Path("file.root").write_bytes(whole.replace(struct.pack(">q", 4321), struct.pack(">q", HUGE)))
    return Path("file.root")


def write_root() -> None:
    with uproot.recreate("file.root") as file:
        file.mktree("tree", {"x": np.arange(4321.0)})


CLAIMS = [
    npy_shape, npy_shape_overflowing, npy_with_a_member_as_large, npy_by_column, npy_item,
    hdf5_chunked, hdf5_contiguous, hdf5_row, hdf5_chunk_of_zeros,
    parquet_rows, parquet_footer, arrow_length, arrow_points, arrow_metadata, root_end, root_entries,
]  # fmt: skip


def in_little_memory(do: Callable[[], None], more: int = 512 << 20) -> tuple[str, str, float]:
    """What `do` raises (class and message) and its processor seconds, in a process that may grow by so many bytes.

    The process ends after a hundred seconds, whatever it does: a size that is believed is not read to its end.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        begun, said = time.process_time(), ("", "")
        signal.alarm(100)
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)
            do()
        except MultipletError as error:
            said = ("MultipletError", str(error))
        except BaseException as error:
            said = (type(error).__name__, str(error))
        os.write(writer, json.dumps([*said, time.process_time() - begun]).encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"ended by {status}"
    kind, message, seconds = json.loads(answer)
    return kind, message, seconds


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="limits the memory of a process as Linux can")
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_a_size_that_is_claimed_is_not_believed(claim: Callable[[], Path]) -> None:
    path = claim()
    kind, message, seconds = in_little_memory(lambda: read_all(path))
    assert (kind, str(path) in message) == ("MultipletError", True), (kind, message)
    assert len(message) < 1000
    assert seconds < 4, seconds
    code, _, _ = call("inspect", str(path))
    assert code in (0, 2)


CLAIMED_WEIGHTS = {
    "shape": (json.dumps({"w": {"dtype": "F32", "shape": [HUGE], "data_offsets": [0, 4 * HUGE]}}), None),
    "header": ("{}", HUGE),
    "offsets": (json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 10**18]}}), None),
    "no JSON": ("[" * 100_000, None),
}


@pytest.mark.parametrize("name", CLAIMED_WEIGHTS)
def test_weights_that_claim_much(run: Path, name: str) -> None:
    header, size = CLAIMED_WEIGHTS[name]
    path = run / "checkpoints" / "step-00000002" / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", size or len(header)) + header.encode() + bytes(64))
    forge_manifest(run)
    found, _ = newest(run)
    assert found is not None
    begun = time.process_time()
    with pytest.raises(CorruptError, match=re.escape(str(path))):
        found.weights()
    assert time.process_time() - begun < 2


def test_members_of_an_archive_with_paths_are_but_names(here: Path) -> None:
    folder = here / "a" / "b"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "file.npz", "w") as archive:
        for name in ("../../up.npy", str(here / "absolute.npy"), "x.npy"):
            content = io.BytesIO()
            np.save(content, np.arange(5.0))
            archive.writestr(name, content.getvalue())
    before = sorted(here.rglob("*"))
    assert call("inspect", str(folder / "file.npz"), "--all")[0] == 0
    read_all(folder / "file.npz")
    assert sorted(here.rglob("*")) == before


# --- texts -----------------------------------------------------------------------------------------------------------

EVIL = (
    "<script>document.title='taken'</script>",
    '"><img src=x onerror="document.title=1">',
    "\x1b]0;taken\x07\x1b[2J\x1b[31mred",
    "[bold red]x[/bold red][/]",
    "javascript:alert(1)\x9b31m\u202egnp",
)


class Page(HTMLParser):
    """What a browser would act upon: scripts, handlers, addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.acts: list[str] = []
        self.seen = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "link", "form", "base", "svg"):
            self.acts.append(tag)
        for name, value in attrs:
            where = name in ("href", "src", "action") and not (value or "").startswith(("#", "data:image/"))
            if name.startswith("on") or where:
                self.acts.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.seen += data


def no_control(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


def renamed(columns: Columns, classes: tuple[str, ...]) -> Columns:
    schema = tuple(
        type(c)(c.name, c.unit, c.level, c.truth, c.dtype, classes, EVIL[0]) if c.classes else c for c in columns.schema
    )
    return Columns(schema, columns.offsets, columns.values)


def test_names_in_events_and_runs_stay_text_on_the_page_and_in_the_terminal(here: Path) -> None:
    for path in write_toys(here / "events", 60, 20, 40).glob("*/*.arrow"):
        held = read_events(path)
        write_events(path, renamed(held, EVIL[:1] + EVIL[2:4]), dict(zip(EVIL, EVIL, strict=True)))
    recipe = tiny.labels(str(here / "events"), 2)
    train(recipe, here / "run", name=EVIL[0], command=EVIL[1], progress=False)
    code, out, err = call("evaluate", "run")
    assert code == 0, err
    assert "[bold red]x[/bold red]" in out
    assert no_control(out + err)
    record = json.loads((here / "run" / "recipe.json").read_text())
    record["recipe"]["data"]["path"] = EVIL[1]
    record["versions"]["torch"] = EVIL[0]
    (here / "run" / "recipe.json").write_text(json.dumps(record))
    metrics = json.loads((here / "run" / "metrics.json").read_text())
    metrics["command"], metrics["split"] = EVIL[4], EVIL[0]
    (here / "run" / "metrics.json").write_text(json.dumps(metrics))
    page = Page(write_report([here / "run"]).read_text())
    assert page.acts == []
    assert all(one in page.seen for one in (EVIL[0], EVIL[1]))
    code, out, err = call("inspect", "events/test/00000.arrow", "--all")
    assert code == 0
    assert no_control(out + err)


@pytest.mark.parametrize("name", [*EVIL, "line\nmultiplet: all is well"])
def test_names_of_columns_and_files_do_not_steer_the_terminal(name: str) -> None:
    pq.write_table(pa.table({name: np.arange(30.0), "list": [[1.0, 2.0]] * 30}), "file.parquet")
    path = Path(re.sub(r"[/\n]", "", name) + ".parquet")
    shutil.copy("file.parquet", path)
    Path("mapping.yaml").write_text("points: {columns: {x: nothing}}")
    for arguments in (
        ("inspect", str(path), "--all"),
        ("inspect", str(path), "--draft", "draft.yaml"),
        ("inspect", str(path), "--tree", name),
        ("convert", name, str(path), "--out", "new"),
        ("convert", "table", "mapping.yaml", str(path), "--out", "new"),
        ("train", name, "new"),
        ("train", "maskdiff", "new", f"{name}=3"),
        ("evaluate", name.replace("\n", "")),
    ):
        _, out, err = call(*arguments)
        assert no_control(out + err), arguments


def test_a_draft_of_hostile_names_says_the_same_as_one_without_them() -> None:
    jets = {"pt": [[1.0, 2.0]] * 30, "eta": [[0.1, 0.2]] * 30, "phi": [[0.1, 0.2]] * 30, "mass": [[0.0, 0.0]] * 30}
    evil = {"x: !!python/object/apply:os.mkdir [mark]": np.arange(30.0), "a`b\nselect: [x]": np.arange(30.0)}
    pq.write_table(pa.table({**jets, **evil}), "file.parquet")
    assert call("inspect", "file.parquet", "--draft", "draft.yaml")[0] == 0
    mapping = read_mapping(Path("draft.yaml"))
    assert mapping.four_vector is not None
    assert not mapping.select
    assert call("convert", "table", "draft.yaml", "file.parquet", "--out", "new")[0] == 0


# --- run folders -----------------------------------------------------------------------------------------------------


def recipe_with(**changes: Any) -> Callable[[dict[str, Any]], str]:
    def text(record: dict[str, Any]) -> str:
        record["recipe"] |= changes
        return json.dumps(record)

    return text


RECORDS: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "a class elsewhere": (recipe_with(objective={"is": "os.system", "command": "mkdir mark"}), "is a 'os.system'"),
    "a builtin": (recipe_with(optim={"is": "eval"}), "is a 'eval'"),
    "a class of another field": (recipe_with(optim={"is": "Transformer", "width": 8}), "is a 'Transformer'"),
    "a class that is no text": (recipe_with(optim={"is": ["AdamW"]}), "which is not known here"),
    "a field that is a list": (recipe_with(optim=[1, 2]), "optim is "),
    "no recipe": (lambda record: json.dumps({"format": 1, "name": "x"}), "is not a recipe"),
    "a list": (lambda record: "[]", "is not a recipe"),
    "nesting": (lambda record: "[" * 200_000 + "]" * 200_000, "is not a JSON document"),
    "nesting of maps": (recipe_with(seed=json.loads('{"a":' * 400 + "1" + "}" * 400)), "seed is "),
    "a key twice": (lambda record: json.dumps(record)[:-1] + ', "name": "other"}', "a key stands there twice"),
    "NaN": (lambda record: json.dumps(record).replace('"seed": 0', '"seed": NaN'), "NaN is no number"),
    "Infinity": (lambda record: json.dumps(record).replace('"seed": 0', '"seed": -Infinity'), "-Infinity is no number"),
    "a number without end": (lambda record: json.dumps(record).replace('"seed": 0', '"seed": ' + "9" * 9999), "JSON"),
    "bytes": (lambda record: "\ud800", "is not a JSON document"),
    "a schema of others": (lambda record: json.dumps(record | {"schema": [{"is": "Transformer"}]}), "'Transformer'"),
    "a schema of texts": (lambda record: json.dumps(record | {"schema": ["x"]}), "Column is 'x'"),
    "a name that is none": (lambda record: json.dumps(record | {"name": {"a": 1}}), "is not a recipe"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_recipes_that_cannot_be(run: Path, case: str) -> None:
    change, message = RECORDS[case]
    text = change(json.loads((run / "recipe.json").read_text()))
    (run / "recipe.json").write_bytes(text.encode(errors="surrogatepass"))
    begun = time.process_time()
    with pytest.raises((RunError, CorruptError), match=re.escape(message)) as caught:
        open_run(run)
    assert str(run / "recipe.json") in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert time.process_time() - begun < 2
    assert call("evaluate", "run")[0] == call("report", "run")[0] == 2


def test_a_huge_document_is_not_read(run: Path) -> None:
    with (run / "recipe.json").open("r+b") as file:
        file.truncate(1 << 30)
    kind, message, seconds = in_little_memory(lambda: open_run(run))
    assert (kind, "1073741824 bytes" in message) == ("MultipletError", True)
    assert seconds < 1


MANIFESTS: dict[str, dict[str, Any]] = {
    "files elsewhere": {"sha256": {"../../../outside": "0" * 64}},
    "no hashes": {"sha256": []},
    "hashes that are none": {"sha256": dict.fromkeys(("weights.safetensors", "resume.safetensors", "state.json"))},
    "another step": {"step": -1},
    "another format": {"format": "\x1b[2J"},
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests_that_cannot_be(run: Path, case: str) -> None:
    forge_manifest(run, **MANIFESTS[case])
    found, refused = newest(run)
    assert found is None
    assert len(refused) == 1
    code, out, err = call("evaluate", "run")
    assert (code, "has no checkpoint to load" in err) == (2, True)
    assert no_control(out + err)


@pytest.mark.parametrize("name", [".lock", "log.jsonl"])
def test_a_link_in_a_run_that_leads_to_a_file_of_mine_is_not_written_through(run: Path, toys: Path, name: str) -> None:
    mine = Path("mine.txt")
    mine.write_text("mine, and nobody's else")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(mine.resolve())
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunError, match=r"run"):
        train(tiny.labels(str(toys), 2), run, progress=False)
    assert mine.read_text() == "mine, and nobody's else"


# --- event files that lie --------------------------------------------------------------------------------------------


def forged(change: Callable[[dict[str, Any]], Any], path: Path = Path("file.arrow")) -> Path:
    """An event file whose schema says something else, with checksums that agree."""
    write_events(path, toy_jets(12), {"source": "toys"})
    with pa.ipc.open_file(path.read_bytes()) as file:
        about = json.loads(file.schema.metadata[b"multiplet"])
        schema, batches = file.schema, [file.get_batch(n) for n in range(file.num_record_batches)]
    given = change(about)
    metadata = {"multiplet": json.dumps(about if given is None else given)}
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema.with_metadata(metadata)) as writer:
        for batch in batches:
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema.with_metadata(metadata)))
    return with_sums(sink.getvalue())


def column(about: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in about["columns"] if one["name"] == name)


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a column that is not there": lambda about: about["columns"].append({"name": "x"}),
    "a column left out": lambda about: about["columns"].pop(),
    "a column twice": lambda about: about["columns"].append(about["columns"][0]),
    "another type": lambda about: column(about, "px").update(dtype="float64"),
    "a type of objects": lambda about: column(about, "px").update(dtype="object"),
    "a type that is none": lambda about: column(about, "px").update(dtype=["<f4", 3]),
    "points for events": lambda about: column(about, "jet_pt").update(level="point"),
    "a level that is none": lambda about: column(about, "jet_pt").update(level="truth"),
    "a unit that is no text": lambda about: column(about, "px").update(unit={"a": 1}),
    "classes that are a text": lambda about: column(about, "label").update(classes="abc"),
    "classes that are numbers": lambda about: column(about, "label").update(classes=[1, 2, 3]),
    "truth that is a text": lambda about: column(about, "label").update(truth="no"),
    "a field that there is not": lambda about: column(about, "px").update(__class__="os"),
    "another kind of column": lambda about: column(about, "px").update({"is": "Transformer"}),
    "columns that are none": lambda about: about.update(columns={"a": 1}),
    "provenance that is none": lambda about: about.update(provenance=[1]),
    "no map": lambda about: [],
    "deep": lambda about: json.loads('{"columns":' + "[" * 900 + "]" * 900 + "}"),
}


@pytest.mark.parametrize("case", LIES)
def test_event_files_that_lie(case: str) -> None:
    path = forged(LIES[case])
    with pytest.raises(DataError, match=r"^file\.arrow is Arrow, but not an event file of this package") as caught:
        EventFile(path)
    assert len(str(caught.value)) < 1000
    assert call("inspect", "file.arrow")[0] == 2


def test_the_forger_writes_what_can_be_read() -> None:
    path = forged(lambda about: None)
    assert len(read_events(path)) == 12
    read_all(path)


BODIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "edges that are texts": lambda body: body.update(edges=["a", "b", "c"]),
    "edges that are negative": lambda body: body.update(edges=[0, -8, body["edges"][-1]]),
    "edges that fall": lambda body: body.update(edges=[0, body["edges"][-1] + 8, body["edges"][-1]]),
    "no sums": lambda body: body.update(crc32=[], edges=body["edges"][-1:]),
    "few sums": lambda body: body.update(crc32=body["crc32"][:1], edges=body["edges"][::2]),
    "no list": lambda body: body.update(crc32={"a": 1}),
}


@pytest.mark.parametrize("case", BODIES)
def test_checksums_that_lie(case: str) -> None:
    path = forged(lambda about: None)
    body = {key: value for key, value in json.loads(Path("file.arrow.sums").read_text()).items() if key != "self"}
    BODIES[case](body)
    write_sums(body)
    with pytest.raises(CorruptError, match=r"^file\.arrow"):
        read_events(path)


OFFSETS = {"that fall": (3, -5), "beyond the points": (-1, 1 << 30), "not from 0": (0, 4)}


@pytest.mark.parametrize("case", OFFSETS)
def test_offsets_that_lie(here: Path, case: str) -> None:
    """Offsets of points are read before the points: none may lead out of the file, or into gigabytes of padding."""
    columns = toy_jets(12)
    write_events(Path("train/file.arrow"), columns, {})
    whole = Path("train/file.arrow").read_bytes()
    right = columns.offsets.astype(np.int32)
    wrong = right.copy()
    place, value = OFFSETS[case]
    wrong[place] = value
    assert whole.count(right.tobytes()) == 1
    path = with_sums(whole.replace(right.tobytes(), wrong.tobytes()))
    with pytest.raises(CorruptError, match=r"^file\.arrow: batch 0 is damaged"):
        read_events(path)
    for name in (path.name, f"{path.name}.sums"):
        shutil.move(here / name, here / "train" / name)
    with pytest.raises(CorruptError, match="batch 0 is damaged"):
        EventFiles(here)


def test_truth_that_is_called_measured_never_becomes_an_input(run: Path, toys: Path, here: Path) -> None:
    shutil.copytree(toys, here / "events")
    for path in (here / "events").glob("*/*.arrow"):
        held = read_events(path)
        schema = tuple(type(c)(c.name, c.unit, c.level, False, c.dtype, c.classes) for c in held.schema)
        write_events(path, Columns(schema, held.offsets, held.values), {})
    for verb in (("evaluate", "run", "--data", "events"), ("predict", "run", "events/test", "--out", "new.parquet")):
        code, _, err = call(*verb)
        assert (code, "label is measured of events" in err) == (2, True), (verb, err)


def test_a_document_is_read_strictly() -> None:
    for text in ('{"a": 1, "a": 2}', '{"a": NaN}', "[" * 100_000, "{", "\udc80", ""):
        Path("file.json").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(CorruptError, match=r"^file\.json is not a JSON document"):
            read_json(Path("file.json"))
