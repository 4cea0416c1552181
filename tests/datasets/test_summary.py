"""`info` shows equal notes once, with how many shapes have them."""

from pointcmt.datasets.summary import NOTES_SHOWN, describe, summarize
from tests.stores import render_toy


def test_equal_notes_take_one_line(tmp_path):
    store = render_toy(tmp_path / "S", limit=2, rig="ortho6")
    facts = summarize(store.path)
    taken = "columns have no names and were taken as x y z, r g b"
    notes = [{"id": f"chair/{i}", "note": taken} for i in range(1500)]
    notes.insert(700, {"id": "lamp/1", "note": "2 of 60 points are not finite"})
    lines = describe({**facts, "notes": notes}).splitlines()
    assert [line for line in lines if line.startswith("  note")] == [
        f"  note     chair/0 and 1,499 more: {taken}",
        "  note     lamp/1: 2 of 60 points are not finite",
    ]
    many = [{"id": f"chair/{i}", "note": f"{i} points"} for i in range(NOTES_SHOWN + 3)]
    lines = describe({**facts, "notes": many}).splitlines()
    assert lines[-1] == "  and 3 more notes; list them all with --json"
    assert sum(line.startswith("  note") for line in lines) == NOTES_SHOWN
