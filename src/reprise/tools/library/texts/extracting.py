"""What has a form of its own in a text: addresses, numbers, dates. Checked where it can be, such as by checksums.

The patterns here are ours, not those of strangers. Each begins only where a run of its characters does and repeats nothing
that is repeated within, so that no text makes them slow.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from ipaddress import ip_address
from typing import Annotated, Literal, TypedDict, get_args

from msgspec import Meta

from reprise.tools.library.texts.words import Text
from reprise.tools.tool import Example, tool

Kind = Literal["email", "url", "ip", "phone", "date", "number", "iban", "card"]
Order = Literal["DMY", "MDY"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PERSONAL: tuple[Kind, ...] = ("email", "iban", "card", "phone", "ip")
"""What is taken out as personal data."""
AGAIN = 8
"""Times a text is looked at, at most: without what stood beside it, something else may look like personal data."""
MANY = 1_000
"""Of a kind, found at most."""


class Extract(TypedDict):
    """A part of a text that has a form of its own."""

    text: str
    value: str
    """The same in its usual form: 2026-11-22, 1234.5, +49301234567, DE89370400440532013000."""
    start: int
    end: int


# Patterns are compiled when they are first used, and kept by re: nobody waits for them who only registers.
_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_EMAIL = rf"(?<![\w.!#$%&'*+/=?^`{{|}}~@-])[\w.!#$%&'*+/=?^`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL}){{1,8}}(?![\w-])"
_URL = r"(?i)(?<!\w)(?:(?:https?|ftp)://|www\.)[^\s<>\"'`{}|\\^\[\]]{1,2000}|(?<!\w)mailto:[^\s<>\"]{1,500}"
_IP = r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?=[\da-fA-F]{0,4}:)[\da-fA-F:]{2,39}(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?)(?![\w:]|\.\d)"
_PHONE = r"(?<![\w+.,:/-])(?:\+|\()?\d(?:[ \t\u00a0./()-]{0,3}\d){5,16}(?!\w|[.,:/-]\d)"
_ISO = r"(?P<iso>\d{4}-\d{2}-\d{2})(?=T\d|\b)"
_NUMERIC = r"(?P<one>\d{1,2})(?P<sep>[./-])(?P<two>\d{1,2})(?P=sep)(?P<year>\d{4})(?!\d|[./-]\d)"
_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
_DATE = (
    rf"(?ai)(?<![\w./-])(?:{_ISO}|{_NUMERIC}"
    rf"|(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\.?[ ](?:of )?(?P<month>{_MONTH})\.?,?[ ](?P<year2>\d{{4}})(?!\w)"
    rf"|(?P<month2>{_MONTH})\.?[ ](?P<day2>\d{{1,2}})(?:st|nd|rd|th)?,?[ ](?P<year3>\d{{4}})(?!\w))"
)
_NUMBER = r"(?<![\w.,:])[-+\u2212]?(?:\d{1,3}(?:[.,'’\u00a0\u202f]\d{3})+(?!\d)|\d{1,400})(?:[.,]\d{1,400})?(?:[eE][-+]?\d{1,3})?(?!\w|[.,:]\d)"
_IBAN = r"(?<!\w)(?=([A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}))"
_CARD = r"(?<![\w.,-])\d(?:[ -]?\d){12,18}(?![\w-])"
_LENGTHS = dict(
    zip(*[iter("""
    AD 24 AE 23 AL 28 AT 20 AZ 28 BA 20 BE 16 BG 22 BH 22 BI 27 BR 29 BY 28 CH 21 CR 22 CY 28 CZ 24 DE 22 DJ 27 DK 18 DO 28
    EE 20 EG 29 ES 24 FI 18 FK 18 FO 18 FR 27 GB 22 GE 22 GI 23 GL 18 GR 27 GT 28 HN 28 HR 21 HU 28 IE 22 IL 23 IQ 23 IS 26
    IT 27 JO 30 KW 30 KZ 20 LB 28 LC 32 LI 21 LT 20 LU 20 LV 21 LY 25 MC 27 MD 24 ME 22 MK 19 MN 20 MR 27 MT 31 MU 30 NI 28
    NL 18 NO 15 OM 23 PK 24 PL 28 PS 29 PT 25 QA 29 RO 24 RS 22 RU 33 SA 24 SC 31 SD 18 SE 24 SI 19 SK 24 SM 27 SO 23 ST 25
    SV 28 TL 23 TN 24 TR 26 UA 29 VA 22 VG 24 XK 20 YE 30
    """.split())] * 2, strict=True)
)  # fmt: skip
"""Characters of an IBAN, by country."""


@tool(
    effects="pure",
    tags=["text"],
    examples=[
        Example(
            {"text": "Pay 1,250.50 to DE89 3704 0044 0532 0130 00 by 22 November 2026.", "kinds": ["number", "date", "iban"]},
            {
                "number": [{"text": "1,250.50", "value": "1250.50", "start": 4, "end": 12}],
                "date": [{"text": "22 November 2026", "value": "2026-11-22", "start": 47, "end": 63}],
                "iban": [
                    {"text": "DE89 3704 0044 0532 0130 00", "value": "DE89370400440532013000", "start": 16, "end": 43}
                ],
            },
        ),
        Example({"text": "Ask ada@example.org, or see https://example.org/a_(b)."}),
    ],
)  # fmt: skip
def text_extract(
    text: Text,
    kinds: Annotated[list[Kind], Meta(min_length=1), "What to look for; none = everything."] | None = None,
    order: Annotated[Order, "Which of 3/4/2026 is the day."] = "DMY",
) -> dict[Kind, list[Extract]]:
    """Find mail addresses, URLs, IP addresses, phone numbers, dates, numbers, bank accounts and cards in a text.

    Accounts (iban) and cards have right checksums, addresses and dates exist; phone numbers only look like one. A part
    of a text is one thing only: the digits of a date are no number. Months are English.
    """
    wanted = KINDS if kinds is None else tuple(dict.fromkeys(kinds))
    found = _found(text, order)
    return {kind: found[kind][:MANY] for kind in wanted}


def redacted(text: str) -> str:
    """Return a text with what looks like personal data replaced by its kind."""
    for _ in range(AGAIN):
        before, text = text, _redacted(text)
        if text == before:
            break
    return text


def _redacted(text: str) -> str:
    found = _found(text, "DMY")
    spots = sorted((each["start"], each["end"], kind) for kind in PERSONAL for each in found[kind])
    pieces: list[str] = []
    at = 0
    for start, end, kind in spots:
        pieces += [text[at:start], f"[{kind}]"]
        at = end
    return "".join([*pieces, text[at:]])


def _found(text: str, order: Order) -> dict[Kind, list[Extract]]:
    """Return all that is found, no character in two of them; what is surer goes first."""
    readers: tuple[tuple[Kind, Callable[[], Iterable[Extract]]], ...] = (
        ("url", lambda: _read(text, _URL, _url)),
        ("email", lambda: _read(text, _EMAIL, _email)),
        ("iban", lambda: _read(text, _IBAN, _iban)),
        ("card", lambda: _read(text, _CARD, _card)),
        ("date", lambda: _dates(text, order)),
        ("ip", lambda: _read(text, _IP, _ip)),
        ("phone", lambda: _read(text, _PHONE, _phone)),
        ("number", lambda: _read(text, _NUMBER, _number)),
    )
    found: dict[Kind, list[Extract]] = {}
    taken: list[tuple[int, int]] = []
    for kind, read in readers:
        found[kind] = [each for each in read() if _is_free(taken, each["start"], each["end"])]
        taken = sorted(taken + [(each["start"], each["end"]) for each in found[kind]])
    return found


def _is_free(taken: list[tuple[int, int]], start: int, end: int) -> bool:
    at = bisect_right(taken, (start, end))
    return not (at and taken[at - 1][1] > start) and not (at < len(taken) and taken[at][0] < end)


def _read(text: str, pattern: str, read: Callable[[str], tuple[str, str]]) -> Iterator[Extract]:
    """Yield what a pattern finds and a function can read; it returns the part that counts, and its value, or ''."""
    taken = 0
    for match in re.finditer(pattern, text):
        part, value = read(match[match.lastindex or 0])
        if part and match.start() >= taken:
            taken = match.start() + len(part)
            yield {"text": part, "value": value, "start": match.start(), "end": taken}


# ---------------------------------------------------------------- one by one


def _url(text: str) -> tuple[str, str]:
    """Return a URL without the punctuation of the sentence it stands in."""
    opened = text.count("(") - text.count(")")
    while text and text[-1] in ".,;:!?*_~)":
        if text[-1] == ")":
            if opened >= 0:
                break
            opened += 1
        text = text[:-1]
    if text.lower().startswith("mailto:"):
        return "", ""  # what counts is the address, which is found by itself
    host = text.rpartition("://")[2]
    if not host or not host[0].isalnum() or (text[:4].lower() == "www." and host.count(".") < 2):
        return "", ""
    return text, text if "://" in text else f"https://{text}"


def _email(text: str) -> tuple[str, str]:
    local, _, host = text.rpartition("@")
    if local.startswith(".") or local.endswith(".") or ".." in local or host.rpartition(".")[2].isdigit():
        return "", ""
    return text, f"{local}@{host.lower()}"


def _iban(text: str) -> tuple[str, str]:
    length = int(_LENGTHS.get(text[:2], "0"))
    part, value = "", ""
    for at, c in enumerate(text):
        if c.isalnum():
            value += c
        if len(value) == length:
            part = text[: at + 1]
            break
    follows = text[len(part) : len(part) + 1]
    if not part or follows.isalnum():
        return "", ""
    digits = "".join(str(int(c, 36)) for c in value[4:] + value[:4])
    return (part, value) if int(digits) % 97 == 1 else ("", "")


def _card(text: str) -> tuple[str, str]:
    digits = [int(c) for c in text if c.isdecimal()]
    doubled = [n if at % 2 == 0 else n * 2 - 9 * (n > 4) for at, n in enumerate(reversed(digits))]
    if sum(doubled) % 10 or not any(digits) or digits[0] not in (2, 3, 4, 5, 6):
        return "", ""
    return text, "".join(map(str, digits))


def _ip(text: str) -> tuple[str, str]:
    try:
        return text, str(ip_address(text))
    except ValueError:
        return "", ""


def _phone(text: str) -> tuple[str, str]:
    """Return what looks like a phone number: with a plus, a leading zero, brackets, or in groups of the American kind."""
    digits = "".join(c for c in text if c.isdecimal())
    if text.count("(") != text.count(")") or not 7 <= len(digits) <= 15:
        return "", ""
    if text.startswith("+"):
        return (text, f"+{digits}") if digits[0] != "0" else ("", "")
    if re.match("00[1-9]", text):
        return text, f"+{digits[2:]}"
    american = re.fullmatch(r"\(?\d{3}\)?[ .-]{0,2}\d{3}[ .-]\d{4}", text)
    return (text, digits) if american or re.match(r"\(?0[1-9]", text) else ("", "")


def _dates(text: str, order: Order) -> Iterator[Extract]:
    for match in re.finditer(_DATE, text):
        of = match.groupdict()
        if of["iso"]:
            year, month, day = map(int, of["iso"].split("-"))
        elif of["sep"]:
            day, month = (
                (int(of["one"]), int(of["two"])) if order == "DMY" else (int(of["two"]), int(of["one"]))
            )
            year = int(of["year"])
        else:
            name = (of["month"] or of["month2"])[:3].lower()
            month = 1 + next(at for at, each in enumerate(_MONTHS) if each.startswith(name))
            day, year = int(of["day"] or of["day2"]), int(of["year2"] or of["year3"])
        try:
            value = date(year, month, day).isoformat()
        except ValueError:
            continue
        yield {"text": match[0], "value": value, "start": match.start(), "end": match.end()}


def _number(text: str) -> tuple[str, str]:
    """Return a number with a point before its decimals.

    Of 1.234 and 1,234 the first is read as a fraction and the second as thousands, unless something else in it says more.
    """
    mantissa, exponent = re.fullmatch(r"([^eE]*)(.*)", text).groups()  # pyright: ignore[reportOptionalMemberAccess]
    bare = re.sub("['’\u00a0\u202f]", "", mantissa.replace("\u2212", "-"))
    points, commas = bare.count("."), bare.count(",")
    if points and commas:
        last = max(bare.rfind("."), bare.rfind(","))
        bare = bare[:last].replace(".", "").replace(",", "") + "." + bare[last + 1 :]
    elif points > 1:
        bare = bare.replace(".", "")
    elif commas > 1 or re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", bare):
        bare = bare.replace(",", "")
    else:
        bare = bare.replace(",", ".")
    return text, bare.removeprefix("+") + exponent.lower()


TOOLS = [text_extract]
