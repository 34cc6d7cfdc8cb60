"""The pretrained bases by name: what a recipe, an estimate and a page must know without loading Keras."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Base:
    """A convolutional base without its top.

    Attributes:
        name: what a recipe calls it; for `keras.applications` the class name.
        preprocessing: how its training scaled pixels: `tf` to [-1, 1], `caffe` BGR minus the ImageNet mean,
            `rescale` to [0, 1], `none` (the base scales them itself).
        unfreeze_from: first layer of its top block, where fine-tuning starts unless a recipe says otherwise.
        parameters: number of weights, alpha 1.
        gflop: 10^9 floating-point operations of one forward pass of one `image_size` square picture, alpha 1.
        image_size: side in pixels that it was trained at.
        min_image_size: smallest side in pixels that it takes.
        weights_file: file name of its published weights, `{alpha}` filled in; None for the bundled base.
        megabytes: size of that file in MB (10^6 bytes), alpha 1; see `weights_megabytes`.
    """

    name: str
    preprocessing: str
    unfreeze_from: str
    parameters: int
    gflop: float
    image_size: int
    min_image_size: int
    weights_file: str | None
    megabytes: float


# Parameters without top as Keras counts them; operations are twice the multiply-adds of each paper.
BASES: dict[str, Base] = {
    base.name: base
    for base in (
        Base("doodle-base", "rescale", "block3_conv1", 362_896, 0.07, 96, 32, None, 1.5),
        Base("VGG16", "caffe", "block5_conv1", 14_714_688, 30.7, 224, 32,
             "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", 58.9),
        Base("Xception", "tf", "block13_sepconv1", 20_861_480, 16.8, 299, 71,
             "xception_weights_tf_dim_ordering_tf_kernels_notop.h5", 83.7),
        Base("MobileNetV2", "tf", "block_14_expand", 2_257_984, 0.6, 224, 32,
             "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_224_no_top.h5", 9.4),
        Base("ResNet50", "caffe", "conv5_block1_1_conv", 23_587_712, 7.7, 224, 32,
             "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", 94.8),
        Base("EfficientNetV2B0", "none", "block6f_expand_conv", 5_919_312, 1.5, 224, 32,
             "efficientnetv2-b0_notop.h5", 24.3),
    )
}  # fmt: skip

# Four bytes a parameter and 0.37 MB for the names and shapes of its 260 arrays, the same in each of these files.
_MOBILENET_MEGABYTES = {0.35: 2.0, 0.5: 3.2, 0.75: 5.9, 1.0: 9.4, 1.3: 15.4, 1.4: 17.8}
MOBILENET_ALPHAS = tuple(_MOBILENET_MEGABYTES)


def pixels_become(preprocessing: str, base: str | None) -> str:
    """Return what a recipe's `preprocessing` does to pixels: itself, or what `base` stands for with this base."""
    return BASES[base].preprocessing if base in BASES and preprocessing == "base" else preprocessing


def weights_megabytes(base: str, alpha: float = 1.0) -> float:
    """Return the size of a base's published weights file in MB (10^6 bytes).

    Args:
        base: a name in BASES.
        alpha: one of MOBILENET_ALPHAS for MobileNetV2; 1 for the others.
    """
    return _MOBILENET_MEGABYTES[alpha] if base == "MobileNetV2" else BASES[base].megabytes
