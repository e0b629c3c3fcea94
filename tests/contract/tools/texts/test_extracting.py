"""What has a form of its own in a text: what is found, what only looks like it, and that every position is right."""

from ipaddress import ip_address
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from tests.contract.tools.texts.calls import call, refusal


def values(text: str, kind: str, **options: Any) -> list[str]:
    return [each["value"] for each in call("text_extract", text=text, kinds=[kind], **options)[kind]]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("email", "Write to Ada.L+x@Example.ORG, or bob@sub.example.co.uk.", ["Ada.L+x@example.org", "bob@sub.example.co.uk"]),
        ("email", "ü@exämple.de o'neil@example.ie <a@b.cc> mailto:c@d.org", ["ü@exämple.de", "o'neil@example.ie", "a@b.cc", "c@d.org"]),
        ("email", "a@b .a@example.org a..b@example.org a.@example.org a@-x.org a@1.2 @a.org a@b@c.org", []),
        ("url", "See https://example.org/a_(b). And (http://x.y/z?q=1), www.example.com!", ["https://example.org/a_(b)", "http://x.y/z?q=1", "https://www.example.com"]),
        ("url", "http:// https://. www.x javascript:alert(1) file:///etc/passwd xhttp://a.b", []),
        ("url", "https://münchen.example/straße https://user:x@h:8080/p#f", ["https://münchen.example/straße", "https://user:x@h:8080/p#f"]),
        ("ip", "192.168.0.1 (::1) 2001:DB8::1, fe80::1%eth ::ffff:1.2.3.4.", ["192.168.0.1", "::1", "2001:db8::1", "fe80::1", "::ffff:102:304"]),
        ("ip", "999.1.1.1 1.2.3 1.2.3.4.5 12:30:45 a::b::c 01.02.03.04 v1.2.3.4", []),
        ("phone", "+49 30 1234567, (555) 123-4567; 030/1234567 or 0049 30 1234567", ["+49301234567", "5551234567", "0301234567", "+49301234567"]),
        ("phone", "12345678 1.234.567 2026-11-22 17:30:00 192.168.0.1 +0 123 456 (123 4567", []),
        ("date", "2026-11-22, 22.11.2026, 22 Nov 2026, November 22nd, 2026, 22nd of November 2026", ["2026-11-22"] * 5),
        ("date", "2026-02-30 31.4.2026 32 May 2026 1-2-26 version 1.2.2026.3 2026-1-1", []),
        ("date", "due 2026-11-22T10:00:00Z", ["2026-11-22"]),
        ("number", "1,234.56 1.234,56 1'000'000 1,234 1.234 0,5 -5 +7 3.1e-10 12% 1 234 567", ["1234.56", "1234.56", "1000000", "1234", "1.234", "0.5", "-5", "7", "3.1e-10", "12", "1", "234", "567"]),
        ("number", "v2 2nd 1.2.3 12:30 a1 1_000 2026-11-22 192.168.0.1", []),
        ("number", "1\u00a0234\u00a0567 \u22125", ["1234567", "-5"]),
        ("iban", "DE89 3704 0044 0532 0130 00 IS MINE, GB82WEST12345698765432; NO9386011117947", ["DE89370400440532013000", "GB82WEST12345698765432", "NO9386011117947"]),
        ("iban", "DE00370400440532013000 NO9386011117947", ["NO9386011117947"]),
        ("iban", "DE88370400440532013000 XX89370400440532013000 DE8937040044053201300 xDE89370400440532013000", []),
        ("card", "4111 1111 1111 1111, 378282246310005 5500-0055-5555-5559", ["4111111111111111", "378282246310005", "5500005555555559"]),
        ("card", "4111 1111 1111 1112 0000 0000 0000 0000 1234567890123", []),
    ],
)  # fmt: skip
def test_what_has_a_form_is_found_and_what_only_looks_like_it_is_not(kind, text, expected):
    assert values(text, kind) == expected


def test_order_says_which_is_the_day():
    assert values("3/4/2026", "date") == ["2026-04-03"]
    assert values("3/4/2026", "date", order="MDY") == ["2026-03-04"]


def test_all_kinds_are_looked_for_where_none_is_named():
    assert set(call("text_extract", text="")) == {
        "email",
        "url",
        "ip",
        "phone",
        "date",
        "number",
        "iban",
        "card",
    }


def test_a_kind_that_is_not_known_is_refused():
    assert refusal("text_extract", text="a", kinds=["name"]).field == "$.kinds[0]"
    assert refusal("text_extract", text="a", kinds=[]).field == "$.kinds"


PIECES = st.sampled_from([
    "ada@example.org", "https://example.org/x", "192.168.0.1", "::1", "+49 30 1234567", "22.11.2026", "1,234.5", "3",
    "DE89 3704 0044 0532 0130 00", "4111 1111 1111 1111", "May", "http://", "@", ".", ",", "(", ")", "-", "é", "日",
])  # fmt: skip


@settings(deadline=None)
@given(st.lists(PIECES, max_size=12), st.sampled_from([" ", "", ", ", "\n"]))
def test_positions_slice_to_what_is_found_and_nothing_is_found_twice(pieces: list[str], between: str):
    text = between.join(pieces)
    taken: list[tuple[int, int]] = []
    for found in call("text_extract", text=text).values():
        for each in found:
            assert text[each["start"] : each["end"]] == each["text"]
            taken.append((each["start"], each["end"]))
    taken.sort()
    assert all(one[1] <= two[0] for one, two in pairwise(taken))


@settings(deadline=None)
@given(st.lists(PIECES, max_size=12), st.sampled_from([" ", "", ", ", "\n"]))
def test_nothing_personal_is_left_after_it_was_taken_out(pieces: list[str], between: str):
    left = call("text_transform", text=between.join(pieces), ops=["redact_pii"])
    found = call("text_extract", text=left, kinds=["email", "iban", "card", "phone", "ip"])
    assert not any(found.values())


def test_what_stood_beside_personal_data_is_looked_at_again():
    assert call("text_transform", text="ada@example.org::1", ops=["redact_pii"]) == "[email][ip]"


@settings(deadline=None)
@given(st.ip_addresses())
def test_any_ip_address_is_found(address: Any):
    assert values(f"at {address}, or so", "ip") == [str(ip_address(str(address)))]


@settings(deadline=None)
@given(st.integers(-(10**15), 10**15), st.integers(0, 6))
def test_numbers_are_read_as_they_were_written(number: int, digits: int):
    value = number / 10**digits if digits else number
    text = f"it is {value:,.{digits}f} now"
    assert [float(each) for each in values(text, "number")] == pytest.approx([value], abs=10.0**-digits)
