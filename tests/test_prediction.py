"""Prediction: files of one's own → rows with place, columns and scores; evaluation's numbers, no truth."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import uproot
from typer.testing import CliRunner

import multiplet
import tiny
from multiplet import cli, files
from multiplet.checkpoint import require_newest
from multiplet.data.arrow import write_events
from multiplet.data.columns import Column, Columns
from multiplet.data.events import Events
from multiplet.data.formats.jetclass import write_root
from multiplet.data.formats.sources import Chunk
from multiplet.errors import DataError, RecipeError, RunError
from multiplet.evaluation.evaluate import evaluate
from multiplet.evaluation.pieces import read_pieces
from multiplet.evaluation.prediction import predict
from multiplet.files import sha256
from multiplet.heads import mean_pool
from multiplet.recipe import open_run
from multiplet.representation.represent import RepresentNet
from multiplet.simulation import jets
from multiplet.tasks.classify import ClassifyNet
from multiplet.training import train
from toys import toy_jets

SCORES = ("score_one", "score_two", "score_three")


@pytest.fixture(scope="module")
def run(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classification that was trained a little, and evaluated."""
    out = tmp_path_factory.mktemp("run") / "labels"
    train(tiny.labels(str(toys), 4), out, progress=False)
    evaluate(out)
    return out


