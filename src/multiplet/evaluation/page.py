"""Page: pieces of one self-contained HTML document; every text is escaped unless it was made here."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

LARGEST = 250_000  # bytes of an SVG; a drawing with more is shown as pixels

CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --quiet: #5c6670; --line: #d9dee3; --paper: #ffffff; --tint: #f5f7f9;
  --mark: #1f6fb5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --quiet: #9aa4ae; --line: #343b43; --paper: #15181c;
  --tint: #1d2126; --mark: #7db8ec; } figure img { filter: brightness(.92); } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
header { border-bottom: 2px solid var(--ink); padding-bottom: 1rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .1rem 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .7rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--mark); }
nav { font-size: .9rem; margin-top: .6rem; }
nav a { display: inline-block; margin-right: 1.1rem; text-decoration: none; }
.quiet, caption, figcaption { color: var(--quiet); font-size: .88rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem; }
caption { text-align: left; padding-bottom: .5rem; }
th, td { text-align: left; vertical-align: top; padding: .34rem 1.4rem .34rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; min-width: 7rem; max-width: 26rem; }
thead th { border-bottom: 1.5px solid var(--ink); }
tbody th { font-weight: 500; }
small { display: block; color: var(--quiet); font-size: .82em; font-weight: 400; }
.error { color: var(--quiet); white-space: nowrap; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); gap: 1.2rem; }
.figures:has(> figure:only-child) { grid-template-columns: 1fr; }
figure { margin: 0; break-inside: avoid; max-width: 44rem; }
figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px;
  padding: .5rem; border: 1px solid var(--line); }
figcaption { padding: .35rem .1rem 0; }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem;
  font-size: .88rem; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font-family: ui-monospace, "Cascadia Mono", "Liberation Mono", monospace; font-size: .92em; }
details { border: 1px solid var(--line); border-radius: 6px; padding: .55rem .9rem; margin: .6rem 0; }
summary { cursor: pointer; font-weight: 500; overflow-wrap: anywhere; }
.missing { border-left: 3px solid #e0a100; padding: .1rem 0 .1rem .8rem; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  details::details-content { content-visibility: visible; height: auto; } h2 { break-after: avoid; } }
"""


class Html(str):
    """Markup that was made here; any other string is text and is escaped where it goes in."""


def element(name: str, *children: str, **attributes: str) -> Html:
    """<name attribute="…">children</name>; `class_` is written class, `aria_label` aria-label."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str, by: str = "") -> Html:
    """Pieces in a row."""
    return Html(by.join(child if isinstance(child, Html) else html.escape(child) for child in children))


def section(title: str, *children: str) -> Html:
    """A part of the page with a heading that the navigation leads to."""
    return element("section", element("h2", title), *children, id=anchor(title))


def anchor(title: str) -> str:
    """What a link to a section is called."""
    return title.lower().replace(" ", "-")


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], caption: str = "") -> Html:
    """A table whose columns are named by `head`, the first above the names of the rows."""
    top = element("tr", *(element("th", name, scope="col") for name in head))
    body = [
        element("tr", element("th", loose(name), scope="row"), *(element("td", loose(cell)) for cell in row))
        for name, row in rows
    ]
    parts = [element("thead", top), element("tbody", *body)]
    if caption:
        parts.insert(0, element("caption", caption))
    return element("div", element("table", *parts), class_="wide", tabindex="0")


def loose(text: str) -> Html:
    """The text with places where a long expression or path may break."""
    if isinstance(text, Html):
        return text
    return Html(re.sub(r"(\(|\.(?=\D)|/|_)", r"\1<wbr>", html.escape(text)))


def picture(figure: Figure, alt: str, caption: str = "") -> Html:
    """A figure inside the page; as an image it can run nothing, whatever its labels say."""
    kind, data = "svg+xml", _drawn(figure, "svg")
    if len(data) > LARGEST:
        kind, data = "png", _drawn(figure, "png")
    width, height = (str(round(100 * inches)) for inches in figure.get_size_inches())
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    image = Html(f'<img src="{source}" alt="{html.escape(alt)}" width="{width}" height="{height}">')
    return element("figure", image, element("figcaption", caption or alt))


def page(title: str, lead: str, sections: Sequence[tuple[str, Html]]) -> str:
    """The whole document; it asks for nothing from outside, and the browser is told to refuse it if it did."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    links = [element("a", name, href=f"#{anchor(name)}") for name, _ in sections]
    header = element("header", element("div", "multiplet report", class_="quiet"), element("h1", title),
                     element("div", lead, class_="quiet"), element("nav", *links, aria_label="sections"))  # fmt: skip
    head = join(
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("title", f"{title} · multiplet report"),
        Html(f"<style>{CSS}</style>"),
    )
    body = element("body", header, element("main", *(section(name, content) for name, content in sections)))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n{body}</html>\n'


def _drawn(figure: Figure, form: str) -> bytes:
    file = io.BytesIO()
    with matplotlib.rc_context(
        {"svg.hashsalt": "multiplet", "svg.fonttype": "path"}
    ):  # the same figure, the same bytes
        figure.savefig(file, format=form, dpi=160, metadata={"Date": None} if form == "svg" else None)
    return re.sub(rb"\s+", b" ", file.getvalue()) if form == "svg" else file.getvalue()  # a fifth of it is white space
