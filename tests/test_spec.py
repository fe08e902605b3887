"""Recipes as dictionaries: what goes out comes back, what is wrong is named, and nothing else is ever made."""

from __future__ import annotations

import json
import pstats
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from multiplet.errors import RecipeError
from multiplet.spec import KIND, did_you_mean, differences, from_dict, override, parse, to_dict


@dataclass(frozen=True)
class Adam:
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)


@dataclass(frozen=True)
class Lion:
    rate: float = 1e-4
    signed: bool = True


@dataclass(frozen=True)
class Net:
    width: int = 8
    depth: int = 2
    act: Literal["relu", "gelu"] = "relu"
    dropout: float | None = None

    def __post_init__(self) -> None:
        if self.depth > self.width:
            raise RecipeError(f"Net.depth is {self.depth}; it must not exceed width, {self.width}")


@dataclass(frozen=True)
class Carried:
    run: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    title: str
    net: Net = field(default_factory=Net)
    optim: Adam | Lion = field(default_factory=Adam)
    start: Optional[Carried] = None  # noqa: UP045  # the older way to say it
    stages: tuple[Adam | Lion, ...] = ()
    named: Mapping[str, Carried] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    grid: tuple[tuple[int, ...], ...] = ()
    place: tuple[int, str] | None = None
    code: int | str = 0
    quick: bool = False
    parts: int = field(default=0, init=False)  # derived, not said

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", len(self.stages))


texts = st.text(max_size=5)
numbers = st.floats(allow_nan=False, allow_infinity=False)
optims = st.builds(Adam, numbers, st.tuples(numbers, numbers)) | st.builds(Lion, numbers, st.booleans())
carried = st.builds(Carried, texts, st.lists(texts, max_size=2).map(tuple))
keys = texts.filter(lambda key: key != KIND)
studies = st.builds(
    Study,
    title=texts,
    net=st.builds(
        Net, st.integers(9, 2**70), st.integers(-5, 9), st.sampled_from(["relu", "gelu"]), st.none() | numbers
    ),
    optim=optims,
    start=st.none() | carried,
    stages=st.lists(optims, max_size=2).map(tuple),
    named=st.dictionaries(keys, carried, max_size=2),
    weights=st.dictionaries(keys, numbers, max_size=2),
    grid=st.lists(st.lists(st.integers(), max_size=2).map(tuple), max_size=2).map(tuple),
    place=st.none() | st.tuples(st.integers(), texts),
    code=st.integers() | texts,
    quick=st.booleans(),
)
STUDY = Study("a", stages=(Lion(), Adam()), named={"x": Carried("r")}, weights={"x": 2.0}, place=(3, "b"))


# --- there and back ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(studies)
def test_what_is_written_as_json_is_read_back_equal(study: Study) -> None:
    again = from_dict(Study, json.loads(json.dumps(to_dict(study), allow_nan=False)))
    assert again == study
    assert to_dict(again) == to_dict(study)


def test_a_dictionary_names_classes_and_leaves_out_what_is_derived() -> None:
    assert to_dict(Study("a", start=Carried("r", ("x", "y")))) == {
        "is": "Study", "title": "a", "net": {"is": "Net", "width": 8, "depth": 2, "act": "relu", "dropout": None},
        "optim": {"is": "Adam", "rate": 1e-3, "betas": [0.9, 0.95]},
        "start": {"is": "Carried", "run": "r", "parts": ["x", "y"]}, "stages": [], "named": {}, "weights": {},
        "grid": [], "place": None, "code": 0, "quick": False,
    }  # fmt: skip


def test_left_out_fields_take_their_defaults() -> None:
    assert from_dict(Study, {"is": "Study", "title": "a", "net": {"is": "Net", "width": 9}}) == Study("a", Net(9))


def test_an_integer_serves_as_a_float_and_becomes_one() -> None:
    rate = from_dict(Adam, {"is": "Adam", "rate": 1}).rate
    assert (rate, type(rate)) == (1.0, float)


