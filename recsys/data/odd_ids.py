"""Ids that are hardly meant: placeholders, ids that look alike, words among numbers."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

PLACEHOLDERS = ("null", "nan", "none", "n/a", "na", "nil", "undefined", "\\n", "<na>", "unknown", "(null)")
# Ids of which at most this share are no integers were meant to be integers.
MAX_WORD_SHARE = 1 / 3
SHOWN = 3


def odd_ids(what: str, ids: pd.Series) -> Iterator[str]:
    """A sentence for each oddity of the distinct ids of "user" or "item"."""
    if ids.dtype != "str":
        return
    texts = pa.Array.from_pandas(ids, type=pa.string())
    empty = texts.filter(pc.is_in(pc.utf8_lower(texts), value_set=pa.array(PLACEHOLDERS)))
    if len(empty):
        yield f"{_shown(what, empty)}: if it stands for no id, drop its rows."
    # As a person reads them: without blanks, marks that are not seen, other forms of a letter, leading zeros.
    plain = pc.utf8_normalize(texts, "NFKC")
    plain = pc.replace_substring_regex(plain, r"[\pZ\p{Cc}\p{Cf}]+", "")
    plain = pc.replace_substring_regex(plain, r"^(-?)0+([0-9]+)$", r"\1\2")
    counts = pc.value_counts(plain)
    several = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(several):
        alike = texts.filter(pc.equal(plain, several[0]))
        yield (
            f"{_counted(what, len(several))} written in several ways, by leading zeros, blanks or forms of "
            f"a letter: {' and '.join(map(repr, alike[:SHOWN].to_pylist()))}. If they are one {what}, write "
            f"them in one way."
        )
    words = texts.filter(pc.invert(pc.match_substring_regex(texts, r"^(0|-?[1-9][0-9]{0,17})$")))
    if len(words) <= MAX_WORD_SHARE * len(texts) and len(words) > len(empty):
        yield (
            f"{_shown(what, words)}, where the other {len(texts) - len(words):,} are plain integers: so all "
            f"are read as text. If they are no ids, drop their rows."
        )


def _shown(what: str, ids: pa.Array) -> str:
    more = ", …" if len(ids) > SHOWN else ""
    return f"{_counted(what, len(ids))} {', '.join(map(repr, ids[:SHOWN].to_pylist()))}{more}"


def _counted(what: str, n: int) -> str:
    return f"{n:,} {what} {'id is' if n == 1 else 'ids are'}"
