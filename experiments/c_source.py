"""Whether sampled C code closes what it opens: brackets, strings and comments."""

import re

# Comments, strings and character constants hide the brackets in them; one that does not end is matched as "open".
_TOKEN = re.compile(
    r"""(?P<closed>/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(?P<open>/\*|["'])|(?P<bracket>[][(){}])""",
    re.DOTALL,
)
_PARTNER = {")": "(", "]": "[", "}": "{"}


def is_balanced(code):
    """Whether all braces, brackets, parentheses, strings and comments of a piece of C are closed, in order."""
    stack: list[str] = []
    for token in _TOKEN.finditer(code):
        if token["open"]:
            return False
        bracket = token["bracket"]
        if bracket in _PARTNER:
            if not stack or stack.pop() != _PARTNER[bracket]:
                return False
        elif bracket:
            stack.append(bracket)
    return not stack


def functions(text):
    """The function definitions of a C text in kernel style: from a line in the first column to the closing brace there.

    A definition that is not closed before the next one begins is cut there, and so counts as what it is. One that is not
    closed when the text ends is left out: it might have been.
    """
    header = re.compile(
        r"^(?:static |int |void |bool |struct |unsigned |long |u64 |const |asmlinkage |notrace )[^;={}]*?\)\s*\n\{", re.M
    )
    starts = [match.start() for match in header.finditer(text)]
    for start, following in zip(starts, [*starts, len(text)][1:], strict=True):
        end = re.search(r"^\}", text[start:following], re.M)
        if end:
            yield text[start : start + end.end()]
        elif following < len(text):
            yield text[start:following]


def balance(task, weights, key, *, wanted=200, length=6_000, temperature=0.7, top_p=0.7):
    """``balanced_share`` of ``wanted`` sampled functions: the first ones of independent continuations, those that end.

    ``endless_share`` of the continuations have not ended a function after ``length`` characters: at low temperatures some
    run in circles. What is judged is whether the model knows what is open, so that the draws are less free than its own:
    one character in a thousand that the model itself holds to be wrong spoils most functions. experiments/README.md has
    the shares with other settings.
    """
    prompt, settings = "\nstatic int ", {"temperature": temperature, "top_p": top_p}
    texts = [prompt] * (wanted * 5 // 4)
    for pieces in task.write(weights, prompt, length, key, rows=len(texts), piece=500, **settings):
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
        firsts = [next(functions(text), None) for text in texts]
        if None not in firsts:
            break
    ended = [code for code in firsts if code is not None]
    chosen = ended[:wanted]
    share = sum(map(is_balanced, chosen)) / max(1, len(chosen))
    return {"balanced_share": share, "endless_share": 1 - len(ended) / len(firsts)}
