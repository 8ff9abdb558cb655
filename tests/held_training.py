"""`recsys train` that waits after an epoch until a file is there: what is done to it comes before its end."""

from __future__ import annotations

import os
from pathlib import Path

PROGRAM = """
import os, time
from recsys.training import run_folder
commit = run_folder.RunFolder.commit
def held(folder, info, *state):
    made = commit(folder, info, *state)
    done = made.part.iterations_done
    while done >= int(os.environ["HOLD_EPOCH"]) and not os.path.exists(os.environ["HOLD_UNTIL"]):
        time.sleep(0.01)
    return made
run_folder.RunFolder.commit = held
from recsys.cli import main
main()
"""


def held(epoch: int, until: Path) -> dict[str, str]:
    """The environment of a PROGRAM that goes on after so many epochs only once `until` is there."""
    return os.environ | {"OMP_NUM_THREADS": "1", "HOLD_EPOCH": str(epoch), "HOLD_UNTIL": str(until)}
