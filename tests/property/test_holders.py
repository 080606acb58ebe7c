"""The quick look at a credit code says what the library says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import uscc
from stdnum.exceptions import ValidationError

from producers.holders import _is_code

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
bodies = st.builds(
    str.__add__,
    st.text("0123456789", min_size=8, max_size=8),
    st.text(ALPHABET, min_size=9, max_size=9),
)
right = bodies.map(lambda body: body + str(uscc.calc_check_digit(body)))
near = st.builds(
    lambda code, at, new: code[:at] + new + code[at + 1 :],
    right,
    st.integers(0, 18),
    st.sampled_from([*ALPHABET, "I", "O", "S", "V", "Z", "a", " ", "-", "１", "\n", ""]),
)


@given(right)
def test_a_right_code_needs_no_second_look(code: str) -> None:
    assert _is_code(code)
    assert uscc.validate(code) == code


@given(near | st.text(ALPHABET, min_size=17, max_size=19))
def test_what_it_takes_the_library_takes_as_it_is(text: str) -> None:
    try:
        said = uscc.validate(text)
    except ValidationError:
        said = None
    assert _is_code(text) == (said == text)
