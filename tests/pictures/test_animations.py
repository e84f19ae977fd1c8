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