@pytest.fixture(scope="module")
def masked(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining."""
    out = tmp_path_factory.mktemp("run") / "masked"
    train(tiny.masked(str(toys), 2), out, progress=False)
    return out


@pytest.fixture(scope="module")
def jets_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classification of toy jets in JetClass's columns."""
    folder = tmp_path_factory.mktemp("jets")
    write_events(folder / "data" / "train" / "00000.arrow", jetclass(100), {})
    train(tiny.labels(str(folder / "data"), 2), folder / "run", progress=False)
    return folder / "run"


def changed(columns: Columns, values: dict[str, np.ndarray], *extra: Column, without: tuple[str, ...] = ()) -> Columns:
    """Columns with other values, further columns, and some taken away."""
    schema = (*(column for column in columns.schema if column.name not in without), *extra)
    merged = columns.values | values
    return Columns(schema, columns.offsets, {c.name: np.ascontiguousarray(merged[c.name], c.dtype) for c in schema})


def write(path: Path, columns: Columns) -> Path:
    write_events(path, columns, {})
    return path


@dataclass(frozen=True)
class Pieces:
    """Toy jets in chunks of any size, every third of them selected away."""

    step: int
    events: int = 50
    opened: Counter[str] | None = None

    def provenance(self) -> dict[str, str]:
        return {"format": "toys"}

    def chunks(self, source: Path) -> Iterator[Chunk]:
        columns = toy_jets(self.events, seed=5)
        for start in range(0, len(columns), self.step):
            if self.opened is not None:
                self.opened["chunks"] += 1
            read = np.arange(start, min(start + self.step, len(columns)))
            kept = read[read % 3 != 1]
            yield Chunk(columns.take(kept), {"read": len(read), "not the second": len(kept)}, kept - start)


def test_scores_are_those_of_evaluation_with_the_place_of_each_event(run: Path, toys: Path, tmp_path: Path) -> None:
    about = predict(run, toys / "test", tmp_path / "scores.parquet")
    found, known = pq.read_table(tmp_path / "scores.parquet"), pq.read_table(run / "predictions.parquet")
    assert found.column_names[:3] == ["file", "entry", "points"]
    for name in (*SCORES, "event_id", "label", "jet_pt", "points"):
        np.testing.assert_array_equal(found[name], known[name], err_msg=name)
    assert found["entry"].to_pylist() == list(range(60))
    assert set(found["file"].to_pylist()) == {str(toys / "test" / "00000.arrow")}
    assert described(tmp_path / "scores.parquet") == json.loads(json.dumps(about))
    assert (about["events"], about["cuts"], about["step"]) == (60, {"read": 60}, 4)
    assert about["weights"] == sha256(require_newest(run).path / "weights.safetensors")
    assert about["sources"][0]["sha256"] == sha256(toys / "test" / "00000.arrow")
    assert next(c for c in about["columns"] if c["name"] == "label")["classes"] == ("one", "two", "three")


def test_a_folder_is_its_event_files_and_two_predictions_are_equal_bytes(run: Path, toys: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        about = predict(run, [toys], tmp_path / f"{name}.parquet")
    assert [Path(source["file"]).parent.name for source in about["sources"]] == ["test", "train", "train", "validation"]
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.num_rows == about["events"] == 420
    assert table["file"].to_pylist()[60] == str(toys / "train" / "00000.arrow")
    np.testing.assert_array_equal(table["entry"].to_numpy()[60:212], [*range(150), 0, 1])
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_chunks_and_selections_change_no_score(run: Path, tmp_path: Path) -> None:
    source = tmp_path / "toys.x"
    source.touch()
    whole = np.stack([predicted(run, write(tmp_path / "all.arrow", toy_jets(50, seed=5)))[name] for name in SCORES])
    kept = np.flatnonzero(np.arange(50) % 3 != 1)
    for step in (4, 17, 100):
        about = predict(run, [source], tmp_path / f"{step}.parquet", format=Pieces(step))
        table = pq.read_table(tmp_path / f"{step}.parquet")
        np.testing.assert_array_equal(table["entry"], kept)
        np.testing.assert_allclose(np.stack([table[name] for name in SCORES]), whole[:, kept], atol=1e-6)
        assert about["cuts"] == about["sources"][0]["cuts"] == {"read": 50, "not the second": len(kept)}


def described(path: Path) -> Any:
    """What a Parquet file of predictions says of itself."""
    return json.loads(pq.read_metadata(path).metadata[b"multiplet"])


def predicted(run: Path, source: Path, **options: Any) -> pa.Table:
    """What predict writes of one file."""
    out = source.with_suffix(".scores.parquet")
    predict(run, source, out, overwrite=True, **options)
    return pq.read_table(out)


def test_few_chunks_are_in_memory_at_a_time() -> None:
    opened, cuts = Counter[str](), Counter[str]()
    pieces = read_pieces(Pieces(6_000, 31_000, opened), Path("toys"), cuts)
    first = next(pieces)
    assert (len(first.columns), opened["chunks"]) == (12_000, 3)
    np.testing.assert_array_equal(first.entries[:4], [0, 2, 3, 5])
    rest = list(pieces)
    assert sum(len(piece.columns) for piece in [first, *rest]) == cuts["not the second"] == 20_667
    assert rest[-1].entries[-1] == 30_999


def test_neither_labels_nor_other_truth_are_needed(run: Path, tmp_path: Path) -> None:
    columns = toy_jets(30, seed=8)
    with_label = predicted(run, write(tmp_path / "with.arrow", columns))
    bare = predicted(run, write(tmp_path / "without.arrow", changed(columns, {}, without=("label", "event_id"))))
    assert "label" in with_label.column_names
    assert not {"label", "event_id"} & {*bare.column_names}
    np.testing.assert_array_equal(bare["score_two"], with_label["score_two"])


def jetclass(events: int) -> Columns:
    """Toy jets in JetClass's columns, whose deta has the sign of the jet's η."""
    toys = toy_jets(events, seed=4)
    sign = np.repeat(np.where(toys.values["jet_eta"] > 0, 1, -1), np.diff(toys.offsets))
    toys = changed(toys, {"deta": toys.values["deta"] * sign})
    extra = [c for c in jets.SCHEMA if c.name not in toys.values]
    filled = changed(toys, {c.name: np.arange(events) % 7 for c in extra}, *extra)
    return Columns(jets.SCHEMA, toys.offsets, {c.name: filled.values[c.name].astype(c.dtype) for c in jets.SCHEMA})


def test_from_root_to_root(jets_run: Path, tmp_path: Path) -> None:
    columns = jetclass(40)
    for name, places in (("a", np.arange(25)), ("b", np.arange(25, 40))):
        write_root(tmp_path / f"{name}.root", columns.take(places))
    sources = [tmp_path / "b.root", tmp_path / "a.root"]
    keep = ["jet_pt", "truth_match"]
    about = predict(jets_run, sources, tmp_path / "scores.root", format="jetclass", columns=keep)
    scores = [f"score_{name}" for name in jets.LABELS]
    with uproot.open(tmp_path / "scores.root") as file:
        table = file["predictions"].arrays(library="np")
        said = json.loads(str(file["multiplet"]))
    assert said == json.loads(json.dumps({**about, "files": [str(source) for source in sources]}))
    assert list(table) == ["file", "entry", "points", *keep, *scores]
    np.testing.assert_array_equal(table["file"], [0] * 15 + [1] * 25)
    np.testing.assert_array_equal(table["entry"], [*range(15), *range(25)])
    expected = predicted(jets_run, write(tmp_path / "all.arrow", columns))
    order = [*range(25, 40), *range(25)]
    for name in ("points", *keep, *scores):
        np.testing.assert_allclose(table[name], expected[name].to_numpy()[order], atol=1e-6, err_msg=name)


def test_files_of_ones_own_by_a_mapping(jets_run: Path, tmp_path: Path) -> None:
    columns = jetclass(30)
    points = [c for c in columns.schema if c.level == "point"]
    lists = {f"c_{c.name}": awkward.unflatten(columns.values[c.name], np.diff(columns.offsets)) for c in points}
    flat = {f"j_{name}": columns.values[f"jet_{name}"] for name in ("pt", "eta", "phi", "energy")}
    with uproot.recreate(tmp_path / "mine.root") as file:
        file.mktree("Jets", {**lists, **flat, "run": np.arange(30, dtype=np.int32)})
    p4 = ("px", "py", "pz", "energy")
    others = [c for c in points if c.name not in (*p4, "deta", "dphi")]
    (tmp_path / "mine.yaml").write_text(
        "tree: Jets\npoints:\n  four_vector: {px: c_px, py: c_py, pz: c_pz, energy: c_energy}\n  columns:\n"
        + "".join(f"    {c.name}: {{from: c_{c.name}, unit: '{c.unit}', type: {c.dtype}}}\n" for c in others)
        + "event:\n  axis: {pt: j_pt, eta: j_eta, phi: j_phi, energy: j_energy}\n"
        + "spectators: [run]\nlabel: {QCD: is_qcd == 1}\nselect: ['j_pt > 600', 'run < 28']\n"
    )
    out = tmp_path / "scores.parquet"
    arguments = ["predict", str(jets_run), str(tmp_path / "*.root"), "--mapping", str(tmp_path / "mine.yaml")]
    result = CliRunner().invoke(cli.app, [*arguments, "--out", str(out)])
    assert result.exit_code == 0, result.output
    kept = np.flatnonzero((columns.values["jet_pt"] > 600) & (np.arange(30) < 28))
    assert described(out)["cuts"] == {
        "read": 30,
        "j_pt > 600": int((columns.values["jet_pt"] > 600).sum()),
        "run < 28": len(kept),
    }
    assert "run < 28" in result.output
    found = pq.read_table(out)
    expected = predicted(jets_run, write(tmp_path / "all.arrow", columns))
    for name in ("entry", "run"):
        np.testing.assert_array_equal(found[name], kept)
    for name in (name for name in expected.column_names if name.startswith("score_")):
        np.testing.assert_allclose(found[name], expected[name].to_numpy()[kept], atol=2e-6, err_msg=name)


def test_an_event_without_points_has_a_row_that_says_so(run: Path, tmp_path: Path) -> None:
    toys = toy_jets(12, seed=6)
    counts = np.diff(toys.offsets) * (np.arange(12) != 3)
    points = np.repeat(np.arange(12) != 3, np.diff(toys.offsets))
    values = {c.name: toys.values[c.name][points] if c.level == "point" else toys.values[c.name] for c in toys.schema}
    holes = Columns(toys.schema, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), values)
    table = predicted(run, write(tmp_path / "holes.arrow", holes))
    np.testing.assert_array_equal(table["points"], counts)
    scores = np.stack([table[name] for name in SCORES])
    assert np.isfinite(scores).all()
    whole = predicted(run, write(tmp_path / "whole.arrow", toys))
    others = np.arange(12) != 3
    np.testing.assert_allclose(scores[:, others], np.stack([whole[name] for name in SCORES])[:, others], atol=1e-6)
    nothing = write(tmp_path / "nothing.arrow", toys.take(np.arange(0)))
    assert predicted(run, nothing).schema.names == table.schema.names
    assert predicted(run, nothing).num_rows == 0


@pytest.mark.parametrize("which", ["run", "masked"])
def test_embeddings_are_the_mean_of_the_encoders_outputs(
    which: str, request: pytest.FixtureRequest, toys: Path, tmp_path: Path
) -> None:
    path = request.getfixturevalue(which)
    predict(path, toys / "test", tmp_path / "e.parquet", embeddings=True, columns=["event_id"])
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.column_names == ["file", "entry", "points", "event_id", *(f"emb_{n:03d}" for n in range(32))]
    model = open_run(path).model()
    for event in (0, 31, 59):
        tokens = model.tokens(Events(str(toys)).open().read("test", np.array([event])))
        with torch.no_grad():
            hidden = model.encoder(tokens)
        expected = mean_pool(hidden.points, hidden.mask)[0].numpy()
        found = [table[f"emb_{n:03d}"][event].as_py() for n in range(32)]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_pretraining_predicts_its_losses_whatever_else_is_read(masked: Path, toys: Path, tmp_path: Path) -> None:
    evaluate(masked)
    known = pq.read_table(masked / "predictions.parquet")
    predict(masked, [toys / "validation", toys / "test"], tmp_path / "losses.parquet")
    found = pq.read_table(tmp_path / "losses.parquet").slice(60)
    names = open_run(masked).model().objective.names
    for name in names:
        np.testing.assert_allclose(found[name], known[name], atol=1e-6)
    assert "event_id" in known.column_names


def test_points_have_rows_of_their_own_where_they_are_predicted(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = toy_jets(30, seed=7)
    jumbled = np.lexsort(
        (np.random.default_rng(0).random(columns.offsets[-1]), np.repeat(np.arange(30), np.diff(columns.offsets)))
    )
    values = {c.name: columns.values[c.name][jumbled] for c in columns.schema if c.level == "point"}
    source = write(tmp_path / "points.arrow", changed(columns, values))

    def per_token(self: Any, encoder: Any, tokens: Any) -> dict[str, torch.Tensor]:
        return {"first": tokens.x[..., 0], "rank": tokens.rank, "tokens": tokens.mask.sum(1)}

    monkeypatch.setattr(ClassifyNet, "predict", per_token)
    table = predicted(run, source)
    counts = np.diff(columns.offsets)
    owner = np.repeat(np.arange(30), counts)
    np.testing.assert_array_equal(table["entry"], owner)
    np.testing.assert_array_equal(table["point"], np.concatenate([np.arange(n) for n in counts]))
    np.testing.assert_array_equal(table["px"], values["px"])
    np.testing.assert_array_equal(table["event_id"], columns.values["event_id"][owner])
    np.testing.assert_array_equal(table["tokens"], counts[owner])
    assert not {"jet_pt", "label", "points"} & {*table.column_names}
    pt = np.hypot(values["px"], values["py"])
    standard = open_run(run).model().represent.features
    expected = (pt - standard.mean[0].item()) / standard.std[0].item()
    np.testing.assert_allclose(table["first"], np.clip(expected, -10, 10), atol=1e-4)
    descending = np.concatenate([np.argsort(np.argsort(-part)) for part in np.split(pt, columns.offsets[1:-1])])
    np.testing.assert_array_equal(table["rank"], descending)
    few = predicted(run, source, columns=["jet_pt", "charge"])
    assert few.column_names == ["file", "entry", "point", "jet_pt", "charge", "first", "rank", "tokens"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: changed(c, {}, without=("px", "jet_phi")), r"new\.arrow cannot be read by .*: it has no column px$"),
        (lambda c: unlike(c, "d0", unit="cm"), r"new\.arrow: d0 has unit 'cm', in what .* it has unit 'mm'"),
        (lambda c: unlike(c, "label", classes=("a", "b", "c")), r"new\.arrow: label has classes \('a', 'b', 'c'\)"),
        (lambda c: unlike(c, "pz", truth=True), r"new\.arrow: pz is truth of points, .* measured of points"),
        (
            lambda c: changed(c, {"energy": spoilt(c, "energy", 70)}),
            r"new\.arrow entry 3: energy, log_energy, log_energy_rel of point 9 .* energy = nan is not finite",
        ),
        (
            lambda c: changed(c, {"jet_pt": np.where(np.arange(40) == 30, np.inf, c.values["jet_pt"])}),
            r"new\.arrow entry 30: log_pt_rel of point 0 cannot be computed: jet_pt = inf is not finite",
        ),
        (lambda c: changed(c, {"score_two": np.zeros(40)}, Column("score_two", "", "event")), r"\['score_two'\]"),
        (lambda c: changed(c, {"file": np.zeros(40)}, Column("file", "", "event")), r"\['file'\]"),
        (lambda c: changed(c, {"index": np.zeros(40)}, Column("index", "", "event")), r"\['index'\]"),
    ],
    ids=["missing", "unit", "classes", "truth", "nan", "infinite", "score", "file", "index"],
)
def test_what_does_not_fit_is_said_and_nothing_is_left(
    run: Path, tmp_path: Path, change: Callable[[Columns], Columns], message: str
) -> None:
    source = write(tmp_path / "new.arrow", change(toy_jets(40, seed=2, least=20, most=20)))
    with pytest.raises(DataError, match=message):
        predict(run, source, tmp_path / "out.parquet")
    assert {path.name for path in tmp_path.iterdir()} == {"new.arrow", "new.arrow.sums"}