@pytest.mark.parametrize(
    ("study", "path"),
    [
        (replace(STUDY, stages=[Adam()]), "Study.stages is [Adam("),
        (replace(STUDY, weights={1: 2.0}), "Study.weights is {1: 2.0}"),
        (replace(STUDY, weights={"is": 2.0}), "Study.weights is {'is': 2.0}"),
        (replace(STUDY, optim=Adam), "Study.optim is <class"),
        (replace(STUDY, optim=Adam(float("nan"))), "Study.optim.rate is nan"),
        (replace(STUDY, stages=(Adam(), Adam(betas=(float("inf"), 0)))), "Study.stages[1].betas[0] is inf"),
        (replace(STUDY, named={"x": Carried({1})}), "Study.named.x.run is {1}"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(study: Study, path: str) -> None:
    with pytest.raises(RecipeError) as caught:
        to_dict(study)
    assert str(caught.value).startswith(path)
    assert "a recipe holds finite numbers, strings, tuples" in str(caught.value)


# --- what is wrong is named -------------------------------------------------------------------------------------------


def faults(kind: type, value: Any, known: tuple[type, ...] = ()) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        from_dict(kind, value, known)
    return str(caught.value).split("; ")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"titel": "b"}, "Study.titel does not exist (did you mean 'title'?)"),
        ({"parts": 2}, "Study.parts does not exist"),
        ({"net": {"is": "Nett"}}, "Study.net is a 'Nett', which is not known here (did you mean 'Net'?)"),
        ({"net": {"width": 3}}, "Study.net is {'width': 3}, which is not Net"),
        ({"net": {"is": "Net", "width": 8.0}}, "Study.net.width is 8.0, which is not int"),
        ({"net": {"is": "Net", "width": True}}, "Study.net.width is True, which is not int"),
        ({"net": {"is": "Net", "act": "tanh"}}, "Study.net.act is 'tanh', which is not 'relu' or 'gelu'"),
        ({"net": {"is": "Net", "dropout": "x"}}, "Study.net.dropout is 'x', which is not float or None"),
        ({"net": {"is": "Net", "depth": 9}}, "Study.net: Net.depth is 9; it must not exceed width, 8"),
        ({"optim": {"is": "Adam", "rate": float("inf")}}, "Study.optim.rate is inf, which is not float"),
        ({"optim": {"is": "Adam", "rate": 10**400}}, "Study.optim.rate is 1000"),
        ({"optim": {"is": "Adam", "rate": False}}, "Study.optim.rate is False, which is not float"),
        ({"optim": {"is": "Adam", "betas": [1.0]}}, "Study.optim.betas is [1.0], which is not tuple[float, float]"),
        ({"optim": {"is": ["Adam"]}}, "Study.optim is a \"['Adam']\", which is not known here (did you mean 'Adam'?)"),
        ({"start": {"is": "Carried"}}, "Study.start.run is missing"),
        ({"stages": [{"is": "Lion"}, 5]}, "Study.stages[1] is 5, which is not Adam or Lion"),
        ({"stages": {"is": "Lion"}}, "Study.stages is a 'Lion', which is not known here (allowed: nothing)"),
        ({"grid": [[1], [2, "x"]]}, "Study.grid[1][1] is 'x', which is not int"),
        ({"named": {"x": 5}}, "Study.named.x is 5, which is not Carried"),
        ({"named": []}, "Study.named is [], which is not"),
        ({"weights": {"x": None}}, "Study.weights.x is None, which is not float"),
        ({"place": [3, 4]}, "Study.place[1] is 4, which is not str"),
        ({"code": 1.5}, "Study.code is 1.5, which is not int or str"),
        ({"quick": 1}, "Study.quick is 1, which is not bool"),
        ({"title": None}, "Study.title is None, which is not str"),
    ],
)
def test_each_fault_is_named_by_its_path(change: dict[str, Any], fault: str) -> None:
    found = faults(Study, {"is": "Study", "title": "a", **change})
    assert "; ".join(found).startswith(fault)


def test_all_faults_are_named_at_once_in_the_order_of_the_file() -> None:
    value = {"is": "Study", "zz": 0, "net": {"is": "Net", "width": "a", "dept": 1}, "quick": 2, "aa": 0}
    assert [fault.split(" ")[0] for fault in faults(Study, value)] == [
        "Study.zz", "Study.aa", "Study.title", "Study.net.dept", "Study.net.width", "Study.quick"
    ]  # fmt: skip


def test_a_long_value_is_cut_in_the_message() -> None:
    assert max(map(len, faults(Study, {"is": "Study", "title": list(range(1000))}))) < 150


# --- only classes that are annotated or passed in ---------------------------------------------------------------------

exploded: list[str] = []


@dataclass(frozen=True)
class Bomb:
    name: str = ""

    def __post_init__(self) -> None:
        exploded.append(self.name)


