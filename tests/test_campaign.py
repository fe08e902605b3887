"""A study trains each cell once, goes on where it stopped, and compares cells that differ by their seed alone."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests import tiny
from tests.toys import write_toys

from multiplet.backbones.nothing import Nothing
from multiplet.campaign import study
from multiplet.data.events import Events
from multiplet.embedding import Fourier, Learned
from multiplet.errors import DataError, RecipeError, RunError
from multiplet.evaluation.study import WAY_NAMES, _way
from multiplet.objectives.masked import Masked
from multiplet.optim import AdamW, require_rate
from multiplet.parametrisation import MuP, Standard, UnitMuP
from multiplet.recipe import Recipe
from multiplet.recipes import masked_diffusion, rate_transfer, tpc_controls
from multiplet.recipes.find import make_recipe, make_study
from multiplet.spec import differences, to_dict
from multiplet.training import train
from multiplet.transfer import FineTune, Frozen, FrozenRandom, Scratch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toys(tmp_path_factory.mktemp("toys"))


def cells(data: Path) -> dict[str, Recipe]:
    made = {
        f"{name}-s{seed}": replace(tiny.labels(str(data), 1), seed=seed, data=Events(str(data), 100 * seed, 100))
        for name in ("short", "long")
        for seed in range(2)
    }
    return {name: replace(one, train=tiny.train(2 if name.startswith("long") else 1)) for name, one in made.items()}


def test_a_study_goes_on_and_compares(data: Path, tmp_path: Path) -> None:
    recipes = cells(data)
    first = study({"": recipes}, tmp_path, "short-*")
    assert first is not None
    assert [group.name for (groups,) in [first.questions[0].tables] for group in groups] == ["short"]
    before = {name: (tmp_path / name / "metrics.json").stat().st_mtime_ns for name in recipes if name[:5] == "short"}
    second = study({"": recipes}, tmp_path)
    assert second is not None
    assert {name: (tmp_path / name / "metrics.json").stat().st_mtime_ns for name in before} == before
    (groups,) = second.questions[0].tables
    assert [(group.name, len(group.cells)) for group in groups] == [("short", 2), ("long", 2)]
    assert "± " in groups[0].cell("accuracy")
    assert "| long | 2 |" in (tmp_path / "study.md").read_text()
    assert "<table" in (tmp_path / "study.html").read_text()


def test_what_is_no_study_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no cell fits 'shrt\*'"):
        study({"": cells(data)}, tmp_path, "shrt*")
    with pytest.raises(RecipeError, match="is no study: it gives a Recipe"):
        make_study("maskdiff", tmp_path)
    with pytest.raises(RecipeError, match="masked_diffusion is a study of many recipes, not one"):
        make_recipe("masked_diffusion")
    file = tmp_path / "mine.py"
    file.write_text("from tests import tiny\ndef many(data: str):\n    return {'a': tiny.labels(data)}\n")
    mine = f"{file}:many"
    with pytest.raises(RecipeError, match="is a study of many recipes, not one"):
        make_recipe(mine, ["data=here"])
    assert {recipe.seed for recipe in make_study(mine, tmp_path, ["data=here", "seed=3"])[""].values()} == {3}


def test_what_cannot_be_had_is_said_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    made = cells(data)
    with pytest.raises(DataError, match=r"cell last: events 500 to 900 asked for, but .* no cell was trained"):
        study({"": made | {"last": replace(made["long-s0"], data=Events(str(data), 500, 400))}}, tmp_path)
    carried = {"again": replace(made["short-s0"], adapt=FineTune(str(tmp_path / "long-s0")))}
    with pytest.raises(RunError, match="cell again carries what cell long-s0 learns, which has done 0 of 2 steps"):
        study({"": made | carried}, tmp_path, "again")
    assert not list(tmp_path.iterdir())
    half = replace(made["long-s0"], train=replace(made["long-s0"].train, steps=1))
    train(half, tmp_path / "long-s0", progress=False)
    with pytest.raises(RunError, match="done 1 of 2 steps: let that end first"):
        study({"": made | carried}, tmp_path, "again")


def test_what_started_from_another_pretraining_is_not_compared(data: Path, tmp_path: Path) -> None:
    made = cells(data)
    mine = {"first": made["short-s0"], "then": replace(made["short-s1"], adapt=FineTune(str(tmp_path / "first")))}
    study({"": mine}, tmp_path)
    study({"": mine}, tmp_path)
    shutil.rmtree(tmp_path / "first")
    with pytest.raises(RunError, match=r"started from .*first step 1 .*, which is now .*: remove .*then to start anew"):
        study({"": mine | {"first": replace(mine["first"], seed=5)}}, tmp_path)
    shutil.rmtree(tmp_path / "first" / "checkpoints")  # as one may, when what was carried from it is done
    study({"": mine}, tmp_path, "then")


def test_questions_share_cells_and_are_compared_apart(data: Path, tmp_path: Path) -> None:
    made = cells(data)
    tuned = {name: replace(one, adapt=FineTune(str(tmp_path / "short-s0"))) for name, one in made.items()}
    labels = {f"tuned-{name}": one for name, one in tuned.items() if name.startswith("long")}
    scratch = {name: one for name, one in made.items() if name.startswith("short")}
    twice = labels | {name.replace("tuned", "again"): replace(one, optim=AdamW()) for name, one in labels.items()}
    result = study({"First": scratch | labels, "Second": scratch | twice}, tmp_path)
    assert result is not None
    assert [question.title for question in result.questions] == ["First", "Second"]
    assert [[group.name for group in question.tables[0]] for question in result.questions] == [
        ["short", "tuned-long"],
        ["short", "tuned-long", "again-long"],
    ]
    (pair,) = result.questions[0].pairs
    assert str(pair).startswith("100 labels, accuracy fine-tuned minus from scratch: ")
    assert [str(pair).split(":")[0] for pair in result.questions[1].pairs] == [
        "100 labels, accuracy short minus tuned-long",
        "100 labels, accuracy short minus again-long",
        "100 labels, accuracy tuned-long minus again-long",
    ]
    assert len(result.questions[1].figures) == 1
    assert "## Second" in (tmp_path / "study.md").read_text()
    page = (tmp_path / "study.html").read_text()
    value = str(pair).split(": ")[1].split(" at ")[0]
    assert page.count(value) >= 1
    assert (f"<strong>{value}</strong>" in page) == pair.difference.significant
    with pytest.raises(RecipeError, match="two recipes of this study are called 'short-s0'"):
        study({"a": scratch, "b": {"short-s0": made["long-s0"]}}, tmp_path / "other")


def test_a_study_that_asks_for_it_is_told_where_its_runs_are(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from tests import tiny\ndef many(out: str, data: str): return {out: {'a': tiny.labels(data)}}\n")
    assert list(make_study(f"{file}:many", Path("runs/here"), ["data=there"])) == ["runs/here"]


def test_variants_of_pretraining_differ_by_one_thing_and_are_carried() -> None:
    questions = masked_diffusion("runs/md", "data/jets", "data/tops", seeds=2)
    every = {name: recipe for question in questions.values() for name, recipe in question.items()}
    base, first = every["diffusion"], questions["Labels"]
    assert next(iter(first)) == "diffusion"
    for name, recipe in every.items():
        way, _, rest = name.partition("-")
        if way not in ("tuned", "frozen", "random", "scratch"):
            assert isinstance(recipe.objective, Masked)
            changed = {line.split(":")[0].split(".")[0] for line in differences(to_dict(base), to_dict(recipe))}
            assert changed <= {"represent", "objective", "encoder"}, name
            continue
        variant, count, seed = rest.rsplit("-", 2)
        carried = every[variant.removesuffix("-two")]
        assert (recipe.represent, recipe.encoder) == (carried.represent, carried.encoder), name
        folder = "data/tops" if "-two-" in name else "data/jets"
        assert recipe.data == Events(folder, int(seed[1:]) * int(count), int(count))
        run = f"runs/md/{variant.removesuffix('-two')}"
        adapts = {"tuned": FineTune(run), "frozen": Frozen(run), "random": FrozenRandom(run), "scratch": Scratch()}
        assert recipe.adapt == adapts[way]
        assert recipe.train.steps == max(int(count) // 16, 100)
        compared = every.get(f"scratch-{rest}", every[f"tuned-{rest}"])
        assert recipe.train == compared.train
        assert recipe.seed == compared.seed == int(seed[1:])
        assert recipe.optim == replace(compared.optim, rate=0.03 if way in ("frozen", "random") else 0.003)


def test_each_seed_may_carry_a_pretraining_of_its_own() -> None:
    once, each = (
        {
            name: one
            for cells in masked_diffusion("md", seeds=2, pretrain_each=flag).values()
            for name, one in cells.items()
        }
        for flag in (False, True)
    )
    for name, recipe in once.items():
        source = getattr(recipe.adapt, "run", "")
        if not source and isinstance(recipe.objective, Masked):
            assert name not in each
            for seed in range(2):
                assert each[f"{name}-s{seed}"] == replace(recipe, seed=seed)
        elif not source:
            assert each[name] == recipe
        else:
            run = f"{source}-s{recipe.seed}"
            assert each[name] == replace(recipe, adapt=replace(recipe.adapt, run=run))
            assert each[Path(run).name].seed == recipe.seed


def test_runs_that_carry_one_pretraining_each_are_one_row(data: Path, tmp_path: Path) -> None:
    made = cells(data)
    first = {f"first-s{seed}": made[f"short-s{seed}"] for seed in range(2)}
    then = {
        f"then-s{seed}": replace(made[f"long-s{seed}"], adapt=FineTune(str(tmp_path / f"first-s{seed}")))
        for seed in range(2)
    }
    other = {"then-other": replace(then["then-s1"], adapt=FineTune(str(tmp_path / "long-s0")))}
    other["then-crossed"] = replace(then["then-s0"], adapt=then["then-s1"].adapt)
    result = study({"": first | {"long-s0": made["long-s0"]} | then | other}, tmp_path)
    assert result is not None
    assert [[group.cells for group in groups] for groups in result.questions[0].tables] == [
        [("first-s0", "first-s1"), ("long-s0",), ("then-s0", "then-s1"), ("then-other",), ("then-crossed",)]
    ]


def test_controls_see_the_same_labels_and_steps() -> None:
    made = tpc_controls("", labels=(30, 90), seeds=2, skip=5, encoders=("nothing", "features"))
    assert len(made) == 3 * 2 * 2 * 2
    for name, recipe in made.items():
        task, way, labels, seed = name.split("-")
        assert isinstance(recipe.encoder.backbone, Nothing)
        assert isinstance(recipe.encoder.features, Learned if way == "features" else Fourier)
        assert _way(recipe) == WAY_NAMES["Features" if way == "features" else "Nothing"]
        count, number = int(labels), int(seed[1:])
        assert recipe.data == Events("data/tpc", 5 + count * number, count)
        assert recipe.train.steps == (400 if task == "tracks" else 200)
        assert recipe.objective.width == 64
    with pytest.raises(RecipeError, match="encoder=features: one linear map embeds them as it is"):
        make_recipe("jet_classes", ["encoder=features"])
    with pytest.raises(RecipeError, match="did you mean 'frozen'"):
        tpc_controls(encoders=("frosen",))


def test_rates_are_compared_on_equal_terms() -> None:
    """Cells of one width and rate differ by the parametrisation alone; µP's base is the narrowest; nothing clips."""
    made = rate_transfer("maskdiff", widths=(64, 128), parametrisations=("mup", "umup", "standard"), depth=3, seeds=2)
    assert len(made) == 3 * 2 * 6 * 2
    for name, recipe in made.items():
        kind, width, rate, seed = name.rsplit("-", 3)
        assert recipe.encoder.param == {"mup": MuP(64, 3), "umup": UnitMuP(), "standard": Standard()}[kind]
        assert (recipe.encoder.backbone.width, recipe.encoder.backbone.depth) == (int(width), 3)
        assert (recipe.optim.rate, recipe.seed, recipe.train.clip) == (float(rate), int(seed[1:]), None)
        assert recipe.objective == made["umup-64-1-s0"].objective
        require_rate(recipe.optim, recipe.encoder.param)
    assert {recipe.data for recipe in made.values()} == {Events("data/jets")}
    assert {recipe.data for recipe in rate_transfer().values()} == {Events("data/tpc")}
    for wrong, message in (
        ({"recipe": "maskdif"}, "did you mean 'maskdiff'"),
        ({"parametrisations": ("up",)}, "there is no 'up'"),
        ({"depth": 0}, "at least 1"),
    ):
        with pytest.raises(RecipeError, match=message):
            rate_transfer(**wrong)


def test_a_rate_of_another_parametrisation_stops_a_study_before_it_trains(data: Path, tmp_path: Path) -> None:
    good = tiny.labels(str(data))
    bad = replace(good, encoder=replace(good.encoder, param=UnitMuP()))
    with pytest.raises(RecipeError, match=r"cell bad: optim.rate is .*no cell was trained"):
        study({"": {"good": good, "bad": bad}}, tmp_path / "out")
    assert not (tmp_path / "out" / "good").exists()
