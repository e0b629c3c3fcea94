"""Words, sentences, and how a language is guessed by its small words: what several tools for text need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from reprise.tools.extras import library

Text = Annotated[str, Meta(max_length=1_000_000), "A text."]
Language = Annotated[
    str, Meta(max_length=10, pattern="^([a-z]{2,3}|auto)$"), "ISO 639 code, such as en; auto = find out."
]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
"""Scripts that are written without spaces: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""
_BLOCK = 2_000
"""Characters in which sentences are looked for at a time: quotes that never close make that slow."""

_SMALL = {
    "en": """
        a about above after again against all also am an and any are as at be because been before being below between both
        but by can could did do does doing down during each either else ever every few for from further had has have having he
        her here hers herself him himself his how however i if in into is it its itself just least less let like many may me might
        more most much must my myself neither no nor not now of off often on once one only onto or other our ours out over own per
        quite rather same shall she should since so some still such than that the their theirs them themselves then there
        these they this those though through thus to too toward under until up upon us very was we were what when where
        whether which while who whom whose why will with within without would yet you your yours yourself
    """,
    "de": """
        aber alle allem allen aller alles als also am an andere anderen auch auf aus bei beim bereits bin bis bist da dabei damit
        dann das dass dein deine dem den denn der des dessen dich die dies diese diesem diesen dieser dieses dir doch dort du
        durch ein eine einem einen einer eines er es etwas euch euer für gegen gibt hab habe haben hat hatte hatten hier hin
        ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in ins ist ja jede jedem jeden jeder jedes jedoch kann kein keine
        keinen können könnte man mehr mein meine mich mir mit muss müssen nach nicht nichts noch nun nur ob oder ohne schon
        sehr sein seine seinem seinen seiner seit sich sie sind so solche soll sollte sondern über um und uns unser unter vom
        von vor war waren was weil welche welcher wenn wer werden wie wieder will wir wird wo wurde wurden zu zum zur zwischen
    """,
    "fr": """
        à afin ai alors au aucun aussi autre autres aux avait avant avec avoir car ce cela celle celui ces cet cette ceux chaque
        chez comme comment dans de depuis des deux dont du elle elles en encore entre est et étaient était été être eu eux fait
        faire fut ici il ils je jusqu la là le les leur leurs lors lui ma mais me même mes moi moins mon ne ni non nos notre
        nous on ont ou où par parce pas pendant peu peut plus pour pourquoi qu quand que quel quelle quelles quels qui quoi sa
        sans se sera ses si sinon soi soit son sont sous sur ta tandis te tes toi ton tous tout toute toutes très tu un une vers
        voici voilà vos votre vous y c d j l m n s t
    """,
    "es": """
        a al algo algunas algunos ante antes aquel aquella aquí así aún aunque cada como con contra cual cuando cuya cuyo de
        del desde donde dos durante e el él ella ellas ellos en entre era eran es esa ese eso esta está estaba estado están este
        esto estos fue fueron ha había han hasta hay la las le les lo los más me mi mientras mis mucho muy nada ni no nos
        nosotros nuestra nuestro o os otra otras otro otros para pero poco por porque pues que qué quien quién se sea según ser
        si sí sido sin sino sobre son su sus también tan tanto te tiene tienen toda todas todo todos tras tu tus un una uno unos
        usted y ya yo
    """,
    "it": """
        a ad agli ai al alla alle allo anche ancora avere aveva c che chi ci cioè come con contro cosa cui da dagli dai dal dalla
        dalle degli dei del dell della delle dello dentro di dopo dove dunque e è ed era erano essere fra già gli ha hanno i il
        in invece io la le lei li lo loro lui ma me mentre mi mia mio molto ne negli nei nel nella nelle nello no noi non nostro
        o ogni oppure per perché però più poco poi prima può qua quale quali quando quanto quasi quella quelle quelli quello
        questa queste questi questo qui se sei sempre senza si sia siamo siete solo sono sopra sotto sta stata stato su sua sue
        sui sul sulla suo suoi tra tu tua tuo tutta tutte tutti tutto un una uno vi voi vostro l d
    """,
    "pt": """
        a à ainda além algo algum alguma ante antes ao aos apenas aquela aquele aquilo as às assim até cada com como contra cuja
        cujo da das de dela dele deles depois desde dessa desse desta deste do dos durante e é ela elas ele eles em enquanto
        entre era eram essa essas esse esses esta está estava este estes eu foi foram há isso isto já lhe logo mais mas me mesmo
        meu minha muito na não nas nem no nos nós nossa nosso num numa o onde os ou outra outras outro outros para pela pelas
        pelo pelos pois por porque quais qual quando quanto que quem se seja sem sempre ser seu seus sido só sob sobre sua suas
        também tanto te tem têm toda todas todo todos tu um uma umas uns você
    """,
    "nl": """
        aan al alle alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus een en er ge geen geweest
        haar had hadden heb hebben heeft hem het hier hij hoe hun ik in is ja je jij kan kon kunnen maar me meer men met mij mijn
        moet na naar niet niets nog nu of om omdat onder ons ook op over reeds te tegen toch toen tot u uit uw van veel voor want
        waren was wat we wel werd wezen wie wij wil worden wordt zal ze zelf zich zij zijn zo zonder zou
    """,
}
"""Words that every text has: articles, pronouns, prepositions, conjunctions, auxiliary verbs."""
_SETS = {language: frozenset(words.split()) for language, words in _SMALL.items()}


