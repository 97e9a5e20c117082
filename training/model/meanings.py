"""What each view of `training.model.views` means, in words for people."""

from app.detection.artifact import View

VIEWS = (
    View(
        name="redrawn_badly",
        meaning="Squared errors and loss of structure between the slightly blurred image and its reconstruction.",
        odd="The network cannot redraw this image: the reconstruction differs more than for normal images.",
        normal="The network redraws this image as well as normal ones.",
    ),
    View(
        name="unlike_normal_structure",
        meaning="Distance of the pattern of errors from those of normal images with the same latent.",
        odd="What is redrawn wrongly forms a pattern that normal images do not show.",
        normal="What little is redrawn wrongly looks as it does for normal images.",
    ),
    View(
        name="faint_or_empty",
        meaning="How far the contrast lies below that of normal images.",
        odd="The image is fainter or emptier than normal images.",
        normal="The image has about as much contrast as normal images, or more.",
    ),
    View(
        name="unlike_normal_outlines",
        meaning="Distance of the directions of the edges from those of the nearest of a few typical normal images.",
        odd="The edges run in other directions, or lie in other places, than in any normal image.",
        normal="The edges run as in normal images.",
    ),
    View(
        name="unlike_normal_levels",
        meaning="How far the grey levels are, place by place, from those that normal images have there.",
        odd="There is dark or light in places where normal images have none.",
        normal="Dark and light lie where they lie in normal images.",
    ),
    View(
        name="unlike_any_normal_image",
        meaning="Distance of the slightly blurred picture from the nearest of a few typical normal images.",
        odd="Seen as a whole, no normal image looks like it.",
        normal="Seen as a whole, some normal images look much like it.",
    ),
    View(
        name="another_kind_of_picture",
        meaning="How far contrast, sharpness of edges and mean level, taken together, are from those of normal images.",
        odd="Contrast, edges and mean level do not go together as in normal images: it is another kind of picture.",
        normal="Contrast, edges and mean level go together as in normal images.",
    ),
    View(
        name="on_other_paper",
        meaning="How far the level of the border is from that of normal images, where those have an even border.",
        odd="The background is lighter or darker than that of normal images.",
        normal="The background is as light as that of normal images.",
    ),
    View(
        name="in_another_place",
        meaning="How far the drawing lies from where those of normal images lie, where those have an even border.",
        odd="What is drawn lies elsewhere on the paper than in normal images.",
        normal="What is drawn lies where it lies in normal images.",
    ),
)
