"""Folders of small random image networks as transformers' `save_pretrained` writes them."""

import json

import torch

TRANSFORMER = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
    "intermediate_size": 48,
}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
TEXT = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 20,
    "intermediate_size": 16,
}
SAM = {
    **{k: v for k, v in TRANSFORMER.items() if k not in ("image_size", "intermediate_size")},
    "image_size": 64,
    "mlp_dim": 48,
    "output_channels": 16,
    "window_size": 4,
    "global_attn_indexes": [1],
}
# The class of transformers that is saved, its configuration class and values.
SMALL = {
    "dinov2": ("Dinov2Model", "Dinov2Config", TRANSFORMER),
    "dinov2_with_registers": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        {**TRANSFORMER, "num_register_tokens": 4},
    ),
    "dinov3_vit": ("DINOv3ViTModel", "DINOv3ViTConfig", {**TRANSFORMER, "num_register_tokens": 3}),
    "dinov3_convnext": ("DINOv3ConvNextModel", "DINOv3ConvNextConfig", STAGES),
    "siglip": ("SiglipModel", "SiglipConfig", {"text_config": TEXT, "vision_config": TRANSFORMER}),
    "clip": ("CLIPModel", "CLIPConfig", {"text_config": TEXT, "vision_config": TRANSFORMER}),
    "vit": ("ViTForImageClassification", "ViTConfig", TRANSFORMER),
    "beit": (
        "BeitForImageClassification",
        "BeitConfig",
        {**TRANSFORMER, "use_relative_position_bias": True},
    ),
    "convnextv2": ("ConvNextV2ForImageClassification", "ConvNextV2Config", STAGES),
    "swin": (
        "SwinForImageClassification",
        "SwinConfig",
        {
            "embed_dim": 8,
            "depths": [1, 2, 1],
            "num_heads": [1, 2, 2],
            "window_size": 4,
            "patch_size": 4,
            "image_size": 64,
        },
    ),
    "efficientnet": (
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320},
    ),
    "mobilenet_v2": (
        "MobileNetV2ForImageClassification",
        "MobileNetV2Config",
        {"depth_multiplier": 0.25},
    ),
    "regnet": (
        "RegNetForImageClassification",
        "RegNetConfig",
        {"embedding_size": 8, "groups_width": 8, **STAGES},
    ),
    "sam": ("SamModel", "SamConfig", {"vision_config": SAM}),
    "sam2_hiera": (
        "Sam2HieraDetModel",
        "Sam2HieraDetConfig",
        {
            "hidden_size": 16,
            "num_attention_heads": 1,
            "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [16, 32, 64, 128],
            "num_attention_heads_per_stage": [1, 2, 4, 8],
            "window_size_per_stage": [4, 2, 4, 2],
            "global_attention_blocks": [3],
            "image_size": [64, 64],
        },
    ),
    "sam_vision": ("SamVisionModel", "SamVisionConfig", SAM),
}
# Values that no real network uses.
IMAGES = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}


def save_small(name, folder, processor=IMAGES):
    """Save a network of SMALL with random values in every tensor, and its image processor."""
    import transformers

    torch.manual_seed(1)
    kind, config, values = SMALL[name]
    network = getattr(transformers, kind)(getattr(transformers, config)(**values))
    with torch.no_grad():
        for parameter in network.parameters():  # biases too are not zero
            parameter.add_(0.02 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def change(folder, name="config.json", **values):
    """Write values into a JSON file of a folder."""
    table = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**table, **values}))
    return folder


def same(one, other):
    """Whether two networks have the same tensors."""
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
