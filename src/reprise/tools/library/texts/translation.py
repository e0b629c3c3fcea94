"""Translating: who is asked, and the tool that asks. There is nobody to ask until one is provided."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Annotated, TypedDict

import msgspec
from msgspec import Meta

from reprise.kernel.errors import ToolError
from reprise.kernel.settings import Secret
from reprise.tools.context import ToolContext
from reprise.tools.guards.network import NetworkAccess
from reprise.tools.library.services import Service
from reprise.tools.tool import Example, tool

AUTO = "auto"

Code = Annotated[str, Meta(max_length=12, pattern="^[A-Za-z]{2,4}([-_][A-Za-z0-9]{2,8})?$")]


class Translation(msgspec.Struct, frozen=True):
    """A text in another language."""

    text: str
    source: str = ""
    """Code of the language it was in, '' = the translator does not say."""


class Translator(ABC):
    """Who translates for ``text_translate``: one of those here, or a class of your own.

    ``registry.provide(LibreTranslate("https://translate.example"))``
    """

    @abstractmethod
    async def translate(self, ctx: ToolContext, text: str, target: str, source: str) -> Translation:
        """Return a text in the language ``target``; ``source`` is a code, or ``auto``. Raises ``ToolError``."""


class FunctionTranslator(Translator):
    """A function as a :class:`Translator`, such as a call of a model: async or not, with ``(text, target, source)``.

    It returns the text, or a :class:`Translation`. ``name`` is what results say of who translated.

    >>> shouting = FunctionTranslator(lambda text, target, source: text.upper(), name="shouting")
    """

    def __init__(
        self,
        function: Callable[[str, str, str], str | Translation | Awaitable[str | Translation]],
        *,
        name: str = "",
    ) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", "")

    async def translate(self, ctx: ToolContext, text: str, target: str, source: str) -> Translation:
        """Return what the function does."""
        given = self.function(text, target, source)
        translated = await given if isawaitable(given) else given
        return translated if isinstance(translated, Translation) else Translation(translated)


class _Service(Service, Translator):
    """A service that translates."""

    def _failure(self, status: int, said: str, after: float | None) -> ToolError:
        failure = super()._failure(status, said, after)
        if status == 400:
            return ToolError("invalid_input", failure.what, hint="Look at the codes of the languages.")
        if status == 413:
            return ToolError("too_large", failure.what, hint="Translate less at a time.", field="$.text")
        return failure


class _LibreDetected(msgspec.Struct):
    language: str = ""


class _Libre(msgspec.Struct, rename="camel"):
    translated_text: str
    detected_language: _LibreDetected | None = None


class LibreTranslate(_Service):
    """A LibreTranslate server; ``key`` is needed where it asks for one.

    >>> translator = LibreTranslate("http://127.0.0.1:5000")

    Raises ``ConfigurationError`` for what is no address.
    """

    def __init__(self, url: str, key: str | Secret = "", *, access: NetworkAccess | None = None) -> None:
        super().__init__(url, key, access)

    async def translate(self, ctx: ToolContext, text: str, target: str, source: str) -> Translation:
        """Return a text in another language."""
        asked = {"q": text, "source": source, "target": target, "format": "text"}
        if key := self._key.reveal():
            asked["api_key"] = key
        found = await self._asked(ctx, "/translate", _Libre, body=asked)
        detected = found.detected_language
        return Translation(found.translated_text, detected.language if detected else "")


class _DeepLText(msgspec.Struct):
    text: str
    detected_source_language: str = ""


class _DeepLTexts(msgspec.Struct):
    translations: list[_DeepLText]


class DeepL(_Service):
    """DeepL; needs a key of theirs. A key that ends with ``:fx`` is one of the free interface, which has its own address."""

    LARGEST = 120_000
    """Bytes of a text: it takes requests of 128 KiB."""

    def __init__(self, key: str | Secret, *, url: str = "", access: NetworkAccess | None = None) -> None:
        plain = key.reveal() if isinstance(key, Secret) else key
        free = "-free" if plain.endswith(":fx") else ""
        super().__init__(url or f"https://api{free}.deepl.com", key, access)

    async def translate(self, ctx: ToolContext, text: str, target: str, source: str) -> Translation:
        """Return a text in another language."""
        if (size := len(msgspec.json.encode(text))) > self.LARGEST:
            raise ToolError(
                "too_large",
                f"DeepL takes {self.LARGEST:,} bytes at a time, and these are {size:,}.",
                hint="Translate paragraph by paragraph.",
                field="$.text",
            )
        asked: dict[str, object] = {"text": [text], "target_lang": target.replace("_", "-").upper()}
        if source != AUTO:
            asked["source_lang"] = (
                source.replace("_", "-").partition("-")[0].upper()
            )  # it knows no regions there
        headers = {"authorization": f"DeepL-Auth-Key {self._key.reveal()}"}
        found = await self._asked(ctx, "/v2/translate", _DeepLTexts, headers=headers, body=asked)
        if len(found.translations) != 1:
            raise ToolError("upstream", f"DeepL answered {len(found.translations)} translations of one text.")
        return Translation(found.translations[0].text, found.translations[0].detected_source_language.lower())

    def _failure(self, status: int, said: str, after: float | None) -> ToolError:
        if status == 456:
            return ToolError(
                "unavailable",
                "DeepL: what may be translated this month is used up.",
                hint="Look at its plan.",
            )
        return super()._failure(status, said, after)


class Translated(TypedDict):
    """A text in another language."""

    text: str
    source: str
    """Code of the language it was in."""
    target: str
    provider: str
    """Who translated it."""


@tool(
    effects="network",
    idempotent=True,
    tags=["text"],
    extra="web",
    examples=[Example({"text": "Good morning", "target": "fr"})],
)
async def text_translate(
    ctx: ToolContext,
    text: Annotated[str, Meta(min_length=1, max_length=500_000), "A text."],
    target: Annotated[Code, "Code of the language to translate to, such as fr or pt-BR."],
    source: Annotated[Code, "Code of the language it is in; auto = let the translator find out."] = AUTO,
) -> Translated:
    """Translate a text to another language, by the translator that was provided."""
    translator = ctx.need(
        Translator,
        hint="Provide one: registry.provide(LibreTranslate(url)), DeepL(key), or FunctionTranslator(function) for a model.",
    )
    found = await translator.translate(ctx, text, target, source)
    if text.strip() and not found.text.strip():
        raise ToolError("upstream", f"{type(translator).__name__} answered nothing.")
    provider = translator.name if isinstance(translator, FunctionTranslator) else type(translator).__name__
    known = found.source or ("" if source == AUTO else source)
    return {"text": found.text, "source": known, "target": target, "provider": provider}


TOOLS = [text_translate]
