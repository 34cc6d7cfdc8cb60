"""A policy written as Keras code that a student can paste into a notebook."""

import math

from cvcore.augmentation import AugmentationPolicy


def keras_code(policy: AugmentationPolicy) -> str:
    """Write the nearest stack of Keras' own layers, and say in comments where it differs from the policy.

    The layers come in the policy's own order. Differences that remain: each layer interpolates and fills anew while the
    policy warps once, RandomShear is anchored at the corner, RandomContrast turns about each picture's mean colour.
    """
    fill = f'fill_mode="{policy.fill_mode}"'
    if policy.fill_mode == "constant":
        fill += f", fill_value={policy.fill_value:g}"
    lines = []
    if policy.rotation:
        turn = f"{policy.rotation / 360:.6g}"
        lines.append(f"layers.RandomRotation({turn}, {fill}),  # fraction of a turn: {policy.rotation:g} degrees")
    if policy.width_shift or policy.height_shift:
        factors = f"height_factor={policy.height_shift:g}, width_factor={policy.width_shift:g}"
        lines.append(f"layers.RandomTranslation({factors}, {fill}),")
    if policy.shear:
        factor = f"{math.sin(math.radians(policy.shear)):.6g}"
        lines.append(f"# {policy.shear:g} degrees; Keras shears from the top left corner, this policy about the centre")
        lines.append(f"layers.RandomShear(x_factor={factor}, {fill}),")
    if policy.zoom:
        factors = f"height_factor={policy.zoom:g}"
        if policy.zoom_per_axis:
            factors += f", width_factor={policy.zoom:g}"
        note = "one factor for each axis" if policy.zoom_per_axis else "one factor for both axes"
        lines.append(f"layers.RandomZoom({factors}, {fill}),  # {note}")
    if policy.horizontal_flip or policy.vertical_flip:
        both = policy.horizontal_flip and policy.vertical_flip
        mode = "horizontal_and_vertical" if both else "horizontal" if policy.horizontal_flip else "vertical"
        lines.append(f'layers.RandomFlip("{mode}"),')
    if policy.contrast:
        lines.append("# Keras turns contrast about the mean colour of the picture, this policy about mid grey")
        lines.append(f"layers.RandomContrast({policy.contrast:g}, value_range=(0, 255)),")
    if policy.brightness:
        lines.append(f"layers.RandomBrightness({policy.brightness:g}, value_range=(0, 255)),")
    if not lines:
        return "# No augmentation: every picture reaches the model as it is.\n"
    head = ["import keras", "from keras import layers", ""]
    head.append("# Put it first in the model, before rescaling: pixels are 0..255. It acts only in training.")
    if sum(map(bool, (policy.rotation, policy.width_shift or policy.height_shift, policy.shear, policy.zoom))) > 1:
        head.append("# Each layer interpolates and fills the edges anew; the policy does both once, in one warp.")
    body = [f"        {line}" for line in lines]
    return "\n".join(
        [*head, "augmentation = keras.Sequential(", "    [", *body, "    ],", '    name="augmentation",', ")\n"]
    )
