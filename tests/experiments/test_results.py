"""The page of results: what is measured anew is replaced, and the rest stays."""

import pytest


def test_the_page_is_made_of_its_sections(results):
    page = results.PAGE.read_text(encoding="utf-8")
    sections = results.sections_of(page)
    claims = results.claims_of(sections.values())
    numbers = {results.number(claim) for claim in claims}
    assert numbers == {*range(1, len(numbers) + 1)}
    assert len(numbers) >= 12
    counted = (
        f"Of the {len(claims)} statements that the {len(numbers)} claims make, "
        f"{results.held(claims)} hold"
    )
    assert counted in page
    assert page.endswith("\n".join(sections.values()))
    for claim in claims:
        assert page.count(f"\n{claim}\n") == 2  # in the head and in its section


def test_a_section_is_replaced_and_its_claims_counted_anew(results, lab, monkeypatch, tmp_path):
    before = results.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    results.PAGE.write_text(before, encoding="utf-8")
    claim = lab.Claim(8, "a text", "a rule", "1.0 and 2.0", True)
    section = lab.Section("Table 6: what matters in masked training", "All new.", (claim,))
    monkeypatch.setattr(results.table6, "section", lambda: section)
    results.main(["table6"])
    after = results.PAGE.read_text(encoding="utf-8")
    old, new = results.sections_of(before), results.sections_of(after)
    assert new.pop(section.title) == section.markdown() + "\n"[:0] != old.pop(section.title)
    assert new == old
    rows = results.claims_of(results.sections_of(after).values())
    on_digits = [results.number(row) for row in rows if results.ON_EMOJI not in row]
    assert on_digits.count(8) == 1


def test_unknown_experiments_are_refused(results):
    with pytest.raises(SystemExit, match="no experiment 'table9'; known: table4, next_scale"):
        results.main(["table9"])


def test_the_paper_is_tested_on_both_beds_and_its_claims_stand_side_by_side(
    results, lab, monkeypatch, tmp_path
):
    page = results.PAGE.read_text(encoding="utf-8")
    before = "\n".join(
        text for title, text in results.sections_of(page).items() if not title.endswith("on emoji")
    )
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    results.PAGE.write_text(before, encoding="utf-8")
    asked = []

    def section(bed):
        asked.append(bed)
        claim = lab.Claim(8, "MAR: the masking strategy matters", "a rule", "3.0", False)
        return lab.Section(bed.title("Table 6: what matters in masked training"), "New.", (claim,))

    monkeypatch.setattr(results.table6, "section", section)
    results.main(["emoji-table6"])
    assert asked == [lab.EMOJI]
    page = results.PAGE.read_text(encoding="utf-8")
    old, new = results.sections_of(before), results.sections_of(page)
    assert {*new} - {*old} == {"Table 6: what matters in masked training, on emoji"}
    assert all(new[title] == old[title] for title in old)
    rows = page.splitlines()
    [first, second] = [i for i, row in enumerate(rows) if "masking strategy matters" in row][:2]
    assert second == first + 1
    assert "masking strategy matters (on emoji) |" in rows[second]
    assert 'are tested a second time, "on emoji", by the same rules: 8.' in page
    assert "are tested a second time" not in before
    known = {f"emoji-{name}" for name in results.BOTH}
    assert known < {*results.SCRIPTS}


def test_models_of_both_beds_have_their_shapes(lab):
    for bed, size in ((lab.DIGITS, (2, 64)), (lab.EMOJI, (3, 84))):
        fmt, baseline = bed.run("random-16-random").model.shape, bed.run("ar", 1, "decoder-only")
        assert (fmt.encoder_layers, fmt.width) == (fmt.decoder_layers, fmt.width) == size
        assert (baseline.model.shape.layers, baseline.model.shape.width) == (2 * size[0], size[1])
        assert baseline.data.source == bed.name
        assert baseline.loop.seed == 1
