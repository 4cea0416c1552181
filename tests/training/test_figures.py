"""Pictures: drawn for any length of run and any number of classes."""

import io

import numpy as np
import pytest
from PIL import Image

from pointcmt.training.figures import draw_confusion, draw_curve, draw_parts


def size(png):
    with Image.open(io.BytesIO(png)) as image:
        image.verify()
        return image.size


@pytest.mark.parametrize("epochs", [1, 2, 1000])
def test_a_curve_of_any_length(epochs):
    keys = ("loss", "accuracy", "val_loss", "val_accuracy")
    records = [{"epoch": e, **dict.fromkeys(keys, 1 / e)} for e in range(1, epochs + 1)]
    assert size(draw_curve(records, best=1, title="student")) == (1080, 432)


@pytest.mark.parametrize("classes", [2, 10, 40, 100])
def test_a_confusion_matrix_of_any_size(classes):
    names = [f"class {i}" for i in range(classes)]
    confusion = np.random.default_rng(0).integers(0, 9, (classes, classes))
    width, height = size(draw_confusion(confusion, names, "test"))
    assert 500 < width == height < 1500


def test_parts_have_colours_and_wrong_ones_show():
    """The same picture twice but for a part that is predicted where it is not."""
    rng = np.random.default_rng(0)
    cloud = rng.uniform(-0.5, 0.5, (400, 3)).astype(np.float32)
    true = (cloud[:, 2] > 0).astype(np.int64)
    pictures = []
    for predicted in (true, np.zeros_like(true)):
        png = draw_parts([(cloud, true, predicted)] * 2)
        with Image.open(io.BytesIO(png)) as image:
            pictures.append(np.asarray(image.convert("RGB")).astype(int))
    right, wrong = pictures
    blue, orange = ((42, 111, 187), (217, 130, 43))
    halves = [(p[: len(p) // 2], p[len(p) // 2 :]) for p in pictures]
    for above, _ in halves:  # the truth
        assert all((above == color).all(axis=2).sum() > 100 for color in (blue, orange))
    assert (halves[0][1] == orange).all(axis=2).sum() > 100
    assert not (halves[1][1] == orange).all(axis=2).any()
    assert right.shape == wrong.shape
