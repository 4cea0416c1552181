"""images.backbone=auto: the levels of each network, for images prepared as its folder says."""

import json
import shutil

import numpy as np
import pytest
import torch

from pointcmt.errors import UsageError
from pointcmt.training.images.levels import build_levels, level_widths
from tests.training.image_folders import IMAGES, SMALL
from tests.training.images.test_levels import images


def normalized(views, mean, std):
    """Pixels [n,3,H,W] in float64, as transformers' image processors make them."""
    rgb = views.double() / 255
    mean, std = (torch.tensor(each, dtype=torch.float64) for each in (mean, std))
    return ((rgb - mean) / std).permute(0, 3, 1, 2)


# Levels, against the networks' own outputs


def tokens(network, pixels, prefix, norm, **more):
    """Tokens of both blocks from hidden states, of which the last is the network's output."""
    output = network(pixels, output_hidden_states=True, **more)
    first, last = norm(output.hidden_states[1]), output.last_hidden_state
    rows, columns = (side // 8 for side in pixels.shape[-2:])
    found = []
    for each in (first, last):
        level = each.new_zeros(len(pixels), each.shape[-1], rows, columns)
        for row, column in np.ndindex(rows, columns):
            level[:, :, row, column] = each[:, prefix + row * columns + column]
        found.append(level)
    return found


def clip(network, pixels, prefix, **more):
    first, last = tokens(network, pixels, prefix, network.post_layernorm, **more)
    return [first, network.post_layernorm(last.movedim(1, -1)).movedim(-1, 1)]


def stages(network, pixels, first, last, levels):
    """Levels of networks that return maps; hidden_states[first:last] are those of all blocks."""
    found = network(pixels, output_hidden_states=True).hidden_states[first:last]
    return [found[level] for level in levels]


def swin(network, pixels):
    """Only the second stage's patches are as wide as the last norm."""
    output = network(pixels, output_hidden_states=True)
    each = (
        output.hidden_states[1],
        network.layernorm(output.hidden_states[2]),
        output.last_hidden_state,
    )
    found = []
    for level in each:
        columns = round((level.shape[1] * pixels.shape[-1] / pixels.shape[-2]) ** 0.5)
        found.append(torch.stack(level.split(columns, dim=1), 1))
    return [level.permute(0, 3, 1, 2) for level in found]


def sam(network, pixels):
    return [level.permute(0, 3, 1, 2) for level in stages(network, pixels, 1, None, (0, 1))]


def sam2(network, pixels):
    """Block by block; at 64 pixels, the first block has as many channels (16) as rows."""
    found, hidden = [], network.patch_embed(pixels)
    hidden = hidden + network._get_pos_embed(hidden.shape[1:3])
    for block in network.blocks:
        hidden = block(hidden)
        found.append(hidden.permute(0, 3, 1, 2))
    return [found[0], found[4]]


BIGGER = {"interpolate_pos_encoding": True}
# Class, sizes of images (of frames, height and width), and the reference.
CASES = {
    "dinov2": ("Dinov2Model", (32, 48), lambda n, x: tokens(n, x, 1, n.layernorm)),
    "dinov2_with_registers": (
        "Dinov2WithRegistersModel",
        (32, 48),
        lambda n, x: tokens(n, x, 5, n.layernorm),
    ),
    "dinov3_vit": ("DINOv3ViTModel", (32, 48, (32, 48)), lambda n, x: tokens(n, x, 4, n.norm)),
    "siglip": (
        "SiglipVisionModel",
        (32, 48),
        lambda n, x: tokens(n, x, 0, n.post_layernorm, **BIGGER),
    ),
    "clip": ("CLIPVisionModel", (32, 48), lambda n, x: clip(n, x, 1, **BIGGER)),
    "vit": ("ViTModel", (32, 48), lambda n, x: tokens(n, x, 1, n.layernorm, **BIGGER)),
    "beit": ("BeitModel", (32, 48), lambda n, x: tokens(n, x, 1, torch.nn.Identity(), **BIGGER)),
    "dinov3_convnext": ("DINOv3ConvNextModel", (64,), lambda n, x: stages(n, x, 1, 5, (1, 3))),
    "convnextv2": ("ConvNextV2Model", (64, (64, 96)), lambda n, x: stages(n, x, 1, 5, (1, 3))),
    "regnet": ("RegNetModel", (64,), lambda n, x: stages(n, x, 1, 5, (1, 3))),
    "efficientnet": ("EfficientNetModel", (64, (64, 96)), lambda n, x: stages(n, x, 1, 9, (3, 7))),
    "mobilenet_v2": ("MobileNetV2Model", (64,), lambda n, x: stages(n, x, 0, 16, (7, 15))),
    "swin": ("SwinModel", (64, (64, 96)), swin),
    "sam": ("SamVisionModel", (64,), sam),
    "sam_vision": ("SamVisionModel", (64,), sam),
    "sam2_hiera": ("Sam2HieraDetModel", (64, 96, (64, 96)), sam2),
}


def test_every_small_network_is_tested():
    assert CASES.keys() == SMALL.keys()


@pytest.mark.parametrize(
    ("name", "size"), [(name, size) for name, (_, sizes, _) in CASES.items() for size in sizes]
)
def test_levels_equal_the_networks_hidden_states(name, size, folder_of, capfd):
    import transformers

    kind, _, reference = CASES[name]
    stored = size if isinstance(size, tuple) else (size, size)
    folder = folder_of(name)
    levels = {"swin": [1 / 3, 2 / 3, 1.0], "sam2_hiera": [0.2, 1.0]}.get(name, [0.5, 1.0])
    capfd.readouterr()
    found = build_levels("auto", str(folder), levels, 0, stored)
    assert capfd.readouterr() == ("", "")
    own = getattr(transformers, kind).from_pretrained(folder).double().eval()
    capfd.readouterr()
    views = images(2, stored)
    with torch.no_grad():
        wanted = reference(own, normalized(views, *IMAGES.values()))
    for one, other, shape in zip(found.double()(views), wanted, found.shapes, strict=True):
        assert one.shape == other.shape == (2, *shape)
        assert other.std() > 0.01
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-5)


