"""The output of `recsys data describe`: tables and bars, or JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from rich.table import Column, Table
from rich.text import Text

from recsys.console import Console
from recsys.data.describe import crosstab, rating_histogram, ratings_frame, summarize, with_titles
from recsys.data.interactions import Interactions
from recsys.data.oddities import oddities
from serve.terminal import printable

FIRST_ROWS = 5
TITLE_WIDTH = 10
BAR_WIDTH = 40


def views_as_json(interactions: Interactions) -> str:
    """JSON with summary, oddities, histogram, first_rows, with_titles, and crosstab (null: no rating)."""

    def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = json.loads(frame.to_json(orient="records"))
        return records

    corner = crosstab(interactions)
    views = {
        "summary": summarize(interactions),
        "oddities": oddities(interactions),
        "histogram": rows(rating_histogram(interactions)),
        "first_rows": rows(ratings_frame(interactions, FIRST_ROWS)),
        "with_titles": rows(with_titles(interactions, FIRST_ROWS)),
        "crosstab": {
            "user_ids": corner.index.tolist(),
            "item_ids": corner.columns.tolist(),
            "ratings": [[None if pd.isna(rating) else rating for rating in row] for row in corner.to_numpy()],
        },
    }
    return json.dumps(views, indent=2, ensure_ascii=False)


def views_as_text(interactions: Interactions) -> str:
    """Text as wide as the terminal."""
    console = Console(highlight=False)
    titled = with_titles(interactions, FIRST_ROWS).drop(columns="timestamp", errors="ignore")
    views = {
        interactions.name: _summary(interactions),
        "First ratings": _rows(ratings_frame(interactions, FIRST_ROWS)),
        "With what is known of the items": _rows(titled),
        "The most active users x the most rated items": _crosstab(interactions, console.width),
        "How often each rating was given": _histogram(rating_histogram(interactions)),
    }
    if len(interactions.items.columns) == 1:
        del views["With what is known of the items"]
    with console.capture() as captured:
        for heading, view in views.items():
            console.print(Text(f"\n{printable(heading)}", style="bold"))
            console.print(view)
            if heading == interactions.name:
                for oddity in oddities(interactions):
                    console.print(Text(f"Odd: {printable(oddity)}", style="yellow"), soft_wrap=True)
    return captured.get().removesuffix("\n")


def _summary(interactions: Interactions) -> Table:
    table, s = Table.grid(padding=(0, 2)), summarize(interactions)
    low, high = s["rating_range"]
    ratings = f"from {low:g} to {high:g}, {s['rating_mean']:.3f} on average"
    lines = {
        "ratings": f"{s['n_ratings']:,} " + ("likes, no ratings" if s["implicit"] else ratings),
        "users": f"{s['n_users']:,}, {s['median_ratings_per_user']:g} ratings each (median)",
        "items": f"{s['n_items']:,}, of them {s['n_rated_items']:,} rated, "
        f"{s['median_ratings_per_rated_item']:g} ratings each (median)",
        "density": f"{s['density']:.2%} of users x rated items",
        "features": "; ".join(
            f"of {whose}s: {', '.join(names)}"
            for whose in ("user", "item")
            if (names := s[f"{whose}_features"])
        )
        or "none",
        "time": " to ".join(s["time_range"] or ["unknown"]),
        "SHA-256": s["sha256"],
        "terms": s["licence"],
    }
    for name, value in lines.items():
        table.add_row(name, Text(printable(value)))
    return table


def _rows(frame: pd.DataFrame) -> Table:
    """Numbers are shown in full; text is cut to the remaining width."""
    table = Table()
    for name in frame:
        is_number = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(str(name), justify="right" if is_number else "left", no_wrap=is_number)
    for row in frame.itertuples(index=False):
        cells = (_cell(str(name), value) for name, value in zip(frame, row, strict=True))
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells))
    return table


def _cell(name: str, value: Any) -> str:
    if pd.isna(value):
        return ""
    if name == "timestamp":
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S}"
    return f"{value:g}" if isinstance(value, float) else printable(str(value))


def _crosstab(interactions: Interactions, width: int) -> Table:
    """As many columns as fit, headed by titles if there are any."""
    n_items = max(1, min(15, (width - 12) // (TITLE_WIDTH + 3)))
    corner = crosstab(interactions, n_items=n_items)
    items = interactions.items.set_index("item_id")
    names = items["title"].loc[corner.columns].tolist() if "title" in items else corner.columns.tolist()
    table = Table()
    table.add_column("user_id", justify="right", no_wrap=True)
    for name in names:
        table.add_column(Text(printable(str(name))), justify="right", max_width=TITLE_WIDTH)
    for user_id, row in corner.iterrows():
        shown = ("" if pd.isna(rating) else f"{rating:g}" for rating in row)
        table.add_row(Text(printable(str(user_id))), *shown)
    return table


def _histogram(histogram: pd.DataFrame) -> Table:
    table = Table.grid(Column(justify="right"), Column(justify="right"), padding=(0, 1))
    most, total = histogram["count"].max(), histogram["count"].sum()
    for rating, count in histogram.itertuples(index=False):
        bar = "█" * round(BAR_WIDTH * count / most)
        table.add_row(f"{rating:.4g}", f"{count:,}", Text(bar, style="cyan"), f"{count / total:.1%}")
    return table
