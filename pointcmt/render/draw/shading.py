"""Color of a surface along a ray: materials, vertex colors, textures and light.

All light is computed linearly and stored as sRGB. Surfaces are two-sided: the normal is turned to
the side of the face that the viewer sees. Numba kernels; `Surface` is a mesh in the layout they
read.
"""

from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from pointcmt.compiled import compiled
from pointcmt.geometry import face_areas, face_normals
from pointcmt.shapes import Material, Mesh, Wrap
from pointcmt.srgb import to_linear, to_srgb

# Weights of the light. The headlight lights every visible face; the key light (over the viewer's
# left shoulder) distinguishes faces of equal tilt. Their sum, 0.9, is 243 in an image: the whitest
# surface stands out from a white background. Light that is fixed to the world has no headlight, but
# as strong a light along an axis, from both sides: what a surface looks like does not depend on who
# looks.
AMBIENT, HEADLIGHT, KEY = 0.12, 0.26, 0.52
# The least that a surface reflects, linear: black surfaces show their shape.
LEAST_REFLECTED = np.float32(0.02)
KEY_FROM_CAMERA = (-0.40, -0.55, -0.733)  # unit vector to the key light, OpenCV axes
KEY_IN_WORLD = (-0.36, -0.48, 0.80)  # the same for light fixed to the world
AXIS_IN_WORLD = (0.48, -0.64, 0.60)  # unit vector of the light from both sides
SAME_NORMAL = 1e-6  # corner normals that differ less from the face's are the face's
SHORT_NORMAL = 1e-6  # squared length: interpolated normals below it have no direction
MIP_LEVELS = 12
# How a texture is used, in one integer: the mode along u, that along v times 3, and whether vertex
# colors multiply it times 9. 0: it repeats.
WRAPS = get_args(Wrap)
REPEAT, CLAMP, MIRROR = range(3)
TINTED = 9

# sRGB tables: 256 entries to linear; from linear, enough entries to be within half a step of
# the exact curve's 8-bit value, whose slope is 12.92 at zero.
LINEAR_OF_BYTE = to_linear(np.arange(256) / 255).astype(np.float32)
_STEPS = 16384
BYTE_OF_LINEAR = np.rint(255 * to_srgb(np.arange(_STEPS + 1) / _STEPS)).astype(np.uint8)


class Surface(NamedTuple):
    """A mesh in the layout that the kernels read. F faces, P vertices, T uses of textures."""

    vertices: NDArray[np.float64]  # [P,3]
    faces: NDArray[np.int32]  # [F,3]
    normals: NDArray[np.float64]  # [F,3] unit
    corner_normals: NDArray[np.float32]  # [F,3,3] on the normal's side, 0 if flat; [0,3,3] if all
    colors: NDArray[np.float32]  # [F,3] linear
    vertex_colors: NDArray[np.float32]  # [P,3] linear, or [0,3]
    uv: NDArray[np.float32]  # [F,3,2], or [0,3,2]
    face_texture: NDArray[np.int32]  # [F] index into levels, -1 = none; or [0]
    texel_density: NDArray[np.float32]  # [F] texels per world unit at level 0; or [0]
    texels: NDArray[np.uint8]  # all textures' mip levels, flat, sRGB
    levels: NDArray[np.int64]  # [T,MIP_LEVELS,4]: offset, height, width (0: no such level), use


def make_surface(mesh: Mesh) -> Surface:
    """Pack a normalized mesh for the kernels."""
    default = Material()
    materials = (*mesh.materials, default)  # index -1 is the default
    count = len(mesh.faces)
    material = np.full(count, -1) if mesh.face_material is None else mesh.face_material
    colors = np.array([m.color for m in materials], np.float64)[material]
    if mesh.face_colors is not None:
        colors = np.asarray(mesh.face_colors, np.float64)
    vertex_colors = np.zeros((0, 3)) if mesh.vertex_colors is None else mesh.vertex_colors
    texture, density, texels, levels = _pack_textures(mesh, materials, material)
    normals = face_normals(mesh)
    return Surface(
        mesh.vertices,
        mesh.faces,
        normals,
        _pack_normals(mesh, normals),
        to_linear(np.clip(colors, 0, 1)).astype(np.float32),
        to_linear(np.clip(vertex_colors, 0, 1)).astype(np.float32),
        np.zeros((0, 3, 2), np.float32) if mesh.uv is None else mesh.uv,
        texture,
        density,
        texels,
        levels,
    )


