"""Planning a job: what there is to do is settled before anything is written, alike for every machine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from serve.batch.inputs import check_alike, describe, open_input
from serve.batch.job import Fragment, Job, Plan
from serve.batch.part_writers import check_format
from serve.batch.sources import UsersSource, open_planned
from serve.reading.files import find_files
from serve.reading.rows import Source
from serve.runtime.recommender import Recommender

PACKAGES = ("recsys-onnx", "numpy", "pyarrow")


def make_plan(job: Job, recommender: Recommender) -> Plan:
    """Find the input and check its columns. The plan has no fragments yet: see `with_fragments`.

    Raises:
        InputError: no files, files that differ, columns that are missing or of the wrong type.
    """
    files = [] if job.input is None else describe(find_files(job.input))
    first: Source = open_input(files[0].path) if files else UsersSource(recommender.users, job.rows_per_part)
    for file in files[1:]:  # one after the other: there may be more than can be open at once
        check_alike(file, open_input(file.path), files[0], first)
    check_format(job.format, job.task.schema(first, recommender))
    return Plan(
        job=msgspec.structs.replace(job, bundle=str(recommender.bundle.path)),
        device=recommender.device,
        version=recommender.bundle.version,
        files=files,
        fragments=[],
        versions={"onnxruntime": _onnxruntime(), **{name: version(name) for name in PACKAGES}},
        run_id=secrets.token_hex(8),
    )


def with_fragments(plan: Plan, folder: Path, recommender: Recommender) -> Plan:
    """A plan whose text files are staged in the job's folder, cut into fragments.

    Raises:
        InputError: a file is damaged.
    """
    fragments: list[Fragment] = []
    for place in range(max(1, len(plan.files))):
        first_row = 1
        groups = open_planned(plan, place, folder, recommender).group_rows
        for start, stop, n_rows in _cuts(groups, plan.job.rows_per_part):
            fragments.append(Fragment(len(fragments), place, start, stop, first_row, n_rows))
            first_row += n_rows
    return msgspec.structs.replace(plan, fragments=fragments)


def _cuts(group_rows: Sequence[int], part_rows: int) -> Iterator[tuple[int, int, int]]:
    """First group, one past the last, and rows of each fragment: about `part_rows`, no group split; at least
    one fragment.
    """
    start = n_rows = 0
    for group, rows in enumerate(group_rows):
        if n_rows and n_rows + rows > part_rows:
            yield start, group, n_rows
            start, n_rows = group, 0
        n_rows += rows
    yield start, len(group_rows), n_rows


def _onnxruntime() -> str:
    import onnxruntime

    found: str = onnxruntime.__version__
    return found
