"""Do damaged and hostile pictures end in one line, in bounded memory, without starting a program?

    python benchmarks/hostile_pictures.py --pictures 100000 --seconds 600

Pictures of every format and mode are mutated (bytes flipped, numbers replaced by large ones, pieces
cut, doubled and exchanged) and read under every accepted ending. Prints how many were read and how
many refused, the largest memory and the slowest picture; ends with exit code 1 if anything but a
ValueError of one line came, the memory exceeded a gigabyte, or a process was started.
"""

import argparse
import io
import itertools
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from setar.data.decoding import ENDINGS
from setar.data.images import read_image

MODES = {
    "AVIF": ("RGB", "RGBA", "L"),
    "BMP": ("RGB", "L", "P", "1"),
    "GIF": ("P", "L"),
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
    "PPM": ("RGB", "L", "1", "I", "F"),
    "TIFF": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "F", "CMYK", "YCbCr", "LAB"),
    "WEBP": ("RGB", "RGBA"),
}
OPTIONS: dict[str, list[dict]] = {
    "JPEG": [{}, {"progressive": True}],
    "PNG": [{}, {"save_all": True}],
    "TIFF": [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}],
    "WEBP": [{}, {"lossless": True}, {"save_all": True}],
}
FOREIGN = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    b"%PDF-1.4\n",
    b"SIMPLE  =",
    b"P7\n",
)
"""Beginnings of formats that are not accepted."""
PROCESSES = ("subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn")
"""Events of `sys.audit` that start a program."""


def seeds() -> list[bytes]:
    """Small valid pictures of every format and mode, with and without EXIF."""
    noise = np.random.default_rng(0).integers(0, 256, (19, 23, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = []
    for kind, modes in MODES.items():
        for mode, options in itertools.product(modes, OPTIONS.get(kind, [{}])):
            grey = Image.fromarray(noise).convert("L")
            picture = grey.convert("I") if mode == "I;16" else Image.fromarray(noise)
            picture = Image.new(mode, (23, 19)) if mode == "LAB" else picture.convert(mode)
            more: dict = {} if kind in ("BMP", "GIF", "PPM") else {"exif": exif.tobytes()}
            if "save_all" in options:
                more["append_images"] = [picture.rotate(90)]
            stream = io.BytesIO()
            try:
                picture.save(stream, kind, **options, **more)
            except (KeyError, OSError, ValueError):  # no such format, mode or compression
                continue
            made.append(stream.getvalue())
    return [*made, *(start + bytes(noise[:4]) for start in FOREIGN)]


def mutants(sources: list[bytes], seed: int) -> Iterator[bytes]:
    """Endless damaged versions of some files."""
    draw = random.Random(seed)
    while True:
        content = bytearray(draw.choice(sources))
        for _ in range(draw.choice((1, 1, 2, 4, 16))):
            here = int(len(content) * draw.random() ** draw.choice((1, 3)))  # often near the start
            kind = draw.randrange(7)
            if kind == 0:
                content[here : here + 1] = bytes([draw.randrange(256)])
            elif kind == 1:
                content[here : here + 1] = bytes([draw.choice((0, 1, 127, 128, 254, 255))])
            elif kind == 2:
                width, order = draw.choice((2, 4, 8)), draw.choice(("little", "big"))
                number = draw.choice((0, 1, 2**15 - 1, 16383, 65535, 2**24, 2**31 - 1, 2**32 - 1))
                content[here : here + width] = (number % 256**width).to_bytes(width, order)
            elif kind == 3:
                del content[here:]
            elif kind == 4:
                content[here:here] = content[here : here + draw.randrange(1, 64)]
            elif kind == 5:
                del content[here : here + draw.randrange(1, 64)]
            else:
                other = draw.choice(sources)
                start = draw.randrange(len(other))
                content[here : here + 64] = other[start : start + draw.randrange(1, 256)]
        yield bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description="hostile pictures")
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started: list[str] = []
    sys.addaudithook(lambda event, _: started.append(event) if event in PROCESSES else None)
    sources, endings = seeds(), sorted(ENDINGS)
    base, began, slowest = _megabytes(), time.perf_counter(), 0.0
    outcomes, wrong = Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for number, content in enumerate(mutants(sources, options.seed)):
            if number == options.pictures or time.perf_counter() - began > options.seconds:
                break
            file = Path(folder) / f"a{endings[number % len(endings)]}"
            file.write_bytes(content)
            start = time.perf_counter()
            try:
                shape = read_image(file, (16, 16), "adm" if number % 2 else "lanczos").shape
                outcomes["read"] += 1
                assert shape == (3, 16, 16)
            except ValueError as error:
                outcomes["refused"] += 1
                if "\n" in str(error) or not str(error).startswith("cannot read the image"):
                    wrong.append(f"{number}: {error}")
            except BaseException as error:
                wrong.append(f"{number}: {type(error).__name__}: {error}")
            slowest = max(slowest, time.perf_counter() - start)
            file.unlink()
    print(f"{outcomes.total()} pictures of {len(sources)} seeds, {dict(outcomes)}")
    print(f"memory {_megabytes()} MB ({base} before); slowest {slowest:.2f} s; started {started}")
    print(*wrong[:20], sep="\n")
    sys.exit(bool(wrong or started or _megabytes() > 1000))


def _megabytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
