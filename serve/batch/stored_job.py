"""A job whose input or output lies in an object store: fetched, run on this machine, and put.

The work folder holds, until the job ends:

- `_lock`: locked by the process that runs the job
- `input/`: the fetched objects; `_fetched.json`: their keys, sizes and times, so that a job that goes on
  fetches what has changed
- `output/`: the output, as a job of this machine makes it (`serve.batch.run`)

A store renames no folder in one step, so an output is put in three. All its files go under `_new-…/`, a name
that readers of tables leave out. Then the old output is deleted, and the new files get their names. At last
`_SUCCESS.json` is written. A kill leaves the old output whole, or one without `_SUCCESS.json`, which
`--resume` finishes.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote

import msgspec

from serve.batch.fragments import Engine, WrittenFile
from serve.batch.job import Job, Plan
from serve.batch.job_folder import LOCK, SUCCESS, claimed, empty
from serve.batch.local_engine import run_locally
from serve.batch.object_store import Store, is_address, last_name, without_pattern, without_query
from serve.batch.run import JobSummary, finished_job, run_job
from serve.errors import FullDiskError, InputError, JobError, OutputError, StoreError
from serve.files.atomic import check_outside_bundles, check_target, write_file
from serve.reading.files import HIDDEN

FETCHED = "_fetched.json"
NEW = "_new-"
ALL_PUT = "_all-put"
"""The object in `_new-…/` that says that all files are there, and that the old output is gone."""
PROBE = f"{NEW}probe"
OURS = re.compile(rf"{NEW}(probe\Z|[0-9a-f]{{16}}/)")
WORK = (LOCK, FETCHED, "input", "output")
AT_ONCE = 8
"""Objects that are copied at the same time."""
MOST_BYTES = 5 << 30
"""What a store may refuse to copy under another name in one request (S3)."""
MOST_MARKER_BYTES = 1 << 28

OnBytes = Callable[[str, int, int], None]


def default_work_folder(job: Job) -> Path:
    """`.NAME.job`: beside an output of this machine; in the working directory for an output in a store."""
    if is_address(job.output):
        return Path(f".{last_name(job.output)}.job")
    return Path(job.output).absolute().with_name(f".{Path(job.output).name}.job")


def run_stored_job(
    job: Job,
    work: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    engine: Engine = run_locally,
    on_plan: Callable[[Plan, int], None] = lambda plan, rows_done: None,
    on_rows: Callable[[int], None] = lambda n: None,
    on_bytes: OnBytes = lambda what, done, total: None,
) -> JobSummary:
    """Run a job whose input or output is the address of a store, or the rest of one. See `run_job`.

    Args:
        job: What to compute.
        work: The folder for copies of the input and the output, which all machines of a cluster must share.
            Removed at the end.
        resume: As for `run_job`, like the next four.
        overwrite: Replace an existing output once the new one is whole.
        engine: Runs the fragments.
        on_plan: Told the plan.
        on_rows: Told of rows done.
        on_bytes: Called with "fetching" or "storing", and the bytes done and in all.

    Raises:
        StoreError: a store can't be reached, or refuses; `resume` goes on where something was done.
        FullDiskError: the work folder has no room for the input.
        InputError, OutputError, JobError, …: as `run_job`.
    """
    store = Store(job.output) if is_address(job.output) else None
    if store and without_pattern(job.output)[1]:
        raise OutputError(f"{store.address}: an output is no pattern. Leave out * and [.")
    check_outside_bundles(work.absolute())
    _check_work(work)
    in_store: JobSummary | None = None

    def finished(plan: Plan) -> JobSummary | None:
        nonlocal in_store
        in_store = _finished(store, plan, overwrite) if store and resume else None
        return in_store

    with ExitStack() as stack:
        if store:
            _check_free(store, resume, overwrite)
            store.write(PROBE, b"")  # a store that refuses should not say so after hours of work
            store.delete(PROBE)
        else:
            check_target(Path(job.output).absolute(), overwrite or resume, SUCCESS)  # before the input comes
        stack.enter_context(claimed(work))
        stack.enter_context(_telling_what_is_kept(work))
        if (work / "output").exists() and not (resume or overwrite):
            raise OutputError(
                f"{work} holds an output that was not stored. Store it with --resume, or start again with "
                f"--overwrite."
            )
        here = job
        if job.input is not None and is_address(job.input):
            here = msgspec.structs.replace(here, input=str(_fetch(job.input, work, store, on_bytes)))
        if store:
            here = msgspec.structs.replace(here, output=str(work / "output"))
        summary = run_job(
            here,
            resume=resume,
            overwrite=overwrite,
            engine=engine,
            on_plan=on_plan,
            on_rows=on_rows,
            finished_elsewhere=finished,
        )
        if store and not in_store:
            _put(work / "output", store, overwrite, on_bytes)
        empty(work)
    return summary


@contextmanager
def _telling_what_is_kept(work: Path) -> Iterator[None]:
    """Have the error of a store say how to go on, where something was done."""
    try:
        yield
    except StoreError as error:
        if (work / FETCHED).exists() or (work / "output").exists():
            raise StoreError(f"{error} What is done is kept: go on with --resume.") from None
        raise


def _check_work(work: Path) -> None:
    """Raise OutputError for what is no folder, or holds anything but a job's work: it will be emptied."""
    if work.is_symlink() or (work.exists() and not work.is_dir()):
        raise OutputError(f"the work folder {work.absolute()} is no folder. Name another one: --work-folder")
    there: set[str] = set()
    with suppress(FileNotFoundError):  # free, or just removed by another job
        there = {found.name for found in work.iterdir()}
    foreign = [name for name in there.difference(WORK) if not name.startswith((".output.", f".{FETCHED}."))]
    if foreign or (there and LOCK not in there):
        raise OutputError(
            f"the work folder {work.absolute()} holds {min(foreign or there)}, which no job has put there, "
            f"and it is emptied at the end. Name a new folder: --work-folder"
        )


