"""Translators: the tool, functions, and the two services over HTTP.

The services are stubs on the loopback that speak the documented protocols (LibreTranslate: POST /translate; DeepL: POST
/v2/translate), not the services themselves: what is shown is what we send, and what we make of what comes back.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from reprise import ConfigurationError, ToolError, ToolRegistry
from reprise.kernel.settings import Secret
from reprise.tools.library import texts
from reprise.tools.library.texts.translation import (
    DeepL,
    FunctionTranslator,
    LibreTranslate,
    Translation,
    Translator,
)


class Stub:
    """A server that notes what it is asked, and answers what it was told to."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.status, self.answer, self.headers = 200, b"{}", ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (row.partition(": ") for row in head[1:] if row)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.asked.append((head[0], headers, json.loads(body)))
        writer.write(
            f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(self.answer)}\r\n{self.headers}connection: close\r\n\r\n".encode()
            + self.answer
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    found = Stub()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield found
    server.close()
    await server.wait_closed()


async def translated(translator: Translator, **arguments: Any) -> Any:
    registry = ToolRegistry(texts.TOOLS)
    registry.provide(translator)
    return await registry.execute_tool(
        "text_translate", {"text": "Good morning", "target": "fr", **arguments}
    )


async def refusal(translator: Translator, **arguments: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await translated(translator, **arguments)
    return caught.value


async def test_without_a_translator_the_text_is_not_given_back():
    with pytest.raises(ToolError, match="LibreTranslate") as caught:
        await ToolRegistry(texts.TOOLS).execute_tool("text_translate", {"text": "Hello", "target": "fr"})
    assert caught.value.code == "unavailable"


@pytest.mark.parametrize("target", ["", "french!", "fr\r\nx", "a", "../fr"])
async def test_what_is_no_code_of_a_language_is_refused_before_anybody_is_asked(target):
    error = await refusal(FunctionTranslator(lambda *_: pytest.fail("asked")), target=target)
    assert (error.code, error.field) == ("invalid_input", "$.target")


async def test_a_function_translates():
    async def model(text: str, target: str, source: str) -> Translation:
        return Translation(f"{text} in {target} from {source}", "en")

    assert await translated(FunctionTranslator(model)) == {
        "text": "Good morning in fr from auto", "source": "en", "target": "fr", "provider": "model",
    }  # fmt: skip
    told = await translated(FunctionTranslator(lambda *_: "Bonjour", name="my model"), source="en")
    assert (told["source"], told["provider"]) == ("en", "my model")
    assert (await refusal(FunctionTranslator(lambda *_: " "))).code == "upstream"


async def test_libretranslate_is_asked_as_it_documents(stub: Stub):
    stub.answer = b'{"translatedText": "Bonjour", "detectedLanguage": {"confidence": 90.0, "language": "en"}}'
    assert await translated(LibreTranslate(stub.url + "/", "k3y")) == {
        "text": "Bonjour", "source": "en", "target": "fr", "provider": "LibreTranslate",
    }  # fmt: skip
    line, headers, body = stub.asked[0]
    assert line == "POST /translate HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert body == {"q": "Good morning", "source": "auto", "target": "fr", "format": "text", "api_key": "k3y"}


async def test_libretranslate_without_a_key_and_with_a_source(stub: Stub):
    stub.answer = '{"translatedText": "Καλημέρα"}'.encode()
    told = await translated(LibreTranslate(stub.url), source="en", target="el")
    assert (told["text"], told["source"]) == ("Καλημέρα", "en")
    assert stub.asked[0][2] == {"q": "Good morning", "source": "en", "target": "el", "format": "text"}


async def test_deepl_is_asked_as_it_documents(stub: Stub):
    stub.answer = b'{"translations": [{"detected_source_language": "EN", "text": "Bonjour"}]}'
    told = await translated(DeepL(Secret("s3cret:fx"), url=stub.url), target="pt-br", source="en_US")
    assert told == {"text": "Bonjour", "source": "en", "target": "pt-br", "provider": "DeepL"}
    line, headers, body = stub.asked[0]
    assert line == "POST /v2/translate HTTP/1.1"
    assert headers["authorization"] == "DeepL-Auth-Key s3cret:fx"
    assert body == {"text": ["Good morning"], "target_lang": "PT-BR", "source_lang": "EN"}
    await translated(DeepL("k", url=stub.url))
    assert "source_lang" not in stub.asked[1][2]


@pytest.mark.parametrize(("key", "host"), [("a:fx", "api-free.deepl.com"), ("a", "api.deepl.com")])
def test_a_key_says_which_interface_it_is_for(key, host):
    assert host in DeepL(key)._url


@pytest.mark.parametrize(
    ("status", "answer", "headers", "code", "says"),
    [
        (400, b'{"error": "xx is not supported"}', "", "invalid_input", "xx is not supported"),
        (403, b'{"error": "Invalid API key"}', "", "permission_denied", "Invalid API key"),
        (413, b"", "", "too_large", "less at a time"),
        (429, b'{"error": "Slow down"}', "retry-after: 17\r\n", "rate_limited", "Slow down"),
        (500, b"<html>oops</html>", "", "upstream", "500"),
        (200, b"<html>", "", "upstream", "never did"),
        (200, b'{"other": 1}', "", "upstream", "never did"),
        (302, b"", "location: http://169.254.169.254/\r\n", "permission_denied", "169.254.169.254"),
    ],
)
@pytest.mark.parametrize("kind", [LibreTranslate, DeepL])
async def test_what_a_service_refuses_is_said(stub: Stub, kind, status, answer, headers, code, says):
    stub.status, stub.answer, stub.headers = status, answer, headers
    translator = LibreTranslate(stub.url, "k3y") if kind is LibreTranslate else DeepL("k3y", url=stub.url)
    error = await refusal(translator)
    assert error.code == code
    assert says in str(error)
    assert "k3y" not in str(error)
    assert error.retry_after == (17 if status == 429 else None)


async def test_a_month_that_is_used_up_is_not_tried_again(stub: Stub):
    stub.status, stub.answer = 456, b'{"message": "Quota exceeded"}'
    error = await refusal(DeepL("k", url=stub.url))
    assert error.code == "unavailable"
    assert "used up" in str(error)


async def test_what_deepl_does_not_take_is_not_sent(stub: Stub):
    error = await refusal(DeepL("k", url=stub.url), text="é" * 100_000)
    assert (error.code, error.field, stub.asked) == ("too_large", "$.text", [])


async def test_a_service_that_is_not_there_is_upstream():
    error = await refusal(LibreTranslate("http://127.0.0.1:9"))
    assert error.code == "upstream"


def test_what_is_no_address_is_refused_at_once_and_keys_are_not_shown():
    for url in ("", "ftp://x", "127.0.0.1:5000", "http://"):
        with pytest.raises(ConfigurationError, match="no address of LibreTranslate"):
            LibreTranslate(url)
    assert "k3y" not in repr(vars(DeepL("k3y")))
