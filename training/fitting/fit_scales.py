"""Brings every view to its scale, by images that nothing was fitted on: 0 is the median, 1 lies where few come.

A view reaches 1 at median + reach * (99% quantile - median). A larger reach makes a view less sensitive, and leaves the
others more of the permitted false positives. Which reaches are taken depends on the training images alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from training.fitting.scaling import median_and_reach
from training.model.scores import Redrawing
from training.model.views import Views

# Where the training images cover the normal ones, as those of drawn circles do, redrawing tells nearly all, and the
# plain views must not cost much. That of `unlike_normal_structure` grows besides, see below.
OF_COVERED = {
    "redrawn_badly": 1.1,
    "unlike_normal_structure": 1.0,
    "faint_or_empty": 1.35,
    "unlike_normal_outlines": 1.1,
    "unlike_normal_levels": 5.0,
    "unlike_any_normal_image": 1.5,
    "another_kind_of_picture": 1.3,
    "on_other_paper": 3.0,
    "in_another_place": 1.2,
}
# Elsewhere images vary in more ways than the network and its errors can learn, and outlines tell more.
OF_VARIED = {
    **OF_COVERED,
    "unlike_normal_structure": 1.65,
    "unlike_normal_outlines": 0.85,
    "unlike_normal_levels": 1.7,
    "unlike_any_normal_image": 1.7,
    "another_kind_of_picture": 1.6,
}
# Several views that are a little high say much there, and little where one view sees all.
FROM_BELOW_OF_VARIED = 1.0
# The fewer images there are for each dimension of the structure view, the less it is trusted.
IMAGES_PER_DIMENSION = 10
# `faint_or_empty` is meant for images fainter than any normal one: contrast is not fitted, so that all training images
# can scale it; a few held-out ones say little of the faintest.
_FAINT = "faint_or_empty"
# Where nearly all borders have one level, to the last bit, a few that do not must not count as other paper: a share of
# the light that nobody sees.
_LEAST_SPREAD = {"on_other_paper": 0.01}
_CHUNK = 4096


def fit_scales(
    views: Views, held_out: Redrawing, faintness: Tensor, rows: Sequence[Sequence[int]], fitted_on: int, covered: bool
) -> None:
    """Sets the scales: of each class those of that variant which reaches highest.

    Args:
        views: All else is fitted.
        held_out: Of images that the network did not see, variant after variant.
        faintness: (variants, n) of all training images.
        rows: The variants of each class.
        fitted_on: How many images the rest was fitted on.
        covered: See `training.fitting.coverage`.
    """
    chunks = zip(*(torch.split(tensor, _CHUNK) for tensor in held_out), strict=True)
    values = torch.cat([views.unscaled(Redrawing(*chunk)) for chunk in chunks])
    values = values.reshape(len(faintness), -1, len(rows), len(views.views))  # (variants, m, classes, views)
    reaches = dict(OF_COVERED if covered else OF_VARIED)
    reaches["unlike_normal_structure"] *= 1 + IMAGES_PER_DIMENSION * views.features.size / fitted_on
    for number, mine in enumerate(rows):
        for place, view in enumerate(views.views):
            if view.name == _FAINT:
                scales = [median_and_reach(faintness[row], 0.999) for row in mine]
            else:
                scales = [median_and_reach(values[row, :, number, place]) for row in mine]
            typical, spread = max(scales, key=lambda scale: float(scale[0] + scale[1]))
            spread = spread.clamp_min(_LEAST_SPREAD.get(view.name, 0.0))
            views.typical[number, place], views.spread[number, place] = typical, reaches[view.name] * spread
    views.from_below.fill_(0.0 if covered else FROM_BELOW_OF_VARIED)
