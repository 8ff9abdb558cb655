"""Titles as they are shown."""

from __future__ import annotations

import pytest

from serve.bundle.titles import displayed


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Shawshank Redemption, The (1994)", "The Shawshank Redemption (1994)"),
        ("Matrix, The", "The Matrix"),
        ("Avventura, L' (Adventure, The) (1960)", "L'Avventura (The Adventure) (1960)"),
        (
            "Amelie (Fabuleux destin d'Amélie Poulain, Le) (2001)",
            "Amelie (Le Fabuleux destin d'Amélie Poulain) (2001)",
        ),
        ("Good, the Bad and the Ugly, The (1966)", "The Good, the Bad and the Ugly (1966)"),
        ("Seven (a.k.a. Other, The) (1995)", "Seven (a.k.a. The Other) (1995)"),
        ("Me, Myself & Irene (2000)", "Me, Myself & Irene (2000)"),
        ("The Matrix (1999)", "The Matrix (1999)"),
        ("Lonely, (The", "Lonely, (The"),
        (", The", ", The"),
        ("", ""),
        (")(, The) line\nbreak, A", ")(, The) line\nbreak, A"),
    ],
)
def test_articles_stand_in_front(title, shown) -> None:
    assert displayed(title) == shown


def test_a_long_title_takes_no_long_time() -> None:
    title = ", the" * 20_000 + "x"
    assert displayed(title) == title
