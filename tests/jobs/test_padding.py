"""What packed rows lose to padding is told where people look."""

from types import SimpleNamespace

from prereq.jobs.padding import of_round, padding_facts, padding_line
from prereq.jobs.sample import tell


def packed(padding, *, samples=8, seq_len=16, number=0):
    facts = {"seq_len": seq_len, "pieces": 9, "special": 0, "padding": padding}
    return SimpleNamespace(round=number, samples=samples, packing=facts, documents=3, tokens=100, feedback=[])


def test_padding_is_counted_over_all_packed_rounds():
    plain = SimpleNamespace(samples=8, packing=None)
    assert padding_facts([plain]) is None
    assert padding_facts([]) is None
    assert padding_facts([packed(2), plain, packed(30)]) == {"tokens": 32, "bytes": 128, "share": 0.125}


def test_much_padding_says_what_can_be_done():
    assert padding_line(padding_facts([packed(12)])) == "padding 12 tokens, 48 bytes (9.4% of the rows)"
    assert "raise batches_per_round" in padding_line(padding_facts([packed(13)]))


def test_a_rounds_line_tells_its_padding():
    said = []
    tell("round", {"manifest": packed(16), "diagnostics": {"logit_range": 0.0}, "waited_s": 0.0}, said.append)
    assert "100 tokens (padding 12.5%), feedback applied" in said[0]
    assert of_round(SimpleNamespace(samples=8, packing=None)) == ""
