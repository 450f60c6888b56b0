"""The measure of sampled C code: what is closed, and what counts as a function."""

import os
import pathlib

import pytest

from experiments import c_source
from experiments.datasets import texts

BALANCED = [
    "",
    "int x;",
    "int f(void)\n{\n\treturn a[(b + 1) * 2];\n}",
    "f((struct s){ .x = { 1, 2 } });",
    'puts("(");',
    'puts("\\"{");',
    'puts("a\\\\");',
    '"one" "}" \'"\'',
    "c = '{';",
    "c = '\\'';",
    "c = '\\\\';",
    "/* don't ( */ f();",
    '/* " */ f();',
    "// it isn't {\nf();",
    "// at the end (",
    '"/* no comment"; f();',
    '"// no comment )"; f();',
    "/* // */ f();",
    "/**/",
    "/***/ f();",
    '"continued \\\n )";',
    "a / b; *p = 1; a /= 2;",
]
OPEN = [
    "{",
    "}",
    "(]",
    "([)]",
    "}{",
    "f(();",
    "int f(void)\n{\n\tif (x) {\n}",
    'puts("never closed);',
    'puts("closed on the next line\n");',
    "c = 'ab\n';",
    "/* never closed",
    "/*/",
    "f(); /* one */ /* two",
    "don't",
    '"\\"',
    "*/ }",
]


@pytest.mark.parametrize("code", BALANCED)
def test_what_is_closed_is_balanced(code):
    assert c_source.is_balanced(code)


@pytest.mark.parametrize("code", OPEN)
def test_what_is_left_open_is_not(code):
    assert not c_source.is_balanced(code)


@pytest.mark.parametrize("code", [code for code in BALANCED if "//" not in code])
@pytest.mark.parametrize("spoil", ["{{{}}}}", "({}", "[{]}"])
def test_one_bracket_too_many_is_seen_after_anything(code, spoil):
    assert not c_source.is_balanced(code + spoil)


CLOSED = "static int one(int a)\n{\n\tif (a) {\n\t\treturn 1;\n\t}\n\treturn 0;\n}"
CUT = "static void two(void)\n{\n\tif (a) {\n"
SPLIT = "static struct list *\nthree(struct list *a,\n      int b)\n{\n\treturn a;\n}"


def test_functions_are_cut_from_the_text_between_them():
    between = "int table[] = { 1, 2 };\nint declared(void);"
    text = f"#include <a.h>\n\n/* one() */\n{CLOSED}\n\n{between}\n\n{SPLIT}\nEXPORT(three);\n"
    assert list(c_source.functions(text)) == [CLOSED, SPLIT]
    assert all(map(c_source.is_balanced, c_source.functions(text)))


def test_a_function_that_is_not_closed_ends_where_the_next_begins():
    found = list(c_source.functions(f"{CUT}\n{CLOSED}\n"))
    assert found == [f"{CUT}\n", CLOSED]
    assert [c_source.is_balanced(code) for code in found] == [False, True]


def test_a_function_that_the_text_ends_in_is_left_out():
    assert list(c_source.functions(f"{CLOSED}\n{CUT}")) == [CLOSED]
    assert list(c_source.functions("no C at all")) == []


def test_functions_of_the_kernel_are_balanced():
    source = texts.LINUX
    folder = os.environ.get("SEQJAX_DATA")
    if folder is None or not list((pathlib.Path(folder) / source.name).glob(f"{source.file}*")):
        pytest.skip("the Linux source is not in SEQJAX_DATA")
    text = texts.linux()
    for part in (text.validation, text.test):
        found = list(c_source.functions(part))
        assert len(found) > 400
        assert sum(map(len, found)) > 0.5 * len(part), "most of the text is functions"
        assert sum(map(c_source.is_balanced, found)) > 0.97 * len(found)
        cut = [code[: 2 * len(code) // 3] for code in found]
        assert sum(map(c_source.is_balanced, cut)) < 0.05 * len(cut), "two thirds of a function are not"
