"""The augmentation policy as one Keras layer: one warp a batch, active only in training."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from cvcore.augmentation import UNIFORMS, AugmentationPolicy, draw, matrices


@keras.saving.register_keras_serializable("cvcore")
class Augmentation(keras.layers.Layer):
    """Change each picture of a training batch at random, as its policy allows; at inference hand it on untouched.

    Geometry is one bilinear `keras.ops.image.affine_transform` for the whole batch, however many parameters move
    pixels. A policy without geometry skips the warp: a flip alone moves pixels without interpolating.

    Args:
        policy: an AugmentationPolicy or its fields as a mapping.
        seed: seeds `seed_generator`, from which every batch draws (n, UNIFORMS) uniform numbers; None picks one at
            random. A trainer that must repeat an epoch sets `seed_generator.state` at its start.

    Call:
        images: (n, height, width, channels), values 0..255, n may be unknown, height and width must be known.
        training: whether to augment. Default False.

    Returns:
        Pictures of the same shape in the layer's dtype (float32 unless `dtype` says otherwise, whatever the global
        dtype policy: half precision rounds pixels).
    """

    def __init__(self, policy: AugmentationPolicy | Mapping[str, Any], seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.policy = AugmentationPolicy.model_validate(dict(policy) if isinstance(policy, Mapping) else policy)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        # TensorFlow's affine_transform has no XLA kernel; Keras then compiles the model without XLA.
        self.supports_jit = keras.config.backend() != "tensorflow"
        self.built = True

    def call(self, images: Any, training: bool = False) -> Any:
        images = ops.cast(images, self.compute_dtype)
        if not training or self.policy.is_identity:
            return images
        uniforms = keras.random.uniform((ops.shape(images)[0], UNIFORMS), dtype="float32", seed=self.seed_generator)
        return apply(self.policy, images, uniforms)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "policy": self.policy.model_dump(), "seed": self.seed}


class Drawn(keras.layers.Layer):
    """Change each picture as given uniform numbers decide, also at inference: for views that are stored.

    Call: [images (n, height, width, channels) 0..255, uniforms float32 (n, UNIFORMS) in [0, 1)]; returns such images.
    """

    def __init__(self, policy: AugmentationPolicy, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.policy = policy

    def call(self, inputs: Any) -> Any:
        images, uniforms = inputs
        return apply(self.policy, images, uniforms)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]


def apply(policy: AugmentationPolicy, images: Any, uniforms: Any) -> Any:
    """Augment a batch with the randomness given.

    Args:
        policy: the ranges.
        images: float tensor (n, height, width, channels), 0..255.
        uniforms: float32 tensor (n, UNIFORMS) in [0, 1).

    Returns:
        A tensor like `images`.
    """
    drawn = draw(policy, uniforms, ops)
    height, width = images.shape[1:3]
    transforms, gain, bias = matrices(drawn, height, width, ops)
    if policy.has_geometry:
        images = ops.image.affine_transform(
            images,
            transforms,
            interpolation="bilinear",
            fill_mode=policy.fill_mode,
            fill_value=policy.fill_value,
            data_format="channels_last",
        )
    else:
        if policy.horizontal_flip:
            images = ops.where(drawn.flip_x[:, None, None, None], ops.flip(images, axis=2), images)
        if policy.vertical_flip:
            images = ops.where(drawn.flip_y[:, None, None, None], ops.flip(images, axis=1), images)
    if policy.has_light:
        gain = ops.cast(gain, images.dtype)[:, None, None, None]
        bias = ops.cast(bias, images.dtype)[:, None, None, None]
        images = ops.clip(images * gain + bias, 0, 255)
    return images
