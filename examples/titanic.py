"""Who survives the Titanic: a random forest per worker on its part of the passengers.

    python -m examples.titanic --workers 1,2,4 --reps 3

The table is the one that scikit-learn ships for its own tests (1309 rows). A
quarter is set aside; the rest is divided over the workers. Each tunes a forest
by cross-validation; at the end they vote on the passengers set aside.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files as package_files
from pathlib import Path

from examples._common.command import main
from examples._common.workflow import (
    Data,
    MissingError,
    OptionError,
    Outcome,
    Setup,
    Size,
    Stage,
    StageContext,
    Workload,
    WrongResultError,
    shares,
)

CHUNKS = Data("chunks", ".csv")
ASIDE = Data("aside", ".csv", broadcast=True)
FORESTS = Data("forests", ".joblib")
ACCURACY = Data("accuracy", ".json")

Row = dict[str, str | None]

ROWS = 1309
FEATURES = ("pclass", "sex", "age", "sibsp", "parch", "fare", "embarked")
#: Passengers that a forest needs to learn anything.
LEAST_ROWS = 40
#: Everybody dead is right for 0.62 of them.
LEAST_ACCURACY = 0.70


def train(ctx: StageContext) -> None:
    """Tunes and trains a forest on each of the worker's chunks."""
    import joblib
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    for path in ctx.get_input_paths("chunks"):
        table = np.loadtxt(path, delimiter=",", skiprows=1)
        search = GridSearchCV(
            RandomForestClassifier(
                n_estimators=ctx.get_param("trees"), random_state=ctx.get_param("seed"), n_jobs=1
            ),
            {"max_depth": [4, 8, None], "min_samples_leaf": [1, 3]},
            cv=StratifiedKFold(4, shuffle=True, random_state=ctx.get_param("seed")),
            n_jobs=1,
        ).fit(table[:, 1:], table[:, 0])
        joblib.dump(search.best_estimator_, ctx.next_output_path("forests"))


def evaluate(ctx: StageContext) -> None:
    """Accuracy of each forest, and of all together, on the passengers set aside."""
    import json

    import joblib
    import numpy as np

    [path] = ctx.get_input_paths("aside")
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    x, y = table[:, 1:], table[:, 0]
    forests = [joblib.load(forest) for forest in ctx.get_input_paths("forests")]
    votes = sum(forest.predict_proba(x)[:, 1] for forest in forests) / len(forests)
    result = {
        "forests": len(forests),
        "passengers": len(y),
        "right": int(np.count_nonzero((votes > 0.5) == y)),
        "accuracy_of_each": sorted(float(forest.score(x, y)) for forest in forests),
    }
    with Path(ctx.next_output_path("accuracy")).open("w", encoding="utf-8") as file:
        json.dump(result, file)


def stages(setup: Setup) -> list[Stage]:
    """Two."""
    # As many trees in all, whatever the number of workers: the work is divided, too.
    trees = max(5, setup.sizes["trees"] // setup.workers)
    params = {"seed": setup.seed, "trees": trees}
    return [
        Stage("train", train, (CHUNKS,), (FORESTS,), params),
        Stage("evaluate", evaluate, (FORESTS, ASIDE), (ACCURACY,), single=True),
    ]


def passengers() -> list[Row]:
    """The table, a dict per passenger; None is what is not known.

    Raises:
        MissingError: This build of scikit-learn comes without its test data.
    """
    folder = package_files("sklearn") / "datasets" / "tests" / "data" / "openml" / "id_40945"
    try:
        [file] = [entry for entry in folder.iterdir() if entry.name.endswith(".arff.gz")]
        text = gzip.decompress(file.read_bytes()).decode("utf-8")
    except (OSError, ValueError):
        raise MissingError(
            "this scikit-learn comes without its test data, which hold the Titanic table; the "
            "wheels of PyPI have them: pip install --force-reinstall scikit-learn"
        ) from None
    head, body = re.split(r"^@data\s*$", text, maxsplit=1, flags=re.IGNORECASE | re.MULTILINE)
    names = re.findall(r"^@attribute\s+['\"]?([\w.]+)", head, re.IGNORECASE | re.MULTILINE)
    rows = csv.reader(io.StringIO(body.strip()), escapechar="\\")
    return [
        {name: None if value == "?" else value for name, value in zip(names, row, strict=True)}
        for row in rows
    ]


def prepare(setup: Setup, folder: Path) -> dict[str, list[Path]]:
    """Chunks of the passengers as numbers, and those set aside."""
    table = passengers()
    if len(table) != ROWS:
        raise MissingError(f"scikit-learn's Titanic table has {len(table)} rows, not {ROWS}")
    random.Random(setup.seed).shuffle(table)
    aside, rest = table[: ROWS // 4], table[ROWS // 4 :]
    if len(rest) // setup.workers < LEAST_ROWS:
        raise OptionError(
            f"--workers {setup.workers}: {len(rest)} passengers are enough for "
            f"{len(rest) // LEAST_ROWS} workers"
        )
    # What is known of the training part fills the gaps of both.
    usual = {
        name: statistics.median(float(known) for row in rest if (known := row[name]) is not None)
        for name in ("age", "fare")
    }
    paths = []
    for worker, count in enumerate(shares(len(rest), setup.workers)):
        paths.append(_write(folder / f"chunk-{worker}.csv", rest[:count], usual))
        del rest[:count]
    return {CHUNKS.id: paths, ASIDE.id: [_write(folder / "aside.csv", aside, usual)]}


def _write(
    path: Path, rows: Sequence[Mapping[str, str | None]], usual: Mapping[str, float]
) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("survived", *FEATURES))
        for row in rows:
            writer.writerow(
                [
                    row["survived"],
                    row["pclass"],
                    int(row["sex"] == "female"),
                    usual["age"] if row["age"] is None else row["age"],
                    row["sibsp"],
                    row["parch"],
                    usual["fare"] if row["fare"] is None else row["fare"],
                    "SCQ".find(row["embarked"] or "S"),
                ]
            )
    return path


def check(setup: Setup, files: Mapping[str, Sequence[Path]]) -> Outcome:
    """Every chunk has its forest, and together they know more than the majority."""
    [path] = files[ACCURACY.id]
    result = json.loads(path.read_text("utf-8"))
    accuracy = result["right"] / result["passengers"]
    if result["forests"] != setup.workers or result["passengers"] != ROWS // 4:
        raise WrongResultError(
            f"{result['forests']} forests of {setup.workers}, {result['passengers']} passengers"
        )
    if accuracy < LEAST_ACCURACY:
        raise WrongResultError(f"accuracy {accuracy:.3f}, at least {LEAST_ACCURACY} expected")
    text = f"accuracy {accuracy:.4f}: {result['right']} of {result['passengers']} passengers"
    return Outcome(text, {"accuracy": accuracy, **result})


WORKLOAD = Workload(
    name="titanic",
    title="Random forests on parts of the Titanic's passengers.",
    sizes=(Size("trees", 240, "trees in all forests together", 5),),
    needs={"lithops": "lithops", "sklearn": "scikit-learn"},
    stages=stages,
    prepare=prepare,
    results=(ACCURACY,),
    check=check,
)

if __name__ == "__main__":
    sys.exit(main(WORKLOAD))
