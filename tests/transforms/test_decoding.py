from __future__ import annotations

import hashlib
import io
import random
import resource
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, features

from schemas.config import DecodeConfig
from schemas.reasons import Reason, Rejected
from schemas.records import Files, ImageRow, Picture
from tests.chaos_server import pixel_bomb
from transforms.decoding import decode

# Pillow tells its user what it found, besides raising.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data"),
    pytest.mark.filterwarnings("ignore:Truncated File Read"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
ROW = ImageRow("id", "https://h.test/x", "https://h.test/x", "manifest.parquet:0")
WIDTH, HEIGHT = 64, 48
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF") + (("AVIF",) if features.check("avif") else ())


def _photo(mode: str = "RGB") -> Image.Image:
    """Smooth and unlike any of its mirror images."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([x * 4, y * 5, (x + 2 * y) % 256], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def _file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _decode(data: bytes, **config: Any) -> Picture:
    return decode(Files(data), ROW, DecodeConfig(**config))


def _reject(data: bytes, **config: Any) -> Rejected:
    with pytest.raises(Rejected) as why:
        _decode(data, **config)
    assert why.value.message.startswith("image_url: ")
    return why.value


def _pixels(picture: Picture) -> NDArray[np.int64]:
    with Image.open(io.BytesIO(picture.data)) as image:
        assert image.format is not None
        assert image.format.lower() == picture.format
        assert image.size == (picture.width, picture.height)
        assert image.mode in ("L", "RGB")
        assert getattr(image, "n_frames", 1) == 1
        assert image.getexif().get(0x0112, 1) not in range(2, 9)
        return np.asarray(image).astype(np.int64)


def _assert_close(picture: Picture, expected: Image.Image, within: float) -> None:
    difference = np.abs(_pixels(picture) - np.asarray(expected).astype(np.int64))
    assert difference.mean() <= within


class TestKeptAsTheyAre:
    @pytest.mark.parametrize("mode", ["RGB", "L"])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_plain_pictures(self, kind: str, mode: str) -> None:
        data = _file(_photo(mode), kind)
        picture = _decode(data)
        assert picture.data == data
        assert (picture.format, picture.width, picture.height) == (kind.lower(), WIDTH, HEIGHT)
        assert picture.sha256 == hashlib.sha256(data).hexdigest()
        _pixels(picture)

    @pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}])
    def test_flavours_of_jpeg(self, options: dict[str, Any]) -> None:
        data = _file(_photo(), "JPEG", **options)
        assert _decode(data).data == data

    def test_sixteen_bit_colour_png(self) -> None:
        rows = b"".join(b"\0" + bytes(WIDTH * 6) for _ in range(HEIGHT))
        data = _png(WIDTH, HEIGHT, bits=16, colour=2, rows=rows)
        assert _decode(data).data == data

    def test_pictures_behind_the_first_of_an_mpo_do_not_count(self) -> None:
        data = _file(_photo(), "MPO", save_all=True, append_images=[_photo().rotate(180)])
        picture = _decode(data)
        assert (picture.data, picture.format) == (data, "jpeg")

    def test_an_embedded_srgb_profile(self) -> None:
        data = _file(_photo(), "JPEG", icc_profile=_srgb_profile())
        assert _decode(data).data == data

    @pytest.mark.parametrize("profile", [b"no profile at all", b"\0" * 200])
    def test_an_unusable_profile_counts_as_srgb(self, profile: bytes) -> None:
        data = _file(_photo(), "JPEG", icc_profile=profile)
        assert _decode(data).data == data

    @pytest.mark.parametrize("orientation", [0, 1, 9, 65535])
    def test_orientations_that_mean_nothing(self, orientation: int) -> None:
        data = _file(_photo(), "JPEG", exif=_oriented(orientation))
        assert _decode(data).data == data

    @pytest.mark.parametrize(
        "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\xff"]
    )
    def test_damaged_exif_counts_as_none(self, exif: bytes) -> None:
        data = _file(_photo(), "JPEG", exif=exif)
        assert _decode(data).data == data


class TestEncodedAgain:
    @pytest.mark.parametrize(("kind", "result"), [("GIF", "png"), ("BMP", "png"), ("TIFF", "png")])
    def test_lossless_formats_become_png(self, kind: str, result: str) -> None:
        picture = _decode(_file(_photo(), kind))
        assert picture.format == result
        _assert_close(picture, _photo(), 25 if kind == "GIF" else 0)

    @pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow reads no AVIF")
    def test_avif_becomes_jpeg(self) -> None:
        picture = _decode(_file(_photo(), "AVIF", quality=95))
        assert picture.format == "jpeg"
        _assert_close(picture, _photo(), 3)

    @pytest.mark.parametrize(("kind", "result"), [("GIF", "png"), ("PNG", "png"), ("WEBP", "png"), ("AVIF", "jpeg")])
    def test_the_first_frame_counts(self, kind: str, result: str) -> None:
        if kind not in FORMATS:
            pytest.skip(f"this Pillow writes no {kind}")
        options = {"lossless": True} if kind == "WEBP" else {}
        data = _file(
            _photo(), kind, save_all=True, append_images=[_photo().rotate(180), _photo().rotate(90)], **options
        )
        picture = _decode(data)
        assert picture.format == result
        _assert_close(picture, _photo(), 25 if kind == "GIF" else 4)

    def test_cmyk_jpeg(self) -> None:
        picture = _decode(_file(_photo("CMYK"), "JPEG", quality=95))
        assert picture.format == "jpeg"
        _assert_close(picture, _photo(), 4)

    def test_palette_png(self) -> None:
        source = _photo().quantize(64)
        _assert_close(_decode(_file(source)), source.convert("RGB"), 0)

    def test_one_bit_png(self) -> None:
        source = _photo("1")
        _assert_close(_decode(_file(source)), source.convert("L"), 0)

    def test_sixteen_bit_grey_png_keeps_its_upper_half(self) -> None:
        grey = np.linspace(0, 65535, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)
        picture = _decode(_file(Image.fromarray(grey)))
        assert np.array_equal(_pixels(picture), grey >> 8)

    @pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "key"])
    def test_transparent_parts_become_white(self, kind: str) -> None:
        alpha = Image.fromarray(np.where(np.arange(WIDTH) < 32, 0, 255).astype(np.uint8)[None].repeat(HEIGHT, 0))
        black = Image.new("RGB", (WIDTH, HEIGHT))
        match kind:
            case "palette":
                source = Image.fromarray(np.asarray(alpha) // 255).convert("P")
                data = _file(source, transparency=0)
            case "key":
                data = _file(
                    Image.composite(Image.new("RGB", black.size, (1, 2, 3)), black, ImageOps.invert(alpha)),
                    transparency=(1, 2, 3),
                )
            case _:
                source = black.convert(kind)
                source.putalpha(alpha)
                data = _file(source)
        pixels = _pixels(_decode(data))
        assert (pixels[:, :32] == 255).all()
        assert (pixels[:, 32:] <= 1).all()

    @pytest.mark.parametrize("orientation", range(2, 9))
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_turned_upright(self, kind: str, orientation: int) -> None:
        options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
        data = _file(_photo(), kind, exif=_oriented(orientation), **options)
        picture = _decode(data)
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        assert (picture.width, picture.height) == ((HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT))
        _assert_close(picture, upright, 2 if kind in ("JPEG", "WEBP") else 0)
        assert picture.sha256 == hashlib.sha256(data).hexdigest()

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_colours_become_srgb(self, kind: str) -> None:
        """A profile whose red and green primaries have changed places."""
        data = _file(Image.new("RGB", (WIDTH, HEIGHT), (200, 40, 40)), kind, icc_profile=_swapped_profile())
        picture = _decode(data)
        pixels = _pixels(picture)
        assert pixels[..., 1].mean() > 190
        assert pixels[..., 0].mean() < 60
        with Image.open(io.BytesIO(picture.data)) as image:
            assert "icc_profile" not in image.info

    def test_jpegs_are_not_subsampled(self) -> None:
        picture = _decode(_file(_photo(), "JPEG", exif=_oriented(6)))
        with Image.open(io.BytesIO(picture.data)) as image:
            assert {(h, v) for _, h, v, _ in image.layer} == {(1, 1)}


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "named"),
        [
            (b"", "0 bytes"),
            (b"<!DOCTYPE html><html>", "HTML"),
            (b"\n\n  <HTML><body>404", "HTML"),
            (b"<?xml version='1.0'?><svg/>", "XML or SVG"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "XML or SVG"),
            (b"not a picture", "begins with 6e 6f 74"),
            (b"%PDF-1.7\n", "begins with 25 50 44 46"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "begins with 25 21"),
            (b"RIFF\x24\0\0\0WAVEfmt ", "begins with 52 49 46 46"),
            (b"\0" * 5000, "begins with 00"),
        ],
    )
    def test_what_is_no_picture(self, data: bytes, named: str) -> None:
        why = _reject(data)
        assert why.reason is Reason.NOT_AN_IMAGE
        assert named in why.message

    def test_heic_without_its_package(self) -> None:
        why = _reject(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100)
        assert why.reason in (Reason.NOT_AN_IMAGE, Reason.TRUNCATED_IMAGE)

    @pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.98])
    @pytest.mark.parametrize("kind", [*FORMATS, "progressive"])
    def test_truncated_files(self, kind: str, share: float) -> None:
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8))
        data = _file(noise, "JPEG", progressive=True) if kind == "progressive" else _file(noise, kind)
        why = _reject(data[: int(len(data) * share)])
        assert why.reason is Reason.TRUNCATED_IMAGE, why.message

    def test_a_damaged_png(self) -> None:
        data = bytearray(_file(_photo()))
        data[len(data) // 2] ^= 0xFF
        assert _reject(bytes(data)).reason is Reason.TRUNCATED_IMAGE

    @pytest.mark.parametrize("mode", ["I", "F"])
    def test_numbers_that_are_no_picture(self, mode: str) -> None:
        assert _reject(_file(_photo("L").convert(mode), "TIFF")).reason is Reason.NOT_AN_IMAGE


class TestLimits:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_the_pixel_limit_is_exact(self, kind: str) -> None:
        data = _file(_photo(), kind)
        assert _decode(data, max_pixels=WIDTH * HEIGHT).width == WIDTH
        for limit in (WIDTH * HEIGHT - 1, WIDTH * HEIGHT // 2 - 1, 1):
            assert _reject(data, max_pixels=limit).reason is Reason.TOO_MANY_PIXELS

    def test_a_limit_above_pillows_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        data = _file(_photo())
        assert _reject(data, max_pixels=900).reason is Reason.TOO_MANY_PIXELS
        assert Image.MAX_IMAGE_PIXELS == 1000
        assert _decode(data, max_pixels=WIDTH * HEIGHT).width == WIDTH

    def test_a_pixel_bomb_costs_nothing(self) -> None:
        bomb = pixel_bomb()
        assert len(bomb) < 150_000
        before_kb, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        assert _reject(bomb).reason is Reason.TOO_MANY_PIXELS
        assert time.monotonic() - started < 4
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 20_000

    def test_compressed_text_is_not_unpacked(self) -> None:
        text = zlib.compress(b"a" * 100_000_000, 9)
        data = _file(_photo())
        bomb = data[:33] + _chunk(b"zTXt", b"Comment\0\0" + text) + data[33:]
        assert _reject(bomb).reason is Reason.TRUNCATED_IMAGE


class TestSalvage:
    @pytest.mark.parametrize("progressive", [False, True])
    def test_the_rest_of_a_jpeg(self, progressive: bool) -> None:
        data = _file(_photo().resize((640, 480)), "JPEG", quality=95, progressive=progressive)
        cut = data[: int(len(data) * 0.7)]
        picture = _decode(cut, truncated="salvage")
        assert (picture.format, picture.width, picture.height) == ("jpeg", 640, 480)
        assert picture.sha256 == hashlib.sha256(cut).hexdigest()
        whole = np.asarray(Image.open(io.BytesIO(data))).astype(int)
        assert np.abs(_pixels(picture)[:200] - whole[:200]).mean() < 6
        assert _decode(picture.data).data == picture.data

    def test_upright_too(self) -> None:
        data = _file(_photo().resize((640, 480)), "JPEG", exif=_oriented(6))
        picture = _decode(data[: len(data) // 2], truncated="salvage")
        assert (picture.width, picture.height) == (480, 640)

    def test_whole_files_stay_as_they_are(self) -> None:
        data = _file(_photo(), "JPEG")
        assert _decode(data, truncated="salvage").data == data

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
    def test_other_formats_are_refused(self, kind: str) -> None:
        data = _file(_photo(), kind)
        assert _reject(data[: len(data) // 2], truncated="salvage").reason is Reason.TRUNCATED_IMAGE

    def test_a_header_alone_is_nothing_to_salvage(self) -> None:
        assert _reject(_file(_photo(), "JPEG")[:100], truncated="salvage").reason is Reason.TRUNCATED_IMAGE


def test_damaged_files_end_in_a_picture_or_a_reason() -> None:
    dice = random.Random(0)
    ends = {True: 0, False: 0}
    for kind in FORMATS:
        whole = _file(_photo(), kind, exif=_oriented(6)) if kind not in ("GIF", "BMP") else _file(_photo(), kind)
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(dice.randint(1, 4)):
                at = dice.randrange(min(len(data), dice.choice((40, 400, 10**6))))
                data[at : at + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 3))
            try:
                picture = _decode(bytes(data), max_pixels=1_000_000)
            except Rejected as why:
                ends[why.reason in (Reason.NOT_AN_IMAGE, Reason.TRUNCATED_IMAGE, Reason.TOO_MANY_PIXELS)] += 1
                continue
            _pixels(picture)
    assert ends[False] == 0
    assert ends[True] > 300


def test_threads_do_not_disturb_each_other() -> None:
    files = [_file(_photo(), kind, **options) for kind in ("JPEG", "PNG") for options in ({}, {"exif": _oriented(6)})]
    files.append(_file(_photo(), "JPEG", icc_profile=_swapped_profile()))
    expected = [_decode(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(_decode, files * 40)) == expected * 40


def test_intrinsics_are_for_the_upright_picture() -> None:
    row = ImageRow("id", "u", "u", "m:0", fov_deg=90.0)
    picture = decode(Files(_file(_photo(), "JPEG", exif=_oriented(6))), row, DecodeConfig())
    assert picture.intrinsics is not None
    assert (picture.intrinsics.cx, picture.intrinsics.cy) == ((HEIGHT - 1) / 2, (WIDTH - 1) / 2)


def test_a_webp_bomb_stays_small() -> None:
    """In a process of its own, whose peak of memory is its own."""
    script = """
import io, resource, sys
from PIL import Image
from schemas.config import DecodeConfig
from schemas.reasons import Rejected
from schemas.records import Files, ImageRow
from transforms.decoding import decode
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(Files(data), ImageRow("id", "u", "u", "m:0"), DecodeConfig())
except Rejected as why:
    print(why.reason.value, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
"""
    size = 16_383
    bits = size - 1 | (size - 1) << 14
    body = b"VP8L" + struct.pack("<I", 6) + b"\x2f" + struct.pack("<I", bits) + b"\0"
    bomb = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    done = subprocess.run(
        [sys.executable, "-c", script], input=bomb, capture_output=True, check=True, cwd=Path(__file__).parents[2]
    )
    reason, grown_mb = done.stdout.split()
    assert reason in (b"too_many_pixels", b"truncated_image")
    assert int(grown_mb) < 100


def _oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _swapped_profile() -> bytes:
    data = bytearray(_srgb_profile())
    (count,) = struct.unpack(">I", data[128:132])
    tags = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _spot(size: tuple[int, int], at: tuple[float, float]) -> Image.Image:
    y, x = np.mgrid[: size[1], : size[0]]
    glow = 255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 40.0**2))
    return Image.fromarray(np.repeat(glow[..., None], 3, axis=2).astype(np.uint8))


def _centroid(picture: Picture) -> tuple[float, float]:
    light = np.asarray(Image.open(io.BytesIO(picture.data)).convert("L"), dtype=float)
    light[light < 20] = 0
    y, x = np.mgrid[: light.shape[0], : light.shape[1]]
    return float((x * light).sum() / light.sum()), float((y * light).sum() / light.sum())


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_large_picture_is_scaled_down_and_its_camera_with_it(kind: str, orientation: int) -> None:
    size, spot = (1_003, 757), (700.0, 200.0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _file(_spot(size, spot), kind, exif=exif)
    upright = decode(Files(data), ROW, DecodeConfig())
    # The spot is put where the principal point is: wherever pixels go, the camera must go with them.
    u, v = _centroid(upright)
    row = ImageRow("id", "u", "u", fx=900.0, fy=900.0, cx=u, cy=v)
    picture = decode(Files(data), row, DecodeConfig(max_side=200))
    assert max(picture.width, picture.height) == 200
    assert picture.sha256 == hashlib.sha256(data).hexdigest()
    camera = picture.intrinsics
    assert camera is not None
    assert _centroid(picture) == pytest.approx((camera.cx, camera.cy), abs=0.1)
    assert camera.fx == pytest.approx(900.0 * picture.width / upright.width)
    assert camera.fy == pytest.approx(900.0 * picture.height / upright.height)


def test_what_is_not_scaled_down() -> None:
    data = _file(_spot((1_000, 600), (500.0, 300.0)), "JPEG")
    assert decode(Files(data), ROW, DecodeConfig(max_side=1_000)).data == data
    assert decode(Files(data), ROW, DecodeConfig()).data == data
    for locations in ({"depth_location": "d.png"}, {"instances_location": "i.png"}):
        row = ImageRow("id", "u", "u", fx=900.0, fy=900.0, cx=500.0, cy=300.0, **locations)
        kept = decode(Files(data), row, DecodeConfig(max_side=100))
        assert (kept.data, kept.width) == (data, 1_000)
        assert kept.intrinsics is not None
        assert kept.intrinsics.fx == 900.0


def test_a_picture_without_a_camera_is_scaled_without_one() -> None:
    picture = _decode(_file(_spot((1_000, 600), (500.0, 300.0)), "JPEG"), max_side=100)
    assert (picture.width, picture.height, picture.intrinsics) == (100, 60, None)


def test_a_large_picture_that_is_cut_short_is_refused_or_salvaged() -> None:
    data = _file(_spot((1_000, 600), (500.0, 300.0)), "JPEG")
    assert _reject(data[: len(data) // 2], max_side=100).reason is Reason.TRUNCATED_IMAGE
    picture = _decode(data[: len(data) // 2], max_side=100, truncated="salvage")
    assert (picture.width, picture.height) == (100, 60)
