"""The sheet of paper: one A4 page in Chinese and English with a QR code, as PDF, SVG or HTML.

One layout, in millimetres from the upper left corner, drawn in three ways. The PDF names the
standard Chinese font of PDF readers and embeds none; SVG and HTML name the system's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from itertools import groupby

import segno
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from ledger.errors import Malformed
from ledger.question import format_instant
from ledger.sheet import Statement, parse_sheet
from ledger.trust import Trust
from ledger.verdict import VALID, Answer

from .words import REASONS, VERDICTS, plain

WIDTH, HEIGHT, MARGIN = 210.0, 297.0, 20.0
QR_SIDE = 74.0  # with its quiet zone
MAX_VERSION = 25
_LATIN, _BOLD, _CHINESE = "Helvetica", "Helvetica-Bold", "STSong-Light"
_POINT = 25.4 / 72  # mm
_FAMILIES = (
    "Helvetica, Arial, 'Noto Sans CJK SC', 'Source Han Sans SC', 'PingFang SC', "
    "'Microsoft YaHei', sans-serif"
)
_INK, _GREY, _GOOD, _BAD = "#1a1a1a", "#5a5a5a", "#0b6b3a", "#a01818"


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text; `y` is its baseline, `size` in points."""

    x: float
    y: float
    text: str
    size: float = 9
    is_bold: bool = False
    colour: str = _INK


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle."""

    x: float
    y: float
    width: float
    height: float
    colour: str = _INK


def draw_pdf(items: Sequence[Text | Box], title: str) -> bytes:
    """The page as PDF; the same items give the same bytes."""
    pdfmetrics.registerFont(UnicodeCIDFont(_CHINESE))
    file = BytesIO()
    canvas = Canvas(file, pagesize=(WIDTH * mm, HEIGHT * mm), invariant=1)
    canvas.setTitle(title)
    canvas.setCreator("certledger")
    for item in items:
        canvas.setFillColor(item.colour)
        if isinstance(item, Box):
            y = (HEIGHT - item.y - item.height) * mm
            canvas.rect(item.x * mm, y, item.width * mm, item.height * mm, stroke=0, fill=1)
            continue
        x = item.x * mm
        for is_latin, letters in groupby(item.text, _is_latin):
            run = "".join(letters)
            font = (_BOLD if item.is_bold else _LATIN) if is_latin else _CHINESE
            canvas.setFont(font, item.size)
            canvas.drawString(x, (HEIGHT - item.y) * mm, run)
            x += pdfmetrics.stringWidth(run, font, item.size)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


def draw_svg(items: Sequence[Text | Box], title: str) -> str:
    """The page as SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" '
        f'width="{WIDTH:g}mm" height="{HEIGHT:g}mm" font-family="{_FAMILIES}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH:g}" height="{HEIGHT:g}" fill="#fff"/>',
    ]
    for colour, group in groupby(items, lambda item: isinstance(item, Box) and item.colour):
        if colour:
            path = "".join(_outline(box) for box in group if isinstance(box, Box))
            lines.append(f'<path fill="{colour}" shape-rendering="crispEdges" d="{path}"/>')
            continue
        for item in (each for each in group if isinstance(each, Text)):
            weight = ' font-weight="bold"' if item.is_bold else ""
            lines.append(
                f'<text x="{item.x:.3f}" y="{item.y:.3f}" font-size="{item.size * _POINT:.3f}" '
                f'fill="{item.colour}"{weight} xml:space="preserve">{escape(item.text)}</text>'
            )
    return "\n".join([*lines, "</svg>"]) + "\n"


def _outline(box: Box) -> str:
    return f"M{box.x:.2f} {box.y:.2f}h{box.width:.2f}v{box.height:.2f}h-{box.width:.2f}z"


