"""The size of a page, from ten shapes at the size that people render."""

from pointcmt.view.write import write_view
from tests.stores import render_toy

MOST = 120e6 / 200  # bytes of a shape: a page of 200 shapes stays below 120 MB


def test_a_page_of_200_shapes_stays_below_120_mb(tmp_path):
    store = render_toy(tmp_path / "S", limit=10, rig="mvnet12", size=224, points=2048)
    paths = write_view(store, tmp_path / "P")
    assert sum(path.stat().st_size for path in paths) / len(store.shapes) < MOST