def test_what_the_representation_refuses_is_told_with_file_and_entries(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, quantities: Any, places: Any, mask: torch.Tensor, event: Any) -> dict[str, torch.Tensor]:
        if len(mask) > 1:
            raise RecipeError("sensor runs from 0 to 9")
        return {}

    monkeypatch.setattr(RepresentNet, "_ids", refuse)
    source = write(tmp_path / "new.arrow", toy_jets(7))
    with pytest.raises(DataError, match=r"new\.arrow, entries 0 to 6: sensor runs from 0 to 9"):
        predict(run, source, tmp_path / "out.parquet")


def unlike(columns: Columns, name: str, **change: Any) -> Columns:
    schema = tuple(replace(c, **change) if c.name == name else c for c in columns.schema)
    return Columns(schema, columns.offsets, columns.values)


def spoilt(columns: Columns, name: str, place: int) -> np.ndarray:
    values = columns.values[name].copy()
    values[place - 1 :: 1000] = np.nan
    return values


def test_columns_that_are_not_asked_for_do_not_matter(run: Path, tmp_path: Path) -> None:
    odd = unlike(toy_jets(10), "label", classes=("a", "b", "c"))
    more = changed(
        odd, {"weight": np.full(10, np.nan), "file": np.ones(10)}, *(Column(n, "", "event") for n in ("weight", "file"))
    )
    source = write(tmp_path / "new.arrow", more)
    assert predicted(run, source, columns=["weight", "jet_pt", "weight"]).column_names[3:5] == ["weight", "jet_pt"]
    assert predicted(run, source, columns=[]).column_names == ["file", "entry", "points", *SCORES]
    with pytest.raises(DataError, match="no column 'jet_p' to keep: did you mean 'jet_pt'"):
        predicted(run, source, columns=["jet_p"])
    with pytest.raises(DataError, match="no column 'px' to keep"):
        predicted(run, source, columns=["px"])