def draw_html(items: Sequence[Text | Box], title: str) -> str:
    """The page as HTML that prints on one A4 page."""
    return (
        '<!doctype html>\n<html lang="zh-Hans">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        "<style>@page{size:A4;margin:0}body{margin:0}svg{display:block;max-width:100%;height:auto}"
        f"</style>\n{draw_svg(items, title)}</html>\n"
    )


def _is_latin(letter: str) -> bool:
    return letter <= "\xff"


def lay_out(qr: str, answer: Answer, trust: Trust) -> list[Text | Box]:
    """The page of a sheet whose QR code says `qr`; Malformed `too-large` where it does not fit."""
    statement = parse_sheet(qr).statement
    page = _Page()
    page.say("证照状态单  Certificate status sheet", 15, is_bold=True)
    page.say(f"{plain(trust.origin)}", 9, colour=_GREY)
    page.rule()
    top = page.y
    english, chinese, _ = VERDICTS[statement.answer]
    because = REASONS[statement.reason]
    colour = _GOOD if statement.answer == VALID else _BAD
    narrow = WIDTH - 2 * MARGIN - QR_SIDE - 6
    page.y += 5
    page.say(f"{chinese} {english}", 26, is_bold=True, colour=colour)
    page.say(f"{because[1]}  {because[0]}", 12, colour=colour)
    page.y += 2
    for name, value in _rows(statement, answer):
        page.say(name, 7.5, colour=_GREY, gap=0.2)
        page.say(value, 10.5, width=narrow, gap=1.2)
    page.items += _qr(qr, WIDTH - MARGIN - QR_SIDE, top + 4)
    below = top + 4 + QR_SIDE + 4
    page.items.append(
        Text(WIDTH - MARGIN - QR_SIDE + 4, below, f"编号 Reference  {statement.reference}", 9)
    )
    page.y = max(page.y, below + 3)
    page.rule()
    for heading, sentences in _words(statement):
        page.say(heading, 11.5, is_bold=True)
        for sentence in sentences:
            page.say(sentence, 9.5, gap=0.6)
        page.y += 2.4
    return page.items


def _rows(statement: Statement, answer: Answer) -> Iterator[tuple[str, str]]:
    certificate = statement.certificate
    yield "证照号码 Number", certificate.number
    yield "证照类型 Type", _named(certificate.type_code, answer, "type")
    yield "发证机关 Issuer", _named(certificate.issuer, answer, "issuer")
    if statement.responsible != certificate.issuer:
        yield "现管机关 Responsible", _named(statement.responsible, answer, "responsible")
    yield "版本 Version", str(statement.version)
    first, last = statement.valid_from or "unknown 不详", statement.valid_until or "open 长期"
    yield "有效期 Valid from, until", f"{first}  –  {last}"
    yield "账本时间 As of (ledger time)", format_instant(statement.ledger_time)
    yield "此码有效至 The code says this until", format_instant(statement.holds_until)


def _named(code: str, answer: Answer, member: str) -> str:
    names = answer.names.get(member) or {}
    return "  ".join([*(str(names[n]) for n in ("zh", "en") if n in names), f"({code})"])


