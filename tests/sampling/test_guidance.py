"""Guidance schedules: exact values by hand."""

import math

import pytest

from setar.sampling.guidance import GUIDANCE, Guidance, Progress, register_guidance


def scales(guidance, size=16, total=64):
    """Of each step that makes ``size`` of ``total`` tokens."""
    starts = range(0, total, size)
    steps = len(starts)
    return [guidance.at(Progress(done, size, total, k, steps)) for k, done in enumerate(starts, 1)]


# A scale of 3 moves 2 beyond the plain model; four steps begin at 0, 1/4, 1/2, 3/4.
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [3, 3, 3, 3]),
        ("linear", [1, 1.5, 2, 2.5]),
        ("linear-after", [1.5, 2, 2.5, 3]),
        ("var", [1, 2, 3, 4]),
    ],
)
def test_values(schedule, expected):
    assert scales(Guidance(3.0, schedule)) == pytest.approx(expected)


def test_power_cosine():
    # (1 - cos(pi x^p)) / 2 at 0, 1/4, 1/2, 3/4: with p = 1 the cosines are 1, 0.7071, 0, -0.7071.
    half = math.sqrt(0.5)
    expected = [1, 1 + (1 - half), 2, 1 + (1 + half)]
    assert scales(Guidance(3.0, "power-cosine", power=1.0)) == pytest.approx(expected)
    # With p = 2 the angles are 0, pi/16, pi/4, 9 pi/16.
    expected = [1, 1.0192147, 1 + (1 - half), 2.1950903]
    assert scales(Guidance(3.0, "power-cosine", power=2.0)) == pytest.approx(expected)
    # The default power 2.75: 0.5 ** 2.75 = 0.1486509, cos(0.4670005) = 0.8929227.
    half_done = Progress(32, 1, 64, 1, 1)
    assert Guidance(3.0, "power-cosine").at(half_done) == pytest.approx(1.107077, abs=1e-6)


def test_sets_of_any_size():
    last = Progress(10, 30, 40, 2, 2)
    assert Guidance(5.0, "linear").at(last) == pytest.approx(2.0)
    assert Guidance(5.0, "linear-after").at(last) == pytest.approx(5.0)


def test_the_dialect_of_var_counts_sets_whatever_their_sizes():
    """Its (1 + t) c - t u is u + (1 + t) (c - u): a cfg of 1.5 ends at a scale of 2.5."""
    sizes, guidance = (1, 4, 9, 16, 25), Guidance(1.5, "var")
    found = [
        guidance.at(Progress(sum(sizes[:k]), size, sum(sizes), k + 1, len(sizes)))
        for k, size in enumerate(sizes)
    ]
    assert found == pytest.approx([1, 1.375, 1.75, 2.125, 2.5])
    assert guidance.at(Progress(0, 55, 55, 1, 1)) == 1  # a single set
    assert scales(Guidance(0.0, "var")) == [1, 1, 1, 1]


@pytest.mark.parametrize("schedule", list(GUIDANCE))
def test_off_means_one_everywhere(schedule):
    for scale in (0.0, 0.5, 1.0, 2.0):
        guidance = Guidance(scale, schedule)
        assert guidance.off == (set(scales(guidance)) == {1})


@pytest.mark.parametrize("schedule", sorted({*GUIDANCE} - {"var"}))
def test_scale_one_is_one_everywhere_and_below_one_falls(schedule):
    assert scales(Guidance(1.0, schedule)) == [1, 1, 1, 1]
    assert all(0 <= scale <= 1 for scale in scales(Guidance(0.0, schedule)))


def test_a_schedule_for_each_token_counts_those_before_it_in_the_step():
    step = Progress(4, 4, 16, 2, 3)
    assert Guidance(5.0, "linear-token").scales(step) == [2, 2.25, 2.5, 2.75]
    assert Guidance(5.0, "linear").scales(step) == [2]
    assert Guidance(1.0, "linear-token").scales(step) == [1] * 4
    part = Guidance(5.0, "linear-token", interval=(0.3, 0.4))  # tokens 5 and 6 of 16
    assert part.scales(step) == [1, 2.25, 2.5, 1]


def test_interval_ends_are_inside():
    guidance = Guidance(3.0, interval=(0.25, 0.5))
    assert scales(guidance) == [1, 3, 3, 1]
    assert scales(Guidance(3.0, "linear", interval=(0.5, 1.0))) == [1, 1, 2, 2.5]
    assert scales(Guidance(3.0, interval=(0.0, 0.0))) == [3, 1, 1, 1]
    assert scales(Guidance(3.0, interval=(0.3, 0.4))) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"scale": -0.5}, r"`scale` \(=-0.5\)"),
        ({"scale": math.inf}, "`scale`"),
        ({"scale": math.nan}, "`scale`"),
        ({"schedule": "cosine"}, "unknown guidance schedule 'cosine'; did you mean 'power-cosine'"),
        ({"schedule": "zzz"}, "unknown guidance schedule 'zzz'; known: constant, linear, "),
        ({"interval": (0.5, 0.2)}, r"`interval` \(=0.5, 0.2\) must be ordered"),
        ({"interval": (-0.1, 0.2)}, "within 0..1"),
        ({"interval": (0.1, 1.2)}, "within 0..1"),
        ({"interval": (math.nan, 1.0)}, "within 0..1"),
        ({"power": 0.0}, r"`power` \(=0.0\)"),
    ],
)
def test_wrong_values_are_refused(fields, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        Guidance(**fields)
    assert "\n" not in str(caught.value)


@pytest.fixture
def late(monkeypatch):
    """A schedule of one's own, for the length of a test."""
    monkeypatch.setattr(GUIDANCE, "_entries", dict(GUIDANCE._entries))

    @register_guidance("later", off=0.0)
    def late(guidance, at):
        return guidance.scale if 2 * at.done >= at.total and guidance.scale else 1.0

    return late


def test_a_schedule_of_ones_own(late):
    assert scales(Guidance(3.0, "later")) == [1, 1, 3, 3]
    assert scales(Guidance(3.0, "later", interval=(0.0, 0.6))) == [1, 1, 3, 1]
    assert Guidance(0.0, "later").off
    assert not Guidance(1.0, "later").off


def test_a_name_has_one_schedule(late):
    with pytest.raises(ValueError, match="guidance schedule 'constant' is already registered"):
        register_guidance("constant")(late)
    with pytest.raises(ValueError, match="like my-schedule"):
        register_guidance("Later")(late)
