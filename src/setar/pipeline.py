"""`setar.Pipeline`: a generator with its tokenizer and its classes, the object that users hold."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from setar import checkpoint
from setar.classes import Classes
from setar.config import build, table
from setar.device import find_device
from setar.files import is_text
from setar.models.base import FAMILIES, MAX_CLASSES, Generator
from setar.models.condition import CONDITIONS
from setar.numbers import as_whole, whole
from setar.pictures.masks import Task, hide, prepare
from setar.pictures.sheets import to_pil
from setar.pretrained import plugins_of, read_config, read_newest
from setar.recipes.orders import ORDERS, check_grid
from setar.recipes.recipe import Recipe
from setar.recipes.schedules import RESERVED, SCHEDULES
from setar.registry import quoted, require_plugins
from setar.sampling.edit import check_continuation, free_cells
from setar.sampling.generate import SetDone, check_smoothing, generate, noise_and_plan
from setar.sampling.guidance import GUIDANCE, Guidance
from setar.sampling.settings import SamplingDefaults
from setar.text import TextConfig, load_text_encoder
from setar.tokenizers.base import TOKENIZERS, Tokenizer, decode_codes, encode_images, to_uint8

MAX_IMAGES = 2**20
"""The most images of one call, about a million: their codes are all held in memory."""

MAX_BATCH = 2**16
"""The most images that go through a model at once: their logits are all held in memory."""

MAX_NAME = 255
"""The most characters of a class name: as many as a folder's may have."""


RULES = {"class": "a class is a name or a whole number", "text": "a prompt is text"}
"""What a model is asked with, by what it reads."""


class PartialImages:
    """What `on_set` receives: the images as far as they are known.

    Attributes:
        step: the set just finished, 1 .. ``steps``.
        steps: number of sets.
        first: index of this batch's first image among all images of the call.
        finish: what is done to each picture; an edit puts its image back around the mask.
    """

    finish: Callable[[Image.Image], Image.Image] = staticmethod(lambda picture: picture)

    def __init__(
        self, pipeline: "Pipeline", done: SetDone, first: int, grid: tuple[int, int] | None = None
    ) -> None:
        self.step, self.steps, self.first = done.step, done.steps, first
        self._pipeline, self._codes, self._grid = pipeline, done.codes, grid or pipeline.grid

    @torch.inference_mode()
    def images(self) -> list[Image.Image]:
        """Decoded pictures; pixels of tokens that are not known yet are light grey.

        Of a tokenizer of several scales, the pictures that the scales known so far make.
        """
        tokenizer, grid = self._pipeline.tokenizer, self._grid
        codes = self._codes.clamp_min(0)
        if tokenizer.scales is not None:
            stage = next(tokenizer.stages(codes, grid, self.step))
            return [self.finish(picture) for picture in to_pil(to_uint8(stage).cpu())]
        pixels = self._pipeline.decode(codes, grid)
        known = (self._codes >= 0).unflatten(1, grid).cpu()
        height, width = pixels.shape[-2] // grid[0], pixels.shape[-1] // grid[1]
        shown = known.repeat_interleave(height, 1).repeat_interleave(width, 2)[:, None]
        grey = torch.tensor(225, dtype=torch.uint8, device="cpu")
        return [self.finish(picture) for picture in to_pil(torch.where(shown, pixels, grey))]


