"""Make docs/gallery.md and its pictures: what the model of texts can do, and what it cannot.

    python examples/gallery.py

One core makes it in a minute. Below each picture stands the command that makes it again; what is
said of a picture is in `SEEN`, written by somebody who looked at it.
"""

import argparse
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from setar import Pipeline
from setar.data.styles import STYLES, is_heldout
from setar.data.styles_tiny import FOLDER
from setar.generation import PartialImages
from setar.pictures.animations import save_animation
from setar.pictures.masks import box_mask, outpaint, show_mask
from setar.pictures.png import write_png
from setar.pictures.sheets import labelled_rows

SEEN: dict[str, str] = {
    "styles": "All of them are what they should be, a pizza mostly a slice; Twemoji's cat is a "
    "crumpled one. Styles differ most where their drawings do: cats, octopuses and ghosts.",
    "seeds": "Cats, hearts, houses, trees, cars and happy faces, each with small differences.",
    "beside": "Apples, dog faces, ghosts, rockets and stars on their sides. The pumpkins have "
    "the colour and not the shape.",
    "above": "Crowns above frogs, birds above houses, and suns below clouds.",
    "four": "Key, bell, candle and rose, each in its place; so are the fruits, of sorts.",
    "long": "A shape that it was never shown: animals and carriages fall to pieces.",
    "inpainting": "Colour and line go on, and end in a tail.",
    "outpainting": "A young face beside the ball.",
    "replacing": "The apple stays to the pixel; a ghost takes the place of the pizza.",
    "varying": "A bee remains a bee, even with most of its tokens anew.",
    "negative": "Without red the hearts are silver. A flower is not among what it draws well.",
    "paraphrases": "Kitties (not all happy), puppies and vehicles, which no caption has in these "
    "words. The king of the jungle, love and bad weather are beyond it, and cats do not turn "
    "green.",
}
"""What there is to see in the pictures of the shipped model, by file: good and bad. Whoever changes
the model or a prompt looks again and writes it anew; a file that is not here has no such line."""

TABLE = ("a red apple", "a cat face", "a rocket", "an octopus", "a ghost", "a penguin", "a pizza")
FREE = ("a cat", "a heart", "a house", "a tree", "a car", "a happy face")
BESIDE = (
    "a red apple next to a dog face|, Twemoji style",
    "a ghost to the left of a pumpkin|, Noto style",
    "a rocket next to a star|, Fluent style",
)
ABOVE = (
    "a crown above a frog|, Twemoji style",
    "a bird on top of a house|, Noto style",
    "a sun below a cloud|, EmojiOne style",
)
FOUR = (
    "a key and a bell |above a candle and a rose, Twemoji style",
    "a banana, a lemon, |a strawberry and a pear, Noto style",
)
LONG = ("a dog next to a cat |next to a mouse, Noto style", "a train|, Twemoji style")
AWAY = ("a heart", "red", "a flower", "Fluent style")
"""A prompt, what is led away from, and so on."""
PARAPHRASES = (
    "a happy kitty",
    "a very sad puppy",
    "the king of the jungle",
    "something to drink |on a cold morning",
    "a vehicle that flies to the moon",
    "I am in love",
    "bad weather",
    "a green cat",
)
APPEARING = (
    "a red apple, Noto style",
    "a cat face, Twemoji style",
    "a rocket, Fluent style",
    "an octopus, EmojiOne style",
)
INPAINTED = ("twemoji/shrimp.png", "a shrimp, Twemoji style")
OUTPAINTED = ("fluent-emoji/soccer-ball.png", "a soccer ball next to a baby, Fluent style")
VARIED = ("noto/honeybee.png", "a honeybee, Noto style")
REPLACED = (
    "a red apple next to a pizza, Twemoji style",
    "a red apple next to a ghost, Twemoji style",
)
SHARES = (0.2, 0.5, 0.8)
"""Of the tokens of a variation."""

COLOURS = 64
"""Of a picture; all of them together shall be small."""

Row = tuple[str, str, Sequence[Image.Image]]


