"""What a batch job is asked to do, and the plan that fixes what it will write."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import msgspec

from serve.batch.part_writers import Format
from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import InputError
from serve.reading.files import TEXT
from serve.runtime.session import Device

OnBadRow = Literal["fail", "quarantine"]

PART_ROWS = {Score: 1 << 22, Recommend: 1 << 17}
"""Rows of one part: seconds of work at most, so little is lost with a killed worker, and few files. Between
two parts, reading and answering wait for the disk, so smaller ones cost time."""
BATCH_ROWS = {Score: 1 << 16, Recommend: 1 << 13}
"""Rows in memory at once; some eight batches are on their way. Larger ones are no faster: with 2^17 pairs,
columns take a mebibyte, which goes back to the system and comes from it again with each batch."""
WORKER_BYTES: dict[type, int] = {Score: 16 << 20}
"""Of the input, for another process: they take a few tenths of a second, about as long as its start. Not for
`Recommend`: nearly all of its time is in the graph, whose runs go side by side in threads, with one copy of
the tables."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A batch job, as asked for."""

    task: Score | Recommend
    bundle: str
    output: str
    input: str | None = None
    """A Parquet or CSV file, a folder or a glob; None: every user of the bundle."""
    format: Format = "parquet"
    device: Device = "auto"
    part_rows: int | None = None
    """Rows of the input for one part; a row group of Parquet is never split. None: as the task is."""
    batch_rows: int | None = None
    """Rows in memory at once, for each of about eight batches on their way. None: as the task is."""
    on_bad_row: OnBadRow = "fail"
    max_bad_rows: int | None = None
    """Rows that may be quarantined before the job stops; None: any number."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
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
            raise InputError("score needs an input with the columns user_id and item_id")
        if self.format == "csv" and isinstance(self.task, Recommend) and not self.task.explode:
            raise InputError("CSV has no lists. Add --explode, or write --format parquet or jsonl.")

    @property
    def rows_per_part(self) -> int:
        """`part_rows`, or what the task takes by default."""
        return self.part_rows or PART_ROWS[type(self.task)]

    @property
    def rows_per_batch(self) -> int:
        """`batch_rows`, or what the task takes by default."""
        return self.batch_rows or BATCH_ROWS[type(self.task)]

    def workers_worth_while(self, input_bytes: int, cpus: int) -> int:
        """How many processes should share the work on some CPUs; at least one."""
        worth = WORKER_BYTES.get(type(self.task))
        return 1 if worth is None else min(cpus, 1 + input_bytes // worth)


class InputFile(msgspec.Struct, frozen=True):
    """A file of the input. `name` is relative to what was asked for, so that a move changes nothing."""

    name: str
    path: str
    bytes: int
    modified_ns: int
    sha256: str

    @property
    def is_text(self) -> bool:
        """Whether it is text, which is staged as Parquet before it is worked on."""
        return Path(self.path).suffix.lower() in TEXT


class Fragment(msgspec.Struct, frozen=True):
    """One unit of work: a stretch of one input, and so one part of the output."""

    number: int
    file: int
    """Place in the plan's files; 0 where the input is every user."""
    start: int
    """First row group of the file, or of the staged one."""
    stop: int
    """One past the last."""
    first_row: int
    """Row that it begins with, from 1; for text, blank lines and the heading are not counted."""
    n_rows: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What every engine and every worker does alike: same plan, same bytes."""

    job: Job
    device: Device
    version: str
    """The bundle's: SHA-256 of its manifest."""
    files: list[InputFile]
    fragments: list[Fragment]
    """None, until text files are staged."""
    versions: dict[str, str]
    """Packages whose release may change a byte of the output."""
    run_id: str
    """Random. It is written into the lock, so that a worker can tell whether the folder is still its own."""

    @property
    def identity(self) -> dict[str, object]:
        """All that the bytes of the parts depend on; what `--resume` compares.

        Not what happens to bad rows: a job that stopped at one may go on and set it aside.
        """
        job = self.job
        return {
            "bundle": self.version,
            "inputs": [
                {"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in self.files
            ],
            "task": msgspec.to_builtins(job.task),
            "all_users": job.input is None,
            "format": job.format,
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
        """File name of a fragment's part."""
        return f"part-{fragment.number:05d}.{self.job.format}"
