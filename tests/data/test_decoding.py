"""Pictures of every format and mode, upright, within limits; what cannot be read is one line."""

import io
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from setar.data import decoding
from setar.data.decoding import FORMATS, check_image, max_pixels, open_image, to_rgb
from setar.data.images import read_image

RAMP = np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16)
GREY = Image.fromarray((RAMP // 257).astype(np.uint8))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(bits, colour, rows, *chunks, size=(40, 30)):
    """A PNG file of rows of bytes, each without its filter byte."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data + chunk(b"IEND", b"")


def saved(file, picture, **options):
    picture.save(file, **options)
    return file


def mean(file):
    return np.asarray(open_image(file)).mean()


# Levels


BIG = [row.astype(">u2").tobytes() for row in RAMP]
BIG_RGB = [np.repeat(row[:, None], 3, 1).astype(">u2").tobytes() for row in RAMP]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(16, 0, BIG), 127),
        (png(16, 0, BIG, chunk(b"tRNS", struct.pack(">H", 0))), 127 + 255 / 1200),
        (png(16, 2, BIG_RGB), 127.5),
        (png(16, 2, BIG_RGB, chunk(b"tRNS", struct.pack(">HHH", 0, 0, 0))), 127.5 + 5 * 255 / 1200),
        (png(4, 0, [b"\x77" * 20] * 30), 119),
        (png(4, 0, [b"\x77" * 20] * 30, chunk(b"tRNS", struct.pack(">H", 7))), 255),
        (png(2, 0, [b"\x55" * 10] * 30, chunk(b"tRNS", struct.pack(">H", 1))), 255),
        (png(1, 0, [b"\xf0" * 5] * 30, chunk(b"tRNS", struct.pack(">H", 0))), 255),
        (b"P5 40 30 65535\n" + b"".join(BIG), 127),
        (b"P5 40 30 1000\n" + b"\0\1" * 1200, 0),
        (b"Pf 40 30 -1\n" + (RAMP / 65535).astype("<f4").tobytes(), 127.5),
        (b"Pf 40 30 -1\n" + (RAMP / 257).astype("<f4").tobytes(), 127.5),
    ],
)
def test_levels_of_files(tmp_path, content, expected):
    (tmp_path / "a.png").write_bytes(content)
    assert mean(tmp_path / "a.png") == pytest.approx(expected, abs=0.3)


def tiff(bits, data, photometric=1, sample=1):
    """An uncompressed TIFF file of 40x30 grey levels; ``photometric`` 0: the lowest is white."""
    tags = {256: 40, 257: 30, 258: bits, 259: 1, 262: photometric, 273: 200, 277: 1, 278: 30}
    tags |= {279: len(data), 339: sample}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries
    return head.ljust(200, b"\0") + data


def in_twelve_bits(levels):
    pairs = (levels >> 4).astype(np.uint32).reshape(-1, 2)
    first, second = pairs[:, 0], pairs[:, 1]
    parts = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
    return np.stack(parts, 1).astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    "content",
    [
        tiff(16, RAMP.tobytes()),
        tiff(16, (65535 - RAMP).tobytes(), photometric=0),
        tiff(12, in_twelve_bits(RAMP)),
        tiff(8, np.asarray(GREY).tobytes()),
        tiff(8, (255 - np.asarray(GREY)).tobytes(), photometric=0),
        tiff(32, (RAMP / 65535).astype("<f4").tobytes(), sample=3),
        tiff(32, (1 - RAMP / 65535).astype("<f4").tobytes(), photometric=0, sample=3),
        tiff(32, RAMP.astype("<i4").tobytes(), sample=2),
    ],
)
def test_a_ramp_in_tiff_goes_from_black_to_white(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    found = np.asarray(open_image(tmp_path / "a.tif"))
    assert found[0, 0].tolist() == [0, 0, 0]
    assert found[-1, -1].tolist() == [255, 255, 255]
    assert np.abs(found[..., 0] - RAMP / 257).max() <= 1


def lab():
    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    return ImageCms.profileToProfile(GREY.convert("RGB"), *profiles, outputMode="LAB")


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        (Image.fromarray(RAMP), "a.tif"),
        (Image.fromarray(RAMP.astype(np.int32)), "a.tif"),
        (Image.fromarray((RAMP / 65535).astype(np.float32)), "a.tif"),
        (Image.fromarray((RAMP / 257).astype(np.float32)), "a.tif"),
        (Image.fromarray(RAMP.astype(np.float32)), "a.tif"),
        (GREY.convert("RGB").convert("CMYK"), "a.tif"),
        (GREY.convert("RGB").convert("CMYK"), "a.jpg"),
        (GREY.convert("RGB").convert("YCbCr"), "a.jpg"),
        (GREY.convert("LA"), "a.tif"),
        (lab(), "a.tif"),
        (GREY, "a.avif"),
        (GREY, "a.jfif"),
        (GREY, "a.pgm"),
    ],
)
def test_a_ramp_has_its_mean_in_any_mode(tmp_path, picture, name):
    if name.endswith("avif") and "AVIF" not in FORMATS:
        pytest.skip("this Pillow reads no AVIF")
    kind = {"jfif": "JPEG"}.get(name[2:])
    assert mean(saved(tmp_path / name, picture, format=kind)) == pytest.approx(127.3, abs=1)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RAMP.astype(np.int32), 127),
        ((RAMP // 257).astype(np.int32), 127),
        ((RAMP / 65535).astype(np.float32), 127.5),
        (np.ones((30, 40), np.float32), 255),
        (np.zeros((30, 40), np.float32), 0),
        (RAMP.astype(">u2"), 127),
    ],
)
def test_the_largest_level_says_what_white_is(array, expected):
    picture = to_rgb(Image.fromarray(array))
    assert picture.mode == "RGB"
    assert np.asarray(picture).mean() == pytest.approx(expected, abs=0.01)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("level", "kind"), [(np.nan, "f4"), (np.inf, "f4"), (-1, "f4"), (-1, "i4"), (65536, "i4")]
)
def test_levels_that_mean_nothing_are_refused(level, kind):
    array = np.zeros((3, 4), kind)
    array[1, 2] = level
    if level is np.nan:
        array.view("u4")[0, 0] = 0x7F800001  # a signalling one
    with pytest.raises(
        ValueError, match=r"\Aits grey levels must be from 0 to 65535, not [^\n]+\Z"
    ):
        to_rgb(Image.fromarray(array))


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(ValueError, match="it has no pixels"):
        to_rgb(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("mode", ["La", "PA", "RGBa", "HSV", "1", "LA", "RGBX"])
def test_any_mode_of_a_white_picture_is_white(mode):
    white = Image.new("L", (5, 4), 255).convert("RGB")
    between = {"La": "LA", "PA": "P", "RGBa": "RGBA"}
    for step in (between.get(mode, mode), mode):
        white = white.convert(step)
    assert np.asarray(to_rgb(white)).min() == 255


def test_a_picture_of_many_bands_is_that_of_one(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    whole = to_rgb(Image.fromarray(pixels))
    monkeypatch.setattr(decoding, "BAND", 100)
    assert np.array_equal(to_rgb(Image.fromarray(pixels)), whole)


# Orientation


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_a_viewer_does(tmp_path, ending, orientation):
    if ending == "avif" and "AVIF" not in FORMATS:
        pytest.skip("this Pillow reads no AVIF")
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = saved(tmp_path / f"a.{ending}", Image.fromarray(pixels), exif=exif)
    with Image.open(file) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert expected.shape == ((6, 8, 3) if orientation < 5 else (8, 6, 3))
    assert np.array_equal(open_image(file), expected)
    assert np.array_equal(to_rgb(open_image(file)), expected), "it is turned once only"
    with Image.open(file) as picture:
        assert np.array_equal(to_rgb(picture.convert("RGB")), expected)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x", b"Exif\0\0MM"]
)
def test_damaged_exif_is_ignored(tmp_path, exif):
    file = saved(tmp_path / "a.jpg", Image.new("RGB", (8, 6)), exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(file).size == (8, 6)


# Formats and limits


def test_what_the_file_holds_decides_and_not_its_name(tmp_path):
    file = saved(tmp_path / "a.gif", Image.new("RGB", (8, 6), (1, 2, 3)), format="PNG")
    assert open_image(file).getpixel((0, 0)) == (1, 2, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        b"%PDF-1.4\n",
        b"",
        b"no picture",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_other_formats_are_not_tried(tmp_path, content):
    started = []
    sys.addaudithook(lambda event, _: started.append(event) if "Popen" in event else None)
    (tmp_path / "a.png").write_bytes(content)
    for read in (open_image, check_image):
        with pytest.raises(ValueError, match=r"\Acannot read the image [^\n]*a\.png: [^\n]+\Z"):
            read(tmp_path / "a.png")
    assert not started
    assert "EPS" not in FORMATS


def claiming(kind, width, height):
    """A file that claims a size that it has no pixels for."""
    if kind == "WEBP":
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + sides + b"ANMF"
        return b"RIFF" + struct.pack("<I", len(body)) + body
    if kind == "lossless WEBP":
        body = b"WEBPVP8L" + struct.pack("<IBI", 10, 0x2F, width - 1 | height - 1 << 14) + b"\0" * 9
        return b"RIFF" + struct.pack("<I", len(body)) + body
    if kind == "PNG":
        return png(8, 2, [], size=(width, height))
    if kind == "GIF":
        screen = struct.pack("<HH", width, height)
        return b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0" + screen + b"\0\2\2D\1\0;"
    if kind == "PPM":
        return b"P6 %d %d 255\n" % (width, height)
    if kind == "TIFF tiles":  # of a picture of 10x10 pixels
        sides = {256: 10, 257: 10, 322: width, 323: height}
        rest = {258: 8, 259: 5, 262: 1, 277: 1, 324: 200, 325: 20}
        tags = sorted({**sides, **rest}.items())
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0" * 200
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "BMP")
    content = bytearray(stream.getvalue())
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


KINDS = ["WEBP", "lossless WEBP", "PNG", "GIF", "PPM", "TIFF tiles", "BMP"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [8000, 16383])
def test_the_size_is_refused_before_decoding(tmp_path, kind, side):
    resource = pytest.importorskip("resource")
    (tmp_path / "a.png").write_bytes(claiming(kind, side, side))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (open_image, check_image):
        with pytest.raises(ValueError, match="that are allowed"):
            read(tmp_path / "a.png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000, "kilobytes"


def test_the_user_says_how_large_pictures_may_be(tmp_path, monkeypatch):
    file = saved(tmp_path / "a.png", Image.new("1", (10000, 10000)))
    with pytest.raises(ValueError, match="10000x10000 pixels are more than the 50000000 that are"):
        open_image(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv("SETAR_MAX_PIXELS", "200000000")
    check_image(file)
    monkeypatch.setenv("SETAR_MAX_PIXELS", "30")
    small = saved(tmp_path / "b.png", Image.new("RGB", (8, 4)))
    with pytest.raises(
        ValueError, match=r"8x4 pixels are more than the 30 that are allowed \(SETAR"
    ):
        open_image(small)
    assert max_pixels() == 30
    for wrong in ("many", "-1", "0", "1e9", "1\n2", "9" * 5000):
        monkeypatch.setenv("SETAR_MAX_PIXELS", wrong)
        with pytest.raises(ValueError, match=r"\ASETAR_MAX_PIXELS [^\n]+ must be a number[^\n]+\Z"):
            max_pixels()


def test_threads_together_decode_no_more_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("SETAR_MAX_PIXELS", "100")
    most, inside = [], []

    def decode(pixels):
        with decoding._decoding.room_for(pixels):
            inside.append(pixels)
            most.append(sum(inside))
            time.sleep(0.01)
            inside.remove(pixels)

    threads = [threading.Thread(target=decode, args=(size,)) for size in [60, 30, 30, 90, 100] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == 20
    assert max(most) <= 100
    assert decoding._decoding.pixels == 0


# Damage


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "bmp", "tif", "ppm", "avif"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_found_without_decoding_and_told(tmp_path, ending, part):
    if ending == "avif" and "AVIF" not in FORMATS:
        pytest.skip("this Pillow reads no AVIF")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    file = saved(tmp_path / f"a.{ending}", Image.fromarray(pixels))
    check_image(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])
    for read in (open_image, check_image):
        with pytest.raises(ValueError, match=r"\Acannot read the image [^\n]+\Z") as error:
            read(file)
    if ending not in ("tif", "avif"):
        assert "truncated" in str(error.value)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        struct.error("y"),
        MemoryError(),
        RecursionError(),
        AttributeError(),
        OverflowError("a\nb"),
    ],
)
def test_whatever_a_decoder_raises_is_one_line(tmp_path, monkeypatch, error):
    file = saved(tmp_path / "a.png", Image.new("RGB", (8, 4)))

    def fail(*_):
        raise error

    monkeypatch.setattr(decoding, "to_rgb", fail)
    with pytest.raises(ValueError, match=r"\Acannot read the image [^\n]+a\.png: [^\n]+\Z"):
        open_image(file)


def test_damaged_tiff_prints_nothing(tmp_path, capfd):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    file = saved(tmp_path / "a.tif", Image.fromarray(pixels), compression="tiff_adobe_deflate")
    content = bytearray(file.read_bytes())
    content[100:200] = bytes(100)
    file.write_bytes(content)
    with pytest.raises(ValueError, match="cannot read the image"):
        read_image(file)
    assert capfd.readouterr() == ("", "")


READ = """
import re, sys, torch
from pathlib import Path
from setar.data.images import FolderImages
def most():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
images = FolderImages(sys.argv[1], 8)
before = most()
images[torch.arange(len(images))]
print(most() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise")
def test_threads_do_not_keep_the_memory_of_large_pictures(tmp_path):
    """Each picture takes 100 MB as it is stored, and as much as RGB."""
    large = Image.new("RGBA", (5000, 5000), (1, 2, 3, 4))
    for number in range(4):
        saved(tmp_path / f"{number}.png", large, compress_level=1)
    command = [sys.executable, "-c", READ, str(tmp_path)]
    limits = {**os.environ, "SETAR_MAX_PIXELS": "25000000"}
    done = subprocess.run(command, capture_output=True, text=True, env=limits, check=True)
    assert 150 < int(done.stdout) < 300, "megabytes"
