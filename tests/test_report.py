"""Reports of synthetic run folders: what the page says, that it is inert, and that a browser shows it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from multiplet.errors import CorruptError, RunError
from multiplet.evaluation.report import flatten, write_report
from multiplet.intervals import bootstrap
from multiplet.metrics import accuracy, confusion

CLASSES = ("QCD", "Hbb", "Tbqq")
EVIL = "<script>alert(1)</script>"


def recipe(width: int = 128, label: str = "label") -> dict[str, Any]:
    backbone = {"is": "Transformer", "width": width, "depth": 4}
    return {
        "is": "Recipe",
        "data": {"is": "Events", "path": "data/jets"},
        "encoder": {"is": "Encode", "backbone": backbone, "param": {"is": "MuP", "base_width": 128}},
        "objective": {"is": "Classify", "label": label},
        "optim": {"is": "AdamW", "rate": 1e-3},
        "train": {"is": "Train", "steps": 2000, "batches": {"is": "Batches", "size": 256}},
        "seed": 0,
    }


def write_run(
    path: Path, name: str = "maskdiff", classes: tuple[str, ...] = CLASSES, width: int = 128, quality: float = 1.5
) -> Path:
    """A run folder as training leaves it: recipe.json and log.jsonl."""
    path.mkdir(parents=True)
    record = {
        "format": 1,
        "name": name,
        "command": f"multiplet train jet_classes width={width}",
        "recipe": recipe(width),
    }
    record["versions"] = {"multiplet": "0.1.0", "torch": "2.13.0"}
    (path / "recipe.json").write_text(json.dumps(record))
    rng = np.random.default_rng(width)
    lines = [{"kind": "start", "parameters": {"encoder": 1_234_567, "objective": 4321, "reference": 0}}]
    for step in range(10, 2001, 10):
        loss = float((3 - quality) * (0.4 + np.exp(-step / 300)) * np.exp(rng.normal(0, 0.05)))
        time = {"seconds": 0.5, "events_per_second": 5120.0, "data_wait_share": 0.01}
        lines.append({"kind": "train", "step": step, "epoch": 0, "losses": {"cross_entropy": loss}, "time": time})
        if step % 250 == 0:
            held_out = {"cross_entropy": loss * 1.03}
            references = {"class frequencies": float(np.log(len(classes)))}
            lines.append({"kind": "validation", "step": step, "losses": held_out, "references": references})
    lines.append({"kind": "end", "step": 2000})
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def evaluate(path: Path, classes: tuple[str, ...] = CLASSES, quality: float = 1.5, events: int = 3000) -> Path:
    """What evaluation adds: metrics.json and predictions.parquet."""
    rng = np.random.default_rng(1)
    label = rng.integers(len(classes), size=events)
    scores = np.exp(rng.normal(0, 1, (events, len(classes))) + quality * np.eye(len(classes))[label])
    scores = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    columns = {"index": np.arange(events), "label": label}
    columns |= {f"score_{name}": scores[:, n] for n, name in enumerate(classes)}
    pq.write_table(pa.table(columns), path / "predictions.parquet")
    estimate = bootstrap(accuracy, label, scores)
    measured = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "is_bound": False, "about": "68 %"}
    bound = {"value": 1000.0, "low": 1000.0, "high": 1000.0, "is_bound": True, "about": "at 30 % efficiency"}
    metrics = {
        "split": "test", "events": events, "command": f"multiplet evaluate {path.name}",
        "cost": {"seconds": 12.0, "device": "cpu"},
        "metrics": {"accuracy": measured, "rejection Tbqq": bound},
        "confusion": {"classes": list(classes), "counts": confusion(label, scores, len(classes)).tolist()},
    }  # fmt: skip
    (path / "metrics.json").write_text(json.dumps(metrics))
    return path


class Reader(HTMLParser):
    """Tags and texts of a page; raises where tags are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.text += " "

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return evaluate(write_run(tmp_path / "first"))


