"""Point networks as in their papers and usual implementations: plain, slow, independent.

Images [B, D, K, M] and 1×1 Conv2d layers; sampling and neighbors in loops over the clouds. Tests
compare ours with them; nothing here uses pointcmt.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn


class ConvNorm(nn.Module):
    """Conv, batch norm, activation, named as in etw_pytorch_utils."""

    def __init__(self, before, after, norm="normlayer"):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 1, bias=False)
        self.norm = norm
        self.add_module(norm, nn.Sequential())
        getattr(self, norm).add_module("bn", nn.BatchNorm2d(after))

    def forward(self, x):
        return F.relu(getattr(self, self.norm)(self.conv(x)))


class Abstraction(nn.Module):
    def __init__(self, count, radii, neighbors, mlps, norm="normlayer"):
        super().__init__()
        self.count, self.radii, self.neighbors = count, radii, neighbors
        self.mlps = nn.ModuleList()
        for widths in mlps:
            mlp = nn.Sequential()
            for i in range(len(widths) - 1):
                mlp.add_module(f"layer{i}", ConvNorm(widths[i], widths[i + 1], norm))
            self.mlps.append(mlp)

    def forward(self, points, features):
        if self.count is None:
            grouped = torch.cat([points, features], dim=-1)[:, None]
            return None, self.mlps[0](grouped.permute(0, 3, 1, 2)).amax(dim=-1).mT
        centers = take(points, farthest(points, self.count))
        found = []
        for radius, neighbors, mlp in zip(self.radii, self.neighbors, self.mlps, strict=True):
            index = balls(points, centers, radius, neighbors)
            grouped = take(points, index) - centers[:, :, None]  # [B, M, K, 3]
            if features is not None:
                grouped = torch.cat([grouped, take(features, index)], dim=-1)
            found.append(mlp(grouped.permute(0, 3, 1, 2)).max(dim=-1).values.mT)
        return centers, torch.cat(found, dim=-1)


class PointNet2(nn.Module):
    """PointNet++, named as in PointCMT's reference code."""

    def __init__(self, classes, near, far, norm="normlayer", fc_norm="bn"):
        super().__init__()
        last = sum(widths[-1] for widths in far[2])
        self.SA_modules = nn.ModuleList(
            [
                Abstraction(512, *near, norm),
                Abstraction(128, *far, norm),
                Abstraction(None, None, None, [(3 + last, 256, 512, 1024)], norm),
            ]
        )
        layer = nn.Sequential()
        layer.add_module("fc", nn.Linear(1024, 512, bias=False))
        layer.add_module(fc_norm, nn.Sequential())
        getattr(layer, fc_norm).add_module("bn", nn.BatchNorm1d(512))
        self.fc_layer1 = nn.Sequential(layer)
        self.fc_layer2 = nn.Sequential(nn.Linear(512, classes))

    def forward(self, points):
        features = None
        for module in self.SA_modules:
            points, features = module(points, features)
        feature = F.relu(self.fc_layer1(features[:, 0]))
        return self.fc_layer2(feature), feature


def ssg(classes, **names):
    near = [0.2], [32], [(3, 64, 64, 128)]
    return PointNet2(classes, near, ([0.4], [64], [(131, 128, 128, 256)]), **names)


def msg(classes, **names):
    near = [(3, 32, 32, 64), (3, 64, 64, 128), (3, 64, 96, 128)]
    far = [(323, 64, 64, 128), (323, 128, 128, 256), (323, 128, 128, 256)]
    return PointNet2(
        classes,
        ([0.1, 0.2, 0.4], [16, 32, 128], near),
        ([0.2, 0.4, 0.8], [32, 64, 128], far),
        **names,
    )


class Conv(nn.Module):
    """Convolution and batch norm of any [B, D, M, K]."""

    def __init__(self, before, after):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after)

    def forward(self, x):
        return self.norm(self.conv(x))


class DGCNN(nn.Module):
    def __init__(self, classes):
        super().__init__()
        widths = [(3, 64), (64, 64), (64, 128), (128, 256)]
        self.edges = nn.ModuleList(Conv(2 * a, b) for a, b in widths)
        self.embed, self.embed_norm = nn.Conv1d(512, 1024, 1, bias=False), nn.BatchNorm1d(1024)
        self.linear, self.norm = nn.Linear(2048, 512, bias=False), nn.BatchNorm1d(512)
        self.classifier = nn.Linear(512, classes)

    def forward(self, points):
        x, layers = points, []  # [B, N, D]
        for conv in self.edges:
            distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
            there = take(x, distance.topk(20, largest=False).indices)  # [B, N, 20, D]
            here = x[:, :, None].expand_as(there)
            edges = torch.cat([there - here, here], dim=-1).permute(0, 3, 1, 2)
            x = F.leaky_relu(conv(edges), 0.2).max(dim=-1).values.mT
            layers.append(x)
        x = self.embed_norm(self.embed(torch.cat(layers, dim=-1).mT))
        x = F.leaky_relu(x, 0.2)  # [B, 1024, N]
        pooled = torch.cat([x.max(dim=-1).values, x.mean(dim=-1)], dim=1)
        feature = F.relu(self.norm(self.linear(pooled)))
        return self.classifier(feature), feature


