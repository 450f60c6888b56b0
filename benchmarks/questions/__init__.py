"""One question a file: a docstring that asks it, ``cases(options)``, and what its numbers are in.

``UNIT`` is the unit. ``measure_case(case, options)``, where a question has it, gives the numbers; without it programs are
timed. Every first line is what the table and the list of questions say.
"""
