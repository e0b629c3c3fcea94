"""Build HTML and SVG so that nothing can slip in: whatever is not made here is text, and text is escaped."""

from __future__ import annotations

import html
import re
from typing import TypeAlias

_VOID = frozenset({"meta", "br", "hr", "link", "img"})
# Control characters are shown as pictures of themselves; marks that turn the reading direction could make a name
# look like another one (CVE-2021-42574), so they are shown by number.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | int | float | list[Markup] | None"


def text(value: str | float) -> Markup:
    r"""Escape a value for use between tags and inside quoted attributes.

    >>> text('<b a="1">&'), text("a\nb"), text("x\u202ey")
    ('&lt;b a=&quot;1&quot;&gt;&amp;', 'a␊b', 'x[202e]y')
    """
    if isinstance(value, Markup):
        return value
    plain = f"{value:.6g}" if isinstance(value, float) else str(value)
    return Markup(html.escape(_CONTROL.sub(_visible, plain), quote=True))


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"[{code:x}]"


def el(tag: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """Make an element; ``class_`` and ``stroke_width`` stand for ``class`` and ``stroke-width``, None is left out.

    >>> el("a", "1 < 2", class_="x", data_n=3, title=None)
    '<a class="x" data-n="3">1 &lt; 2</a>'
    """
    given = "".join(
        f' {key.strip("_").replace("_", "-")}="{text(_short(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{given}>")
    return Markup(f"<{tag}{given}>{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Put pieces one after the other; None is nothing, a list is its members."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, list):
            parts += child
        elif child is not None:
            parts.append(text(child))
    return Markup("".join(parts))


def style(css: str) -> Markup:
    """Embed a style sheet of our own; one that could end its element is refused with ``ValueError``."""
    if "</" in css:
        raise ValueError("a style sheet must not hold a closing tag")
    return Markup(f"<style>{css}</style>")


def _short(value: str | float) -> str | int | float:
    return round(value, 2) if isinstance(value, float) else value
