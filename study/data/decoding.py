"""An encoded image becomes what a viewer shows of it: turned, in sRGB, on white, and of one size."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING

from cifar_ablations.study.data.images import LFS, SIDE, FaultError

if TYPE_CHECKING:
    from PIL import Image

# Only these are tried, so that a stray file never reaches a decoder that starts other programs.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
GREY = ("1", "L", "LA", "La")
BACKGROUND = "white"


class Decoder:
    """Decodes the images of one source, which must be of one size unless it was asked to resize them.

    It counts what it does to them, for `notes`.
    """

    def __init__(self, image_size: int | None = None) -> None:
        self._resizes = image_size is not None
        self._sizes: dict[tuple[int, int], int] = {}
        self._decoded = 0
        self._turned = 0
        self._see_through = 0
        self._converted = 0
        self._animated = 0
        self._grey = 0

    def decode(self, data: bytes) -> bytes:
        """RGB bytes, 32 * 32 * 3, of an encoded image. Raises FaultError for one that cannot be used."""
        from PIL import Image, UnidentifiedImageError

        if data.startswith(LFS):
            raise FaultError("is the place-holder of a large file", "say `git lfs pull` where it comes from")
        try:
            # Pillow warns of damaged EXIF data, which viewers ignore too, and of sizes that it decodes all the same.
            with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                kind, animated = opened.format, getattr(opened, "is_animated", False)
                image = self._upright(opened)
                self._check_size(image.size)
                if image.mode.startswith(("I", "F")):
                    raise FaultError("has pixels of more than 8 bits", "convert it to 8 bits a channel")
                self._grey += image.mode in GREY
                image = self._opaque(self._in_srgb(image))
                if image.size != (SIDE, SIDE):
                    way = Image.Resampling.BICUBIC if self._resizes else Image.Resampling.BILINEAR
                    image = image.resize((SIDE, SIDE), way)
                self._decoded += 1
                self._animated += animated and kind != "MPO"  # of which cameras write previews as further pictures
                return image.tobytes()
        except FaultError:
            raise
        except Image.DecompressionBombError as error:
            most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            raise FaultError(f"has more than {most:,} pixels, which is not decoded", "make it smaller") from error
        except UnidentifiedImageError as error:
            raise FaultError(
                f"cannot be read as an image (it is none of {', '.join(FORMATS)})", "replace or remove it"
            ) from error
        except Exception as error:  # decoders raise nearly anything on broken input
            raise FaultError(f"cannot be read as an image ({type(error).__name__})", "replace or remove it") from error

    def resized(self) -> str:
        """From what size to what the images were resized; "" where none was."""
        others = sorted(size for size in self._sizes if size != (SIDE, SIDE))
        if not others:
            return ""
        if len(self._sizes) == 1:
            ((width, height),) = others
            way = ", bicubic" if self._resizes else ""
            return f"resized from {width}×{height} to {SIDE}×{SIDE}{way}"
        widths, heights = zip(*self._sizes, strict=True)
        return (
            f"resized from {len(self._sizes):,} sizes ({min(widths)} to {max(widths)} pixels wide, {min(heights)} to "
            f"{max(heights)} high) to {SIDE}×{SIDE}, bicubic, whatever their proportions"
        )

    def notes(self) -> tuple[str, ...]:
        """What was done to the images, a sentence each; empty where they were taken as they are."""
        grey = "All" if self._grey == self._decoded else f"{self._grey:,} of {self._decoded:,}"
        said = {
            f"Turned as their EXIF orientation says: {_images(self._turned)}.": self._turned,
            f"Transparent parts put on {BACKGROUND}: {_images(self._see_through)}.": self._see_through,
            f"Converted from their colour profile to sRGB: {_images(self._converted)}.": self._converted,
            f"Animated, of which the first picture was taken: {_images(self._animated)}.": self._animated,
            f"{grey} images are grey: one value in all three channels.": self._grey,
        }
        return tuple(note for note, count in said.items() if count)

    def _upright(self, image: Image.Image) -> Image.Image:
        from PIL import ExifTags, ImageOps

        # Viewers show an image with damaged EXIF data as it is.
        turned = False
        with contextlib.suppress(Exception):
            turned = image.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
        image.load()
        if turned:
            with contextlib.suppress(Exception):
                image = ImageOps.exif_transpose(image)
                self._turned += 1
        return image

    def _check_size(self, size: tuple[int, int]) -> None:
        if self._sizes and size not in self._sizes and not self._resizes:
            (width, height), ((first_width, first_height),) = size, self._sizes
            raise FaultError(
                f"is {width}×{height} pixels and the first image {first_width}×{first_height}",
                f"all must be of one size, so resize or remove it, or have all resized with --image-size {SIDE}",
            )
        self._sizes[size] = self._sizes.get(size, 0) + 1

    def _in_srgb(self, image: Image.Image) -> Image.Image:
        """In the colours of sRGB, where an image in colour has another profile."""
        profile = image.info.get("icc_profile")
        if profile and image.mode == "P":
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
            return image
        from PIL import ImageCms

        # Viewers show an image with a damaged profile, or one of another kind, without it.
        with contextlib.suppress(Exception):
            opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(opened).lower():
                mode = "RGBA" if image.mode == "RGBA" else "RGB"
                converted = ImageCms.profileToProfile(image, opened, ImageCms.createProfile("sRGB"), outputMode=mode)
                assert converted is not None
                image = converted
                self._converted += 1
        return image

    def _opaque(self, image: Image.Image) -> Image.Image:
        from PIL import Image

        if not image.has_transparency_data:
            return image.convert("RGB")
        seen = image.convert("RGBA")
        lowest, _ = seen.getchannel("A").getextrema()
        if lowest == 255:
            return seen.convert("RGB")
        self._see_through += 1
        return Image.alpha_composite(Image.new("RGBA", seen.size, BACKGROUND), seen).convert("RGB")


def _images(count: int) -> str:
    return f"{count:,} {'image' if count == 1 else 'images'}"
