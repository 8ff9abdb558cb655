"""One text -> an integer or a number, by the rules for cells. No Arrow: a quick answer needs none."""

from __future__ import annotations

import math
import re

BLANKS = " \t"
"""Left out around cells."""
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
"""A decimal number, as a regular expression for Python and for Arrow."""


def parse_integer(text: str) -> int | None:
    """The integer of 64 bits that ASCII digits, perhaps after a minus, stand for; None: it is none."""
    number = int(text) if re.fullmatch(r"-?0*[0-9]{1,19}", text) else None
    return None if number is None or not -(1 << 63) <= number < 1 << 63 else number


def parse_number(text: str) -> float:
    """The decimal number that text stands for; blanks around it are left out.

    Raises ValueError: it is no decimal number, or not finite.
    """
    text = text.strip(BLANKS)
    number = float(text) if re.fullmatch(NUMBER.strip("^$"), text) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a finite decimal number")
    return number
