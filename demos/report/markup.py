"""HTML and SVG elements that can't be made of unescaped text."""

from __future__ import annotations

from html import escape
from typing import Any

from serve.terminal import printable

VOID = {"br", "meta", "link", "hr"}


class Markup(str):
    """Text that is markup already. Only `element` makes it."""

    __slots__ = ()


def element(tag: str, /, *children: Any, **attributes: Any) -> Markup:
    """`<tag attribute="…">children</tag>`.

    Args:
        tag: what it is called.
        children: markup, or anything else, which is escaped; None is left out.
        attributes: their values are escaped; None is left out. "class_" is "class", "stroke_width" is
            "stroke-width".
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in VOID:
        return Markup(f"<{tag}{given}>")
    return Markup(f"<{tag}{given}>{join(*children)}</{tag}>")


def join(*children: Any) -> Markup:
    """Children side by side."""
    parts = (
        child if isinstance(child, Markup) else escape(plain(child))
        for child in children
        if child is not None
    )
    return Markup("".join(parts))


def plain(value: Any) -> str:
    """The value as text, without control characters: titles come from data, and data may hold anything."""
    return printable(str(value), keep="\n")
