"""`README.md` of a bundle: its model card, with the header that the Hugging Face Hub reads."""

from __future__ import annotations

import json
from typing import Any

from serve.bundle.manifest import METRICS, Manifest


def model_card(manifest: Manifest) -> str:
    """The text: YAML, then Markdown. It has nothing that differs between two exports of a run."""
    header = "\n".join(_yaml(_header(manifest)))
    body = "\n\n".join(part for part in _sections(manifest) if part)
    return f"---\n{header}\n---\n\n{body}\n"


def _header(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = {
        "license": "other",
        "license_name": "terms-of-the-data",
        "library_name": "onnx",
        "tags": ["recommendation", "collaborative-filtering", "onnx", "onnxruntime", "recsys-onnx"],
    }
    if found_metrics := measured(manifest):
        name, split = manifest.data.name, manifest.split.get("kind")
        task = {"type": "recommendation", "name": "Recommendation"}
        metrics = [{"type": key, "name": title, "value": value} for title, key, value in found_metrics]
        dataset = {"type": name, "name": name, "split": split}
        results = [{"task": task, "dataset": dataset, "metrics": metrics}]
        found["model-index"] = [{"name": manifest.model.title, "results": results}]
    return found


def measured(manifest: Manifest) -> list[tuple[str, str, float]]:
    """Title, key and value of each metric on held-out ratings; none where nothing was held out."""
    metrics, k = manifest.metrics, manifest.metrics.get("k", 10)
    return [
        (title.format(k=k), key, float(f"{metrics[key]:.6g}"))  # the last bits differ between machines
        for title, key in METRICS.items()
        if isinstance(metrics.get(key), (int, float)) and metrics.get("n_held_out")
    ]


def _sections(manifest: Manifest) -> list[str]:
    model, data = manifest.model, manifest.data
    what = "predicted ratings, and lists" if model.scores == "ratings" else "lists"
    left = model.n_users - manifest.n_forgotten
    about = (
        f"Recommends items to users: {what}, as self-contained ONNX graphs. {left:,} users, "
        f"{model.n_items:,} items; learned from {data.n_ratings:,} "
        f"{'choices' if data.implicit else 'ratings'} ({_plain(data.name)})."
    )
    holds = (
        "It holds the ids of users and, in `seen.parquet`, what they have rated."
        if not manifest.without_seen
        else "It holds the ids of users, and not what they have rated; their rows were learned from it."
    )
    return [
        f"# {model.title}: {_plain(data.name)}",
        about,
        _use(manifest),
        _metrics(manifest),
        _parts(manifest),
        f"## Limits\n\n{holds} Lists follow past ratings and repeat what is uneven in them: popular items "
        f"come more often, and users and items with few ratings are served worse. Users who are not in the "
        f"data get the average user's list.",
        f"## Terms\n\nOf the data, and so of a model learned from it: {_plain(data.licence)}",
    ]


def _use(manifest: Manifest) -> str:
    exclude = ", exclude_seen=False" if manifest.without_seen else ""
    return (
        "## Use\n\n```python\nfrom serve import Recommender  # of recsys-onnx\n\n"
        'recommender = Recommender.load("this-folder", "cpu")\n'
        f"print(recommender.recommend(recommender.users.first_id{exclude}).item_ids)\n```\n\n"
        "Or by any ONNX runtime: `manifest.json` has the inputs and outputs of the graphs, "
        "`conformance.json` right answers."
    )


def _metrics(manifest: Manifest) -> str:
    found = measured(manifest)
    if not found:
        return ""
    baselines = {
        name.replace("_", " "): one
        for name, one in manifest.metrics.get("baselines", {}).items()
        if isinstance(one, dict)
    }
    heads = ["", "the model", *baselines]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    for title, key, value in found:
        others = [one.get(key) for one in baselines.values()]
        rows.append([title, *("-" if one is None else f"{one:.4f}" for one in (value, *others))])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    said = manifest.metrics.get("summary")
    return "\n".join(
        [
            f"## Measured\n\nOn {manifest.metrics['n_held_out']:,} ratings held out of the training "
            f"({manifest.split.get('kind')} split).{f' {said}' if said else ''}\n",
            *lines,
        ]
    )


def _parts(manifest: Manifest) -> str:
    rows = [f"| {part.kind} | {part.objective} | {part.weight:g} |" for part in manifest.model.parts]
    return "\n".join(["## Parts\n", "| kind | objective | weight in lists |", "| --- | --- | ---: |", *rows])


def _plain(text: str) -> str:
    """One line without Markdown's or HTML's signs, so that names from data stay text."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#&!" else char for char in " ".join(text.split()))


def _yaml(value: dict[str, Any], indent: int = 0) -> list[str]:
    """Lines of YAML. Strings are quoted as in JSON, which is YAML, so that none is read as anything else."""
    lines, pad = [], " " * indent
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [f"{pad}{key}:", *_yaml(item, indent + 2)]
        elif isinstance(item, list):
            lines.append(f"{pad}{key}:")
            for one in item:
                if isinstance(one, dict):
                    first, *rest = _yaml(one, indent + 2)
                    lines += [f"{pad}- {first.lstrip()}", *rest]
                else:
                    lines.append(f"{pad}- {json.dumps(one)}")
        else:
            lines.append(f"{pad}{key}: {json.dumps(item)}")
    return lines
