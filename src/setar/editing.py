"""Pictures that are there, made anew in part: by class or text, in any order, with the cache."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from setar.asking import MAX_IMAGES, seeds_of, sides
from setar.generation import Generating, PartialImages
from setar.numbers import as_real, whole
from setar.pictures.masks import (
    MOST_MARGIN,
    Task,
    fitted,
    grow,
    hide,
    outpaint,
    prepare,
    seam_mask,
)
from setar.pictures.png import Picture
from setar.pictures.sheets import to_pil
from setar.registry import quoted
from setar.sampling.edit import free_cells, random_cells
from setar.tokenizers.base import encode_images


class Editing(Generating):
    """How a `setar.Pipeline` edits."""

    def edit(
        self,
        image: Image.Image,
        mask: Any,
        class_: str | int,
        *,
        size: Sequence[SupportsIndex] | None = None,
        **options: Any,
    ) -> list[Picture]:
        """Make what a mask covers anew; every pixel outside it stays as it is.

        Inpainting keeps the image's class or text, and editing asks for another one.

        >>> mask = box_mask(image.size, (16, 0, 32, 32))
        >>> images = pipe.edit(image, mask, "cat-face", count=4)

        Args:
            image: in any mode, transparency is put on white.
            mask: a PIL image of the same size, white where the image is made anew; or bool
                ``[height, width]``.
            class_: name or id of the class, or a text if the model `reads` texts.
            size: (height, width) that the image is cropped in the middle and resized to, and the
                mask with it. None is the model's `size`; but of a model of any grid the image keeps
                its own, whatever that is.
            options: those of `redraw`.

        Returns:
            ``count`` pictures.

        Raises:
            ValueError: an argument is wrong, the model cannot make these tokens, or there are too
                many of them.
        """
        return self.redraw(prepare(image, mask, self.edited_size(size)), class_, **options)

    def outpaint(
        self,
        image: Image.Image,
        margins: tuple[int, int, int, int],
        class_: str | int,
        *,
        size: Sequence[SupportsIndex] | None = None,
        **options: Any,
    ) -> list[Picture]:
        """Make a larger picture around an image.

        >>> wide = pipe.outpaint(image, (0, 0, 32, 0), "a red apple next to a dog face", count=4)

        Args:
            image: as of `edit`.
            margins: pixels to make at its left, top, right and bottom.
            class_: name or id of the class, or a text if the model `reads` texts.
            size: (height, width) of the results, into which the image is shrunk. None is the
                model's `size`; but of a model of any grid the image keeps its own size, and the
                margins lie around it.
            options: those of `redraw`.

        Returns:
            ``count`` pictures.

        Raises:
            ValueError: as of `edit`, or the margins leave nothing.
        """
        return self.redraw(outpaint(image, self.edited_size(size), margins), class_, **options)

    def edited_size(self, size: Sequence[SupportsIndex] | None = None) -> tuple[int, int] | None:
        """(width, height) that an image is brought to before it is edited; None: it keeps its own.

        ``size`` is the (height, width) that is asked for, if one is.

        Raises:
            ValueError: the model makes no pictures of this size.
        """
        if size is None:
            return None if self.model.any_grid else self.size
        self.grid_of(size)
        height, width = sides(size)
        return width, height

    def vary(
        self,
        image: Image.Image,
        share: float,
        class_: str | int,
        *,
        size: Sequence[SupportsIndex] | None = None,
        seed: SupportsIndex | Iterable[SupportsIndex] = 0,
        count: int = 1,
        on_set: Callable[[PartialImages], None] | None = None,
        **options: Any,
    ) -> list[Picture]:
        """Make a random share of an image's tokens anew, each result others: variations of it.

        >>> images = pipe.vary(image, 0.3, "cat-face", count=4)

        Args:
            image: as of `edit`.
            share: above 0, and at most 1: a usual image. At least one token is made.
            class_: name or id of the class, or a text if the model `reads` texts.
            size: as of `edit`.
            seed: as of `sample_codes`; which tokens are made depends on it too.
            count: results.
            on_set: as in a call.
            options: those of `sample_codes`. The kept tokens are one set more before those of the
                recipe; a decoder-only model can only continue an image.

        Returns:
            ``count`` pictures. As tokens have no edges, every pixel may change a little.

        Raises:
            ValueError: as of `edit`.
        """
        part = as_real(share)
        if part is None or not 0 < part <= 1:
            raise ValueError(f"`share` (={quoted(share)}) must be above 0 and at most 1")
        count = whole("count", count, 1, MAX_IMAGES, "all results are held in memory")
        _check_options(options)
        pixels = _pixels(fitted(image, self.edited_size(size)))
        height, width = pixels.shape[1:]
        laid = self._laid(torch.zeros(height, width, dtype=torch.bool, device="cpu"))
        pictures = laid.spread(pixels)[None]
        grid, seeds = self.grid_of(laid.size), seeds_of(seed, count)
        codes = encode_images(self.tokenizer, pictures)
        given = codes.masked_fill(random_cells(codes.shape[1], part, seeds), -1)

        def tell(partial: PartialImages) -> None:
            if on_set is not None:
                partial.finish = lambda made: made.crop(laid.box)
                on_set(partial)

        how: dict[str, Any] = {"seed": seeds, "count": count, **options}
        how["on_set"] = None if on_set is None else tell
        made = self.sample_codes([class_], size=laid.size, given=given, **how)
        cropped = [picture.crop(laid.box) for picture in to_pil(self.decode(made, grid))]
        return self._edited(cropped, [class_], f"{100 * part:g} % of a picture made anew", how)

    def redraw(
        self,
        task: Task | Sequence[Task],
        class_: str | int | Sequence[str | int],
        *,
        rounds: int = 2,
        dilate: int = 0,
        seam: int = 0,
        on_set: Callable[[PartialImages], None] | None = None,
        **options: Any,
    ) -> list[Picture]:
        """`edit` of a picture and a mask that are prepared already.

        A token is made anew if any of its pixels is masked. What lies under the mask has no
        influence on the results: a smooth filling hides it before the image is encoded
        (`setar.pictures.masks.hide`). But a filling disturbs the tokens around it, so there is a
        second round, in which each first result is the filling of its own.

        Args:
            task: picture and mask of the model's `size`; of any size if it makes any grid. Or
                several with one mask, a result each.
            class_: name or id of the class, or a text if the model `reads` texts; one for each of
                several tasks.
            rounds: 1 is twice as fast, and rougher.
            dilate: pixels by which the mask grows in every direction.
            seam: pixels around the mask over which the picture turns into what is made; without,
                every pixel outside the mask stays exactly.
            on_set: as in a call, in the last round.
            options: those of `sample_codes`. The kept tokens are one set more before those of the
                recipe; a VAR and a decoder-only model have their own recipe only, and the latter
                can only make the last tokens in raster order.
        """
        _check_options(options)
        rounds = whole("rounds", rounds, 1, 100, "two are enough")
        dilate, seam = (
            whole(name, value, 0, MOST_MARGIN, "no picture is larger")
            for name, value in (("dilate", dilate), ("seam", seam))
        )
        several = isinstance(task, list | tuple) and not isinstance(task, Task)
        tasks: list[Task] = list(task) if several else [task]  # type: ignore[arg-type, list-item]
        asked: list[Any] = list(class_) if several else [class_]  # type: ignore[arg-type]
        _check_tasks(tasks, asked, whole("count", options.get("count", 1), 1), on_set)
        task = tasks[0]
        mask = torch.from_numpy(np.asarray(grow(task, dilate).mask) > 0)
        laid, shown = self._laid(mask), seam_mask(mask, seam)
        hidden = laid.spread(mask)
        pixels = torch.stack([laid.spread(_pixels(each.image)) for each in tasks])
        grid = self.grid_of(laid.size)
        free = free_cells(hidden, self.tokenizer.scales or (grid,))

        def finish(made: Image.Image, image: Image.Image = tasks[0].image) -> Image.Image:
            return Image.composite(made.crop(laid.box), image, shown)

        def tell(partial: PartialImages) -> None:
            if on_set is not None:
                partial.finish = finish
                on_set(partial)

        pictures = made = torch.stack([hide(each, hidden) for each in pixels])
        for remaining in reversed(range(rounds)):
            kept = encode_images(self.tokenizer, pictures).masked_fill(free, -1)
            last = on_set is not None and not remaining
            codes = self.sample_codes(
                asked, size=laid.size, given=kept, on_set=tell if last else None, **options
            )
            made = self.decode(codes, grid)
            pictures = torch.where(hidden, made, pixels)
        sources = [tasks[index % len(tasks)].image for index in range(len(made))]
        results = [finish(*both) for both in zip(to_pil(made), sources, strict=True)]
        return self._edited(results, asked, "part of a picture made anew", options)

    def _edited(
        self, results: list[Image.Image], asked: list[Any], note: str, options: Mapping[str, Any]
    ) -> list[Picture]:
        """Results of an edit, with what they remember: not the picture that was edited."""
        known = ("seed", "count", "on_set", "batch_size", "negative_prompt", "progress")
        changes = {name: value for name, value in options.items() if name not in known}
        chosen, pictures = self.defaults.changed(changes), list[Picture]()
        seeds = seeds_of(options.get("seed", 0), len(results))
        count = len(results) // len(asked)
        for index, (result, seed) in enumerate(zip(results, seeds, strict=True)):
            memory = self.memory_of(
                "edit",
                chosen,
                asked=(self._whom(asked[index // count]),),
                negative_prompt=options.get("negative_prompt"),
                seed=seed,
                size=(result.height, result.width),
                note=note,
            )
            pictures.append(Picture.of(result, memory))
        return pictures

    def _laid(self, mask: Tensor) -> "_Laid":
        """A picture of any size on whole tokens, if the model makes any grid; mask ``[H, W]``."""
        if not self.model.any_grid:
            return _Laid(range(mask.shape[0]), range(mask.shape[1]))
        down, across = self.stride
        kept = ~mask
        return _Laid(_whole_tokens(kept.any(1), down), _whole_tokens(kept.any(0), across))


class _Laid(NamedTuple):
    """Where each row and column of pixels on whole tokens comes from in a smaller picture."""

    rows: Sequence[int]
    columns: Sequence[int]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of whole tokens."""
        return len(self.rows), len(self.columns)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Where the smaller picture lies in them: left, top, right and bottom."""
        left, top = self.columns.count(0) - 1, self.rows.count(0) - 1
        return left, top, left + max(self.columns) + 1, top + max(self.rows) + 1

    def spread(self, pixels: Tensor) -> Tensor:
        """Pixels ``[..., H, W]`` of the smaller picture; those at its edges go on beyond it."""
        rows, columns = (torch.tensor(part, device="cpu") for part in (self.rows, self.columns))
        return pixels[..., rows[:, None], columns]


def _check_tasks(tasks: Sequence[Any], asked: Sequence[Any], count: int, on_set: Any) -> None:
    """ValueError unless these are tasks that can be done at once."""
    wrong = [task for task in tasks if not isinstance(task, Task)]
    if wrong or not tasks:
        found = type(wrong[0]).__name__ if wrong else "none"
        raise ValueError(f"a task is a picture and a mask, prepared, not {found}")
    if len(tasks) == 1:
        return
    if len(asked) != len(tasks) or count != 1 or on_set is not None:
        raise ValueError(
            f"{len(tasks)} tasks at once need as many classes or prompts (={len(asked)}), "
            f"`count` (={count}) 1 and no `on_set`"
        )
    if any(task.mask.tobytes() != tasks[0].mask.tobytes() for task in tasks):
        raise ValueError("tasks that are done at once must have one mask")


def _check_options(options: Mapping[str, Any]) -> None:
    """ValueError if an edit is given what it says itself to `Pipeline.sample_codes`."""
    if own := sorted({"given", "size"} & options.keys()):
        raise ValueError(f"`{own[0]}` follows from the picture that is edited")


def _whole_tokens(kept: Tensor, stride: int) -> list[int]:
    """The index of each of ``[n]`` pixels along a side, repeated at the ends up to whole tokens.

    ``kept`` says where anything is kept: if it can, that begins with a whole token.
    """
    extra = -len(kept) % stride
    before = -int(kept.long().argmax()) % stride
    before = before if before <= extra else 0
    last = len(kept) - 1
    return [min(max(0, i), last) for i in range(-before, len(kept) + extra - before)]


def _pixels(picture: Image.Image) -> Tensor:
    """RGB as uint8 ``[3, H, W]``."""
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)
