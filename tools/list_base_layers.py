"""Write cvcore/base_layers.csv: every layer of every pretrained base, as Keras builds it, so that nobody who only
counts operations has to load Keras.

    python -m tools.list_base_layers

One row a layer, in the order of `model.layers`, from which on `unfreeze_from` counts. Columns:

    base      name in cvcore.bases
    layer     Keras' name of it
    kind      conv, depthwise, separable, norm, activation, add, multiply, pool, pad, global, other
    after     the layers whose outputs it takes, as numbers within the base; empty: the row above
    size      side of a kernel or a pooling window; of a pad what it adds to a side, 0: what makes a stride of 2 exact
    stride    of a kernel or a pooling window
    padding   same or valid
    channels  of the output; MobileNetV2 has one for each of its alphas, in the order of MOBILENET_ALPHAS
"""

import argparse
import csv
from typing import Any

import keras

from cvcore.base_weights import load_base
from cvcore.bases import BASES, MOBILENET_ALPHAS
from cvcore.layer_counts import TABLE
from cvcore.recipe import make_recipe

KINDS = {
    "Conv2D": "conv", "DepthwiseConv2D": "depthwise", "SeparableConv2D": "separable", "BatchNormalization": "norm",
    "Activation": "activation", "ReLU": "activation", "Add": "add", "Multiply": "multiply", "MaxPooling2D": "pool",
    "ZeroPadding2D": "pad", "GlobalAveragePooling2D": "global",
}  # fmt: skip


def rows(base: str) -> list[dict[str, Any]]:
    """Describe the layers of a base as Keras builds them."""
    keras.backend.clear_session()  # Xception's nameless layers are numbered from the start of a session
    alphas = MOBILENET_ALPHAS if base == "MobileNetV2" else (1.0,)
    size = BASES[base].image_size
    models = [
        load_base(make_recipe(id="base", strategy="features", base=base, alpha=alpha, image_size=size), None)
        for alpha in alphas
    ]
    assert all(len(model.layers) == len(models[0].layers) for model in models)
    number = {layer.name: index for index, layer in enumerate(models[0].layers)}
    found = []
    for index, layer in enumerate(models[0].layers):
        after = [number[node.operation.name] for node in layer._inbound_nodes[0].parent_nodes]
        channels = [model.layers[index].output.shape[-1] for model in models]
        found.append({
            "base": base, "layer": layer.name if index else "pixels", "kind": KINDS.get(type(layer).__name__, "other"),
            "after": "" if after == [index - 1] else " ".join(map(str, after)), **_window(layer),
            "channels": "/".join(map(str, dict.fromkeys(channels) if len(set(channels)) == 1 else channels)),
        })  # fmt: skip
    return found


def _window(layer: Any) -> dict[str, Any]:
    kind = type(layer).__name__
    if kind == "ZeroPadding2D":
        (top, bottom), _ = layer.padding
        # Keras' applications pad pictures of an even side by (0, 1) and others by (1, 1) before a stride of 2.
        return {"size": 0 if (top, bottom) == (0, 1) else top + bottom, "stride": "", "padding": ""}
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if window is None:
        return {"size": "", "stride": "", "padding": ""}
    assert window[0] == window[1] and layer.strides[0] == layer.strides[1]
    return {"size": window[0], "stride": layer.strides[0], "padding": layer.padding}


def main() -> None:
    """Write the table."""
    argparse.ArgumentParser(description="Write the table of the layers of the pretrained bases.").parse_args()
    with TABLE.open("w", newline="") as stream:
        found = [row for base in BASES for row in rows(base)]
        writer = csv.DictWriter(stream, found[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
