"""`setar.Pipeline`: a generator with its tokenizer and its classes, the object that users hold."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from setar import checkpoint
from setar.config import build, table
from setar.models.base import FAMILIES, Generator
from setar.models.condition import CONDITIONS
from setar.pictures.masks import Task, hide, prepare
from setar.pictures.sheets import to_pil
from setar.pretrained import locate, plugins_of, read_config
from setar.recipes.orders import ORDERS
from setar.recipes.recipe import Recipe
from setar.recipes.schedules import RESERVED, SCHEDULES
from setar.registry import did_you_mean, require_plugins
from setar.sampling.edit import check_continuation, free_cells
from setar.sampling.generate import SetDone, check_smoothing, generate, noise_and_plan
from setar.sampling.guidance import GUIDANCE, Guidance
from setar.sampling.settings import SamplingDefaults
from setar.tokenizers.base import TOKENIZERS, Tokenizer, decode_codes, encode_images, to_uint8


class PartialImages:
    """What `on_set` receives: the images as far as they are known.

    Attributes:
        step: the set just finished, 1 .. ``steps``.
        steps: number of sets.
        first: index of this batch's first image among all images of the call.
        finish: what is done to each picture; an edit puts its image back around the mask.
    """

    finish: Callable[[Image.Image], Image.Image] = staticmethod(lambda picture: picture)

    def __init__(self, pipeline: "Pipeline", done: SetDone, first: int) -> None:
        self.step, self.steps, self.first = done.step, done.steps, first
        self._pipeline, self._codes = pipeline, done.codes

    @torch.inference_mode()
    def images(self) -> list[Image.Image]:
        """Decoded pictures; pixels of tokens that are not known yet are light grey.

        Of a tokenizer of several scales, the pictures that the scales known so far make.
        """
        tokenizer, grid = self._pipeline.tokenizer, self._pipeline.grid
        codes = self._codes.clamp_min(0)
        if tokenizer.scales is not None:
            stage = next(tokenizer.stages(codes, grid, self.step))
            return [self.finish(picture) for picture in to_pil(to_uint8(stage).cpu())]
        pixels = self._pipeline.decode(codes)
        known = (self._codes >= 0).unflatten(1, grid).cpu()
        height, width = pixels.shape[-2] // grid[0], pixels.shape[-1] // grid[1]
        shown = known.repeat_interleave(height, 1).repeat_interleave(width, 2)[:, None]
        grey = torch.tensor(225, dtype=torch.uint8)
        return [self.finish(picture) for picture in to_pil(torch.where(shown, pixels, grey))]


class Pipeline:
    """Generates images of named classes.

    >>> pipe = Pipeline.from_pretrained("emoji")
    >>> images = pipe("cat-face", recipe="random-8-cosine", seed=7, count=4)

    Args:
        model: the generator, in evaluation mode.
        tokenizer: turns its codes into images.
        classes: name of each class id.
        defaults: sampling settings.
        data: the data set that it was trained on, a name or a folder; empty if that is not known.

    Raises:
        ValueError: these do not fit each other.
    """

    def __init__(
        self,
        model: Generator[Any],
        tokenizer: Tokenizer[Any],
        classes: Sequence[str],
        defaults: SamplingDefaults | None = None,
        data: str = "",
    ) -> None:
        if len(classes) != model.config.classes:
            raise ValueError(f"{len(classes)} class names for {model.config.classes} classes")
        if tokenizer.vocabulary != model.config.vocabulary:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocabulary} codes, "
                f"the model {model.config.vocabulary}"
            )
        model.attach(tokenizer)
        self.model, self.tokenizer, self.classes = model, tokenizer, tuple(classes)
        self.defaults, self.data = defaults or SamplingDefaults(), data
        check_smoothing(model, self.defaults.settings)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, device: str = "cpu", sampling: Mapping[str, Any] | None = None
    ) -> "Pipeline":
        """Load a shipped model by name, a model folder, a training run, or a hub id.

        Args:
            source: which.
            device: where it shall compute.
            sampling: changes of its defaults, as of `SamplingDefaults.changed`.

        Raises:
            ValueError: there is no such model, its files are wrong or damaged, it needs a plugin
                (`setar.load_plugin`), or a change is wrong.
        """
        folder = locate(source)
        config = read_config(folder, ("model", "tokenizer"))
        require_plugins(config["plugins"], folder)
        missing = {"model", "tokenizer", "classes"} - config.keys()
        if missing:
            raise ValueError(f"{folder} is no generator: config.json lacks {sorted(missing)}")
        names = config["classes"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{folder}: `classes` of config.json must be a list of names")
        model = checkpoint.load_module(folder, "model", config["model"], FAMILIES)
        tokenizer = checkpoint.load_module(folder, "tokenizer", config["tokenizer"], TOKENIZERS)
        defaults = build(SamplingDefaults, config.get("sampling", {}), str(folder), "sampling")
        defaults, data = defaults.changed(sampling or {}), str(config.get("data") or "")
        return cls(model.to(device), tokenizer.to(device), names, defaults, data)

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
            "sampling": table(self.defaults),
            "plugins": plugins_of(*used),
        }

    def save_pretrained(self, folder: str | Path, half: bool = False, card: str = "") -> None:
        """Write a model folder that `from_pretrained` reads.

        Args:
            folder: where; a model that is there already is replaced.
            half: store weights as float16.
            card: text of a ``README.md`` (the model card).
        """
        states = {"model": self.model.state_dict(), "tokenizer": self.tokenizer.state_dict()}
        if half:
            states = {name: checkpoint.half(state) for name, state in states.items()}
        texts = {"README.md": card} if card else {}
        checkpoint.save(Path(folder), self.describe(), states, texts)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens; a VAR has the tokens of all its scales in one row."""
        return self.model.config.grid

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of its pictures, in pixels."""
        height, width = self.decode(torch.zeros(1, math.prod(self.grid)).long()).shape[-2:]
        return width, height

    def class_id(self, name: str | int) -> int:
        """The id of a class given by name or id; ValueError if there is none."""
        if not isinstance(name, str | int):
            raise ValueError(f"a class is a name or a whole number, not {type(name).__name__}")
        if name in self.classes:
            return self.classes.index(name)
        if isinstance(name, int) or name.isdecimal():
            if 0 <= int(name) < len(self.classes):
                return int(name)
            raise ValueError(f"class id {str(name)[:60]} is not in 0..{len(self.classes) - 1}")
        raise ValueError(f"unknown class {name[:60]!r}; {did_you_mean(name, self.classes, 3)}")

    def __call__(
        self, classes: str | int | Sequence[str | int], **options: Any
    ) -> list[Image.Image]:
        """Generate images; class by class, as PIL images.

        Args:
            classes: a class name or id, or several.
            options: those of `sample_codes`: recipe, guidance, seed, count, on_set, ...

        Raises:
            ValueError: an argument is wrong.
        """
        return to_pil(self.decode(self.sample_codes(classes, **options)))

    def sample_codes(
        self,
        classes: str | int | Sequence[str | int],
        *,
        recipe: str | Recipe | None = None,
        guidance: float | Guidance | None = None,
        seed: int | Sequence[int] = 0,
        count: int = 1,
        on_set: Callable[[PartialImages], None] | None = None,
        batch_size: int = 64,
        given: Tensor | None = None,
        **settings: Any,
    ) -> Tensor:
        """Generate ``count`` images of each class, class by class, as codes.

        Args:
            classes: a class name or id, or several.
            recipe: any sampling recipe, whatever the model was trained with.
            guidance: a constant scale, or a `Guidance`.
            seed: image i uses seed + i; or one seed for each image. A seed gives the same image in
                any batch (except the set sizes of a random schedule, which the whole call shares).
            count: images per class.
            on_set: called after each set of each batch with the partial images.
            batch_size: images generated at once.
            given: codes that are kept, int64 ``[images or 1, N]``; where they are -1, in all
                images, codes are made.
            settings: fields of `SamplingSettings`: temperature, top_k, top_p, min_p, attention,
                cache, smoothing.

        Returns:
            Codes int64 ``[images, N]``. With smoothing they are soft: float ``[images, N, V]``.

        Raises:
            ValueError: an argument is wrong.
        """
        names = [classes] if isinstance(classes, str | int) else list(classes)
        if not names or count < 1 or batch_size < 1:
            raise ValueError("there must be a class, and `count` and `batch_size` at least 1")
        ids = [class_id for class_id in map(self.class_id, names) for _ in range(count)]
        seeds = _seeds(seed, len(ids))
        chosen = self.defaults.changed({"recipe": recipe, "guidance": guidance, **settings})
        self.check_sampling(chosen)
        free = None if given is None else self._planned(given, len(ids))
        device = next(self.model.parameters()).device
        made = []
        for first in range(0, len(ids), batch_size):
            batch = slice(first, first + batch_size)
            noise, plan = noise_and_plan(chosen.recipe, self.grid, seeds[batch], seeds[0], free)
            self.model.check(plan)
            asked = torch.tensor(ids[batch], device=device)
            how = (chosen.guidance, chosen.settings, self._teller(on_set, first))
            kept = None if given is None else given.expand(len(ids), -1)[batch]
            made.append(generate(self.model, asked, plan, noise, *how, kept))
        return torch.cat(made)

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
            class_: name or id of the class.
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
            task: picture and mask of the model's `size`.
            class_: name or id of the class.
            rounds: 1 is twice as fast, and rougher.
            on_set: as in a call, in the last round.
            options: those of `sample_codes`. The kept tokens are one set more before those of the
                recipe; a VAR and a decoder-only model have their own recipe only, and the latter
                can only make the last tokens in raster order.
        """
        if rounds < 1:
            raise ValueError(f"`rounds` (={rounds}) must be at least 1")
        class_id = self.class_id(class_)
        pixels = torch.from_numpy(np.asarray(task.image).copy()).permute(2, 0, 1)
        hidden = torch.from_numpy(np.asarray(task.mask) > 0)
        free = free_cells(hidden, self.tokenizer.scales or (self.grid,))

        def tell(partial: PartialImages) -> None:
            if on_set is not None:
                partial.finish = lambda made: Image.composite(made, *task)
                on_set(partial)

        pictures = hide(pixels, hidden)[None]
        for remaining in reversed(range(rounds)):
            kept = encode_images(self.tokenizer, pictures).masked_fill(free, -1)
            last = on_set is not None and not remaining
            codes = self.sample_codes(
                class_id, given=kept, on_set=tell if last else None, **options
            )
            pictures = torch.where(hidden, self.decode(codes), pixels)
        return to_pil(pictures)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes ``[B, N]``, or soft ones, to pictures uint8 ``[B, 3, H, W]`` on the CPU."""
        return decode_codes(self.tokenizer, codes, self.grid)

    def _teller(
        self, on_set: Callable[[PartialImages], None] | None, first: int
    ) -> Callable[[SetDone], None] | None:
        """What the sampling loop tells of a batch, told to the user."""
        if on_set is None:
            return None
        return lambda done: on_set(PartialImages(self, done, first))

    def _planned(self, given: Tensor, images: int) -> Tensor | None:
        """Which tokens ``[N]`` to plan around those given; None if the model plans all of them."""
        tokens = math.prod(self.grid)
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


def _seeds(seed: int | Sequence[int], images: int) -> list[int]:
    seeds = [seed + i for i in range(images)] if isinstance(seed, int) else list(seed)
    if len(seeds) != images:
        raise ValueError(f"{len(seeds)} seeds for {images} images; give one seed or one per image")
    for value in seeds:
        if not isinstance(value, int) or not 0 <= value < 2**63:
            raise ValueError(f"a seed (={value}) must be a whole number from 0 to 2**63 - 1")
    return seeds
