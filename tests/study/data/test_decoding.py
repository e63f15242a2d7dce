"""What is decoded is what a viewer shows: against Pillow's own transformations."""

from __future__ import annotations

import io
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from cifar_ablations.study.data.decoding import Decoder
from cifar_ablations.study.data.images import FaultError
from tests.image_sets import as_zip, encoded, picture, read, small_set, trained


def _decoded(data: bytes, decoder: Decoder | None = None) -> np.ndarray:
    return np.frombuffer((decoder or Decoder()).decode(data), np.uint8).reshape(32, 32, 3)


def _with_orientation(image: Image.Image, orientation: int, kind: str) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(image, kind, exif=exif, **options)


TURNS = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x),
}
"""By EXIF's number, as array operations."""


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", TURNS)
def test_images_are_turned_as_their_exif_data_say(orientation: int, kind: str) -> None:
    data = _with_orientation(picture(0), orientation, kind)
    with Image.open(io.BytesIO(data)) as image:
        stored = np.asarray(picture(0)) if kind != "JPEG" else np.asarray(image)
    decoder = Decoder()
    assert np.array_equal(_decoded(data, decoder), TURNS[orientation](stored))
    assert np.array_equal(_decoded(data), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))
    said = () if orientation == 1 else ("Turned as their EXIF orientation says: 1 image.",)
    assert decoder.notes() == said


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_there_is_not_is_ignored_as_viewers_do(orientation: int) -> None:
    decoder = Decoder()
    data = _with_orientation(picture(0), orientation, "PNG")
    assert np.array_equal(_decoded(data, decoder), np.asarray(picture(0)))
    assert not decoder.notes()


def test_damaged_exif_data_are_ignored_as_viewers_do() -> None:
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0"):
        assert np.array_equal(_decoded(encoded(picture(0), exif=exif)), np.asarray(picture(0)))


def test_an_image_that_could_not_be_turned_is_not_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(image: Image.Image) -> Image.Image:
        raise ValueError("damaged EXIF data")

    decoder, turned = Decoder(), _with_orientation(picture(0), 3, "PNG")
    monkeypatch.setattr(ImageOps, "exif_transpose", damaged)
    assert np.array_equal(_decoded(turned, decoder), np.asarray(picture(0)))
    assert decoder.notes() == ()


def test_upright_and_turned_photographs_of_a_camera_have_the_size_that_is_seen() -> None:
    decoder = Decoder()
    decoder.decode(encoded(picture(0).resize((64, 48))))
    decoder.decode(_with_orientation(picture(1).resize((48, 64)), 6, "JPEG"))
    with pytest.raises(FaultError, match="is 48×64 pixels and the first image 64×48"):
        decoder.decode(_with_orientation(picture(1).resize((64, 48)), 6, "JPEG"))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "colour key", "palette with alpha"])
def test_transparent_parts_lie_on_white(kind: str) -> None:
    colours, alpha = picture(0), picture(1).convert("L")
    if kind in ("RGBA", "LA"):
        image = colours.convert(kind[:-1])
        image.putalpha(alpha)
        data = encoded(image)
    elif kind == "colour key":
        data = encoded(colours, transparency=colours.getpixel((3, 4)))
    else:
        palette = colours.quantize(16)
        data = encoded(palette, transparency=3 if kind == "palette" else bytes(range(0, 160, 10)))
    seen = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(float)
    share = seen[..., 3:] / 255
    decoder = Decoder()
    found = _decoded(data, decoder)
    assert np.abs(found - (share * seen[..., :3] + (1 - share) * 255)).max() <= 1
    assert (found[seen[..., 3] == 0] == 255).all()
    assert "Transparent parts put on white: 1 image." in decoder.notes()


def test_hidden_colours_do_not_make_a_difference() -> None:
    """Two images that look alike are alike, whatever lies under what cannot be seen."""
    hidden = [picture(seed) for seed in (0, 1)]
    for image in hidden:
        image.putalpha(0)
    assert np.array_equal(_decoded(encoded(hidden[0])), _decoded(encoded(hidden[1])))


def test_opaque_images_with_an_alpha_channel_stay_as_they_are() -> None:
    decoder = Decoder()
    assert np.array_equal(_decoded(encoded(picture(0).convert("RGBA")), decoder), np.asarray(picture(0)))
    assert decoder.notes() == ()