STRANGERS = ["Bomb", "test_spec.Bomb", "os.system", "builtins.eval", "StatsProfile", "pstats.StatsProfile", ""]


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("place", ["optim", "title", "named", "start"])
def test_a_dictionary_cannot_name_a_class_that_its_reader_did_not(name: str, place: str) -> None:
    assert is_dataclass(pstats.StatsProfile)  # one that any process may have imported
    exploded.clear()
    inner = {"is": name, "name": "x", "run": "r"}
    refusal = f"is a {name!r}, which is not known here"
    assert faults(Study, {"is": "Study", "title": "a", place: inner})[0].startswith(f"Study.{place} {refusal}")
    assert faults(Study, inner)[0].startswith(f"Study {refusal}")
    with pytest.raises(RecipeError, match="is not"):
        override(STUDY, {"optim": name})
    assert exploded == []


def test_a_class_of_ones_own_is_passed_in_as_known() -> None:
    value = {"is": "Study", "title": "a", "optim": {"is": "Bomb", "name": "mine"}}
    exploded.clear()
    study: Any = from_dict(Study, value, known=[Bomb])
    assert exploded == ["mine"]
    assert study.optim == Bomb("mine")


@pytest.mark.parametrize("known", [[int], [Bomb, Lion, type("Bomb", (Bomb,), {})]])
def test_known_takes_dataclasses_that_their_names_tell_apart(known: list[type]) -> None:
    with pytest.raises(RecipeError, match="known takes dataclasses, each with a name of its own; not "):
        from_dict(Adam, {"is": "Adam"}, known)


def test_named_types_stand_for_what_they_name() -> None:
    either = TypeAliasType("either", Adam | Lion)  # `type either = Adam | Lion` from Python 3.12 on
    assert parse(either, "Lion", "optim") == Lion()
    assert parse(either | None, "none", "optim") is None


# --- changes from a command line --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("title", "b", "b"),
        ("title", "5", "5"),
        ("title", "none", "none"),
        ("title", "true", "true"),
        ("title", '"5"', "5"),
        ("title", "[1]", "[1]"),
        ("title", "a=b", "a=b"),
        ("title", "", ""),
        ("net.width", "16", 16),
        ("net.act", "gelu", "gelu"),
        ("net.dropout", "0.5", 0.5),
        ("net.dropout", "1", 1.0),
        ("net.dropout", "1e-3", 1e-3),
        ("net.dropout", "none", None),
        ("net.dropout", "None", None),
        ("net.dropout", "null", None),
        ("quick", "true", True),
        ("quick", "True", True),
        ("quick", "false", False),
        ("code", "7", 7),
        ("code", "seven", "seven"),
        ("optim", "Lion", Lion()),
        ("optim", '{"is": "Adam", "rate": 2}', Adam(2.0)),
        ("optim.betas", "[0.5, 1]", (0.5, 1.0)),
        ("start", '{"is": "Carried", "run": "r"}', Carried("r")),
        ("stages", '[{"is": "Lion"}]', (Lion(),)),
        ("grid", "[[1, 2], []]", ((1, 2), ())),
        ("weights", '{"x": 1}', {"x": 1.0}),
        ("place", "none", None),
    ],
)
def test_text_is_read_by_the_type_of_its_field(path: str, text: str, value: Any) -> None:
    changed: Any = override(STUDY, {path: text})
    for name in path.split("."):
        changed = getattr(changed, name)
    assert (changed, type(changed)) == (value, type(value))


@settings(max_examples=50, deadline=None)
@given(studies, studies)
def test_overriding_every_field_with_its_json_turns_one_recipe_into_another(one: Study, other: Study) -> None:
    changes = {key: json.dumps(value) for key, value in to_dict(other).items() if key != KIND}
    assert override(one, changes) == other


def test_a_literal_is_met_by_value_and_type() -> None:
    assert parse(Literal[1, "1"], "1", "x") == 1
    assert parse(Literal["1", "none"], "1", "x") == "1"
    assert parse(Literal["1", "none"], "none", "x") == "none"
    for text in ("true", "1.0", '"1"'):
        with pytest.raises(RecipeError, match=r"^x is .*, which is not 1 or 2$"):
            parse(Literal[1, 2], text, "x")