def has_one_color(surface: Surface) -> bool:
    """Return whether all of a surface looks the same, whichever of coincident faces is seen."""
    varying = surface.vertex_colors, surface.face_texture, surface.corner_normals
    return not any(map(len, varying)) and bool((surface.colors == surface.colors[0]).all())


def _pack_normals(mesh: Mesh, normals: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return `Surface.corner_normals`. normals [F,3]: of the faces.

    Files disagree about the side that normals point to, so each is turned to its face's: none
    lights the side of a face that is not seen.
    """
    if mesh.corner_normals is None:
        return np.zeros((0, 3, 3), np.float32)
    found, own = mesh.corner_normals, normals[:, None].astype(np.float32)
    found = np.where(np.einsum("fci,fdi->fc", found, own)[..., None] < 0, -found, found)
    found = np.where(found.any(axis=2, keepdims=True), found, own)
    flat = (np.abs(found - own) <= SAME_NORMAL).all(axis=(1, 2))
    if flat.all():
        return np.zeros((0, 3, 3), np.float32)
    found[flat] = 0
    return found


def mip_levels(texture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return a texture [h,w,3] u8 and its halvings down to one texel, averaged in linear light."""
    levels = [np.ascontiguousarray(texture)]
    while max(levels[-1].shape[:2]) > 1 and len(levels) < MIP_LEVELS:
        levels.append(_halved(levels[-1]))
    return levels


@compiled
def _halved(texture):  # type: ignore[no-untyped-def]
    """Return a texture [h,w,3] of half the height and width, if they are more than 1, rounded down.

    Each texel is the mean light of four, or of two."""
    high, wide = texture.shape[0], texture.shape[1]
    half = np.empty((max(high // 2, 1), max(wide // 2, 1), 3), np.uint8)
    steps, two = np.float32(len(BYTE_OF_LINEAR) - 1), np.float32(2)
    for row in range(half.shape[0]):
        top, bottom = 2 * row, min(2 * row + 1, high - 1)
        for column in range(half.shape[1]):
            left, right = 2 * column, min(2 * column + 1, wide - 1)
            for channel in range(3):
                one = LINEAR_OF_BYTE[texture[top, left, channel]]
                one = (one + LINEAR_OF_BYTE[texture[bottom, left, channel]]) / two
                other = LINEAR_OF_BYTE[texture[top, right, channel]]
                other = (other + LINEAR_OF_BYTE[texture[bottom, right, channel]]) / two
                value = (one + other) / two
                half[row, column, channel] = BYTE_OF_LINEAR[int(np.rint(value * steps))]
    return half


def _pack_textures(
    mesh: Mesh, materials: tuple[Material, ...], material: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
    none = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.uint8)
    uses = {_use(m): m.texture for m in materials if m.texture is not None}
    if mesh.uv is None or not uses:
        return *none, np.zeros((0, MIP_LEVELS, 4), np.int64)
    slot = {key: index for index, key in enumerate(uses)}
    table = np.zeros((len(uses), MIP_LEVELS, 4), np.int64)
    flat: list[NDArray[np.uint8]] = []
    packed: dict[int, int] = {}  # the slot that holds a texture's levels, by its `id`
    offset = 0
    for (key, use), texture in uses.items():
        index = slot[key, use]
        if key in packed:
            table[index] = table[packed[key]]
        else:
            packed[key] = index
            for level, image in enumerate(mip_levels(texture)):
                table[index, level, :3] = offset, *image.shape[:2]
                flat.append(image.ravel())
                offset += image.size
        table[index, :, 3] = use
    of_material = [-1 if m.texture is None else slot[_use(m)] for m in materials]
    face_texture = np.array(of_material, np.int32)[material]
    edges = mesh.uv[:, 1:] - mesh.uv[:, :1]
    uv_area = np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]) / 2
    texels = uv_area * table[face_texture, 0, 1] * table[face_texture, 0, 2]
    area = np.maximum(face_areas(mesh), 1e-30)
    density = np.sqrt(texels / area).astype(np.float32)
    return face_texture, density, np.concatenate(flat), table


def _use(material: Material) -> tuple[int, int]:
    """Return the `id` of a material's texture and how it is used, as an integer."""
    u, v = (WRAPS.index(mode) for mode in material.wrap)
    return id(material.texture), u + 3 * v + TINTED * material.tinted


@compiled
def light_points(points, normals, origin, key, axis):  # type: ignore[no-untyped-def]
    """Compute light [n] f32 on points [n,3] with normals [n,3], for a viewer and lights [3]."""
    light = np.empty(len(points), np.float32)
    for n in range(len(points)):
        dx, dy, dz = points[n, 0] - origin[0], points[n, 1] - origin[1], points[n, 2] - origin[2]
        nx, ny, nz = normals[n, 0], normals[n, 1], normals[n, 2]
        facing = nx * dx + ny * dy + nz * dz
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        along = nx * axis[0] + ny * axis[1] + nz * axis[2]
        toward = nx * key[0] + ny * key[1] + nz * key[2]
        light[n] = light_on(facing, length, toward, along, has_axis(axis))
    return light


@compiled
def has_axis(axis):  # type: ignore[no-untyped-def]
    """Return whether there is a light along an axis [3] in place of the headlight: it is not 0."""
    return axis[0] != 0.0 or axis[1] != 0.0 or axis[2] != 0.0


@compiled
def light_on(facing, length, toward, along, fixed):  # type: ignore[no-untyped-def]
    """Return the light on a surface. facing: its normal times the ray of this length from the
    viewer; toward: its normal times the direction to the key light; along: its normal times the
    axis of the other light, which counts if that is fixed."""
    if facing > 0.0:  # the ray hits the back of the surface: turn its normal to the viewer
        toward = -toward
    ahead = abs(along) if fixed else abs(facing) / length
    return AMBIENT + HEADLIGHT * ahead + KEY * max(toward, 0.0)


@compiled
def smooth_light(normals, wa, wb, wc, ray, turned_away, length, key, axis):  # type: ignore[no-untyped-def]
    """Return the light at a point of a face with smooth shading; negative if it has no normal.

    normals [3,3]: of the corners, whose weights are wa, wb and wc. ray: from the viewer, of this
    length. turned_away: whether the back is seen. key, axis: unit vectors of the lights.
    """
    x = wa * normals[0, 0] + wb * normals[1, 0] + wc * normals[2, 0]
    y = wa * normals[0, 1] + wb * normals[1, 1] + wc * normals[2, 1]
    z = wa * normals[0, 2] + wb * normals[1, 2] + wc * normals[2, 2]
    square = x * x + y * y + z * z
    if square <= SHORT_NORMAL:
        return -1.0
    scale = (-1.0 if turned_away else 1.0) / np.sqrt(square)
    facing = scale * (x * ray[0] + y * ray[1] + z * ray[2])
    toward = scale * (x * key[0] + y * key[1] + z * key[2])
    along = scale * (x * axis[0] + y * axis[1] + z * axis[2])
    facing = min(facing, 0.0)  # near outlines it may point away
    return light_on(facing, length, toward, along, has_axis(axis))


def base_colors(
    hits: NDArray[np.int32],
    weights: NDArray[np.float32],
    width: NDArray[np.float32],
    surface: Surface,
) -> NDArray[np.float32]:
    """Return the linear color [n,3] f32 of the faces hit, before lighting; 0 where none was hit."""
    if len(surface.vertex_colors):
        colors = _vertex_colors(hits, weights, surface.faces, surface.vertex_colors)
    else:
        colors = _face_colors(hits, surface.colors)
    if len(surface.face_texture):
        _texture_colors(hits, weights, width, *surface[6:], colors)
    return colors


@compiled
def find_edges(image, face_index, size, contrast):  # type: ignore[no-untyped-def]
    """Return flat indices of pixels that show another face than a neighbor to the side, above or
    below, and differ from it by more than `contrast` in a channel of the u8 image [V·size²,3]."""
    marked = np.zeros(len(face_index), np.bool_)
    for line in range(len(face_index) // size):
        below = size if (line + 1) % size else 0  # 0 in the last row: a pixel equals itself
        for column in range(size):
            pixel = line * size + column
            right = 1 if column + 1 < size else 0
            for other in (pixel + right, pixel + below):
                if face_index[pixel] != face_index[other]:
                    for channel in range(3):
                        step = np.int32(image[pixel, channel]) - np.int32(image[other, channel])
                        if abs(step) > contrast:
                            marked[pixel] = marked[other] = True
    return np.nonzero(marked)[0]


@compiled
def encode_lit(albedo, light, least):  # type: ignore[no-untyped-def]
    """Return what surfaces of linear color [n,3] reflect of light [n] as clipped sRGB bytes.

    least: what black surfaces reflect, f32.
    """
    out, steps = np.empty(albedo.shape, np.uint8), np.float32(len(BYTE_OF_LINEAR) - 1)
    for n in range(len(albedo)):
        for channel in range(3):
            share = least + (np.float32(1) - least) * albedo[n, channel]
            value = min(max(share * light[n], np.float32(0)), np.float32(1))
            out[n, channel] = BYTE_OF_LINEAR[int(value * steps + np.float32(0.5))]
    return out


@compiled
def smooth(rgb, pixels, albedo, light, samples):  # type: ignore[no-untyped-def]
    """Replace rgb [·,3] u8 at `pixels` by the mean light of their value and further samples.

    albedo [n·samples,3], light [n·samples]: the samples' values, grouped by pixel; a negative light
    marks the background, whose color is shown as it is.
    """
    steps = np.float32(len(BYTE_OF_LINEAR) - 1)
    for n in range(len(pixels)):
        for channel in range(3):
            total = LINEAR_OF_BYTE[rgb[pixels[n], channel]]
            for sample in range(n * samples, (n + 1) * samples):
                share = albedo[sample, channel]
                if light[sample] >= np.float32(0):
                    share = LEAST_REFLECTED + (np.float32(1) - LEAST_REFLECTED) * share
                    share *= light[sample]
                total += share
            value = min(max(total / np.float32(samples + 1), np.float32(0)), np.float32(1))
            rgb[pixels[n], channel] = BYTE_OF_LINEAR[int(value * steps + np.float32(0.5))]


@compiled
def _face_colors(hits, colors):  # type: ignore[no-untyped-def]
    out = np.zeros((len(hits), 3), np.float32)
    for n in range(len(hits)):
        if hits[n] >= 0:
            for channel in range(3):
                out[n, channel] = colors[hits[n], channel]
    return out


@compiled
def _vertex_colors(hits, weights, faces, colors):  # type: ignore[no-untyped-def]
    out = np.zeros((len(hits), 3), np.float32)
    for n in range(len(hits)):
        if hits[n] >= 0:
            for corner in range(3):
                for channel in range(3):
                    color = colors[faces[hits[n], corner], channel]
                    out[n, channel] += weights[n, corner] * color
    return out


@compiled
def _texture_colors(hits, weights, width, uv, face_texture, density, texels, levels, out):  # type: ignore[no-untyped-def]
    """Overwrite, or multiply, the color of hits on textured faces. Isotropic trilinear filtering
    (Williams, Pyramidal Parametrics, 1983); texels per pixel determine the level."""
    for n in range(len(hits)):
        face = hits[n]
        if face < 0 or face_texture[face] < 0:
            continue
        u = v = 0.0
        for corner in range(3):
            u += weights[n, corner] * uv[face, corner, 0]
            v += weights[n, corner] * uv[face, corner, 1]
        use = levels[face_texture[face], 0, 3]
        across, down = use % 3, use // 3 % 3
        u, v = _wrapped(u, across), _wrapped(v, down)
        detail = np.log2(max(density[face] * width[n], 1.0))
        red = green = blue = 0.0
        for step in range(2):
            level = int(detail) + step
            share = detail - int(detail) if step else 1.0 - (detail - int(detail))
            while level > 0 and (level >= MIP_LEVELS or levels[face_texture[face], level, 2] == 0):
                level -= 1  # use the smallest existing level for missing ones
            offset = levels[face_texture[face], level, 0]
            high, wide = levels[face_texture[face], level, 1], levels[face_texture[face], level, 2]
            x, y = u * wide - 0.5, (1.0 - v) * high - 0.5
            left, top = int(np.floor(x)), int(np.floor(y))
            columns = _neighbors(left, wide, across)
            rows = _neighbors(top, high, down)
            for corner in range(4):
                dx, dy = corner % 2, corner // 2
                weight = share * abs(1 - dx - (x - left)) * abs(1 - dy - (y - top))
                at = offset + 3 * (rows[dy] * wide + columns[dx])
                red += weight * LINEAR_OF_BYTE[texels[at]]
                green += weight * LINEAR_OF_BYTE[texels[at + 1]]
                blue += weight * LINEAR_OF_BYTE[texels[at + 2]]
        if use >= TINTED:
            red, green, blue = red * out[n, 0], green * out[n, 1], blue * out[n, 2]
        out[n, 0], out[n, 1], out[n, 2] = red, green, blue


@compiled
def _wrapped(value, mode):  # type: ignore[no-untyped-def]
    """Return a texture coordinate in 0..1."""
    if mode == CLAMP:
        return min(max(value, 0.0), 1.0)
    if mode == MIRROR:
        return 1.0 - abs(value - 2.0 * np.floor(value / 2.0) - 1.0)
    return value - np.floor(value)


@compiled
def _neighbors(first, count, mode):  # type: ignore[no-untyped-def]
    """Return the texel at an index from -1 to count - 1 and the next: repeated, or the border's."""
    if mode == REPEAT:
        return first % count, (first + 1) % count
    return max(first, 0), min(first + 1, count - 1)
