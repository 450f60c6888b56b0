"""A question from its cases to its table."""

import importlib
import pkgutil

import rich.console

from benchmarks import measure, questions, report


def names():
    """All questions."""
    return [module.name for module in pkgutil.iter_modules(questions.__path__)]


def ask(name, options):
    """Measures all cases of a question and shows them. Recorded are they one by one: an interrupt loses the one it meets."""
    question = question_of(name)
    about = name, what(question), question.UNIT
    table = report.Table(*about, [])
    console = rich.console.Console(stderr=True)
    for case in question.cases(options):
        console.print(f"[dim]{name}: {case.name}[/dim]", highlight=False)
        measure.agree(case)
        results = getattr(question, "measure_case", _times)(case, options)
        table.rows.append(report.Row(case.name, results))
        if options.record:
            report.append(*about, case, results, options.rounds)
    report.show(table)
    if options.record:
        report.publish(name)


def _times(case, options):
    return measure.times(case, options.rounds)


def question_of(name):
    return importlib.import_module(f"benchmarks.questions.{name}")


def what(question):
    return question.__doc__.splitlines()[0]
