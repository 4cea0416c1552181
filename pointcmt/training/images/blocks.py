"""The blocks of any image network, and their outputs as maps.

The blocks are the modules of the outermost list that holds most of the network's weights: the
blocks of a transformer (ViT, DINO, CLIP, SigLIP, SAM), the stages of ResNet, ConvNeXt, RegNet and
Swin, the blocks of EfficientNet and MobileNet.
"""

import inspect
from collections.abc import Sequence
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from pointcmt.console import in_pixels
from pointcmt.errors import UsageError
from pointcmt.training.images.networks import ImageNetwork, require_size

SIZE_OPTION = "images.size"
NOISE = 1e-3  # relative rounding difference between a map computed alone and in a batch


class Blocks:
    """The blocks of `network`.

    known: the network's description. option: the configuration key of its image size, for messages.

    Raises UsageError for a network without blocks.
    """

    def __init__(self, known: ImageNetwork, network: nn.Module, option: str = SIZE_OPTION) -> None:
        self.known, self.network, self.option = known, network, option
        name, self.blocks = _largest_list(known, network)
        self._norms = _norms_behind(network, name)
        self._turned = False  # whether maps have their channels last; set by `shapes`
        # Ask for interpolation of position embeddings; some networks do so without the argument.
        accepts = inspect.signature(network.forward).parameters
        self._options = {name: True for name in ("interpolate_pos_encoding",) if name in accepts}

    def find(self, levels: Sequence[float]) -> list[int]:
        """Return the blocks, counted from 1, at these shares of the depth.

        Raises UsageError if two of them are the same.
        """
        depth = len(self.blocks)
        layers = [max(1, round(level * depth)) for level in levels]
        if len(set(layers)) < len(layers):
            raise UsageError(
                f"the levels {list(levels)} of {self.known.name} select the layers {layers}, one "
                "of them twice",
                where="images.levels",
                fix=f"choose fractions of its depth, {depth}, that are farther apart",
            )
        return layers

    def maps(self, pixels: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Normalized pixels [n,3,H,W] → the maps of these blocks, [n,D,h,w] each.

        Call `shapes` first: it determines the layout of the maps. Raises ValueError for outputs
        that are not maps, and whatever the network raises.
        """
        image = pixels.shape[-2], pixels.shape[-1]
        return [self._as_map(output, image) for output in self._run(pixels, layers)]

    @torch.no_grad()
    def shapes(self, image: tuple[int, int], layers: Sequence[int]) -> list[tuple[int, int, int]]:
        """Return (D, h, w) of these blocks' maps of images [H, W], by a trial run.

        Raises UsageError for a size that the network does not accept, if the outputs are not maps,
        or if an image's maps depend on the rest of its batch.
        """
        require_size(self.known, image, self.option)
        pair = self._images(image)
        try:
            both, alone = self._run(pair, layers), self._run(pair[:1], layers)
            self._turned = self._has_channels_last(alone, image, layers)
            found = [self._as_map(output, image) for output in alone]
        except Exception as error:  # whatever the network raises
            own, fix = own_size(self.known), "choose another network"
            if own and image[0] == image[1] != own:
                fix = f"set {self.option} to {own}, what it was trained on, or {fix}"
            raise UsageError(
                f"{self.known.name} does not accept images of {in_pixels(image)} pixels: {error}",
                where=self.option,
                fix=fix,
            ) from error
        if not all(map(_is_first, alone, both)):
            raise UsageError(
                f"{self.known.name} is not an image backbone: it mixes the images of a batch",
                where=self.known.hub,
                fix="choose another network",
            )
        return [(level.shape[1], level.shape[2], level.shape[3]) for level in found]

    def _run(self, pixels: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the outputs of these blocks: maps with channels first or last, or tokens."""
        found: dict[int, Any] = {}

        def keep(layer: int) -> Any:
            return lambda _, __, output: found.__setitem__(layer, output)

        hooks = [self.blocks[layer - 1].register_forward_hook(keep(layer)) for layer in layers]
        try:
            self.network(pixels, **self._options)
        finally:
            for hook in hooks:
                hook.remove()
        outputs = [_first(found.get(layer)) for layer in layers]
        if not all(isinstance(each, Tensor) and each.ndim in (3, 4) for each in outputs):
            raise ValueError(
                "its blocks do not run one after another, or return neither maps nor tokens"
            )
        return outputs

    def _as_map(self, output: Tensor, image: tuple[int, int]) -> Tensor:
        """Return a block's output as [n,D,h,w]. Maps are unchanged; of tokens, the patches', which
        come last, go through the network's final norm.
        """
        if output.ndim == 4:
            return output.movedim(-1, 1) if self._turned else output
        count, width = output.shape[1:]
        rows, columns = (side // self.known.patch for side in image)
        if rows * columns > count:  # patches were merged, or their size is unknown
            rows, columns = _grid_of(count, image)
        norm = next((norm for norm in self._norms if norm.weight.shape == (width,)), None)
        tokens = output[:, count - rows * columns :]
        return (norm(tokens) if norm else tokens).mT.unflatten(2, (rows, columns))

    def _has_channels_last(
        self, outputs: Sequence[Tensor], image: tuple[int, int], layers: Sequence[int]
    ) -> bool:
        """Return whether maps come as [n,h,w,D], as SAM's do: the sides are those of the image.

        If both readings fit, the sides are the dimensions that grow with the image.
        """
        for layer, output in zip(layers, outputs, strict=True):
            if output.ndim == 3:
                continue
            D, h, w = output.shape[1:]
            first, last = _fits(h, w, image), _fits(D, h, image)
            if first and last:
                (larger,) = self._run(self._images((2 * image[0], 2 * image[1]))[:1], [layer])
                return larger.shape[1] != D
            if not first and not last:
                raise ValueError(f"maps of {D} × {h} × {w} do not have its aspect ratio")
            return last
        return False

    def _images(self, image: tuple[int, int]) -> Tensor:
        """Return two images of waves, [2,3,h,w], without using torch's random generator."""
        weights, shape = next(self.network.parameters()), (2, 3, *image)
        phase = torch.arange(prod(shape), device=weights.device, dtype=weights.dtype)
        return (0.1 * phase).sin().unflatten(0, shape)


def _grid_of(count: int, image: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns of tokens that cover an image. Raises ValueError if none fit."""
    height, width = image
    rows, columns = round(sqrt(count * height / width)), round(sqrt(count * width / height))
    if rows * columns != count:
        raise ValueError(f"{count} tokens do not form a map of {in_pixels(image)} pixels")
    return rows, columns


def _fits(rows: int, columns: int, image: tuple[int, int]) -> bool:
    """Return whether a map has an image's aspect ratio, up to one row or column."""
    return abs(rows * image[1] - columns * image[0]) < max(image)


def own_size(known: ImageNetwork) -> int:
    """Return the image side a network was trained on, in pixels of whole patches; 0 = unknown.

    SigLIP's patches of 14, for example, leave out 6 of 384 pixels.
    """
    size = known.config.get("image_size") or 0
    size = size if isinstance(size, int) else size[0]
    return size - size % known.patch


def _largest_list(known: ImageNetwork, network: nn.Module) -> tuple[str, nn.ModuleList]:
    lists = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    outer = [
        (name, blocks)
        for name, blocks in lists
        if not any(name.startswith(f"{other}.") for other, _ in lists)
    ]
    if not outer:
        raise UsageError(
            f"{known.name} has no list of blocks", where=known.hub, fix="choose another network"
        )
    return max(outer, key=lambda item: sum(p.numel() for p in item[1].parameters()))


def _norms_behind(network: nn.Module, name: str) -> list[Any]:
    """Return the layer norms after the blocks, in order; the first precedes any pooling."""
    modules = list(network.named_modules())
    last = max(i for i, (other, _) in enumerate(modules) if f"{other}.".startswith(f"{name}."))
    kinds = ("LayerNorm", "RMSNorm")
    behind = [m for _, m in modules[last + 1 :] if type(m).__name__.endswith(kinds)]
    return [m for m in behind if getattr(m, "weight", None) is not None]


def _is_first(alone: Tensor, both: Tensor) -> bool:
    """Return whether an image's output alone equals the first half of its output in a pair."""
    if (1, *both.shape[1:]) != alone.shape or len(both) != 2:
        return False
    if alone.is_meta:
        return True
    return bool((both[0] - alone[0]).norm() <= NOISE * alone[0].norm())


def _first(output: Any) -> Any:
    """Return a block's first output; the others are attention or the states of its layers."""
    return _first(output[0]) if isinstance(output, tuple) and output else output
