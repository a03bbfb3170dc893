"""Formulas of docstrings, which are plain text there (`d = g0 + sqrt(phi) / |g_w| g_w`), as LaTeX for the book.

The notation: `g_t^2`, `x_(t+1)`, names of Greek letters, `|x|`, `a . b`, `a * b`, `a / b`, `<x, y>`, and the functions
and operators below, with or without subscripts. What does not follow it to the last sign, or could be code, is no
formula: code that is drawn is wrong, and a formula that is shown as code is only plain.
"""

import itertools
import re
from dataclasses import dataclass

GREEK = {name: f"\\{name}" for name in (
    "alpha beta gamma delta epsilon eta theta kappa lambda mu nu xi pi rho sigma tau phi omega "
    "Gamma Delta Theta Lambda Sigma Phi Omega").split()} | {"lam": r"\lambda", "eps": r"\epsilon"}
LINEAR = {"sum": r"\sum", "prod": r"\prod", "sup": r"\sup", "grad": r"\nabla", "mean": r"\operatorname{mean}"}
OTHERS = {name: f"\\{name}" for name in ("max", "min", "exp", "log", "ln", "cos")} | {
    name: rf"\operatorname{{{name}}}" for name in ("argmin", "argmax", "sign")}
OPERATORS = LINEAR | OTHERS  # of all that follows in a product, or of what their brackets hold
CALLED = {name: rf"\operatorname{{{name}}}" for name in (
    "softmax relu norm conv tr vec diag entropy penalty Var Proj KL").split()}
RELATIONS = {"=": "=", "<": "<", ">": ">", "<=": r"\leq", ">=": r"\geq", "!=": r"\neq", "<-": r"\leftarrow",
             "->": r"\to", "~": r"\sim", "+=": r"\;\text{+=}\;", "-=": r"\;\text{-=}\;", "||": r"\parallel"}
SUMS = {"+": "+", "-": "-", "+-": r"\;\pm\;"}
PRODUCTS = {"*": r"\cdot", ".": r"\cdot", "⊗": r"\otimes"}
CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|", "<": ">"}
BRACKETS = {"(": (r"\left( ", r" \right)"), "[": (r"\left[ ", r" \right]"), "|": (r"\left| ", r" \right|"),
            "<": (r"\left\langle ", r" \right\rangle")}
TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9]*|\d+(?:\.\d+)?|\.\.\."
                   r"|<=|>=|!=|<-|->|\+=|-=|\+-|\|\||[-+*/.,;=<>~|()\[\]{}_^'⊗]")
KRONECKER = re.compile(r"\b([A-Z]_\w+) x (?=[A-Z]_)")  # elsewhere an x is a letter
NARROW = {r"\exp", r"\log", r"\ln", r"\cos"}  # which browsers draw without room, as they draw letters
ENGLISH = {"over", "in", "of"}  # where what is said ends is not seen from signs
SIGNS = {*RELATIONS, *SUMS, *PRODUCTS, "/", "|", "^", "_", "sqrt"}


def formula(text: str) -> str | None:
    """The LaTeX of what surely is a formula, None for all else.

    >>> print(formula("w_t = C / |g_t|"))
    w_{t} = \\dfrac{C}{\\left| g_{t} \\right|}
    >>> formula("fit(at=1)"), formula("(batch, classes)"), formula("w")
    (None, None, None)
    """
    try:
        parser = Parser(" ".join(text.split()))
        latex = parser.statement()
    except ValueError:
        return None
    texts = {token.text for token in parser.tokens}
    signs = texts & SIGNS
    if parser.place < len(parser.tokens) or not signs or re.fullmatch(r"[A-Za-z]+_\w{2,}|\w+/\w+|-\w+", text):
        return None
    if parser.words and ("->" in signs or not parser.symbols and not ({"/", "("} <= texts or "sqrt" in texts)):
        return None  # a signature, or a comparison or a sum of arguments
    if signs & {"+=", "-="} and "_" not in signs:
        return None  # an assignment
    return latex


@dataclass(frozen=True)
class Token:
    text: str
    before: bool  # a blank, or nothing at all
    after: bool


@dataclass(frozen=True)
class Factor:
    latex: str
    inside: str = ""  # of brackets, for a fraction, which needs none
    closed: bool = False  # it ends where it seems to
    left: str = ""  # the room it wants beside it
    right: str = ""
    word: bool = False


