"""Titles as people type them: any case, an article in front or at the end, with or without the year."""

from __future__ import annotations

import re
import unicodedata

ARTICLES = (
    "the a an der die das den ein eine le la les l' un une el los las una il lo gli i o os as um uma het een"
)
_ARTICLE = ARTICLES.replace(" ", "|")
_TRAILING = re.compile(rf"(.*\S), ({_ARTICLE})")
_LEADING = re.compile(rf"(?:(?:{_ARTICLE}) |l')(.+)")
_YEAR = re.compile(r"(.*\S) (\([0-9]{4}\))")
# Between names: those in parentheses have articles of their own.
_PARENTHESES = re.compile(r"([()])")
_MOVED = re.compile(rf"((?:a\.k\.a\. )?)(.*\S), ({_ARTICLE})( *)", re.IGNORECASE)
# Other names, such as the original one: "City of Lost Children, The (Cité des enfants perdus, La) (1995)".
_OTHERS = re.compile(r"(.*?\S)((?: \([^()]*\))*)")


def folded(text: str) -> str:
    """The text for comparison: without case, accents composed, one space for any white space."""
    return " ".join(unicodedata.normalize("NFC", text.casefold()).split())


def article_first(text: str) -> str:
    """A folded title with its article in front: "the matrix (1999)" for "matrix, the (1999)"."""
    return "".join(_name(text))


def displayed(title: str) -> str:
    """A title as it is read, its articles in front: "The Matrix (1999)" for "Matrix, The (1999)"."""
    return "".join(map(_in_front, _PARENTHESES.split(title)))


def _in_front(name: str) -> str:
    moved = _MOVED.fullmatch(name)
    if moved is None:
        return name
    before, name, article, after = moved.groups()
    space = "" if article.endswith("'") else " "
    return f"{before}{article}{space}{name}{after}"


def starts(text: str) -> tuple[str, ...]:
    """How a folded title begins that may be meant by the folded `text`."""
    name, _ = _name(text)
    leading = _LEADING.fullmatch(name)
    bare = leading[1] if leading else name
    return bare, f"l'{bare}", *(f"{article} {bare}" for article in ARTICLES.split())


def shorter(text: str, year: int | None = None) -> set[str]:
    """What a folded title may be typed as, its article in front: without the year, or with `year` where it
    has none; without other names in parentheses; without both.
    """
    name, others = _name(text)
    dated = _YEAR.fullmatch(f"{name}{others}")
    whole = dated[1] if dated else f"{name}{others}"
    date = f" {dated[2]}" if dated else f" ({year})" if year is not None else ""
    return {whole, f"{whole}{date}", name, f"{name}{date}"}


def _name(text: str) -> tuple[str, str]:
    """A folded title's name, its article in front, and the parentheses after it."""
    parts = _OTHERS.fullmatch(text)
    if parts is None:
        return text, ""
    moved = _TRAILING.fullmatch(parts[1])
    if moved is None:
        return parts[1], parts[2]
    space = "" if moved[2].endswith("'") else " "
    return f"{moved[2]}{space}{moved[1]}", parts[2]