def _profile_of_other_colours() -> bytes:
    """A profile in which red and blue have changed places: sRGB's own, with two tags exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))


@pytest.mark.parametrize("image", [picture(0), picture(0).quantize(16), picture(0).convert("RGBA")])
def test_another_colour_profile_than_srgb_is_converted(image: Image.Image) -> None:
    decoder = Decoder()
    found = _decoded(encoded(image, icc_profile=_profile_of_other_colours()), decoder).astype(int)
    assert np.abs(found - np.asarray(image.convert("RGB"))[..., ::-1]).max() <= 3
    assert decoder.notes() == ("Converted from their colour profile to sRGB: 1 image.",)


@pytest.mark.parametrize("kind", ["sRGB", "damaged"])
def test_srgb_and_a_damaged_profile_change_nothing(kind: str) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    decoder = Decoder()
    data = encoded(picture(0), icc_profile=srgb if kind == "sRGB" else b"nonsense")
    assert np.array_equal(_decoded(data, decoder), np.asarray(picture(0)))
    assert decoder.notes() == ()


def test_a_place_holder_of_git_is_named() -> None:
    with pytest.raises(FaultError, match="is the place-holder of a large file"):
        Decoder().decode(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def test_of_an_animation_the_first_picture_is_taken_and_it_is_said() -> None:
    decoder = Decoder()
    data = encoded(picture(0), "WEBP", lossless=True, save_all=True, append_images=[picture(1)])
    assert np.array_equal(_decoded(data, decoder), np.asarray(picture(0)))
    assert decoder.notes() == ("Animated, of which the first picture was taken: 1 image.",)


@pytest.mark.parametrize(("grey", "said"), [(1, "1 of 2 images are grey"), (2, "All images are grey")])
def test_grey_images_are_said(grey: int, said: str) -> None:
    decoder = Decoder()
    for seed in range(2):
        data = encoded(picture(seed).convert("L") if seed < grey else picture(seed))
        assert np.array_equal(_decoded(data, decoder), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert decoder.notes() == (f"{said}: one value in all three channels.",)


def test_several_sizes_are_resized_where_that_is_asked_for() -> None:
    decoder = Decoder(32)
    for seed, size in enumerate([(32, 32), (64, 48), (20, 100)]):
        image = picture(seed).resize(size)
        expected = image if size == (32, 32) else image.resize((32, 32), Image.Resampling.BICUBIC)
        assert np.array_equal(_decoded(encoded(image), decoder), np.asarray(expected))
    assert decoder.resized() == (
        "resized from 3 sizes (20 to 64 pixels wide, 32 to 100 high) to 32×32, bicubic, whatever their proportions"
    )


def test_asking_for_the_size_that_they_have_changes_nothing() -> None:
    decoder = Decoder(32)
    assert np.array_equal(_decoded(encoded(picture(0)), decoder), np.asarray(picture(0)))
    assert decoder.resized() == ""


def test_what_was_done_is_said_on_the_terminal_and_stands_in_the_source(tmp_path: Path) -> None:
    files = small_set()
    files["train/cat/0.png"] = _with_orientation(picture(0), 3, "PNG")
    clear = picture(1)
    clear.putalpha(0)
    files["train/dog/0.png"] = encoded(clear)
    dataset = read(as_zip(files, tmp_path / "a.zip"), tmp_path)
    assert dataset.notes == (
        "Turned as their EXIF orientation says: 1 image.",
        "Transparent parts put on white: 1 image.",
    )
    assert dataset.source == " ".join(["Images in a.zip.", *dataset.notes])
    assert np.array_equal(trained(dataset)[0], np.asarray(picture(0))[::-1, ::-1])
    assert (trained(dataset)[1] == 255).all()


def test_images_of_one_pixel_and_of_very_many_become_of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    dot, large = Image.new("RGB", (1, 1), (3, 200, 90)), Image.new("L", (3_000, 2_000), 80)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000_000)  # from which on Pillow warns
    decoder = Decoder(32)
    for image in (dot, large):
        expected = image.convert("RGB").getpixel((0, 0))
        assert np.array_equal(_decoded(encoded(image), decoder), np.broadcast_to(np.array(expected), (32, 32, 3)))
    assert decoder.resized().startswith("resized from 2 sizes (1 to 3000 pixels wide, 1 to 2000 high)")


def test_more_pixels_than_are_safe_are_refused_before_they_are_decoded() -> None:
    one_row = encoded(Image.new("1", (20_000, 1)))
    start = one_row.index(b"IHDR")
    header = one_row[start : start + 8] + (20_000).to_bytes(4) + one_row[start + 12 : start + 17]
    data = one_row[:start] + header + zlib.crc32(header).to_bytes(4) + one_row[start + 21 :]
    with pytest.raises(FaultError, match=r"has more than 178,956,970 pixels, which is not decoded") as caught:
        Decoder(32).decode(data)
    assert caught.value.advice == "make it smaller"


@pytest.mark.parametrize("content", [b"", b"hello", b"\0\0\0\x18ftypheic" + bytes(90), b"<svg/>", b"%PDF-1.7"])
def test_what_is_no_image_of_a_kind_that_is_read_is_told_which_are(content: bytes) -> None:
    with pytest.raises(FaultError, match=r"it is none of PNG, JPEG, BMP, GIF, PPM, TIFF, WEBP"):
        Decoder().decode(content)


def test_what_pillow_warns_of_is_not_printed() -> None:
    damaged = encoded(picture(0), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(20))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Decoder().decode(damaged)
    assert not caught


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "LAB"])
def test_every_mode_of_eight_bits_or_fewer_is_what_pillow_shows(mode: str) -> None:
    image = picture(0).convert("P").convert("PA") if mode == "PA" else picture(0).convert(mode)
    kind = "TIFF" if mode in ("CMYK", "LAB", "PA") else "PNG"
    data = encoded(image, kind)
    shown = Image.open(io.BytesIO(data))
    assert np.array_equal(_decoded(data), np.asarray(shown.convert("RGB")))


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_grey_of_more_than_eight_bits_is_refused(kind: type[np.generic]) -> None:
    image = Image.fromarray((np.arange(32 * 32).reshape(32, 32) * 3).astype(kind))
    with pytest.raises(FaultError, match="has pixels of more than 8 bits"):
        Decoder().decode(encoded(image, "TIFF"))