class PointMLP(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.embed = Conv(3, 64)
        self.stages = nn.ModuleList()
        for width in (64, 128, 256, 512):
            stage = nn.Module()
            stage.alpha = nn.Parameter(torch.ones(width))
            stage.beta = nn.Parameter(torch.zeros(width))
            stage.transfer = Conv(2 * width, 2 * width)
            for part in ("neighbors", "centers"):
                blocks = [nn.ModuleList([Conv(2 * width, 2 * width) for _ in "12"]) for _ in "12"]
                stage.add_module(part, nn.ModuleList(blocks))
            self.stages.append(stage)
        self.linear, self.norm = nn.Linear(1024, 512, bias=False), nn.BatchNorm1d(512)
        self.classifier = nn.Linear(512, classes)

    def forward(self, points):
        x = F.relu(self.embed(points.mT[..., None]))[..., 0].mT  # [B, N, 64]
        for stage in self.stages:
            chosen = farthest(points, points.shape[1] // 2)
            centers, anchors = take(points, chosen), take(x, chosen)
            index = torch.cdist(centers, points).topk(24, largest=False).indices
            group = take(x, index) - anchors[:, :, None]
            for b in range(len(group)):  # one sigma for each cloud
                group = torch.cat(
                    [group[:b], (group[b] / (group[b].std() + 1e-5))[None], group[b + 1 :]]
                )
            group = stage.alpha * group + stage.beta
            group = torch.cat([group, anchors[:, :, None].expand_as(group)], dim=-1)
            y = F.relu(stage.transfer(group.permute(0, 3, 1, 2)))
            for one, two in stage.neighbors:
                y = F.relu(two(F.relu(one(y))) + y)
            y = y.max(dim=-1, keepdim=True).values
            for one, two in stage.centers:
                y = F.relu(two(F.relu(one(y))) + y)
            points, x = centers, y[..., 0].mT
        feature = F.relu(self.norm(self.linear(x.max(dim=1).values)))
        return self.classifier(feature), feature


class PointNeXtS(nn.Module):
    def __init__(self, classes, width=32):
        super().__init__()
        self.stem, last = nn.Conv1d(3, width, 1), 16 * width
        self.stages = nn.ModuleList(
            nn.ModuleList([Conv(3 + w, w), Conv(w, 2 * w), nn.Conv1d(w, 2 * w, 1)])
            for w in (width, 2 * width, 4 * width, 8 * width)
        )
        self.all = nn.ModuleList([Conv(3 + last, last), Conv(last, last)])
        self.linear, self.norm = nn.Linear(last, 512, bias=False), nn.BatchNorm1d(512)
        self.classifier = nn.Linear(512, classes)

    def forward(self, points):
        x, radius = self.stem(points.mT).mT, 0.15
        for first, second, skip in self.stages:
            chosen = farthest(points, points.shape[1] // 2)
            centers = take(points, chosen)
            index = balls(points, centers, radius, 32)
            offsets = (take(points, index) - centers[:, :, None]) / radius
            group = torch.cat([offsets, take(x, index)], dim=-1).permute(0, 3, 1, 2)
            highest = second(F.relu(first(group))).max(dim=-1).values
            x = F.relu(highest + skip(take(x, chosen).mT)).mT
            points, radius = centers, radius * 1.5
        rest = torch.cat([points, x], dim=-1).mT[..., None]
        rest = F.relu(self.all[1](F.relu(self.all[0](rest))))[..., 0].max(dim=-1).values
        feature = F.relu(self.norm(self.linear(rest)))
        return self.classifier(feature), feature


class Propagation(nn.Module):
    """Feature propagation as in the usual PyTorch version: interpolate, concatenate, 1×1 layers."""

    def __init__(self, *widths):
        super().__init__()
        self.layers = nn.ModuleList(Conv(*pair) for pair in pairwise(widths))

    def forward(self, points, features, places, own):
        """Features of points [B, M, D], and of the target points [B, N, D'] → [B, N, D"]."""
        if points is None:
            x = features.expand(-1, places.shape[1], -1)
        else:
            distance = ((places[:, :, None] - points[:, None]) ** 2).sum(-1)  # [B, N, M]
            near, index = distance.topk(3, largest=False)
            weight = 1 / (near + 1e-8)
            weight = weight / weight.sum(-1, keepdim=True)
            x = (take(features, index) * weight[..., None]).sum(2)
        x = torch.cat([x, own], dim=-1).mT[..., None]
        for layer in self.layers:
            x = F.relu(layer(x))
        return x[..., 0].mT


class DensePointNet2(nn.Module):
    """PointNet++ SSG for part segmentation: the classifier and three propagations."""

    def __init__(self, classes):
        super().__init__()
        self.network = ssg(classes)
        widths = (1024 + 256, 256, 256), (256 + 128, 256, 128), (128 + 3, 128, 128, 128)
        self.decoder = nn.ModuleList(Propagation(*each) for each in widths)

    def forward(self, points):
        near_module, far_module, all_module = self.network.SA_modules
        near, near_features = near_module(points, None)
        far, far_features = far_module(near, near_features)
        whole = all_module(far, far_features)[1]  # [B, 1, 1024]
        x = self.decoder[0](None, whole, far, far_features)
        x = self.decoder[1](far, x, near, near_features)
        feature = F.relu(self.network.fc_layer1(whole[:, 0]))
        return self.network.fc_layer2(feature), feature, self.decoder[2](near, x, points, points)


class PointViT(nn.Module):
    """Point-MAE's network for classification and for points: tokens after each third."""

    def __init__(self, classes, width, depth):
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.class_place = nn.Parameter(torch.zeros(1, 1, width))
        self.first = nn.ModuleList([Conv(3, 128), nn.Conv2d(128, 256, 1, bias=False)])
        self.second = nn.ModuleList([Conv(512, 512), nn.Conv2d(512, width, 1)])
        self.place = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            block = nn.Module()
            block.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
            block.qkv = nn.Linear(width, 3 * width, bias=False)
            block.project = nn.Linear(width, width)
            hidden = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            block.mlp = nn.ModuleList(hidden)
            self.blocks.append(block)
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(2 * width, 512, bias=False)
        self.linear_norm = nn.BatchNorm1d(512)
        self.classifier = nn.Linear(512, classes)
        self.decoder = Propagation(3 * width + 3, 512, 256)

    def forward(self, points):
        centers = take(points, farthest(points, points.shape[1] // 16))
        index = torch.cdist(centers, points).topk(32, largest=False).indices
        patches = (take(points, index) - centers[:, :, None]).permute(0, 3, 1, 2)  # [B, 3, G, K]
        x = self.first[1](F.relu(self.first[0](patches)))
        x = torch.cat([x.max(dim=-1, keepdim=True).values.expand_as(x), x], dim=1)
        x = self.second[1](F.relu(self.second[0](x))).max(dim=-1).values.mT  # [B, G, D]
        B, D = len(x), x.shape[-1]
        x = torch.cat([self.class_token.expand(B, 1, D), x], dim=1)
        places = torch.cat([self.class_place.expand(B, 1, D), self.place(centers)], dim=1)
        levels = []
        for block in self.blocks:
            x = x + places
            y = block.qkv(block.norms[0](x)).unflatten(-1, (3, D // 64, 64)).transpose(1, 3)
            q, k, v = y.unbind(2)  # [B, heads, T, 64]
            mixed = ((q * 64**-0.5) @ k.mT).softmax(dim=-1) @ v
            x = x + block.project(mixed.transpose(1, 2).flatten(2))
            x = x + block.mlp[1](F.gelu(block.mlp[0](block.norms[1](x))))
            levels.append(self.norm(x))
        third = len(levels) // 3
        tokens = torch.cat(levels[third - 1 :: third], dim=-1)[:, 1:]
        pooled = torch.cat([levels[-1][:, 0], levels[-1][:, 1:].amax(dim=1)], dim=-1)
        feature = F.relu(self.linear_norm(self.linear(pooled)))
        local = self.decoder(centers, tokens, points, points)
        return self.classifier(feature), feature, local


def take(rows, index):
    """rows [B, N, D], index [B, ...] → [B, ..., D]."""
    return torch.stack([cloud[where] for cloud, where in zip(rows, index, strict=True)])


def farthest(points, count):
    index = torch.zeros(len(points), count, dtype=torch.long)
    for cloud, row in zip(points, index, strict=True):
        distance = ((cloud - cloud[0]) ** 2).sum(-1)
        for i in range(1, count):
            row[i] = distance.argmax()
            distance = torch.minimum(distance, ((cloud - cloud[row[i]]) ** 2).sum(-1))
    return index


def balls(points, centers, radius, count):
    """The first `count` points inside; if there are fewer, the first one is repeated."""
    distance = ((centers[:, :, None] - points[:, None]) ** 2).sum(-1)  # [B, M, N]
    inside = distance <= radius**2
    number = torch.where(inside, torch.arange(points.shape[1]), points.shape[1])
    number = number.sort(dim=-1).values[:, :, :count]
    return torch.where(number < points.shape[1], number, number[:, :, :1])


def disturb(model):
    """Set norms, biases and statistics as after training, in place."""
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.1, 0.3)  # small, so that the logits depend on the cloud
        elif value.dim() == 1 and value.is_floating_point():  # norms, biases, running means
            value.add_(torch.randn_like(value) * 0.1)
        elif name.endswith("matrix.weight"):  # PointNet's transforms begin at 0
            nn.init.normal_(value, std=0.02)