def _finished(store: Store, plan: Plan, overwrite: bool) -> JobSummary | None:
    """The summary of this job if the store holds all of its output; None: there is something left to do.

    Raises OutputError: as `finished_job`.
    """
    there = store.list()
    marker = store.read(SUCCESS, MOST_MARKER_BYTES) if SUCCESS in there else None
    if marker is None:
        return None

    def is_whole(file: WrittenFile) -> bool:
        return file.name in there and int(there[file.name].size) == file.bytes

    summary = finished_job(marker, store.address, plan, is_whole, overwrite)
    if summary:
        store.delete_folder(_new_folder(marker))  # killed in its last step
    return summary


def _fetch(address: str, work: Path, output: Store | None, on_bytes: OnBytes) -> Path:
    """Copy the objects of an address into the work folder; the path that stands for them there.

    Raises OutputError: one of them lies in `output`.
    """
    place, pattern = without_pattern(address)
    store = Store(place)
    address, pattern = without_query(address), unquote(pattern)
    if one := None if pattern else store.itself():
        found = {last_name(place): one}
    else:
        found = {
            name: file
            for name, file in store.list().items()
            if not _is_hidden(name) and fnmatchcase(name.partition("/")[0], pattern or "*")
        }
    if not found:
        raise InputError(f"{address}: no such object, and none below it. Give an object, a folder or a glob.")
    if output and (inside := [file.path for file in found.values() if output.holds(file, store)]):
        raise OutputError(f"{inside[0]} lies in {output.address}, which would be replaced. Write elsewhere.")
    folder = work / "input"
    for name in found:
        if any(part in ("", ".", "..") or "\0" in part for part in name.split("/")):
            raise InputError(f"{address}: {name!r} can't be the name of a file. Copy it under another name.")
    if both := sorted(name for name in found if any(other.startswith(f"{name}/") for other in found)):
        raise InputError(f"{address}: {both[0]} is an object and a folder. Name one of them.")
    now = {name: (file.path, file.size, file.mtime_ns or 0) for name, file in found.items()}
    before = _fetched_before(work)
    for path in sorted(folder.rglob("*"), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif name not in now or before.get(name) != now[name] or path.stat().st_size != now[name][1]:
            path.unlink()
    missing = [name for name in found if not (folder / name).exists()]
    total = sum(found[name].size for name in missing)
    _check_room(work, total)
    write_file(work / FETCHED, msgspec.json.encode(now))

    def fetch(name: str) -> int:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        store.fetch(found[name], folder / name)
        return int(found[name].size)

    _copy(fetch, missing, "fetching", total, on_bytes)
    return folder / (last_name(place) if one else pattern)


def _fetched_before(work: Path) -> dict[str, tuple[str, int, int]]:
    try:
        return msgspec.json.decode((work / FETCHED).read_bytes(), type=dict[str, tuple[str, int, int]])
    except (OSError, msgspec.DecodeError):
        return {}


def _check_room(work: Path, n_bytes: int) -> None:
    room = os.statvfs(work)
    if n_bytes > (free := room.f_bavail * room.f_frsize):
        raise FullDiskError(
            f"{work} needs {n_bytes:,} bytes for the input. Free on its disk: {free:,} bytes. Make room, or "
            f"name another folder: --work-folder"
        )


def _check_free(store: Store, resume: bool, overwrite: bool) -> None:
    """Raise OutputError where an address holds something that this job may not replace."""
    if store.itself():
        raise OutputError(f"{store.address} is an object, not a folder. Choose another output.")
    names = store.list()
    ours = SUCCESS in names or any(map(OURS.match, names))
    if names and not ours:
        raise OutputError(
            f"{store.address} holds {len(names)} objects and no {SUCCESS}, so it isn't ours to overwrite. "
            f"Choose another output."
        )
    if names and not (resume or overwrite):
        raise OutputError(
            f"{store.address} is already there. Choose another output, or add --overwrite."
            if SUCCESS in names
            else f"{store.address} holds half an output. Finish it with --resume, or start again with "
            f"--overwrite."
        )


def _put(folder: Path, store: Store, overwrite: bool, on_bytes: OnBytes) -> None:
    """Store a finished output, or the rest of it. Raises OutputError: another job's is there."""
    marker = (folder / SUCCESS).read_bytes()
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (SUCCESS, LOCK)
    }
    if large := [name for name, size in sizes.items() if size > MOST_BYTES]:
        raise OutputError(f"{large[0]} has more than {MOST_BYTES:,} bytes. Take fewer --part-rows.")
    new = _new_folder(marker)
    there = store.list()
    if SUCCESS in there and not overwrite and store.read(SUCCESS, MOST_MARKER_BYTES) != marker:
        raise OutputError(
            f"{store.address} holds the output of another job. Choose another output, or add --overwrite."
        )
    named = {name: file.size for name, file in there.items() if not name.startswith(f"{new}/")}
    waiting = {name: there[f"{new}/{name}"].size for name in sizes if f"{new}/{name}" in there}
    # Else killed while files got their names. If others are there by now, or some are gone, put all again.
    if f"{new}/{ALL_PUT}" not in there or named | waiting != sizes:
        left = [name for name, size in sizes.items() if waiting.get(name) != size]

        def put(name: str) -> int:
            store.put(folder / name, f"{new}/{name}")
            return sizes[name]

        _copy(put, left, "storing", sum(sizes[name] for name in left), on_bytes)
        for name in sorted(named, key=lambda name: name != SUCCESS):  # first what says that it is whole
            store.delete(name)
        store.write(f"{new}/{ALL_PUT}", b"all files are here\n")
    there = store.list(new)
    unnamed = [name for name in sizes if f"{new}/{name}" in there]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda name: store.move(f"{new}/{name}", name), unnamed):
            pass
    stored = {name: file.size for name, file in store.list().items() if not name.startswith(f"{new}/")}
    if stored != sizes:
        differ = sorted(name for name in stored.keys() | sizes.keys() if stored.get(name) != sizes.get(name))
        raise JobError(
            f"{store.address}: {differ[0]} is not as it was stored. Does another job write there? Once it "
            f"has ended, start again with --overwrite."
        )
    store.write(SUCCESS, marker)
    store.delete_folder(new)


def _new_folder(marker: bytes) -> str:
    """Where the files of an output wait for their names; `marker` are the bytes of its `_SUCCESS.json`."""
    return f"{NEW}{hashlib.sha256(marker).hexdigest()[:16]}"


def _copy(copy: Callable[[str], int], names: Iterable[str], what: str, total: int, on_bytes: OnBytes) -> None:
    """Copy several objects at once, and count their bytes."""
    done = 0
    on_bytes(what, 0, total)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for n_bytes in pool.map(copy, names):
                on_bytes(what, done := done + n_bytes, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _is_hidden(name: str) -> bool:
    return any(part.startswith(HIDDEN) for part in name.split("/"))