class Gallery:
    """The page as far as it is written, and the pictures on it.

    Args:
        model: name or folder of the model.
        out: folder of the page; pictures go to its ``gallery``.
    """

    def __init__(self, model: str, out: Path) -> None:
        self.model, self.out, self.pipe = model, out, Pipeline.from_pretrained(model)
        self.width, self.height = self.pipe.size
        self.parts: list[str] = []
        self.made: dict[str, Sequence[Image.Image]] = {}
        self.commands: dict[str, list[str]] = {}
        (out / "gallery").mkdir(parents=True, exist_ok=True)

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """(height, width) of a picture of so many drawings."""
        return rows * self.height, columns * self.width

    def heading(self, title: str, text: str) -> None:
        """Begin a section."""
        self.parts.append(f"## {title}\n\n{text}")

    def rows(
        self, file: str, texts: Sequence[str], count: int, seed: int, side: int = 64, **how: Any
    ) -> None:
        """A picture with a row for each text, whose label goes on in a second line after ``|``."""
        prompts = [text.replace("|", "") for text in texts]
        made = self.pipe(prompts, count=count, seed=seed, **how)
        rows: list[Row] = []
        for index, text in enumerate(texts):
            first, _, second = text.partition("|")
            label = (first.strip(), second.removeprefix(",").strip())
            rows.append((*label, made[index * count :][:count]))
        self.picture(file, labelled_rows(rows, side=side), self.sample(prompts, count, seed, **how))
        self.made[file] = made

    def sample(
        self,
        prompts: Sequence[str],
        count: int,
        seed: int,
        size: tuple[int, int] | None = None,
        negative_prompt: str | None = None,
    ) -> str:
        """The command of a call."""
        words = [f"setar sample {shlex.quote(self.model)}"]
        words += [f"--prompt {quoted(prompt)}" for prompt in prompts]
        if negative_prompt:
            words.append(f"--negative-prompt {quoted(negative_prompt)}")
        last = f"--count {count} --seed {seed}"
        words.append(last if size is None else f"--size {size[0]}x{size[1]} {last}")
        return joined(words)

    def edited(self, image: str, prompt: str, what: str, count: int, seed: int) -> str:
        """The command of an edit."""
        words = [f"setar edit {shlex.quote(self.model)} {image}", f"--prompt {quoted(prompt)}"]
        return joined([*words, f"{what} --count {count} --seed {seed}"])

    def picture(self, file: str, picture: Image.Image, *commands: str) -> None:
        """Write a picture and show it with its commands, and with what is seen in it."""
        memory = getattr(picture, "memory", None)
        place = self.out / "gallery" / f"{file}.png"
        write_png(picture.quantize(COLOURS), place, memory, optimize=True)
        self.show(f"{file}.png", *commands)

    def show(self, name: str, *commands: str) -> None:
        """A picture that is written, on the page."""
        file = name.partition(".")[0]
        self.commands[file] = [*commands]
        seen = f"\n\n{SEEN[file]}" if file in SEEN else ""
        code = "\n".join(commands)
        self.parts.append(f"![{file}](gallery/{name})\n\n```bash\n{code}\n```{seen}")

    def page(self) -> str:
        """All of it."""
        return "\n\n".join(self.parts) + "\n"


def few_colours(picture: Image.Image) -> Image.Image:
    """A picture that makes a small file."""
    return picture.quantize(COLOURS).convert("RGB")


def quoted(prompt: str) -> str:
    """A prompt on the command line."""
    return f'"{prompt}"'


