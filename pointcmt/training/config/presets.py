"""Named settings that replace the default configuration, by recipe.

official: the PointCMT reference code (no entry: it is the defaults).
modern: settings of today's strong baselines. Students: points resampled from a larger sample,
gradient clipping, a warm-up (PointNeXt, Qian et al. 2022, section 3.1 and its ModelNet40 and
ScanObjectNN settings), averaged weights. Teacher: AdamW with a warm-up and a cosine, a random
subset of the views at each step. For generators only the schedule changes.
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
            },
            "schedule": {"name": "cosine", "warmup": 2.0},
        },
        "cmpg": {"schedule": {"name": "cosine"}},
        "student": {
            "epochs": 300,
            "data": {"resample": 2048},
            "optimizer": {"clip_norm": 1.0, "ema": 0.999},
            "schedule": {"name": "cosine", "warmup": 10.0},
        },
    },
}
