"""Join the pixels of two views that show the same point.

Usage: python examples/01_pixels_and_points.py STORE [SHAPE]   (writes matches.png)
"""

import sys

import numpy as np
from PIL import Image, ImageDraw

import pointcmt as pc
from pointcmt.correspondences import points_to_pixels

store = pc.open_store(sys.argv[1])
shape = store[sys.argv[2]] if len(sys.argv) > 2 else store[0]

# uv [V,N,2] is where each point is in each view; its pixel [V,N,2] is -1 where it is hidden.
uv, pixel = points_to_pixels(shape.points, shape.visible, shape.camera, shape.depth)
seen = (pixel >= 0).all(axis=2)

# The two views that share the most points.
shared = seen.astype(int) @ seen.T
np.fill_diagonal(shared, 0)
first, second = np.unravel_index(shared.argmax(), shared.shape)
both = np.flatnonzero(seen[first] & seen[second])[:40]
print(f"{shape.id}: views {first} and {second} share {shared[first, second]} points")

zoom = max(1, 512 // store.schema.size)
pictures = np.concatenate([shape.rgb[first], shape.rgb[second]], axis=1)
sheet = Image.fromarray(pictures).resize(
    (zoom * pictures.shape[1], zoom * pictures.shape[0]), Image.Resampling.NEAREST
)
draw = ImageDraw.Draw(sheet)
for point in both:
    start, end = uv[first, point], uv[second, point] + [store.schema.size, 0]
    color = tuple(np.uint8(127 + 120 * shape.points[point]).tolist())
    draw.line([*(zoom * start), *(zoom * end)], fill=color, width=2)
sheet.save("matches.png")
