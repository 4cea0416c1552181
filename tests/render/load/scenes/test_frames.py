"""Posed RGB-D frames in every layout: each pixel of each frame lies on the wall that it shows."""

import json
import shutil

import numpy as np
import pytest

from pointcmt.datasets.sources.frames import list_frames
from pointcmt.errors import Reason, ShapeRefused
from pointcmt.render.load.scenes.frames import load_frames
from pointcmt.scenes import is_rigid
from tests.render.load.scenes import recordings as r
from tests.render.load.scenes import rooms
from tests.render.load.scenes.rooms import K, back_projected, color_of, off_walls


def load(root):
    (record,) = list_frames("frames", root).shapes
    return load_frames(record, root)


def refusal(root):
    with pytest.raises(ShapeRefused) as refused:
        load(root)
    return refused.value


def check(scene, step=0.001, color_step=4):
    """Every measured pixel lies on a wall, within the step of depth, and has its color."""
    assert scene.points is None
    assert is_rigid(scene.source_to_world)
    for frame in scene.frames:
        points, colors = back_projected(frame.read(), frame)
        assert len(points) > 0.99 * rooms.SIZE[0] * rooms.SIZE[1]
        assert off_walls(points).max() < step
        assert abs(colors.astype(int) - color_of(points)).max() <= color_step


@pytest.mark.parametrize("layout", r.WRITERS)
def test_points_and_colors_lie_on_the_walls_in_every_layout(tmp_path, layout):
    """Wrong by half a pixel, a unit, an axis or a transposed matrix, they would not."""
    scene = load(r.WRITERS[layout](tmp_path / "room"))
    assert [frame.number for frame in scene.frames] == [0, 1, 2, 3]
    for index, frame in enumerate(scene.frames):
        np.testing.assert_allclose(frame.camera_to_world, rooms.pose(index), atol=1e-7)
        np.testing.assert_allclose(frame.K, K, atol=1e-9)
    check(scene)


@pytest.mark.parametrize("layout", r.WRITERS)
def test_scenes_stand_on_the_floor_in_the_middle(tmp_path, layout):
    scene = load(r.WRITERS[layout](tmp_path / "room"))
    moved = np.concatenate(
        [back_projected(frame.read(), frame, scene.source_to_world)[0] for frame in scene.frames]
    )
    up = scene.source_to_world[2, :3]
    if layout == "redwood":  # the first camera's, which looks down
        np.testing.assert_allclose(up, -rooms.pose(0)[:3, 1], atol=1e-7)
    else:
        np.testing.assert_allclose(up, [0, 0, 1], atol=1e-12)
        assert abs(np.percentile(moved[:, 2], 1)) < 0.02
        assert abs(moved[:, :2].max(axis=0) + moved[:, :2].min(axis=0)).max() < 0.1


@pytest.mark.parametrize("up", ["x", "y", "z", "-x", "-y", "-z"])
def test_the_up_axis_of_scene_json_is_turned_to_z(tmp_path, up):
    root = r.write_redwood(tmp_path / "room")
    (root / "scene.json").write_text(json.dumps({"up": up}))
    axis = np.eye(3)["xyz".index(up[-1])] * (-1 if up[0] == "-" else 1)
    np.testing.assert_allclose(load(root).source_to_world[:3, :3] @ axis, [0, 0, 1], atol=1e-12)


def test_scene_json_gives_intrinsics_and_the_unit_of_depth(tmp_path):
    root = r.write_redwood(tmp_path / "room")
    (root / "camera_intrinsic.json").unlink()
    assert refusal(root).reason == Reason.MISSING_FILE
    r.write_images(root, r.frames(), unit=0.0005)
    own = [r.INTEGER_K[at] for at in ((0, 0), (1, 1), (0, 2), (1, 2))]
    (root / "scene.json").write_text(json.dumps({"K": own, "depth_unit": 0.0005, "up": "z"}))
    check(load(root))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"depth_scale": 1000}, "unknown key"),
        ({"depth_unit": 0}, "depth_unit"),
        ({"depth_unit": 1000}, "depth_unit"),
        ({"depth_unit": "1"}, "finite number"),
        ({"up": "w"}, "up"),
        ({"K": [1, 2, 3]}, "four numbers"),
        ({"K": [1, 2, 3, True]}, "finite number"),
        ({"k1": 0.1}, "undistort"),
        ([1], "object"),
    ],
)
def test_mistakes_in_scene_json_are_named(tmp_path, table, message):
    root = r.write_redwood(tmp_path / "room")
    (root / "scene.json").write_text(json.dumps(table))
    refused = refusal(root)
    assert refused.reason == Reason.BAD_SYNTAX
    assert "scene.json" in refused.detail
    assert message in refused.detail


@pytest.mark.parametrize("bad", [r.UNTRACKED, np.full((4, 4), np.nan), np.zeros((4, 4))])
def test_frames_that_were_not_tracked_are_left_out_and_counted(tmp_path, bad):
    poses = [bad, rooms.pose(1), bad, rooms.pose(3)]
    scene = load(r.write_exported(tmp_path / "room", poses=poses))
    assert [frame.number for frame in scene.frames] == [1, 3]
    assert any("2 of 4 frames left out" in note for note in scene.notes)
    check(scene)
    shutil.rmtree(tmp_path / "room")
    assert refusal(r.write_exported(tmp_path / "room", poses=[bad] * 4)).reason == Reason.NOT_FINITE