def test_files_are_compared_with_the_first(run: Path, tmp_path: Path) -> None:
    first = write(tmp_path / "first.arrow", toy_jets(10))
    second = write(tmp_path / "second.arrow", changed(toy_jets(10), {}, without=("label",)))
    third = write(tmp_path / "third.arrow", unlike(changed(toy_jets(10), {"jet_eta": np.zeros(10)}), "label"))
    double = changed(toy_jets(10), {}, Column("jet_eta", "", "event", dtype="float64"), without=("jet_eta",))
    wide = write(tmp_path / "wide.arrow", double)
    with pytest.raises(DataError, match=r"second\.arrow has no column label of type int16 as the first file has"):
        predict(run, [first, second], tmp_path / "out.parquet")
    with pytest.raises(DataError, match=r"wide\.arrow has no column jet_eta of type float32"):
        predict(run, [first, wide], tmp_path / "out.parquet")
    assert predict(run, [second, first, third], tmp_path / "out.parquet")["events"] == 30


def test_what_is_there_is_not_written_over(run: Path, toys: Path, tmp_path: Path) -> None:
    source, out = write(tmp_path / "new.arrow", toy_jets(5)), tmp_path / "out.parquet"
    out.write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        predict(run, source, out)
    assert out.read_text() == "mine"
    predict(run, source, out, overwrite=True)
    assert pq.read_table(out).num_rows == 5
    for given, options, message in (
        ([source], {"out": tmp_path / "out.csv"}, "neither .parquet nor .root"),
        ([source, source], {}, "new.arrow would be read more than once"),
        ([], {}, "no file"),
        ([tmp_path / "gone.arrow"], {}, "gone.arrow is not a file"),
        ([tmp_path / "new.arrow.sums"], {}, "no event file: name its format .*jetclass"),
        ([toys], {"format": "jetclass"}, "is a folder"),
        ([source], {"format": "jetclas"}, "there is no format 'jetclas'"),
    ):
        with pytest.raises(DataError, match=message):
            predict(run, given, **{"out": tmp_path / "x.parquet", **options})
    (tmp_path / "same.parquet").touch()
    with pytest.raises(DataError, match="is one of the files to read"):
        predict(run, tmp_path / "same.parquet", tmp_path / "same.parquet", format=Pieces(5), overwrite=True)


