"""PointNet, and networks for part segmentation, as yanx27 publishes them: plain and independent.

Convolutions of [B, D, N], with biases before norms; values: of each point, 6 with normals.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from tests.training import textbooks
from tests.training.runs.published_files import Yanx27

CATEGORIES = 16


class Alignment(nn.Module):
    """Predicts a matrix, to which the identity is added. width: of the matrix."""

    def __init__(self, values, width):
        super().__init__()
        self.width = width
        for number, (a, b) in enumerate(pairwise((values, 64, 128, 1024)), 1):
            self.add_module(f"conv{number}", nn.Conv1d(a, b, 1))
            self.add_module(f"bn{number}", nn.BatchNorm1d(b))
        self.fc1, self.bn4 = nn.Linear(1024, 512), nn.BatchNorm1d(512)
        self.fc2, self.bn5 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.fc3 = nn.Linear(256, width * width)

    def forward(self, x):
        for number in (1, 2, 3):
            x = F.relu(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)))
        x = F.relu(self.bn4(self.fc1(x.amax(dim=2))))
        x = self.fc3(F.relu(self.bn5(self.fc2(x)))).view(-1, self.width, self.width)
        return x + torch.eye(self.width, dtype=x.dtype)


def aligned(points, stn):
    """points [B, N, 3 or 6] → [B, 3 or 6, N], the positions multiplied by a matrix."""
    moved = points[..., :3] @ stn(points.mT)
    return torch.cat([moved, points[..., 3:]], dim=2).mT


class Yanx27PointNet(nn.Module):
    """`pointnet_cls`, for 40 classes."""

    def __init__(self, values=3):
        super().__init__()
        self.feat = nn.Module()
        self.feat.stn, self.feat.fstn = Alignment(values, 3), Alignment(64, 64)
        for number, (a, b) in enumerate(pairwise((values, 64, 128, 1024)), 1):
            self.feat.add_module(f"conv{number}", nn.Conv1d(a, b, 1))
            self.feat.add_module(f"bn{number}", nn.BatchNorm1d(b))
        self.fc1, self.bn1 = nn.Linear(1024, 512), nn.BatchNorm1d(512)
        self.fc2, self.bn2 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.fc3 = nn.Linear(256, 40)

    def logits(self, points):
        """points [B, N, 3 or 6] → scores of 40 classes."""
        layers = self.feat
        x = F.relu(layers.bn1(layers.conv1(aligned(points, layers.stn))))
        x = (x.mT @ layers.fstn(x)).mT
        x = F.relu(layers.bn2(layers.conv2(x)))
        x = layers.bn3(layers.conv3(x)).amax(dim=2)  # without a ReLU
        x = F.relu(self.bn1(self.fc1(x)))
        return self.fc3(F.relu(self.bn2(self.fc2(x))))


class Yanx27PointNetParts(nn.Module):
    """`pointnet_part_seg`."""

    def __init__(self, parts, values=3, categories=CATEGORIES):
        super().__init__()
        self.categories = categories
        self.stn, self.fstn = Alignment(values, 3), Alignment(128, 128)
        for number, (a, b) in enumerate(pairwise((values, 64, 128, 128, 512, 2048)), 1):
            self.add_module(f"conv{number}", nn.Conv1d(a, b, 1))
            self.add_module(f"bn{number}", nn.BatchNorm1d(b))
        wide = 2048 + categories + 64 + 128 + 128 + 512 + 2048
        for number, (a, b) in enumerate(pairwise((wide, 256, 256, 128, parts)), 1):
            self.add_module(f"convs{number}", nn.Conv1d(a, b, 1))
            if number < 4:
                self.add_module(f"bns{number}", nn.BatchNorm1d(b))

    def forward(self, points, labels):
        """points [B, N, 3 or 6], categories [B] → scores of all parts [B, N, P]."""
        x, layers = aligned(points, self.stn), []
        for number in range(1, 6):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            x = F.relu(x) if number < 5 else x
            layers.append(x)
            if number == 3:
                x = (x.mT @ self.fstn(x)).mT
        one_hot = F.one_hot(labels, self.categories).to(x)
        whole = torch.cat([x.amax(dim=2), one_hot], dim=1)[..., None].expand(-1, -1, x.shape[2])
        x = torch.cat([whole, *layers], dim=1)
        for number in (1, 2, 3):
            x = F.relu(getattr(self, f"bns{number}")(getattr(self, f"convs{number}")(x)))
        return self.convs4(x).mT


class Yanx27Parts(nn.Module):
    """`pointnet2_part_seg_ssg` and `pointnet2_part_seg_msg`."""

    def __init__(self, multi, parts, values=3):
        super().__init__()
        first = 3 + values  # positions come twice
        near = [(first, 32, 32, 64), (first, 64, 64, 128), (first, 64, 96, 128)]
        far = [(323, 128, 128, 256), (323, 128, 196, 256)]
        if not multi:
            near, far = [(first, 64, 64, 128)], [(131, 128, 128, 256)]
        self.multi, (width1, width2) = multi, (sum(w[-1] for w in mlps) for mlps in (near, far))
        self.sa1, self.sa2 = self.stage(near), self.stage(far)
        self.sa3 = self.stage([(3 + width2, 256, 512, 1024)], False)
        own = CATEGORIES + 3 + values
        last = (128, 128) if multi else (128, 128, 128)
        self.fp3 = self.step(1024 + width2, 256, 256)
        self.fp2 = self.step(256 + width1, 256, 128)
        self.fp1 = self.step(128 + own, *last)
        self.conv1, self.bn1 = nn.Conv1d(128, 128, 1), nn.BatchNorm1d(128)
        self.conv2 = nn.Conv1d(128, parts, 1)

    def stage(self, mlps, many=True):
        stage = nn.Module()
        convs = [nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(w)) for w in mlps]
        norms = [nn.ModuleList(nn.BatchNorm2d(b) for b in w[1:]) for w in mlps]
        if self.multi and many:
            stage.conv_blocks, stage.bn_blocks = nn.ModuleList(convs), nn.ModuleList(norms)
        else:
            stage.mlp_convs, stage.mlp_bns = convs[0], norms[0]
        return stage

    def step(self, *widths):
        step = nn.Module()
        step.mlp_convs = nn.ModuleList(nn.Conv1d(a, b, 1) for a, b in pairwise(widths))
        step.mlp_bns = nn.ModuleList(nn.BatchNorm1d(b) for b in widths[1:])
        return step

    def forward(self, points, labels):
        """points [B, N, 3 or 6], categories [B] → scores of all parts [B, N, P]."""
        near = (0.1, 32), (0.2, 64), (0.4, 128)
        far = (0.4, 64), (0.8, 128)
        near, far = (near, far) if self.multi else (((0.2, 32),), ((0.4, 64),))
        levels = [(points[..., :3], points)]
        for stage, count, scales in ((self.sa1, 512, near), (self.sa2, 128, far)):
            levels.append(self.abstract(stage, count, scales, *levels[-1]))
        (places, _), (near_places, near_rows), (far_places, far_rows) = levels
        rest = torch.cat(levels[2], dim=2)[:, None]
        layers = self.sa3.mlp_convs, self.sa3.mlp_bns
        whole = Yanx27.run(self, layers, rest).amax(dim=-1).mT
        x = self.propagate(self.fp3, far_places, None, far_rows, whole)
        x = self.propagate(self.fp2, near_places, far_places, near_rows, x)
        one_hot = F.one_hot(labels, CATEGORIES).to(x)[:, None].expand(-1, points.shape[1], -1)
        own = torch.cat([one_hot, places, points], dim=2)
        x = self.propagate(self.fp1, places, near_places, own, x)
        return self.conv2(F.relu(self.bn1(self.conv1(x.mT)))).mT

    def abstract(self, stage, count, scales, points, features):
        centers = textbooks.take(points, textbooks.farthest(points, count))
        found = []
        for (radius, neighbors), layers in zip(scales, Yanx27.layers(self, stage), strict=True):
            index = textbooks.balls(points, centers, radius, neighbors)
            parts = textbooks.take(points, index) - centers[:, :, None]
            parts = [parts, textbooks.take(features, index)]
            group = torch.cat(parts[::-1] if self.multi else parts, dim=-1)
            found.append(Yanx27.run(self, layers, group).amax(dim=-1).mT)
        return centers, torch.cat(found, dim=-1)

    def propagate(self, step, places, points, own, features):
        """Own features first, then those of the three nearest points, weighted by 1 / d²."""
        if points is None:
            x = features.expand(-1, places.shape[1], -1)
        else:
            distance = ((places[:, :, None] - points[:, None]) ** 2).sum(-1)
            near, index = distance.topk(3, largest=False)
            weight = 1 / (near + 1e-8)
            weight = weight / weight.sum(-1, keepdim=True)
            x = (textbooks.take(features, index) * weight[..., None]).sum(2)
        x = torch.cat([own, x], dim=2).mT
        for conv, norm in zip(step.mlp_convs, step.mlp_bns, strict=True):
            x = F.relu(norm(conv(x)))
        return x.mT