# --- what the page says -----------------------------------------------------------------------------------------------


def test_one_run_holds_every_section(run: Path) -> None:
    page = write_report([run])
    assert page == run / "report.html"
    reader = Reader(page.read_text())
    for heading in ("Results", "Runs", "Training", "Classification", "How to reproduce", "Recipes"):
        assert heading in reader.text
        assert {"id": heading.lower().replace(" ", "-")} in reader.all("section")
    metrics = json.loads((run / "metrics.json").read_text())
    assert f"{metrics['metrics']['accuracy']['value']:.4f}" in reader.text
    assert "> 1,000" in re.sub(r"\s+", " ", reader.text)
    assert "encoder 1,234,567, objective 4,321" in reader.text
    assert "2,000 steps in 1.67 min, 5,120 events/s" in reader.text
    assert "12 s on cpu" in reader.text
    assert "multiplet train jet_classes width=128\nmultiplet evaluate first" in reader.text
    assert "encoder.backbone.width" in reader.text
    assert "Transformer(width=128, depth=4)" in reader.text
    assert "class frequencies" not in reader.text  # it is drawn in the figure
    assert not list(run.glob(".*"))  # nothing of an unfinished page is left


def test_the_page_is_accessible_and_self_contained(run: Path) -> None:
    text = write_report([run], figures={"A top jet": Figure()}).read_text()
    reader = Reader(text)
    images = reader.all("img")
    assert len(images) == 1 + 2 + 1 + 1 + 1  # losses, rejections, confusion, scores, the given figure
    assert all(image["alt"] and image["width"] and image["height"] for image in images)
    assert all(
        (image["src"] or "").startswith(("data:image/svg+xml;base64,", "data:image/png;base64,")) for image in images
    )
    assert all(cell["scope"] in ("col", "row") for cell in reader.all("th"))
    assert [attributes["lang"] for attributes in reader.all("html")] == ["en"]
    assert {link["href"] for link in reader.all("a")} == {f"#{s['id']}" for s in reader.all("section")}
    assert not reader.all("script")
    assert not reader.all("link")
    assert "http://" not in text
    assert "https://" not in text
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in reader.all("meta"))


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    runs = [evaluate(write_run(tmp_path / name, name, width=w, quality=q), quality=q) for name, w, q in
            (("fine-tuned", 128, 2.0), ("scratch", 64, 1.0))]  # fmt: skip
    runs.append(write_run(tmp_path / "pretrained", "pretrained", width=256))
    page = write_report(runs, tmp_path / "all.html")
    reader = Reader(page.read_text())
    assert page == tmp_path / "all.html"
    assert "fine-tuned · scratch · pretrained" in reader.text
    assert "Fields in which the recipes differ" in reader.text
    assert "encoder.backbone.width 128 64 256" in re.sub(r"\s+", " ", reader.text)
    alts = [image["alt"] or "" for image in reader.all("img")]
    assert sum("Confusion matrix of" in alt for alt in alts) == 2
    (top,) = [alt for alt in alts if "Rejection of QCD against efficiency for Tbqq" in alt]
    better, worse = (float(re.search(rf"{name} (?:more than )?([\d,.]+\d)", top)[1].replace(",", ""))
                     for name in ("fine-tuned", "scratch"))  # fmt: skip
    assert better > worse
    assert "pretrained has no metrics.json and no predictions.parquet" in reader.text
    assert f"multiplet evaluate {tmp_path / 'pretrained'}" in reader.text


@pytest.mark.slow
def test_ten_classes_and_five_runs_stay_small(tmp_path: Path) -> None:
    classes = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
    runs = [evaluate(write_run(tmp_path / str(n), f"run {n}", classes), classes, 1.0 + n / 4) for n in range(5)]
    assert write_report(runs).stat().st_size < 3_000_000