def test_poses_printed_by_old_windows_programs_are_read(tmp_path):
    root = r.write_exported(tmp_path / "room")
    (root / "pose/000002.txt").write_text("-1.#INF -1.#INF 1.#QNAN 0\n" * 4)
    assert [frame.number for frame in load(root).frames] == [0, 1, 3]


@pytest.mark.parametrize("value", [0, 65535])
def test_depth_of_0_and_65535_is_missing(tmp_path, value):
    root = r.write_redwood(tmp_path / "room")
    depth = r.stored(rooms.show(1).depth)
    depth[:20] = value
    (root / "depth/00001.png").write_bytes(r.png(depth))
    image = load(root).frames[1].read()
    assert (image.depth[:20] == 0).all()
    assert (image.depth[20:] > 0).all()


@pytest.mark.parametrize("names", ["intrinsic/intrinsic_{}.txt", "intrinsics_{}.txt"])
@pytest.mark.parametrize("digits", [1, 6])
def test_exported_frames_are_read_in_both_forms(tmp_path, names, digits):
    check(load(r.write_exported(tmp_path / "room", digits=digits, names=names)))


# Color of another size and lens: 2.5 times as many pixels, another section, sharper.
WIDE = np.array([[140.0, 0, 84.0], [0, 138.0, 58.0], [0, 0, 1]])


def test_color_of_another_camera_is_brought_to_the_pixels_of_depth(tmp_path):
    """Reduced alone, as if both lenses showed the same, colors would be off by many steps."""
    scene = load(r.write_exported(tmp_path / "room", color_K=WIDE, color_size=(160, 120)))
    for frame in scene.frames:
        image = frame.read()
        points, colors = back_projected(image, frame)
        uv = np.concatenate([points, np.ones((len(points), 1))], axis=1)
        local = uv @ np.linalg.inv(frame.camera_to_world).T
        seen = local[:, :3] @ WIDE.T
        seen = seen[:, :2] / seen[:, 2:]
        inside = ((seen > 2) & (seen < [158, 118])).all(axis=1)
        assert inside.mean() > 0.7
        assert abs(colors.astype(int) - color_of(points))[inside].max() <= 5


def test_intrinsics_of_color_that_do_not_fit_are_not_used(tmp_path):
    """Color that was reduced on export, with the intrinsics of the original size."""
    root = r.write_exported(tmp_path / "room")
    (root / "intrinsics_color.txt").write_text(r.matrix_text(np.diag([1170.2, 1170.2, 1, 1])))
    scene = load(root)
    assert any("color do not fit" in note for note in scene.notes)
    check(scene)


def test_intrinsics_of_depth_that_do_not_fit_are_refused(tmp_path):
    root = r.write_exported(tmp_path / "room")
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([4.0, 4, 1]) @ K
    (root / "intrinsics_depth.txt").write_text(r.matrix_text(matrix))
    refused = refusal(root)
    assert refused.reason == Reason.BAD_SYNTAX
    assert "K in scene.json" in refused.detail


def test_images_are_numbered_by_name_and_trajectories_by_order(tmp_path):
    root = r.write_redwood(tmp_path / "room", first=1, color="colors", log="living-traj.txt")
    scene = load(root)
    assert [frame.number for frame in scene.frames] == [1, 2, 3, 4]
    check(scene)


def test_of_thinned_out_images_each_keeps_the_pose_of_its_number(tmp_path):
    root = r.write_redwood(tmp_path / "room")
    for kind in ("color", "depth"):
        (root / kind / "00001.png").unlink()
    scene = load(root)
    assert [frame.number for frame in scene.frames] == [0, 2, 3]
    check(scene)


def test_more_images_than_poses_are_refused(tmp_path):
    root = r.write_redwood(tmp_path / "room")
    for kind in ("color", "depth"):
        shutil.copy(root / kind / "00003.png", root / kind / "00009.png")
    assert refusal(root).reason == Reason.COUNT_MISMATCH


def test_several_trajectories_must_be_told_apart(tmp_path):
    root = r.write_redwood(tmp_path / "room", log="a.log")
    (root / "b.log").write_text("0 0 1\n")
    assert "a.log, b.log" in refusal(root).detail
    (root / "scene.json").write_text(json.dumps({"trajectory": "a.log"}))
    check(load(root))


def test_an_image_without_its_partner_is_left_out_with_a_note(tmp_path):
    root = r.write_exported(tmp_path / "room")
    (root / "color/000002.png").unlink()
    scene = load(root)
    assert [frame.number for frame in scene.frames] == [0, 1, 3]
    assert any("0 color and 1 depth images left out" in note for note in scene.notes)


def test_tum_leaves_out_images_without_a_pose_at_their_time(tmp_path):
    assert refusal(r.write_tum(tmp_path / "room", late=0.03)).reason == Reason.EMPTY_FILE


def test_tum_uses_the_intrinsics_that_the_benchmark_recommends(tmp_path):
    """Its files hold none; here they do not fit, since the room's images are small."""
    for name, focal in (("rgbd_dataset_freiburg1_x", 525), ("rgbd_dataset_freiburg3_x", 535.4)):
        root = r.write_tum(tmp_path / name)
        (root / "scene.json").unlink()
        scene = load(root)
        assert scene.frames[0].K[0, 0] == pytest.approx(focal / 10)
        assert any("no intrinsics" in note for note in scene.notes)
