"""The listing of toy rooms."""

import pytest

from pointcmt.datasets.sources.toyrooms import list_toyrooms, number_of
from pointcmt.datasets.store.schema import ShapeRecord
from pointcmt.errors import ShapeRefused


def test_250_rooms_are_listed_by_number():
    shapes = list_toyrooms("toyrooms", None).shapes
    assert [number_of(record) for record in shapes] == list(range(250))
    assert [record.split for record in shapes] == 200 * ["train"] + 50 * ["test"]


@pytest.mark.parametrize("name", ["room/0250", "room/9999", "room/12", "room/٠٠٠١", "chair/0001"])
def test_rooms_that_are_not_listed_are_refused(name):
    with pytest.raises(ShapeRefused, match="there is no toy room"):
        number_of(ShapeRecord(name, None, "train", name))
