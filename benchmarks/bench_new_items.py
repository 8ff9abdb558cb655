"""How well `recsys add-items` places items that training has not seen, beside training with them.

    python benchmarks/bench_new_items.py [--seeds 3] [--items 500]

Some items with at least ten ratings are taken out of the embedded data set. A model is trained without them;
half of their ratings are then added, the other half is predicted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from publish import publish

from export.add_items.add_items import add_items
from export.write.bundle import export_run
from recsys.data import load
from recsys.data.describe import ratings_frame
from recsys.data.interactions import Interactions
from recsys.evaluation.baselines import fit_biases
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train
from serve.runtime.recommender import Recommender

WAYS = ("average item (row 0)", "biases alone", "add-items", "trained with them")
BANDS = ((5, 9), (10, 19), (20, 49), (50, 10_000))


def read(folder: Path, name: str, frame: pd.DataFrame) -> Interactions:
    frame.to_csv(folder / f"{name}.csv", index=False)
    return load(str(folder / f"{name}.csv"))


def trained(data: Interactions, seed: int, folder: Path, name: str) -> Recommender:
    run = train(
        data, new_settings("dot-bias", {"seed": seed}), folder / f"{name}-run", machine=Machine("cpu")
    )
    export_run(run.path, folder / name)
    return Recommender.load(folder / name, "cpu")


def measure(frame: pd.DataFrame, n_items: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, float]:
    """Squared errors of each way on the ratings to predict; how many were given for each one's item; λ."""
    rng = np.random.default_rng(seed)
    counts = frame["item_id"].value_counts()
    new = rng.choice(np.sort(counts[counts >= 10].index.to_numpy()), n_items, replace=False)
    of_new = frame["item_id"].isin(new).to_numpy()
    given = of_new & (frame.groupby("item_id").cumcount(ascending=True).to_numpy() % 2 == 0)
    wanted = frame[of_new & ~given]
    n_given = frame[given]["item_id"].value_counts()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = trained(read(folder, "base", frame[~of_new]), seed, folder, "base-bundle")
        more = read(folder, "new", frame[given])
        manifest = add_items(folder / "base-bundle", more, folder / "added")
        added = Recommender.load(folder / "added", "cpu")
        both = read(folder, "both", frame[~of_new | given])
        whole = trained(both, seed, folder, "whole")
        users, items = wanted["user_id"].to_numpy(), wanted["item_id"].to_numpy()
        biases = fit_biases(both.user_index, both.item_index, both.ratings, both.n_users, both.n_items)
        scores = {
            WAYS[0]: base.score(users, items).scores,
            WAYS[1]: biases.score(whole.users.lookup(users), whole.items.ids.lookup(items)),
            WAYS[2]: added.score(users, items).scores,
            WAYS[3]: whole.score(users, items).scores,
        }
    errors = {way: (found - wanted["rating"].to_numpy()) ** 2 for way, found in scores.items()}
    strength = manifest.additions[0].regularization
    assert strength is not None
    return errors, n_given.loc[items].to_numpy(), strength


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--items", type=int, default=500)
    arguments = parser.parse_args()
    frame = ratings_frame(load("ml-latest-small")).sample(frac=1, random_state=0)
    measured = [measure(frame, arguments.items, seed) for seed in range(1, 1 + arguments.seeds)]
    head = " | ".join(f"{low} to {high}" if high < 10_000 else f"{low} and more" for low, high in BANDS)
    lines = [
        "# Items that came after training",
        "",
        f"`python benchmarks/bench_new_items.py --seeds {arguments.seeds} --items {arguments.items}`",
        "",
        f"MovieLens latest-small, dot-bias, {arguments.items} items taken out of the training; half of their "
        "ratings given, RMSE on the other half. Medians over the seeds, which choose items and weights; "
        "columns by the number of ratings that were given for the item. λ as chosen: "
        + ", ".join(f"{regularization:g}" for _, _, regularization in measured)
        + ".",
        "",
        f"| way | all | {head} |",
        "| --- |" + " --- |" * (1 + len(BANDS)),
    ]
    for way in WAYS:
        cells = []
        for low, high in ((0, 10_000), *BANDS):
            rmses = [
                float(np.sqrt(errors[way][(n_given >= low) & (n_given <= high)].mean()))
                for errors, n_given, _ in measured
            ]
            cells.append(f"{statistics.median(rmses):.4f}")
        lines.append(f"| {way} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    publish("new_items", "\n".join(lines))


if __name__ == "__main__":
    main()
