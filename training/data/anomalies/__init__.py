"""Families of drawn anomalies, used to evaluate a gate. Nothing is fitted on them.

Each family is a function from a random generator to a 100x100 grayscale image. For comparison: the normal circles have
a centre near (52.5, 49.5), a radius of 2.3 to 36.4 and a line width of 1.39, all in pixels.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from training.data.anomalies import circles, shapes, textures
from training.data.anomalies.pen import Family

__all__ = ["ANYWHERE", "FAMILIES", "FINAL", "TUNING", "Family"]

_ALL: Sequence[tuple[str, Family]] = (
    ("white", textures.constant(255, 255)),
    ("black", textures.constant(0, 0)),
    ("grey", textures.constant(30, 225)),
    ("near white", textures.constant(245, 254)),
    ("nearly blank", textures.nearly_blank),
    ("faint circle 50%", circles.circle_of(ink=128)),
    ("faint circle 20%", circles.circle_of(ink=204)),
    ("faint circle 70%", circles.circle_of(ink=77)),
    ("grey paper circle", circles.circle_of(paper=200)),
    ("inverted circle", circles.inverted_circle),
    ("thick circle", circles.circle_of(width=4.5)),
    ("bold circle", circles.circle_of(width=2.5)),
    ("hairline circle", circles.circle_of(width=0.6)),
    ("off-centre circle near", circles.shifted(4, 7)),
    ("off-centre circle far", circles.shifted(8, 22)),
    ("too large circle", circles.too_large_circle),
    ("one dot", shapes.one_dot),
    ("ellipse .95", circles.ellipse(0.95)),
    ("ellipse .9", circles.ellipse(0.9)),
    ("ellipse .8", circles.ellipse(0.8)),
    ("ellipse .6", circles.ellipse(0.6)),
    ("ellipse .4", circles.ellipse(0.4)),
    ("squashed 4:3", circles.squashed_four_to_three),
    ("arc 350", circles.gap(350)),
    ("arc 320", circles.gap(320)),
    ("arc 270", circles.gap(270)),
    ("arc 180", circles.gap(180)),
    ("triangle", shapes.corners(3)),
    ("square", shapes.corners(4)),
    ("upright square", shapes.upright_square),
    ("pentagon", shapes.corners(5)),
    ("hexagon", shapes.corners(6)),
    ("octagon", shapes.corners(8)),
    ("rounded square", shapes.rounded_square),
    ("rectangle", shapes.rectangle),
    ("dashed circle 6", circles.dashed(6)),
    ("dashed circle 16", circles.dashed(16)),
    ("wavy circle 5%", circles.wavy(0.05)),
    ("wavy circle 15%", circles.wavy(0.15)),
    ("filled circle", circles.filled_circle),
    ("filled square", shapes.filled_square),
    ("half-filled circle", circles.half_filled_circle),
    ("crescent", shapes.crescent),
    ("concentric circles", circles.concentric_circles),
    ("two circles", circles.two_circles),
    ("overlapping circles", circles.overlapping_circles),
    ("circle with stroke", circles.circle_with_stroke),
    ("circle with dot", circles.circle_with_dot),
    ("circle with cross", circles.circle_with_cross),
    ("framed circle", circles.framed_circle),
    ("occluded circle", circles.occluded_circle),
    ("occluded grey circle", circles.occluded_grey_circle),
    ("cut circle", circles.cut_circle),
    ("fading circle", circles.fading_circle),
    ("blurred circle", circles.blurred_circle),
    ("noisy circle", textures.noisy_circle),
    ("salt-and-pepper circle", textures.salt_and_pepper_circle),
    ("shaded circle", textures.shaded_circle),
    ("plus", shapes.plus_sign),
    ("diagonal cross", shapes.diagonal_cross),
    ("one line", shapes.one_line),
    ("random lines", shapes.random_lines),
    ("parallel lines", shapes.parallel_lines),
    ("scribble", shapes.scribble),
    ("star 5", shapes.five_pointed_star),
    ("star 8", shapes.eight_pointed_star),
    ("spiral", shapes.spiral),
    ("heart", shapes.heart),
    ("smiley", shapes.smiley),
    ("flower", shapes.flower),
    ("duck", shapes.duck),
    ("duck outline", shapes.duck_outline),
    ("digits", shapes.written("0123456789")),
    ("letters", shapes.written("ABCDEFGHKLMNPRSTUVWXYZ")),
    ("symbols", shapes.written("@#&%?!$+=<>")),
    ("noise", textures.noise(60)),
    ("faint noise", textures.faint_noise_on_white),
    ("coarse noise", textures.coarse_noise),
    ("salt and pepper", textures.salt_and_pepper),
    ("linear gradient", textures.linear_gradient),
    ("radial gradient", textures.radial_gradient),
    ("checkerboard", textures.checkerboard),
    ("stripes", textures.stripes),
    ("clouds", textures.texture),
    ("half-tone", textures.half_tone),
    ("blobs", textures.blobs),
)

FAMILIES: Mapping[str, Family] = MappingProxyType(dict(_ALL))

# Families that say something about any gate. The others are circles gone wrong, which only a gate for circles is asked
# to tell from circles.
_CIRCLES_GONE_WRONG = ("circle", "ellipse", "arc ", "squashed")
ANYWHERE = frozenset(name for name in FAMILIES if not any(word in name for word in _CIRCLES_GONE_WRONG))

# TUNING families were used to choose the method; FINAL families were looked at only afterwards. The split takes every
# second name, so that both halves have easy and difficult families. Adding or renaming a family changes the split.
FINAL = frozenset(sorted(FAMILIES)[1::2])
TUNING = frozenset(FAMILIES) - FINAL
