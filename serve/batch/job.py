"""What a batch job is asked to do, and the plan that fixes what it will write."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import msgspec

from serve.batch.part_writers import Format
from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import InputError
from serve.reading.files import is_parquet
from serve.runtime.session import Device

OnBadRow = Literal["fail", "quarantine"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A batch job, as asked for.

    Raises InputError: settings that are out of range or contradict each other.
    """

    task: Score | Recommend
    bundle: str
    output: str
    input: str | None = None
    """A Parquet, CSV or TSV file, a folder or a glob; None: every user of the bundle."""
    user_column: str | None = None
    """Column of user ids in the input; None: one with a usual name, see `serve.reading.columns`."""
    item_column: str | None = None
    """Column of item ids, likewise; unused by `Recommend`."""
    delimiter: str | None = None
    """What separates the cells of text; None: a comma, in .tsv files a tab."""
    heading: str | None = None
    """Names of the columns of text without a heading, separated by commas; None: its first line has them."""
    format: Format = "parquet"
    partition_by: str | None = None
    """Column of the output whose values become folders, `COLUMN=VALUE`; None: no folders."""
    device: Device = "auto"
    tf32: bool = False
    """On CUDA, multiply matrices in TensorFloat-32."""
    part_rows: int | None = None
    """Rows of the input for one part; row groups of Parquet are not split. None: the task's default."""
    batch_rows: int | None = None
    """Rows of one batch; about eight batches are in memory at once. None: the task's default."""
    on_bad_row: OnBadRow = "fail"
    max_bad_rows: int | None = None
    """Rows that may be quarantined before the job stops; None: any number."""

    def __post_init__(self) -> None:
        """Refuse settings that are out of range or contradict each other."""
        for name, allowed in (("format", Format), ("device", Device), ("on_bad_row", OnBadRow)):
            if (value := getattr(self, name)) not in get_args(allowed):
                raise InputError(f"{name} must be one of {', '.join(get_args(allowed))}, got {value!r}")
        for name, value in (("part_rows", self.part_rows), ("batch_rows", self.batch_rows)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if self.max_bad_rows is not None and (self.max_bad_rows < 0 or self.on_bad_row == "fail"):
            raise InputError(
                f"max_bad_rows={self.max_bad_rows} is for on_bad_row='quarantine', and at least 0"
            )
        if self.input is None and isinstance(self.task, Score):
            raise InputError("score needs an input with columns of user ids and item ids")
        if self.format == "csv" and isinstance(self.task, Recommend) and not self.task.explode:
            raise InputError("CSV has no lists. Add --explode, or write --format parquet or jsonl.")

    @property
    def rows_per_part(self) -> int:
        """`part_rows`, or the task's default."""
        return self.part_rows or self.task.part_rows

    @property
    def rows_per_batch(self) -> int:
        """`batch_rows`, or the task's default."""
        return self.batch_rows or self.task.batch_rows

    def default_workers(self, input_bytes: int, cpus: int) -> int:
        """How many processes share the work where the caller names no number; at least one."""
        worker_bytes = self.task.worker_bytes
        return 1 if worker_bytes is None else min(cpus, 1 + input_bytes // worker_bytes)


class InputFile(msgspec.Struct, frozen=True):
    """A file of the input, as it was when the job was planned."""

    name: str
    """Relative to the input that was asked for, so that a moved input is the same job."""
    path: str
    bytes: int
    modified_ns: int
    sha256: str
    partition: dict[str, int | str | None]
    """Columns that the names of its folders give."""

    @property
    def is_text(self) -> bool:
        """Whether this is a text file, which is staged as Parquet."""
        return not is_parquet(Path(self.path))

    def check_unchanged(self) -> None:
        """Compare the file with the planned size and time. Raises InputError: it is gone or has changed."""
        try:
            status = Path(self.path).stat()
        except OSError as error:
            raise InputError(f"{self.path} disappeared while it was read: {error.strerror}.") from None
        if (status.st_size, status.st_mtime_ns) != (self.bytes, self.modified_ns):
            raise InputError(f"{self.path} was changed while it was read. Run again with --overwrite.")


class Fragment(msgspec.Struct, frozen=True):
    """One unit of work: some row groups of one input file, which make one part of the output."""

    number: int
    file: int
    """Position in the plan's files; 0 where the input is every user."""
    start: int
    """First row group of the Parquet file or of the staged text file."""
    stop: int
    """One past the last row group."""
    first_row: int
    """Number of the first row in its file, from 1; in text, the heading and blank lines do not count."""
    n_rows: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What every engine and worker follows: the same plan gives the same bytes."""

    job: Job
    device: Device
    version: str
    """SHA-256 of the bundle's manifest."""
    files: list[InputFile]
    columns: dict[str, str]
    """"user" and "item" -> the name of that column in the input."""
    fragments: list[Fragment]
    """Empty until the text files are staged."""
    versions: dict[str, str]
    """Packages whose release may change a byte of the output."""
    run_id: str
    """Random, and written to the folder's lock: a worker checks that the folder still belongs to its run."""

    @property
    def identity(self) -> dict[str, object]:
        """Everything that the bytes of the parts depend on; `--resume` compares it.

        `on_bad_row` is no part of it: a job that stopped at a bad row may go on and quarantine it.
        """
        job = self.job
        return {
            "bundle": self.version,
            "inputs": [
                {"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in self.files
            ],
            "columns": self.columns,
            "delimiter": job.delimiter,
            "heading": job.heading,
            "task": msgspec.to_builtins(job.task),
            "all_users": job.input is None,
            "format": job.format,
            "partition_by": job.partition_by,
            "part_rows": job.rows_per_part,
            "batch_rows": job.rows_per_batch,
            "device": self.device,
            "versions": self.versions,
        }

    @property
    def output(self) -> Path:
        """The folder to make."""
        return Path(self.job.output).absolute()

    def part_name(self, fragment: Fragment) -> str:
        """File name of a fragment's part; with `partition_by`, in the folder of each value."""
        return f"part-{fragment.number:05d}.{self.job.format}"
