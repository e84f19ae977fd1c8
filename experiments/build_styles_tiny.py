"""Render the data set `styles-tiny`: `python experiments/build_styles_tiny.py --from FOLDER`.

FOLDER holds the six packages as `npm pack` writes them. The names are spread evenly over the
alphabet: 33 that all six styles draw, and one that two do, none of them a variant in skin tone. The
same packages give the same bytes.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from setar.data.styles import STYLES, build_styles, read_packages

OUT = Path(__file__).parents[1] / "src/setar/data/assets/styles-tiny"
SIZE = 32  # side of the pictures, in pixels


def choose(folder: Path) -> list[str]:
    """33 names that all styles draw and one that two do; without skin tones and flags."""
    drawings, _, _ = read_packages(folder)
    counts = Counter(drawing.name for drawing in drawings)
    plain = sorted(name for name in counts if "skin tone" not in name and "flag of" not in name)
    everywhere, twice = ([n for n in plain if counts[n] == number] for number in (len(STYLES), 2))
    chosen = [everywhere[index * len(everywhere) // 33] for index in range(33)]
    return [*chosen, twice[len(twice) // 2]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Render the data set styles-tiny.")
    parser.add_argument("--from", dest="folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=OUT)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=words.out.parent) as temporary:
        made = Path(temporary) / "made"
        print(build_styles(made, words.folder, SIZE, names=choose(words.folder)).drawings)
        # The licences' texts lie in the folder above.
        for text in made.glob("LICENSE-*"):
            text.unlink()
        notice = (made / "LICENSES.md").read_text()
        (made / "LICENSES.md").write_text(notice.replace("`LICENSE-", "`../LICENSE-"))
        made.rename(words.out)


if __name__ == "__main__":
    main()
