"""Gallery: the figures of a report, made from run folders: losses, rejections, confusion matrices, scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from multiplet.evaluation.folder import Folder
from multiplet.evaluation.page import Html, element, join, picture
from multiplet.evaluation.plots import Series, confusion_matrix, loss_curves, rejection_curves, score_histograms
from multiplet.evaluation.track_plots import Curve, binned_metrics
from multiplet.metrics import Rejection, rejection, two_class_score

MOST_CURVES = 10  # signal classes with rejection curves of their own
MOST_LINES = 10  # true classes in a score distribution
MOST_POINTS = 2000  # of a loss curve


def losses(folders: Sequence[Folder]) -> Html:
    """A figure a loss, all runs in each; a loss called like another with more words after it is drawn beside that."""
    lines = [line for folder in folders for kind in ("train", "validation") for line in folder.log[kind]]
    names = list(dict.fromkeys(name for line in lines for name in line["losses"]))
    families = {name: [other for other in names if other.startswith(f"{name}_")] for name in names}
    members = {other for others in families.values() for other in others}
    return gallery([_loss(folders, name, families[name]) for name in names if name not in members])


def _loss(folders: Sequence[Folder], name: str, others: Sequence[str]) -> Html:
    train, validation = (_series(folders, kind, [name, *others]) for kind in ("train", "validation"))
    last = [f"{run} ends at {values[-1]:.4g}" for run, (_, values) in validation.items()]
    alt = f"{name} against training steps." + (f" In validation {', '.join(last)}." if last else "")
    return picture(loss_curves(train, validation, _references(folders, name), name), alt)


def _series(folders: Sequence[Folder], kind: str, names: Sequence[str]) -> dict[str, Series]:
    """Steps and losses of the runs that have them, thinned to what a drawing can show."""
    series = {}
    for name in names:
        aside = name.removeprefix(names[0]).replace("_", " ")
        for folder in folders:
            step, loss = folder.losses(kind, name)
            every = 1 + len(step) // MOST_POINTS
            if len(step):
                series[folder.name + aside] = step[::every], loss[::every]
    return series


def _references(folders: Sequence[Folder], name: str) -> dict[str, float]:
    """Trivial values called "LOSS: what it is" belong to one loss, others to all."""
    found = {label: value for folder in folders for label, value in folder.references().items()}
    mine = {label: value for label, value in found.items() if label.startswith(f"{name}: ") or ": " not in label}
    return {label.removeprefix(f"{name}: "): value for label, value in mine.items()}


def classification(folders: Sequence[Folder]) -> Html:
    """Rejection curves of all runs, then each run's confusion matrix and scores; empty where no run has them."""
    pictures = [*_rejections(folders), *_confusions(folders), *_histograms(folders)]
    thinned = [f"{f.name}: every curve is drawn from {len(f.scores.label):,} of {f.scores.rows:,} {f.scores.counted}."
               for f in folders if f.scores and len(f.scores.label) < f.scores.rows]  # fmt: skip
    return join(gallery(pictures), *(element("p", text, class_="quiet") for text in thinned))


def _rejections(folders: Sequence[Folder]) -> Iterator[Html]:
    """None of points: they are not independent, and there are many; their confusion matrix says what there is."""
    folders = [folder for folder in folders if folder.scores and folder.scores.counted == "events"]
    classes = next((folder.scores.classes for folder in folders if folder.scores), ())
    background = _background(folders, classes)
    for signal in [name for name in classes if name != background][:MOST_CURVES]:
        curves = {folder.name: pair for folder in folders if (pair := _pair(folder, signal, background))}
        if curves:
            half = [f"{run} {_number(rejection(*pair, 0.5))}" for run, pair in curves.items()]
            alt = f"Rejection of {background} against efficiency for {signal}; at 50 % efficiency: {', '.join(half)}."
            yield picture(rejection_curves(curves, signal, background), alt)


def _background(folders: Sequence[Folder], classes: Sequence[str]) -> str:
    named = (folder.record["recipe"].get("objective", {}).get("background") for folder in folders)
    return next((name for name in named if name in classes), classes[0] if classes else "")


def _pair(folder: Folder, signal: str, background: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Two-class scores of signal and of background events; None where the run has not both."""
    held = folder.scores
    if held is None or signal not in held.classes or background not in held.classes:
        return None
    codes = held.classes.index(signal), held.classes.index(background)
    score, _ = two_class_score(held.scores, *codes)
    pair = score[held.label == codes[0]], score[held.label == codes[1]]
    return pair if all(map(len, pair)) else None


def _confusions(folders: Sequence[Folder]) -> Iterator[Html]:
    for folder in folders:
        if folder.metrics and (counted := folder.metrics.get("confusion")):
            classes, counts = [str(name) for name in counted["classes"]], np.asarray(counted["counts"])
            share = np.trace(counts) / max(counts.sum(), 1)
            rows = folder.scores.counted if folder.scores else "events"
            alt = f"Confusion matrix of {folder.name}: {share:.1%} of {counts.sum():,} {rows} are on the diagonal."
            yield picture(confusion_matrix(counts, classes), alt)


def _histograms(folders: Sequence[Folder]) -> Iterator[Html]:
    """The signal's score where there are two classes, the background's where there are more."""
    for folder in folders:
        if held := folder.scores:
            background = held.classes.index(_background([folder], held.classes))
            code = 1 - background if len(held.classes) == 2 else background
            columns = {name: held.scores[held.label == n, code] for n, name in enumerate(held.classes[:MOST_LINES])}
            name = held.classes[code]
            figure = score_histograms(columns, name, counted=held.counted)
            yield picture(figure, f"Score of {name} by true class, {folder.name}.")


def in_bins(folders: Sequence[Folder]) -> Html:
    """A figure a quantity that metrics were binned in, a panel a metric, all runs in each."""
    found: dict[str, dict[str, dict[str, Curve]]] = {}  # label of an axis → metric → run
    counts: dict[str, list[str]] = {}
    for folder in folders:
        for one in (folder.metrics or {}).get("binned", ()):
            values = [np.array(one["estimates"][key], float) for key in ("value", "low", "high")]
            found.setdefault(str(one["label"]), {}).setdefault(str(one["metric"]), {})[folder.name] = Curve(
                np.array(one["edges"], float), *values
            )
            held = f"{folder.name} has {sum(one['counts']):,} {one['counted']} and {one['outside']:,} beyond the edges"
            counts.setdefault(str(one["label"]), []).append(held)
    return gallery([
        picture(binned_metrics(curves, label), f"{' and '.join(curves)} against {label}: {'; '.join(counts[label])}.")
        for label, curves in found.items()
    ])  # fmt: skip


def gallery(pictures: Sequence[Html]) -> Html:
    """Pictures side by side where there is room."""
    return element("div", *pictures, class_="figures") if pictures else Html("")


def _number(found: Rejection) -> str:
    return ("more than " if found.is_bound else "") + f"{found.value:,.{0 if found.value >= 100 else 1}f}"