class Pipeline:
    """Generates images of named classes, or of what a text says.

    >>> pipe = Pipeline.from_pretrained("emoji")
    >>> images = pipe("cat-face", recipe="random-8-cosine", seed=7, count=4)
    >>> pipe = Pipeline.from_pretrained("emoji-text")
    >>> images = pipe("a red apple next to a dog face, Twemoji style", size=(32, 64))

    Args:
        model: the generator, in evaluation mode.
        tokenizer: turns its codes into images.
        classes: name of each class id.
        defaults: sampling settings.
        data: the data set that it was trained on, a name or a folder; empty if that is not known.
        text: the text encoder of a model that reads texts, which has no classes.

    Attributes:
        reads: what it is asked with: ``class`` or ``text``.

    Raises:
        ValueError: these do not fit each other.
    """

    def __init__(
        self,
        model: Generator[Any],
        tokenizer: Tokenizer[Any],
        classes: Sequence[str] = (),
        defaults: SamplingDefaults | None = None,
        data: str = "",
        text: TextConfig | None = None,
    ) -> None:
        self.reads = model.condition.reads
        if (self.reads == "text") != (text is not None):
            raise ValueError(
                "a model that reads texts needs `text`, which encoder; others have none"
            )
        if text is None:
            check_names(classes)
            if len(classes) != model.config.classes:
                raise ValueError(f"{len(classes)} class names for {model.config.classes} classes")
        elif classes:
            raise ValueError("a model that reads texts has no classes")
        if tokenizer.vocabulary != model.config.vocabulary:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocabulary} codes, "
                f"the model {model.config.vocabulary}"
            )
        model.attach(tokenizer)
        self.model, self.tokenizer, self.classes = model, tokenizer, tuple(classes)
        self.defaults, self.data, self.text = defaults or SamplingDefaults(), data, text
        check_smoothing(model, self.defaults.settings)

    @classmethod
    def from_pretrained(
        cls,
        source: str | PathLike[str],
        device: str | torch.device = "cpu",
        sampling: Mapping[str, Any] | None = None,
    ) -> "Pipeline":
        """Load a shipped model by name, a model folder, a training run, or a hub id.

        Args:
            source: which.
            device: where it shall compute; ``auto`` is a GPU if there is one.
            sampling: changes of its defaults, as of `SamplingDefaults.changed`.

        Raises:
            ValueError: there is no such model, its files are wrong or damaged, it needs a plugin
                (`setar.load_plugin`), this machine has no such device, or a change is wrong.
        """
        place = find_device(device)
        if not isinstance(sampling, Mapping | None):
            raise ValueError(f"`sampling` must be a dict of settings, not {quoted(sampling)}")
        pipe = read_newest(source, cls._read)
        pipe.defaults = pipe.defaults.changed(sampling or {})
        check_smoothing(pipe.model, pipe.defaults.settings)
        pipe.model.to(place)
        pipe.tokenizer.to(place)
        return pipe

    @classmethod
    def _read(cls, folder: Path) -> "Pipeline":
        """The pipeline of a model folder, on the CPU."""
        config = read_config(folder)
        missing = {"model", "tokenizer", "classes"} - config.keys()
        if missing:
            raise ValueError(f"{folder} is no generator: config.json lacks {sorted(missing)}")
        require_plugins(config["plugins"], folder)
        defaults = build(SamplingDefaults, config.get("sampling", {}), str(folder), "sampling")
        names, data = config["classes"], config.get("data") or ""
        text = config.get("text")
        text = None if text is None else build(TextConfig, text, str(folder), "text")
        if not isinstance(data, str):
            raise ValueError(f"{folder}: `data` of config.json must be a name, not {quoted(data)}")
        try:
            if text is None:
                check_names(names)
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from error
        model = checkpoint.load_module(folder, "model", config["model"], FAMILIES)
        tokenizer = checkpoint.load_module(folder, "tokenizer", config["tokenizer"], TOKENIZERS)
        return cls(model, tokenizer, names, defaults, data, text)

    def describe(self) -> dict[str, Any]:
        """The content of ``config.json``."""
        model = checkpoint.describe(self.model, FAMILIES)
        tokenizer = checkpoint.describe(self.tokenizer, TOKENIZERS)
        recipe, guidance = self.defaults.recipe, self.defaults.guidance
        used = [
            (FAMILIES, model["family"]),
            (CONDITIONS, self.model.config.condition),
            (TOKENIZERS, tokenizer["family"]),
            (ORDERS, recipe.order),
            (GUIDANCE, guidance.schedule),
            *((SCHEDULES, name) for name in {recipe.schedule} - {*RESERVED}),
        ]
        return {
            "model": model,
            "tokenizer": tokenizer,
            "classes": list(self.classes),
            "data": self.data,
            **({} if self.text is None else {"text": table(self.text)}),
            "sampling": table(self.defaults),
            "plugins": plugins_of(*used),
        }

    def save_pretrained(
        self, folder: str | PathLike[str], half: bool = False, card: str = ""
    ) -> None:
        """Write a model folder that `from_pretrained` reads.

        Args:
            folder: where; a model that is there already is replaced.
            half: store weights as float16.
            card: text of a ``README.md`` (the model card).

        Raises:
            ValueError: an argument is wrong, or something is there already that is no model.
        """
        if not isinstance(folder, str | PathLike) or not isinstance(card, str):
            wrong = quoted(card if isinstance(folder, str | PathLike) else folder)
            raise ValueError(f"a folder is named by text or a path, a card is text, not {wrong}")
        states = {"model": self.model.state_dict(), "tokenizer": self.tokenizer.state_dict()}
        if half:
            states = {name: checkpoint.half(state) for name, state in states.items()}
        texts = {"README.md": card} if card else {}
        checkpoint.save(Path(folder), self.describe(), states, texts)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens; a VAR has the tokens of all its scales in one row."""
        return self.model.config.grid

    def grid_of(self, size: Sequence[SupportsIndex] | None) -> tuple[int, int]:
        """Rows and columns of the tokens of a picture of ``size`` (height, width) in pixels.

        None is the model's own size.

        Raises:
            ValueError: the model makes no pictures of this size.
        """
        if size is None:
            return self.grid
        sides = [as_whole(side) or 0 for side in _listed(size, "a size is (height, width)")]
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"`size` (={quoted(size)}) must be (height, width) in pixels")
        width, height = self.size
        if (sides[0], sides[1]) == (height, width):
            return self.grid
        if not self.model.any_grid:
            raise ValueError(
                f"`size` (={sides[0]}x{sides[1]}) must be {height}x{width}: this model makes no "
                "pictures of another size"
            )
        return check_grid(self.tokenizer.grid(sides[0], sides[1]))

    def condition_of(self, asked: Any) -> Tensor:
        """What the model reads of class names or ids, or of texts: a row for each of them.

        Raises:
            ValueError: there is no such class, or a text is none.
        """
        if self.text is None:
            return torch.tensor([self.class_id(name) for name in asked], device=self.device)
        encoder = load_text_encoder(self.text, self.device)
        return encoder.encode(asked).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of its pictures, in pixels."""
        codes = torch.zeros(1, math.prod(self.grid), dtype=torch.int64, device="cpu")
        height, width = self.decode(codes).shape[-2:]
        return width, height

    def class_id(self, name: str | SupportsIndex) -> int:
        """The id of a class given by name or id.

        Raises:
            ValueError: there is none, or several have this name.
        """
        if isinstance(name, str):
            return self._names.id(name)
        number = as_whole(name)
        if number is None:
            raise ValueError(f"a class is a name or a whole number, not {type(name).__name__}")
        if not 0 <= number < len(self.classes):
            raise ValueError(f"class id {number} is not in 0..{len(self.classes) - 1}")
        return number

    @cached_property
    def _names(self) -> Classes:
        return Classes(self.classes)

    def __call__(
        self, classes: str | SupportsIndex | Iterable[str | SupportsIndex], **options: Any
    ) -> list[Image.Image]:
        """Generate images; class by class or text by text, as PIL images.

        Args:
            classes: a class name or id, or a text if the model `reads` texts; or several.
            options: those of `sample_codes`: size, recipe, guidance, seed, count, on_set, ...

        Raises:
            ValueError: an argument is wrong.
        """
        grid = self.grid_of(options.get("size"))
        return to_pil(self.decode(self.sample_codes(classes, **options), grid))

    def sample_codes(
        self,
        classes: str | SupportsIndex | Iterable[str | SupportsIndex],
        *,
        size: Sequence[SupportsIndex] | None = None,
        recipe: str | Recipe | None = None,
        guidance: float | Guidance | None = None,
        seed: SupportsIndex | Iterable[SupportsIndex] = 0,
        count: int = 1,
        on_set: Callable[[PartialImages], None] | None = None,
        batch_size: int = 64,
        given: Tensor | None = None,
        negative_prompt: str | None = None,
        **settings: Any,
    ) -> Tensor:
        """Generate ``count`` images of each class or text, one after the other, as codes.

        Args:
            classes: a class name or id, or a text if the model `reads` texts; or several. Whole
                numbers here and below may be numpy's or torch's, and lists of them arrays.
            size: (height, width) in pixels; None is the model's own.
            recipe: any sampling recipe, whatever the model was trained with.
            guidance: a scale, which changes as the model's own guidance does; or a `Guidance`.
            seed: image i uses seed + i; or one seed for each image. A seed gives the same image in
                any batch up to rounding: float32 sums of few rows may end in another digit than
                those of many, and a token changes whose draw lies that near to an edge. (Set sizes
                of a random schedule are shared by the whole call.)
            count: images per class.
            on_set: called after each set of each batch with the partial images.
            batch_size: images generated at once.
            given: codes that are kept, int64 ``[images or 1, N]``; where they are -1, in all
                images, codes are made.
            negative_prompt: what guidance leads away from, in the place of no text.
            settings: fields of `SamplingSettings`: temperature, top_k, top_p, min_p, attention,
                cache, smoothing.

        Returns:
            Codes int64 ``[images, N]``. With smoothing they are soft: float ``[images, N, V]``.

        Raises:
            ValueError: an argument is wrong.
        """
        names = _listed(classes, RULES[self.reads])
        if not names:
            raise ValueError(f"there must be a {self.reads}")
        most = max(1, MAX_IMAGES // len(names))
        why = f"a call makes at most {MAX_IMAGES} images, all held in memory"
        count = whole("count", count, 1, most, why)
        batch_size = whole("batch_size", batch_size, 1, MAX_BATCH, "images of a batch are one step")
        images, grid = count * len(names), self.grid_of(size)
        seeds = _seeds(seed, images)
        if on_set is not None and not callable(on_set):
            raise ValueError(f"`on_set` must be a function, not {quoted(on_set)}")
        chosen = self.defaults.changed({"recipe": recipe, "guidance": guidance, **settings})
        self.check_sampling(chosen)
        free = None if given is None else self._planned(given, images, grid)
        own_precision = torch.autocast(self.device.type, enabled=False)  # whatever is set outside
        condition, null = self._conditions(names, negative_prompt)
        made = []
        for first in range(0, images, batch_size):
            batch = slice(first, first + batch_size)
            noise, plan = noise_and_plan(chosen.recipe, grid, seeds[batch], seeds[0], free)
            self.model.check(plan)
            rows = torch.arange(images)[batch] // count
            how = (chosen.guidance, chosen.settings, self._teller(on_set, first, grid))
            kept = None if given is None else given.expand(images, -1)[batch]
            away = None if null is None else null.expand(len(rows), *null.shape[1:])
            with own_precision:
                made.append(generate(self.model, condition[rows], plan, noise, *how, kept, away))
        return torch.cat(made)

    def _conditions(self, asked: list[Any], negative: str | None) -> tuple[Tensor, Tensor | None]:
        """What the model reads, a row of each, and what guidance leads away from if it is said."""
        condition = self.condition_of(asked)
        if negative is None:
            return condition, None
        if self.text is None:
            raise ValueError("`negative_prompt` is for models that read texts")
        return self.model.condition.alike(condition, self.condition_of([negative]))

    def check_sampling(self, chosen: SamplingDefaults) -> None:
        """Raise ValueError if the model cannot be sampled with these settings."""
        if not chosen.guidance.off and self.model.config.class_dropout == 0:
            raise ValueError(
                "this model was trained with `class_dropout` = 0 and knows no 'no class': "
                f"guidance (={chosen.guidance.scale:g}) must be {chosen.guidance.neutral:g}"
            )
        self.model.check_attention(chosen.settings.attention)
        check_smoothing(self.model, chosen.settings)

    def edit(
        self, image: Image.Image, mask: Any, class_: str | int, **options: Any
    ) -> list[Image.Image]:
        """Make what a mask covers anew; every pixel outside it stays as it is.

        Inpainting keeps the image's class, class-conditional editing asks for another one, and
        `setar.pictures.masks.outpaint` makes the image and the mask of outpainting.

        >>> mask = box_mask(image.size, (16, 0, 32, 32))
        >>> images = pipe.edit(image, mask, "cat-face", count=4)

        Args:
            image: in any mode, transparency is put on white. Unless it has the model's `size`, it
                is cropped in the middle and resized to it, and the mask with it.
            mask: a PIL image of the same size, white where the image is made anew; or bool
                ``[height, width]``.
            class_: name or id of the class, or a text if the model `reads` texts.
            options: those of `redraw`.

        Returns:
            ``count`` pictures of the model's size.

        Raises:
            ValueError: an argument is wrong, or the model cannot make these tokens.
        """
        return self.redraw(prepare(image, mask, self.size), class_, **options)

    def redraw(
        self,
        task: Task,
        class_: str | int,
        *,
        rounds: int = 2,
        on_set: Callable[[PartialImages], None] | None = None,
        **options: Any,
    ) -> list[Image.Image]:
        """`edit` of a picture and a mask that are prepared already.

        What lies under the mask has no influence on the results: a smooth filling hides it before
        the image is encoded (`setar.pictures.masks.hide`). But a filling disturbs the tokens around
        it, so there is a second round, in which each first result is the filling of its own.

        Args:
            task: picture and mask of the model's `size`, or of any that it makes.
            class_: name or id of the class, or a text if the model `reads` texts.
            rounds: 1 is twice as fast, and rougher.
            on_set: as in a call, in the last round.
            options: those of `sample_codes`. The kept tokens are one set more before those of the
                recipe; a VAR and a decoder-only model have their own recipe only, and the latter
                can only make the last tokens in raster order.
        """
        rounds = whole("rounds", rounds, 1, 100, "two are enough")
        if not isinstance(task, Task):
            raise ValueError(f"a task is a picture and a mask, prepared, not {type(task).__name__}")
        pixels = torch.from_numpy(np.asarray(task.image).copy()).permute(2, 0, 1)
        hidden = torch.from_numpy(np.asarray(task.mask) > 0)
        size = (task.image.height, task.image.width)
        grid = self.grid_of(size)
        free = free_cells(hidden, self.tokenizer.scales or (grid,))

        def tell(partial: PartialImages) -> None:
            if on_set is not None:
                partial.finish = lambda made: Image.composite(made, *task)
                on_set(partial)

        pictures = hide(pixels, hidden)[None]
        for remaining in reversed(range(rounds)):
            kept = encode_images(self.tokenizer, pictures).masked_fill(free, -1)
            last = on_set is not None and not remaining
            codes = self.sample_codes(
                class_, size=size, given=kept, on_set=tell if last else None, **options
            )
            pictures = torch.where(hidden, self.decode(codes, grid), pixels)
        return to_pil(pictures)

    def decode(self, codes: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Codes ``[B, N]``, or soft ones, to pictures uint8 ``[B, 3, H, W]`` on the CPU.

        ``grid`` is (rows, columns), by default the model's own.

        Raises:
            ValueError: these are no codes of this model.
        """
        grid = grid or self.grid
        self._check_codes("codes", codes, grid)
        return decode_codes(self.tokenizer, codes, grid)

    def _check_codes(self, name: str, codes: Tensor, grid: tuple[int, int], least: int = 0) -> None:
        """ValueError unless these are codes ``[B, N]`` from ``least`` on, or soft ones."""
        tokens, vocabulary = math.prod(grid), self.tokenizer.vocabulary
        if not isinstance(codes, Tensor):
            raise ValueError(f"`{name}` must be a tensor, not {type(codes).__name__}")
        soft = codes.is_floating_point()
        shape = (len(codes), tokens, *[vocabulary] * soft) if codes.ndim else ()
        if codes.dtype == torch.bool or codes.is_complex() or not shape or codes.shape != shape:
            found = f"of shape {list(codes.shape)}, {str(codes.dtype).removeprefix('torch.')}"
            raise ValueError(f"`{name}` ({found}) must be whole numbers [images, {tokens}]")
        if codes.numel() and not soft:
            low, high = (int(edge) for edge in codes.aminmax())
            if low < least or high >= vocabulary:
                raise ValueError(
                    f"`{name}` (={low}..{high}) must be from {least} to {vocabulary - 1}"
                )

    def _teller(
        self, on_set: Callable[[PartialImages], None] | None, first: int, grid: tuple[int, int]
    ) -> Callable[[SetDone], None] | None:
        """What the sampling loop tells of a batch, told to the user."""
        if on_set is None:
            return None
        return lambda done: on_set(PartialImages(self, done, first, grid))

    def _planned(self, given: Tensor, images: int, grid: tuple[int, int]) -> Tensor | None:
        """Which tokens ``[N]`` to plan around those given; None if the model plans all of them."""
        self._check_codes("given", given, grid, -1)
        tokens = math.prod(grid)
        if given.shape not in ((1, tokens), (images, tokens)):
            raise ValueError(
                f"`given` (of shape {list(given.shape)}) must be [{images} or 1, {tokens}]"
            )
        free = (given[0] < 0).cpu()
        if not free.any() or ((given < 0).cpu() != free).any():
            raise ValueError("`given` must be -1 at the same tokens of all images, at least at one")
        if self.model.editing == "suffix":
            check_continuation(free)
        return free if self.model.editing == "kept-first" else None


def check_names(names: Any) -> None:
    """ValueError unless these are class names: texts that can be printed on one line."""
    if not isinstance(names, Sequence) or isinstance(names, str | bytes):
        raise ValueError(f"`classes` must be a list of names, not {quoted(names)}")
    if not 1 <= len(names) <= MAX_CLASSES:
        raise ValueError(f"`classes` must be from 1 to {MAX_CLASSES} names, not {len(names)}")
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"`classes` must be a list of names; {quoted(name)} is none")
        if not 1 <= len(name) <= MAX_NAME:
            raise ValueError(
                f"a class name must have from 1 to {MAX_NAME} characters, not {len(name)}"
            )
        if not is_text(name):
            raise ValueError(f"the class name {quoted(name)} holds a character that is no text")


def _listed(value: Any, rule: str) -> list[Any]:
    """One thing, or several, as a list; ValueError with the rule if it is neither."""
    if isinstance(value, str) or as_whole(value) is not None:
        return [value]
    if isinstance(value, Iterable) and not isinstance(value, bytes) and getattr(value, "ndim", 1):
        found = list(islice(value, MAX_IMAGES + 1))
        if len(found) <= MAX_IMAGES:
            return found
        raise ValueError(f"a call makes at most {MAX_IMAGES} images, all held in memory")
    raise ValueError(f"{rule}, not {type(value).__name__}")


def _seeds(seed: Any, images: int) -> list[int]:
    """A seed for each image."""
    if (first := as_whole(seed)) is not None:
        seeds = range(first, first + images)
    else:
        seeds = _listed(seed, "a seed is a whole number, or there is one for each image")
    if len(seeds) != images:
        raise ValueError(f"{len(seeds)} seeds for {images} images; give one seed or one per image")
    found = [as_whole(value) for value in seeds]
    for value, number in zip(seeds, found, strict=True):
        if number is None or not 0 <= number < 2**63:
            raise ValueError(
                f"a seed (={quoted(value)}) must be a whole number from 0 to 2**63 - 1"
            )
    return [number for number in found if number is not None]
