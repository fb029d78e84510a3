"""Pictures of inputs: what a decoder of its own reads from them."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import image as decoder

from service.dashboard.pictures import Layout, change_picture, changes, image, layout, png, ramp


def decoded(url: str) -> np.ndarray:
    """Bytes of the pixels, as another library reads the file."""
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return np.round(decoder.imread(io.BytesIO(base64.b64decode(data)), format="png") * 255).astype(int)


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.randoms())
@settings(max_examples=30, deadline=None)
def test_png_reads_back(width, height, channels, rng):
    pixels = bytes(rng.randrange(256) for _ in range(width * height * channels))
    url = f"data:image/png;base64,{base64.b64encode(png(pixels, width, height, channels)).decode()}"
    found = decoded(url)[..., :channels] if channels == 3 else decoded(url)
    assert found.reshape(-1).tolist() == list(pixels)


@pytest.mark.parametrize(("size", "channels"), [(3, 1), (0, 1), (8, 2)])
def test_png_refuses_what_does_not_fit(size, channels):
    with pytest.raises(ValueError, match="do not make"):
        png(bytes(size), 2 if size else 0, 2, channels)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ([1, 28, 28], Layout(28, 28, 1)),
        ([3, 32, 24], Layout(32, 24, 3)),
        ([32, 24, 3], Layout(32, 24, 3, last=True)),
        ([8, 8], Layout(8, 8, 1)),
        ([1, 1, 28, 28], Layout(28, 28, 1)),
        ([784], Layout(28, 28, 1, guessed=True)),
        ([784, 1], Layout(28, 28, 1, guessed=True)),
        ([3072], Layout(32, 32, 3, guessed=True)),
        ([5], None),
        ([9], None),
        ([2, 28, 28], None),
        ([3, 2000, 2000], None),
        ([], None),
    ],
)
def test_what_is_an_image(shape, expected):
    assert layout(shape) == expected


@pytest.mark.parametrize("last", [False, True])
def test_colours_are_where_they_belong(last):
    values = np.random.default_rng(0).random((5, 4, 3)).astype(np.float32)
    entries = values if last else values.transpose(2, 0, 1)
    picture = image(entries.reshape(-1).tolist(), Layout(5, 4, 3, last=last), 0.0, 1.0)
    assert (picture.width, picture.height) == (4, 5)
    np.testing.assert_allclose(decoded(picture.url)[..., :3], values * 255, atol=0.51)


def test_values_beyond_the_range_are_cut_off():
    assert decoded(image([-1, 0, 0.5, 7] * 4, Layout(4, 4, 1), 0, 1).url)[0].tolist() == [0, 0, 128, 255]
    assert set(decoded(image([3.0] * 16, Layout(4, 4, 1), 3, 3).url).reshape(-1).tolist()) == {0}


def test_changes_are_magnified_and_told_apart():
    before = [0.5] * 16
    after = [0.501, 0.499, *[0.5] * 14]
    pixels = decoded(change_picture(before, after, Layout(4, 4, 1)).url)[..., :3].reshape(-1, 3).tolist()
    assert pixels[0] == [179, 88, 6]
    assert pixels[1] == [33, 102, 172]
    assert pixels[2] == [247, 247, 247]
    assert decoded(ramp().url)[0, 0, :3].tolist() == pixels[1]


def test_no_change_is_neutral():
    pixels = decoded(change_picture([0.5] * 16, [0.5] * 16, Layout(4, 4, 1)).url)[..., :3]
    assert {*pixels.reshape(-1).tolist()} == {247}


def test_of_several_channels_the_largest_change_is_shown():
    before, after = [0.0] * 48, [0.0] * 48
    after[0], after[16] = 0.5, -1.0  # the first pixel's red and green
    pixels = decoded(change_picture(before, after, Layout(4, 4, 3)).url)[0, 0, :3]
    assert pixels.tolist() == [33, 102, 172]


def test_the_largest_changes_come_first():
    found = changes([0.0] * 6, [0.1, 0, -0.5, 0, 0, 0.2], [1, 2, 3], most=2)
    assert [(each.place, each.after) for each in found] == [("2 (0, 0, 2)", -0.5), ("5 (0, 1, 2)", 0.2)]
    assert [each.place for each in changes([0.0, 0.0], [1.0, 0.0], [2])] == ["0"]
