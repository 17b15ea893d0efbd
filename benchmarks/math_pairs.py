"""The labelled set: (expected answer, given answer, whether the given one is right), and answers out to cost time."""

from __future__ import annotations

# fmt: off
PAIRS: list[tuple[str, str, bool]] = [
    # integers and decimals
    ("42", "42", True), ("42", "42.0", True), ("42", "042", True), ("42", "+42", True), ("-3", "−3", True),
    ("1234", "1,234", True), ("1,234", "1234", True), ("1234567", "1,234,567", True), ("1234", r"1{,}234", True),
    ("0.5", ".5", True), ("0.5", "1/2", True), ("1/2", "0.50", True), ("42", "４２", True), ("42", "43", False),
    ("42", "4 2", False), ("42", "-42", False), ("1000", "1e3", True), ("3000", r"3 \times 10^3", True),
    ("300000000", r"3\times10^{8}", True), ("0.00025", r"2.5 \cdot 10^{-4}", True), ("42", "42.", True),
    ("42", r"\$42", True), ("42", "$42$", True), ("42", r"\text{42}", True), ("0", "-0", True), ("42", "420", False),
    ("0.333", "1/3", False), ("1/3", "0.333", False), ("1/3", "0.3333333", False), ("10", "1010_2", False),
    # fractions and mixed numbers
    ("1/2", r"\frac{1}{2}", True), (r"\frac{1}{2}", r"\dfrac12", True), (r"\frac{3}{4}", "¾", True),
    (r"\frac{3}{4}", "0.75", True), (r"\frac{6}{8}", r"\frac34", True), ("2.5", "2 1/2", True),
    ("2.5", r"2\frac{1}{2}", True), ("2.5", "2½", True), ("-2.5", r"-2\frac{1}{2}", True), ("3/4", "3⁄4", True),
    (r"-\frac{1}{2}", r"\frac{-1}{2}", True), (r"-\frac{1}{2}", r"\frac{1}{-2}", True), ("7/2", r"3\frac12", True),
    (r"\frac{1}{2}", r"\frac{2}{1}", False), ("3/4", "4/3", False), (r"\frac{\pi}{2}", r"\frac12\pi", True),
    # percent and units
    ("12%", r"12\%", True), (r"12\%", "0.12", True), ("12", r"12\%", False), (r"12\%", "12", False),
    ("50 percent", r"50\%", True), ("5", r"5\text{ cm}", True), (r"5\text{ cm}", "5", True), ("5 cm", "5 cm", True),
    ("5 cm", "50 mm", True), ("5 cm", "5 m", False), ("2 hours", "120 minutes", True), ("90", r"90^\circ", True),
    (r"90^{\circ}", "90", True), ("90", "90°", True), ("10", "10 dollars", True), ("12 square units", "12", True),
    (r"12\text{ cm}^2", "12", True), ("3 kg", "3 m", False), ("7", "7 apples", True), ("5", "6 cm", False),
    # roots, powers, constants
    (r"\sqrt{2}", "√2", True), (r"2\sqrt{2}", r"\sqrt{8}", True), (r"\sqrt{12}", r"2\sqrt3", True),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", True), (r"\pi", "π", True), (r"2\pi", "2π", True),
    (r"2\pi", r"\pi\cdot 2", True), (r"\pi", "3.14", False), (r"\pi", "3.14159", False), (r"\sqrt{2}", "1.41", False),
    ("-1", r"e^{i\pi}", True), ("8", "2^3", True), ("8", "2³", True), ("1", r"\sin^2(x)+\cos^2(x)", True),
    (r"\frac{1}{2}", r"\sin(30^\circ)", True), (r"\frac12", r"\sin\left(\frac{\pi}{6}\right)", True),
    ("2", r"\log_2 4", True),
    ("1", r"\ln e", True), ("120", "5!", True), ("10", r"\binom{5}{2}", True), ("2", r"\sqrt[3]{8}", True),
    (r"\sqrt[3]{2}", r"2^{1/3}", True), ("3+4i", "4i+3", True), ("3+4i", "3-4i", False), ("i", r"\sqrt{-1}", True),
    (r"1+\sqrt{2}", r"\sqrt{2}+1", True), (r"\frac{1+\sqrt5}{2}", r"\frac{\sqrt{5}+1}{2}", True),
    (r"\frac{1+\sqrt5}{2}", r"\frac{1-\sqrt{5}}{2}", False), (r"\infty", "∞", True), (r"-\infty", r"\infty", False),
    (r"\infty", "infinity", True), ("6", r"2\cdot 3", True), ("6", r"2 \times 3", True),
    # expressions
    ("x^2+1", "1+x^2", True), ("(x+1)^2", "x^2+2x+1", True), ("x^2-1", "(x-1)(x+1)", True), ("2x", "x+x", True),
    ("x^2+1", "x^2-1", False), ("2x", "2y", False), ("x", "y", False), (r"\frac{x}{2}", "0.5x", True),
    ("3x+2", "3x + 2", True),
    (r"\frac{1}{x+1}", r"(x+1)^{-1}", True), ("x^2y", "yx^2", True), ("e^x", r"\exp(x)", True), ("a+b", "b+a", True),
    (r"n(n+1)/2", r"\frac{n^2+n}{2}", True), (r"\sin(2x)", r"2\sin(x)\cos(x)", True), ("x^3", "x^2", False),
    # equations
    ("5", "x=5", True), ("x=5", "5", True), ("x=5", "x = 5", True), ("42", "42=42", False), ("42", "6*7=42", False),
    ("5", "x=y=5", False), ("y=2x+1", "2x+1", True), ("y=2x+1", "y = 1 + 2x", True), ("y=2x+1", "2x-y+1=0", True),
    ("y=2x+1", "y=2x-1", False), ("x=5", "x=6", False), ("f(x)=x^2", "x^2", True), ("x^2+y^2=1", "x^2+y^2-1=0", True),
    ("x+y=1", "2x+2y=2", True), ("x+y=1", "x+y=2", False), ("5", "x=4", False),
    # lists, sets, several solutions
    ("1,2", "2,1", True), ("1,2", "1, 2", True), (r"\{1,2\}", r"\{2,1\}", True), ("1,2", r"\{1,2\}", True),
    ("1,2", "x=1, x=2", True), ("1,2", r"x=1 \text{ or } x=2", True), ("1,2", "1 and 2", True), ("1,2", "1", False),
    ("1", "1,2", False), ("42", "41,42,43", False), ("42", r"\{41,42\}", False), (r"\{5\}", "5", True),
    ("5", "4 or 5", False),
    (r"3\pm\sqrt{2}", r"3+\sqrt{2}, 3-\sqrt{2}", True), (r"\pm 2", "2,-2", True), (r"\pm 2", "2", False),
    ("1,2,3", "1,2", False), (r"\{1,1,2\}", r"\{1,2\}", False), (r"\sqrt{2}, 1", r"1, \sqrt{2}", True),
    # tuples, intervals, inequalities
    ("(1,2)", "(1, 2)", True), ("(1,2)", "(2,1)", False), ("(1,2)", "[1,2]", False),
    ("[0,1)", r"\left[0,1\right)", True),
    (r"(-\infty,2)", "x<2", True), (r"(-\infty,2]", r"x \le 2", True), (r"(-\infty,2)", r"x\leq2", False),
    ("(1,3)", "1<x<3", True), ("[1,3)", r"1\le x<3", True), ("(1,3)", "3>x>1", True), ("x>2", r"(2,\infty)", True),
    ("x>2", "2<x", True), (r"(-\infty,1)\cup(2,\infty)", r"x<1 \text{ or } x>2", True), ("x<2", "x>2", False),
    (r"(-\infty,1)\cup(2,\infty)", r"(2,\infty)\cup(-\infty,1)", True), ("(1,3)", "2", False), ("2", "(1,3)", False),
    (r"x\in[0,1]", "[0,1]", True), ("[0,1]", "[0,2]", False), (r"\left(\frac12,1\right)", "(0.5,1)", True),
    ("(-∞,2)", r"(-\infty,2)", True), (r"\mathbb{R}", r"(-\infty,\infty)", True),
    (r"\mathbb{R}", "all real numbers", True),
    ("(1,2,3)", "(1,2,3)", True), ("(1,2,3)", "(1,3,2)", False), ("x≥3", r"[3,\infty)", True), ("(3,4)", "3,4", True),
    # matrices
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", True),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "[[1,2],[3,4]]", True),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", False),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", True),
    (r"\begin{pmatrix}\frac12\\2\end{pmatrix}", r"\begin{pmatrix}0.5\\2\end{pmatrix}", True),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", False),
    # words
    (r"\emptyset", "no solution", True), ("no solution", r"\varnothing", True), ("no solution", "0", False),
    (r"\text{Yes}", "yes", True), ("yes", "no", False), ("B", "(B)", True), ("B", r"\textbf{(B)}", True),
    ("B", "C", False),
    ("Tuesday", "tuesday", True), ("Tuesday", "Monday", False), ("undefined", "Undefined", True),
    ("42", "the answer is 42", False), ("42", "42 or maybe 43", False), ("42", "any number", False),
    ("42", "", False),
    ("DNE", "does not exist", True), ("isosceles triangle", r"\text{isosceles triangle}", True),
]
# fmt: on

HOSTILE = (
    "9" * 700,
    "9^{9^{9^{9^9}}}",
    "(10^{10^9})!",
    r"\sum_{n=1}^{10^{12}} \frac{1}{n^3}",
    r"\int_0^1 \sin(\sin(\sin(\sin(x^{x^x})))) dx",
    "(" * 400 + "1" + ")" * 390,
    "{" * 2000,
    r"\frac{" * 120,
    "x^{" * 20 + "y" + "}" * 20,
    "(x+1)^{9999}",
    "1,2," * 150 + "3",
    "__import__('os')._exit(0)",
    "exec('import os; os._exit(0)')",
    "\x00\ud800".encode("utf-8", "replace").decode(),
)
