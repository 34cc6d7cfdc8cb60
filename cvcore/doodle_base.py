"""The bundled pretrained base: a small convnet that has learned to tell other drawn animals and things apart.

`tools/train_doodle_base.py` made its weights; `tools/doodle_things.py` lists what it was trained on.
"""

from __future__ import annotations

import keras
from keras import layers

# Filters of each block's convolutions; a block ends in a max-pooling. The very first convolution has a stride of 2.
BLOCKS = ((24,), (32, 48), (64, 96), (128, 128))


def doodle_base(input_shape: tuple[int, int, int] = (96, 96, 3)) -> keras.Model:
    """Build the convolutional base with fresh weights: seven 3x3 convolutions in four blocks, no classifier.

    Layers are named `block1_conv1` to `block4_conv2`, `block1_pool` to `block3_pool`; after `block4_conv2` there is
    no pooling. For 96x96 pictures the output is (batch, 6, 6, 128), float32, at least 0.

    Args:
        input_shape: (height, width, channels), pixels already scaled to 0..1. Default (96, 96, 3).

    Returns:
        A `keras.Model` named "doodle_base".
    """
    pixels = keras.Input(input_shape, name="pixels")
    x = pixels
    for block, filters in enumerate(BLOCKS, start=1):
        for place, count in enumerate(filters, start=1):
            name = f"block{block}_conv{place}"
            strides = 2 if name == "block1_conv1" else 1
            x = layers.Conv2D(count, 3, strides, padding="same", activation="relu", name=name)(x)
        if block < len(BLOCKS):
            x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return keras.Model(pixels, x, name="doodle_base")
