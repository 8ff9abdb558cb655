"""What does the fragments of a plan: `local_engine.run_locally`, or a cluster (`ray_engine`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from serve.batch.fragments import Outcome
from serve.batch.job import Fragment, Plan
from serve.runtime.recommender import Recommender


class Engine(Protocol):
    """Does fragments, in any order, in any number of processes."""

    def __call__(
        self,
        plan: Plan,
        fragments: Sequence[Fragment],
        folder: Path,
        recommender: Recommender,
        on_rows: Callable[[int], None],
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        """Do the fragments; return when all are done.

        Args:
            plan: The job.
            fragments: Those of the plan that are left to do.
            folder: Where the parts are written.
            recommender: Of the plan's bundle and device, for work in this process.
            on_rows: Called with the number of input rows done since its last call.
            on_outcome: Called with each fragment's outcome; may raise to stop the job.

        Raises:
            ServeError: as `FragmentRunner.run`.
            JobError: worker processes die again and again.
        """