def test_a_map_with_as_many_channels_as_rows_is_not_transposed(folder_of):
    import transformers

    folder = folder_of("convnextv2")
    found = build_levels("auto", str(folder), [0.25], 0, stored=(32, 32))
    assert found.shapes == [(8, 8, 8)]
    own = transformers.ConvNextV2Model.from_pretrained(folder).double().eval()
    views = images(2)
    wanted = own(normalized(views, *IMAGES.values()), output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(found.double()(views)[0], wanted.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_widths_are_found_without_weights_or_random_numbers(name, folder_of, tmp_path):
    shutil.copy(folder_of(name) / "config.json", tmp_path)
    size = CASES[name][1][0]
    before = torch.get_rng_state()
    found = level_widths("auto", str(tmp_path), [0.5, 1.0], size)
    assert level_widths("auto", str(tmp_path), [0.5, 1.0], 0) == found
    assert torch.equal(torch.get_rng_state(), before)
    built = build_levels("auto", str(folder_of(name)), [0.5, 1.0], size, stored=(32, 32))
    assert found == [D for D, _, _ in built.shapes]


# How images are prepared


@pytest.mark.parametrize(
    ("file", "says", "statistics"),
    [
        ("preprocessor_config.json", IMAGES, (IMAGES["image_mean"], IMAGES["image_std"])),
        (
            "processor_config.json",
            {"image_processor": IMAGES},
            (IMAGES["image_mean"], IMAGES["image_std"]),
        ),
        ("preprocessor_config.json", {**IMAGES, "do_normalize": False}, ([0] * 3, [1] * 3)),
        (
            "preprocessor_config.json",  # to -1 … 1, which is then normalized
            {"rescale_factor": 2 / 255, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]},
            ([0.5] * 3, [0.5] * 3),
        ),
        (
            "preprocessor_config.json",
            {"do_rescale": False, "image_mean": [51] * 3, "image_std": [102] * 3},
            ([0.2] * 3, [0.4] * 3),
        ),
        (
            "preprocessor_config.json",  # null is the same as absent
            {"do_rescale": None, "rescale_factor": None, "do_flip_channel_order": None, **IMAGES},
            (IMAGES["image_mean"], IMAGES["image_std"]),
        ),
        (
            "processor_config.json",
            {"image_processor": None, "image_mean": 0.4, "image_std": 1},
            ([0.4] * 3, [1] * 3),
        ),
        ("preprocessor_config.json", {"size": 224}, None),
        ("processor_config.json", {"processor_class": "CLIPProcessor"}, None),
        (None, None, None),
    ],
)
def test_images_are_normalized_as_the_folder_says(file, says, statistics, copy_of):
    folder = copy_of("convnextv2")
    (folder / "preprocessor_config.json").unlink()
    if file:
        (folder / file).write_text(json.dumps(says))
    network = build_levels("auto", str(folder), [1.0], 0, stored=(32, 32))
    assert bool(network.known.guessed) == (statistics is None)
    views = images(2)
    imagenet = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    pixels = normalized(views, *(statistics or imagenet))
    seen = []
    network.network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    network(views)
    torch.testing.assert_close(seen[0], pixels.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "says",
    [
        "{",
        "[]",
        json.dumps({**IMAGES, "image_std": [0.2, 0.2, 0]}),
        json.dumps({**IMAGES, "image_mean": [0.2, 0.2]}),
        json.dumps({**IMAGES, "image_mean": ["a", "b", "c"]}),
        json.dumps({**IMAGES, "image_std": [float("nan")] * 3}),
        json.dumps({**IMAGES, "rescale_factor": 0}),
        json.dumps({**IMAGES, "image_std": [[0.2]] * 3}),
        json.dumps({**IMAGES, "rescale_offset": True}),
    ],
)
def test_unsupported_image_preprocessing_is_refused(says, copy_of):
    folder = copy_of("vit")
    (folder / "preprocessor_config.json").write_text(says)
    with pytest.raises(UsageError, match=r"preprocessor_config\.json cannot be used") as caught:
        level_widths("auto", str(folder), [1.0], 32)
    assert caught.value.where == str(folder)


@pytest.mark.parametrize(
    ("kind", "says", "taken"),
    [
        ("mobilevit", {"do_flip_channel_order": False}, True),
        ("mobilevit", {"do_flip_channel_order": None}, False),
        ("mobilevit", {"size": 224}, False),
        ("mobilevit", None, False),
        ("mobilevitv2", None, False),
        ("vit", {**IMAGES, "do_flip_channel_order": True}, False),
        ("vit", {"do_flip_channel_order": True}, False),
    ],
)
def test_networks_for_bgr_images_are_refused(kind, says, taken, tmp_path):
    """MobileViT uses BGR images unless its configuration says otherwise."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    if says is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(says))
    if taken:
        assert level_widths("auto", str(tmp_path), [1.0], 224)
        return
    with pytest.raises(UsageError, match=f"{kind} takes BGR images") as caught:
        level_widths("auto", str(tmp_path), [1.0], 224)
    assert caught.value.where == str(tmp_path)
    assert "do_flip_channel_order: false" in caught.value.fix
