"""The terms of mvnet's loss, from predictions, targets and matches.

Letters: B shapes, V views, h × w pixels of a map, r × c tokens of a view.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pointcmt.training.config.mvnet import Transfer, ViewMatching
from pointcmt.training.networks.view_consistency import cover, look_up, sample_keys
from pointcmt.training.ops.losses import (
    coordinate_distance,
    info_nce,
    masked_mean,
    transfer_distance,
)
from pointcmt.training.ops.matches import Matches

# Share of the image: roughly the error of predicting one constant position per view. L_m is
# relative to it, so that it begins at about 1, as L_k does.
GUESS = 0.1
TINY = 1e-6  # share of a patch: with a required coverage of 0, it still must show one pixel


class Term(NamedTuple):
    """A part of the loss, a scalar. defined, bool: whether the batch has anything to measure.

    Otherwise the value is 0 and is not logged, since a logged 0 would look like a perfect score.
    """

    value: Tensor
    defined: Tensor


def logged(terms: dict[str, Term]) -> dict[str, Tensor]:
    """Return the values by name; NaN, which means "leave out", for those that are not defined."""
    return {name: torch.where(term.defined, term.value, torch.nan) for name, term in terms.items()}


def transfer_term(
    predicted: list[Tensor], target: list[Tensor], covered: Tensor, config: Transfer
) -> Term:
    """Return L_k, the mean distance over levels and views.

    predicted, target: for each level [B·V,D,h_l,w_l]. covered [B·V,h,w]: pixels that show a point.
    """
    distances, defined = [], []
    for level, level_target in zip(predicted, target, strict=True):
        counts = cover(covered, level_target.shape[-2:]) >= max(config.coverage, TINY)
        distances.append(transfer_distance(level, level_target, counts, config.distance))
        defined.append(counts.any())
    return Term(torch.stack(distances).mean(), torch.stack(defined).any())


def coordinate_term(predicted: Tensor, matches: Matches) -> Term:
    """Return L_m, the mean over the views that have a match, relative to a guess.

    predicted [B·V,r,c,2]: shares of the image.
    """
    distance = coordinate_distance(predicted, matches.there, matches.valid)
    paired = matches.valid.flatten(1).any(dim=1)
    return Term(masked_mean(distance[None], paired[None])[0] / GUESS, paired.any())


def contrastive_term(
    keys: Tensor,
    matches: Matches,
    covered: Tensor,
    config: ViewMatching,
    generator: torch.Generator | None,
) -> Term:
    """Return InfoNCE over some of the matches whose pixels show a point in both views.

    keys [B·V,W,h,w]. Only matches from first to second views count. With those of the way back, the
    negatives would include keys of a pixel's own view, and so its neighbors'.
    """
    second_uv = matches.there[::2]
    first_uv = matches.here.expand_as(second_uv)
    first_uv, second_uv = first_uv.flatten(1, 2), second_uv.flatten(1, 2)
    shows = look_up(covered[::2], first_uv) & look_up(covered[1::2], second_uv)
    first, second = sample_keys(keys[::2], first_uv), sample_keys(keys[1::2], second_uv)
    valid = (matches.valid[::2].flatten(1) & shows).flatten()
    chosen = choose_items(valid.nonzero()[:, 0], config.matches, generator)
    first, second = first.flatten(0, 1)[chosen], second.flatten(0, 1)[chosen]
    loss = info_nce(first, second, config.temperature)
    # a single match has no negatives
    return Term(loss, torch.tensor(len(chosen) > 1, device=loss.device))


def drop_holes(matches: Matches, covered: Tensor) -> Matches:
    """Return the matches without tokens that show no point; covered [B·V,h,w]: pixels that do.

    A token that is a hole as a whole, such as where points are masked, carries no information:
    guessing its position from its surroundings would be another task.
    """
    shows = cover(covered, matches.valid.shape[-2:]) > 0
    return matches._replace(valid=matches.valid & shows, foreground=matches.foreground & shows)


def choose_items(items: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Return at most `count` of the items [M]: at random, or evenly spaced without a generator."""
    if len(items) <= count:
        return items
    if generator is None:
        return items[torch.arange(count, device=items.device) * len(items) // count]
    return items[torch.randperm(len(items), generator=generator)[:count].to(items.device)]
