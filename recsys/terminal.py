"""What may be shown on a terminal. Ids and titles come from data, and data may hold escape codes."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text, with what could steer a terminal shown as "�"; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
