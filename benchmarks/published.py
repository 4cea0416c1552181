"""Published weights on real clouds: `evaluate` beside the authors' network on the authors' input.

Usage: python benchmarks/published.py DATA [FILE]

DATA: the folder modelnet40_normal_resampled. FILE: weights of learning3d's PointNet for ModelNet40
(best_model.t7 of its repository); without it, random ones, whose accuracy means nothing: then only
the differences count. The clouds are rendered, and FILE is evaluated on the store in three frames.
"difference" is the largest one of any log-probability from a plain network that reads the same
points from the files, normalized as in PointNet++'s loader, in float64.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import pointcmt as pc
from pointcmt.datasets.store.view_store import ViewStore
from pointcmt.datasets.streams import evaluation_config, open_stream
from pointcmt.training.evaluation.classifier import predict
from pointcmt.training.evaluation.published import file_options, open_file
from pointcmt.training.runs.published.files import read_weights
from pointcmt.training.runs.splits import labeled
from tests.test_input_frame import pc_normalize
from tests.training import textbooks
from tests.training.runs.published_files import Learning3D

POINTS = 1024
FRAMES = {"of the benchmark": "", "as stored": "z", "+Y up, as stored otherwise": "y"}


def main() -> None:
    data = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        pc.render(
            "modelnet40-clouds",
            root=data,
            out=f"{folder}/S",
            rig="ortho6",
            size=32,
            points=POINTS,
            correspondences=False,
        )
        theirs, file = published(sys.argv[2] if len(sys.argv) > 2 else "", Path(folder))
        compare(theirs, file, ViewStore.open(f"{folder}/S"), data)


def published(given: str, folder: Path) -> tuple[Learning3D, Path]:
    """Return the plain network and the file of its weights; random ones if none is given."""
    torch.manual_seed(0)
    theirs = Learning3D()
    if given:
        theirs.load_state_dict(read_weights(Path(given))[0])
        return theirs.double().eval(), Path(given)
    textbooks.disturb(theirs)
    torch.save(theirs.state_dict(), folder / "random.t7")
    return theirs.double().eval(), folder / "random.t7"


@torch.no_grad()
def compare(theirs: Learning3D, file: Path, store: ViewStore, data: Path) -> None:
    """Print the numbers of correct shapes and the largest differences, by split and frame."""
    print(f"{'split':8}{'frame':>28}{'correct':>14}{'difference':>14}")
    for split in ("test", "train"):
        shapes, _ = labeled(store, split)
        points = torch.from_numpy(authors_input(store, shapes, data))
        expected = theirs.logits(points).log_softmax(dim=1)
        correct = int((expected.argmax(dim=1).numpy() == store.labels[shapes]).sum())
        print(f"{split:8}{'plain network, files':>28}{f'{correct} of {len(shapes)}':>14}")
        for name, frame in FRAMES.items():
            opened, _ = open_file(file, store, file_options("pointnet", POINTS, frame), 1, "cpu")
            stream = open_stream(store, shapes, evaluation_config(opened.recipe.stream, 16))
            found = predict(opened.recipe, stream).double()
            correct = int((found.argmax(dim=1).numpy() == store.labels[shapes]).sum())
            away = float((found - expected).abs().max())
            print(f"{split:8}{name:>28}{f'{correct} of {len(shapes)}':>14}{away:14.1e}")


def authors_input(store: ViewStore, shapes: np.ndarray, data: Path) -> np.ndarray:
    """Read the points that the store holds of these shapes from the files, [n, POINTS, 3]."""
    clouds = []
    for shape in shapes.tolist():
        source = np.loadtxt(data / store.shapes[shape].source, delimiter=",", usecols=(0, 1, 2))
        clouds.append(pc_normalize(source[store.read("point_face", shape)]))
    return np.stack(clouds)


if __name__ == "__main__":
    main()
