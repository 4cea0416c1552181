"""The IoU of shapes that are segmented into parts (Yi et al. 2016; Qi et al. 2017).

The category of a shape is given, and only its parts can be predicted. The IoU of a shape is the
mean over its category's parts of |predicted ∩ true| / |predicted ∪ true|, counted in points; a part
that is neither in the labels nor predicted counts 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def shape_iou(predicted: Tensor, true: Tensor, counts: Tensor, most: int) -> Tensor:
    """Compute the IoU of each shape, as the module defines it: [B] f64.

    predicted, true: [B, N], part numbers within the category. counts: [B], the category's number
    of parts; most: the largest number of parts of any category.
    """
    mine, its = F.one_hot(predicted, most).bool(), F.one_hot(true, most).bool()  # [B, N, most]
    both, either = (mine & its).sum(dim=1).double(), (mine | its).sum(dim=1).double()
    iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)  # [B, most]
    own = torch.arange(most, device=counts.device) < counts[:, None]
    return (iou * own).sum(dim=1) / counts
