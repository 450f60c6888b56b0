"""Every member of the registry keeps every law that applies to it; and every law can fail."""

import pytest

from seqjax.testing import laws_of
from tests.registry import MEMBERS, member

CASES = [(name, law) for name in MEMBERS for law in laws_of(MEMBERS[name][0])]


@pytest.mark.parametrize(("name", "law"), CASES, ids=[f"{name}-{law}" for name, law in CASES])
def test_member_keeps_law(name, law):
    recurrence, settings = member(name)
    laws_of(recurrence)[law](recurrence, settings)
