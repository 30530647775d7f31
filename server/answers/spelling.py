"""Spelling: gives the many ways to write one answer in LaTeX or plain text one spelling, without reading its meaning.

Removes wrappers ($, \\boxed, a final full stop), sizes and spaces, and turns macros into single characters:
* / ^ ± ≤ ≥ ≠ ∈ ∪ ∞ π ° | ⟨ ⟩, ⦃ ⦄ for set braces, ⏎ for a new matrix row, ¤ for a currency sign. The grammar accepts or
refuses the macros that are left. Digit groups joined by {,} or \\! become one number; bare commas need context.
"""

import re
from itertools import accumulate

MAX_LENGTH = 1_000
"""Longest text that is read; the longest answer in MATH has 60 characters."""

_UNICODE = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": "*",
        "·": "*",
        "⋅": "*",
        "∗": "*",
        "÷": "/",
        "⁄": "/",
        "²": "^{2}",
        "³": "^{3}",
        "½": "\\frac{1}{2}",
        "√": "\\sqrt",
        "θ": "\\theta ",
        "α": "\\alpha ",
        "β": "\\beta ",
        "€": "¤",
        "£": "¤",
        "’": "'",
        "\u00a0": " ",
    }
)

_MACROS: dict[str, str] = {
    **dict.fromkeys(("left", "right", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "bigg", "Bigg", "middle"), ""),
    **dict.fromkeys(("displaystyle", "textstyle", "limits", "rm", "!"), ""),
    **dict.fromkeys((",", ";", ":", " ", ">", "quad", "qquad", "space", "thinspace"), " "),
    **dict.fromkeys(("dfrac", "tfrac", "cfrac", "frac"), "\\frac"),
    **dict.fromkeys(("dbinom", "tbinom", "binom"), "\\binom"),
    **dict.fromkeys(
        ("text", "textbf", "textrm", "textit", "mbox", "mathrm", "mathbf", "mathit", "textnormal"), "\\text"
    ),
    **dict.fromkeys(("operatorname",), "\\text"),
    **dict.fromkeys(("times", "cdot", "ast"), "*"),
    **dict.fromkeys(("le", "leq", "leqslant"), "≤"),
    **dict.fromkeys(("ge", "geq", "geqslant"), "≥"),
    **dict.fromkeys(("ne", "neq"), "≠"),
    **dict.fromkeys(("lvert", "rvert", "vert", "mid"), "|"),
    **dict.fromkeys(("circ", "degree"), "°"),
    **dict.fromkeys(("{", "lbrace"), "⦃"),
    **dict.fromkeys(("}", "rbrace"), "⦄"),
    "div": "/",
    "lt": "<",
    "gt": ">",
    "in": "∈",
    "cup": "∪",
    "infty": "∞",
    "pi": "π",
    "pm": "±",
    "langle": "⟨",
    "rangle": "⟩",
    "lbrack": "[",
    "rbrack": "]",
    "colon": ":",
    "%": "%",
    "$": "¤",
    "\\": "⏎",
}

_GROUPED_DIGITS = re.compile(r"(?<=\d)(?:\{,\}\s*|,\\!\s*|\\[,; ])(?=\d{3}(?!\d))")
_MACRO = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
_WRAPPERS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"\$\$(.*)(?<!\\)\$\$",
        r"\$((?:[^$\\]|\\.)*)(?<!\\)\$",
        r"\\\((.*)(?<!\\)\\\)",
        r"\\\[(.*)(?<!\\)\\\]",
        r"(.*[^.\\])\.",
    )
)
_BRACED_WRAPPER = re.compile(r"\\(?:boxed|fbox|text|mbox|textbf|mathrm|textrm)\s*\{(.*)\}", re.DOTALL)


def respelled(text: str) -> str | None:
    """The one spelling of `text`; None when it is too long or its dollar signs do not pair up."""
    text = text.strip()
    if len(text) > MAX_LENGTH:
        return None
    bare = _without_dollars(_unwrapped(text.translate(_UNICODE)))
    if bare is None:
        return None
    text = _GROUPED_DIGITS.sub("", bare)
    text = _MACRO.sub(lambda macro: _MACROS.get(macro[1], macro[0]), text)
    text = text.replace("**", "^").replace("<=", "≤").replace(">=", "≥").replace("!=", "≠").replace("~", " ")
    text = re.sub(r"\^\s*(?:\{\s*°\s*\}|°)", "°", text)
    return " ".join(text.split())


def _unwrapped(text: str) -> str:
    """Removes whole-answer wrappers until none is left."""
    while True:
        text = text.strip()
        wrapped = _BRACED_WRAPPER.fullmatch(text)
        if not wrapped or not _is_balanced(wrapped[1]):
            wrapped = next((match for wrapper in _WRAPPERS if (match := wrapper.fullmatch(text))), None)
        if not wrapped:
            return text
        text = wrapped[1]


def _is_balanced(text: str) -> bool:
    """Whether the braces inside pair up, so that the ones around the text belong together."""
    depths = [*accumulate(((character == "{") - (character == "}") for character in text), initial=0)]
    return min(depths) == 0 == depths[-1]


def _without_dollars(text: str) -> str | None:
    """Removes paired dollar signs, which are maths mode. A single one in front of a number is money."""
    bare = re.findall(r"(?<!\\)\$", text)
    if len(bare) % 2 == 0:
        return re.sub(r"(?<!\\)\$", " ", text) if bare else text
    money = re.fullmatch(r"([-+]?\s*)\$(.*)", text, re.DOTALL)
    return f"{money[1]}¤{money[2]}" if money and len(bare) == 1 else None