class Span(NamedTuple):
    """A part of a text."""

    start: int
    end: int


def words(text: str) -> list[str]:
    """Return the words of a text in small letters; of scripts that have no spaces, each two characters.

    >>> words("Ada's tea: 日本語")
    ["ada's", 'tea', '日本', '本語']
    """
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        if word.isascii() or not _UNSPACED.fullmatch(word):
            found.append(word)
        else:
            found += [word[at : at + 2] for at in range(max(1, len(word) - 1))]
    return found


def small_words(language: str) -> frozenset[str]:
    """Return the words of a language that say nothing by themselves; none of a language that is not known."""
    return _SETS.get(language, frozenset())


def guessed(text: str) -> str:
    """Return the language whose small words a text has, '' = none of those known here.

    >>> guessed("Die Katze sitzt auf dem Dach und sieht uns an."), guessed("Kissa istuu katolla.")
    ('de', '')
    """
    found = words(text[:20_000])
    share = {language: sum(word in known for word in found) for language, known in _SETS.items()}
    best = max(share, key=lambda language: share[language])
    return best if share[best] > max(1, 0.15 * len(found)) else ""


def sentences(text: str, language: str) -> list[Span]:
    """Return where the sentences of a text are; needs the extra ``text``.

    An empty line ends a sentence, also without a full stop.
    """
    split: Any = library("sentencex", "text").segment
    found: list[Span] = []
    for block in _blocks(text):
        at = block.start
        for piece in split(language or "en", text[block.start : block.end]):
            bare = piece.strip()
            start = text.index(bare, at)  # what is between them is not always returned
            at = start + len(bare)
            if bare:
                found.append(Span(start, at))
    return found


def _blocks(text: str) -> Iterator[Span]:
    """Yield paragraphs, long ones cut where a sentence seems to end, or at least a word."""
    start = 0
    for gap in re.finditer(r"\n[^\S\n]*\n\s*|\Z", text):
        while gap.start() - start > _BLOCK:
            limit = start + _BLOCK
            end = max(text.rfind(mark, start, limit) + 1 for mark in (". ", ".\n", "? ", "! ", "。"))
            end = end or max(text.rfind(" ", start, limit), text.rfind("\n", start, limit))
            end = end if end > start else limit
            yield Span(start, end)
            start = end
        if gap.start() > start:
            yield Span(start, gap.start())
        start = gap.end()
