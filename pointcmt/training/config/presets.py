"""Named settings that replace the default configuration, by recipe.

official: the PointCMT reference code's architecture and schedule (no entry: it is the defaults);
docs/training.md lists where it departs from that code.
modern: settings of today's strong baselines. Students: points drawn at random from slightly more
than are used, so that they are about as dense as those of a test (PointNeXt, Qian et al. 2022,
section 3.1: 1,024 of 1,200), gradient clipping (as in PointNeXt's configurations, at another norm),
a warm-up of 10 epochs (Point-MAE, Pang et al. 2022; PointNeXt has none), averaged weights, no decay
of biases and norms. Teacher: AdamW with a warm-up and a cosine, a random subset of the views at
each step. For generators only the schedule changes.
mvnet-style: the defaults and only preset of the recipe mvnet; MVNet's settings are unpublished.

All others are published recipes, named after their source: what the authors' configuration sets,
key by key. docs/published.md lists them with their files, and what is not the same here. They train
on the whole train split, as their authors do; unlike theirs, the last epoch counts, not the best on
the test split.
"""

from typing import Any

Settings = dict[str, Any]

OFFICIAL = "official"  # the default preset, of all recipes

WHOLE: Settings = {"validation": 0.0}  # train on all of the train split
CLOUDS: Settings = WHOLE | {"batch_size": 32, "points": 1024}
PER_AXIS: Settings = {"scale": (2 / 3, 3 / 2), "shift": 0.2}  # of DGCNN's code and those after it
MODELNET_VOTES: Settings = {"scale": (0.85, 1.15)}  # of PointMLP's and PointCMT's voting


def _cosine(floor: float, **more: float) -> Settings:
    """Return torch's CosineAnnealingLR, stepped once an epoch, down to `floor`."""
    return {"name": "cosine", "per": "epoch", "floor": floor, "warmup": 0.0, **more}


def _classifier(backbone: str, dropout: float = 0.5) -> Settings:
    """Return a network with its published head."""
    return {"backbone": backbone, "head": "published", "dropout": dropout}


# charlesq34/pointnet, train.py and models/pointnet_cls.py
POINTNET: Settings = {
    "epochs": 250,
    "data": CLOUDS,
    # 0.001 times half the sum over a batch of 32
    "model": _classifier("pointnet", 0.3) | {"orthogonality": 0.016},
    "loss": {"label_smoothing": 0.0},
    "optimizer": {"name": "adam", "learning_rate": 0.001, "weight_decay": 0.0},
    "schedule": {
        "name": "steps",
        "interval": 200_000 / 9_840,  # in samples; ModelNet40 has 9,840 an epoch
        "factor": 0.7,
        "floor": 1e-5,
        "warmup": 0.0,
    },
    "augmentation": {"scale": (1.0, 1.0), "shift": 0.0, "rotation": 180.0, "jitter": 0.01},
}
# yanx27/Pointnet_Pointnet2_pytorch, train_classification.py and provider.py
POINTNET2: Settings = {
    "epochs": 200,
    "data": CLOUDS | {"batch_size": 24},
    "model": _classifier("pointnet2-ssg", 0.4),
    "loss": {"label_smoothing": 0.0},
    "optimizer": {"name": "adam", "learning_rate": 0.001, "weight_decay": 1e-4},
    "schedule": {
        "name": "steps",
        "per": "epoch",
        "interval": 20.0,
        "factor": 0.7,
        "warmup": 0.0,
    },
    "augmentation": {
        "point_dropout": 0.875,
        "scale": (0.8, 1.25),
        "isotropic": True,
        "shift": 0.1,
    },
}
# WangYueFt/dgcnn, pytorch/main.py and pytorch/data.py
DGCNN: Settings = {
    "epochs": 250,
    "data": CLOUDS,
    "model": _classifier("dgcnn"),
    "loss": {"label_smoothing": 0.2},
    "optimizer": {"name": "sgd", "nesterov": False, "learning_rate": 0.1, "weight_decay": 1e-4},
    "schedule": _cosine(0.001),
    "augmentation": PER_AXIS,
}
# ma-xu/pointMLP-pytorch, classification_ModelNet40/main.py, data.py and voting.py
POINTMLP: Settings = {
    "epochs": 300,
    "data": CLOUDS,
    "model": _classifier("pointmlp"),
    "loss": {"label_smoothing": 0.2},
    "optimizer": {
        "name": "sgd",
        "nesterov": False,
        "learning_rate": 0.1,
        "weight_decay": 2e-4,
        "clip_norm": 1.0,
    },
    "schedule": _cosine(0.001),
    "augmentation": PER_AXIS,
    "votes": MODELNET_VOTES,
}
# ma-xu/pointMLP-pytorch, classification_ScanObjectNN/main.py and ScanObjectNN.py
POINTMLP_SCANOBJECTNN: Settings = POINTMLP | {
    "epochs": 200,
    "optimizer": POINTMLP["optimizer"]
    | {"learning_rate": 0.01, "weight_decay": 1e-4, "clip_norm": 0.0},
    "schedule": _cosine(0.0001),
}
# guochengqian/PointNeXt, cfgs/modelnet40ply2048/default.yaml and pointnext-s.yaml
POINTNEXT: Settings = {
    "epochs": 600,
    "data": CLOUDS,
    "model": _classifier("pointnext-s"),
    "loss": {"label_smoothing": 0.2},
    "optimizer": {
        "name": "adamw",
        "learning_rate": 0.001,
        "weight_decay": 0.05,
        "decay": "matrices",
        "clip_norm": 1.0,
    },
    "schedule": _cosine(1e-6),  # a thousandth of the rate, openpoints' default
    "augmentation": PER_AXIS,
}
# guochengqian/PointNeXt, cfgs/scanobjectnn/default.yaml and pointnext-s.yaml
POINTNEXT_SCANOBJECTNN: Settings = POINTNEXT | {
    "epochs": 250,
    "data": CLOUDS | {"resample": 1200, "center": "centroid", "scale": "farthest"},
    "loss": {"label_smoothing": 0.3},
    "optimizer": POINTNEXT["optimizer"] | {"learning_rate": 0.002, "clip_norm": 10.0},
    "schedule": _cosine(1e-4, length=200.0),
    "augmentation": {"scale": (0.9, 1.1), "normalize": True, "rotation": 180.0, "shift": 0.0},
}
# Pang-Yatian/Point-MAE, cfgs/finetune_modelnet.yaml, tools/builder.py and tools/runner_finetune.py
POINT_MAE: Settings = {
    "epochs": 300,
    "data": CLOUDS | {"resample": 1200},
    "model": _classifier("pointvit-s"),
    "loss": {"label_smoothing": 0.0},
    "optimizer": {
        "name": "adamw",
        "learning_rate": 0.0005,
        "weight_decay": 0.05,
        "decay": "matrices",
        "clip_norm": 10.0,
    },
    "schedule": _cosine(1e-6, warmup=10.0),
    "augmentation": PER_AXIS,
    "votes": PER_AXIS | {"resample": 1200},
}
# ZhanHeshen/PointCMT, main_mvcnn_modelnet.py, train_cmpg.py, train_pointcmt.py, voting_test.py
POINTCMT: dict[str, Settings] = {
    "teacher": {"data": WHOLE, "model": {"backbone": "resnet-18", "weights": "hub"}},
    "cmpg": {"data": WHOLE, "matching": {"norm": "pointcmt"}, "augmentation": PER_AXIS},
    "student": {
        "data": WHOLE,
        "model": {"backbone": "pointnet2-msg"},
        "distillation": {"feature": {"norm": "pointcmt"}},
        "schedule": {"per": "epoch"},
        "votes": MODELNET_VOTES,
    },
}

