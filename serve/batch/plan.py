"""Planning a job: what there is to do is settled before anything is written, alike for every machine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from importlib.metadata import version

import msgspec

from serve.batch.inputs import common_schema, describe, find_files, open_source
from serve.batch.job import Fragment, InputFile, Job, Plan
from serve.batch.part import check_format
from serve.batch.source import Source
from serve.batch.users_source import UsersSource
from serve.recommender import Recommender

PACKAGES = ("recsys-onnx", "numpy", "pyarrow")


def make_plan(job: Job, recommender: Recommender) -> Plan:
    """Find the input, check its columns, and cut it into fragments.

    Raises:
        InputError: no files, files that differ, columns that are missing or of the wrong type.
    """
    files: list[InputFile] = []
    sources: list[Source] = [UsersSource(recommender.users)]
    if job.input is not None:
        files = describe(find_files(job.input))
        sources = [open_source(file.path) for file in files]
        common_schema(files, sources)
    name = files[0].path if files else "the bundle"
    schema = job.task.schema(name, sources[0].schema, sources[0].is_text, recommender)
    check_format(job.format, schema)
    return Plan(
        job=msgspec.structs.replace(job, bundle=str(recommender.bundle.path)),
        device=recommender.device,
        version=recommender.bundle.version,
        files=files,
        fragments=list(_fragments(job, sources)),
        versions={"onnxruntime": _onnxruntime(), **{name: version(name) for name in PACKAGES}},
        run=secrets.token_hex(8),
    )


def _fragments(job: Job, sources: list[Source]) -> Iterator[Fragment]:
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
