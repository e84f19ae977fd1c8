"""A picture that remembers, uploaded: what the controls say then, and the picture made again."""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from setar.pictures.memory import Memory, recall
from setar.pipeline import Pipeline
from setar.registry import one_line
from setar.web.limits import MOST_BYTES, MOST_TOKENS, count_of, number, seed_of, size_of, text_of
from setar.web.shelf import Shelf
from setar.web.watched import OnSet, Partial
from setar.web.wishes import Wish


@dataclass
class Alone:
    """A picture of a batch by itself, as a `Partial`."""

    step: int
    steps: int
    images: Callable[[], list[Image.Image]]


@dataclass(frozen=True)
class Remembered:
    """What a picture says of how it was made."""

    memory: Memory
    wish: Wish
    """Its settings, as a page's controls hold them."""
    size: str
    lacking: str = ""
    """Why it cannot be made again to the byte; empty of one that can."""

    @property
    def words(self) -> str:
        """What a person is told."""
        end = f"a like one: {self.lacking}" if self.lacking else "it again, to the byte"
        asked = one_line(self.memory.prompt or "a picture")[:80]
        return f"{asked}, seed {self.memory.seed}: Draw makes {end}"

    def is_asked(self, wish: Wish, size: Any) -> bool:
        """Whether the controls still say what it says, so that it is made again exactly."""
        said, own = [*astuple(wish), size], [*astuple(self.wish), self.size]
        return not self.lacking and [one or "" for one in said] == [one or "" for one in own]

    def make(self, pipe: Pipeline) -> Callable[[OnSet], Sequence[Image.Image]]:
        """What makes it again, set by set; alone, although the batch that it was in is made."""
        row = self.memory.row

        def again(on_set: OnSet) -> Sequence[Image.Image]:
            def one(partial: Partial) -> None:
                def images() -> list[Image.Image]:
                    return partial.images()[row : row + 1]

                on_set(Alone(partial.step, partial.steps, images))

            return [pipe.again(self.memory, one)]

        return again


def remembered(shelf: Shelf, file: Any) -> Remembered:
    """What an uploaded picture remembers.

    Raises:
        ValueError: it remembers nothing, no model of the studio made it, or it says what cannot be.
    """
    if not isinstance(file, str | Path) or not file:
        raise ValueError("choose a picture first")
    if Path(file).stat().st_size > MOST_BYTES:
        raise ValueError(f"the picture's file must have at most {MOST_BYTES // 2**20} MiB")
    try:
        memory = recall(Path(file))
    except ValueError as error:  # where it lies here is nobody's business
        raise ValueError(str(error).replace(str(file), "the picture")) from None
    if not memory.manifest:
        raise ValueError("the picture does not say which model made it")
    name = shelf.that_made(memory)
    pipe = shelf.pipe(name)
    wish, size = _wish(name, pipe, memory), _size(pipe, memory)
    return Remembered(memory, wish, size, _lacking(pipe, memory, size))


def _wish(name: str, pipe: Pipeline, memory: Memory) -> Wish:
    """The settings as controls hold them; ValueError if they cannot be."""
    chosen = pipe.defaults.changed(memory.sampling)
    asked = memory.asked[0] if memory.asked else None
    text = pipe.reads == "text"
    if isinstance(asked, int):
        asked = pipe.classes[pipe.class_id(asked)]
    said = text_of("prompt", asked) if isinstance(asked, str) else ""
    settings = chosen.settings
    return Wish(
        name,
        class_name="" if text else said,
        prompt=said if text else "",
        negative_prompt=text_of("negative prompt", memory.negative_prompt),
        recipe=text_of("recipe", str(chosen.recipe)),
        guidance=str(chosen.guidance.scale),
        schedule=chosen.guidance.schedule,
        temperature=str(settings.temperature),
        top_k=str(settings.top_k),
        top_p=str(settings.top_p),
        seed=seed_of(memory.seed),
        count=1 if memory.made == "image" else count_of(min(memory.count, 4)),
    )


def _size(pipe: Pipeline, memory: Memory) -> str:
    if memory.size is None:
        return ""
    height, width = size_of(pipe, "{}x{}".format(*memory.size))
    return f"{height}x{width}"


def _lacking(pipe: Pipeline, memory: Memory, size: str) -> str:
    """Why a picture cannot be made again here to the byte, or nothing."""
    rows, columns = pipe.grid_of(size_of(pipe, size))
    if memory.made != "image":
        return f"it is no single picture but {memory.note or memory.made}"
    if not memory.repeatable or len(memory.asked) != 1:
        return "it does not say what was asked for"
    if memory.precision != pipe.precision:
        return f"it was made in {memory.precision or 'ordinary float32'}, not {pipe.precision}"
    if not 1 <= number(memory.rows) <= max(1, MOST_TOKENS // (rows * columns)):
        return "it was made in a larger batch than one may ask for here"
    return ""
