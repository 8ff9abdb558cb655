"""Numbers on the command line, by the rules for cells: decimal and finite, not 1_0 as Python takes it."""

from __future__ import annotations

from typing import Any

import click

from serve.reading.cells import parse_integer, parse_number


class _Decimal(click.ParamType[int]):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and parse_integer(value) is None:
            self.fail(f"{value!r} is not a decimal integer.", param, ctx)
        return super().convert(value, param, ctx)


class Integer(_Decimal, click.types.IntParamType):
    """An integer."""


class IntegerRange(_Decimal, click.IntRange):
    """An integer within bounds; see click.IntRange."""


class _Finite(click.ParamType[float]):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str):
            try:
                value = parse_number(value)
            except ValueError as error:
                self.fail(f"{error}.", param, ctx)
        return super().convert(value, param, ctx)


class Number(_Finite, click.types.FloatParamType):
    """A finite number."""


class NumberRange(_Finite, click.FloatRange):
    """A finite number within bounds; see click.FloatRange."""