def _words(statement: Statement) -> Iterator[tuple[str, Sequence[str]]]:
    """Headings with what stands below them, each Chinese line before its English one."""
    time, until = format_instant(statement.ledger_time), format_instant(statement.holds_until)
    yield (
        "本单能证明什么  What this sheet proves",
        (
            f"核验二维码即知：账本（共 {statement.size} 条记录）签署了截至 {time} 的上述状态。"
            f"{until} 之前，手机无需联网，凭账本的信任文件即可核验。",
            f"Whoever checks the QR code learns that the ledger of {statement.size} entries signed "
            f"this status as of {time}. Until {until} a phone can check that without a network, "
            "against the ledger's trust file.",
        ),
    )
    yield (
        "本单不能证明什么  What this sheet alone does not prove",
        (
            "1. 纸上的文字谁都能印，只有核验二维码的结果算数。",
            "Anybody can print these words: only what the checked code says counts.",
            f"2. {time} 之后的变更（暂扣、吊销等）不在其中。",
            f"It does not know of changes after {time}, such as a suspension or a revocation.",
            "3. 它不说明持单人是谁；复印件与原件所言相同。",
            "It does not say who holds the paper; a copy says the same as the original.",
            "4. 它是账本服务签名的声明，不含完整历史和部门签名；完整证据在 .evidence.json 文件中。",
            "It is a statement that the ledger's service signed, without history and the "
            "department's signature: an .evidence.json file proves those.",
            "5. 只含 Ed25519 签名；抗量子的 ML-DSA 签名放不进二维码。",
            "It holds Ed25519 signatures only: those by ML-DSA, made to outlast today's curves, do "
            "not fit into a QR code.",
        ),
    )
    yield (
        "如何核验  How to check it",
        (
            "在账本网页上出示二维码，或运行 certledger verify --qr 图片 --trust trust.json；"
            "核对屏幕上的证照号码与编号。",
            "Show the code to the ledger's web page, or run certledger verify --qr PICTURE --trust "
            "trust.json; compare number and reference with the screen.",
        ),
    )


def _qr(text: str, x: float, y: float) -> Iterator[Box]:
    for level in ("m", "l"):
        code = segno.make_qr(text, error=level, mode="alphanumeric", boost_error=False)
        if int(code.version) <= MAX_VERSION:
            break
    else:
        raise Malformed("too-large", "the certificate's number is too long for a QR code")
    rows = [bytes(row) for row in code.matrix]
    module = QR_SIDE / (len(rows) + 8)
    for n, row in enumerate(rows):
        at = 0
        for is_dark, run in groupby(row):
            length = len(list(run))
            if is_dark:
                yield Box(
                    x + (4 + at) * module, y + (4 + n) * module, length * module, module, "#000000"
                )
            at += length


class _Page:
    """Lines from top to bottom."""

    def __init__(self) -> None:
        self.items: list[Text | Box] = []
        self.y = MARGIN

    def say(
        self,
        text: str,
        size: float,
        width: float = WIDTH - 2 * MARGIN,
        is_bold: bool = False,
        colour: str = _INK,
        gap: float = 1.0,
    ) -> None:
        """A paragraph, broken where it reaches `width`."""
        for line in _broken(plain(text), size, width, is_bold):
            self.y += size * _POINT * 1.25
            self.items.append(Text(MARGIN, self.y, line, size, is_bold, colour))
        self.y += gap

    def rule(self) -> None:
        """A line across the page."""
        self.y += 2
        self.items.append(Box(MARGIN, self.y, WIDTH - 2 * MARGIN, 0.3, _GREY))
        self.y += 2


def _broken(text: str, size: float, width: float, is_bold: bool) -> Iterator[str]:
    """Lines of at most `width`: broken at spaces, between Chinese characters, else anywhere."""
    line, used = "", 0.0
    for piece in _pieces(text):
        length = sum(_width(c, size, is_bold) for c in piece)
        if used + length > width and line:
            yield line.rstrip()
            line, used = "", 0.0
            piece = piece.lstrip()
            length = sum(_width(c, size, is_bold) for c in piece)
        for letter in piece if length > width else ():
            if used + _width(letter, size, is_bold) > width:
                yield line
                line, used = "", 0.0
            line, used = line + letter, used + _width(letter, size, is_bold)
        if length <= width:
            line, used = line + piece, used + length
    if line:
        yield line


def _pieces(text: str) -> Iterator[str]:
    word = ""
    for letter in text:
        if letter == " " or not _is_latin(letter):
            if word:
                yield word
            word = ""
            yield letter
        else:
            word += letter
    if word:
        yield word


def _width(letter: str, size: float, is_bold: bool) -> float:
    if not _is_latin(letter):
        return size * _POINT
    return float(pdfmetrics.stringWidth(letter, _BOLD if is_bold else _LATIN, size)) * _POINT
