"""Pairs that are generated: numbers and dates in words and in digits, and letters in reverse."""

import calendar
import hashlib
import random
import string

from experiments.datasets.corpus import Corpus, Lines

# fmt: off
ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen",
    "sixteen", "seventeen", "eighteen", "nineteen",
]
# fmt: on
TENS = ["zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
ORDINALS |= {"twelve": "twelfth", "twenty": "twentieth", "thirty": "thirtieth"}
MONTHS = [name.lower() for name in calendar.month_name]


def cardinal(number, conjunction=True):
    """A number below a million in words, with or without "and" before tens and ones."""
    if number >= 1000:
        thousands, rest = divmod(number, 1000)
        joint = " and " if conjunction and 0 < rest < 100 else " "
        return f"{cardinal(thousands, conjunction)} thousand" + (joint + cardinal(rest, conjunction) if rest else "")
    if number >= 100:
        hundreds, rest = divmod(number, 100)
        joint = " and " if conjunction else " "
        return f"{ONES[hundreds]} hundred" + (joint + cardinal(rest) if rest else "")
    if number >= 20:
        tens, rest = divmod(number, 10)
        return TENS[tens] + (f"-{ONES[rest]}" if rest else "")
    return ONES[number]


def ordinal(number):
    """The place of a day in its month, in words."""
    *before, last = cardinal(number).split("-")
    return "-".join([*before, ORDINALS.get(last, f"{last}th")])


def year(number, draw):
    """A year from 1100 to 2099 as one says it."""
    century, rest = divmod(number, 100)
    if 2000 <= number < 2010 or (century == 20 and draw.random() < 0.5):
        return cardinal(number, conjunction=draw.random() < 0.5)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} " + (f"oh {ONES[rest]}" if rest < 10 else cardinal(rest))


def date(draw):
    """A date in words, and as ISO 8601 has it."""
    y, m = draw.randrange(1100, 2100), draw.randrange(1, 13)
    d = draw.randrange(1, calendar.monthrange(y, m)[1] + 1)
    day, month, words = ordinal(d), MONTHS[m], year(y, draw)
    forms = (f"the {day} of {month} {words}", f"{month} the {day} , {words}", f"{day} {month} {words}")
    return draw.choice(forms), f"{y:04}-{m:02}-{d:02}"


def number(draw):
    """A number in words and in digits; as many digits are as likely as any other."""
    value = draw.randrange(10 ** draw.randrange(1, 7))
    return cardinal(value, conjunction=draw.random() < 0.5), str(value)


def wording():
    """Dates and numbers in words, half of each; what is tested on has answers that training never had."""
    draw, parts = random.Random(0), (Lines([], []), Lines([], []), Lines([], []))
    sizes, seen = (30000, 500, 1000), set()
    while any(len(part.sources) < size for part, size in zip(parts, sizes, strict=True)):
        source, target = draw.choice((date, number))(draw)
        digit = hashlib.sha256(target.encode()).digest()[0] % 8
        which = 2 if digit == 0 else 1 if digit == 1 else 0
        if source in seen or len(parts[which].sources) == sizes[which]:
            continue
        seen.add(source)
        parts[which].sources.append(source)
        parts[which].targets.append(target)
    return Corpus(*parts, origin="dates and numbers in words, generated", tokenize="char", spaces=(True, False))


def reversal():
    """Letters, 5 to 20 of them, and the same from the last to the first: letter t of S is the source's S - 1 - t."""
    draw = random.Random(0)

    def part(size):
        letters = [draw.choices(string.ascii_lowercase, k=draw.randrange(5, 21)) for _ in range(size)]
        return Lines([" ".join(row) for row in letters], [" ".join(reversed(row)) for row in letters])

    return Corpus(part(30000), part(500), part(1000), origin="letters in reverse, generated", tokenize="none")


GENERATED = {"wording": wording, "reversal": reversal}
