"""Point operations as usually written in PyTorch for PointNet++ and DGCNN, a baseline for ours.

They use a Python loop over the samples, the whole distance matrix as |a|² - 2ab + |b|², sorting,
topk and fancy indexing. Float32 on a CPU.
"""

import torch
from torch import Tensor


def textbook_farthest_points(points: Tensor, count: int) -> Tensor:
    clouds, total, _ = points.shape
    index = torch.zeros(clouds, count, dtype=torch.long)
    distance = torch.full((clouds, total), 1e10)
    farthest = torch.zeros(clouds, dtype=torch.long)
    rows = torch.arange(clouds)
    for step in range(count):
        index[:, step] = farthest
        center = points[rows, farthest].view(clouds, 1, 3)
        new = ((points - center) ** 2).sum(-1)
        nearer = new < distance
        distance[nearer] = new[nearer]
        farthest = distance.max(-1)[1]
    return index


def textbook_ball_query(points: Tensor, centers: Tensor, radius: float, count: int) -> Tensor:
    clouds, total, _ = points.shape
    index = torch.arange(total).view(1, 1, total).repeat(clouds, centers.shape[1], 1)
    index[textbook_distances(centers, points) > radius**2] = total
    index = index.sort(dim=-1)[0][:, :, :count]
    first = index[:, :, :1].repeat(1, 1, count)
    empty = index == total
    index[empty] = first[empty]
    return index


def textbook_k_nearest(points: Tensor, queries: Tensor, k: int) -> Tensor:
    return (-textbook_distances(queries, points)).topk(k, dim=-1)[1]


def textbook_three_nearest(points: Tensor, queries: Tensor) -> Tensor:
    distance, index = textbook_distances(queries, points).sort(dim=-1)
    inverse = 1 / (distance[:, :, :3] + 1e-8)
    _ = inverse / inverse.sum(dim=2, keepdim=True)
    return index[:, :, :3]


def textbook_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances [B,M,N] of a [B,M,D] and b [B,N,D]."""
    product = -2 * a @ b.transpose(1, 2)
    return product + (a**2).sum(-1)[:, :, None] + (b**2).sum(-1)[:, None, :]


def textbook_gather(features: Tensor, index: Tensor) -> Tensor:
    """Gather rows of each cloud: features [B,N,D], index [B,...] → [B,...,D]."""
    clouds = torch.arange(len(index)).view(-1, *[1] * (index.dim() - 1)).expand_as(index)
    return features[clouds, index]
