import pytest
from PIL import Image, ImageSequence

from setar.pictures.animations import save_animation


@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_animation_has_every_frame_and_rests_on_the_last(tmp_path, count):
    shades = [40 * index for index in range(count)]
    frames = [Image.new("RGB", (12, 12), (shade, shade, shade)) for shade in shades]
    file = tmp_path / "new folder" / "steps.gif"
    save_animation(frames, file, seconds=1.0)
    with Image.open(file) as animation:
        shown = [
            (frame.convert("RGB").getpixel((3, 3))[0], frame.info["duration"])
            for frame in ImageSequence.Iterator(animation)
        ]
        assert animation.info["loop"] == 0
    assert [shade for shade, _ in shown] == shades
    each = 1000 // count // 10 * 10
    assert [duration for _, duration in shown] == [each] * (count - 1) + [1500]


def test_frames_that_a_gif_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.gif files at most 65535 a side"):
        save_animation([Image.new("L", (65536, 1))], tmp_path / "a.gif")
    assert not (tmp_path / "a.gif").exists()


def test_a_webp_has_all_colours(tmp_path):
    ramp = Image.linear_gradient("L").resize((64, 64))
    frames = [Image.merge("RGB", (ramp, ramp.rotate(90 * i), ramp.rotate(45))) for i in range(3)]
    for ending in ("webp", "gif"):
        save_animation(frames, tmp_path / f"a.{ending}")
    with Image.open(tmp_path / "a.webp") as animation:
        assert (animation.n_frames, animation.info["loop"]) == (3, 0)
        colours = len(set(animation.convert("RGB").getdata()))
    assert colours > 256
    assert (tmp_path / "a.webp").stat().st_size < (tmp_path / "a.gif").stat().st_size


def test_frames_that_a_webp_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.webp files at most 16383 a side"):
        save_animation([Image.new("L", (16384, 1))], tmp_path / "a.webp")
