"""What a certificate needs, and what never gets one."""

from __future__ import annotations

import math
import random

import pytest

from streams.cascade.certificate import AskedTwice, Certificate, alpha_of, loss_to_people, risk_of
from streams.cascade.generation import LabeledText, learn

CUTS = [0.9, 0.8, 0.7, 0.6, 0.5]


def people(risk: float = 0.025) -> Certificate:
    return Certificate.new("people", CUTS, 0.01, risk)


def test_of_all_generations_and_both_kinds_the_risks_sum_to_that_allowed() -> None:
    total = sum(2 * risk_of(0.05, generation) for generation in range(1, 5000))
    assert 0.0499 < total <= 0.05


def test_one_that_errs_less_than_the_model_is_certified_and_the_lowest_good_threshold_counts() -> None:
    certificate, drawn = people(), random.Random(1)
    for _ in range(600):
        score = drawn.random()
        # Above 0.7 the model errs in a tenth, the proxy never; below, the proxy errs in a half.
        loss = -(drawn.random() < 0.2) if score >= 0.7 else int(drawn.random() < 0.5)
        certificate = certificate.observe(score, loss)
    assert certificate.threshold == 0.7
    assert certificate.bound == 0.01


def test_of_a_model_that_is_always_right_a_few_hundred_rows_certify_nothing_against_people() -> None:
    certificate = people(risk_of(0.05, 1))
    for _ in range(350):
        certificate = certificate.observe(0.95, 0)
    assert certificate.threshold is None


def test_against_the_model_only_rows_that_would_be_routed_count() -> None:
    certificate = Certificate.against_model(CUTS[:3], AskedTwice(), 0.025)
    for _ in range(200):
        certificate = certificate.observe(0.75, 0).observe(0.0, 1).observe(0.2, 1)
    assert [wealth.rows for wealth in certificate.wealths] == [0, 0, 200]
    assert certificate.certified == 0, "the first threshold saw no row"
    for _ in range(200):
        certificate = certificate.observe(0.95, 0)
    assert certificate.threshold == 0.7


def test_a_certificate_does_not_stand_against_what_was_seen_since() -> None:
    certificate = Certificate.new("llm", [0.5], 0.05, 0.025)
    for _ in range(150):
        certificate = certificate.observe(0.9, 0)
    assert certificate.threshold == 0.5
    for _ in range(15):
        certificate = certificate.observe(0.9, 1)
    assert certificate.certified == 1
    assert certificate.threshold is None
    assert certificate.bound is None


def test_a_first_threshold_that_fails_does_not_stop_the_later_ones() -> None:
    certificate = people()
    for at in range(1000):
        # Of the surest two kinds nothing can be said: 1 of 100 is lost, as the margin allows.
        loss = int(at % 200 == 0) - (at % 10 == 5)
        certificate = certificate.observe(0.95 if loss > 0 else 0.65, loss)
    assert certificate.wealths[0].highest < math.log(40)
    assert certificate.threshold == 0.5


@pytest.mark.parametrize(("kind", "limit"), [("people", 0.01), ("llm", 0.05), ("llm", 0.12)])
def test_at_the_bound_it_errs_as_rarely_as_promised(kind: str, limit: float) -> None:
    drawn, wrong, times = random.Random(f"{kind}{limit}"), 0, 120
    for _ in range(times):
        certificate = Certificate.new(kind, CUTS[:2], limit, 0.05)  # type: ignore[arg-type]
        while certificate.rows < 600 and not certificate.certified:
            at = drawn.random()
            gained = 0.03 if kind == "people" else 0.0
            loss = -1 if at < gained else int(at < 2 * gained + limit)
            certificate = certificate.observe(0.95, loss)
        wrong += certificate.certified > 0
    # 0.05 of 120 are 6; 13 or more come with a probability below 0.01.
    assert wrong < 13


def test_survives_a_checkpoint() -> None:
    certificate = people()
    for score, loss in ((0.95, -1), (0.4, 1), (0.85, 0)):
        certificate = certificate.observe(score, loss)
    again = Certificate.model_validate_json(certificate.model_dump_json())
    assert again == certificate
    assert again.observe(0.9, -1) == certificate.observe(0.9, -1)


def test_the_model_that_differs_from_itself_may_be_differed_from_more() -> None:
    limits = [
        Certificate.against_model(CUTS, AskedTwice(asked, differed), 0.025).limit
        for asked, differed in ((0, 0), (200, 0), (200, 30), (2000, 300))
    ]
    assert limits[0] == limits[1] == pytest.approx(0.05)
    assert limits == sorted(limits)
    assert 0.08 < limits[2] < limits[3] < 0.05 + 0.15 / 2


def test_how_often_the_model_differs_from_itself_has_its_part_of_the_risk() -> None:
    certificate = Certificate.against_model(CUTS, AskedTwice(50, 10), 0.025)
    assert certificate.limit == alpha_of(AskedTwice(50, 10), 0.005)
    assert certificate.risk == pytest.approx(0.02)
    drawn, times = random.Random(3), 2_000
    too_much = sum(
        alpha_of(AskedTwice(50, sum(drawn.random() < 0.2 for _ in range(50))), 0.05) > 0.05 + 0.2 / 2
        for _ in range(times)
    )
    assert too_much < times * 0.05


def test_loss_to_people() -> None:
    assert loss_to_people("a", "b", "a") == 1
    assert loss_to_people("a", "b", "b") == -1
    assert loss_to_people("a", "b", "c") == loss_to_people("a", "a", "a") == 0


def test_labels_at_random_leave_nothing_to_certify() -> None:
    drawn = random.Random(7)
    texts = [
        LabeledText(f"вопрос {drawn.randrange(9999)} {drawn.randrange(9999)}", drawn.choice("abcdefgh"))
        for _ in range(300)
    ]
    made = learn(texts)
    assert made.for_people == made.for_llm == ()
    assert Certificate.new("people", made.for_people, 0.01, 0.025).observe(0.99, -1).threshold is None
