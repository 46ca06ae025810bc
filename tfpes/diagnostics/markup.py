"""Pieces of a page: everything that is shown goes through `html.escape`."""

import html
import re
from collections.abc import Iterable, Sequence

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; margin: 0.5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 0.5rem; border-bottom: 1px solid #ddd; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 0.3rem; }
nav { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; }
nav a { white-space: nowrap; }
img { max-width: 100%; height: auto; }
figure { margin: 1rem 0; }
figcaption, .note { color: #555; font-size: 0.9rem; }
code { white-space: nowrap; }
.scroll { overflow-x: auto; margin: 0.5rem 0; }
table { border-collapse: collapse; font-size: 0.86rem; }
th, td { padding: 0.15rem 0.6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #eee; font-variant-numeric: tabular-nums; }
th { border-bottom: 1px solid #999; font-weight: 600; vertical-align: bottom; }
th.text, td.text { text-align: left; }
td.long { text-align: left; white-space: normal; min-width: 18rem; }
pre { font-size: 0.78rem; line-height: 1.35; overflow-x: auto; background: #f6f6f6;
  padding: 0.8rem; }
li { margin: 0.4rem 0; }
summary { cursor: pointer; color: #0645ad; margin: 0.4rem 0; }
@media print { body { max-width: none; font-size: 11px; } pre { font-size: 8px;
  white-space: pre-wrap; } figure, tr { break-inside: avoid; } nav { display: none; }
  .scroll { overflow: visible; } }
"""

_Content = str | tuple[str, float]
TEXT, NUMBER, LONG = "text", "", "long"
"""How a column is set: left, right, or left and broken into lines."""


def table(
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[_Content]],
) -> str:
    """Return a table.

    Args:
        columns: heading and kind of each.
        rows: text of each cell, or text and a share of 1 that shades it.
    """
    head = "".join(
        f'<th class="{"text" if kind else ""}">{html.escape(name)}</th>'
        for name, kind in columns
    )
    body = []
    for row in rows:
        cells = [
            _cell(content, kind)
            for content, (_, kind) in zip(row, columns, strict=True)
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>'
        + "\n".join(body)
        + "</tbody></table></div>"
    )


def _cell(content: _Content, kind: str) -> str:
    if isinstance(content, str):
        return f'<td class="{kind}">{html.escape(content)}</td>'
    text, share = content
    shade = f"background: rgba(31, 119, 180, {min(max(share, 0.0), 1.0) * 0.6:.3f})"
    return f'<td class="{kind}" style="{shade}">{html.escape(text)}</td>'


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph; ``kind`` may be ``"note"``."""
    return f'<p class="{kind}">{html.escape(text)}</p>'


def items(texts: Iterable[str]) -> str:
    """Return a list; what stands between backticks is code."""
    return "<ul>" + "".join(f"<li>{_with_code(t)}</li>" for t in texts) + "</ul>"


def _with_code(text: str) -> str:
    """Escape a text, and set what stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def details(title: str, content: str, shown: bool = False) -> str:
    """Return content, which is markup, that folds away."""
    state = " open" if shown else ""
    return f"<details{state}><summary>{html.escape(title)}</summary>{content}</details>"


def figure(address: str, caption: str) -> str:
    """Return a picture of a ``data:`` address."""
    text = html.escape(caption)
    source = html.escape(address, quote=True)
    return (
        f'<figure><img src="{source}" alt="{html.escape(caption, quote=True)}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def page(
    title: str, subtitle: str, sections: Sequence[tuple[str, str, Sequence[str]]]
) -> str:
    """Return a whole page.

    Args:
        title: of the page.
        subtitle: one line below it.
        sections: name of the anchor, title and pieces of markup, of each.
    """
    links = "".join(
        f'<a href="#{name}">{html.escape(heading)}</a>' for name, heading, _ in sections
    )
    body = "\n".join(
        f'<section id="{name}"><h2>{html.escape(heading)}</h2>\n'
        + "\n".join(part for part in parts if part)
        + "</section>"
        for name, heading, parts in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1>{paragraph(subtitle)}"
        f"<nav>{links}</nav>\n{body}\n</body></html>\n"
    )


def number(value: float | None, form: str = ".3g") -> str:
    """Return a number as text, a dash for None and NaN."""
    return "-" if value is None or value != value else format(value, form)


def percent(share: float | None) -> str:
    """Return a share as text."""
    return number(share, ".1%")


def heading(text: str) -> str:
    """Return a heading within a section."""
    return f"<h3>{html.escape(text)}</h3>"


def preformatted(text: str) -> str:
    """Return text as it stands."""
    return f"<pre>{html.escape(text)}</pre>"
