"""Integers on the command line, by the rule for cells: plain decimals, not 1_0 or +5 as Python takes them."""

from __future__ import annotations

from typing import Any

import click

from serve.reading.cells import parse_integer


class _Decimal(click.ParamType[int]):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and parse_integer(value) is None:
            self.fail(f"{value!r} is not a decimal integer.", param, ctx)
        return super().convert(value, param, ctx)


class Integer(_Decimal, click.types.IntParamType):
    """An integer."""


class IntegerRange(_Decimal, click.IntRange):
    """An integer within bounds; see click.IntRange."""
