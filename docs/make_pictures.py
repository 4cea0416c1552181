"""Makes the picture at the top of the README from the built-in toy shapes.

Usage: python docs/make_pictures.py   (some seconds; writes docs/images/overview.png)
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pointcmt.cameras import Rig, on_sphere
from pointcmt.datasets.sources.toy import build
from pointcmt.geometry import normalize, sample_points, shape_seed
from pointcmt.render.config import RenderConfig
from pointcmt.render.draw.cpu import draw_views
from pointcmt.render.draw.raycaster import RayCaster
from pointcmt.render.draw.visibility import visible_points
from pointcmt.render.preview_layers import color_ids, shade_depth
from pointcmt.render.preview_sheets import paint_points, point_colors

SHAPES = ("chair/0000", "lamp/0002", "airplane/0002", "mug/0001", "guitar/0202", "rocket/0002")
SIZE, LABEL = 176, 92
ROWS = ("rgb", "a second view", "depth", "face ids", "points")


def main() -> None:
    columns = [column(shape) for shape in SHAPES]
    sheet = Image.new("RGB", (LABEL + SIZE * len(SHAPES), SIZE * len(ROWS)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, name in enumerate(ROWS):
        draw.text((4, row * SIZE + SIZE // 2 - 8), name, fill="#444444", font=font)
        for index, images in enumerate(columns):
            sheet.paste(Image.fromarray(images[row]), (LABEL + index * SIZE, row * SIZE))
    path = Path(__file__).parent / "images" / "overview.png"
    path.parent.mkdir(exist_ok=True)
    sheet.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def column(shape: str) -> list[NDArray[np.uint8]]:
    """One picture per row of the sheet, [SIZE,SIZE,3] each."""
    config = RenderConfig(Rig("two", (on_sphere(-60, 22), on_sphere(35, 22))), size=SIZE)
    mesh, _ = normalize(build(shape), "z")
    camera = config.rig.cameras(SIZE)
    caster = RayCaster(mesh)
    views = draw_views(caster, camera, config)
    points, faces = sample_points(mesh, 800, shape_seed(0, shape))
    seen = visible_points(caster, points.astype(np.float32), faces, camera)[0]
    painted = paint_points(
        views.rgb[0], camera[0].project(points)[0][seen], point_colors(points)[seen]
    )
    half = Image.fromarray(painted).resize((SIZE, SIZE), Image.Resampling.BOX)
    return [
        views.rgb[0],
        views.rgb[1],
        shade_depth(views.depth[0]),
        color_ids(views.face_index[0]),
        np.asarray(half),
    ]


if __name__ == "__main__":
    main()
