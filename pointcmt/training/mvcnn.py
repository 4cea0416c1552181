"""MVCNN (Su et al., ICCV 2015, arXiv 1505.00880): one image network, a maximum over the views."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointcmt.errors import UsageError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, RGB from 0 to 1

# The layouts of He et al. 2016 (arXiv 1512.03385, table 1) in the words of ResNetConfig.
LAYOUTS: dict[str, dict[str, Any]] = {
    "resnet-18": {
        "layer_type": "basic",
        "depths": [2, 2, 2, 2],
        "hidden_sizes": [64, 128, 256, 512],
    },
    "resnet-34": {
        "layer_type": "basic",
        "depths": [3, 4, 6, 3],
        "hidden_sizes": [64, 128, 256, 512],
    },
    "resnet-50": {
        "layer_type": "bottleneck",
        "depths": [3, 4, 6, 3],
        "hidden_sizes": [256, 512, 1024, 2048],
    },
}


class MVCNN(nn.Module):
    """Views of a shape → class.

    encoder: a transformers ResNetModel. width: D, its pooled feature. image_size: pixels the views
    are resized to, 0 = as they come.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module, width: int, classes: int, image_size: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(width, classes)
        self.image_size = image_size
        self.register_buffer("mean", 255 * torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images [B, V, H, W, 3] u8 → logits [B, C], feature [B, D], which is never negative."""
        B, V = images.shape[:2]
        pixels = images.flatten(0, 1).permute(0, 3, 1, 2)  # [B·V, 3, H, W], channels last in memory
        pixels = self._resize(pixels.to(self.mean.dtype))
        pixels = (pixels - self.mean) / self.std
        pooled = self.encoder(pixels).pooler_output  # [B·V, D, 1, 1], the mean over the image
        feature = pooled.view(B, V, -1).max(dim=1).values  # [B, D]
        return self.classifier(feature), feature

    def _resize(self, pixels: Tensor) -> Tensor:
        size = (self.image_size, self.image_size)
        if not self.image_size or pixels.shape[-2:] == size:
            return pixels
        return F.interpolate(pixels, size, mode="bilinear", antialias=True)


def build_mvcnn(backbone: str, weights: str, classes: int, image_size: int) -> MVCNN:
    """An MVCNN over a residual network of LAYOUTS.

    weights: "random", drawn from torch's global generator, or a folder written by transformers'
    `save_pretrained`. Raises UsageError where the folder holds no such network.
    """
    from transformers import ResNetConfig, ResNetModel  # seconds to import: not for students

    width = LAYOUTS[backbone]["hidden_sizes"][-1]
    encoder: nn.Module
    if weights == "random":
        encoder = ResNetModel(ResNetConfig(**LAYOUTS[backbone]))
    else:
        encoder = _load_resnet(backbone, Path(weights))
    return MVCNN(encoder, width, classes, image_size)


def _load_resnet(backbone: str, folder: Path) -> nn.Module:
    """The network in a local folder, never from the network, never from a pickle."""
    from safetensors import SafetensorError
    from transformers import ResNetModel

    fix = (
        "give --set model.weights= a folder with config.json and model.safetensors, such as a "
        f"download of microsoft/{backbone}, or random"
    )
    if not folder.is_dir():
        raise UsageError("no such folder of weights", where=str(folder), fix=fix)
    try:
        found = json.loads((folder / "config.json").read_text("utf-8"))
        wrong = {k: found.get(k) for k, v in LAYOUTS[backbone].items() if found.get(k) != v}
        if found.get("model_type") != "resnet" or wrong:
            raise UsageError(
                f"this is no {backbone}: {found.get('model_type')} with {wrong}",
                where=str(folder),
                fix="set model.backbone to what the folder holds, or give another folder",
            )
        with _quiet_transformers():
            loaded: Any = ResNetModel.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(
            f"the weights cannot be read: {error}", where=str(folder), fix=fix
        ) from error
    encoder, report = loaded
    missing = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if missing:
        raise UsageError(
            f"the weights lack {len(missing)} tensors, such as {missing[0]}",
            where=str(folder),
            fix=fix,
        )
    return encoder.train()


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bar and no report: `_load_resnet` checks the outcome itself."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