def joined(words: Sequence[str]) -> str:
    """A command in lines that are not too long."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < 110:
            lines[-1] += f" {word}"
        else:
            lines[-1] += " \\"
            lines.append(f"    {word}")
    return "\n".join(lines)


def styles(book: Gallery) -> None:
    """A table: names down, styles across."""
    book.heading(
        "One name, six styles",
        "The model has seen each name in most of the styles, but never in those after a *: there "
        "it puts together what the thing looks like and how the style draws.",
    )
    seed, words = 0, [style.words for style in STYLES.values()]
    prompts = [f"{name}, {style} style" for name in TABLE for style in words]
    made, across = book.pipe(prompts, seed=seed), len(words)
    rows: list[Row] = []
    for index, name in enumerate(TABLE):
        bare = name.partition(" ")[2]
        held = [style.words for key, style in STYLES.items() if is_heldout(key, bare)]
        marks = ", ".join(f"* {style}" for style in held)
        rows.append((name, marks, made[index * across :][:across]))
    names, kinds = (" ".join(map(quoted, texts)) for texts in (TABLE, words))
    book.picture(
        "styles",
        labelled_rows(rows, side=64, columns=words),
        f"for name in {names}; do\n    for style in {kinds}; do",
        '        echo "$name, $style style"\n    done\ndone > prompts.txt',
        f"setar sample {shlex.quote(book.model)} --prompts prompts.txt --count 1 --seed {seed}",
    )
    book.made["styles"] = made


def seeds(book: Gallery) -> None:
    """Prompts without a style."""
    book.heading(
        "No style: each seed has its own",
        "Nobody says which style, so every seed may choose another one.",
    )
    book.rows("seeds", FREE, 6, 100)


def scenes(book: Gallery) -> None:
    """Several drawings in one picture, at several sizes."""
    book.heading(
        "Scenes, at the size that you ask for",
        "The model takes any grid of tokens. It was trained on single drawings, on two side by "
        "side, on two above each other and on four, put together on the fly.",
    )
    book.rows("beside", BESIDE, 3, 200, 128, size=book.size(1, 2))
    book.rows("above", ABOVE, 4, 300, size=book.size(2, 1))
    book.rows("four", FOUR, 4, 400, 96, size=book.size(2, 2))
    book.parts.append("A size that it was never trained with, and what comes of it:")
    book.rows("long", LONG, 3, 500, 144, size=book.size(1, 3))


def appearing(book: Gallery) -> None:
    """Sets, one after the other."""
    steps = book.pipe.defaults.recipe.set_count(book.pipe.grid)
    book.heading(
        "Sets appear",
        f"`{book.pipe.defaults.recipe}`: {steps} steps, the first ones for a token or two, the "
        "last ones for many.",
    )
    frames: list[Image.Image] = []

    def keep(partial: PartialImages) -> None:
        frames.append(few_colours(labelled_rows([("", "", partial.images())], side=64)))

    book.made["appearing"] = book.pipe(APPEARING, seed=600, on_set=keep)
    save_animation(frames, book.out / "gallery" / "appearing.gif")
    command = book.sample(APPEARING, 1, 600)
    book.show("appearing.gif", f"{command} --animate outputs/appearing.gif")


def edits(book: Gallery) -> None:
    """Parts of pictures made anew."""
    book.heading(
        "Edit by prompt",
        "What lies outside the mask stays exactly as it is. The drawings are of `styles-tiny`, "
        "which comes with the package.",
    )
    file, prompt = INPAINTED
    image, where = drawing(file)
    box, count = (image.width // 2, 0, image.width, image.height), 6
    mask = box_mask(image.size, box)
    made = book.pipe.edit(image, mask, prompt, seed=700, count=count)
    rows = [("inpainting", prompt, [image, show_mask(image, mask), *made])]
    edges = ",".join(map(str, box))
    command = book.edited(where, prompt, f"--box {edges}", count, 700)
    book.picture("inpainting", labelled_rows(rows, side=64), command)
    book.made["inpainting"] = made

    file, prompt = OUTPAINTED
    image, where = drawing(file)
    margins, count = (0, 0, image.width, 0), 4
    task = outpaint(image, None, margins)
    made = book.pipe.outpaint(image, margins, prompt, seed=800, count=count)
    rows = [("outpainting", prompt, [show_mask(*task), *made])]
    edges = ",".join(map(str, margins))
    command = book.edited(where, prompt, f"--outpaint {edges}", count, 800)
    book.picture("outpainting", labelled_rows(rows, side=128), command)
    book.made["outpainting"] = made

    first, second = REPLACED
    size, count = book.size(1, 2), 3
    (image,) = book.pipe([first], size=size, seed=900)
    box = (book.width, 0, 2 * book.width, book.height)
    mask = box_mask(image.size, box)
    made = book.pipe.edit(image, mask, second, seed=901, count=count)
    rows = [("replacing by prompt", second, [image, show_mask(image, mask), *made])]
    edges = ",".join(map(str, box))
    book.picture(
        "replacing",
        labelled_rows(rows, side=128),
        f"{book.sample([first], 1, 900, size)} --each outputs/scene",
        book.edited("outputs/scene/000900-*.png", second, f"--box {edges}", count, 901),
    )
    book.made["replacing"] = made

    file, prompt = VARIED
    image, where = drawing(file)
    rows: list[Row] = [("the drawing", prompt, [image])]
    commands, count = list[str](), 6
    for share in SHARES:
        made = book.pipe.vary(image, share, prompt, seed=1000, count=count)
        rows.append((f"vary {share:g}", "", made))
        commands.append(book.edited(where, prompt, f"--vary {share:g}", count, 1000))
        book.made[f"vary {share:g}"] = made
    book.parts.append("Variations: a random share of the tokens is made anew.")
    book.picture("varying", labelled_rows(rows, side=64), *commands)


def drawing(file: str) -> tuple[Image.Image, str]:
    """A drawing of the package, and where it lies in a checkout."""
    with Image.open(FOLDER / file) as picture:
        return picture.convert("RGB"), f"src/setar/data/assets/{FOLDER.name}/{file}"


def negative(book: Gallery) -> None:
    """What guidance leads away from."""
    book.heading(
        "Negative prompts",
        "Guidance leads away from a text, in the place of no text. The same seeds without and with "
        "it:",
    )
    rows, commands, count = [], [], 6
    for prompt, away in zip(AWAY[::2], AWAY[1::2], strict=True):
        for label, text in (("", None), (f"not: {away}", away)):
            made = book.pipe([prompt], count=count, seed=1100, negative_prompt=text)
            rows.append((prompt, label, made))
            commands.append(book.sample([prompt], count, 1100, negative_prompt=text))
            book.made[f"{prompt}{label}"] = made
    book.picture("negative", labelled_rows(rows, side=64), *commands)


def paraphrases(book: Gallery) -> None:
    """Texts that no drawing is called by."""
    book.heading(
        "What no caption says",
        "Captions are names of emoji. These are not; whatever comes of them, comes from the text "
        "encoder, which knows that a kitty is a cat. Some work and some do not; they were written "
        "down before anybody saw a picture.",
    )
    book.rows("paraphrases", PARAPHRASES, 6, 1200)


def introduction(pipe: Pipeline, name: str) -> str:
    """What made the pictures."""
    millions = sum(parameter.numel() for parameter in pipe.model.parameters()) / 1e6
    (width, height), how = pipe.size, pipe.defaults
    return (
        f"`{name}` draws emoji that a text describes: {millions:.1f} M parameters, "
        f"{height}x{width} pixels for a drawing, `{how.recipe}`, guidance "
        f"{how.guidance.scale:g}, temperature {how.settings.temperature:g}. "
        "No picture was chosen among others: seeds follow one another, and each command makes "
        "the same pictures again, on a CPU in seconds. `python examples/gallery.py` writes it all."
    )


SECTIONS: tuple[Callable[[Gallery], None], ...] = (
    styles,
    seeds,
    scenes,
    appearing,
    edits,
    negative,
    paraphrases,
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", default="emoji-text", help="a shipped model or a model folder")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the page")
    options, began = parser.parse_args(), time.perf_counter()
    book = Gallery(options.model, options.out)
    book.parts.append(f"# Gallery\n\n{introduction(book.pipe, Path(options.model).name)}")
    for make in SECTIONS:
        make(book)
    (options.out / "gallery.md").write_text(book.page(), encoding="utf-8")
    total = sum(file.stat().st_size for file in (options.out / "gallery").iterdir()) / 1000
    seconds = time.perf_counter() - began
    print(f"{len(book.commands)} pictures, {total:.0f} kB in {seconds:.0f} s")
