"""Named settings that replace the default configuration, by recipe.

official: the PointCMT reference code (no entry: it is the defaults).
modern: settings of today's strong baselines. Students: points drawn at random from slightly more
than are used, so that they are about as dense as those of a test (PointNeXt, Qian et al. 2022,
section 3.1: 1,024 of 1,200), gradient clipping (as in PointNeXt's configurations, at another norm),
a warm-up of 10 epochs (Point-MAE, Pang et al. 2022; PointNeXt has none), averaged weights, no decay
of biases and norms. Teacher: AdamW with a warm-up and a cosine, a random subset of the views at
each step. For generators only the schedule changes.
mvnet-style: the defaults and only preset of the recipe mvnet; MVNet's settings are unpublished.
"""

from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "official": {},
    "mvnet-style": {},
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
}