def test_evaluation_keeps_what_an_event_carries(run: Path, tmp_path: Path) -> None:
    columns = toy_jets(20)
    extra = {"weight": np.linspace(1, 2, 20), "score_old": np.ones(20)}
    more = changed(columns, extra, *(Column(name, "", "event") for name in extra))
    write(tmp_path / "data" / "test" / "00000.arrow", more)
    evaluate(run, data=str(tmp_path / "data"))
    table = pq.read_table(run / "predictions.parquet")
    event = [c.name for c in more.schema if c.level == "event" and c.name != "score_old"]
    assert table.column_names == ["index", "points", *event, *SCORES]
    np.testing.assert_array_equal(table["weight"], extra["weight"].astype(np.float32))
    write(tmp_path / "bare" / "test" / "00000.arrow", changed(columns, {}, without=("label",)))
    with pytest.raises(DataError, match="has no label to measure by"):
        evaluate(run, data=str(tmp_path / "bare"))
    evaluate(run)


def test_a_published_layout_needs_no_labels(jets_run: Path, tmp_path: Path) -> None:
    """The scores are those of the same file with labels, and the truth is left out."""
    write_root(tmp_path / "whole.root", jetclass(10))
    with uproot.open(tmp_path / "whole.root") as file, uproot.recreate(tmp_path / "new.root") as new:
        truth_or_count = ("label_", "aux_", "npart")
        names = [branch.name for branch in file["tree"].branches if not branch.name.startswith(truth_or_count)]
        new.mktree("tree", file["tree"].arrays(names, library="ak", how=dict))
    tables = {}
    for name in ("whole", "new"):
        predict(jets_run, tmp_path / f"{name}.root", tmp_path / f"{name}.parquet", format="jetclass")
        tables[name] = pq.read_table(tmp_path / f"{name}.parquet")
    truth = {column.name for column in jets.SCHEMA if column.truth}
    assert tables["new"].column_names == [name for name in tables["whole"].column_names if name not in truth]
    for name in tables["new"].column_names[1:]:
        np.testing.assert_array_equal(tables["new"][name], tables["whole"][name])


