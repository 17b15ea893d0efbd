r"""Reads one expression, in LaTeX or as people type it, into a tree; what it does not know is an error, never a guess.

    sum      = term (("+" | "-") term)*
    term     = sign* power ((times | "/")? power)*           no sign between them is multiplication
    power    = atom postfix* ("^" exponent)?
    atom     = number | letter | "(" sum ")" | "|" sum "|" | \frac.. | \sqrt.. | function argument | ...

Where readers would differ (`a/bc`, `2 3`, `7 10/3`, `2^3!`) it is an error too: an answer that is ambiguous is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from sandbox.mathematics.expression import (
    Call,
    Expression,
    Number,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
    negated,
)
from sandbox.mathematics.scanner import Scanner, UnreadableError
from sandbox.mathematics.vocabulary import ACCENTS, ALIASES, FUNCTIONS, INVERSES, SEVERAL, SYMBOLS, function_in

MAX_DEPTH = 60
MAX_EXPONENT = 400

_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,4})(?![\d.a-zA-Z]))?", re.ASCII)
_REPEATING = re.compile(r"(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*(?:\{(\d+)\}|(\d))|\((\d+)\)$)", re.ASCII)
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_LETTERS = re.compile(r"[a-zA-Z]+")
_PRIMES = re.compile(r"'+")
_TIMES = re.compile(r"\\(?:cdot|times|ast)(?![a-zA-Z])|\*")
_OVER = re.compile(r"/|\\div(?![a-zA-Z])")
_SIGN = re.compile(r"[+-]")
_CALLED = "fgh"

_FENCES = {"lfloor": ("\\rfloor", "floor"), "lceil": ("\\rceil", "ceiling"), "lvert": ("\\rvert", "abs")}


def read(text: str) -> Expression:
    """The tree of an expression that went through `clean`.

    Raises:
        UnreadableError: it is none, or one that can be read in two ways.
    """
    if text.startswith("[") and text.endswith("]"):
        raise UnreadableError("brackets of an interval, or of the greatest integer")
    reader = _Reader(text)
    found = reader.sum()
    reader.end()
    return found


class _Reader(Scanner):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._bars = 0

    def _nested(self, read_inner: Callable[[], Expression]) -> Expression:
        """What `read_inner` reads, unless that is nested too deeply."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnreadableError("nested too deeply")
        inner = read_inner()
        self._depth -= 1
        return inner

    def end(self) -> None:
        if self._peek():
            raise UnreadableError(self._text[self._at :])

    def sum(self) -> Expression:
        terms = [self._term()]
        while (sign := self._take(_SIGN)) is not None:
            term = self._term()
            terms.append(negated(term) if sign == "-" else term)
        return terms[0] if len(terms) == 1 else Sum(tuple(terms))

    def _term(self) -> Expression:
        minus = False
        while (sign := self._take(_SIGN)) is not None:
            minus ^= sign == "-"
        term = self._product()
        return negated(term) if minus else term

    def _product(self) -> Expression:
        product, slash = self._power(), False
        while True:
            if (sign := self._take(_TIMES)) is not None:
                factor = self._signed_power()
                cross = sign == "\\times" and _is_vector(product) and _is_vector(factor)
                product, slash = Call("cross", (product, factor)) if cross else _times(product, factor), False
            elif self._take(_OVER) is not None:
                bottom = self._signed_power()
                # `1/2x` is half of x, but nobody knows what `a/bc` is.
                slash = not (_numeric(product) and _numeric(bottom))
                product = Quotient(product, bottom)
            elif self._atom_follows():
                if slash or self._peek().isdigit() or self._peek() == ".":
                    raise UnreadableError("ambiguous product")
                product = _times(product, self._power())
            else:
                return product

    def _signed_power(self) -> Expression:
        return negated(self._power()) if self._take(_SIGN) == "-" else self._power()

    def _power(self) -> Expression:
        base = self._atom()
        factorial = False
        while True:
            if self._peek() == "!":
                self._at += 1
                if factorial:
                    raise UnreadableError("double factorial")
                base, factorial = Call("factorial", (base,)), True
            elif self._peek() == "°":
                self._at += 1
                base = Call("degrees", (base,))
            elif self._peek() == "^":
                self._at += 1
                base = Power(base, self._exponent())
                if self._peek() in ("!", "^"):
                    raise UnreadableError("ambiguous exponent")
            else:
                return base

    def _exponent(self) -> Expression:
        return self._nested(self._read_exponent)

    def _read_exponent(self) -> Expression:
        if (sign := self._take(_SIGN)) is not None:
            exponent = self._exponent()
            return negated(exponent) if sign == "-" else exponent
        if self._peek() in ("{", "("):
            return self._bracket()
        start = self._atom()
        if self._peek() != "^":
            return start
        self._at += 1
        return Power(start, self._exponent())

    def _atom(self) -> Expression:
        return self._nested(self._read_atom)

    def _read_atom(self) -> Expression:
        char = self._peek()
        if char in ("(", "[", "{"):
            return self._bracket()
        if char == "|":
            return self._absolute("|", "abs")
        if char == "\\":
            return self._command()
        if char.isascii() and char.isalpha():
            return self._letters()
        return self._number()

    def _atom_follows(self) -> bool:
        char = self._peek()
        if char == "|":
            return not self._bars
        if char == "\\":
            command = _COMMAND.match(self._text, self._at)
            return command is not None and command[1] not in ("rfloor", "rceil", "rvert", "right")
        return bool(char) and (char in "([{." or (char.isascii() and char.isalnum()))

    def _bracket(self) -> Expression:
        closing = {"(": ")", "[": "]", "{": "}"}[self._peek()]
        self._at += 1
        bars, self._bars = self._bars, 0
        inside = self.sum()
        self._bars = bars
        self._expect(closing)
        return inside

    def _absolute(self, closing: str, name: str) -> Expression:
        if closing == "|":
            self._at += 1
        self._bars += closing == "|"
        inside = self.sum()
        self._bars -= closing == "|"
        self._expect(closing)
        return Call(name, (inside,))

    def _number(self) -> Expression:
        if (repeating := self._match(_REPEATING)) is not None:
            whole, fixed, period = repeating[1], repeating[2], repeating[3] or repeating[4] or repeating[5]
            return Number(repeating_decimal(whole, fixed, period))
        number = self._match(_NUMBER)
        if number is None or abs(int(number[2] or 0)) > MAX_EXPONENT:
            raise UnreadableError(self._text[self._at : self._at + 10])
        value = Fraction(number[1]) * Fraction(10) ** int(number[2] or 0)
        return self._mixed(value) if number[1].isdigit() and number[2] is None else Number(value)

    def _mixed(self, whole: Fraction) -> Expression:
        r"""`2\frac{1}{2}` and `2 1/2` are 5/2; `7 10/3` is nothing."""
        start = self._at
        if self._text.startswith("\\frac", self._skip()):
            part = self._atom()
            if isinstance(part, Quotient) and isinstance(part.top, Number) and isinstance(part.bottom, Number):
                if not 0 < part.top.value < part.bottom.value:
                    raise UnreadableError("improper fraction in a mixed number")
                return Number(whole + part.top.value / part.bottom.value)
        elif self._skip() > start and (match := re.compile(r"(\d+)\s*/\s*(\d+)").match(self._text, self._skip())):
            if not 0 < int(match[1]) < int(match[2]):
                raise UnreadableError("improper fraction in a mixed number")
            self._at = match.end()
            return Number(whole + Fraction(int(match[1]), int(match[2])))
        self._at = start
        return Number(whole)

    def _letters(self) -> Expression:
        """One letter; but a run of letters that begins with the name of a function is that function."""
        match = _LETTERS.match(self._text, self._at)
        assert match is not None
        run = match.group()
        if (name := function_in(run)) is not None:
            self._at += len(name)
            return self._function(ALIASES.get(name, name))
        self._at += 1
        return self._named(run[0])

    def _named(self, name: str) -> Expression:
        """A symbol with what belongs to its name, or what it is called with."""
        if (primes := self._match(_PRIMES)) is not None:
            name += primes.group()
        if self._peek() == "_":
            self._at += 1
            name += "_" + self._index()
        if (primes := self._match(_PRIMES)) is not None:
            name += primes.group()
        if name.rstrip("'") in _CALLED and self._peek() == "(":
            return Call(name, self._arguments())
        return Symbol(name)

    def _index(self) -> str:
        start = self._skip()
        if self._peek() == "{":
            depth, at = 0, start
            for at in range(start, len(self._text)):
                depth += (self._text[at] == "{") - (self._text[at] == "}")
                if depth == 0:
                    break
            self._at = at + 1
            return "".join(self._text[start + 1 : at].split())
        token = re.compile(r"\\[a-zA-Z]+|\d+|[a-zA-Z]").match(self._text, start)
        if token is None:
            raise UnreadableError("index")
        self._at = token.end()
        return token.group()

    def _command(self) -> Expression:
        match = _COMMAND.match(self._text, self._at)
        if match is None:
            raise UnreadableError(self._text[self._at : self._at + 10])
        name = match[1]
        self._at = match.end()
        if name in ("frac", "binom"):
            top, bottom = self._argument(), self._argument()
            return Quotient(top, bottom) if name == "frac" else Call("binomial", (top, bottom))
        if name in _FENCES:
            return self._absolute(*_FENCES[name])
        if name in ACCENTS:
            start = self._skip()
            self._argument()
            return self._named(f"{name}{{{self._text[start : self._at].strip('{}')}}}")
        if name in SYMBOLS:
            return self._named(name)
        name = ALIASES.get(name, name)
        if name in FUNCTIONS or name in SEVERAL or name == "sqrt":
            return self._function(name)
        raise UnreadableError("\\" + name)

    def _function(self, name: str) -> Expression:
        if name == "sqrt":
            return self._root()
        if name in SEVERAL:
            return Call(name, self._arguments())
        base: Expression | None = None
        if self._peek() == "_":
            self._at += 1
            if name != "log":
                raise UnreadableError("index of a function")
            base = self._argument(digits=True)
        power: Expression | None = None
        if self._peek() == "^":
            self._at += 1
            power = self._exponent()
            if power == Number(Fraction(-1)):
                name, power = INVERSES.get(name, ""), None
                if not name:
                    raise UnreadableError("inverse of a function")
        argument = self._function_argument()
        call = _call(name, argument, base)
        return call if power is None else Power(call, power)

    def _function_argument(self) -> Expression:
        r"""What a function without brackets takes: `\sin 2\pi x` all of it, `\sin(x)y` the brackets alone."""
        if self._peek() in ("(", "["):
            return self._bracket()
        minus = self._take(_SIGN) == "-"
        argument = self._power()
        while self._atom_follows() and self._peek() not in "([|" and not self._function_follows():
            at = self._at
            if self._take(_TIMES) is not None and self._function_follows():
                # A product of functions; what else is multiplied so may belong to the argument or not.
                self._at = at
                break
            if self._at != at or self._peek().isdigit():
                raise UnreadableError("ambiguous argument")
            argument = _times(argument, self._power())
        return negated(argument) if minus else argument

    def _function_follows(self) -> bool:
        command = _COMMAND.match(self._text, self._skip())
        if command is not None:
            return command[1] in FUNCTIONS or command[1] in ALIASES or command[1] in SEVERAL
        run = _LETTERS.match(self._text, self._at)
        return run is not None and function_in(run.group()) is not None

    def _root(self) -> Expression:
        index: Expression = Number(Fraction(2))
        if self._peek() == "[":
            index = self._bracket()
        return Call("root", (self._argument(digits=True), index))

    def _argument(self, *, digits: bool = False) -> Expression:
        """What a command takes: a group in braces, or else one letter, command or digit (or all, with `digits`)."""
        char = self._peek()
        if char == "{" or (digits and char == "("):
            return self._bracket()
        if char.isascii() and char.isdigit():
            match = re.compile(r"\d+" if digits else r"\d").match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            return Number(Fraction(match.group()))
        if char.isascii() and char.isalpha():
            self._at += 1
            return Symbol(char)
        if char == "\\":
            return self._nested(self._command)
        raise UnreadableError("argument")

    def _arguments(self) -> tuple[Expression, ...]:
        opening = self._peek()
        if opening not in ("(", "{"):
            raise UnreadableError("arguments")
        self._at += 1
        found = [self.sum()]
        while self._peek() == ",":
            self._at += 1
            found.append(self.sum())
        self._expect(")" if opening == "(" else "}")
        return tuple(found)


def _times(first: Expression, second: Expression) -> Expression:
    return Product((*first.factors, second) if isinstance(first, Product) else (first, second))


def _call(name: str, argument: Expression, base: Expression | None) -> Expression:
    if name == "exp":
        return Power(Symbol("e"), argument)
    if name == "ln":
        return Call("ln", (argument,))
    if name in ("log", "lg"):
        return Call("log", (argument, Number(Fraction(10)) if base is None else base))
    return Call(name, (argument,))


def _is_vector(expression: Expression) -> bool:
    return isinstance(expression, Symbol) and expression.name.startswith(("vec{", "overrightarrow{"))


def _numeric(expression: Expression) -> bool:
    if isinstance(expression, Product):
        return all(map(_numeric, expression.factors))
    return isinstance(expression, Number)


def repeating_decimal(whole: str, fixed: str, period: str) -> Fraction:
    r"""`whole.fixed\overline{period}`, exactly."""
    start = Fraction(int((whole or "0") + fixed), 10 ** len(fixed))
    return start + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
