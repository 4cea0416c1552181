"""GLB files of a few bytes that ask for gigabytes: refused before anything is allocated."""

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.readers.glb.scene import read_glb
from tests.render.glb_files import BYTE, FLOAT, INT, POINTS, Builder, picture, simple

MIB = 1 << 20
pytestmark = pytest.mark.timeout(60)


def first(build: Builder) -> dict[str, Any]:
    """The only primitive of a simple file."""
    return build.tree["meshes"][0]["primitives"][0]


def zeros(build: Builder, count: int, kind: str, code: int = FLOAT) -> int:
    """An accessor without data."""
    return build.declared(componentType=code, count=count, type=kind)


def unread_coordinates(build: Builder) -> None:
    first(build)["attributes"]["TEXCOORD_0"] = zeros(build, 60_000_000, "VEC4")
    build.tree["meshes"][0]["primitives"] *= 5


def unused_zeros(build: Builder) -> None:
    for _ in range(100):
        zeros(build, 1_000_000, "VEC4")


def positions(build: Builder) -> None:
    primitive = first(build)
    primitive["attributes"]["POSITION"] = zeros(build, 60_000_000, "VEC3", BYTE)
    del primitive["indices"]


def strips(build: Builder) -> None:
    first(build).update(indices=zeros(build, 60_000_000, "SCALAR", BYTE), mode=5)


def strip_of_little(build: Builder) -> None:
    first(build).update(indices=zeros(build, 2_000_000, "SCALAR", BYTE), mode=5)
    build.tree["nodes"] *= 10


def overlapping_rows(build: Builder) -> None:
    """Primitives whose vertices are all the same long list."""
    primitive = first(build)
    primitive["attributes"]["POSITION"] = build.accessor(np.zeros((30_000, 3)))
    del primitive["indices"]
    build.tree["meshes"][0]["primitives"] *= 1_000


def placements(build: Builder) -> None:
    build.tree["meshes"][0]["primitives"] *= 3_000
    build.tree["nodes"] *= 3_000


def lines(build: Builder) -> None:
    first(build)["mode"] = 1
    placements(build)


def targets(build: Builder) -> None:
    points = build.accessor(np.zeros((30_000, 3)))
    primitive = first(build)
    primitive["attributes"]["POSITION"] = points
    del primitive["indices"]
    primitive["targets"] = [{"POSITION": points}] * 1_000
    build.tree["nodes"][0]["weights"] = [1] * 1_000


def sparse_targets(build: Builder) -> None:
    """Targets of their own that all replace the same items."""
    targets(build)
    build.sparse(30_000, range(30_000), np.zeros((30_000, 3)))
    start = len(build.tree["accessors"]) - 1
    build.tree["accessors"] += [build.tree["accessors"][-1]] * 1_000
    first(build)["targets"] = [{"POSITION": start + index} for index in range(1_000)]


def joints(build: Builder) -> None:
    build.tree["nodes"][0]["skin"] = 0
    first(build)["attributes"] |= {
        "JOINTS_0": build.accessor(np.zeros((3, 4)), BYTE),
        "WEIGHTS_0": build.accessor(np.full((3, 4), 0.25)),
    }
    build.tree["skins"] = [{"joints": [0] * 1_000_000}]


def joint_sets(build: Builder) -> None:
    joints(build)
    build.tree["skins"][0]["joints"] = [0]
    attributes = first(build)["attributes"]
    del first(build)["indices"]
    same = {
        "POSITION": build.accessor(np.zeros((30_000, 3))),
        "JOINTS": build.accessor(np.zeros((30_000, 4)), BYTE),
        "WEIGHTS": build.accessor(np.full((30_000, 4), 0.25)),
    }
    attributes["POSITION"] = same["POSITION"]
    for index in range(500):
        attributes |= {f"{name}_{index}": same[name] for name in ("JOINTS", "WEIGHTS")}


BOMBS = (
    unread_coordinates,
    unused_zeros,
    positions,
    strips,
    strip_of_little,
    overlapping_rows,
    placements,
    lines,
    targets,
    sparse_targets,
    joints,
    joint_sets,
)