def test_the_same_folder_gives_the_same_bytes(run: Path) -> None:
    first = write_report([run], run / "a.html").read_bytes()
    assert write_report([run], run / "b.html").read_bytes() == first


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "seed-0"), write_run(tmp_path / "seed-1")]
    assert "seed-0 · seed-1" in Reader(write_report(runs).read_text()).text
    deeper = [write_run(tmp_path / "x" / "run"), write_run(tmp_path / "y" / "run")]
    assert str(tmp_path / "x" / "run") in Reader(write_report(deeper).read_text()).text


def test_a_reference_loss_and_trivial_values_go_to_the_figure_they_belong_to(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    references = {"noise: predicting nothing": 1.0, "other: something else": 7.0}
    losses = {"noise": 0.5, "noise_without_context": 0.7, "other": 3.0}
    lines = [{"kind": "validation", "step": s, "losses": losses, "references": references} for s in (100, 200)]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    alts = [image["alt"] for image in Reader(write_report([run]).read_text()).all("img")]
    assert alts == [
        "noise against training steps. In validation maskdiff ends at 0.5, maskdiff without context ends at 0.7.",
        "other against training steps. In validation maskdiff ends at 3.",
    ]


def test_flatten_names_every_field() -> None:
    assert flatten({"features": [{"is": "Feature", "of": "pt"}], "betas": [0.9, 0.95]}) == {
        "features.0": "Feature", "features.0.of": "pt", "betas": [0.9, 0.95],
    }  # fmt: skip
    assert flatten(recipe())["encoder.backbone"] == "Transformer"
    assert flatten(recipe())["train.batches.size"] == 256
    assert "" not in flatten(recipe())


def test_parts_of_another_kind_are_told_apart_by_kind_alone(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", "a"), write_run(tmp_path / "b", "b")]
    record = json.loads((runs[1] / "recipe.json").read_text())
    record["recipe"]["optim"] = {"is": "Lion", "rate": 1e-4, "features": [{"is": "Feature"}] * 20, "none": None}
    (runs[1] / "recipe.json").write_text(json.dumps(record))
    text = re.sub(r"\s+", " ", Reader(write_report(runs).read_text()).text)
    assert "Fields in which the recipes differ field a b optim AdamW Lion Training" in text
    assert "Lion(rate=0.0001, features=20 × Feature)" in text


# --- what others may have put in the files ----------------------------------------------------------------------------


def test_hostile_names_are_inert(tmp_path: Path) -> None:
    classes = ("QCD", EVIL)
    run = evaluate(write_run(tmp_path / "run", EVIL, classes), classes)
    record = json.loads((run / "recipe.json").read_text())
    record["command"] = f'multiplet train "{EVIL}'
    record["versions"] = {EVIL: "'\"><img src=x onerror=alert(1)>"}
    record["recipe"][EVIL] = {"is": EVIL, '"onclick="alert(1)': EVIL}
    (run / "recipe.json").write_text(json.dumps(record))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["metrics"][EVIL] = {"value": 1.0, "low": 0.9, "high": 1.1, "is_bound": False, "about": EVIL}
    (run / "metrics.json").write_text(json.dumps(metrics))
    log = {"kind": "validation", "step": 1, "losses": {EVIL: 1.0}, "references": {f"{EVIL}: $x": 1.0}}
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps(log) + "\n")
    text = write_report([run], figures={f'"{EVIL}': Figure()}).read_text()
    reader = Reader(text)
    assert EVIL not in text
    assert EVIL in reader.text
    assert not reader.all("script")
    assert {name for _, attributes in reader.tags for name in attributes} <= {
        "lang", "charset", "name", "content", "http-equiv", "class", "id", "href", "src", "alt", "width", "height",
        "scope", "tabindex", "aria-label",
    }  # fmt: skip
    for image in reader.all("img"):
        kind, data = (image["src"] or "").split(";base64,")
        assert b"<script" not in base64.b64decode(data) or "png" in kind


def test_names_that_mean_something_to_matplotlib_are_drawn_as_they_are(tmp_path: Path) -> None:
    classes = ("$QCD", "_$x^{", "a" * 200)
    runs = [evaluate(write_run(tmp_path / str(n), name, classes), classes) for n, name in enumerate((r"$\bad", "_y"))]
    assert len(Reader(write_report(runs).read_text()).all("img")) == 1 + 2 + 2 + 2


# --- what may be missing or damaged -----------------------------------------------------------------------------------


def test_a_pretraining_run_says_what_is_missing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "my run")
    reader = Reader(write_report([run]).read_text())
    assert "not evaluated yet" in reader.text
    assert f"multiplet evaluate '{run}'" in reader.text
    assert "Classification" not in reader.text


