"""All fragments on this machine, one after another; each uses all CPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from serve.batch.job import Fragment, Plan
from serve.batch.work import Outcome, do_fragment, run_pool
from serve.device import available_cpus
from serve.recommender import Recommender


def run(
    plan: Plan,
    fragments: Sequence[Fragment],
    folder: Path,
    recommender: Recommender,
    on_rows: Callable[[int], None],
    on_outcome: Callable[[Outcome], None],
) -> None:
    """Do the fragments.

    Args:
        plan: The job.
        fragments: Those of the plan that are left to do.
        folder: Where the job is written.
        recommender: Of the plan's bundle and device.
        on_rows: Called with the number of rows answered since its last call.
        on_outcome: Called with each fragment's outcome; may raise to stop the job.

    Raises:
        ServeError: as `do_fragment`.
    """
    with run_pool(recommender, available_cpus()) as pool:
        for fragment in fragments:
            on_outcome(do_fragment(plan, fragment, folder, recommender, pool, on_rows))