def outcome(build: Builder) -> tuple[Reason | None, str, int]:
    """How reading ends, and the bytes that it took at most."""
    data = build.bytes()
    tracemalloc.start()
    try:
        read_glb(Path("mesh.glb"), data)
    except ShapeRefused as refused:
        return refused.reason, refused.detail, tracemalloc.get_traced_memory()[1]
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return None, "", peak


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_would_take_far_more_than_the_file_is_refused(bomb: Callable[[Builder], None]):
    build = simple()
    bomb(build)
    reason, detail, peak = outcome(build)
    assert reason is Reason.TOO_LARGE
    assert re.search(
        r"at least \d+ (MiB|triangles).* more than the maximum of \d+( MiB for|$)", detail
    )
    assert peak < 160 * MIB


def test_a_file_at_its_limit_takes_no_more_than_it_was_allowed():
    build = Builder()
    random = np.random.default_rng(0)
    looks = {
        "TEXCOORD_0": build.accessor(random.random((30_000, 2))),
        "COLOR_0": build.accessor(random.random((30_000, 3))),
    }
    position = {"POSITION": build.accessor(random.random((30_000, 3)))}
    build.node(
        mesh=build.mesh(
            {"attributes": position | looks, "material": 0}, {"attributes": position | looks}
        )
    )
    image = build.view(picture((9, 9, 9)))
    build.tree["images"], build.tree["textures"] = [{"bufferView": image}], [{"source": 0}]
    build.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    build.tree["nodes"] *= 36
    reason, _, peak = outcome(build)
    assert reason is None
    assert 100 * MIB < peak < 256 * MIB
    build.tree["nodes"] *= 2
    assert outcome(build)[0] is Reason.TOO_LARGE


def test_larger_files_may_take_more():
    """One mesh whose indices lie in the file, then without them."""
    build = Builder()
    corners = np.zeros(1_500_000)
    primitive = {"attributes": {"POSITION": build.accessor(POINTS)}, "mode": 5}
    primitive["indices"] = build.accessor(corners, BYTE)
    build.node(mesh=build.mesh(primitive))
    build.tree["nodes"] *= 2
    assert outcome(build)[0] is None
    count = build.tree["accessors"][primitive["indices"]]["count"]
    del build.tree["accessors"][primitive["indices"]]["bufferView"]
    build.binary = build.binary[:-count]
    del build.tree["bufferViews"][-1], build.tree["buffers"]
    assert outcome(build)[0] is Reason.TOO_LARGE


@pytest.mark.parametrize("children", [[0] * 1_000_000, [1, 0, 1]])
def test_rings_of_nodes_take_nothing(children):
    build = simple()
    build.tree["nodes"] = [{"children": children}, {}]
    build.tree["scenes"] = [{"nodes": [0]}]
    reason, _, peak = outcome(build)
    assert reason is Reason.BAD_SYNTAX
    assert peak < 100 * MIB


def test_a_ring_of_joints():
    build = simple()
    joints(build)
    build.tree["nodes"] += [{"children": [2]}, {"children": [1]}]
    build.tree["scenes"] = [{"nodes": [0]}]
    build.tree["skins"] = [{"joints": [1]}]
    assert outcome(build)[0] is Reason.BAD_SYNTAX


def test_many_names_of_one_pool_of_vertices_are_no_bomb():
    build = simple()
    pool = build.accessor(np.random.default_rng(0).random((200_000, 3)))
    few = build.accessor([0, 100, 199_999], INT)
    one = {"attributes": {"POSITION": pool}, "indices": few}
    build.tree["meshes"][0]["primitives"] = [dict(one) for _ in range(2_000)]
    reason, _, peak = outcome(build)
    assert reason is None
    assert peak < 32 * MIB


def test_messages_stay_short():
    build = simple()
    build.tree["accessors"][0]["type"] = "x" * MIB
    build.tree["extensionsUsed"] = ["y" * MIB]
    reason, detail, _ = outcome(build)
    assert reason is Reason.BAD_SYNTAX
    assert len(detail) < 200
    build.tree["extensionsRequired"] = [f"{index}" * 1000 for index in range(1000)]
    assert len(outcome(build)[1]) < 2000
