"""The notations of `math`: which writings of an answer are the same, and which near ones are not.

The table in docs/sandbox.md is made from these.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Notation:
    """One kind of writing.

    Attributes:
        kind: what varies.
        expected: the answer in the reference.
        same: writings of it that are right.
        other: answers that look like it and are wrong.
    """

    kind: str
    expected: str
    same: tuple[str, ...]
    other: tuple[str, ...] = ()


NOTATIONS = (
    Notation("size", "2^{90}-1", ("1237940039285380274899124223", r"4^{45}-1"), ("2^{90}", "2^{90}-2")),
    Notation("size, in an expression", "2^{90}x", (r"2^{89}\cdot 2x",), ("(2^{90}+1)x", "2^{90}")),
    Notation("size, at an end", "(0, 5^{40})", (r"0 < x < 5^{40}",), ("(0, 5^{40}+1)",)),
    Notation("factorials", "30!", (r"30\cdot 29!",), ("30!+1", "29!")),
    Notation("decimals", "0.25", ("1/4", ".25", r"25\%", r"2.5\cdot 10^{-1}"), ("0.2500001",)),
    Notation("rounded decimals", r"\sqrt{3}", ("1.73205080756887729",), ("1.732", "1.73205080756887")),
    Notation(
        "repeating decimals",
        r"\frac{5}{33}",
        (r"0.\overline{15}", r"0.\dot{1}\dot{5}", "0.(15)", "0.1515..."),
        ("0.15", r"0.1\overline{5}"),
    ),
    Notation("mixed numbers", r"\frac{11}{4}", (r"2\frac34", "2 3/4", "2¾"), (r"1\frac{7}{4}", "23/4")),
    Notation("thousands", "20500", ("20,500", r"20,\!500", r"20\,500", "20{,}500", "20 500"), ("20,50", "(20,500)")),
    Notation("percent", r"15\%", ("15 percent", "15 per cent", "0.15", r"\frac{3}{20}"), ("15",)),
    Notation("currency", r"\$1,250", ("1250", "1250 dollars", r"\$1250.00"), ("€1250", r"\$1,25")),
    Notation(
        "units", r"3\text{ m}", ("3", "3 m", "3m", "300 cm", r"3\,\mathrm{m}", "3 meters"), ("3 s", r"3\text{ m}^2")
    ),
    Notation(
        "units of areas", r"2\text{ m}^2", ("2 square meters", r"20000\text{ cm}^2", r"2\text{ sq m}"), (r"2\text{ m}",)
    ),
    Notation(
        "units added up",
        r"75\text{ minutes}",
        ("1 hour 15 minutes", r"1\text{ hour and }15\text{ minutes}"),
        ("1 hour 25 minutes",),
    ),
    Notation("units of speed", "90 km/h", ("25 m/s", r"25\text{ m}/\text{s}", "90 kilometers per hour"), ("90 m/s",)),
    Notation(
        "things that are counted",
        "14",
        ("14 marbles", r"14\text{ blue marbles}"),
        ("14 more", "14 or 15", "14 xyz", "14 score"),
    ),
    Notation("letters are no units", "6t", (r"6\cdot t",), ("6", "6s")),
    Notation("degrees", r"40^\circ", ("40", "40°", "40 degrees"), ("41°",)),
    Notation("degrees of an angle", r"\frac12", (r"\cos 60^\circ", r"\sin(30°)"), (r"\sin 30",)),
    Notation(
        "mark-up",
        "x-4",
        (r"\boldsymbol{x-4}", r"{\bf x-4}", "**x-4**", "`x-4`", r"\color{red}{x-4}", r"\underline{x-4}"),
        ("**x-5**",),
    ),
    Notation("signs", "-8", ("−8", "–8", "‑8"), ("8",)),
    Notation("punctuation and quotes", "lemon", ('"lemon"', "“lemon”", "``lemon''", "Lemon."), ("lemons",)),
    Notation("functions", r"\ln 6", ("ln 6", "ln(6)", r"\operatorname{ln}6", r"\ln 2+\ln 3"), (r"\log 6", r"\ln 2")),
    Notation("inverse functions", r"\arctan x", (r"\tan^{-1}x", "arctan(x)", r"\operatorname{arctan} x"), (r"\cot x",)),
    Notation("roots", r"\sqrt[3]{5}", (r"\sqrt[3]5", "5^{1/3}", "∛5"), (r"3\sqrt5", r"\sqrt5")),
    Notation("roots of negative numbers", "-4", (r"\sqrt[3]{-64}",), (r"\sqrt{16}",)),
    Notation("fractions", r"\frac{a}{3}", (r"\frac a3", "a/3", r"\dfrac{a}{3}"), (r"\frac{3}{a}",)),
    Notation("products", "abc", ("cab", r"a\cdot bc"), ("abC", "ab")),
    Notation(
        "plus or minus", r"1\pm\sqrt2", (r"1+\sqrt2, 1-\sqrt2", r"x=1-\sqrt2 \text{ or } x=1+\sqrt2"), (r"1+\sqrt2",)
    ),
    Notation("solutions in no order", r"\{2,7\}", ("7, 2", "2 and 7", "x=2 or x=7"), ("2", "2,7,7")),
    Notation("tuples", "(4, 9)", ("4, 9", "x=4, y=9", "(x,y)=(4,9)"), ("(9, 4)", "[4, 9]", "x=9, y=4")),
    Notation("named values", "a=4, b=9", ("b=9, a=4", "(4, 9)"), ("a=9, b=4", "b=4, a=9")),
    Notation("names", "21", ("x = 21", "AB = 21", r"\angle A = 21^\circ", "P(A)=21"), ("2x=21", "20+1=21")),
    Notation("times of day", "4:15", ("4:15", "4:15 p.m."), ("4:51", "1:15", "8:30")),
    Notation("ratios", "3:5", ("3 : 5", "6:10"), ("5:3",)),
    Notation(
        "intervals", r"[2,\infty)", (r"x\ge 2", r"2\leqslant x", r"\{x\mid x\ge 2\}", r"x\in[2,\infty)"), (r"x>2",)
    ),
    Notation("and, or", r"(-\infty,1)\cup(4,\infty)", (r"x<1\text{ or }x>4", "x>4, x<1"), (r"x<1\text{ and }x>4",)),
    Notation(
        "all but some",
        r"x\ne 6",
        (r"\mathbb{R}\setminus\{6\}", r"(-\infty,6)\cup(6,\infty)", r"\{x : x\neq 6\}"),
        ("6",),
    ),
    Notation("no solution", r"\emptyset", (r"\{\}", "no solution", r"\varnothing"), ("0", r"\{0\}")),
    Notation(
        "matrices",
        r"\begin{pmatrix}2&4\\6&8\end{pmatrix}",
        (
            r"2\begin{bmatrix}1&2\\3&4\end{bmatrix}",
            r"\left[\begin{array}{cc}2&4\\6&8\\\end{array}\right]",
            "[[2,4],[6,8]]",
        ),
        (r"\begin{pmatrix}2&6\\4&8\end{pmatrix}",),
    ),
    Notation("systems", r"\begin{cases}x=5\\y=3\end{cases}", ("y=3, x=5", "(5,3)"), ("x=3, y=5",)),
    Notation(
        "cases",
        r"\begin{cases}x&x>0\\0&\text{otherwise}\end{cases}",
        (r"\begin{cases}0,&\text{else}\\x,&\text{if }x>0\end{cases}",),
        (r"\begin{cases}0&x>0\\x&\text{otherwise}\end{cases}",),
    ),
    Notation("lines and curves", "y=3x-1", ("3x-y=1", r"x=\frac{y+1}{3}"), ("3x-y=2",)),
    Notation("inequalities", r"a+b\le 7", (r"7\ge a+b", r"2a+2b\le 14"), ("a+b<7", r"a+b\ge 7")),
    Notation("options", "D", ("(D)", r"\textbf{(D)}\ 48", "D) 48", "D. 48", "Option D"), ("(C) 48", "48", "d")),
    Notation(
        "congruences", r"n\equiv 2\pmod{7}", (r"n\equiv 2 \pmod 7", r"n\equiv 9\pmod{7}"), (r"n\equiv 3\pmod{7}",)
    ),
    Notation("any integer", r"\frac{\pi}{3}+k\pi", (r"k\pi+\frac{\pi}{3}, k\in\mathbb{Z}",), (r"\frac{\pi}{3}+2k\pi",)),
    Notation("bases", "341_5", ("341", "(341)_5", r"341_{\text{five}}"), ("341_6", "340_5", "96")),
)
