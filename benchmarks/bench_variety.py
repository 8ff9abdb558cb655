"""What variety buys and costs: alikeness, coverage, popularity and nDCG of the lists by its weights.

    python benchmarks/bench_variety.py [--bundle BUNDLE]

Lists of ten for all users with held-out ratings, from a bundle of the packaged data set whose training left
them out: `artifacts/default`, which `make export` makes. What a user rated in training is excluded.
"""

from __future__ import annotations

import argparse
import statistics
import time

import msgspec
import numpy as np
from machine import describe_machine
from publish import publish

from recsys.data import load
from recsys.data.splits import SplitRecipe, split
from recsys.evaluation.ranking import RatedItems, list_metrics, ranking_metrics
from serve import Recommender, Variety

K = 10
WEIGHTS = (0.0, 0.25, 0.5, 0.75)
ROUNDS = 41


def ways() -> dict[str, Variety | None]:
    """Name of a row -> what is asked for."""
    found: dict[str, Variety | None] = {"none": None}
    found |= {f"diversity {weight:g}": Variety(diversity=weight) for weight in WEIGHTS[1:]}
    found |= {f"surprise {weight:g}": Variety(surprise=weight) for weight in (-0.5, *WEIGHTS[1:])}
    found |= {f"max_per_category {n}": Variety(max_per_category=n) for n in (5, 3, 2)}
    found["diversity 0.25, surprise 0.25"] = Variety(diversity=0.25, surprise=0.25)
    return found


def alikeness(top: np.ndarray, directions: np.ndarray) -> float:
    """Mean cosine of the pairs of items in a list, over all lists: int64 [B, K]."""
    rows = directions[top]  # [B, K, F]
    cosines = np.matmul(rows, rows.transpose(0, 2, 1))
    places = np.triu_indices(top.shape[1], 1)
    return float(cosines[:, places[0], places[1]].mean())


def milliseconds(recommender: Recommender, variety: Variety | None) -> float:
    """Median processor time of one user's list."""
    taken = []
    for user in range(1, ROUNDS + 2):
        start = time.process_time()
        recommender.rank(np.array([user]), K, variety=variety)
        taken.append(1e3 * (time.process_time() - start))
    return statistics.median(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="artifacts/default")
    recommender = Recommender.load(parser.parse_args().bundle, "cpu")
    data = load("ml-latest-small")
    sides = split(data, msgspec.convert(recommender.manifest.split, SplitRecipe))
    train = RatedItems.of(data.user_index[sides.train], data.item_index[sides.train], data.n_users)
    valid = RatedItems.of(data.user_index[sides.valid], data.item_index[sides.valid], data.n_users)
    users = np.unique(data.user_index[sides.valid]).astype(np.int64)
    shares = np.bincount(data.item_index[sides.train], minlength=data.n_items + 1) / data.n_users
    directions = recommender.bundle.table("item_directions")
    genres: list[set[str]] = [set()] + [
        set((cell or "").split("|")) - {""} for cell in recommender.items.genres or []
    ]
    lines = [
        f"| variety | alikeness | genres a list | coverage@{K} | popularity@{K} | nDCG@{K} | CPU ms a list |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, variety in ways().items():
        top = recommender.rank(
            users, K, exclude_seen=False, exclude_item_indices=list(train.padded(users)), variety=variety
        ).indices
        found = ranking_metrics(users, top, valid) | list_metrics(top, shares)
        n_genres = np.mean([len(set().union(*(genres[item] for item in row))) for row in top.tolist()])
        lines.append(
            f"| {name} | {alikeness(top, directions):.3f} | {n_genres:.1f} | {found['coverage_at_k']:.3f} | "
            f"{found['popularity_at_k']:.3f} | {found['ndcg_at_k']:.3f} | "
            f"{milliseconds(recommender, variety):.1f} |"
        )
        print(lines[-1], flush=True)
    n_ranked = recommender.largest_k("recommend")
    text = [
        "# What variety buys and costs",
        "",
        "`make export`, then `python benchmarks/bench_variety.py`",
        "",
        f"MovieLens latest-small, {len(users)} users with held-out ratings, lists of {K} from the {n_ranked} "
        f"best. {describe_machine('numpy', 'onnxruntime-gpu')}",
        "Alikeness: mean cosine of the pairs of a list. Popularity: share of users who have rated an item.",
        "",
        *lines,
    ]
    publish("variety", "\n".join(text))


if __name__ == "__main__":
    main()
