"""Docstrings have a little reStructuredText: formulas, links and roles. The site is Markdown."""

import re
import textwrap

import griffe

_MATH = re.compile(r"^(?P<indent> *)\.\. math::(?P<body>.*\n(?:(?P=indent) +.*\n|\s*\n)*)", re.MULTILINE)
_LINK = re.compile(r"`([^`<]+?)\s*<([^`>]+)>`_", re.DOTALL)


class Markdown(griffe.Extension):
    """Turns every docstring into Markdown before it is parsed."""

    def on_object(self, *, obj, **kwargs):
        del kwargs
        if not obj.is_alias and obj.docstring:
            obj.docstring.value = _markdown(obj.docstring.value)


def _markdown(text):
    text = _MATH.sub(_formula, text + "\n")
    text = re.sub(r":math:`([^`]+)`", r"\\(\1\\)", text)
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return _LINK.sub(lambda link: f"[{' '.join(link[1].split())}]({link[2]})", text).rstrip()


def _formula(match):
    body = textwrap.dedent(match["body"]).strip()
    return textwrap.indent(f"$$\n\\begin{{aligned}}\n{body}\n\\end{{aligned}}\n$$\n\n", match["indent"])
