"""What `make mutations` drops is in the source, and the tests that must notice it exist."""

from __future__ import annotations

import pytest

from tests.mutations.safeguards import ROOT, SAFEGUARDS, Safeguard


@pytest.mark.parametrize("safeguard", SAFEGUARDS, ids=lambda each: each.name)
def test_each_safeguard_is_in_place_and_has_its_tests(safeguard: Safeguard) -> None:
    assert safeguard.is_in_place()
    for test in safeguard.tests:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text("utf-8") if name else (ROOT / file).exists()
