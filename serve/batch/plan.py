"""Planning a job: what there is to do is settled before anything is written, alike for every machine."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version

import msgspec

from serve.batch.inputs import check_alike, describe, find_files, open_source
from serve.batch.job import Fragment, InputFile, Job, Plan
from serve.batch.part_writers import check_format
from serve.batch.source import Source
from serve.batch.users_source import UsersSource
from serve.runtime.recommender import Recommender

PACKAGES = ("recsys-onnx", "numpy", "pyarrow")


def make_plan(job: Job, recommender: Recommender) -> Plan:
    """Find the input, check its columns, and cut it into fragments.

    Raises:
        InputError: no files, files that differ, columns that are missing or of the wrong type.
    """
    files = [] if job.input is None else describe(find_files(job.input))
    name = files[0].path if files else "the bundle"
    first = next(_sources(files, recommender))
    check_format(job.format, job.task.schema(name, first.schema, first.is_text, recommender))
    return Plan(
        job=msgspec.structs.replace(job, bundle=str(recommender.bundle.path)),
        device=recommender.device,
        version=recommender.bundle.version,
        files=files,
        fragments=list(_fragments(job, _sources(files, recommender))),
        versions={"onnxruntime": _onnxruntime(), **{name: version(name) for name in PACKAGES}},
        run_id=secrets.token_hex(8),
    )


def _sources(files: Sequence[InputFile], recommender: Recommender) -> Iterator[Source]:
    """What there is to read, one after the other: there may be more files than can be open at once.

    Raises:
        InputError: a file is damaged, or has other columns than the first.
    """
    if not files:
        yield UsersSource(recommender.users)
    first: Source | None = None
    for file in files:
        source = open_source(file.path)
        first = first or source
        check_alike(file, source, files[0], first)
        yield source


def _fragments(job: Job, sources: Iterable[Source]) -> Iterator[Fragment]:
    number = 0
    for place, source in enumerate(sources):
        first_row = 1
        for cut in source.cuts(job.rows_per_part):
            yield Fragment(number, place, cut.start, cut.stop, first_row, cut.n_rows)
            number += 1
            first_row += cut.n_rows


def _onnxruntime() -> str:
    import onnxruntime

    found: str = onnxruntime.__version__
    return found
