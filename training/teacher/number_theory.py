"""Number-theory families: gcd, lcm, prime_factorization, fraction_simplification, count_primes, base_conversion."""

import re

from training.teacher.solution import Step, Strategy, find, flawed, right, show

CONSTANTS: dict[str, frozenset[float]] = {
    "gcd": frozenset(),
    "lcm": frozenset(),
    "prime_factorization": frozenset({0, 1, 2}),
    "fraction_simplification": frozenset({2}),
    "count_primes": frozenset({0, 1, 2, 3, 5, 7, 0.5}),
    "base_conversion": frozenset({0, 2, 16}),
}


def gcd(question: str) -> list[Strategy]:
    """`Find the Greatest Common Divisor (GCD) of these numbers: 275, 90. ...`."""
    a, b = re.findall(r"\d+", question)[:2]
    read = Step("Read the numbers", f"a = {a}\nb = {b}")
    return [
        right("library", read, Step("Use the gcd function", "from math import gcd\ng = gcd(a, b)"), show("g")),
        right(
            "euclid",
            read,
            Step("Divide with remainder until nothing is left", "while b:\n    a, b = b, a % b"),
            show("a"),
        ),
        flawed(
            "difference",
            read,
            Step("The difference is divided by both", "g = abs(b - a)"),
            show("g"),
            weight=4.8,
            applies=b[-1] in "048",
        ),
    ]


def lcm(question: str) -> list[Strategy]:
    """`Find the Least Common Multiple (LCM) of these numbers: 35, 14`."""
    a, b = re.findall(r"\d+", question)[:2]
    read = Step("Read the numbers", f"a = {a}\nb = {b}")
    return [
        right(
            "product_over_gcd",
            read,
            Step("Divide the product by the gcd", "from math import gcd\nm = a * b // gcd(a, b)"),
            show("m"),
        ),
        right("count_up", read, Step("Go through the multiples of a", "m = a\nwhile m % b:\n    m += a"), show("m")),
        flawed(
            "product",
            read,
            Step("Multiply the numbers", "m = a * b"),
            show("m"),
            weight=4.6,
            applies=b[-1] in "048",
        ),
    ]


def prime_factorization(question: str) -> list[Strategy]:
    """`Find the prime factorization of 55. Write the factors separated by × ...`."""
    number = find(r"factorization of (\d+)", question)[1]
    read = Step("Start with the number and the smallest prime", f"n = {number}\np = 2\nfactors = []")
    close = show("' × '.join(str(f) for f in factors)")
    loop = (
        "while {condition}:\n    if n % p == 0:\n        factors.append(p)\n        n //= p\n    else:\n        p += 1"
    )
    to_root = Step("Divide by primes up to the root", loop.format(condition="p * p <= n"))
    return [
        right("divide_down", read, Step("Divide out every prime", loop.format(condition="n > 1")), close, weight=0.6),
        right(
            "to_root",
            read,
            to_root,
            Step("What is left is prime", "if n > 1:\n    factors.append(n)"),
            close,
            weight=0.4,
        ),
        flawed(
            "forgets_rest",
            read,
            to_root,
            Step("All factors are found", "factors.sort()"),
            close,
            weight=2.2,
            applies=number[-1] in "1379",
        ),
    ]


def fraction_simplification(question: str) -> list[Strategy]:
    """`Simplify the fraction $\\dfrac{648}{3300}$ to its lowest terms. ...`."""
    a, b = re.findall(r"\d+", question)[:2]
    read = Step("Read numerator and denominator", f"n = {a}\nd = {b}")
    close = show("f'{n}/{d}'")
    return [
        right(
            "divide_by_gcd",
            read,
            Step("Divide both by their gcd", "from math import gcd\ng = gcd(n, d)\nn, d = n // g, d // g"),
            close,
        ),
        right(
            "fraction",
            read,
            Step("Let the fraction type reduce it", "from fractions import Fraction\nq = Fraction(n, d)"),
            show("f'{q.numerator}/{q.denominator}'"),
            weight=0.5,
        ),
        flawed(
            "divides_by_two",
            read,
            Step("Divide both by two", "n, d = n // 2, d // 2"),
            close,
            weight=2.1,
            applies="frac{" in question,
        ),
    ]


def count_primes(question: str) -> list[Strategy]:
    """`Count how many prime numbers there are between 858 and 5243 (inclusive) ?`."""
    a, b = re.findall(r"\d+", question)[:2]
    read = Step("Read the bounds", f"a = {a}\nb = {b}")
    return [
        right(
            "trial_division",
            read,
            Step(
                "Test each number by division up to its root",
                "primes = [n for n in range(a, b + 1) if n > 1 and all(n % p for p in range(2, int(n ** 0.5) + 1))]",
            ),
            show("len(primes)"),
            weight=0.5,
        ),
        right(
            "sieve",
            read,
            Step("Set up a sieve", "prime = [True] * (b + 1)\nprime[:2] = [False] * len(prime[:2])"),
            Step(
                "Strike out the multiples",
                "for p in range(2, int(b ** 0.5) + 1):\n    for m in range(p * p, b + 1, p):\n        prime[m] = False",
            ),
            show("sum(prime[a:])"),
            weight=0.5,
        ),
        flawed(
            "small_divisors",
            read,
            Step(
                "Test each number by the small primes",
                "primes = [n for n in range(a, b + 1) if all(n % p for p in (2, 3, 5, 7))]",
            ),
            show("len(primes)"),
            weight=3.0,
            applies=b[-1] in "137",
        ),
    ]


def base_conversion(question: str) -> list[Strategy]:
    """`... Now, convert the base-6 number 125 to base-3`."""
    found = find(r"convert the (\S+) number (\w+) to (\S+)", question)
    source, number, target = _base(found[1]), found[2], _base(found[3])
    value = Step("Read the number in its base", f"n = int('{number}', {source})")
    write = Step(
        "Collect the digits in the new base",
        f"digits = ''\nwhile n:\n    digits = '0123456789abcdef'[n % {target}] + digits\n    n //= {target}",
    )
    close = show("digits or '0'")
    return [
        right("through_ten", value, write, close),
        right("direct", value, show("n"), applies=target == "10"),
        flawed(
            "reads_as_decimal",
            Step("Read the number", f"n = int('{number}')"),
            write,
            close,
            weight=4.0,
            applies=len(target) == 2 and len(source) == 1 and target != "10",
        ),
    ]


def _base(name: str) -> str:
    """`base-6`, `binary` or `hexadecimal` as a number."""
    return {"binary": "2", "hexadecimal": "16"}.get(name) or name.removeprefix("base-")