class Parser:
    """A recursive descent, a method for each kind of thing. Each raises ValueError for what is not of the notation."""

    def __init__(self, text: str):
        text = KRONECKER.sub(r"\1 ⊗ ", text)
        self.tokens: list[Token] = []
        self.place, self.words, self.symbols, self.depth, self.bars, end = 0, 0, 0, 0, 0, 0
        while end < len(text):
            begin = end + (text[end] == " ")
            if not (found := TOKEN.match(text, begin)):
                raise ValueError(f"{text[begin:]!r} begins with no sign of a formula.")
            end = found.end()
            self.tokens.append(Token(found[0], begin == 0 or text[begin - 1] == " ", text[end:end + 1] in ("", " ")))

    @property
    def next(self) -> Token:
        return self.peek(0)

    def peek(self, ahead: int) -> Token:
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else Token("", True, True)

    def take(self, text: str = "") -> str:
        taken = self.next.text
        if not taken or text and taken != text:
            raise ValueError(f"{taken or 'The end'!r} stands where {text or 'more'!r} should.")
        self.place += 1
        return taken

    def glued(self, text: str) -> bool:
        return self.next.text == text and not self.next.before

    def statement(self, small: bool = False) -> str:
        """Sums and relations between them. small: in a subscript or exponent, with no fractions and few blanks."""
        said = self.sum(small)
        while self.next.text in RELATIONS and self.next.before == self.next.after and (small or self.next.before):
            said += f" {RELATIONS[self.take()]} {self.sum(small)}"
        return said

    def sum(self, small: bool) -> str:
        said = self.take() if self.next.text == "-" and not self.next.after else ""
        said += self.term(small)
        while self.next.text in SUMS and self.next.before == self.next.after and (small or self.next.before):
            said += f" {SUMS[self.take()]} {self.term(small)}"
        return said

    def term(self, slash: bool) -> str:
        """Operators and factors; a fraction where it can be read in one way only, else a slash as it is typed."""
        done: list[Factor] = []  # up to the last operator, which what follows is under
        product: list[Factor] = []
        divided = False
        slash = slash or self.depth > 0  # roots and brackets may not grow with a fraction: it is the font that does it
        while True:
            token = self.next
            if token.text in PRODUCTS and product and (token.before and token.after or self.dot()):
                product.append(Factor(PRODUCTS[self.take()]))
                divided = False
            elif token.text == "/" and token.before == token.after and product and not divided:
                self.take()
                divided = True
                if self.next.text in OPERATORS:
                    done, product, slash = [*done, *product, Factor("/")], [], True
                    continue
                bottom = self.factor()
                tight = not token.before
                if tight and (bottom.word or product[-1].word):
                    raise ValueError("Words with a slash between them may be a path.")
                if slash or not tight and not bottom.closed and self.begins(bool(product)):
                    product, slash = [*product, Factor("/"), bottom], True
                else:
                    rest, top = (product[:-1], product[-1:]) if tight else ([], product)
                    over = top[0].inside if len(top) == 1 and top[0].inside else joined(top)
                    product = [*rest, Factor(rf"\dfrac{{{over}}}{{{bottom.inside or bottom.latex}}}")]
            elif self.begins(bool(done or product) and not (product and product[-1].latex in PRODUCTS.values())):
                if token.text == "x" and product and re.match(r" [A-Za-z0-9([]", " " * token.after + self.peek(1).text):
                    raise ValueError("An x between two factors may be a sign.")
                factor = self.factor()
                if token.text in OPERATORS and not factor.closed:  # no brackets
                    done, product, slash = [*done, *product, factor], [], slash or token.text in OTHERS
                else:
                    product.append(factor)
                    slash = slash or token.text in ENGLISH
                divided = divided and token.text not in OPERATORS
            else:
                break
        if not product or product[-1].latex in PRODUCTS.values():
            raise ValueError("An operator has nothing to act on.")
        return joined([*done, *product])

    def dot(self) -> bool:
        """Whether a dot without blanks is a product: between letters, and where there are norms, too."""
        around = "".join(self.peek(ahead).text for ahead in (-1, 0, 1))
        return bool(re.fullmatch(r"[a-z]\.[a-z]", around)) and any(token.text == "|" for token in self.tokens)

    def begins(self, inside: bool) -> bool:
        """Whether a factor begins here. inside: after another one, from which a blank parts it."""
        token = self.next
        if inside and not token.before:
            return token.text[:1].isalpha() and self.tokens[self.place - 1].text.isdigit()
        if token.text == "|":
            return not inside or not token.after or not self.bars
        return token.text[:1].isalnum() or token.text in ("(", "[", "...") or token.text == "<" and not token.after

    def factor(self) -> Factor:
        token = self.next
        if token.text in BRACKETS:
            return self.scripted(self.bracket(), inside=token.text == "(")
        if token.text == "...":
            self.take()
            return Factor(r"\ldots", left=r"\ ", right=r"\ ")
        if token.text == "sqrt":
            self.take()
            if not self.glued("("):
                raise ValueError("A root has brackets.")
            return self.scripted(rf"\sqrt{{{self.bracket()[len(BRACKETS['('][0]):-len(BRACKETS['('][1])]}}}")
        if token.text[:1].isdigit():
            return Factor(self.scripted(self.take()).latex)
        if not token.text[:1].isalpha():
            raise ValueError(f"{token.text or 'The end'!r} stands where a factor should.")
        return self.name(self.take())

    def bracket(self, several: bool = False) -> str:
        """several: things, behind commas; without a function before them they may be a shape."""
        opening = self.take()
        self.bars += (bar := opening == "|")
        self.depth += 1
        said = self.statement()
        while self.next.text in (",", ";") and (several or opening in "[<"):
            said += f"{self.take()} {self.statement()}"
        self.take(CLOSING[opening])
        self.bars -= bar
        self.depth -= 1
        return said.join(BRACKETS[opening])

    def name(self, name: str) -> Factor:
        """A letter, an operator, a function with its brackets, or a word."""
        word = known = False
        sub = ""
        if name in OPERATORS or name in CALLED:
            latex, known = (OPERATORS | CALLED)[name], True
        elif name in GREEK:
            latex = GREEK[name]
        elif found := re.fullmatch(r"([A-Za-z])(\d?)", name):
            latex, sub = found[1], found[2]
        elif found := re.fullmatch(r"([A-Z])(hat|bar)", name):
            latex = rf"\{found[2]}{{{found[1]}}}"
        elif re.fullmatch(r"(d\d?[A-Za-z])+", name):  # of a derivative
            latex = re.sub(r"(\d)", r"^{\1}", name)
        elif re.fullmatch(r"[a-z]{2,}|[A-Z]{2,4}", name):
            latex, word = rf"\mathrm{{{name}}}", True
        else:
            raise ValueError(f"{name} is a name of code.")
        plain = word and name.islower()
        self.words, self.symbols = self.words + plain, self.symbols + (not known and not plain)
        if plain and self.glued("_"):
            raise ValueError(f"{name}_ is a name of code.")
        head = self.scripted(latex, sub=sub, word=word).latex
        room = r"\ " if word else r"\," if latex in NARROW else ""
        if self.glued("("):
            if word:
                raise ValueError(f"{name} is no function of the notation.")
            call = self.scripted(head + self.bracket(several=True))
            return Factor(call.latex, closed=True, left=room)
        if name in CALLED and name != "penalty" and self.next.text != "[":
            raise ValueError(f"{name} has nothing to act on.")
        return Factor(head, left=room, right=room, word=word)

    def scripted(self, base: str, sub: str = "", inside: bool = False, word: bool = False) -> Factor:
        """What stands below and above a thing."""
        above = ""
        opened = base
        while True:
            if self.glued("'"):
                above += self.take()
            elif self.glued("*") and not self.next.after and self.peek(1).text == "(":
                above += self.take()
            elif self.glued("_") and not sub and not above.strip("'"):
                self.take()
                sub = self.below(short=word)
            elif self.glued("^") and not above.strip("'"):
                self.take()
                above += self.above()
            else:
                break
        if self.glued("_") or self.glued("^"):
            raise ValueError("A thing has two subscripts, or a subscript above.")
        primes = len(above) - len(above.lstrip("'"))
        above = r"\prime" * primes + (" " if primes else "") + above[primes:]
        base += (f"_{{{sub}}}" if sub else "") + (f"^{{{above.strip()}}}" if above else "")
        bare = base == opened and inside
        edge = BRACKETS["("]
        return Factor(base, opened[len(edge[0]):-len(edge[1])] if bare else "", closed=True)

    def below(self, short: bool) -> str:
        if self.next.text in ("(", "{"):
            return self.small()
        blank, name = self.next.before, self.take()
        index = len(name) < 3 or name.isdigit()
        if blank or short and not index or not re.fullmatch(r"[A-Za-z0-9]{1,2}|\d+|[a-z]*[aeiou][a-z]*|\*", name):
            raise ValueError(f"{name} is no subscript.")
        dot = ""
        if self.glued(".") and self.peek(1).text == ")":  # over all of an index
            self.take()
            dot = r"\cdot"
        return GREEK.get(name, name if index else rf"\mathrm{{{name}}}") + dot

    def above(self) -> str:
        if self.next.text == "(":
            return self.small()
        sign = self.take() if self.next.text in ("+", "-") else ""
        if sign == "+" or sign and self.next.before:
            return sign
        blank, name = self.next.before, self.take()
        if blank or not re.fullmatch(r"[A-Za-z]+|\d+", name):
            raise ValueError(f"{name} is no exponent.")
        return sign + (r"\top" if name == "T" else GREEK.get(name, name if len(name) == 1 or name.isdigit()
                                                             else rf"\mathrm{{{name}}}"))

    def small(self) -> str:
        closing = CLOSING[self.take()]
        said = self.statement(small=True)
        self.take(closing)
        return said


def joined(factors: list[Factor]) -> str:
    """Factors side by side, with room where one is of letters that stand upright."""
    said = factors[0].latex
    for one, two in itertools.pairwise(factors):
        signs = {one.latex, two.latex} & {*PRODUCTS.values(), "/"}
        said += f"{'' if signs else max(one.right, two.left)} {two.latex}"
    return said


def lines(block: str) -> list[str]:
    """The formulas of an indented block, which commas with two blanks or more behind them part; none if it is code.

    >>> lines("a = b,   c = d"), lines("step.update()")
    (['a = b', 'c = d'], [])
    """
    said = [formula(part) for part in re.split(r",\s{2,}", block.strip())]
    return [one for one in said if one] if all(said) else []
