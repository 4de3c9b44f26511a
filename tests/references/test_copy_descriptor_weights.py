"""SSCD's published weights on real pictures: edited copies are near, unrelated pictures are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from lorabench.judges.copy_descriptor import CopyDescriptor, installed_model
from lorabench.metrics.descriptor_copies import picture_views, training_views, view_similarities

pytestmark = [
    pytest.mark.weights,
    pytest.mark.skipif(installed_model() is None, reason="the extra `copies` is not installed (Python 3.12 or later)"),
]


@pytest.fixture(scope="module", params=["sscd", "distilled"])
def encoder(request):
    return CopyDescriptor(request.param)


@pytest.fixture(scope="module")
def originals():
    from skimage import data

    return [
        np.asarray(Image.fromarray(p).resize((320, 320))) for p in (data.astronaut(), data.coffee(), data.chelsea())
    ]


def mirror(picture):
    return np.ascontiguousarray(picture[:, ::-1])


def recolour(picture):
    return np.clip(0.8 * picture[..., [1, 2, 0]].astype(float) + 20, 0, 255).astype(np.uint8)


def jpeg(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=30)
    return np.asarray(Image.open(buffer).convert("RGB"))


def blur(picture):
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(2)))


def crop(picture):
    return np.asarray(Image.fromarray(picture).crop((40, 30, 232, 222)).resize((320, 320)))


@pytest.mark.parametrize("edit", [mirror, recolour, jpeg, blur])
def test_edited_copies_are_near_and_unrelated_pictures_far(encoder, originals, edit):
    cosines = encoder.embed([edit(picture) for picture in originals]) @ encoder.embed(originals).T

    assert np.diag(cosines).min() > 0.75
    assert cosines[~np.eye(3, dtype=bool)].max() < 0.3


def test_views_find_what_the_whole_does_not_in_a_crop(encoder, originals):
    crops = [crop(picture) for picture in originals]
    whole = np.diag(encoder.embed(crops) @ encoder.embed(originals).T)
    views = view_similarities(
        np.stack([encoder.embed(picture_views(picture)) for picture in crops]),
        np.stack([encoder.embed(training_views(picture)) for picture in originals]),
    )

    assert (np.diag(views) > whole).all()
    assert np.diag(views).min() > 0.6
    assert views[~np.eye(3, dtype=bool)].max() < 0.4
