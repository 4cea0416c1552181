"""Sessions of ONNX Runtime, and clouds for them."""

import numpy as np
import onnxruntime
import torch

from pointcmt.training.networks.backbones import BACKBONES

LEAST = {  # number of points to export with: the fewest that each network accepts, if quick
    "pointnet": 16,
    "pointnet2-ssg": 512,
    "pointnet2-msg": 512,
    "dgcnn": 40,
    "pointmlp": 192,
    "pointnext-s": 40,
    "pointvit-s": 64,
}


def session(model):
    """An ONNX Runtime session for a file or its bytes, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def clouds(count, points, seed=0):
    """Clouds on ellipsoids; a third of the points of each are duplicated."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, points, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    directions[:, -(points // 3) :] = directions[:, : points // 3]
    return (directions * rng.uniform(0.3, 1, (count, 1, 3))).astype(np.float32)


def used_backbone(name, points):
    """A network whose batch norms have seen data, in evaluation mode."""
    torch.manual_seed(0)
    model = BACKBONES[name](5).train()
    with torch.no_grad():
        for seed in range(2):
            model(torch.from_numpy(clouds(4, points, seed)))
    return model.eval()