def test_changes_are_made_together_whatever_their_order() -> None:
    changes = {"net.depth": "9", "net.width": "9", "optim.rate": "3", "optim": "Lion", "title": "b"}
    wanted = replace(STUDY, net=Net(9, 9), optim=Lion(3.0), title="b")
    assert override(STUDY, changes) == override(STUDY, dict(reversed(changes.items()))) == wanted
    assert STUDY.net == Net()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"net.widht": "3"}, "net.widht does not exist (did you mean 'width'?)"),
        ({"nett.width": "3"}, "nett does not exist (did you mean 'net'?)"),
        ({"net.width.x": "3"}, "net.width.x does not exist: net.width is 8"),
        ({"stages.0.rate": "3"}, "stages.0.rate does not exist: stages is (Lion("),
        ({"start.run": "3"}, "start.run does not exist: start is None"),
        ({"parts": "3"}, "parts does not exist"),
        ({"": "3"}, " does not exist"),
        ({"net.width": "1e1"}, "net.width is 10.0, which is not int"),
        ({"net.width": ""}, "net.width is '', which is not int"),
        ({"net.width": "9" * 5000}, "net.width is '999"),
        ({"net.dropout": "NaN"}, "net.dropout is nan, which is not float or None"),
        ({"net.dropout": "1e999"}, "net.dropout is inf, which is not float or None"),
        ({"grid": "[" * 100_000}, "grid is '[[["),
        ({"quick": "1"}, "quick is 1, which is not bool"),
        ({"net.depth": "9"}, "net: Net.depth is 9; it must not exceed width, 8"),
        ({"optim": "Lino"}, "optim is 'Lino', which is not Adam or Lion (did you mean 'Lion'?)"),
        ({"optim": '{"is": "Bomb"}'}, "optim is a 'Bomb', which is not known here"),
        ({"start": "Carried"}, "start.run is missing"),
    ],
)
def test_a_change_that_cannot_be_made_is_named(changes: dict[str, str], fault: str) -> None:
    with pytest.raises(RecipeError) as caught:
        override(STUDY, changes)
    assert str(caught.value).startswith(fault)


def test_all_changes_that_cannot_be_made_are_named_at_once() -> None:
    changes = {"net.widht": "3", "quick": "1", "net.act": "tanh", "title": "fine", "optim": "SGD"}
    with pytest.raises(RecipeError) as caught:
        override(STUDY, changes)
    assert [text.split(" ")[0] for text in str(caught.value).split("; ")] == ["net.widht", "net.act", "quick", "optim"]


def test_a_class_of_ones_own_can_be_put_in_by_name() -> None:
    assert override(STUDY, {"optim": "Bomb"}, known=[Bomb]).optim == Bomb()
    assert parse(Adam | Lion, "Bomb", "optim", known=[Bomb]) == Bomb()


# --- differences and hints --------------------------------------------------------------------------------------------


def test_differences_are_named_by_path() -> None:
    other = replace(STUDY, title="b", net=Net(9), stages=(Adam(), Adam(2.0)), weights={"y": 2.0})
    assert differences(to_dict(STUDY), to_dict(other)) == [
        "title: 'a' → 'b'",
        "net.width: 8 → 9",
        "stages[0].is: 'Lion' → 'Adam'",
        "stages[0].rate: 0.0001 → 0.001",
        "stages[0].signed: True → None",
        "stages[0].betas: None → [0.9, 0.95]",
        "stages[1].rate: 0.001 → 2.0",
        "weights.x: 2.0 → None",
        "weights.y: None → 2.0",
    ]
    assert differences([1], [1, 2], "sizes") == ["sizes: [1] → [1, 2]"]


@settings(max_examples=40, deadline=None)
@given(studies, studies)
def test_recipes_differ_just_where_they_are_not_equal(one: Study, other: Study) -> None:
    assert differences(to_dict(one), to_dict(one)) == []
    assert (differences(to_dict(one), to_dict(other)) == []) == (one == other)


def test_a_hint_is_the_nearest_name_or_all_of_them() -> None:
    assert did_you_mean("stps", ["steps", "seed"]) == "did you mean 'steps'?"
    assert did_you_mean("x", ["b", "a"]) == "allowed: a, b"
    assert did_you_mean("x", []) == "allowed: nothing"


def test_a_list_may_be_written_with_commas() -> None:
    assert parse(tuple[str, ...], "frozen,nothing", "encoders") == ("frozen", "nothing")
    assert parse(tuple[int, ...], "300,1000", "labels") == (300, 1000)
    assert parse(tuple[str, ...], "frozen", "encoders") == ("frozen",)
    assert parse(str, "a,b", "path") == "a,b"
    with pytest.raises(RecipeError, match="labels"):
        parse(tuple[int, ...], "300,many", "labels")
