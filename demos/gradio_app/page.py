"""How every part of the page is made: HTML of our own, events with one queue, the style."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Literal

import gradio as gr

CONCURRENCY = 8


def html(value: str, *, elem_id: str | None = None) -> gr.HTML:
    """Markup of our own in the page; no script runs on it. Without content, it takes no room."""
    return gr.HTML(
        value,
        elem_id=elem_id,
        elem_classes=["recsys"],
        apply_default_css=False,
        js_on_load=None,
        padding=False,
        visible=bool(value),
    )


def said(value: str) -> gr.HTML:
    """New content for a notice; without any, it takes no room."""
    return gr.HTML(value, visible=bool(value))


def on(
    triggers: Sequence[Any],
    answer: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    trigger_mode: Literal["once", "always_last"] = "always_last",
) -> None:
    """Answer events of the page. Programs have names of their own to call (api.py).

    While one event is being answered, others come: "always_last" answers the last of them next (of many steps
    of a slider), "once" none.
    """
    gr.on(
        list(triggers),
        answer,
        list(inputs),
        list(outputs),
        api_visibility="private",
        show_progress="minimal",
        trigger_mode=trigger_mode,
        concurrency_limit=CONCURRENCY,
        concurrency_id="answers",
    )


def style() -> str:
    """The style as an element of the page's head: the report's, inside `.report`, and this page's."""
    report = files("demos.report").joinpath("style.css").read_text(encoding="utf-8")
    # Colours follow the theme's light and dark; what is for paper has no place here.
    rules = report[report.index("h1 {") : report.index("@media print")]
    own = files("demos.gradio_app").joinpath("style.css").read_text(encoding="utf-8")
    return f"<style>\n.recsys .report {{\n{rules}}}\n{own}</style>"


def theme() -> gr.themes.Base:
    """Quiet colours, and fonts that are there without asking anybody."""
    sans = [gr.themes.Font(name) for name in ("system-ui", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")]
    mono = [gr.themes.Font(name) for name in ("ui-monospace", "Menlo", "Consolas", "monospace")]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue, neutral_hue=gr.themes.colors.slate, font=sans, font_mono=mono
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        color_accent="*primary_700",
        color_accent_soft="*primary_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_text_color="white",
    )


def how_many(longest: int, elem_id: str) -> gr.Slider:
    """The length of a list, 1 to `longest`."""
    usual = min(10, longest)
    slider = gr.Slider(1, longest, value=usual, step=1, label="How many", elem_id=elem_id)

    def nearest(given: float | None) -> int:
        return usual if given is None else int(min(max(given, 1), longest))

    # Gradio's own raises where the box beside the slider was emptied, or holds what the slider can't.
    slider.preprocess = nearest  # type: ignore[assignment,method-assign]
    return slider
