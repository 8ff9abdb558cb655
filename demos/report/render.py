"""HTML from the Jinja2 templates of `demos`. All values but `Markup` are escaped."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from serve.terminal import printable


def number(value: Any) -> str:
    """A number with thousands separators, as in 12,000 or 0.85; a dash for anything else."""
    if not isinstance(value, (int, float)):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.12g}"


def metric(value: Any) -> str:
    """A metric with four decimals; a dash for anything but a number."""
    return f"{value:.4f}" if isinstance(value, (int, float)) else "–"


ENVIRONMENT = Environment(
    loader=PackageLoader("demos", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {"number": number, "metric": metric}


def render(template: str, **values: Any) -> Markup:
    """Render a template, by its path inside `demos`."""
    return _printable(ENVIRONMENT.get_template(template).render(values))


def render_macro(template: str, name: str, *arguments: Any, **named: Any) -> Markup:
    """Render one macro of a template."""
    return _printable(getattr(ENVIRONMENT.get_template(template).module, name)(*arguments, **named))


def _printable(html: str) -> Markup:
    # Escaping does not remove control characters.
    return Markup(printable(str(html), keep="\n"))
