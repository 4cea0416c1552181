"""Point-MAE and Point-BERT by our names: encoders, and the heads of fine-tuning.

- Pang-Yatian/Point-MAE: `encoder.first_conv.0` [128, 3, 1], `blocks.blocks.0.norm1`, …; in files of
  pre-training under `MAE_encoder.`, without a class token.
- lulutang0608/Point-BERT: the same, but the patch's maximum has a width of 256 and goes through
  `reduce_dim` [384, 256]; in files of pre-training under `transformer_q.`.
- Heads of fine-tuning: `cls_head_finetune.0` [256, 768], norm `.1`, `.4` [256, 256], norm `.5`,
  `.8` [C, 256] of Point-MAE; `.0` [256, 768] and `.3` [C, 256] of Point-BERT.

Other heads and what only pre-training needs are left out, which a note says.
"""

import re

import torch
from torch import Tensor

from pointcmt.training.runs.published.converted import Converted, left_out, without_biases

MAE, BERT = WITHIN = ("MAE_encoder.", "transformer_q.")  # in files of pre-training


def from_transformer(weights: dict[str, Tensor]) -> Converted:
    """Convert the names and shapes of an encoder, and of a head of fine-tuning, to ours.

    A class token that is missing, as after Point-MAE's pre-training, is random as at the start of
    its authors' fine-tuning; from a fixed seed.
    """
    first = next((p for p in WITHIN if any(name.startswith(p) for name in weights)), "")
    inside = {n.removeprefix(first): x for n, x in weights.items() if n.startswith(first)}
    names, converted = dict(_NAMES), {}
    if "reduce_dim.weight" in inside:
        names |= {r"reduce_dim\.(\w+)": r"embed.widen.\1"}
    names |= next((head for last, head in _HEADS.items() if last in inside), {})
    left = [name for name in weights if not name.startswith(first)]
    for key, value in inside.items():
        matches = ((re.fullmatch(pattern, key), ours) for pattern, ours in names.items())
        name = next((match.expand(ours) for match, ours in matches if match), None)
        if name is None:
            left.append(f"{first}{key}")
        else:
            conv = value.dim() == 3 and not key.startswith("cls_")  # [O, I, 1]
            converted[name] = value.flatten(1) if conv else value
    notes: tuple[str, ...] = (left_out(left),) if left else ()
    if "class_token" not in converted and "norm.weight" in converted:
        width = len(converted["norm.weight"])
        generator = torch.Generator().manual_seed(0)
        for name in ("class_token", "class_place"):
            converted[name] = 0.02 * torch.randn(1, 1, width, generator=generator)
        notes += ("this file has no class token: it starts from random values",)
    return Converted(without_biases(_without_patch_biases(converted)), notes)


def _without_patch_biases(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Subtract the biases of a patch's embedding that a batch norm follows from the norms' means.

    The second layer's bias b is added to all features of a patch, so to their maximum too, and
    reaches the third layer's norm as W·[b, b]. Weights of other shapes stay the same.
    """
    biases = [f"embed.{layer}.bias" for layer in ("near.0", "near.3", "both")]
    means = [f"embed.{norm}.running_mean" for norm in ("near.1", "rest.0")]
    names = [*biases, *means, "embed.both.weight"]
    shapes = [tuple(weights[name].shape) for name in names if name in weights]
    if shapes != [(128,), (256,), (512,), (128,), (512,), (512, 512)]:
        return weights
    kept = {name: tensor for name, tensor in weights.items() if name not in biases}
    first, second, third = (weights[name].double() for name in biases)
    twice = weights["embed.both.weight"].double() @ torch.cat([second, second])
    for mean, bias in zip(means, (first, third + twice), strict=True):
        kept[mean] = weights[mean].double() - bias
    return kept


_NAMES = {  # names in Point-MAE's code → ours
    r"encoder\.first_conv\.(\d)\.(\w+)": r"embed.near.\1.\2",
    r"encoder\.second_conv\.0\.(\w+)": r"embed.both.\1",
    r"encoder\.second_conv\.1\.(\w+)": r"embed.rest.0.\1",
    r"encoder\.second_conv\.3\.(\w+)": r"embed.rest.2.\1",
    r"pos_embed\.(\d)\.(\w+)": r"place.\1.\2",
    r"cls_token": "class_token",
    r"cls_pos": "class_place",
    r"blocks\.blocks\.(\d+)\.norm1\.(\w+)": r"blocks.\1.norm_attention.\2",
    r"blocks\.blocks\.(\d+)\.norm2\.(\w+)": r"blocks.\1.norm_mlp.\2",
    r"blocks\.blocks\.(\d+)\.attn\.qkv\.(\w+)": r"blocks.\1.qkv.\2",
    r"blocks\.blocks\.(\d+)\.attn\.proj\.(\w+)": r"blocks.\1.project.\2",
    r"blocks\.blocks\.(\d+)\.mlp\.fc1\.(\w+)": r"blocks.\1.mlp.0.\2",
    r"blocks\.blocks\.(\d+)\.mlp\.fc2\.(\w+)": r"blocks.\1.mlp.2.\2",
    r"norm\.(\w+)": r"norm.\1",
}
_HEADS = {  # the name of the last layer → names in the authors' code → ours
    "cls_head_finetune.8.weight": {  # Point-MAE
        r"cls_head_finetune\.0\.(\w+)": r"head.0.\1",
        r"cls_head_finetune\.1\.(\w+)": r"head.1.\1",
        r"cls_head_finetune\.4\.(\w+)": r"classifier.hidden.\1",
        r"cls_head_finetune\.5\.(\w+)": r"classifier.norm.\1",
        r"cls_head_finetune\.8\.(\w+)": r"classifier.last.\1",
    },
    "cls_head_finetune.3.weight": {  # Point-BERT
        r"cls_head_finetune\.0\.(\w+)": r"head.0.\1",
        r"cls_head_finetune\.3\.(\w+)": r"classifier.last.\1",
    },
}
