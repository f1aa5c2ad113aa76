"""Trains an ensemble of random forests on handwritten digits: PCA, train, aggregate, test.

    python -m examples.ml_pipeline --workers 1,2,4 --reps 3

The data are the 1797 images that scikit-learn ships, enlarged by shifted and
noisy copies. Every model has parameters and a seed of its own, whatever the
number of workers, so all configurations must reach the same accuracy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from examples._common.command import main
from examples._common.workflow import (
    Data,
    Outcome,
    Setup,
    Size,
    Stage,
    StageContext,
    Workload,
    WrongResultError,
    shares,
)

IMAGES = Data("images", ".npz")
TASKS = Data("tasks", ".json")
TRAINING = Data("training", ".npz", broadcast=True)
VALIDATION = Data("validation", ".npz", broadcast=True)
TESTING = Data("testing", ".npz", broadcast=True)
MODELS = Data("models", ".joblib")
ENSEMBLE = Data("ensemble", ".joblib")
ACCURACY = Data("accuracy", ".json")

#: Chance is 0.1; what is below this is broken rather than small.
LEAST_ACCURACY = 0.4


def pca(ctx: StageContext) -> None:
    """Splits the images, enlarges the training part, and projects all on principal axes."""
    import numpy as np

    [path] = ctx.get_input_paths("images")
    with np.load(path) as file:
        images, labels = file["images"], file["labels"]
    rng = np.random.default_rng(ctx.get_param("seed"))
    order = rng.permutation(len(images))
    test, validation, train = np.split(order, [len(order) // 4, len(order) * 3 // 8])

    # Copies of training images only: a shifted twin in the test set would be cheating.
    source = train[rng.integers(0, len(train), ctx.get_param("rows"))]
    shifts = rng.integers(-1, 2, (len(source), 2))
    enlarged = np.empty((len(source), *images.shape[1:]))
    for row, (image, (down, right)) in enumerate(zip(images[source], shifts, strict=True)):
        enlarged[row] = np.roll(image, (down, right), axis=(0, 1))
    enlarged += rng.normal(0.0, 1.0, enlarged.shape)

    flat = enlarged.reshape(len(enlarged), -1)
    centre = flat.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(flat - centre, rowvar=False))
    axes = vectors[:, np.argsort(values)[::-1][: ctx.get_param("components")]]
    for name, chosen, answer in (
        ("training", enlarged, labels[source]),
        ("validation", images[validation], labels[validation]),
        ("testing", images[test], labels[test]),
    ):
        with Path(ctx.next_output_path(name)).open("wb") as file:
            projected = (chosen.reshape(len(chosen), -1) - centre) @ axes
            np.savez(file, x=projected.astype("float32"), y=answer)


def train(ctx: StageContext) -> None:
    """Trains the models of this worker's tasks."""
    import json

    import joblib
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier

    [path] = ctx.get_input_paths("training")
    with np.load(path) as file:
        x, y = file["x"], file["y"]
    for task_path in ctx.get_input_paths("tasks"):
        with Path(task_path).open(encoding="utf-8") as text:
            tasks = json.load(text)
        for task in tasks:
            model = RandomForestClassifier(n_jobs=1, **task["parameters"]).fit(x, y)
            joblib.dump((task["model"], model), ctx.next_output_path("models"))


def aggregate(ctx: StageContext) -> None:
    """Merges the models into one ensemble; a model's vote weighs as much as it knows."""
    import joblib
    import numpy as np

    [path] = ctx.get_input_paths("validation")
    with np.load(path) as file:
        x, y = file["x"], file["y"]
    numbered = sorted(
        (joblib.load(model) for model in ctx.get_input_paths("models")), key=lambda pair: pair[0]
    )
    models = [model for _, model in numbered]
    weights = [float(model.score(x, y)) for model in models]
    joblib.dump({"models": models, "weights": weights}, ctx.next_output_path("ensemble"))


def test(ctx: StageContext) -> None:
    """Accuracy of the ensemble on images that nothing was trained on."""
    import json

    import joblib
    import numpy as np

    [path] = ctx.get_input_paths("testing")
    with np.load(path) as file:
        x, y = file["x"], file["y"]
    [ensemble_path] = ctx.get_input_paths("ensemble")
    ensemble = joblib.load(ensemble_path)
    votes = sum(
        weight * model.predict_proba(x)
        for model, weight in zip(ensemble["models"], ensemble["weights"], strict=True)
    )
    right = int(np.count_nonzero(ensemble["models"][0].classes_[votes.argmax(axis=1)] == y))
    result = {"models": len(ensemble["models"]), "right": right, "images": len(y)}
    with Path(ctx.next_output_path("accuracy")).open("w", encoding="utf-8") as file:
        json.dump(result, file)


def stages(setup: Setup) -> list[Stage]:
    """Four, in a row."""
    params = {"seed": setup.seed, "rows": setup.sizes["rows"], "components": 40}
    return [
        Stage("pca", pca, (IMAGES,), (TRAINING, VALIDATION, TESTING), params, single=True),
        Stage("train", train, (TASKS, TRAINING), (MODELS,)),
        Stage("aggregate", aggregate, (MODELS, VALIDATION), (ENSEMBLE,), single=True),
        Stage("test", test, (ENSEMBLE, TESTING), (ACCURACY,), single=True),
    ]


def prepare(setup: Setup, folder: Path) -> dict[str, list[Path]]:
    """The images, and for each worker a list of models to train."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = folder / "images.npz"
    np.savez(images, images=digits.images, labels=digits.target)
    models = [
        {
            "model": number,
            "parameters": {
                "n_estimators": setup.sizes["trees"],
                "max_depth": (10, 14, None)[number % 3],
                "max_features": (0.1, 0.15, 0.2, 0.3)[number % 4],
                "random_state": setup.seed * 1000 + number,
            },
        }
        for number in range(setup.sizes["models"])
    ]
    paths = []
    for worker, count in enumerate(shares(len(models), setup.workers)):
        path = folder / f"{worker}.json"
        path.write_text(json.dumps(models[:count]), "utf-8")
        del models[:count]
        paths.append(path)
    return {IMAGES.id: [images], TASKS.id: paths}


def check(setup: Setup, files: Mapping[str, Sequence[Path]]) -> Outcome:
    """Every model took part, and the ensemble has learned something."""
    [path] = files[ACCURACY.id]
    result = json.loads(path.read_text("utf-8"))
    accuracy = result["right"] / result["images"]
    if result["models"] != setup.sizes["models"]:
        raise WrongResultError(f"{result['models']} of {setup.sizes['models']} models took part")
    if accuracy < LEAST_ACCURACY:
        raise WrongResultError(f"accuracy {accuracy:.3f}, at least {LEAST_ACCURACY} expected")
    text = (
        f"accuracy {accuracy:.4f}: {result['right']} of {result['images']} images "
        f"({result['models']} models)"
    )
    return Outcome(text, {"accuracy": accuracy, **result})


WORKLOAD = Workload(
    name="ml_pipeline",
    title="PCA, training, aggregation and test of an ensemble on handwritten digits.",
    sizes=(
        Size("rows", 10000, "training images after enlarging", 500),
        Size("models", 8, "models to train, in all"),
        Size("trees", 30, "trees per model", 5),
    ),
    needs={"lithops": "lithops", "sklearn": "scikit-learn"},
    stages=stages,
    prepare=prepare,
    results=(ACCURACY,),
    check=check,
)

if __name__ == "__main__":
    sys.exit(main(WORKLOAD))
