"""Planning a job: everything that it will write is fixed before anything is written."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import msgspec
import pyarrow as pa

from serve.batch.job import Fragment, InputFile, Job, Plan
from serve.batch.part_writers import check_format
from serve.batch.partitioned import check_partition
from serve.batch.sources import UsersSource, open_planned
from serve.errors import InputError
from serve.files.checksum import sha256_of
from serve.reading.columns import find_columns
from serve.reading.files import find_files, open_source
from serve.reading.partitions import Partition, partitions
from serve.reading.rows import Source
from serve.runtime.recommender import Recommender
from serve.runtime.session import available_cpus

PACKAGES = ("recsys-onnx", "numpy", "pyarrow")


def make_plan(job: Job, recommender: Recommender) -> Plan:
    """Find the input's files and check their columns. The plan has no fragments yet: see `with_fragments`.

    Raises:
        InputError: no files, files that differ, columns that are missing or of the wrong type.
    """
    import onnxruntime

    files = []
    if job.input is not None:
        with ThreadPoolExecutor(available_cpus()) as pool:
            names, paths = zip(*find_files(job.input), strict=True)
            files = list(pool.map(_described, names, paths, partitions(names)))
    first = _open(files[0], job) if files else UsersSource(recommender.users, job.rows_per_part)
    for file in files[1:]:  # one at a time: there may be more files than can be open at once
        if not (schema := _open(file, job).schema).equals(first.schema):
            raise InputError(
                f"{file.path} has the columns ({_shown(schema)}), {files[0].path} has "
                f"({_shown(first.schema)}). All files of an input must be alike."
            )
    named = {"user": job.user_column, "item": job.item_column}
    roles = {role: named[role] for role in job.task.roles}
    columns = find_columns(first.schema.names, roles, first.name)
    schema = job.task.schema(first, columns, recommender)
    if job.partition_by is not None:
        check_partition(job.partition_by, schema)
    check_format(job.format, schema)
    return Plan(
        job=msgspec.structs.replace(job, bundle=str(recommender.bundle.path)),
        device=recommender.device,
        version=recommender.bundle.version,
        files=files,
        columns=columns,
        fragments=[],
        # Not `version`: its package goes by several names.
        versions={"onnxruntime": onnxruntime.__version__, **{name: version(name) for name in PACKAGES}},
        run_id=secrets.token_hex(8),
    )


def with_fragments(plan: Plan, folder: Path, recommender: Recommender) -> Plan:
    """Cut the input into fragments; its text is staged in `folder`. Raises InputError: a file is damaged."""
    fragments: list[Fragment] = []
    for place in range(max(1, len(plan.files))):
        first_row = 1
        groups = open_planned(plan, place, folder, recommender).group_rows
        for start, stop, n_rows in _cuts(groups, plan.job.rows_per_part):
            fragments.append(Fragment(len(fragments), place, start, stop, first_row, n_rows))
            first_row += n_rows
    return msgspec.structs.replace(plan, fragments=fragments)


def _cuts(group_rows: Sequence[int], part_rows: int) -> Iterator[tuple[int, int, int]]:
    """(First group, one past the last, rows) of each fragment: about `part_rows` rows; at least one."""
    start = n_rows = 0
    for group, rows in enumerate(group_rows):
        if n_rows and n_rows + rows > part_rows:
            yield start, group, n_rows
            start, n_rows = group, 0
        n_rows += rows
    yield start, len(group_rows), n_rows


def _described(name: str, path: Path, partition: Partition) -> InputFile:
    try:
        status = path.stat()  # before the file is read, so that a later write is noticed
        digest = sha256_of(path)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from None
    return InputFile(name, str(path.absolute()), status.st_size, status.st_mtime_ns, digest, dict(partition))


def _open(file: InputFile, job: Job) -> Source:
    source = open_source(Path(file.path), job.delimiter, job.heading, file.partition)
    names = source.schema.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{file.path} has more than one column named {', '.join(map(repr, twice))}.")
    return source


def _shown(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