def test_a_full_disk_is_told_and_what_was_there_stays(
    run: Path, toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def full(old: Path, new: Path) -> None:
        if Path(new).name in ("predictions.parquet", "metrics.json", "out.parquet"):
            raise OSError(errno.ENOSPC, "No space left on device", str(new))
        real(old, new)

    before = {path: path.read_bytes() for path in run.glob("*.*")}
    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(RunError, match=r"predictions\.parquet could not be written .*No space.*: free space"):
        evaluate(run)
    with pytest.raises(DataError, match=r"out\.parquet could not be written .*No space.*: free space"):
        predict(run, toys / "test", tmp_path / "out.parquet")
    assert {path: path.read_bytes() for path in run.glob("*.*")} == before
    assert not list(tmp_path.iterdir())


def test_the_command_line(jets_run: Path, tmp_path: Path) -> None:
    write_root(tmp_path / "new.root", jetclass(10))
    arguments = ["predict", str(jets_run), str(tmp_path / "new.root"), "--format", "jetclass"]
    arguments += ["--columns", "jet_pt, label"]
    result = CliRunner().invoke(cli.app, [*arguments, "--out", str(tmp_path / "s.parquet"), "--embeddings"])
    assert result.exit_code == 0, result.output
    assert "10 events in" in result.output
    assert pq.read_table(tmp_path / "s.parquet").column_names[:6] == [
        "file", "entry", "points", "jet_pt", "label", "emb_000",
    ]  # fmt: skip
    assert multiplet.predict is predict
