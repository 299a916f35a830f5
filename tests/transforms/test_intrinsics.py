import io
import math

import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from schemas.records import ImageRow, Intrinsics
from transforms import intrinsics as module
from transforms.intrinsics import from_exif, from_fov, resized, resolve, usable

TAG = ExifTags.Base


def row(**known):
    return ImageRow("id", "a.jpg", "a.jpg", **known)


def exif(size=(400, 300), make=None, model=None, orientation=None, **detail):
    """An EXIF block that has been through a real JPEG file."""
    block = Image.Exif()
    for tag, value in ((TAG.Make, make), (TAG.Model, model), (TAG.Orientation, orientation)):
        if value is not None:
            block[tag] = value
    block.get_ifd(ExifTags.IFD.Exif).update({TAG[name]: value for name, value in detail.items()})
    data = io.BytesIO()
    Image.new("RGB", size).save(data, format="JPEG", exif=block)
    return Image.open(data).getexif()


def test_manifest_first():
    found = resolve(row(fx=500.0, fy=510.0, cx=300.0, cy=250.0), exif(FocalLengthIn35mmFilm=26), 640, 480)
    assert found == Intrinsics(500, 510, 300, 250, "manifest")


def test_manifest_leaves_out_what_is_usual():
    assert resolve(row(fx=500.0), None, 640, 480) == Intrinsics(500, 500, 319.5, 239.5, "manifest")


def test_manifest_field_of_view():
    found = resolve(row(fov_deg=90.0), None, 640, 480)
    assert found.fx == found.fy == pytest.approx(320)
    assert found.source == "manifest"


@pytest.mark.parametrize("fx", [0.0, -5.0, math.nan, math.inf, 1e-9, 1e9])
def test_an_impossible_focal_length_is_not_known(fx):
    assert resolve(row(fx=fx), None, 640, 480) is None
    assert resolve(row(fx=fx), exif(FocalLengthIn35mmFilm=26), 400, 300).source == "exif"


def test_impossible_parts_fall_back_to_the_usual():
    found = resolve(row(fx=500.0, fy=math.nan, cx=math.inf), None, 640, 480)
    assert found == Intrinsics(500, 500, 319.5, 239.5, "manifest")


@pytest.mark.parametrize("fov_deg", [0.0, -3.0, 180.0, 400.0, math.nan])
def test_an_impossible_field_of_view_is_not_known(fov_deg):
    assert from_fov(fov_deg, 640, 480, "model") is None


def test_35_mm_equivalent_compares_diagonals():
    found = from_exif(exif(size=(4000, 3000), FocalLengthIn35mmFilm=26, DigitalZoomRatio=2.0), 4000, 3000)
    assert found.fx == pytest.approx(26 * 5000 / 43.267, rel=1e-4)
    assert (found.cx, found.cy, found.source) == (1999.5, 1499.5, "exif")


def test_a_smaller_copy_has_a_smaller_focal_length():
    block = exif(FocalLengthIn35mmFilm=26, ExifImageWidth=4000, ExifImageHeight=3000)
    assert from_exif(block, 800, 600).fx == pytest.approx(26 * 1000 / 43.267, rel=1e-4)


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_a_turned_picture(orientation):
    block = exif(FocalLengthIn35mmFilm=26, ExifImageWidth=4000, ExifImageHeight=3000, orientation=orientation)
    found = from_exif(block, 3000, 4000)
    assert found.fx == pytest.approx(26 * 5000 / 43.267, rel=1e-4)
    assert (found.cx, found.cy) == (1499.5, 1999.5)


def test_a_cropped_picture_says_nothing():
    block = exif(FocalLengthIn35mmFilm=26, ExifImageWidth=4000, ExifImageHeight=3000)
    assert from_exif(block, 3000, 3000) is None


def test_sensor_resolution_and_digital_zoom():
    """A 22.3 mm wide sensor of 5184 pixels, 50 mm lens: 50 / 22.3 · 5184 pixels."""
    per_inch = 5184 / 22.3 * 25.4
    detail = {
        "FocalLength": IFDRational(50, 1),
        "FocalPlaneXResolution": IFDRational(round(per_inch * 100), 100),
        "FocalPlaneResolutionUnit": 2,
        "ExifImageWidth": 5184,
        "ExifImageHeight": 3456,
    }
    assert from_exif(exif(**detail), 5184, 3456).fx == pytest.approx(50 / 22.3 * 5184, rel=1e-3)
    assert from_exif(exif(**detail), 2592, 1728).fx == pytest.approx(50 / 22.3 * 2592, rel=1e-3)
    zoomed = exif(**detail, DigitalZoomRatio=IFDRational(3, 2))
    assert from_exif(zoomed, 5184, 3456).fx == pytest.approx(1.5 * 50 / 22.3 * 5184, rel=1e-3)


def test_sensor_table(monkeypatch):
    monkeypatch.setattr(module, "crop_factor", lambda make, model: 1.6 if (make, model) == ("Maker", "Box 1") else None)
    detail = {"FocalLength": IFDRational(30, 1)}
    found = from_exif(exif(make="Maker", model="Box 1", **detail), 3000, 2000)
    assert found.fx == pytest.approx(30 * 1.6 * math.hypot(3000, 2000) / math.hypot(36, 24))
    assert from_exif(exif(make="Maker", model="Box 2", **detail), 3000, 2000) is None


def test_crop_factor_of_real_cameras():
    pytest.importorskip("lensfunpy")
    assert module.crop_factor("NIKON CORPORATION", "NIKON D3S") == pytest.approx(1)
    assert module.crop_factor("Canon", "Canon PowerShot G12") == pytest.approx(4.63, abs=0.01)
    assert module.crop_factor("Nobody", "Nothing") is None


@pytest.mark.parametrize(
    "detail",
    [
        {},
        {"FocalLength": IFDRational(0, 0)},
        {"FocalLength": IFDRational(5, 1)},
        {"FocalLengthIn35mmFilm": 0},
        {"FocalLengthIn35mmFilm": 60000},
        {"FocalLength": IFDRational(5, 1), "FocalPlaneXResolution": IFDRational(0, 1)},
        {"FocalLength": IFDRational(5, 1), "FocalPlaneXResolution": IFDRational(100, 1), "FocalPlaneResolutionUnit": 9},
    ],
)
def test_an_empty_or_absurd_block_says_nothing(detail):
    assert from_exif(exif(**detail), 400, 300) is None


def test_resizing_carries_the_axis_along():
    assert resized(Intrinsics(500, 400, 319.5, 239.5, "exif"), (640, 480), (1280, 960)) == Intrinsics(
        1000, 800, 639.5, 479.5, "exif"
    )
    back = resized(resized(Intrinsics(500, 400, 100.25, 7.0, "exif"), (640, 480), (333, 77)), (333, 77), (640, 480))
    assert (back.fx, back.fy, back.cx, back.cy) == pytest.approx((500, 400, 100.25, 7.0))


def test_usable():
    assert usable(Intrinsics(500, 500, 320, 240, "model"))
    for bad in (0, -1, math.nan, math.inf):
        assert not usable(Intrinsics(bad, 500, 320, 240, "model"))
        assert not usable(Intrinsics(500, bad, 320, 240, "model"))
    assert not usable(Intrinsics(500, 500, math.nan, 240, "model"))
