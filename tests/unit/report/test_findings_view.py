"""A diagnosis in words: all evidence is quoted, nothing of it is markup."""

from __future__ import annotations

from lorabench.records.audit import Audit, AuditedPicture, Duplicate
from lorabench.records.diagnosis import Diagnosis, Evidence, Fact, Fix, Gap, LikelyCause
from lorabench.report.audit_text import fact_text, render_audit
from lorabench.report.findings_view import diagnosis_markdown, findings_view, render_diagnosis
from lorabench.report.html import render_html
from lorabench.report.terminal import to_text

HOSTILE = "<script>alert(1)</script>"


def cause(quote: str = "copy FAIL: copy_rate +0.387") -> LikelyCause:
    fact = Fact(name="gate.copy", value="FAIL", quote=quote)
    against = Fact(name="audit.duplicate_share", value=0.5, quote="half are duplicates")
    return LikelyCause(
        cause="over-trained",
        name="trained for too long",
        because="Single pictures are learned.",
        score=1.25,
        strength="possible",
        supporting=(Evidence(fact=fact, condition="gate.copy is FAIL", weight=2.25),),
        opposing=(Evidence(fact=against, condition="audit.duplicate_share at least 0.1", weight=-1.0),),
        missing=(Gap(facts=("course.gap_rise",), measure="give --course", reason="no pictures were held back"),),
        fixes=(Fix(effort="setting", do="Use an earlier checkpoint."),),
        sources=("a paper",),
        covers=("captions-wrong",),
    )


def diagnosis(quote: str = "copy FAIL: copy_rate +0.387", digest: str = "0" * 64) -> Diagnosis:
    return Diagnosis(
        run_id="run",
        candidate="x",
        results_digest=digest,
        causes_digest="1" * 64,
        sources=("run",),
        headline="Most likely cause: trained for too long (possible).",
        causes=(cause(quote),),
        risks=(cause(),),
        unexplained=("halo",),
    )


def test_all_that_led_to_a_statement_is_quoted() -> None:
    text = " ".join(to_text(render_diagnosis(diagnosis()), width=400).split())

    assert "for: copy FAIL: copy_rate +0.387 (+2.25)" in text
    assert "against: half are duplicates (−1.00)" in text
    assert "not known: course.gap_rise (no pictures were held back); to know: give --course" in text
    assert "do (a setting): Use an earlier checkpoint." in text
    assert "one finding with: captions-wrong" in text
    assert "taken up by no cause named here: halo" in text
    assert "sources: a paper" in text


def test_markdown_shows_the_same_and_no_markup_of_others() -> None:
    text = diagnosis_markdown(diagnosis(HOSTILE))

    assert "1. **trained for too long** (possible, score 1.25)" in text
    assert "&lt;script&gt;" in text
    assert "<script>" not in text


def test_the_page_escapes_what_is_quoted(small_example) -> None:  # type: ignore[no-untyped-def]
    digest = small_example.results.content_digest()
    page = render_html(
        small_example.results, picture=small_example.picture, diagnosis=diagnosis(HOSTILE, digest=digest)
    )

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert HOSTILE not in page
    assert "Of other results." not in page


def test_a_diagnosis_of_other_results_is_stale(small_example) -> None:  # type: ignore[no-untyped-def]
    view = findings_view(diagnosis(), small_example.results)

    assert view is not None
    assert view.stale
    assert findings_view(None, small_example.results) is None


def test_an_audit_is_shown_with_marks_repeats_and_reasons() -> None:
    picture = AuditedPicture(
        name="a.png",
        sha256="0" * 64,
        height=8,
        width=8,
        file_format="PNG",
        noise=0.0,
        flat_fraction=1.0,
        composition_group=0,
        marks=("vague-caption",),
    )
    found = Audit(
        folder="set",
        trigger="zvq",
        pictures=(picture,),
        duplicates=(Duplicate(name="b.png", of="a.png", how="near", distance=0.01, by="lpips"),),
        facts={"n_pictures": 1.0, "duplicate_share": 0.5},
        unmeasured={"lettering_share": "no reader is at hand."},
    )

    text = to_text(render_audit(found), width=120)

    assert text.startswith("1 training picture in set, trigger “zvq”")
    assert "vague caption: a.png" in text
    assert "b.png repeats a.png (near, by lpips)" in text
    assert "not measured: lettering_share: no reader is at hand." in text
    assert fact_text("duplicate_share", 0.5) == "50 %"


def test_where_no_cause_is_shown_the_leads_say_what_would_tell(small_example) -> None:  # type: ignore[no-untyped-def]
    lost = diagnosis(digest=small_example.results.content_digest()).model_copy(
        update={"causes": (), "leads": (cause(HOSTILE),)}
    )
    told = "trained for too long: Single pictures are learned. Against it: half are duplicates"

    assert told in " ".join(to_text(render_diagnosis(lost), width=400).split())
    assert "to know: give --course" in to_text(render_diagnosis(lost), width=400)
    assert "- trained for too long: Single pictures" in diagnosis_markdown(lost)
    page = render_html(small_example.results, picture=small_example.picture, diagnosis=lost)
    assert "that could bring about halo" in page
    assert "Against it: half are duplicates (−1.00). To know: give --course." in " ".join(page.split())
