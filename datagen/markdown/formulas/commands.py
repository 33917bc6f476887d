"""Tables of the commands of formulas that are not single characters."""

from __future__ import annotations

FONTS = {
    "mathbf": "bf",
    "mathrm": "rm",
    "mathit": "it",
    "mathnormal": "it",
    "mathcal": "cal",
    "mathscr": "cal",
    "mathfrak": "frak",
    "mathbb": "bb",
    "mathds": "bb",
    "mathbbm": "bb",
    "mathsf": "sf",
    "mathtt": "tt",
    "Bbb": "bb",
    "frak": "frak",
    "mathup": "rm",
    "mathbfit": "bi",
}
SWITCHES = {"rm": "rm", "bf": "bf", "it": "it", "cal": "cal", "sf": "sf", "tt": "tt", "mit": "it", "frak": "frak"}
STYLES = {
    "displaystyle": "display",
    "textstyle": "inline",
    "scriptstyle": "script",
    "scriptscriptstyle": "sscript",
}
CLASSES = {
    "mathbin": "binary",
    "mathrel": "relation",
    "mathord": "normal",
    "mathopen": "opening",
    "mathclose": "closing",
    "mathpunct": "punctuation",
    "mathinner": "normal",
}
SIZES = {"big": 1.2, "Big": 1.8, "bigg": 2.4, "Bigg": 3.0}
SIDES = {"": "normal", "l": "opening", "r": "closing", "m": "relation"}
SPACES = {
    ",": 1 / 6,
    ":": 2 / 9,
    ">": 2 / 9,
    ";": 5 / 18,
    "!": -1 / 6,
    " ": 1 / 3,
    "~": 1 / 3,
    "thinspace": 1 / 6,
    "medspace": 2 / 9,
    "thickspace": 5 / 18,
    "negthinspace": -1 / 6,
    "negmedspace": -2 / 9,
    "negthickspace": -5 / 18,
    "enspace": 0.5,
    "enskip": 0.5,
    "quad": 1.0,
    "qquad": 2.0,
    "nobreakspace": 1 / 3,
    "space": 1 / 3,
}
LENGTHS = ("hspace", "hskip", "mskip", "kern", "mkern", "mspace")
WORDS = (
    "arccos arcsin arctan arg cos cosh cot coth csc deg dim exp hom ker lg ln log sec sin sinh tan tanh arccot sgn"
).split()
WORDS_WITH_LIMITS = {
    **{name: name for name in "det gcd inf lim max min Pr sup".split()},
    "limsup": "lim sup",
    "liminf": "lim inf",
    "injlim": "inj lim",
    "projlim": "proj lim",
}
UNSEEN = (
    "relax displaylimits allowbreak nobreak noindent protect mathstrut strut limits nolimits null "
    "break goodbreak nolinebreak hfill boldmath"
).split()
FRACTIONS = {"frac": "{}", "dfrac": "display({})", "tfrac": "inline({})", "cfrac": "display({})"}
BINOMIALS = {"binom": "{}", "dbinom": "display({})", "tbinom": "inline({})"}
INFIX = {"over": None, "atop": ("", ""), "choose": ("(", ")"), "brack": ("[", "]"), "brace": ("{", "}")}
ARROWS = {
    "xrightarrow": "→",
    "xleftarrow": "←",
    "xleftrightarrow": "↔",
    "xRightarrow": "⇒",
    "xLeftarrow": "⇐",
    "xLeftrightarrow": "⇔",
    "xmapsto": "↦",
    "xhookrightarrow": "↪",
    "xhookleftarrow": "↩",
}
TEXTS = {
    **dict.fromkeys(("text", "mbox", "hbox", "textrm", "textnormal", "textup", "textmd"), "rm"),
    **dict.fromkeys(("textbf",), "bf"),
    **dict.fromkeys(("textit", "emph", "textsl"), "it"),
    "textsf": "sf",
    "texttt": "tt",
}
