"""Pictures: drawn for any length of run and any number of classes."""

import io

import numpy as np
import pytest
from PIL import Image

from pointcmt.training.figures import draw_confusion, draw_curve


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
