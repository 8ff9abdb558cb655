"""What a job needs of the machine's memory, said before it begins."""

from __future__ import annotations

import logging
from pathlib import Path

import psutil

from recsys.errors import MemoryShortageError

log = logging.getLogger(__name__)

WORTH_SAYING = 1 << 30
"""Bytes from which on a forecast is logged."""
CONTROL_GROUP = Path("/sys/fs/cgroup")
CONTROL_GROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),  # version 2
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
NO_LIMIT = 1 << 62


def free_bytes(control_group: Path = CONTROL_GROUP) -> int:
    """Bytes of memory that this process can still take: the machine's, within a container's limit."""
    return min(psutil.virtual_memory().available, _left_in(control_group))


def forecast(job: str, n_bytes: int, advice: str, free: int | None = None) -> None:
    """Log what a job will need at its peak, if that is worth saying; `free` is by default `free_bytes`.

    Raises MemoryShortageError: more than is free and swap has. `advice` says what would need less.
    """
    free = free_bytes() if free is None else free
    needs = f"{job} needs about {_gigabytes(n_bytes)} of memory; {_gigabytes(free)} are free"
    if n_bytes > free + psutil.swap_memory().free:
        raise MemoryShortageError(f"{needs}. {advice}")
    if n_bytes >= WORTH_SAYING:
        log.warning(needs)


def _left_in(control_group: Path) -> int:
    """Bytes up to a container's limit (Linux); pages of files that it has read count as free."""
    for limit, used, inactive in CONTROL_GROUP_FILES:
        try:
            bound = (control_group / limit).read_text().strip()
            taken = int((control_group / used).read_text())
            lines = (control_group / used).with_name("memory.stat").read_text().splitlines()
        except (OSError, ValueError):
            continue
        if bound != "max":
            return max(0, int(bound) - taken + int(dict(map(str.split, lines)).get(inactive, 0)))
    return NO_LIMIT


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
