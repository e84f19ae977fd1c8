"""A generator with its tokenizer and its classes or text encoder: codes, and pictures of them."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, SupportsIndex

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from setar.asking import (
    MAX_IMAGES,
    RULES,
    Ask,
    check_multiples,
    check_names,
    listed,
    seeds_of,
    sides,
)
from setar.classes import Classes
from setar.config import table
from setar.models.base import Generator
from setar.numbers import as_real, as_whole, whole
from setar.pictures.memory import Asked, Memory, called
from setar.pictures.png import Picture
from setar.pictures.sheets import to_pil
from setar.pretrained import plugins_of
from setar.recipes.orders import ORDERS, check_grid
from setar.recipes.recipe import Recipe
from setar.recipes.schedules import RESERVED, SCHEDULES
from setar.registry import quoted
from setar.sampling.edit import check_continuation
from setar.sampling.generate import SetDone, check_smoothing, generate, noise_and_plan
from setar.sampling.guidance import GUIDANCE, Guidance
from setar.sampling.settings import SamplingDefaults
from setar.text import TextConfig, load_text_encoder
from setar.tokenizers.base import Tokenizer, decode_codes, to_uint8

MAX_BATCH = 2**16
"""The most images that go through a model at once: their logits are all held in memory."""

MOST_TOKENS = 64 * 64
"""Of a picture whose size is chosen: all of them see each other."""


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
        self, pipeline: "Generating", done: SetDone, first: int, grid: tuple[int, int] | None = None
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


class Generating:
    """What a `setar.Pipeline` is made of, and how it generates; see there.

    Raises:
        ValueError: the parts do not fit each other.
    """

    source, manifest = "", ""
    steps: int | None = None

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
        asked = sides(size)
        width, height = self.size
        if (asked[0], asked[1]) == (height, width):
            return self.grid
        if not self.model.any_grid:
            raise ValueError(
                f"`size` (={asked[0]}x{asked[1]}) must be {height}x{width}: this model makes no "
                "pictures of another size"
            )
        check_multiples(asked, self.stride)
        rows, columns = check_grid(self.tokenizer.grid(asked[0], asked[1]))
        if rows * columns > MOST_TOKENS:
            raise ValueError(
                f"a picture of {asked[0]}x{asked[1]} pixels (height x width) has {rows}x{columns} "
                f"tokens, more than 64x64 (={MOST_TOKENS}): make it smaller"
            )
        return rows, columns

    def recipe_on(self, grid: tuple[int, int]) -> Recipe:
        """The model's own recipe on any grid: at most as many sets as there are tokens."""
        recipe = self.defaults.recipe
        if recipe.sets is None or grid == self.grid:
            return recipe
        return replace(recipe, sets=min(recipe.sets, math.prod(grid)))

    def condition_of(self, asked: Any) -> Tensor:
        """What the model reads of class names or ids, or of texts: a row for each of them.

        None among them is no condition, and a tuple (first, second, share) what lies between two.

        Raises:
            ValueError: there is no such class, or a text is none.
        """
        listed = list(asked)
        if not any(isinstance(one, tuple) for one in listed):
            return self._read_all(listed)
        ways = [one if isinstance(one, tuple) else (one, one, 0.0) for one in listed]
        first, second, shares = map(list, zip(*ways, strict=True))
        share = torch.tensor(shares, dtype=torch.float32, device=self.device)
        return self.model.condition.between(self._read_all(first), self._read_all(second), share)

    def _read_all(self, asked: list[Any]) -> Tensor:
        """What the model reads of classes or texts, or of nothing."""
        if self.text is None:
            ids = [0 if name is None else self.class_id(name) for name in asked]
            found = torch.tensor(ids, device=self.device)
        else:
            encoder = load_text_encoder(self.text, self.device)
            words = ["" if text is None else text for text in asked]
            # One by one: the last digits of a text's states must not depend on the others.
            found = encoder.encode(words, batch_size=1).to(self.device)
        missing = torch.tensor([one is None for one in asked], device=self.device)
        if not missing.any():
            return found
        if self.model.config.class_dropout == 0:
            raise ValueError(
                "this model was trained with `class_dropout` = 0: it must be asked for a "
                f"{self.reads}"
            )
        missing = missing.view(-1, *[1] * (found.ndim - 1))
        return torch.where(missing, self.model.null(found), found)

    def _whom(self, asked: Any) -> Asked:
        """A class's id, a text, None, or what lies between two, as a memory has it."""
        if isinstance(asked, tuple):
            share = as_real(asked[2]) if len(asked) == 3 else None
            if share is None or not 0 <= share <= 1 or any(type(e) is tuple for e in asked[:2]):
                raise ValueError(
                    "what lies between two is (first, second, share from 0 to 1), not "
                    f"{quoted(asked)}"
                )
            return self._plain(asked[0]), self._plain(asked[1]), share
        return self._plain(asked)

    def _plain(self, asked: Any) -> int | str | None:
        return asked if asked is None or self.text is not None else self.class_id(asked)

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

    @property
    def stride(self) -> tuple[int, int]:
        """Height and width of a token, in pixels of its pictures; of a model of one scale."""
        return self.size[1] // self.grid[0], self.size[0] // self.grid[1]

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

    def __call__(self, classes: Ask | Iterable[Ask], **options: Any) -> list[Picture]:
        """Generate images; class by class or text by text, as PIL images.

        Args:
            classes: a class name or id, or a text if the model `reads` texts; or several.
            options: those of `sample_codes`: size, recipe, guidance, seed, count, on_set, ...

        Returns:
            Images that remember what made them: in a PNG file that they save it is written.

        Raises:
            ValueError: an argument is wrong.
        """
        return self._pictures(self._asked(classes, **options))

    def unconditional(self, count: int = 1, **options: Any) -> list[Picture]:
        """Images of no class, or of no text: what guidance leads away from.

        Args:
            count: images.
            options: those of `sample_codes`. There is nothing to guide to.

        Raises:
            ValueError: an argument is wrong, or the model was trained without "no class".
        """
        return self._pictures(self._asked((), nothing=True, count=count, **options))

    def interpolate(
        self, first: Any, second: Any, *, count: int = 8, seed: SupportsIndex = 0, **options: Any
    ) -> list[Picture]:
        """Images of one seed on the way from a class or text to another.

        >>> images = pipe.interpolate("cat-face", "heart", count=5, seed=7)

        What the model reads is mixed: the vectors of two classes, or the states of two texts token
        by token from their ends.

        Args:
            first: a class name or id, or a text if the model `reads` texts; None is none of them.
            second: the same.
            count: images, both ends included; at least 2.
            seed: of all of them.
            options: those of `sample_codes`.

        Raises:
            ValueError: an argument is wrong.
        """
        count = whole("count", count, 2, MAX_IMAGES, "all images are held in memory")
        ways = [(first, second, step / (count - 1)) for step in range(count)]
        return self(ways, seed=[seed] * count, **options)

    def again(
        self, memory: Memory, on_set: Callable[[PartialImages], None] | None = None
    ) -> Picture:
        """Make an image again from what it remembers, exactly.

        That takes as long as the batch that it was made in. On another processor, or with another
        version of torch, pixels may differ: ``memory.pixels`` of both tell.

        Args:
            memory: of one image, made by this model, in the precision of this pipeline.
            on_set: as in a call.

        Raises:
            ValueError: it is of something else than an image, was made by another model or in
                another precision, or holds what cannot be.
        """
        if memory.made != "image" or len(memory.asked) != 1:
            raise ValueError("only one image as the model made it can be made again so")
        self.check_memory(memory)
        rows = whole("rows", memory.rows, 1, MAX_BATCH, "images of a batch are one step")
        row = whole("row", memory.row, 0, rows - 1)
        call = self._asked(
            memory.asked,
            nothing=memory.asked == (None,),
            size=memory.size,
            seed=[memory.seed] * rows,
            count=rows,
            on_set=on_set,
            batch_size=rows,
            negative_prompt=memory.negative_prompt,
            guidance=None,
            **memory.sampling,
        )
        tokens = whole("tokens", memory.tokens, 0, self.model.condition.length)
        if tokens:
            blank = call.condition.new_zeros(1, tokens, call.condition.shape[-1])
            condition, _ = self.model.condition.alike(call.condition, blank)
            null = None if call.null is None else self.model.condition.alike(call.null, blank)[0]
            call = replace(call, condition=condition, null=null)
        first = call.seeds[0] if memory.schedule_seed is None else memory.schedule_seed
        call = replace(call, schedule_seed=seeds_of(first, 1)[0])
        made = to_pil(self.decode(self._generate(call), call.grid))[row]
        return Picture.of(made, replace(memory, version=Memory("image").version))

    def check_memory(self, memory: Memory) -> None:
        """Raise ValueError unless a memory can be of this model, in this precision."""
        if memory.manifest != self.manifest:
            raise ValueError(
                f"the model {self.source or '(of no folder)'} is not the one that made the picture:"
                f" its manifest's SHA-256 begins with {self.manifest[:10] or 'nothing'}, that of "
                f"the picture's with {memory.manifest[:10] or 'nothing'}"
            )
        if memory.precision != self.precision:
            names = [name or "ordinary float32" for name in (memory.precision, self.precision)]
            raise ValueError(
                f"the picture was made in {names[0]}, and the model computes in {names[1]}"
            )

    @property
    def precision(self) -> str:
        """Of its products, if it is laid out for one, as `from_pretrained` takes it; or empty."""
        if self.model.packing is not None:
            return self.model.packing
        dtype = next(self.model.parameters()).dtype
        return "" if dtype == torch.float32 else str(dtype).removeprefix("torch.")

    def memory_of(self, made: Any, chosen: SamplingDefaults | None = None, **known: Any) -> Memory:
        """What a picture of this model remembers.

        Args:
            made: what kind of picture it is, see `Memory`.
            chosen: the settings that it was sampled with; None: the model's own.
            known: other fields of `Memory`.
        """
        chosen = chosen or self.defaults
        settings = {**table(chosen.guidance), **table(chosen.settings)}
        return Memory(
            made,
            model=self.source,
            manifest=self.manifest,
            names=tuple(called(one, self.classes) for one in known.get("asked", ()))
            if self.text is None
            else (),
            sampling={"recipe": str(chosen.recipe), **settings},
            precision=self.precision,
            device=self.device.type,
            plugins=tuple(plugins_of(*tables_of(chosen))),
            **known,
        )

    def _pictures(self, call: "_Call") -> list[Picture]:
        """Generate the images of a call, with what they remember."""
        codes, pictures = self._generate(call), list[Picture]()
        for first in range(0, call.images, call.batch_size):
            # Decoded with those that it was generated with, so that both can be repeated at once.
            part = to_pil(self.decode(codes[first : first + call.batch_size], call.grid))
            for row, made in enumerate(part):
                pictures.append(Picture.of(made, self._memory(call, first, row, len(part))))
        return pictures

    def _memory(self, call: "_Call", first: int, row: int, rows: int) -> Memory:
        """Of the image in a row of the batch that begins with the image ``first``."""
        index = first + row
        asked, seed = call.names[index // call.count], call.seeds[index]
        continued = call.given is not None
        return self.memory_of(
            "edit" if continued else "image",
            call.chosen,
            asked=(asked,),
            negative_prompt=call.negative,
            seed=seed,
            size=call.size or (self.size[1], self.size[0]),
            row=row,
            rows=rows,
            tokens=call.condition.shape[1] if self.text is not None else 0,
            schedule_seed=None if call.schedule_seed == seed else call.schedule_seed,
            note="from given codes" if continued else "",
        )

    def sample_codes(
        self,
        classes: Ask | Iterable[Ask],
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
        progress: bool = False,
        **settings: Any,
    ) -> Tensor:
        """Generate ``count`` images of each class or text, one after the other, as codes.

        Args:
            classes: a class name or id, or a text if the model `reads` texts; or several. Among
                several, (first, second, 0.3) is what lies so far between two. Whole numbers
                here and below may be numpy's or torch's, and lists of them arrays.
            size: (height, width) in pixels; None is the model's own.
            recipe: any sampling recipe, whatever the model was trained with. None is the model's
                own, which has fewer sets on a grid of fewer tokens.
            guidance: a scale, which changes as the model's own guidance does; or a `Guidance`.
            seed: image i uses seed + i; or one seed for each image. A seed gives the same image in
                any batch up to rounding: float32 sums of few rows may end in another digit than
                those of many, and a token changes whose draw lies that near to an edge. (Set sizes
                of a random schedule are shared by the whole call.)
            count: images per class.
            on_set: called after each set of each batch with the partial images.
            batch_size: images generated at once.
            given: codes that are kept, int64 ``[images or 1, N]``; where they are -1, at as many
                tokens of each image, codes are made.
            negative_prompt: what guidance leads away from, in the place of no text.
            progress: show a bar that counts sets, in a terminal or a notebook.
            settings: fields of `SamplingSettings`: temperature, top_k, top_p, min_p, attention,
                cache, smoothing.

        Returns:
            Codes int64 ``[images, N]``. With smoothing they are soft: float ``[images, N, V]``.

        Raises:
            ValueError: an argument is wrong.
        """
        options = {"recipe": recipe, "guidance": guidance, **settings}
        return self._generate(
            self._asked(
                classes,
                size=size,
                seed=seed,
                count=count,
                on_set=on_set,
                batch_size=batch_size,
                given=given,
                negative_prompt=negative_prompt,
                progress=progress,
                **options,
            )
        )

    def _asked(
        self,
        classes: Any,
        *,
        size: Any = None,
        seed: Any = 0,
        count: Any = 1,
        on_set: Callable[[PartialImages], None] | None = None,
        batch_size: Any = 64,
        given: Tensor | None = None,
        negative_prompt: str | None = None,
        progress: bool = False,
        nothing: bool = False,
        **settings: Any,
    ) -> "_Call":
        """The arguments of `sample_codes`, checked; with ``nothing``, of no class or text."""
        names = [None] if nothing else listed(classes, RULES[self.reads])
        if not nothing and any(name is None for name in names):
            raise ValueError(f"{RULES[self.reads]}, not NoneType")
        if not names:
            raise ValueError(f"there must be a {self.reads}")
        most = max(1, MAX_IMAGES // len(names))
        why = f"a call makes at most {MAX_IMAGES} images, all held in memory"
        count = whole("count", count, 1, most, why)
        batch_size = whole("batch_size", batch_size, 1, MAX_BATCH, "images of a batch are one step")
        images, grid = count * len(names), self.grid_of(size)
        seeds = seeds_of(seed, images)
        if on_set is not None and not callable(on_set):
            raise ValueError(f"`on_set` must be a function, not {quoted(on_set)}")
        if settings.get("recipe") is None:
            settings["recipe"] = self.recipe_on(grid)
        chosen = self.defaults.changed(settings)
        self.check_sampling(chosen)
        free = None if given is None else self._planned(given, images, grid)
        if free is not None and len(free) > 1 and chosen.recipe.schedule == "own":
            batch_size = 1  # sets of each image's own
        if negative_prompt is not None and self.text is not None and chosen.guidance.off:
            raise ValueError("`negative_prompt` needs guidance, which is off")
        names = [self._whom(name) for name in names]
        condition, null = self._conditions(names, negative_prompt)
        return _Call(
            names,
            count,
            seeds,
            None if size is None else sides(size),
            grid,
            chosen,
            batch_size,
            negative_prompt,
            condition,
            null,
            given,
            free,
            on_set,
            seeds[0],
            progress,
        )

    def _generate(self, call: "_Call") -> Tensor:
        """The codes of a call's images."""
        own_precision = torch.autocast(self.device.type, enabled=False)  # whatever is set outside
        given, free, null, made = call.given, call.free, call.null, []
        bar = tqdm(desc="sets", unit="set", leave=False, disable=not call.progress)
        for first in range(0, call.images, call.batch_size):
            batch = slice(first, first + call.batch_size)
            cells = free if free is None or len(free) == 1 else free[batch]
            drawn = (call.seeds[batch], call.schedule_seed)
            noise, plan = noise_and_plan(call.chosen.recipe, call.grid, *drawn, cells)
            self.model.check(plan)
            rows = torch.arange(call.images, device=self.device)[batch] // call.count
            teller = self._teller(call, first, bar)
            how = (call.chosen.guidance, call.chosen.settings, teller)
            kept = None if given is None else given.expand(call.images, -1)[batch]
            away = None if null is None else null.expand(len(rows), *null.shape[1:])
            with own_precision:
                condition = call.condition[rows]
                made.append(generate(self.model, condition, plan, noise, *how, kept, away))
        bar.close()
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

    def _teller(self, call: "_Call", first: int, bar: tqdm) -> Callable[[SetDone], None] | None:
        """What the sampling loop tells of a batch, told to the user and to a bar."""
        if call.on_set is None and not call.progress:
            return None

        def tell(done: SetDone) -> None:
            bar.total = done.steps * -(-call.images // call.batch_size)
            bar.update()
            if call.on_set is not None:
                call.on_set(PartialImages(self, done, first, call.grid))

        return tell

    def _planned(self, given: Tensor, images: int, grid: tuple[int, int]) -> Tensor | None:
        """Which tokens ``[1 or images, N]`` to plan; None if the model plans all of them."""
        self._check_codes("given", given, grid, -1)
        tokens = math.prod(grid)
        if given.shape not in ((1, tokens), (images, tokens)):
            raise ValueError(
                f"`given` (of shape {list(given.shape)}) must be [{images} or 1, {tokens}]"
            )
        free = (given < 0).cpu()
        counts = free.sum(1)
        if counts[0] < 1 or (counts != counts[0]).any():
            raise ValueError("`given` must be -1 at as many tokens of each image, at least at one")
        if (free == free[:1]).all():
            free = free[:1]
        if self.model.editing == "suffix":
            for cells in free:
                check_continuation(cells)
        return free if self.model.editing == "kept-first" else None


@dataclass(frozen=True)
class _Call:
    """What `Pipeline.sample_codes` is asked for, checked."""

    names: list[Any]
    """Ids of classes, or texts."""
    count: int
    seeds: list[int]
    """Of each image."""
    size: tuple[int, int] | None
    grid: tuple[int, int]
    chosen: SamplingDefaults
    batch_size: int
    negative: str | None
    condition: Tensor
    """A row for each name."""
    null: Tensor | None
    given: Tensor | None
    free: Tensor | None
    on_set: Callable[[PartialImages], None] | None
    schedule_seed: int
    """Draws random schedules, for all batches alike."""
    progress: bool

    @property
    def images(self) -> int:
        return len(self.names) * self.count


def tables_of(chosen: SamplingDefaults) -> list[tuple[Any, str]]:
    """The entries of tables that settings name."""
    recipe = chosen.recipe
    schedules = [(SCHEDULES, name) for name in {recipe.schedule} - {*RESERVED}]
    return [(ORDERS, recipe.order), (GUIDANCE, chosen.guidance.schedule), *schedules]
