"""Counts words and adds up sales in a few hundred MB of text: generate, map, reduce.

    python -m examples.data_analytics --workers 1,2,4 --reps 3 --megabytes 200

The text is made on the spot, the same for every number of workers. Whoever
makes a part also adds up what is in it; what comes out at the end must match.
Needs nothing but the standard library and NumPy.
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
)

TASKS = Data("tasks", ".json")
PARTS = Data("parts", ".txt")
TRUTH = Data("truth", ".json")
COUNTS = Data("counts", ".json")
TOTAL = Data("total", ".json")

#: Bytes per part, about: small enough for the memory of a small worker.
PART = 8_000_000
WORDS = 20_000
REGIONS = ("north", "east", "south", "west", "centre")


def generate(ctx: StageContext) -> None:
    """Writes lines `region<TAB>cents<TAB>words`, and what they add up to."""
    import json

    import numpy as np

    regions = ctx.get_param("regions")
    # A vocabulary like a language's: few words are common, most are rare.
    rng = np.random.default_rng(ctx.get_param("seed"))
    letters = rng.integers(ord("a"), ord("z") + 1, (ctx.get_param("words"), 11), dtype=np.uint8)
    lengths = rng.integers(2, 12, ctx.get_param("words"))
    vocabulary = list(
        dict.fromkeys(
            row[:length].tobytes().decode("ascii")
            for row, length in zip(letters, lengths, strict=True)
        )
    )
    chance = 1.0 / np.arange(1, len(vocabulary) + 1)
    edges = np.cumsum(chance / chance.sum())

    for path in ctx.get_input_paths("tasks"):
        with Path(path).open(encoding="utf-8") as text:
            task = json.load(text)
        rng = np.random.default_rng((ctx.get_param("seed"), task["part"]))
        cents = dict.fromkeys(regions, 0)
        words = lines = size = 0
        counted = np.zeros(len(vocabulary), dtype=np.int64)
        with Path(ctx.next_output_path("parts")).open("w", encoding="ascii", newline="") as file:
            while size < task["bytes"]:
                block = min(2000, (task["bytes"] - size) // 180 + 1)
                per_line = rng.integers(5, 45, block)
                drawn = np.searchsorted(edges, rng.random(int(per_line.sum())))
                drawn = np.minimum(drawn, len(vocabulary) - 1)
                counted += np.bincount(drawn, minlength=len(vocabulary))
                amounts = rng.integers(1, 100_000, block).tolist()
                where = rng.integers(0, len(regions), block).tolist()
                chosen = drawn.tolist()
                start = 0
                for count, amount, region in zip(per_line.tolist(), amounts, where, strict=True):
                    said = " ".join([vocabulary[w] for w in chosen[start : start + count]])
                    start += count
                    name = regions[region]
                    cents[name] += amount
                    size += file.write(f"{name}\t{amount}\t{said}\n")
                words += start
                lines += block
        common = np.argsort(-counted, kind="stable")[:200].tolist()
        truth = {
            "lines": lines,
            "bytes": size,
            "words": words,
            "cents": cents,
            "common": {vocabulary[number]: int(counted[number]) for number in common},
        }
        with Path(ctx.next_output_path("truth")).open("w", encoding="utf-8") as file:
            json.dump(truth, file)


def count(ctx: StageContext) -> None:
    """Map: words, and cents by region, of this worker's parts."""
    import json
    from collections import Counter

    words: Counter[str] = Counter()
    cents: Counter[str] = Counter()
    lines = size = 0
    for path in ctx.get_input_paths("parts"):
        with Path(path).open(encoding="ascii", newline="") as file:
            for line in file:
                region, amount, said = line.split("\t")
                cents[region] += int(amount)
                words.update(said.split())
                lines += 1
                size += len(line)
    with Path(ctx.next_output_path("counts")).open("w", encoding="utf-8") as file:
        json.dump({"lines": lines, "bytes": size, "words": words, "cents": cents}, file)


def merge(ctx: StageContext) -> None:
    """Reduce: the sums over all parts."""
    import json
    from collections import Counter

    words: Counter[str] = Counter()
    cents: Counter[str] = Counter()
    lines = size = 0
    for path in ctx.get_input_paths("counts"):
        with Path(path).open(encoding="utf-8") as file:
            counted = json.load(file)
        words.update(counted["words"])
        cents.update(counted["cents"])
        lines += counted["lines"]
        size += counted["bytes"]
    result = {
        "lines": lines,
        "bytes": size,
        "words": sum(words.values()),
        "distinct": len(words),
        "cents": cents,
        "counts": words,
    }
    with Path(ctx.next_output_path("total")).open("w", encoding="utf-8") as file:
        json.dump(result, file)


def stages(setup: Setup) -> list[Stage]:
    """Three, in a row."""
    params = {"seed": setup.seed, "words": WORDS, "regions": REGIONS}
    return [
        Stage("generate", generate, (TASKS,), (PARTS, TRUTH), params),
        Stage("map", count, (PARTS,), (COUNTS,)),
        Stage("reduce", merge, (COUNTS,), (TOTAL,), single=True),
    ]


def prepare(setup: Setup, folder: Path) -> dict[str, list[Path]]:
    """A task per part; how many there are depends on the size alone."""
    size = setup.sizes["megabytes"] * 1_000_000
    # At least eight, so that a small text has work for several workers, too.
    number = max(8, -(-size // PART))
    paths = []
    for part in range(number):
        path = folder / f"{part}.json"
        path.write_text(json.dumps({"part": part, "bytes": size // number}), "utf-8")
        paths.append(path)
    return {TASKS.id: paths}


def check(setup: Setup, files: Mapping[str, Sequence[Path]]) -> Outcome:
    """What was counted is what was written."""
    truths = [json.loads(path.read_text("utf-8")) for path in files[TRUTH.id]]
    [path] = files[TOTAL.id]
    total = json.loads(path.read_text("utf-8"))
    for name in ("lines", "bytes", "words"):
        wrote = sum(truth[name] for truth in truths)
        if total[name] != wrote:
            raise WrongResultError(f"{total[name]} {name} counted, {wrote} written")
    cents = {region: sum(truth["cents"][region] for truth in truths) for region in REGIONS}
    if total["cents"] != cents:
        raise WrongResultError(f"cents {total['cents']} counted, {cents} written")
    # The most common words are among the 200 that every part reports.
    word = max(total["counts"], key=total["counts"].__getitem__)
    wrote = sum(truth["common"].get(word, 0) for truth in truths)
    if total["counts"][word] != wrote:
        raise WrongResultError(f"{word!r} counted {total['counts'][word]} times, written {wrote}")
    if total["bytes"] < setup.sizes["megabytes"] * 1_000_000:
        raise WrongResultError(f"{total['bytes']} bytes, {setup.sizes['megabytes']} MB expected")
    text = (
        f"{total['words']} words in {total['bytes'] / 1e6:.1f} MB, all counted; most common "
        f"{word!r}, {wrote} times; sales {sum(cents.values()) / 100:.2f} in {len(cents)} regions"
    )
    values = {name: total[name] for name in ("lines", "bytes", "words", "distinct", "cents")}
    return Outcome(text, {**values, "most_common": word, "most_common_count": wrote})


WORKLOAD = Workload(
    name="data_analytics",
    title="Word count and group-by over text made on the spot.",
    sizes=(Size("megabytes", 200, "size of the text, MB"),),
    needs={"lithops": "lithops", "numpy": "numpy"},
    stages=stages,
    prepare=prepare,
    results=(TOTAL, TRUTH),
    check=check,
)

if __name__ == "__main__":
    sys.exit(main(WORKLOAD))
