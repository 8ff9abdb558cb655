"""The controls of variety, which the lists of known and of new users share."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from demos.gradio_app.page import slider
from demos.gradio_app.showcase import Showcase
from serve import Variety

UNLIKE = "Variety"
KNOWN = "Familiar to surprising"
ANY_NUMBER = "Any number"
LIMITS = (1, 2, 3, 5)
"""Items of one genre that can be asked for."""


class VarietyControls(NamedTuple):
    """Two sliders and a choice; their values, in this order, are what `variety_of` takes."""

    diversity: gr.Slider
    surprise: gr.Slider
    max_per_category: gr.Dropdown


def variety_controls(showcase: Showcase, prefix: str = "") -> VarietyControls:
    """Build the controls; those that the bundle has no tables or genres for are hidden."""
    shown = showcase.has_variety
    return VarietyControls(
        slider(0, 1, 0, 0.05, label=UNLIKE, elem_id=f"{prefix}diversity", visible=shown),
        slider(-1, 1, 0, 0.05, label=KNOWN, elem_id=f"{prefix}surprise", visible=shown),
        gr.Dropdown(
            [ANY_NUMBER, *map(str, LIMITS)],
            value=ANY_NUMBER,
            label="Of one genre at most",
            min_width=160,
            visible=bool(showcase.genres),
            elem_id=f"{prefix}max-per-category",
        ),
    )


def variety_of(diversity: float, surprise: float, max_per_category: str | None) -> Variety:
    """What the controls ask for."""
    most = None if max_per_category in (None, ANY_NUMBER) else int(max_per_category)
    return Variety(diversity=float(diversity), surprise=float(surprise), max_per_category=most)
