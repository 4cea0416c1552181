"""What `pointcmt audit` finds: planted faults, nothing in a clean store, duplicates of real shapes.

    python benchmarks/audit.py [MESHES] [--shapes 240] [--copies 20]

Built-in shapes are rendered once; copies of their store get one fault each. MESHES: a folder
CLASS/SPLIT/FILE of meshes without near-duplicates, such as PSB32 extracted outside the checkout.
Some of them are rendered together with copies that are turned and scaled: a third within a split, a
third across splits, a third as another class.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import pointcmt as pc
from pointcmt.audit import findings as kinds
from pointcmt.audit.run import Audit, audit

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.audit.planted import planted, random_rotation, rolled, write_mesh

LOOK = {"rig": "mvnet12", "size": 64, "points": 1024, "workers": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("meshes", type=Path, nargs="?")
    parser.add_argument("--shapes", type=int, default=240)
    parser.add_argument("--copies", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        pc.render("toy", out=work / "S", limit=100, **LOOK)
        store = pc.open_store(work / "S")
        print("| store | findings | CPU s |\n|---|---|---|")
        show("100 built-in shapes, clean", store)
        for name, edit in FAULTS.items():
            show(name, planted(store, work / name.replace(" ", "-"), edit))
        if arguments.meshes:
            real(arguments.meshes, work, arguments.shapes, arguments.copies)


def show(name: str, store: pc.ViewStore) -> Audit:
    """Audit a store, and print a row of the table."""
    started = time.process_time()
    found = audit(store)
    seconds = time.process_time() - started
    told = "; ".join(f"{one.kind} ({len(one.shapes)} shapes)" for one in found.findings) or "none"
    print(f"| {name} | {told} | {seconds:.1f} |", flush=True)
    return found


def roll(arrays: dict[str, np.ndarray], classes: np.ndarray) -> None:
    odd = np.isin(classes, np.unique(classes)[::2])
    for name in ("rgb", "depth", "face_index"):
        arrays[name][odd], turn = rolled(arrays[name][odd])
    arrays["world_to_camera"][odd, :, :3] = turn @ arrays["world_to_camera"][odd, :, :3]


def blank(arrays: dict[str, np.ndarray], classes: np.ndarray) -> None:
    for shape in (3, 40, 77):
        arrays["rgb"][shape, 2], arrays["depth"][shape, 2] = 255, 0


def enlarge(arrays: dict[str, np.ndarray], classes: np.ndarray) -> None:
    """A class rendered larger by a quarter: images, points and cameras agree."""
    odd = classes == "lamp"
    size = arrays["depth"].shape[2]
    place = np.floor((np.arange(size) + 0.5 - size / 2) / 1.25 + size / 2).astype(int)
    arrays["points"][odd] *= 1.25
    for name in ("rgb", "depth", "face_index"):
        arrays[name][odd] = arrays[name][odd][:, :, place][:, :, :, place]


FAULTS: dict[str, Callable[[dict[str, np.ndarray], np.ndarray], None]] = {
    "cameras of half of the classes rolled by 90°": roll,
    "three blank views": blank,
    "a class rendered larger by a quarter": enlarge,
}


def real(meshes: Path, work: Path, count: int, copies: int) -> None:
    """Audit real shapes alone, then with copies, and print which of these are found."""
    files = sorted(meshes.glob("*/*/*.off"))
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, count).astype(int)]
    for path in chosen:
        target = work / "D" / path.relative_to(meshes)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    pc.render("folder", root=work / "D", out=work / "R", **LOOK)
    show(f"{count} real shapes", pc.open_store(work / "R"))
    names = sorted({path.parts[-3] for path in chosen})
    pairs = []
    for number, path in enumerate(chosen[:: max(1, count // copies)][:copies]):
        name, split, _ = path.parts[-3:]
        split = {"train": "test", "test": "train"}[split] if number % 3 == 1 else split
        other = names[(names.index(name) + 1) % len(names)] if number % 3 == 2 else name
        own = f"{other}/{split}/copy{number:02}.off"
        scale = float(np.random.default_rng(number).uniform(0.2, 5))
        mesh = pc.load_mesh(path)
        write_mesh(work / "D" / own, mesh, scale, random_rotation(number))
        pairs.append((path.stem, Path(own).stem))
    pc.render("folder", root=work / "D", out=work / "R2", **LOOK)
    found = show(f"the same and {len(pairs)} copies", pc.open_store(work / "R2"))
    of = (kinds.ACROSS, kinds.WITHIN, kinds.CONFLICTS)
    groups = [
        {Path(name).stem for name in group["ids"]}
        for finding in found.findings
        if finding.kind in of
        for group in finding.facts["groups"]
    ]
    hit = sum(any({a, b} <= group for group in groups) for a, b in pairs)
    copied = {name for pair in pairs for name in pair}
    false = {frozenset(group) for group in groups if not group & copied}
    print(f"\ncopies found: {hit} of {len(pairs)}; groups without a copy: {len(false)}")


if __name__ == "__main__":
    main()
