"""How long counted work takes: seconds of one pass forwards or backwards through layers, on the device calibrated on.

A layer takes the time of its operations and, beside that, the time to write its outputs, which is most of it where a
layer does little with each number, as a depthwise convolution does. The constants were fitted with positive factors to
32 measurements in CPU seconds (convnets, all bases, whole and above a cut, forwards and in training, 1 to 64 pictures
a batch), each beside a multiplication of matrices, on two cores of an AMD EPYC that multiply 240 GFLOP a second; they
meet 31 of them within 21 % and most within 10 %.
"""

from __future__ import annotations

from collections.abc import Sequence

from cvcore.layer_counts import Layer

CALIBRATED_ON = "two cores of an AMD EPYC"
FORWARD = 1 / 260e9  # seconds an operation
BACKWARD = 1 / 171e9  # of the two operations that the gradients take for each one forwards
OUTPUT = 0.275e-9  # to write a number
OUTPUT_BACKWARD = 0.68e-9  # and to make its gradient
DROPPED = 7.5e-9  # to draw whether a number is dropped
WEIGHT = 2.2e-9  # to change a weight by its gradient, in each step
LAYER = 42e-6  # to begin a layer, in each batch
WARPED = 28e-9  # to draw a pixel of an augmented picture
MEGAPIXEL = 6.4e-3  # to decode and resize a million pixels of a photograph's file
STORED = 1 / 0.6e9  # to write a byte of activations


def forwards(layers: Sequence[Layer], pictures: float, batches: float) -> float:
    """Return the seconds that pictures take through layers, in so many batches."""
    computing = [layer for layer in layers if layer.kind != "dropout"]
    operations = sum(layer.operations for layer in computing)
    outputs = sum(layer.outputs for layer in computing if layer.kind != "other")
    return pictures * (operations * FORWARD + outputs * OUTPUT) + batches * len(computing) * LAYER


def backwards(layers: Sequence[Layer], trained: int, pictures: float, steps: float) -> float:
    """Return the seconds of the gradients of layers from the place of the first trained one on, and of their use."""
    seconds = 0.0
    for place, layer in enumerate(layers):
        if place < trained or layer.kind == "other":
            continue
        if layer.kind == "dropout":
            seconds += pictures * layer.outputs * DROPPED
            continue
        lowest = place == trained or layers[place - 1].name == "pixels"  # nobody asks for the gradient of its input
        operations = layer.operations * (1 if lowest else 2)
        seconds += pictures * (operations * BACKWARD + layer.outputs * OUTPUT_BACKWARD) + steps * layer.weights * WEIGHT
    return seconds
