"""Pretrained weights that are not here: one sentence says which file, how large and where to put it. No network."""

import pwd

import keras
import numpy as np
import pytest
from tiny_lessons import tiny_features

from cvcore.base_weights import find_weights, load_base
from cvcore.bases import BASES, MOBILENET_ALPHAS, weights_megabytes
from cvcore.errors import WeightsNotFound

MOBILENET = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
EVERY_BASE = [(name, 1.0) for name in BASES if name not in ("doodle-base", "MobileNetV2")]
EVERY_BASE += [("MobileNetV2", alpha) for alpha in MOBILENET_ALPHAS]


def features_of(base, alpha=1.0):
    return tiny_features.with_changes(base=base, alpha=alpha, image_size=96)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No cached weights and no network: Keras' downloads fail as they do without one, and are noted."""
    monkeypatch.delenv("CVCORE_WEIGHTS", raising=False)
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path / "keras"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras").mkdir()
    asked = []

    def urlretrieve(url, *args):
        asked.append(url)
        raise OSError("Name or service not known")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", urlretrieve)
    return asked


@pytest.mark.parametrize(("base", "alpha"), EVERY_BASE)
def test_offline_names_the_file_its_size_and_where_to_put_it(offline, base, alpha):
    with pytest.raises(WeightsNotFound) as caught:
        find_weights(features_of(base, alpha), 0)
    (url,) = offline
    sentence = str(caught.value)
    assert "\n" not in sentence
    for part in (url.rpartition("/")[2], f"about {weights_megabytes(base, alpha):.1f} MB", "CVCORE_WEIGHTS",
                 "--weights"):  # fmt: skip
        assert part in sentence


# Parameters without top as Keras counts them; those of the other bases are checked where the networks are.
MOBILENET_PARAMETERS = {0.35: 410_208, 0.5: 706_224, 0.75: 1_382_064, 1.0: 2_257_984, 1.3: 3_766_048, 1.4: 4_363_712}


@pytest.mark.parametrize(("base", "alpha"), EVERY_BASE)
def test_size_of_a_weights_file_is_that_of_its_parameters(base, alpha):
    parameters = MOBILENET_PARAMETERS[alpha] if base == "MobileNetV2" else BASES[base].parameters
    assert parameters * 4 / 1e6 < weights_megabytes(base, alpha) < parameters * 4 / 1e6 + 0.65


def test_download_is_kept_by_keras_and_found_again(offline, monkeypatch, tmp_path):
    recipe = features_of("MobileNetV2", 0.35)
    made = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(224, 224, 3), alpha=0.35)
    stored = tmp_path / "keras" / "models" / MOBILENET
    stored.parent.mkdir()
    save_as_keras_applications_does(made, stored)
    found = find_weights(recipe, 0)
    assert (found.origin, found.path, offline) == ("keras", stored, [])
    for ours, theirs in zip(load_base(recipe, found).get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def save_as_keras_applications_does(model, path):
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def test_damaged_file_in_keras_cache_says_what_to_delete(offline, tmp_path):
    stored = tmp_path / "keras" / "models" / MOBILENET
    stored.parent.mkdir()
    stored.write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(WeightsNotFound) as caught:
        find_weights(features_of("MobileNetV2", 0.35), 0)
    assert f"delete {MOBILENET} from its folder keras/models" in str(caught.value)
    assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("folder_is_named", [True, False])
def test_user_without_a_home_is_told_the_same(offline, monkeypatch, folder_is_named):
    """As in a container that runs as a user whom it does not know."""

    def nobody(*arguments):
        raise KeyError("no such user")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    if not folder_is_named:
        monkeypatch.delenv("KERAS_HOME")
    with pytest.raises(WeightsNotFound, match="CVCORE_WEIGHTS"):
        find_weights(features_of("MobileNetV2", 0.35), 0)
