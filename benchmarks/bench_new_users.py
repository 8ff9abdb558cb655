"""What a new user gets from nothing, from answers to the profiles' questions, and from fold-in.

    python benchmarks/bench_new_users.py [--seeds 1]

A fifth of the users of the embedded data set is left out of the training. Each of them answers the profiles'
questions with the ratings that they gave ("not seen" where there is none); what they are then recommended is
judged by the rest of their ratings.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from publish import publish

from export.write.bundle import export_run
from recsys.data import load
from recsys.data.interactions import Interactions
from recsys.data.splits import split
from recsys.evaluation.baselines import popularity, same_for_everyone
from recsys.evaluation.ranking import RatedItems, ranking_metrics
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train
from serve.runtime.profiles import Profiles
from serve.runtime.recommender import Recommender

K = 10
KINDS = ("dot-bias", "mlp")
LIKED = 4.0


def measure(data: Interactions, kind: str, seed: int) -> dict[str, dict[str, float]]:
    """Way -> the metrics of its lists, over the left-out users with an answer and a liked item besides."""
    with tempfile.TemporaryDirectory() as temporary:
        settings = new_settings(kind, {"kind": "by-user", "seed": seed})
        run = train(data, settings, Path(temporary) / "run", machine=Machine("cpu"))
        export_run(run.path, Path(temporary) / "bundle")
        recommender = Recommender.load(Path(temporary) / "bundle", "cpu")
        return judged(data, recommender, split(data, settings.split).train)


def judged(data: Interactions, recommender: Recommender, training: np.ndarray) -> dict[str, dict[str, float]]:
    profiles = Profiles.of(recommender)
    asked = np.array([question.item_index for question in profiles.questions])
    most_rated = same_for_everyone(popularity(data.item_index[training], data.n_items))
    lists: dict[str, list[np.ndarray]] = defaultdict(list)
    liked: list[tuple[int, int]] = []
    n_answers = []
    new_users = np.setdiff1d(data.user_index, data.user_index[training])
    for user in new_users.tolist():
        rows = np.flatnonzero(data.user_index == user)
        items, ratings = data.item_index[rows], data.ratings[rows]
        answered = np.isin(items, asked)
        rest = items[~answered & (ratings >= LIKED)]
        if not answered.any() or not len(rest):
            continue
        given = items[answered].tolist()
        ids = recommender.items.ids.ids(items[answered].astype(np.int64)).tolist()
        answers = dict(zip(given, ratings[answered].tolist(), strict=True))
        likes = {item: "like" if rating >= LIKED else "dislike" for item, rating in answers.items()}

        def of(place: int | None, exclude: list[int] = given) -> np.ndarray:
            return profiles.recommend(place, K, exclude_item_indices=exclude).item_indices

        lists["the most rated items"].append(most_rated(np.array([user]), np.array([given]), K)[0])
        lists["average user (row 0)"].append(of(None))
        lists["nearest profile, by ratings"].append(of(profiles.match(answers)))
        lists["nearest profile, by like and dislike"].append(of(profiles.match(likes)))  # type: ignore[arg-type]
        if "fold_in" in recommender.manifest.graphs:
            folded = recommender.fold_in(ids, list(answers.values()), K)
            lists["fold-in of the same ratings"].append(folded.item_indices)
        n_answers.append(len(given))
        liked += [(user, item) for item in rest.tolist()]
    pairs = np.array(liked)
    users = np.unique(pairs[:, 0])
    held_out = RatedItems.of(pairs[:, 0], pairs[:, 1], data.n_users)
    found = {}
    for way, rows_ in lists.items():
        metrics = ranking_metrics(users, np.stack(rows_).astype(np.int64), held_out)
        found[way] = {
            "ndcg": metrics["ndcg_at_k"],
            "hit_rate": metrics["hit_rate_at_k"],
            "users": float(len(users)),
            "answers": float(np.mean(n_answers)),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    data = load("ml-latest-small")
    lines = [
        "# New users: the average, profiles, fold-in",
        "",
        f"`python benchmarks/bench_new_users.py --seeds {arguments.seeds}`",
        "",
        "MovieLens latest-small; a fifth of the users left out of the training. They answer the questions of "
        f"the bundle with their own ratings; lists of {K} are judged by their other items rated {LIKED:g} or "
        "more, the whole catalogue competing. Medians over the seeds.",
        "",
        f"| model | way | nDCG@{K} | hit rate@{K} | users | answers each |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind in KINDS:
        measured = [measure(data, kind, seed) for seed in range(1, 1 + arguments.seeds)]
        for way in measured[0]:
            median = {
                key: statistics.median(found[way][key] for found in measured) for key in measured[0][way]
            }
            lines.append(
                f"| {kind} | {way} | {median['ndcg']:.4f} | {median['hit_rate']:.4f} | {median['users']:.0f} "
                f"| {median['answers']:.1f} |"
            )
            print(lines[-1], flush=True)
    publish("new_users", "\n".join(lines))


if __name__ == "__main__":
    main()