SOURCES = {  # of published recipes: whose code, on GitHub
    "pointnet": "charlesq34/pointnet",
    "pointnet2": "yanx27/Pointnet_Pointnet2_pytorch",
    "dgcnn": "WangYueFt/dgcnn",
    "pointmlp": "ma-xu/pointMLP-pytorch",
    "pointmlp-scanobjectnn": "ma-xu/pointMLP-pytorch",
    "pointnext": "guochengqian/PointNeXt",
    "pointnext-scanobjectnn": "guochengqian/PointNeXt",
    "point-mae": "Pang-Yatian/Point-MAE",
    "pointcmt": "ZhanHeshen/PointCMT",
}
PRESETS: dict[str, dict[str, Settings]] = {
    OFFICIAL: {},
    "mvnet-style": {"mvnet": {}},
    "modern": {
        "teacher": {
            "epochs": 30,
            "data": {"views": 6},
            "optimizer": {
                "name": "adamw",
                "learning_rate": 0.0005,
                "weight_decay": 0.05,
                "clip_norm": 1.0,
                "accumulate": 1,
                "decay": "matrices",
            },
            "schedule": {"name": "cosine", "warmup": 2.0},
        },
        "cmpg": {"schedule": {"name": "cosine"}},
        "student": {
            "epochs": 300,
            "data": {"resample": 1200},
            "optimizer": {"clip_norm": 1.0, "ema": 0.999, "decay": "matrices"},
            "schedule": {"name": "cosine", "warmup": 10.0},
        },
    },
    "pointcmt": POINTCMT,
    **{
        name: {"student": settings, "finetune": settings}
        for name, settings in (
            ("pointnet", POINTNET),
            ("pointnet2", POINTNET2),
            ("dgcnn", DGCNN),
            ("pointmlp", POINTMLP),
            ("pointmlp-scanobjectnn", POINTMLP_SCANOBJECTNN),
            ("pointnext", POINTNEXT),
            ("pointnext-scanobjectnn", POINTNEXT_SCANOBJECTNN),
            ("point-mae", POINT_MAE),
        )
    },
}
