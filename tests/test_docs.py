"""Documents that promise commands and their output: every command is run, every line of output looked for."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent
# What makes a page quick to run, and how many commands it has; numbers are not compared, so it may be another size.
PAGES = {
    "use_your_data.md": (
        {"--events 3000": "--events 160", "steps=200": "steps=2", "batch=64": "batch=16", "steps=100": "steps=2"},
        13,
    ),
    "tpc.md": (
        {"--events 3000": "--events 100", "--workers 2": "--workers 1", "depth=4 steps=300": "depth=1 steps=2"}
        | {"labels=300 seeds=1 steps=60": "labels=20 seeds=1 steps=1", "-300-s0": "-20-s0"},
        6,
    ),
    "telescope.md": (
        {"--events 20000": "--events 300", "--events 4000": "--events 200", "-1000-s0": "-50-s0"}
        | {"steps=800": "width=16 depth=1 steps=2", "labels=1000 seeds=1 steps=300": "labels=50 seeds=1 steps=1"},
        6,
    ),
}
_BLOCK = re.compile(r"^```(console|yaml \S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s:#]*)#?([^)\s:]*)\)")  # a file and a section of it; addresses on the web have a colon
_NUMBER = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?")


def plain(line: str) -> str:
    """A line without what depends on the sample: numbers, sizes, the width of columns."""
    line = re.sub(r"[━─┃│┏┓┗┛┡┩┳┻╇└┘┴]+", "|", line)
    line = re.sub(r"\b[kMG]B\b", "B", _NUMBER.sub("#", line))
    return " ".join(line.replace("|", " | ").split())


def expected(lines: list[str]) -> re.Pattern[str]:
    """A pattern for output in which … stands for any lines, or for the rest of one."""
    parts = []
    for line in lines:
        words = ".*".join(map(re.escape, plain(line).split("…")))
        parts.append("(?:.*\n)*" if line.strip() == "…" else words + "\n")
    return re.compile("".join(parts))


def blocks(page: Path) -> list[tuple[str, str]]:
    return [(kind, body) for kind, body in _BLOCK.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_what_it_says(name: str, tmp_path: Path) -> None:
    for package in ("pythia8mc", "fastjet", "numba", "uproot"):
        pytest.importorskip(package, reason="needs the extras `simulate` and `root`")
    page, (smaller, count) = HERE / "docs" / name, PAGES[name]
    shutil.copytree(HERE / "examples", tmp_path / "examples")
    text = page.read_text(encoding="utf-8")
    assert all(size in text for size in smaller), "the page has changed: what makes it quick is not in it"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "PYTHONWARNINGS": "ignore"}
    environment.pop("PYTHONPATH", None)
    commands = 0
    for kind, body in blocks(page):
        if kind != "console":
            (tmp_path / kind.removeprefix("yaml ")).write_text(body, encoding="utf-8")
            continue
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            for size, other in smaller.items():
                command = command.replace(size, other)
            program = ["-m", "multiplet"] if command.startswith("multiplet ") else []
            arguments = [sys.executable, *program, *shlex.split(command)[1:]]
            ran = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
            assert ran.returncode == 0, f"{command}\n{ran.stderr}"
            output = "".join(plain(line) + "\n" for line in ran.stdout.splitlines())
            assert expected(lines).fullmatch(output), f"{command} printed\n{ran.stdout}\nand the page says\n{lines}"
            commands += 1
    assert commands == count


def prose(page: Path) -> str:
    """A page without its blocks of code, in which # begins a comment."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def sections(page: Path) -> set[str]:
    """What links call the headings of a page: small letters, hyphens for spaces, no other punctuation."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Links of a page to files that are not there, and to sections that their pages do not have."""
    broken = []
    for name, section in _LINK.findall(prose(page)):
        target = page.parent / name if name else page
        if not target.exists() or (section and section not in sections(target)):
            broken.append(f"{page.name}: {name}#{section}")
    return broken


def test_links_between_documents_lead_somewhere() -> None:
    pages = sorted({page for where in ("*.md", "docs/**/*.md", "benchmarks/*.md") for page in HERE.glob(where)})
    assert {"README.md", "CHANGELOG.md", "masked_diffusion.md"} <= {page.name for page in pages}
    assert not [link for page in pages for link in broken_links(page)]


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One: `a_b`, two\n```\n# comment\n```\n", encoding="utf-8")
    good = "[1](other.md) [2](other.md#one-a_b-two) [3](#here) [4](https://example.org/none#at-all)"
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n{good} [5](none.md) [6](other.md#comment) [7](#there)\n", encoding="utf-8")
    assert broken_links(page) == ["page.md: none.md#", "page.md: other.md#comment", "page.md: #there"]