def test_a_run_that_only_began_is_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "log.jsonl").unlink()
    assert not Reader(write_report([run]).read_text()).all("img")


def test_predictions_that_are_no_classes_are_no_error(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    pq.write_table(pa.table({"index": np.arange(5), "noise": np.ones(5)}), run / "predictions.parquet")
    assert "Classification" not in Reader(write_report([run]).read_text()).text


def test_unlabelled_events_and_other_label_columns(tmp_path: Path) -> None:
    run = evaluate(write_run(tmp_path / "run"))
    record = json.loads((run / "recipe.json").read_text())
    record["recipe"] = recipe(label="flavour")
    (run / "recipe.json").write_text(json.dumps(record))
    table = pq.read_table(run / "predictions.parquet")
    labels = table["label"].to_numpy().copy()
    labels[:1000] = -1
    table = table.drop_columns("label").append_column("flavour", pa.array(labels))
    pq.write_table(table, run / "predictions.parquet")
    assert len(Reader(write_report([run]).read_text()).all("img")) == 1 + 2 + 1 + 1


def test_a_line_cut_short_by_a_kill_is_left_out_and_damage_is_named(run: Path) -> None:
    whole = (run / "log.jsonl").read_text()
    (run / "log.jsonl").write_text(whole + '{"kind": "train", "st')
    write_report([run])
    (run / "log.jsonl").write_text("no json\n" + whole)
    with pytest.raises(CorruptError, match=r"log\.jsonl is damaged in line 1"):
        write_report([run])


@pytest.mark.parametrize("file", ["recipe.json", "metrics.json", "predictions.parquet"])
def test_damaged_files_are_named(run: Path, file: str) -> None:
    (run / file).write_text("[]")
    with pytest.raises(CorruptError, match=re.escape(file)):
        write_report([run])


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no recipe\.json"):
        write_report([tmp_path])
    with pytest.raises(RunError, match="one run folder at least"):
        write_report([])


# --- in a browser -----------------------------------------------------------------------------------------------------


def browse(page: Path, profile: Path, *wanted: str) -> subprocess.CompletedProcess[str]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the PATH to open the page in")
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    quiet += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
    command = [chromium, *quiet, "--virtual-time-budget=3000", *wanted, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.slow
def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    classes = ("QCD", EVIL)
    page = write_report([evaluate(write_run(tmp_path / "run", EVIL, classes), classes)], figures={"A jet": Figure()})
    dom = browse(page, tmp_path / "profile", "--dump-dom").stdout
    assert "Confusion matrix of &lt;script&gt;alert(1)&lt;/script&gt;" in dom
    reader = Reader(dom)
    assert len(reader.all("img")) == 1 + 1 + 1 + 1 + 1
    assert not reader.all("script")


@pytest.mark.slow
def test_a_browser_draws_the_figures(tmp_path: Path) -> None:
    page = write_report([evaluate(write_run(tmp_path / "run"))])
    shot = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={shot}", "--window-size=1000,3200", "--hide-scrollbars")
    from matplotlib.image import imread

    pixels = imread(shot)[..., :3]
    assert pixels.shape[:2] == (3200, 1000)
    blue = np.abs(pixels - np.array([0x3F, 0x90, 0xDA]) / 255).max(-1) < 0.02  # the first colour of every figure
    assert blue[: len(blue) // 2].sum() > 300
    assert blue[len(blue) // 2 :].sum() > 300
